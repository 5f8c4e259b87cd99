"""`trl-archer figures` draws the files of a real run."""

import json
import shutil
from pathlib import Path

import pytest

from trl_archer.cli import main

from ..helpers.tiny import make_trainer, save_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    trainer = make_trainer(save_model(folder / "model"), folder, token_records_steps=2, max_steps=4, num_iterations=2)
    trainer.train()
    trainer.save_state()
    return folder / "out"


def test_runs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["figures", "runs", f"archer={run}", "--output", str(tmp_path), "--entropy-quantile", "0.8"]) == 0
    names = {f"{name}.{suffix}" for name in ("training_dynamics", "constraints") for suffix in ("png", "svg")}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert str(tmp_path / "constraints.png") in capsys.readouterr().out


def test_records_and_tokens(run: Path, tmp_path: Path):
    records = str(run / "token_records")
    assert main(["figures", "records", records, "--output", str(tmp_path), "--vector", "pdf", "--min-count", "1"]) == 0
    names = ("entropy_spread", "clip_plane", "frequent_tokens")
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{s}" for name in names for s in ("png", "pdf")}
    page = tmp_path / "page.html"
    assert main(["figures", "tokens", records, "--step", "4", "--output", str(page), "--title", "Step four"]) == 0
    assert "<title>Step four</title>" in page.read_text()


def test_accuracy(tmp_path: Path):
    result = tmp_path / "eval.json"
    result.write_text(json.dumps({"correct": [0, 3, 8, 8], "samples": 8}))
    assert main(["figures", "accuracy", f"archer={result}", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "accuracy.svg").exists()


def test_unwritable_output(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "file"
    file.touch()
    assert main(["figures", "runs", str(run), "--output", str(file)]) == 2
    assert main(["figures", "tokens", str(run / "token_records"), "--output", str(file / "page.html")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all(error.startswith("trl-archer figures: ") and str(file) in error for error in errors)


def test_unreadable_files_do_not_stop_the_others(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The rest is drawn, and the exit status 1 tells scripts."""
    records = tmp_path / "token_records"
    shutil.copytree(run / "token_records", records)
    cut = sorted(records.iterdir())[0]
    cut.write_bytes(cut.read_bytes()[:1000])
    (tmp_path / "results.json").write_text(json.dumps({"correct": [0, 8], "samples": 8}))
    (tmp_path / "unscored.json").write_text(json.dumps({"correct": [0, None], "samples": 8}))
    figures = ["--output", str(tmp_path / "figures")]
    commands = {
        "gone does not exist": ["runs", str(run), str(tmp_path / "gone"), *figures],
        f"{cut} cannot be read": ["records", str(tmp_path), *figures],
        f"{cut} cannot be": ["tokens", str(tmp_path), "--output", str(tmp_path / "figures" / "tokens.html")],
        "'b' has None": ["accuracy", f"a={tmp_path}/results.json", f"b={tmp_path}/unscored.json", *figures],
    }
    for problem, command in commands.items():
        assert main(["figures", *command]) == 1
        output = capsys.readouterr()
        assert output.err.startswith("trl-archer figures: Left out: ")
        assert problem in output.err
        assert (problem in output.out) == (command[0] != "tokens")  # among the figure's notes
    names = {
        "training_dynamics",
        "constraints",
        "entropy_spread",
        "clip_plane",
        "frequent_tokens",
        "accuracy",
        "tokens",
    }
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == names


def test_a_failing_figure_does_not_stop_the_others(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["figures", "runs", *(f"{name}={run}" for name in "abcde"), "--output", str(tmp_path)]) == 1
    assert {path.stem for path in tmp_path.iterdir()} == {"training_dynamics"}
    assert "plot_constraints draws up to 4 runs, got 5" in capsys.readouterr().err
    assert main(["figures", "runs", str(run), "--smoothing", "-1", "--output", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_results_with_the_same_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The second would replace the first."""
    paths = [tmp_path / folder / "results.json" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(json.dumps({"correct": [0, 8], "samples": 8}))
    output = ["--output", str(tmp_path / "figures")]
    assert main(["figures", "accuracy", *map(str, paths), *output]) == 2
    message = f"Two results are called 'results'; rename one, for example NAME={paths[1]}."
    assert message in capsys.readouterr().err
    assert main(["figures", "accuracy", f"a={paths[0]}", f"a={paths[1]}", *output]) == 2
    assert main(["figures", "accuracy", f"a={paths[0]}", str(paths[1]), *output]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs", "nowhere"], "nowhere"),
        (["records", "nowhere"], "nowhere"),
        (["tokens", "nowhere"], "nowhere"),
        (["accuracy", "a=nowhere"], '{"correct"'),
    ],
)
def test_unreadable_paths_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["figures", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("trl-archer figures: ")
    assert message in error
    assert "Traceback" not in error
