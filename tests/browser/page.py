"""Reads what the token view shows."""

from typing import Any


def definitions(page: Any, list_id: str) -> dict[str, str]:
    """Entries of a definition list."""
    names, values = (page.locator(f"#{list_id} {tag}").all_text_contents() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def card(page: Any) -> dict[str, str]:
    """Texts of the card, by field."""
    return page.evaluate(
        "() => Object.fromEntries([...document.querySelectorAll('#card [id^=card-]')]"
        ".map((node) => [node.id.slice(5), node.textContent]))"
    )


def number(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-").replace("∞", "inf"))


def hover(page: Any, token: int) -> dict[str, str]:
    page.locator(f"#tokens [data-token='{token}']").first.hover()
    page.wait_for_selector(f"#card[data-token='{token}']:not([hidden])")
    return card(page)


def listed(page: Any) -> list[str]:
    """Labels of the completions in the list, which must all be visible."""
    return page.locator("#list .item b").all_text_contents()


def current(page: Any) -> str:
    return page.text_content("#where h2")


def press(page: Any, keys: str) -> None:
    for key in keys.split():
        page.keyboard.press(key)


def cursor(page: Any) -> int:
    return int(page.locator("#tokens .cursor").first.get_attribute("data-token"))


def wait_for_open(page: Any, number: int) -> None:
    page.wait_for_selector(f"body[data-open='{number}']")
