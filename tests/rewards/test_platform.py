"""What a reward lacks is said when it is imported or named, not at its first call."""

import sys

import pytest

from trl_archer import rewards
from trl_archer.rewards.named import load_rewards


@pytest.mark.parametrize("name", ["code_reward", "get_code_reward", "get_math_reward", "math_reward"])
def test_other_platforms_are_refused_on_import(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ImportError, match=rf"^{name} needs Linux, .* On sys.platform='darwin', use another reward"):
        getattr(rewards, name)
    assert rewards.unscorable_golds  # runs in this process


def test_recipes_are_refused_with_the_same_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ValueError, match=r"^reward_funcs: math_reward needs Linux"):
        load_rewards([{"name": "math"}])


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trl_archer.sandbox.local.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^reward_funcs: .*landlockpy and pyseccomp.*trl-archer\[code\]"):
        load_rewards([{"name": "code"}])
