"""One readable line per log, instead of a dictionary of all metrics."""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

# Metric of a log, its name and its format on the console
_SHOWN = (
    ("reward", "reward", ".3f"),
    ("entropy", "entropy", ".3f"),
    ("entropy/reasoning", "reasoning", ".3f"),
    ("kl", "KL", ".4f"),
    ("completions/mean_length", "length", ".0f"),
    ("completions/clipped_ratio", "truncated", ".0%"),
    ("clip_ratio/region_mean", "clipped", ".1%"),
    ("grad_norm", "grad", ".2g"),
)
_NO_SIGNAL = (
    "All groups have equal rewards (mean {reward:.3g}), so nothing was learned from them. If the reward is 0, the "
    "problems are too hard, max_completion_length is too short, or the reward does not find the answers; "
    "log_completions shows what it sees. If it is 1, the problems are too easy. This message appears once."
)


class ConsoleLog(TrainerCallback):
    """
    Prints one line per log: step, reward, entropy, KL, length, and the time that remains.

    It also says once if all groups have equal rewards, in which case there is nothing to learn from. All metrics remain
    in the `trainer_state.json` of each checkpoint and in the trackers of `report_to`. [`ConsoleLog.attach`] replaces
    the callbacks of transformers that print to the console.

    Args:
        every (`int`, *optional*, defaults to `1`):
            Prints only logs at multiples of this number of steps.
        times (`bool`, *optional*, defaults to `True`):
            Whether to print seconds per step and the time that remains.

    Example:

    ```python
    ConsoleLog.attach(trainer)
    trainer.train()
    ```
    """

    def __init__(self, every: int = 1, times: bool = True) -> None:
        self._every, self._times = every, times
        self._start: tuple[float, int] | None = None
        self._warned = False

    @classmethod
    def attach(cls, trainer: Any, **options: Any) -> "ConsoleLog":
        """Adds the callback to a trainer, and removes those that print logs as dictionaries. Takes the same options."""
        for printer in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(printer)
        console = cls(**options)
        trainer.add_callback(console)
        return console

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._start = time.perf_counter(), state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if logs is None or not state.is_world_process_zero:
            return
        if "train_runtime" in logs:
            if self._times:
                print(f"Trained {state.global_step} steps in {_duration(logs['train_runtime'])}.", flush=True)
            return
        prefix = "eval_" if any(name.startswith("eval_") for name in logs) else ""
        values = [
            f"{title} {value:{form}}"
            for name, title, form in _SHOWN
            if isinstance(value := logs.get(prefix + name), int | float)
        ]
        if not prefix and "reward" not in logs and "loss" in logs:
            values.insert(0, "reward -")  # it is logged once per rollout
        step = f"step {state.global_step:>{len(str(state.max_steps))}}/{state.max_steps}"
        if not state.max_steps:
            step = "before training"
        if prefix:
            values += _benchmarks(logs)
        line = [step, *(["evaluation"] if prefix else []), *values, *([] if prefix else self._pace(state))]
        if prefix or state.global_step % self._every == 0:
            print("   ".join(line), flush=True)
        if logs.get("frac_reward_zero_std") == 1 and not self._warned:
            self._warned = True
            print(_NO_SIGNAL.format(reward=logs.get("reward", float("nan"))), flush=True)

    def _pace(self, state: Any) -> list[str]:
        if not self._times or self._start is None or state.global_step <= self._start[1]:
            return []
        seconds = (time.perf_counter() - self._start[0]) / (state.global_step - self._start[1])
        return [f"{seconds:.3g} s/step", f"{_duration(seconds * (state.max_steps - state.global_step))} left"]


def _benchmarks(logs: Mapping[str, Any]) -> Iterator[str]:
    """Yields accuracy, standard error and pass@K of each benchmark in a log."""
    for key, value in logs.items():
        if found := re.fullmatch(r"eval_(.+)/avg@(\d+)", key):
            name, k = found.groups()
            error, passed = (logs.get(f"eval_{name}/{metric}") for metric in ("stderr", f"pass@{k}"))
            yield f"{name} avg@{k} {value:.3f}" + ("" if error is None else f" ± {error:.3f}")
            if passed is not None and k != "1":
                yield f"pass@{k} {passed:.3f}"


def _duration(seconds: float) -> str:
    """Formats a duration as `45 s`, `12 min` or `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
