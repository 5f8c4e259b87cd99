"""The committed notebooks: those of their sources, run to the end, and fit to be read anywhere."""

import ast
import base64
import importlib.util
import io
import json
import re
from pathlib import Path
from typing import Any

import jupytext
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

import trl_archer
from trl_archer.figures.style import ROLES, THEMES

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
MAX_BYTES = 500_000
MACHINE_PATHS = re.compile(r"/(?:home|root|tmp|work|usr|opt|Users|content)/")
INSTALL = "".join(jupytext.read(SOURCES[0], fmt="py:percent").cells[1].source).split("SIZE =")[0]
DURATIONS = re.compile(r"\d+:\d\d(?::\d\d)?|it/s|\d+(?:\.\d+)? (?:ms|seconds)\b")


def committed(source: Path) -> dict[str, Any]:
    return json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))


def code_cells(source: Path) -> list[dict[str, Any]]:
    return [cell for cell in committed(source)["cells"] if cell["cell_type"] == "code"]


def printed(source: Path) -> list[str]:
    """What each code cell printed, pictures and pages left out."""
    texts = []
    for cell in code_cells(source):
        parts = []
        for output in cell["outputs"]:
            parts += [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
        texts.append("".join("".join(part) for part in parts))
    return texts


def test_the_four_notebooks_are_there() -> None:
    assert [source.stem[:2] for source in SOURCES] == ["01", "02", "03", "04"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_source_and_notebook_hold_the_same_cells(source: Path) -> None:
    cells = [(cell.cell_type, cell.source) for cell in jupytext.read(source, fmt="py:percent").cells]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in committed(source)["cells"]] == cells, (
        "run `make notebooks ARGS=--write`"
    )


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_outputs_are_those_of_one_run_to_the_end(source: Path) -> None:
    cells = code_cells(source)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert "all of it holds" in printed(source)[-1].lower()
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"]) >= 2
    last = ast.parse("".join(cells[-1]["source"]))
    assert sum(isinstance(node, ast.Assert) for node in ast.walk(last)) >= 5


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_outputs_tell_nothing_of_the_machine(source: Path) -> None:
    notebook = committed(source)
    assert notebook["metadata"].keys() <= {"kernelspec", "accelerator", "colab"}
    assert [cell["id"] for cell in notebook["cells"]] == [f"cell-{i}" for i in range(len(notebook["cells"]))]
    assert not [cell["metadata"] for cell in notebook["cells"] if cell["metadata"]]
    for text in printed(source):
        assert not MACHINE_PATHS.search(text), text
        assert not DURATIONS.search(text), text
        assert not re.search("warning|failed to load", text, re.IGNORECASE), text
    assert source.with_suffix(".ipynb").stat().st_size < MAX_BYTES


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_pictures_keep_the_colours_of_the_roles(source: Path) -> None:
    for cell in code_cells(source):
        for output in cell["outputs"]:
            if png := output.get("data", {}).get("image/png"):
                picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
                pixels = np.asarray(picture).reshape(-1, 3).astype(int)
                for role in ROLES:
                    colour = (255 * np.array(to_rgb(THEMES["light"].role(role)))).round()
                    distance = np.abs(pixels - colour).max(axis=1)
                    # titles and lines of this figure have it; elsewhere, blended edges do not come without it
                    expected = "plot_training_dynamics(" in "".join(cell["source"]) or (distance < 40).any()
                    assert (distance == 0).any() == expected, role


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_first_cell_installs_the_versions_that_are_tested(source: Path) -> None:
    first = "".join(code_cells(source)[0]["source"])
    assert first.split("SIZE =")[0] == INSTALL  # one text, so that what the test below finds holds for all
    pins = dict(re.findall(r'"([\w-]+)(?:\[\w+\])?==([\w.]+)"', first))
    constraints = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert pins.pop("trl-archer") == trl_archer.__version__
    assert pins == {name: constraints[name] for name in ("trl", "transformers", "peft")}
    assert 'os.environ.get("ARCHER_NOTEBOOK_SIZE", "full")' in first


class Pip:
    """Stands in for IPython where `%pip` ends without having installed anything, and without an error."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def run_line_magic(self, name: str, line: str) -> None:
        self.lines.append(f"{name} {line}")


@pytest.mark.parametrize("uploaded", [False, True])
def test_an_install_that_fails_ends_with_the_way_out(
    uploaded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = f"trl_archer-{trl_archer.__version__}-py3-none-any.whl"
    if uploaded:
        (tmp_path / wheel).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    pip = Pip()
    with pytest.raises(ModuleNotFoundError, match=rf"run `make build` in a clone .* upload .* as \./{wheel}"):
        exec(INSTALL, {"get_ipython": lambda: pip})
    package = f"./{wheel}[plots]" if uploaded else f"trl-archer[plots]=={trl_archer.__version__}"
    assert [line.split('"')[1] for line in pip.lines] == [package]


def test_an_install_that_works_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = Pip()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: pip.lines or None)
    exec(INSTALL, {"get_ipython": lambda: pip})
    assert len(pip.lines) == 1


def test_each_size_has_its_model_and_its_prompt() -> None:
    math = next(source for source in SOURCES if source.stem.startswith("02"))
    first = "".join(code_cells(math)[0]["source"])
    assert "SIZE =" in first
    assert "MODEL =" in first
    prompts = dict(re.findall(r'"(full|tiny)": r"(Reason .*?)"', math.read_text()))
    assert prompts["full"] == re.sub(r" (?=[,.])", "", prompts["tiny"])  # spaces for the tokenizer of the tiny model


def test_the_outputs_of_the_tiny_size_say_so() -> None:
    math = next(source for source in SOURCES if source.stem.startswith("02"))
    assert "**The outputs below are those of the tiny size**" in math.read_text()
    assert "apples" in "".join(printed(math))  # of the generated problems
    for source in SOURCES:
        if source != math:
            assert "those of the tiny size" not in source.read_text()
