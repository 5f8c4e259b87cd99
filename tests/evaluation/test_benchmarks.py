"""Benchmarks: the paper's presets, settings from recipes, and problems from files with the public sets' columns."""

import base64
import json
import pickle
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from trl_archer.evaluation.benchmarks import (
    PRESETS,
    Benchmark,
    load_benchmark,
    load_problems,
    read_benchmark,
    verify,
)
from trl_archer.evaluation.paper import paper_results
from trl_archer.playground import sample_problems

MATH = [{"problem": f"What is {n} + 1?", "solution": "Add.", "answer": str(n + 1), "id": n} for n in range(3)]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def countdown(path: Path, **changes: Any) -> dict[str, Any]:
    rows = [{"id": f"c{n}", "prompt": problem.prompt} for n, problem in enumerate(sample_problems("eval", 3, seed=0))]
    return {"name": "toy", "dataset": write(path / "toy.jsonl", rows), "verifier": "countdown", **changes}


@pytest.mark.parametrize(
    ("name", "k", "dates"),
    [
        ("aime24", 64, None),
        ("aime25", 64, None),
        ("amc23", 64, None),
        ("math500", 4, None),
        ("minerva", 8, None),
        ("olympiad", 4, None),
        ("lcb_v5", 8, ("2024-08-01", "2025-02-01")),
        ("lcb_v6", 16, ("2025-02-01", "2025-05-01")),
    ],
)
def test_presets_have_the_papers_sampling(name, k, dates):
    """Wang et al. 2025, Sec. 4.1."""
    preset = PRESETS[name]
    assert (preset.k, preset.dates) == (k, dates)
    assert (preset.temperature, preset.top_p, preset.max_new_tokens) == (0.8, 1.0, 32768)


def test_the_papers_results():
    """The tables also print the mean of avg@K over the six; for Qwen3-4B + Archer 67.1, but its cells have 67.23."""
    means = {
        "DeepSeek-R1-Distill-Qwen-1.5B": 46.8,
        "DeepSeek-R1-Distill-Qwen-1.5B + GRPO": 53.5,
        "DeepSeek-R1-Distill-Qwen-1.5B + Archer": 59.1,
        "Qwen3-4B (non-thinking)": 48.3,
        "Qwen3-4B + GRPO": 61.6,
        "Qwen3-4B + 80/20": 65.0,
        "Qwen3-4B + Archer": 67.1,
        "Qwen3-8B + Archer": 67.9,
        "Qwen3-30B-A3B + Archer": 74.6,
    }
    results = paper_results()
    assert results.keys() == means.keys()
    math = ("aime24", "aime25", "amc23", "math500", "minerva", "olympiad")
    for model, mean in means.items():
        assert sum(results[model][name][0] for name in math) / 6 == pytest.approx(mean, abs=0.15)
    assert results["DeepSeek-R1-Distill-Qwen-1.5B + Archer"]["lcb_v6"] == (30.2, 45.8)


PUBLIC_COLUMNS = {
    "aime24": {"id": 60, "problem": "1+1?", "solution": "long", "answer": "2", "url": "u", "year": "2024"},
    "aime25": {"problem": "1+1?", "answer": "2", "id": "0"},
    "amc23": {"id": 0, "answer": 2.0, "url": "u", "question": "1+1?"},
    "math500": {"problem": "1+1?", "solution": "long", "answer": "2", "subject": "s", "level": 1, "unique_id": "t/1"},
    "minerva": {"question": "1+1?", "answer": "2"},
    "olympiad": {"id": 1, "question": "1+1?", "solution": ["long"], "final_answer": ["2"], "subfield": "a"},
}


@pytest.mark.parametrize("name", PUBLIC_COLUMNS)
def test_presets_read_the_public_columns(name, tmp_path):
    path = write(tmp_path / "rows.jsonl", [PUBLIC_COLUMNS[name]])
    loaded = load_benchmark({"name": name, "dataset": path})
    (problem,) = loaded.problems
    assert problem.prompt.startswith("1+1?\n\nReason step by step")
    rewards = verify(loaded.benchmark.load_verifier(), [problem] * 2, [r"\boxed{2}", r"\boxed{3}"])
    assert rewards == [1.0, 0.0]


def test_live_code_bench(tmp_path):
    private = base64.b64encode(zlib.compress(pickle.dumps(json.dumps([{"input": "3", "output": "6"}])))).decode()
    row = {
        "question_title": "Double",
        "question_content": "Double a number.",
        "question_id": "a",
        "contest_date": "2024-09-01T00:00:00",
        "starter_code": "",
        "public_test_cases": json.dumps([{"input": "1", "output": "2", "testtype": "stdin"}]),
        "private_test_cases": private,
        "metadata": "{}",
    }
    rows = [row, {**row, "question_id": "late", "contest_date": "2025-02-01T00:00:00"}]
    loaded = load_benchmark({"name": "lcb_v5", "dataset": write(tmp_path / "rows.jsonl", rows)})
    (problem,) = loaded.problems
    assert problem.id == "a"
    assert "standard input" in problem.prompt
    verifier = loaded.benchmark.load_verifier()
    programs = ["```python\nprint(2 * int(input()))\n```", "```python\nprint(2)\n```"]
    assert verify(verifier, [problem] * 2, programs) == [1.0, 0.0]


