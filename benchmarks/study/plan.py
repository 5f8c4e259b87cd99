"""What the study runs, in parts for `trl-archer study`: calibration, comparison and sensitivity."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import yaml

from .methods import BATCH_WIDE, MAIN, methods
from .tasks import TASKS, benchmarks, policy, root

CALIBRATION_SEEDS = (100, 101)
SEEDS = {"comparison": 10, "variants": 5, BATCH_WIDE: 5, "higher-rates": 3, "sensitivity": 3}
PARTS = ("calibration", *SEEDS)
COUNTDOWN_ONLY = ("higher-rates", "sensitivity")
LEARNING_RATES = (1e-4, 2e-4, 4e-4)
KL_WEIGHTS = (0.01, 0.05, 0.2)

# Each changes one thing of Archer
SENSITIVITY: dict[str, dict[str, Any]] = {
    "rho-0.6": {"entropy_quantile": 0.6},
    "rho-0.9": {"entropy_quantile": 0.9},
    "range-0.3": {"epsilon_reasoning": 0.3, "epsilon_reasoning_high": 0.3},
    "range-0.8": {"epsilon_reasoning": 0.8, "epsilon_reasoning_high": 0.8},
    **{f"kl-{weight}": {"beta": weight} for weight in (0.001, 0.01, 0.05, 0.2)},
    **{f"kl-on-reasoning-{weight}": {"beta": 0.0, "beta_reasoning": weight} for weight in (0.01, 0.05)},
    "gate-0.3": {"gate_width": 0.3},
    "passes-1": {"num_iterations": 1},
    "passes-6": {"num_iterations": 6},
}

RECIPE: dict[str, Any] = {
    "num_generations": 8,
    "per_device_train_batch_size": 32,
    "steps_per_generation": 4,
    "num_iterations": 3,
    "loss_type": "dapo",
    "lr_scheduler_type": "constant",
    "collapse_action": "none",
    "logging_steps": 4,
    "save_strategy": "no",
    "report_to": "none",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
}


class Part(NamedTuple):
    """Runs of one task: methods times seeds."""

    task: str
    name: str
    methods: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int]
    steps: int
    quick: bool = False

    @property
    def folder(self) -> Path:
        """Where its runs are."""
        return root(self.quick) / "runs" / self.task / self.name

    def write(self) -> Path:
        """Writes the description for `trl-archer study`, and returns its path."""
        task = TASKS[self.task]
        recipe = {
            **RECIPE,
            "model_name_or_path": policy(self.task, self.quick),
            "dataset_name": str(root(self.quick) / "data" / self.task / "train.jsonl"),
            "reward_funcs": [task.verifier],
            "max_completion_length": task.length,
            "max_steps": self.steps,
            "eval_benchmarks": benchmarks(self.task, self.quick),
            "eval_benchmarks_steps": min(self.steps, task.every),
        }
        description = {
            "output_dir": str(self.folder),
            "recipe": str(self.folder / "recipe.yaml"),
            "methods": {name: dict(changes) for name, changes in self.methods.items()},
            "seeds": list(self.seeds),
            "devices": ["cpu", "cpu"],
            "allow_unequal_budget": True,  # for the number of passes; the number and size of updates are equal
        }
        if self.name == BATCH_WIDE:
            description["launcher"] = f"{sys.executable} -m benchmarks.study.batch_wide"
        self.folder.mkdir(parents=True, exist_ok=True)
        for file, content in (("recipe", recipe), ("study", description)):
            (self.folder / f"{file}.yaml").write_text(yaml.dump(content, sort_keys=False))
        return self.folder / "study.yaml"


Run = Callable[[Part], list[dict[str, Any]]]  # runs a part, and returns one row per run
Chosen = Mapping[str, Mapping[str, float]]  # `learning_rate` and `kl` by method


def calibration(task: str, run: Run) -> Chosen:
    """
    Chooses learning rates, and then KL weights, by the validation accuracy at the end of shorter runs with other seeds.

    The warm-start policy is measured first: one update with a learning rate of 0.
    """
    run(Part(task, "warm-start", {"warm-start": {"learning_rate": 0.0}}, (0,), steps=1))
    settings = methods({"grpo-kl": 0.0, "archer": 0.0})
    rates = {
        f"{name} {rate:g}": {**settings[name], "learning_rate": rate}
        for name in ("grpo", "80-20")
        for rate in LEARNING_RATES
    }
    chosen = _best(task, run, "learning-rate", rates, "learning_rate")
    weighted = {weight: methods({"grpo-kl": weight, "archer": weight}) for weight in KL_WEIGHTS}
    weights = {
        f"{name} {weight:g}": {**weighted[weight][name], "learning_rate": chosen["grpo"]}
        for name in ("grpo-kl", "archer")
        for weight in KL_WEIGHTS
    }
    return {"learning_rate": chosen, "kl": _best(task, run, "kl", weights, "beta")}


def _best(task: str, run: Run, part: str, candidates: Mapping[str, Mapping[str, Any]], field: str) -> dict[str, float]:
    """Runs candidates, called `METHOD VALUE`. Returns the value of `field` with the best mean score of each method."""
    scores: dict[str, list[float]] = {}
    for row in run(Part(task, part, candidates, CALIBRATION_SEEDS, TASKS[task].steps // 2)):
        scores.setdefault(row["method"], []).append(row["curves"]["validation avg"][-1])
    ascending = sorted(scores, key=lambda name: fmean(scores[name]))
    return {candidate.split()[0]: candidates[candidate][field] for candidate in ascending}


def compared(task: str, chosen: Chosen) -> Iterator[Part]:
    """The comparison, its variants, and on countdown the sensitivity to settings, two seeds at a time."""
    rate = chosen["learning_rate"]
    entries = {
        name: {**changes, "learning_rate": rate.get(name, rate["grpo"])}
        for name, changes in methods(chosen["kl"]).items()
    }
    parts = {
        "comparison": {name: entries[name] for name in MAIN},
        "variants": {name: changes for name, changes in entries.items() if name not in (*MAIN, BATCH_WIDE)},
        BATCH_WIDE: {BATCH_WIDE: entries[BATCH_WIDE]},
    }
    if task == "countdown":
        parts["higher-rates"] = {
            f"{name} {rate:g}": {**entries[name], "learning_rate": rate}
            for name in ("grpo", "grpo-kl", "archer", "archer-no-kl")
            for rate in LEARNING_RATES[1:]
        }
        parts["sensitivity"] = {name: {**entries["archer"], **changes} for name, changes in SENSITIVITY.items()}
    for name, runs in parts.items():
        for seed in range(0, SEEDS[name], 2):
            steps = TASKS[task].steps // (2 if name == "higher-rates" else 1)
            yield Part(task, name, runs, range(seed, min(seed + 2, SEEDS[name])), steps)
