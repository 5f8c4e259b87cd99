"""The one public anchor of the cost model: what the paper's two runs took, in GPU hours."""

import statistics
from dataclasses import replace

from .costs import Costs
from .hardware import GPUS
from .setup import ROOT, read_setup
from .step_time import Load, rollout_seconds

# Wang et al. 2025: GPU hours and rollouts on 2 nodes of 8 H800. That the hours hold for the model of 1.5B, and hold
# nothing but training, is our reading. It used verl, not TRL
ANCHORS = {
    "math": ("math_r1_distill_qwen_1.5b", 1900, 520),
    "code": ("code_r1_distill_qwen_1.5b", 1000, 320),
}
MEANS = (8000, 12000, 16000)  # mean lengths of a response that we take for possible; the paper gives none

EFFICIENCIES = ((0.25, 0.6), (0.35, 0.6), (0.4, 0.6), (0.35, 0.4), (0.35, 0.8))  # MFU, share of the memory bandwidth


def paper_seconds(reward: str) -> float:
    """Seconds of a rollout in the paper, on 16 GPUs."""
    _, hours, rollouts = ANCHORS[reward]
    return hours * 3600 / rollouts / 16


def fit(reward: str, mean: float) -> float:
    """The slowdown with which the model takes as long as the paper, at a mean length of the responses."""
    setup = read_setup(ROOT / "examples" / "recipes" / f"{ANCHORS[reward][0]}.yaml", GPUS["h800"])
    parts = rollout_seconds(setup, Costs(), Load(mean, reward=reward))
    elsewhere = parts["rewards"] + parts["the rest"]
    return (paper_seconds(reward) - elsewhere) / (parts["total"] - elsewhere)


def slowdowns() -> dict[int, float]:
    """By mean length, the geometric mean of the fits to both runs."""
    return {mean: statistics.geometric_mean([fit(reward, mean) for reward in ANCHORS]) for mean in MEANS}


def fitted_costs() -> dict[str, Costs]:
    """Assumptions with the slowdown of the longest, the middle and the shortest of `MEANS`."""
    fits = slowdowns()
    names = dict(zip(("high", "middle", "low"), MEANS, strict=True))
    return {name: replace(Costs(), slowdown=fits[mean]) for name, mean in names.items()}


def sensitivity() -> list[dict[str, float]]:
    """Seconds of a math rollout of the paper's model, without slowdown, over what is not known."""
    setup = read_setup(ROOT / "examples" / "recipes" / f"{ANCHORS['math'][0]}.yaml", GPUS["h800"])
    return [
        {
            "mean": mean,
            "mfu": mfu,
            "bandwidth_share": share,
            "seconds": rollout_seconds(setup, Costs(mfu=mfu, bandwidth_share=share), Load(mean))["total"],
        }
        for mean in (4000, *MEANS)
        for mfu, share in EFFICIENCIES
    ]
