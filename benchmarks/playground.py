"""Archer and TRL's GRPO on the playground: the demo's run, several seeds each.

python -m benchmarks.playground [--seeds 3]
"""

import argparse
import multiprocessing
from typing import Any

from .environment import save

METHODS = ("archer", "grpo")


def curves(log_history: list[dict[str, Any]]) -> dict[str, list[list[float]]]:
    """Step and value of the logged metrics; a rollout's reward is logged at its first update."""
    return {
        name: [[entry["step"], entry[name]] for entry in log_history if entry.get(name) is not None]
        for name in ("reward", "entropy", "entropy/reasoning", "entropy/knowledge")
    }


def run(job: tuple[str, str, int, dict[str, Any]]) -> dict[str, Any]:
    """One run of the demo with a name, method, seed and other settings, in its own process, on one thread."""
    import torch
    import transformers

    from trl_archer.commands.demo import train_and_measure

    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    name, method, seed, config = job
    result, trainer = train_and_measure(
        method, seed=seed, output_dir=f"runs/benchmark-{name.replace(' ', '_')}-{seed}", logging_steps=1, **config
    )
    result["curves"] = curves(trainer.state.log_history)
    print(f"{name:24} seed {seed}: avg@8 {result['before']['avg_at_k']:.3f} -> {result['after']['avg_at_k']:.3f}")
    return result


def run_all(jobs: list[tuple[str, str, int, dict[str, Any]]], processes: int) -> list[dict[str, Any]]:
    """Results of all runs, in order."""
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        return pool.map(run, jobs, chunksize=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    jobs: list[Any] = [(method, method, seed, {}) for seed in range(args.seeds) for method in METHODS]
    runs = run_all(jobs, args.processes)
    print(f"wrote {save('playground', {'command': 'python -m benchmarks.playground', 'runs': runs})}")


if __name__ == "__main__":
    main()
