"""
Makes the pictures of docs/dashboard.md again: trains on the playground, and opens Trackio's dashboard.

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
FLAGS = "--report_to trackio --project playground --run_name archer --log_completions --logging_steps 2"
SHOWN = "train/(archer/(dropped_groups|entropy_)|entropy/|kl/|clip_ratio/(reasoning|knowledge)/)"


def main() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name) / "trackio"
        train = [sys.executable, "-m", "trl_archer.cli", "train", "--config", str(RECIPE), "--output_dir", name]
        subprocess.run([*train, *FLAGS.split()], env=environment(folder), check=True)
        with serve(folder, "playground") as address, sync_playwright() as playwright:
            page = chromium(playwright).new_page(color_scheme="light")
            metrics = f"{address}?project=playground&x_axis=train/global_step&metric_filter={SHOWN}"
            take(page, metrics, ".plot-container canvas", FOLDER / "dashboard.png", width=1750, height=1790)
            take(
                page,
                f"{address}media?project=playground",
                "td",
                FOLDER / "dashboard_completions.png",
                width=1500,
                height=400,
            )


def take(page: Any, address: str, selector: str, path: Path, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    page.goto(address)
    page.wait_for_selector(selector)
    page.wait_for_timeout(3000)  # plots are drawn one after the other
    page.screenshot(path=path)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
