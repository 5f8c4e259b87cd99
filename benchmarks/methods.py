"""Every preset of `trl-archer train`: cost of its loss beside Archer's, and 60 steps on the playground.

python -m benchmarks.methods [--parts time,learning] [--seeds 3]

Time is the median, over rounds, of the ratio to Archer's loss in the same round. The runs take one pass over each
rollout in four updates; OPEFO takes fresh rollouts, as it requires.
"""

import argparse
import statistics
from typing import Any

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer
from trl_archer.commands.train.presets import PRESETS

from .compute_loss import SHAPES, Variants, alternate, make_steps
from .environment import RESULTS, load, save
from .playground import run_all

ON_POLICY = {"opefo": {"steps_per_generation": 1}}


def without_passes(name: str) -> dict[str, Any]:
    """The preset's objective, with one pass over a rollout."""
    return {**PRESETS[name].values, "num_iterations": 1}


def time_ratios(rounds: int) -> dict[str, dict[str, Any]]:
    """Seconds of loss and backward pass, over those of Archer, with a reference for all."""
    reference = {"beta": 0.001, "num_iterations": 2}
    variants: Variants = {}
    for name, preset in PRESETS.items():
        if preset.method == "archer":
            own = {"opefo_off_policy": True} if name == "opefo" else {}
            variants[name] = (ArcherGRPOTrainer, ArcherGRPOConfig, {**preset.values, **reference, **own})
    ratios: dict[str, dict[str, Any]] = {name: {} for name in variants}
    for shape, sizes in SHAPES.items():
        times = alternate(make_steps(sizes, variants), rounds)
        for name in variants:
            low, median, high = statistics.quantiles(
                [a / b for a, b in zip(times[name], times["archer"], strict=True)], n=4
            )
            ratios[name][shape] = {"time_ratio": median, "quartiles": [low, high]}
            print(f"{name:10} {shape:6} time x{median:.3f} ({low:.3f} to {high:.3f})")
    return ratios


def learn(seeds: int, steps: int, problems: int, processes: int) -> list[dict[str, Any]]:
    """Runs of each preset on the playground, before and after."""
    jobs: list[Any] = []
    for seed in range(seeds):
        for name, preset in PRESETS.items():
            config = {**without_passes(name), "steps": steps, "problems": problems, **ON_POLICY.get(name, {})}
            jobs.append((name, preset.method, seed, config))
    runs = run_all(jobs, processes)
    return [
        {"preset": name, "seed": seed, "before": run["before"], "after": run["after"]}
        for (name, _, seed, _), run in zip(jobs, runs, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="time,learning")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--problems", type=int, default=256)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    result = load("methods") if (RESULTS / "methods.json").is_file() else {}
    if "time" in args.parts:
        result["time"] = time_ratios(args.rounds)
    if "learning" in args.parts:
        result["runs"] = learn(args.seeds, args.steps, args.problems, args.processes)
        result["steps"], result["problems"] = args.steps, args.problems
    result.pop("environment", None)
    print(f"wrote {save('methods', {**result, 'command': 'python -m benchmarks.methods'})}")


if __name__ == "__main__":
    main()
