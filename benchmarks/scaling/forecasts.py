"""What the models predict: the paper's four sizes on 8 and 16 GPUs, and what gives way on 64 and 512."""

from dataclasses import replace
from math import isfinite
from typing import Any

from .calibration import ANCHORS, fitted_costs
from .costs import Costs
from .generation import decode_step
from .hardware import GPUS
from .memory import estimate
from .setup import ROOT, SHARDING, Setup, gpu_of, read_setup
from .step_time import Load, rollout_seconds

RECIPES = ROOT / "examples" / "recipes"
# Mean lengths that we assume; the middle one of the calibration for the reasoning model
MEAN_LENGTHS = {
    "math_r1_distill_qwen_1.5b": 12000,
    "math_qwen3_4b": 3000,
    "math_qwen3_8b": 3000,
    "math_qwen3_30b_a3b": 3000,
}
ROLLOUTS = ANCHORS["math"][2]
INSIDE = ("tail", "waiting", "traffic")


def recipes() -> dict[str, dict[str, Any]]:
    """Memory of every shipped recipe with the accelerate configuration and the hardware that it names."""
    result = {}
    for path in sorted(RECIPES.glob("*.yaml")):
        if path.stem == "playground":  # runs on a CPU
            continue
        made = estimate(read_setup(path, gpu_of(path)))
        result[path.stem] = {
            "phase": made.phase,
            "parts": made.parts,
            "bytes": made.total,
            "capacity": made.capacity,
            "kv_tokens": made.kv_tokens if isfinite(made.kv_tokens) else None,
            "problem": made.problem,
        }
    return result


def on(setup: Setup, gpus: int) -> Setup:
    """A recipe's set-up on another number of GPUs, with the batch of the paper: smaller micro-batches if need be."""
    per_update = setup.mini_batch * setup.responses
    return replace(setup, gpus=gpus, micro_batch=max(1, min(setup.micro_batch, per_update // gpus)))


def fit_memory(setup: Setup) -> Setup:
    """The set-up, or what has to change for it to fit: vLLM asleep during updates, then states on the host."""
    for sharding in (setup.sharding, SHARDING["zero3_offload"]):
        for sleep in (setup.sleep, True):
            changed = replace(setup, sharding=sharding, sleep=sleep)
            if estimate(changed).problem is None:
                return changed
    return setup


def times(setup: Setup, load: Load) -> dict[str, Any]:
    """Seconds of a rollout with the low, middle and high slowdown, parts for the middle."""
    made = {name: rollout_seconds(setup, costs, load) for name, costs in fitted_costs().items()}
    middle = made["middle"]
    parts = {name: value for name, value in middle.items() if name not in ("total", *INSIDE)}
    return {
        "seconds": {name: one["total"] for name, one in made.items()},
        "parts": parts,
        **{name: middle[name] for name in INSIDE},
    }


def forecasts() -> list[dict[str, Any]]:
    """The paper's sizes on 8 and 16 H800."""
    rows = []
    for name, mean in MEAN_LENGTHS.items():
        recipe = read_setup(RECIPES / f"{name}.yaml", GPUS["h800"])
        for gpus in (8, 16):
            setup = fit_memory(on(recipe, gpus))
            made = estimate(setup)
            rows.append(
                {
                    "model": setup.model.name,
                    "gpus": gpus,
                    "mean": mean,
                    "completion": setup.completion,
                    "sharding": setup.sharding,
                    "sleep": setup.sleep,
                    "bytes": made.total,
                    "problem": made.problem,
                    **times(setup, Load(mean)),
                }
            )
    return rows


def limits() -> list[dict[str, Any]]:
    """The same on 16, 64 and 512 GPUs: with the paper's batch, and with a batch that grows with the GPUs."""
    rows = []
    costs: Costs = fitted_costs()["middle"]
    for name, mean in MEAN_LENGTHS.items():
        recipe = read_setup(RECIPES / f"{name}.yaml", GPUS["h800"])
        base = rollout_seconds(recipe, costs, Load(mean))["total"]
        for gpus, grows in ((16, False), (64, False), (64, True), (512, False), (512, True)):
            factor = gpus // recipe.gpus if grows else 1
            larger = replace(recipe, prompts=recipe.prompts * factor, mini_batch=recipe.mini_batch * factor)
            setup = on(larger, gpus)
            made = rollout_seconds(setup, costs, Load(mean))
            alone = decode_step(setup, costs, 1, setup.completion / 2) * setup.completion * costs.slowdown
            rows.append(
                {
                    "model": setup.model.name,
                    "gpus": gpus,
                    "prompts": setup.prompts,
                    "per_engine": setup.completions * setup.tensor_parallel / gpus,
                    "per_rank_and_update": setup.mini_batch * setup.responses / gpus,
                    "seconds": made["total"],
                    # Completions per second and GPU, beside those of 16 GPUs
                    "efficiency": factor * base * recipe.gpus / (made["total"] * gpus),
                    "longest_alone": alone,
                    "generation": made["generation"] / made["total"],
                    "fixed": (made["the rest"] + made["weight sync"]) / made["total"],
                    **{key: made[key] for key in INSIDE},
                    "text_bytes": setup.completions * mean * 4,  # of all completions, about 4 characters to a token
                }
            )
    return rows
