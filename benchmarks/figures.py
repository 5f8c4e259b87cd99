"""
Draws the pictures of README and docs/figures.md from committed results.

python -m benchmarks.figures

The pictures of the token view need headless Chromium. Without it they are not updated.
"""

import hashlib
import io
import json
import re
import shlex
from contextlib import chdir, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from trl_archer.cli import main as trl_archer
from trl_archer.figures.style import add_notes, get_theme, new_figure, own_style, percent, title

from .environment import load
from .example_run import FOLDER as EXAMPLE_RUN

DOCS = Path(__file__).parent.parent / "docs"
FOLDER = DOCS / "figures"
THEMES = ("light", "dark")
COLORS = 96  # of a picture
SETTLES = 500  # milliseconds until the token view is drawn
METHODS = {"archer": "Archer", "grpo": "TRL's GRPO"}
MEASURES = {"avg_at_k": "avg@8: share of correct samples", "pass_at_k": "pass@8: share of problems solved"}


def playground_data() -> dict[str, Any]:
    """Data of the figure: each measure before training and, for each method, after it, one value per seed."""
    runs = load("playground")["runs"]
    return {
        measure: {
            "before": runs[0]["before"][measure],
            **{method: [run["after"][measure] for run in runs if run["method"] == method] for method in METHODS},
        }
        for measure in MEASURES
    }


@own_style
def plot_playground(data: dict[str, Any], theme: str = "light") -> Figure:
    """
    Accuracy on the playground before and after training, one dot per seed.

    Args:
        data (`dict`): What [`playground_data`] returns.
        theme (`str`, *optional*, defaults to `"light"`): `"light"` or `"dark"`.

    Returns:
        [`~matplotlib.figure.Figure`]: the figure.
    """
    colors = get_theme(theme)
    figure, axes = new_figure(colors, 1, 2, height=1.45, sharey=True)
    for ax, (measure, text) in zip(axes[0], MEASURES.items(), strict=True):
        before, after = data[measure]["before"], [data[measure][method] for method in METHODS]
        title(ax, text, colors.ink)
        ax.axvline(before, color=colors.muted, linewidth=1, linestyle=(0, (4, 2)))
        on_left = before < (min(map(min, after)) + max(map(max, after))) / 2
        ax.annotate(
            "before training",
            (before, 0.5),
            xytext=(4 if on_left else -4, 0),
            textcoords="offset points",
            ha="left" if on_left else "right",
            va="center",
            fontsize=7,
            color=colors.muted,
        )
        for row, values in enumerate(after):
            color = colors.run(row)["color"]
            ax.scatter(values, [row] * len(values), s=22, color=color, alpha=0.85, linewidths=0, zorder=3)
            ax.vlines(sum(values) / len(values), row - 0.22, row + 0.22, color=color, linewidth=1.6, zorder=3)
        percent(ax, "x")
        ax.margins(x=0.12)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        ax.set_ylim(len(METHODS) - 0.5, -0.5)
        ax.grid(False, axis="y")
        ax.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(range(len(METHODS)), METHODS.values(), parse_math=False)
    seeds = len(data["avg_at_k"]["archer"])
    add_notes(figure, [f"Dots: {seeds} training seeds per method. Bars: their mean."], colors)
    return figure


@own_style
def draw_playground() -> None:
    data = playground_data()
    for theme in THEMES:
        path = FOLDER / f"playground_{theme}.svg"
        # The file includes the data, which lets a test compare them with the results
        with matplotlib.rc_context({"svg.hashsalt": "trl-archer"}):
            plot_playground(data, theme).savefig(path, metadata={"Date": None, "Description": json.dumps(data)})
        print(path)


def example_pictures() -> dict[str, list[str]]:
    """Pictures of docs/figures.md by the command above them. The commands run in the folder of the example run."""
    pictures: dict[str, list[str]] = {}
    page = (DOCS / "figures.md").read_text()
    for command, name in re.findall(r'^(trl-archer figures .*)$|src="figures/(\w+)_light\.png"', page, re.M):
        if command:
            pictures[command] = []
        else:
            pictures[list(pictures)[-1]].append(name)
    return pictures


def shown() -> str:
    """Digest of what these pictures show. Each picture contains it, which lets a test find outdated ones."""
    digest = hashlib.sha256(json.dumps(example_pictures()).encode())
    for path in sorted(path for path in EXAMPLE_RUN.rglob("*") if path.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run_in_example(command: str, *options: str) -> None:
    """Runs a command of docs/figures.md and hides its output."""
    with chdir(EXAMPLE_RUN), redirect_stdout(io.StringIO()):
        if trl_archer([*shlex.split(command)[1:], *options]):
            raise SystemExit(f"{command} failed")


def draw_example_run() -> None:
    for command, names in example_pictures().items():
        with TemporaryDirectory() as name:
            if " tokens " in command:
                run_in_example(command, "--output", f"{name}/tokens.html")
                take_token_view(Path(name) / "tokens.html", *names)
                continue
            for theme in THEMES:
                run_in_example(command, "--theme", theme, "--output", name)
                for picture in names:
                    keep(Path(name) / f"{picture}.png", FOLDER / f"{picture}_{theme}.png")


def take_token_view(page: Path, picture: str) -> None:
    """Takes pictures of the token view, at a clipped token in the completion with the most clipped tokens."""
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import chromium

    with sync_playwright() as playwright:
        browser = chromium(playwright)
        if browser is None:
            print("No Chromium: the pictures of the token view are not updated.")
            return
        for theme in THEMES:
            window = browser.new_page(
                viewport={"width": 1150, "height": 860}, device_scale_factor=1.5, color_scheme=theme
            )
            window.goto(page.as_uri())
            window.wait_for_selector("body[data-open]")
            window.select_option("#sort", label="share of clipped tokens, highest first")
            window.evaluate("document.getElementById('list').scrollTop = 0")
            window.wait_for_timeout(SETTLES)
            items = window.locator("#list .item").evaluate_all(
                "(items) => items.map((item) => [item.getBoundingClientRect().top, item.id])"
            )
            first = min(items)[1]
            window.click(f"#{first}")
            window.wait_for_selector(f"body[data-open='{first.removeprefix('item-')}']")
            window.keyboard.press("c")
            window.wait_for_selector("#card:not([hidden])")
            window.wait_for_timeout(SETTLES)
            path = page.with_name(f"{theme}.png")
            window.screenshot(path=path)
            keep(path, FOLDER / f"{picture}_{theme}.png")
        browser.close()


def keep(drawn: Path, path: Path) -> None:
    """Writes a picture with few colors, to keep it small."""
    text = PngInfo()
    text.add_text("Description", shown())
    with Image.open(drawn) as picture:
        picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True, pnginfo=text)
    print(path)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    draw_playground()
    draw_example_run()


if __name__ == "__main__":
    main()
