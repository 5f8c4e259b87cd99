"""What README and docs claim exists, runs, and comes from committed results."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from trl import GRPOConfig, GRPOTrainer

from benchmarks.environment import RESULTS, load
from benchmarks.render import PLACES, filled
from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer

from .tiny import make_trainer

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("file", PLACES)
def test_rendered_places_are_up_to_date(file: str) -> None:
    text = (ROOT / file).read_text()
    assert filled(text, PLACES[file]) == text, "run `python -m benchmarks.render`"


def test_paper_map_names_what_exists() -> None:
    text = (ROOT / "docs" / "paper_map.md").read_text()
    rows = re.findall(r"\| ((?:`[\w.]+`(?:, )?)+) \| `(src/[\w/.]+)` \| `(tests/[\w/.]+)` \|", text)
    assert len(rows) == 14
    for names, file, test in rows:
        tree = ast.walk(ast.parse((ROOT / file).read_text()))
        defined = {getattr(node, field, None) for node in tree for field in ("name", "id", "arg", "attr")}
        for name in re.findall(r"`([\w.]+)`", names):
            assert name.split(".")[-1] in defined, f"{name} is not in {file}"
        assert any(name.split(".")[-1].strip("`_") in (ROOT / test).read_text() for name in names.split(", ")), test


def test_metrics_reference_lists_what_is_logged(model_path: str, tmp_path: Path) -> None:
    documented = set()
    for cell in re.findall(r"^\| (`.+?`) \|", (ROOT / "docs" / "metrics.md").read_text(), re.M):
        for name in re.findall(r"`([^`]+)`", cell):
            names = [name]
            for choice in re.findall(r"\{([^}]+)\}", name):
                names = [n.replace("{" + choice + "}", c, 1) for n in names for c in choice.split(",")]
            documented |= set(names)
    logged = []
    for trainer_class, config_class in ((ArcherGRPOTrainer, ArcherGRPOConfig), (GRPOTrainer, GRPOConfig)):
        trainer = make_trainer(
            model_path, tmp_path, trainer_class, config_class=config_class, beta=0.1, num_iterations=2
        )
        trainer.train()
        logged.append({name for entry in trainer.state.log_history for name in entry})
    assert documented == logged[0] - logged[1]
    assert logged[1] <= logged[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_make_targets_that_are_mentioned_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for document in [*DOCUMENTS, ROOT / ".ci" / "run", ROOT / ".github" / "workflows" / "ci.yml"]:
        mentioned = set(re.findall(r"(?:`|run: |^)make ([a-z-]+)", document.read_text(), re.M))
        assert mentioned <= targets, document.name


@pytest.mark.training
def test_quickstart_is_short_and_runs(tmp_path: Path) -> None:
    script = ROOT / "examples" / "quickstart.py"
    assert len(script.read_text().splitlines()) < 40
    result = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    rewards = [float(value) for value in re.findall(r"'reward': '([\d.]+)'", result.stdout)]
    assert len(rewards) == 4
    assert max(rewards[1:]) > rewards[0]


def test_results_say_where_they_come_from() -> None:
    for path in RESULTS.glob("*.json"):
        result = load(path.stem)
        assert result["command"].startswith("python -m benchmarks.")
        assert {"commit", "machine", "torch", "trl"} <= result["environment"].keys()


def test_update_phase_is_as_fast_as_we_promise() -> None:
    cases = load("update_phase")["cases"]
    limits = {"constant": 1.03, "log-normal": 0.35, "log-normal, 2 of 8 groups dropped": 0.30}
    for name, limit in {**limits, "log-normal, 4 of 8 groups dropped": 0.27}.items():
        assert cases[name]["time_ratio"] <= limit, name
    for name, case in cases.items():
        assert case["memory_ratio"] <= 1.001, name
        assert case["gradient_difference"] <= 1e-5, name


def test_cost_is_within_what_we_promise() -> None:
    for name, shape in load("compute_loss")["shapes"].items():
        assert shape["time_ratio"] <= 1.03, name
        assert shape["memory_ratio"] <= 1.02, name


def test_rewards_are_as_fast_as_we_promise() -> None:
    result = load("rewards")
    assert result["math"]["speedup"] >= 1.7
    assert result["math"]["different"] == 0
    assert result["math"]["slow"]["seconds"] <= result["math"]["slow"]["bound"]
    best = result["code"]["landlock+namespaces"]
    assert best["runs_per_second"] >= 60
    assert best["overhead_ms"] <= 40