def test_own_columns_and_template(tmp_path):
    benchmark = read_benchmark(
        {
            "name": "mine",
            "dataset": write(tmp_path / "rows.jsonl", MATH),
            "columns": {"prompt": "problem", "solution": "answer", "id": "id"},
            "prompt_template": "{{ prompt }} ({{ id }})",
            "k": 2,
        }
    )
    problems = load_problems(benchmark, limit=2)
    assert [problem.prompt for problem in problems] == ["What is 0 + 1? (0)", "What is 1 + 1? (1)"]
    assert problems[0].columns == {"solution": "1"}


def test_the_playground_needs_no_network():
    loaded = load_benchmark("countdown")
    assert (len(loaded.problems), loaded.not_scorable, loaded.benchmark.k) == (256, [], 16)
    assert load_benchmark({"name": "countdown", "k": 2}).benchmark.k == 2


def test_a_file_describes_a_benchmark(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("{name: own, dataset: playground, verifier: countdown, k: 3}")
    assert read_benchmark(str(path)) == Benchmark(name="own", dataset="playground", verifier="countdown", k=3)
    path.write_text("[own]")
    with pytest.raises(ValueError, match=r"own.yaml does not describe a benchmark. Write its name"):
        read_benchmark(str(path))
    with pytest.raises(ValueError, match=r"There is no file 'other.yaml' that describes a benchmark"):
        read_benchmark("other.yaml")


def test_fingerprints_follow_the_data(tmp_path):
    first = load_benchmark(countdown(tmp_path))
    assert first.fingerprint == load_benchmark(countdown(tmp_path, k=2)).fingerprint
    assert first.fingerprint != load_benchmark(countdown(tmp_path), limit=2).fingerprint


REFUSED = [
    ("aime2024", "There is no benchmark 'aime2024'. Did you mean 'aime24'?"),
    ({"k": 2}, "has no name"),
    ({"name": "aime24", "tempersture": 1}, "there is no setting 'tempersture'. Did you mean 'temperature'?"),
    ({"name": "aime24", "k": 0}, "aime24: k=0 is not a positive integer"),
    ({"name": "aime24", "k": 1.5}, "k=1.5 is not a positive integer"),
    ({"name": "aime24", "temperature": -1}, "temperature=-1 is negative"),
    ({"name": "aime24", "temperature": 0}, "all k=64 samples of a problem would be equal"),
    ({"name": "aime24", "top_p": 0}, "top_p=0 is outside (0, 1]"),
    ({"name": "mine", "dataset": "missing.jsonl"}, "mine: there is no file 'missing.jsonl'"),
    ("aime24", "Without a network, fill the cache of `datasets` beforehand, or give"),
]


@pytest.mark.parametrize(("entry", "message"), REFUSED)
def test_settings_that_cannot_work(entry, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_benchmark(entry)


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (MATH, {"columns": {"prompt": "question"}}, "columns maps 'prompt' to 'question', which"),
        (MATH, {"columns": {"prompt": "problem"}, "prompt_template": "{{ x }}"}, "prompt_template: 'x' is undefined"),
        ([MATH[0], MATH[1], MATH[0]], {}, "the id '0' occurs 2 times"),
        ([{**MATH[0], "answer": ""}], {}, "can score none of the 1 problems"),
        (MATH, {"verifier": "mth"}, "there is no reward 'mth'. Did you mean 'math'?"),
        ([{"problem": "1?", "id": 1}], {"columns": {"prompt": "problem"}}, "missing a required argument: 'solution'"),
        (
            MATH,
            {"columns": {"prompt": "problem", "date": "answer"}, "dates": ["2025", "2026"]},
            "has no problems between",
        ),
    ],
)
def test_data_that_cannot_work(rows, changes, message, tmp_path):
    columns = {"prompt": "problem", "solution": "answer", "id": "id"}
    entry = {"name": "mine", "dataset": write(tmp_path / "rows.jsonl", rows), "columns": columns, **changes}
    with pytest.raises(ValueError, match=re.escape(message)):
        load_benchmark(entry)


def test_an_empty_set_is_refused(tmp_path):
    (tmp_path / "rows.csv").write_text("prompt,solution\n")
    with pytest.raises(ValueError, match=r"rows.csv' cannot be loaded .* no data"):
        load_problems(Benchmark(name="mine", dataset=str(tmp_path / "rows.csv")))


def test_some_problems_that_cannot_be_scored(tmp_path):
    entry = {"name": "math500", "dataset": write(tmp_path / "rows.jsonl", [])}
    rows = [{"problem": "1?", "answer": answer, "unique_id": answer or "none"} for answer in ("1", "")]
    entry["dataset"] = write(tmp_path / "rows.jsonl", rows)
    assert load_benchmark(entry).not_scorable == ["none"]


def test_partial_credit_is_refused(tmp_path):
    (problem, *_) = load_problems(read_benchmark(countdown(tmp_path, columns={"id": "id"})))
    with pytest.raises(ValueError, match=r"gave problem 'c0' the reward 0.5, but pass@k needs"):
        verify(lambda **_: [0.5], [problem], ["x"])
