"""The math reward as TRL's trainers see it."""

import pickle
import time
from collections import defaultdict
from statistics import mean

import pytest

from trl_archer.rewards import get_math_reward, math_reward
from trl_archer.rewards.math.reward import _verdict

SLOW = r"\prod_{k=1}^{1000000} \left(k + \frac{1}{k}\right)"  # sympy does not finish it


def boxed(answer: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": rf"<think>Hm.</think> It is $\boxed{{{answer}}}$."}]


def test_verdicts_reasons_and_metrics():
    completions = [boxed("0.5"), boxed("1+x"), boxed("2"), "I do not know.", boxed("3"), boxed("7")]
    solutions = [r"\frac12", "$x+1$", "3", "3", "See the figure above, it shows all of them.", ["6", "7"]]
    columns, logged = {}, defaultdict(list)
    rewards = math_reward(
        completions,
        solution=solutions,
        completion_ids=[[1, 2]] * 3 + [[1, 2, 3, 4]] * 3,
        prompts=["?"] * 6,
        log_extra=columns.__setitem__,
        log_metric=lambda name, value: logged[name].append(value),
    )
    metrics = {name: mean(values) for name, values in logged.items()}  # as TRL does, over all ranks
    assert rewards == [1.0, 1.0, 0.0, 0.0, None, 1.0]
    reasons = columns["math_reward_reason"]
    assert reasons[0] == r"0.5 is \frac12 (rule)"
    assert reasons[1] == "1+x is $x+1$ (math_verify)"
    assert reasons[2] == "2 is not 3"
    assert reasons[3] == "no answer"
    assert "cannot be read" in reasons[4]
    assert reasons[5] == "7 is 6 or 7 (rule)"
    shares = {kind: metrics[f"math_reward/{kind}"] for kind in ("rule", "math_verify", "wrong", "no_answer", "gave_up")}
    assert shares == {"rule": 2 / 6, "math_verify": 1 / 6, "wrong": 1 / 6, "no_answer": 1 / 6, "gave_up": 0}
    assert metrics["math_reward/not_scorable"] == 1 / 6
    assert metrics["math_reward/length/right"] == pytest.approx(8 / 3)
    assert metrics["math_reward/length/wrong"] == 3.0
    assert metrics["math_reward/thinking/right"] > 0


def test_whether_the_answer_or_the_solution_is_to_blame():
    reward = get_math_reward(seconds=1.0)
    columns = {}
    solutions = ["5", r"So it is $\boxed{\sqrt{5}}$."]
    assert reward([boxed(SLOW)] * 2, solution=solutions, log_extra=columns.__setitem__) == [0.0, 0.0]
    assert all("could not be compared" in reason for reason in columns["math_reward_reason"])
    verdict = _verdict((("gold",), "5"), None, "stopped after 1 s", gold_is_sound=False)
    assert verdict == (None, "not_scorable", "the solution gold cannot be graded: stopped after 1 s")


def test_a_poisoned_answer_costs_its_own_slot_only():
    reward = get_math_reward(seconds=1.0, workers=2)
    reward([boxed("1")], solution=["1"])
    completions = [boxed("5"), boxed(SLOW), boxed("9^{9^{9^9}}"), boxed("(" * 900), boxed("5")]
    begin = time.monotonic()
    assert reward(completions, solution=["5"] * 5) == [1.0, 0.0, 0.0, 0.0, 1.0]
    assert time.monotonic() - begin < 5


def test_equal_answers_are_graded_once():
    reward = get_math_reward(seconds=1.0, workers=1)
    begin = time.monotonic()
    assert reward([boxed(SLOW)] * 12, solution=["5"] * 12) == [0.0] * 12
    assert time.monotonic() - begin < 8


def test_settings():
    phrase = "So the answer is 12."
    assert math_reward([phrase], solution=["12"]) == [0.0]
    assert get_math_reward(phrases=True)([phrase], solution=["12"]) == [1.0]
    assert get_math_reward(thinking=True)([r"\boxed{12}"], solution=["12"]) == [0.0]
    assert math_reward([r"\boxed{12}"] * 3, solution=[12, None, []]) == [1.0, None, None]
    for name, value in (("seconds", 0), ("memory_mib", -1), ("workers", 0)):
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            get_math_reward(**{name: value})


def test_it_can_be_pickled():
    reward = get_math_reward(phrases=True)
    assert pickle.loads(pickle.dumps(reward)) == reward
    assert pickle.loads(pickle.dumps(math_reward)) is math_reward
    assert reward.__name__ == math_reward.__name__ == "math_reward"


def test_one_solution_for_each_completion():
    with pytest.raises(ValueError, match="There are 2 completions and 1 solutions"):
        math_reward([boxed("1"), boxed("2")], solution=["1"])
