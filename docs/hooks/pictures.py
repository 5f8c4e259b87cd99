"""
Pictures that follow the site's own switch between light and dark.

A `<picture>` chooses by what the system prefers, on GitHub as well. The site has a button for it: here both pictures
become images, of which the theme's styles show one.
"""

import re
from typing import Any

_PICTURE = re.compile(r'<picture>\s*<source [^>]*srcset="([^"]+)"[^>]*>\s*(<img [^>]*>)\s*</picture>')


def on_page_content(content: str, **_: Any) -> str:
    """Replaces every picture of a page."""
    return _PICTURE.sub(_as_images, content)


def _as_images(match: re.Match[str]) -> str:
    dark, light = match.groups()
    return "".join(
        re.sub(r'src="[^"]*"', f'src="{path}#only-{theme}"', light)
        for theme, path in (("light", re.findall(r'src="([^"]*)"', light)[0]), ("dark", dark))
    )
