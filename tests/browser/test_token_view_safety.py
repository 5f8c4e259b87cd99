# ruff: noqa: RUF001  (the page uses typographic characters)
"""The token view in a real browser: model output stays text."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from trl_archer.figures.token_view import write_token_view

from .page import hover, press, wait_for_open
from .records import make_record, make_records

pytestmark = pytest.mark.browser
View = Callable[..., Any]

HOSTILE = [
    "</script><script>window.pwned = 1; alert(1)</script>",
    "<img src=x onerror='window.pwned = 1; alert(2)'>",
    "<svg onload=alert(3)><style>*{display:none}</style>",
    "\"'><iframe src='https://example.org/'></iframe>",
    "<!--",
    "]]>",
    "&lt;b&gt;",
    "\u2028\u2029",
    "\ud800",
    "\udfff tail",
    "\u202eevil\u2066",
    "\x00\x07\x1b[31m",
    "\u200b\ufeff",
    "${alert(4)}`",
    "",
    "\r\n\t",
]


def test_model_output_never_becomes_markup(view: View) -> None:
    hostile = make_record(HOSTILE, prompt="\n".join(HOSTILE), seed=2)
    page = view(
        make_records(hostile, make_record(prompt="".join(HOSTILE), row=1)), title="<img src=x onerror=alert(5)>"
    )
    assert page.evaluate("() => window.pwned") is None
    assert page.locator("img, iframe, svg, body style, b:not(#list b, #bars b)").count() == 0
    assert page.locator("script:not([type='application/gzip+base64'])").count() == 1
    assert page.text_content("h1") == page.title() == "<img src=x onerror=alert(5)>"

    visible = [
        HOSTILE[0],
        HOSTILE[1],
        HOSTILE[2],
        HOSTILE[3],
        "<!--",
        "]]>",
        "&lt;b&gt;",
        "‹U+2028›‹U+2029›",
        "‹U+D800›",
        "‹U+DFFF› tail",
        "‹U+202E›evil‹U+2066›",
        "‹U+0000›‹U+0007›‹U+001B›[31m",
        "‹U+200B›‹U+FEFF›",
        "${alert(4)}`",
        "∅",
        "‹U+000D›↵⇥",
    ]
    for i, text in enumerate(visible):
        assert "".join(page.locator(f"#tokens [data-token='{i}']").all_text_contents()) == text
        assert hover(page, i)["text"].replace("␣", " ").removesuffix(" (decodes to nothing)") == text
    prompt = page.text_content("#prompt-text")
    assert prompt.startswith("\n".join(visible[:14]))

    page.fill("#search", "<img src=x")
    page.wait_for_function("() => document.getElementById('found').textContent.includes('hit')")
    assert page.locator("#prompt-text mark").text_content() == "<img src=x"
    press(page, "Escape j")
    wait_for_open(page, 1)
    page.wait_for_timeout(100)
    assert page.evaluate("() => window.pwned") is None
    assert page.locator("img, iframe, svg, body style").count() == 0


ATTEMPTS = {
    "markup": "() => { document.body.innerHTML = '<b>x</b>' }",
    "request": "() => fetch('https://example.org/')",
    "script": "() => { document.createElement('script').text = 'window.pwned = 1' }",
    "handler": "() => document.body.setAttribute('onclick', 'window.pwned = 1')",
    "string as code": "() => setTimeout('window.pwned = 1')",
}


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_policy_blocks_what_a_bug_would_allow(browser: Any, tmp_path: Path, attempt: str) -> None:
    page = browser.new_page()
    page.goto(write_token_view(make_records(make_record()), tmp_path / "view.html").as_uri())
    with pytest.raises(Exception, match=r"TrustedHTML|TrustedScript|Failed to fetch"):
        page.evaluate(attempt)
    assert page.evaluate("() => window.pwned") is None
    page.close()


def test_policy_loads_nothing(browser: Any, tmp_path: Path) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args: Any) -> None:
            pass

    token_view = write_token_view(make_records(make_record()), tmp_path / "view.html")
    unprotected = tmp_path / "unprotected.html"
    unprotected.write_text("<!doctype html><body></body>")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for path, expected in ((token_view, set()), (unprotected, {"/img", "/link", "/video"})):
            page = browser.new_page()
            page.goto(path.as_uri())
            page.evaluate(
                """(address) => {
                  for (const [tag, key] of [["img", "src"], ["link", "href"], ["video", "src"]]) {
                    const node = document.createElement(tag);
                    node.rel = "stylesheet";
                    node[key] = `${address}/${tag}`;
                    document.body.append(node);
                  }
                }""",
                f"http://127.0.0.1:{server.server_port}",
            )
            page.wait_for_timeout(500)
            page.close()
            assert set(asked) == expected
        server.shutdown()


def test_incomplete_file(browser: Any, tmp_path: Path) -> None:
    whole = write_token_view(make_records(make_record(), make_record(row=1)), tmp_path / "whole.html").read_text()
    path = tmp_path / "half.html"
    path.write_text(whole[: whole.index('id="tokens-1"')])
    page = browser.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-open='0']")
    page.keyboard.press("j")
    page.wait_for_selector("body[data-state='failed']")
    assert "the data block values-1 is missing; is the file complete?" in page.text_content("#message")
    page.close()
