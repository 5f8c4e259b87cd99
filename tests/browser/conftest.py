"""Headless Chromium, with pages that record every message, request and dialog."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trl_archer.figures.token_view import write_token_view
from trl_archer.records.parquet import TokenRecords

ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def chromium(playwright: Any) -> Any:
    """A headless browser, from the system or from playwright; `None` if there is none."""
    installed = shutil.which("chromium") or shutil.which("google-chrome")
    if installed is None and not Path(playwright.chromium.executable_path).exists():
        return None
    return playwright.chromium.launch(executable_path=installed, args=ARGUMENTS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package `playwright`")
    with playwright.sync_playwright() as p:
        browser = chromium(p)
        if browser is None:
            pytest.skip("needs Chromium: install it, or run `playwright install chromium`")
        yield browser
        browser.close()


@pytest.fixture
def open_file(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a file as a page. The page must not log, request anything else or show a dialog."""
    contexts, unwanted = [], []

    def open_(path: Path, width: int = 1280, height: int = 800, color_scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=color_scheme)
        contexts.append(context)
        page = context.new_page()

        def dismiss(dialog: Any) -> None:
            unwanted.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        page.on("dialog", dismiss)
        page.on("popup", lambda popup: unwanted.append(f"window: {popup.url}"))
        page.on("console", lambda message: unwanted.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: unwanted.append(f"error: {error}"))
        context.on(
            "request", lambda request: request.url == path.as_uri() or unwanted.append(f"request: {request.url}")
        )
        page.goto(path.as_uri())
        page.wait_for_selector("body[data-state]")
        if page.get_attribute("body", "data-state") == "ready":
            page.wait_for_selector("body[data-open]")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert unwanted == []


@pytest.fixture
def view(open_file: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Writes records as a token view and opens it."""

    def view_(records: TokenRecords, title: str = "Token view", **window: Any) -> Any:
        return open_file(write_token_view(records, tmp_path / "view.html", title), **window)

    return view_
