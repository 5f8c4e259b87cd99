"""Twenty steps of training on the playground, against a committed curve: catches what no unit test looks at.

A change of this curve is a change of numerics. If it is intended, write the file again with
`python -m tests.trainer.test_golden_curve`, and say so in the changelog.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trl_archer.commands.demo import make_trainer

CURVE = Path(__file__).parent / "golden_curve.json"
STEPS = 20
LOGGED = ("loss", "grad_norm", "reward", "entropy", "kl", "clip_ratio/region_mean", "completions/mean_length")
# Another processor or version of torch rounds differently, and a sampled token may flip: compare the start only
NEARBY = {"steps": 3, "rel": 1e-3}


def stack() -> dict[str, str]:
    """What the last bits of a run depend on."""
    return {"torch": torch.__version__.split("+")[0], "cpu": torch.backends.cpu.get_cpu_capability()}


def train(output_dir: str) -> list[dict[str, float]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer = make_trainer(
            "archer",
            steps=STEPS,
            seed=0,
            lora=False,
            output_dir=output_dir,
            logging_steps=1,
            per_device_train_batch_size=16,
            gradient_accumulation_steps=2,
            num_iterations=2,
            beta=0.01,
            delta=4.0,
        )
        trainer.train()
    finally:
        torch.set_num_threads(threads)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [{name: entry[name] for name in LOGGED if name in entry} for entry in steps]


@pytest.mark.training
def test_the_golden_curve(tmp_path: Any) -> None:
    golden = json.loads(CURVE.read_text())
    curve = train(str(tmp_path))
    if golden["stack"] == stack():
        assert curve == golden["curve"]
    else:
        for step in range(NEARBY["steps"]):
            assert curve[step] == pytest.approx(golden["curve"][step], rel=NEARBY["rel"], abs=1e-6)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        CURVE.write_text(json.dumps({"stack": stack(), "curve": train(folder)}, indent=1) + "\n")
