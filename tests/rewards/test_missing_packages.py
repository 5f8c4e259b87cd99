"""What a reward lacks is said when it is imported or named, not at its first call."""

import pytest

from trl_archer.rewards.named import load_rewards


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trl_archer.sandbox.local.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^reward_funcs: .*landlockpy and pyseccomp.*trl-archer\[code\]"):
        load_rewards([{"name": "code"}])
