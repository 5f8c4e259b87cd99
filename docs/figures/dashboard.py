"""
Takes the pictures of docs/dashboard.md: trains on the playground and opens Trackio's dashboard.

    python -m docs.figures.dashboard
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser.conftest import chromium
from tests.browser.dashboard import environment, serve

FOLDER = Path(__file__).parent
RECIPE = FOLDER.parents[1] / "examples" / "recipes" / "playground.yaml"
WIDTH = 1180  # of the window; legible in a column of text
MARGIN = 115  # below the last plot, for its legend
FLAGS = "--report_to trackio --project playground --run_name archer --log_completions --logging_steps 2"
SHOWN = "train/(entropy/|clip_ratio/reasoning/|kl/)"


def main() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name) / "trackio"
        train = [sys.executable, "-m", "trl_archer.cli", "train", "--config", str(RECIPE), "--output_dir", name]
        subprocess.run([*train, *FLAGS.split()], env=environment(folder), check=True)
        with serve(folder, "playground") as address, sync_playwright() as playwright:
            page = chromium(playwright).new_page(color_scheme="light", device_scale_factor=1.5)
            metrics = f"{address}?project=playground&x_axis=train/global_step&metric_filter={SHOWN}"
            take(page, metrics, ".plot-container canvas", FOLDER / "dashboard.png", height=1600)
            media = f"{address}media?project=playground"
            take(page, media, "td", FOLDER / "dashboard_completions.png", height=361)  # whole rows


def take(page: Any, address: str, selector: str, path: Path, height: int) -> None:
    """Takes a picture of a page down to the last element of a selector, at most of the window."""
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.goto(address)
    page.wait_for_selector(selector)
    page.wait_for_timeout(3000)  # until all plots are drawn
    bottoms = page.locator(selector).evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().bottom)")
    page.screenshot(path=path, clip={"x": 0, "y": 0, "width": WIDTH, "height": min(height, max(bottoms) + MARGIN)})
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
