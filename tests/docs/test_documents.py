"""What README and docs name exists, their code runs, and their numbers come from committed results."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset
from PIL import Image
from trl import GRPOConfig, GRPOTrainer

from benchmarks import figures, reference
from benchmarks.environment import RESULTS, load
from benchmarks.render import PLACES, filled
from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer
from trl_archer.cli import main
from trl_archer.grpo import DurableGRPOConfig
from trl_archer.grpo.config import documented_parameters
from trl_archer.methods import MethodConfig

from ..helpers.tiny import length_reward, make_trainer

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
# `make docs` copies the notebooks to docs
DOCUMENTS += sorted(path for path in (ROOT / "docs").glob("*.md") if not path.name.startswith("notebook_"))


@pytest.mark.parametrize("file", PLACES)
def test_rendered_places_are_up_to_date(file: str) -> None:
    text = (ROOT / file).read_text()
    assert filled(text, PLACES[file]) == text, "run `python -m benchmarks.render`"


def test_paper_map_names_what_exists() -> None:
    text = (ROOT / "docs" / "paper_map.md").read_text()
    rows = re.findall(r"\| ((?:`[\w.]+`(?:, )?)+) \| `(src/[\w/.]+)`<br>`(tests/[\w/.]+)` \|", text)
    assert rows
    for names, file, test in rows:
        tree = ast.walk(ast.parse((ROOT / file).read_text()))
        defined = {getattr(node, field, None) for node in tree for field in ("name", "id", "arg", "attr")}
        for name in re.findall(r"`([\w.]+)`", names):
            assert name.split(".")[-1] in defined, f"{name} is not in {file}"
        assert any(name.split(".")[-1].strip("`_") in (ROOT / test).read_text() for name in names.split(", ")), test


def _documented_metrics(heading: str) -> set[str]:
    """Names in the first column of the tables below a heading."""
    text = (ROOT / "docs" / "metrics.md").read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.+?`) \|", text, re.M)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_metrics_reference_lists_what_is_logged(model_path: str, tmp_path: Path) -> None:
    logged = []
    for trainer_class, config_class in ((ArcherGRPOTrainer, ArcherGRPOConfig), (GRPOTrainer, GRPOConfig)):
        trainer = make_trainer(
            model_path, tmp_path, trainer_class, config_class=config_class, beta=0.1, num_iterations=2, delta=4.0
        )
        trainer.train()
        names = {name for entry in trainer.state.log_history for name in entry if not name.startswith("train_")}
        logged.append({name.replace("length_reward", "NAME") for name in names - {"epoch", "step", "total_flos"}})
    roles = ("reasoning", "knowledge")
    flows = {name.replace("ROLE", role) for name in _documented_metrics("Entropy flow") for role in roles}
    assert _documented_metrics("Archer's metrics") | flows == logged[0] - logged[1]
    assert logged[1] <= logged[0]
    in_some_runs = _documented_metrics("TRL's metrics") - logged[1]
    assert _documented_metrics("TRL's metrics") >= logged[1]
    source = inspect.getsource(sys.modules[GRPOTrainer.__module__])
    for name in in_some_runs:
        assert f'["{name}"]' in source, f"{name} is not logged by TRL"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def _anchors(text: str) -> set[str]:
    """Anchors of the headings. GitHub and the site use this rule for the characters in our headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_anchors_of_links_exist(document: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", document.read_text()):
        text = (document.parent / target).read_text() if target else document.read_text()
        assert anchor in _anchors(text), f"{target}#{anchor}"


def _python_blocks(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", document.read_text(), re.M | re.S)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_in_documents_uses_what_exists(document: Path) -> None:
    known = {f.name for f in fields(ArcherGRPOConfig)}
    for block in _python_blocks(document):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("trl_archer"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ArcherGRPOConfig":
                assert {keyword.arg for keyword in node.keywords} <= known, ast.unparse(node)


def test_comments_of_the_evaluation_page_are_what_python_says() -> None:
    blocks = _python_blocks(ROOT / "docs" / "evaluation.md")
    said = 0
    for block in blocks[:1]:
        scope: dict[str, Any] = {}
        exec(block, scope)
        for expression, value in re.findall(r"^(\w\S+)  # ([\d.]+)$", block, re.M):
            assert eval(expression, scope) == float(value), expression
            said += 1
    assert said


def test_results_of_the_evaluation_page_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    blocks = _python_blocks(ROOT / "docs" / "evaluation.md")
    exec(blocks[2], scope)
    assert json.loads(Path("archer.json").read_text()) == {"correct": [1, 3], "samples": 4}
    assert main(["figures", "accuracy", "archer=archer.json"]) == 0
    assert Path("figures/accuracy.png").exists()


def test_pictures_of_the_figures_page_are_of_its_run() -> None:
    for names in figures.example_pictures().values():
        assert names
        for path in (figures.FOLDER / f"{name}_{theme}.png" for name in names for theme in figures.THEMES):
            with Image.open(path) as picture:
                assert picture.text["Description"] == figures.shown(), f"{path.name} is old; run `make figures`"


def test_figures_page_has_every_option() -> None:
    options = (ROOT / "docs" / "figures.md").read_text().split("## Options\n")[1]
    documented = set(re.findall(r"^\| `(--[\w-]+)`", options, re.M))
    known = set()
    for kind in ("runs", "records", "tokens", "accuracy"):
        command = [sys.executable, "-m", "trl_archer.cli", "figures", kind, "--help"]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        known |= set(re.findall(r"^  (?:-h, )?(--[\w-]+)", text, re.M))
    assert documented == known - {"--help"}


# Replacements that make the code of a page run here: a tiny model, its data and reward, short completions, a CPU
_HERE = {
    r'"Qwen/[\w.\-/]+"': "MODEL",
    r"max_completion_length=\d+": "max_completion_length=12, use_cpu=True, bf16=False, gradient_checkpointing=False",
    r'output_dir="archer': 'report_to=[], output_dir="archer',
    r"max_steps=\d+": "max_steps=2",
    r"(token_records|save)_steps=\d+": r"\1_steps=1",
    r'^ +report_to="none",\n': "",
    r"^ +(use_vllm|generation_batch_size)=.*\n": "",
    r"gradient_accumulation_steps=16": "gradient_accumulation_steps=1",
    r"reward_funcs=math_reward": "reward_funcs=REWARD",
}


def _train_as_written(blocks: list[str], model_path: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    rows = {"prompt": ["1 2 = 3 >", "5 >"] * 8, "solution": ["3", "5"] * 8}
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: Dataset.from_dict(rows))
    monkeypatch.chdir(folder)
    scope: dict[str, Any] = {"MODEL": model_path, "REWARD": length_reward}
    for block in blocks:
        for pattern, text in _HERE.items():
            block = re.sub(pattern, text, block, flags=re.M)
        exec(block, scope)
    return scope


def test_script_of_the_readme_trains(model_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = _python_blocks(ROOT / "README.md")
    # Text instead of messages, because the tiny tokenizer has no chat template; `solution` exists in the stand-in
    blocks = [re.sub(r"^data = data.map.*\n", "", blocks[0], flags=re.M)]
    blocks = [block.replace('.rename_column("answer", "solution")', "") for block in blocks]
    trainer = _train_as_written(blocks, model_path, tmp_path, monkeypatch)["trainer"]
    assert trainer.state.global_step > 0
    assert not trainer.args.strictly_on_policy


def test_notebook_page_trains_and_draws(model_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = _python_blocks(ROOT / "docs" / "start_notebook.md")
    # Text instead of messages, because the tiny tokenizer has no chat template
    blocks = [re.sub(r"^data = data.map.*\n", "", block, flags=re.M) for block in blocks]
    scope = _train_as_written(blocks, model_path, tmp_path, monkeypatch)
    assert scope["trainer"].state.global_step == 2
    assert "clip_ratio/reasoning/low_mean" in scope["run"][0].metrics
    assert (tmp_path / "tokens.html").stat().st_size > 10_000
    assert (tmp_path / "archer-lora" / "final" / "adapter_model.safetensors").is_file()


# Values on both sides of each bound of `reference.RANGES`: allowed, refused
_BESIDE: dict[str, tuple[list[Any], list[Any]]] = {
    "(0, 1)": ([0.001, 0.999], [0.0, 1.0]),
    "[0, 1]": ([0.0, 1.0], [-0.001, 1.001]),
    "[0, 1)": ([0.0, 0.999], [-0.001, 1.0]),
    "[0, \u221e)": ([0.0, 1e6], [-0.001]),
    "1, 2, ...": ([1], [0]),
    "0, 1, ...": ([0], [-1]),
}


@pytest.mark.parametrize(("name", "bounds"), reference.RANGES.items())
def test_ranges_of_the_reference_are_those_that_are_checked(name: str, bounds: str, tmp_path: Path) -> None:
    allowed, refused = _BESIDE[bounds]
    options: dict[str, Any] = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": []}
    for value in allowed:
        assert getattr(ArcherGRPOConfig(**options, **{name: value}), name) == value
    for value in refused:
        with pytest.raises(ValueError, match=f"{name}="):
            ArcherGRPOConfig(**options, **{name: value})


def test_every_field_is_on_the_configuration_page() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    own = {f.name for f in fields(ArcherGRPOConfig)} - {f.name for f in fields(GRPOConfig)}
    docstrings = (str(config.__doc__) for config in (ArcherGRPOConfig, MethodConfig, DurableGRPOConfig))
    documented = {parameter.name for text in docstrings for parameter in documented_parameters(text)}
    assert own <= documented
    # Fields such as `_n_gpu` are not options
    missing = {f.name for f in fields(ArcherGRPOConfig) if f.init and f"`{f.name}`" not in text}
    assert not missing


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figure_of_the_home_page_shows_the_results(theme: str) -> None:
    data = figures.playground_data()
    drawing = (figures.FOLDER / f"playground_{theme}.svg").read_text()
    drawn = re.findall(r"<dc:description>(.*?)</dc:description>", drawing, re.S)
    assert [json.loads(text) for text in drawn] == [data], "run `make figures`"
    for ax, measure in zip(figures.plot_playground(data, theme).axes, figures.MEASURES, strict=True):
        dots = [collection.get_offsets()[:, 0].tolist() for collection in ax.collections[::2]]
        assert dots == [data[measure][method] for method in figures.METHODS]
        runs = load("playground")["runs"]
        assert dots[1] == [run["after"][measure] for run in runs if run["method"] == "grpo"]
        assert ax.lines[0].get_xdata()[0] == runs[0]["before"][measure]


def test_make_targets_that_are_mentioned_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for document in [*DOCUMENTS, ROOT / ".ci" / "run", ROOT / ".github" / "workflows" / "ci.yml"]:
        mentioned = set(re.findall(r"(?:`|run: |^)make ([a-z-]+)", document.read_text(), re.M))
        assert mentioned <= targets, document.name


@pytest.mark.slow
@pytest.mark.training
def test_quickstart_learns(tmp_path: Path) -> None:
    script = ROOT / "examples" / "quickstart.py"
    result = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    rewards = [float(value) for value in re.findall(r"reward ([\d.]+)", result.stdout)]
    assert len(rewards) == 4
    assert max(rewards[1:]) > rewards[0]


def test_results_say_where_they_come_from() -> None:
    for path in RESULTS.glob("*.json"):
        result = load(path.stem)
        assert result["command"].startswith("python -m benchmarks.")
        assert {"commit", "machine", "torch", "trl"} <= result["environment"].keys()
