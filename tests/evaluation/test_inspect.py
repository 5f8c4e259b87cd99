"""`trl-archer eval` with Inspect: its mock model, a small transformers model, interruptions, and bad input."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trl_archer.evaluation.report import read_report
from trl_archer.playground import sample_problems
from trl_archer.playground.policy import POLICY_DIR

pytestmark = pytest.mark.inspect

CLI = "trl_archer.cli"
MOCK = "tests.helpers.eval_worker"


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def aime(tmp_path_factory):
    """A stand-in with the columns of HuggingFaceH4/aime_2024. The last problem has no answer."""
    rows = [{"id": n, "problem": f"What is {n} + 1?", "solution": "Add.", "answer": str(n + 1)} for n in range(20)]
    rows.append({"id": 20, "problem": "What is 20 + 1?", "solution": "Add.", "answer": ""})
    return write(tmp_path_factory.mktemp("data") / "aime.jsonl", rows)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows = [{"id": f"c{n}", "prompt": problem.prompt} for n, problem in enumerate(sample_problems("eval", 12, seed=0))]
    settings = {"name": "toy", "dataset": write(folder / "toy.jsonl", rows), "columns": {"id": "id"}}
    settings |= {"verifier": "countdown", "temperature": 1.0, "max_new_tokens": 32, "k": 4}
    (folder / "toy.yaml").write_text(json.dumps(settings))
    return str(folder / "toy.yaml")


def command(module: str, *args: str) -> list[str]:
    return [sys.executable, "-m", module, "eval", "--display", "none", *args]


def run(module: str, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(command(module, *args), capture_output=True, text=True, env=environment, check=False)


def results(output: Path) -> dict[str, Any]:
    return read_report(output)["benchmarks"]


def largest_log(output: Path) -> int:
    """Bytes. Inspect appends each sample, and a new log begins with the samples of the one before."""
    return max((path.stat().st_size for path in output.rglob("*.eval")), default=0)


@pytest.mark.parametrize("kind", ["mock", "transformers"])
def test_killed_three_times_gives_the_same_table(kind, aime, toy, tmp_path):
    mock = (MOCK, "--model", "mock", "--benchmarks", "aime24", "--data", f"aime24={aime}", "--k", "16")
    own = (CLI, "--model", str(POLICY_DIR), "--raw-prompts", "--benchmarks", toy, "--model-args", '{"batch_size": 8}')
    arguments = mock if kind == "mock" else own
    whole = run(*arguments, "--output", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr

    output, generator = tmp_path / "killed", random.Random(kind)
    for share in (generator.uniform(0.1, 0.3), generator.uniform(0.4, 0.6), generator.uniform(0.7, 0.9)):
        process = subprocess.Popen(
            command(*arguments, "--output", str(output)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and largest_log(output) < share * largest_log(tmp_path / "whole"):
            time.sleep(0.01)
        assert process.poll() is None, "the evaluation ended before it could be interrupted"
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = run(*arguments, "--output", str(output))
    assert last.returncode == 0, last.stderr
    assert results(output) == results(tmp_path / "whole")
    assert (output / "report.md").read_text() == (tmp_path / "whole" / "report.md").read_text()


def test_the_report(aime, tmp_path):
    arguments = ("--model", "mock", "--benchmarks", "aime24", "--data", f"aime24={aime}", "--k", "4")
    found = run(MOCK, *arguments, "--output", str(tmp_path))
    assert found.returncode == 0, found.stderr
    assert "1 problems cannot be scored and are left out, such as 20" in found.stdout
    report = read_report(tmp_path)
    result = report["benchmarks"]["aime24"]
    summary = result["summary"]
    assert [problem["id"] for problem in result["problems"]] == [str(n) for n in range(21)]
    assert (summary["not_scorable"], summary["left_out"], summary["avg"]["problems"]) == (4, 1, 20)
    assert 0.3 < summary["avg"]["value"] < 0.7
    assert summary["pass_at"]["4"]["value"] > 0.8  # the samples of a problem differ: each has its own seed
    assert summary["mean_tokens"] == 5
    assert {"inspect-ai", "torch", "python"} <= report["versions"].keys()
    table = (tmp_path / "report.md").read_text()
    assert "| DeepSeek-R1-Distill-Qwen-1.5B + Archer | 48.7/83.3 |" in table
    assert "aime24: k is 4, not 64" in table
    assert "4 samples have no verdict" in table

    # Another seed gives other samples; more samples keep the old ones
    other = run(MOCK, *arguments, "--output", str(tmp_path / "other"), "--seed", "1")
    assert other.returncode == 0, other.stderr
    assert results(tmp_path / "other")["aime24"]["problems"] != result["problems"]
    more = run(MOCK, *arguments[:-1], "6", "--output", str(tmp_path))
    assert more.returncode == 0, more.stderr
    pairs = zip(results(tmp_path)["aime24"]["problems"], result["problems"], strict=True)
    assert all(0 <= now["correct"] - before["correct"] <= 2 for now, before in pairs)


def test_settings_and_weights_belong_to_a_folder(aime, tmp_path):
    arguments = ("--model", "mock", "--benchmarks", "aime24", "--data", f"aime24={aime}", "--k", "1", "--limit", "2")
    assert run(MOCK, *arguments, "--output", str(tmp_path)).returncode == 0
    changed = run(MOCK, *arguments, "--output", str(tmp_path), "--seed", "1")
    assert changed.returncode == 2
    assert "belongs to an evaluation with other settings, weights or data, choose another output" in changed.stderr


def test_a_registered_task(aime, tmp_path):
    arguments = ["eval", "trl_archer/aime24", "-T", f"dataset={aime}", "-T", "limit=2", "--epochs", "1"]
    model = ["--model", f"trl_archer/{POLICY_DIR}", "-M", "raw_prompts=true", "--max-tokens", "8"]
    found = subprocess.run(
        [str(Path(sys.executable).parent / "inspect"), *arguments, *model, "--log-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    from inspect_ai.log import list_eval_logs, read_eval_log

    (info,) = list_eval_logs(str(tmp_path))
    log = read_eval_log(info.name)
    assert log.status == "success"
    assert [sample.output.stop_reason for sample in log.samples or []] == ["max_tokens"] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmarks", "aime2024"], "There is no benchmark 'aime2024'. Did you mean 'aime24'?"),
        (["--benchmarks", "aime24"], "Without a network, fill the cache of `datasets` beforehand"),
        (["--benchmarks", "aime24,aime24"], "'aime24' is given twice"),
        (["--benchmarks", "aime24", "--data", "aime25=x.jsonl"], "'aime25' is not among the benchmarks"),
        (["--benchmarks", "toy.yaml"], "There is no file 'toy.yaml'"),
        (["--benchmarks", "TOY", "--limit", "0"], "--limit=0 keeps no problem"),
        (["--benchmarks", "TOY", "--k", "0"], "toy: k=0 is not a positive integer"),
        (["--benchmarks", "TOY", "--model", "missing/model"], "neither a folder nor a model on the Hub"),
        (["--benchmarks", "TOY", "--model", "."], "is a folder without a model"),
        (["--benchmarks", "TOY"], "has no chat template. Pass --raw-prompts"),
        (["--benchmarks", "TOY", "--endpoint", "http://x/v1", "--adapter", "a"], "already runs a model, so adapter"),
        (["--benchmarks", "TOY", "--endpoint", "http://127.0.0.1:9/v1"], "does not list its models"),
    ],
)
def test_it_refuses_to_start(arguments, message, toy, monkeypatch, capsys, tmp_path):
    from trl_archer.cli import main

    monkeypatch.chdir(tmp_path)
    arguments = [toy if text == "TOY" else text for text in arguments]
    assert main(["eval", "--model", str(POLICY_DIR), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_failing_model_is_not_a_result(aime, tmp_path):
    arguments = ("--model", "broken", "--benchmarks", "aime24", "--data", f"aime24={aime}", "--k", "1")
    found = run(MOCK, *arguments, "--output", str(tmp_path))
    assert found.returncode == 1
    assert "aime24: the evaluation stopped early" in found.stderr
    assert "The model is broken." in found.stderr
    assert not (tmp_path / "report.json").exists()


def test_vllm_is_found_outside_an_activated_environment(monkeypatch):
    """Inspect starts the program `vllm`, which lies beside Python."""
    from trl_archer.evaluation import inspect_open

    opened: dict[str, Any] = {}
    monkeypatch.setattr(inspect_open, "find_spec", lambda name: True)
    monkeypatch.setattr(inspect_open, "get_model", lambda name, **options: opened.update(name=name, **os.environ))
    monkeypatch.setenv("PATH", "/usr/bin")
    inspect_open.open_model(str(POLICY_DIR), backend="vllm", raw_prompts=True)
    assert opened["name"] == f"vllm-completions/{POLICY_DIR}"
    assert opened["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]


@pytest.mark.filterwarnings("default")
def test_samples_end_where_the_positions_of_the_model_end():
    """Each prompt has its own room, whatever it is batched with."""
    from inspect_ai.model import GenerateConfig

    from trl_archer.evaluation.inspect_model import TransformersAPI, _Request

    api = TransformersAPI(str(POLICY_DIR), raw_prompts=True)
    api.eos = []  # so that no sample ends on its own
    requests = [_Request(prompt, GenerateConfig(max_tokens=32768, seed=0)) for prompt in ("3 5 6 8 = 10 >", "4 >")]
    outputs = api._sample(requests)
    assert {output.usage.total_tokens for output in outputs} == {api.model.config.max_position_embeddings}
    assert {output.stop_reason for output in outputs} == {"max_tokens"}


@pytest.mark.filterwarnings("default")
def test_samples_follow_the_softmax_and_their_seed():
    """Whatever shares their batch."""
    import torch
    from inspect_ai.model import GenerateConfig

    from trl_archer.evaluation.inspect_model import TransformersAPI, _Request

    api = TransformersAPI(str(POLICY_DIR), raw_prompts=True)
    prompt = "3 5 6 8 = 10 >"

    def draw(prompts: list[str], seeds: list[int], **settings: Any) -> list[str]:
        configs = [GenerateConfig(seed=seed, **{"max_tokens": 8, "temperature": 1.0, **settings}) for seed in seeds]
        return [output.completion for output in api._sample([_Request(*x) for x in zip(prompts, configs, strict=True)])]

    together = draw([prompt, "1 2 = 3 >", prompt], [1, 2, 3])
    assert together == [draw([text], [seed])[0] for text, seed in ((prompt, 1), ("1 2 = 3 >", 2), (prompt, 3))]
    assert draw([prompt] * 2, [1, 2], temperature=0) == draw([prompt] * 2, [3, 4], temperature=0)

    first = [text.split()[0] for text in draw([prompt] * 2000, list(range(2000)), max_tokens=1)]
    with torch.no_grad():
        ids = api.tokenizer([prompt], return_tensors="pt")["input_ids"]
        probabilities = api.model(input_ids=ids).logits[0, -1].softmax(-1)
    for word in "3 5 6 8".split():
        p = probabilities[api.tokenizer.convert_tokens_to_ids(word)].item()
        assert first.count(word) / 2000 == pytest.approx(p, abs=5 * (p * (1 - p) / 2000) ** 0.5 + 1e-3)
