"""Rewards by name and by import path."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trl_archer.grpo.reward_checks import needed_columns
from trl_archer.playground import countdown_reward
from trl_archer.rewards import code_reward
from trl_archer.rewards.code.reward import CodeReward
from trl_archer.rewards.named import load_rewards


@pytest.fixture
def math_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for the math reward, whose signature alone matters here."""
    module = ModuleType("trl_archer.rewards.math.reward")

    def math_reward(completions: list[Any], solution: list[str], **kwargs: Any) -> list[float]:
        return [1.0 for _ in completions]

    def get_math_reward(strict: bool = False) -> Any:
        def reward(completions: list[Any], solution: list[str], **kwargs: Any) -> list[float]:
            return [float(strict) for _ in completions]

        return reward

    module.math_reward, module.get_math_reward = math_reward, get_math_reward  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trl_archer.rewards.math.reward", module)
    return module


def test_by_name(math_module: ModuleType) -> None:
    names = ("math", "code", "countdown", "think_format", "repetition_penalty")
    math, code, countdown, think, penalty = load_rewards([{"name": name} for name in names])
    assert (math, code, countdown) == (math_module.math_reward, code_reward, countdown_reward)
    assert think([[{"content": "<think>a</think>b"}], [{"content": "b"}]]) == [1.0, 0.0]
    assert penalty([[1, 1, 1, 1, 1, 1]]) == [-0.75]


def test_with_settings(math_module: ModuleType) -> None:
    math, code, overlong = load_rewards(
        [
            {"name": "math", "strict": True},
            {"name": "code", "scoring": "fraction", "max_tests": None},
            {"name": "soft_overlong", "max_completion_len": 10, "soft_punish_cache": 4},
        ]
    )
    assert math(["a"], ["b"]) == [1.0]
    assert isinstance(code, CodeReward)
    assert (code.scoring, code.max_tests) == ("fraction", None)
    assert overlong(completion_ids=[[0] * 6, [0] * 8, [0] * 11]) == [0.0, -0.5, -1.0]


def test_by_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards.py").write_text(
        "def one(completions, **kwargs):\n    return [1.0 for _ in completions]\n"
        "def scaled(by=2.0):\n    return lambda completions, **kwargs: [by for _ in completions]\n"
        "number = 3\n"
    )
    (tmp_path / "broken_rewards.py").write_text("import surely_not_installed\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    one, scaled = load_rewards([{"name": "my_rewards.one"}, {"name": "my_rewards.scaled", "by": 5.0}])
    assert (one(["a"]), scaled(["a"])) == ([1.0], [5.0])
    for name, message in (
        ("my_rewards.two", "'my_rewards' has no 'two'"),
        ("no_rewards.two", "there is no module 'no_rewards'"),
        ("my_rewards.number", "'my_rewards.number' is 3, which is not callable"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            load_rewards([{"name": name}])
    with pytest.raises(ModuleNotFoundError, match="surely_not_installed"):
        load_rewards([{"name": "broken_rewards.one"}])
    (tmp_path / "renamed_rewards.py").write_text("import json\njson.laod\ndef one(completions): ...\n")
    with pytest.raises(AttributeError, match="module 'json' has no attribute 'laod'"):
        load_rewards([{"name": "renamed_rewards.one"}])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "maths"}, "there is no reward 'maths'. Did you mean 'math'? Use one of math, code, countdown"),
        ({"name": "accuracy"}, "there is no reward 'accuracy'. Use one of"),
        ({"name": "countdown", "strict": True}, "countdown takes no settings, but got strict."),
        ({"name": "code", "scorign": "all"}, "unexpected keyword argument 'scorign'. Its settings: sandbox, scoring"),
        (
            {"name": "soft_overlong"},
            "missing a required argument: 'max_completion_len'. Its settings: max_completion_len",
        ),
        ({"name": "code", "scoring": "most"}, "scoring is 'most'; it must be 'all' or 'fraction'."),
    ],
)
def test_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load_rewards([entry])


@pytest.mark.parametrize("name", ["math", "code"])
@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_refused_elsewhere_than_on_linux(name: str, platform: str) -> None:
    program = (
        "import sys, urllib.request\n"  # which looks at the platform itself
        f"sys.platform = {platform!r}\n"
        "sys.modules['resource'] = sys.modules['fcntl'] = None\n"
        "from trl_archer.rewards.named import load_rewards\n"
        "load_rewards([{'name': 'countdown'}])\n"
        f"load_rewards([{{'name': {name!r}}}])\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    *_, message = run.stderr.strip().splitlines()
    assert message.startswith(
        f"ValueError: reward_funcs: The rewards `math` and `code` and the sandbox need Linux, but "
        f"this is {platform}. Other rewards do not: "
    )


def test_columns_that_rewards_need(math_module: ModuleType) -> None:
    def own(prompts: Any, completions: Any, level: Any, hint: Any = None, *, source: Any, **kwargs: Any) -> None: ...

    entries = [{"name": "math"}, {"name": "code"}, {"name": "countdown"}, {"name": "code", "scoring": "fraction"}]
    assert needed_columns([*load_rewards(entries), own]) == {
        "solution": "the reward 'math_reward'",
        "tests": "the reward 'code_reward'",
        "level": "the reward 'own'",
        "source": "the reward 'own'",
    }
    assert needed_columns(load_rewards([{"name": "repetition_penalty"}])) == {}
