"""The committed notebooks match their sources, ran to the end, and hold nothing of the machine."""

import ast
import base64
import importlib.util
import io
import json
import re
import shlex
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jupytext
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

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
    """The text that each code cell printed, without pictures and pages."""
    texts = []
    for cell in code_cells(source):
        parts = []
        for output in cell["outputs"]:
            parts += [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
        texts.append("".join("".join(part) for part in parts))
    return texts


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_source_and_notebook_hold_the_same_cells(source: Path) -> None:
    cells = [(cell.cell_type, cell.source) for cell in jupytext.read(source, fmt="py:percent").cells]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in committed(source)["cells"]] == cells, (
        "run `make notebooks ARGS=--write`"
    )


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_outputs_come_from_one_complete_run(source: Path) -> None:
    cells = code_cells(source)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert "All checks pass." in printed(source)[-1]
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"]) >= 2
    last = ast.parse("".join(cells[-1]["source"]))
    assert sum(isinstance(node, ast.Assert) for node in ast.walk(last)) >= 5


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_outputs_do_not_depend_on_the_machine(source: Path) -> None:
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
def test_pictures_keep_the_colors_of_the_roles(source: Path) -> None:
    for cell in code_cells(source):
        for output in cell["outputs"]:
            if png := output.get("data", {}).get("image/png"):
                picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
                pixels = np.asarray(picture).reshape(-1, 3).astype(int)
                for role in ROLES:
                    color = (255 * np.array(to_rgb(THEMES["light"].role(role)))).round()
                    distance = np.abs(pixels - color).max(axis=1)
                    # titles and lines of this figure have it; elsewhere it occurs wherever its blended edges do
                    expected = "plot_training_dynamics(" in "".join(cell["source"]) or (distance < 40).any()
                    assert (distance == 0).any() == expected, role


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_first_cells_install_in_the_same_way(source: Path) -> None:
    first = "".join(code_cells(source)[0]["source"])
    assert first.split("SIZE =")[0] == INSTALL
    assert 'os.environ.get("ARCHER_NOTEBOOK_SIZE", "full")' in first


@pytest.mark.parametrize("installed", [False, True])
def test_first_cell_installs_the_clone_if_needed(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = []
    pip = SimpleNamespace(run_line_magic=lambda name, line: lines.append([name, *shlex.split(line)]))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: installed or None)
    monkeypatch.delenv("TRL_ARCHER_CLONE", raising=False)
    exec(INSTALL, {"get_ipython": lambda: pip})
    assert lines == ([] if installed else [["pip", "install", "-q", "..[plots]"]])
    project = tomllib.loads((ROOT / "notebooks" / ".." / "pyproject.toml").read_text())["project"]
    assert project["name"] == "trl-archer"
    assert "plots" in project["optional-dependencies"]


def test_each_size_has_its_model_and_its_prompt() -> None:
    math = next(source for source in SOURCES if source.stem.startswith("02"))
    first = "".join(code_cells(math)[0]["source"])
    assert "SIZE =" in first
    assert "MODEL =" in first
    prompts = dict(re.findall(r'"(full|tiny)": r"(Reason .*?)"', math.read_text()))
    assert prompts["full"] == re.sub(r" (?=[,.])", "", prompts["tiny"])  # the tiny model's tokenizer needs the spaces


def test_the_outputs_of_the_tiny_size_say_so() -> None:
    math = next(source for source in SOURCES if source.stem.startswith("02"))
    assert "**The outputs below are those of the tiny size**" in math.read_text()
    assert "apples" in "".join(printed(math))  # a word of the generated problems
    for source in SOURCES:
        if source != math:
            assert "those of the tiny size" not in source.read_text()
