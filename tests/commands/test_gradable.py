"""Rows that no reward can score are refused before the model is loaded, with examples."""

import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from datasets import Dataset

from trl_archer.commands.train.gradable import check_gradable, sample_rows
from trl_archer.rewards import code_reward, get_code_reward, get_math_reward, math_reward
from trl_archer.rewards import get_soft_overlong_punishment as overlong
from trl_archer.sandbox import Program, Run, SandboxError

PROSE = {"solution": "It follows by induction on n, see above."}
GOLDS = [{"solution": gold} for gold in ("3", "\\frac{1}{2}", "so \\boxed{7}", "#### 5")]
TESTS = {"inputs": ["1"], "outputs": ["2"]}


class Own:
    __name__ = "own"

    def __call__(self, completions: Sequence[Any], level: Sequence[int], **kwargs: Any) -> list[float]:
        return [1.0 for _ in completions]

    def check_rows(self, rows: Sequence[Any]) -> list[str | None]:
        return [None if row["level"] < 3 else f"level {row['level']} is too hard" for row in rows]


def plain(completions: Sequence[Any], **kwargs: Any) -> list[float]:
    return [1.0 for _ in completions]


@pytest.mark.parametrize(
    ("rows", "rewards"),
    [
        (GOLDS, [math_reward]),
        (GOLDS, [get_math_reward(thinking=True), overlong(8, 4)]),
        ([{"tests": TESTS}], [code_reward]),
        ([{"tests": json.dumps(TESTS)}], [code_reward]),
        ([{"tests": [{"input": "1", "output": "2"}], "fn_name": "f"}], [get_code_reward(scoring="fraction")]),
        ([{"level": 1}, {"level": 2}], [Own()]),
        ([PROSE], [plain]),  # cannot tell
    ],
)
def test_accepted(rows: list[Any], rewards: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    check_gradable(Dataset.from_list(rows), rewards, "x")
    assert not caplog.records


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("rows", "reward", "message"),
    [
        ([PROSE] * 3, math_reward, "3 of 3 sampled rows of x cannot be scored:\n  row 0: math_reward: the solution"),
        ([PROSE, PROSE, GOLDS[0]], math_reward, "2 of 3 sampled rows"),
        ([{"tests": ["nonsense"]}], code_reward, "row 0: code_reward: "),
        ([{"tests": {"inputs": [""], "outputs": [""]}}], code_reward, "outputs are blank"),
        ([{"level": 4}, {"level": 5}], Own(), "row 1: own: level 5 is too hard"),
    ],
)
def test_refused(rows: list[Any], reward: Any, message: str, streaming: bool) -> None:
    data = Dataset.from_list(rows)
    with pytest.raises(ValueError, match=r"Map the column .*\(reward_funcs\). The columns: '") as error:
        check_gradable(data.to_iterable_dataset() if streaming else data, [reward, overlong(8, 4)], "x")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("rows", "rewards"),
    [
        ([PROSE, *GOLDS], [math_reward]),  # few of them
        ([PROSE] * 3, [plain, math_reward]),  # the other may score them
    ],
)
def test_warned(rows: list[Any], rewards: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="trl_archer.commands.train.gradable"):
        check_gradable(Dataset.from_list(rows), rewards, "x")
    assert "sampled rows of x cannot be scored" in caplog.text
    assert "get no reward and are left out" in caplog.text


@pytest.mark.parametrize("fails", ["on this machine", "at a service"])
def test_a_sandbox_that_does_not_work(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the model is loaded, not at the first call of the reward."""

    class Broken:
        def run(self, program: Program) -> Run:
            raise SandboxError("No isolation works.")

    reward = get_code_reward(sandbox=Broken())
    if fails == "on this machine":
        monkeypatch.setattr(
            "trl_archer.rewards.code.reward._judge_remotely", lambda executor, *_: executor.run(Program(""))
        )
    with pytest.raises(ValueError, match=r"code_reward cannot run programs here. sandbox: No isolation works\."):
        check_gradable(Dataset.from_list([{"tests": TESTS}]), [reward], "x")


def test_a_row_needs_one_reward(caplog: pytest.LogCaptureFixture) -> None:
    """A mixture of math and code, where each row has the column of one reward."""
    rows = [
        *({"solution": row["solution"], "tests": None} for row in GOLDS),
        *({"solution": None, "tests": TESTS} for _ in range(4)),
    ]
    check_gradable(Dataset.from_list(rows), [math_reward, code_reward], "x")
    assert "sampled rows" not in caplog.text


def test_the_sample_is_spread() -> None:
    data = Dataset.from_dict({"a": list(range(100))})
    indices, rows = sample_rows(data, 4)
    assert indices == [row["a"] for row in rows] == [0, 25, 50, 75]
    assert sample_rows(data.select([5]), 4) == ([0], [{"a": 5}])
    assert sample_rows(data.to_iterable_dataset(), 2) == ([0, 1], [{"a": 0}, {"a": 1}])
