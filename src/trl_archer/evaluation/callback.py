"""Evaluates on benchmarks while training."""

import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback
from transformers.integrations import is_deepspeed_zero3_enabled
from trl.data_utils import is_conversational

from .benchmarks import Benchmark, LoadedBenchmark, Problem, load_benchmark, verify
from .records import Outcome, ProblemRecord, count_outcomes, summarize
from .report import REPORTS, build_report, write_report
from .trainer_samples import sample_with_trainer

logger = logging.getLogger(__name__)


class EvaluationCallback(TrainerCallback):
    """
    Evaluates the policy on benchmarks while it trains, with its own generation and independently of its rewards.

    It logs, for each benchmark, `eval_NAME/avg@K`, `stderr` (of avg@K, clustered by problem), `pass@K`, `not_scorable`
    and `truncated` (shares of samples) and `mean_length` (tokens); dashboards show them under `eval/NAME/`. It writes
    the counts of each problem to `evaluations/step-N` in `output_dir`, for `trl-archer compare`. Training is the same
    with and without it, bit for bit.

    `metric_for_best_model` accepts these metrics, such as `"aime24/avg@64"`. [`EvaluationCallback.evaluate`] evaluates
    at once, for example before training.

    Example:

    ```python
    trainer = ArcherGRPOTrainer(...)
    evaluation = EvaluationCallback(trainer, ["math500", {"name": "aime24", "k": 8}], every=100)
    trainer.add_callback(evaluation)
    evaluation.evaluate()
    trainer.train()
    ```

    Args:
        trainer ([`~trl.GRPOTrainer`]):
            The trainer.
        benchmarks (`list` of `str`, `dict`, [`Benchmark`] or [`LoadedBenchmark`]):
            Presets, mappings as in [`read_benchmark`], or benchmarks. Completions have at most the trainer's
            `max_completion_length` tokens, for which memory is planned.
        every (`int`, *optional*):
            Number of optimizer steps between evaluations. `None` evaluates together with the trainer
            (`eval_strategy`), which `load_best_model_at_end` needs.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the samples. It is the same at every step, so that steps differ by the policy only.
        system_prompt (`str`, *optional*):
            System message.
        keep_best (`int`, *optional*):
            Number of checkpoints to keep: those with the best `metric_for_best_model`, and in any case the last one.

    Raises:
        ValueError: If a benchmark cannot be loaded, or the settings do not fit the trainer.
    """

    def __init__(
        self,
        trainer: Any,
        benchmarks: Sequence[str | Mapping[str, Any] | Benchmark | LoadedBenchmark],
        every: int | None = None,
        seed: int = 0,
        system_prompt: str | None = None,
        keep_best: int | None = None,
    ):
        self.trainer, self.every, self.seed, self.keep_best = trainer, every, seed, keep_best
        self.system_prompt = system_prompt
        loaded = [entry if isinstance(entry, LoadedBenchmark) else load_benchmark(entry) for entry in benchmarks]
        self.benchmarks = [_capped(entry, trainer.args.max_completion_length) for entry in loaded]
        _check_benchmarks(trainer.args, self.benchmarks, every)
        _check_metric(trainer.args, self.benchmarks, every, keep_best)
        self._is_conversational = is_conversational(next(iter(trainer.train_dataset)))

    def evaluate(self) -> dict[str, float]:
        """
        Evaluates now, on all ranks, logs, and writes the report of the current step.

        Returns:
            `dict[str, float]`: The metrics.

        Raises:
            ValueError: With ZeRO-3 or FSDP before training, because neither has prepared the model yet.
        """
        trainer = self.trainer
        is_sharded = trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled()
        if is_sharded and trainer.model_wrapped is trainer.model:
            raise ValueError(
                "ZeRO-3 and FSDP prepare the model when training starts, so it cannot be evaluated before. Evaluate "
                "the initial model with `trl-archer eval`."
            )
        return self._evaluate(trainer.state)

    def on_step_end(self, args, state, control, **kwargs):
        if self.every is None or state.global_step % self.every:
            return
        metrics = self._evaluate(state)
        key = metric_key(args.metric_for_best_model)
        if key in metrics and self.trainer._determine_best_metric(metrics, trial=None) and args.save_strategy == "best":
            control.should_save = True

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if self.every is None:
            found = self._evaluate(state)
            if metrics is not None:
                metrics.update(found)  # the trainer looks for its best metric there

    def on_save(self, args, state, control, **kwargs):
        if self.keep_best is not None and args.should_save:
            _delete_worse(Path(args.output_dir), state, args, self.keep_best)

    def _evaluate(self, state) -> dict[str, float]:
        """Evaluates on all benchmarks, logs, and returns the metrics."""
        metrics: dict[str, float] = {}
        results = []
        for loaded in self.benchmarks:
            records = self._count(loaded)
            results.append((loaded, records))
            metrics.update(_metrics(loaded.benchmark, records))
        if state.is_world_process_zero:
            settings = {"model": self.trainer.args.output_dir, "step": state.global_step, "seed": self.seed}
            try:
                folder = Path(self.trainer.args.output_dir) / REPORTS / f"step-{state.global_step:06d}"
                write_report(build_report(settings, results), folder)
            except (OSError, ValueError) as error:  # training is worth more than a report
                logger.warning("The report of step %d was not written: %s", state.global_step, error)
        should_log = self.trainer.control.should_log
        Trainer.log(self.trainer, dict(metrics))  # TRL's own `log` would add the pending metrics of training
        self.trainer.control.should_log = should_log  # logging resets it, and training may have metrics to log
        return metrics

    def _count(self, loaded: LoadedBenchmark) -> list[ProblemRecord]:
        """Counts of each problem; every rank has the same result."""
        args, problems = self.trainer.args, loaded.problems
        rank, ranks = args.process_index, args.world_size
        padded = [*problems, *[problems[-1]] * (-len(problems) % ranks)]  # ranks generate in step
        own = padded[rank::ranks]
        sampled = sample_with_trainer(
            self.trainer, loaded.benchmark, own, [self._prompt(problem) for problem in own], self.seed
        )
        sampled = sampled[: len(problems[rank::ranks]) * loaded.benchmark.k]
        outcomes: list[Any] = []
        if sampled:
            try:
                completions = [row.completion for row in sampled]
                rewards = verify(loaded.benchmark.load_verifier(), [row.problem for row in sampled], completions)
                outcomes = [
                    tuple(Outcome(row.problem.id, reward, row.truncated, row.tokens))
                    for row, reward in zip(sampled, rewards, strict=True)
                ]
            except Exception as error:  # on every rank, or the others would wait
                outcomes = [f"{type(error).__name__}: {error}"]
        gathered = gather_object(outcomes)
        failure = next((entry for entry in gathered if isinstance(entry, str)), None)
        if failure is not None:
            raise RuntimeError(f"{loaded.benchmark.name}: the verifier {loaded.benchmark.verifier!r} failed: {failure}")
        order = {problem.id: index for index, problem in enumerate(problems)}
        return sorted(count_outcomes(Outcome(*entry) for entry in gathered), key=lambda record: order[record.id])

    def _prompt(self, problem: Problem) -> Any:
        if not self._is_conversational:
            return f"{self.system_prompt}\n\n{problem.prompt}" if self.system_prompt else problem.prompt
        system = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        return [*system, {"role": "user", "content": problem.prompt}]


def _capped(loaded: LoadedBenchmark, longest: int) -> LoadedBenchmark:
    tokens = min(loaded.benchmark.max_new_tokens, longest)
    return replace(loaded, benchmark=replace(loaded.benchmark, max_new_tokens=tokens))


def metric_key(metric: str | None) -> str:
    """The name of a metric as it is logged, with `eval_`."""
    return f"eval_{(metric or '').removeprefix('eval_')}"


def _metrics(benchmark: Benchmark, records: Sequence[ProblemRecord]) -> dict[str, float]:
    prefix, samples = f"eval_{benchmark.name}", sum(record.samples for record in records)
    found = {
        f"{prefix}/not_scorable": sum(record.not_scorable for record in records) / samples,
        f"{prefix}/truncated": sum(record.truncated for record in records) / samples,
        f"{prefix}/mean_length": sum(record.tokens for record in records) / samples,
    }
    if any(record.scored for record in records):
        summary = summarize(records)
        avg = summary["avg"]
        found[f"{prefix}/avg@{benchmark.k}"] = avg.value
        if avg.stderr is not None:
            found[f"{prefix}/stderr"] = avg.stderr
        if benchmark.k in summary["pass_at"]:
            found[f"{prefix}/pass@{benchmark.k}"] = summary["pass_at"][benchmark.k].value
    return found


def _check_benchmarks(args: Any, benchmarks: Sequence[LoadedBenchmark], every: int | None) -> None:
    names = [loaded.benchmark.name for loaded in benchmarks]
    if not names:
        raise ValueError("benchmarks=[] is empty. Name at least one, such as 'math500'.")
    if len(set(names)) < len(names):
        raise ValueError(f"benchmarks has a name twice: {', '.join(names)}. Give each one its own name.")
    if every is not None and every < 1:
        raise ValueError(f"every={every} is below 1. Use a number of optimizer steps.")
    if every is None and args.eval_strategy == "no":
        raise ValueError("every=None evaluates together with the trainer, but eval_strategy='no'. Set every, or both.")


def _check_metric(args: Any, benchmarks: Sequence[LoadedBenchmark], every: int | None, keep_best: int | None) -> None:
    metric = args.metric_for_best_model
    ours = [f"{loaded.benchmark.name}/{name}@{loaded.benchmark.k}" for loaded in benchmarks for name in ("avg", "pass")]
    if metric is None:
        if keep_best is not None:
            raise ValueError(f"keep_best={keep_best} needs metric_for_best_model, such as {ours[0]!r}.")
        return
    name = metric.removeprefix("eval_")
    if "/" in name and name.split("/")[0] in {entry.split("/")[0] for entry in ours} and name not in ours:
        raise ValueError(f"metric_for_best_model={metric!r} is not logged. Use one of {', '.join(ours)}.")
    if name in ours and args.greater_is_better is False:
        raise ValueError(f"greater_is_better=False, but {metric!r} is an accuracy. Set it to True.")
    if name in ours and every is not None and args.eval_strategy != "no":
        raise ValueError(
            f"metric_for_best_model={metric!r} and eval_strategy={args.eval_strategy!r}: the trainer looks for it "
            "whenever it evaluates itself. Set every to None, so that both evaluate together."
        )
    if keep_best is None:
        return
    if keep_best < 1 or args.save_total_limit is not None:
        raise ValueError(
            f"keep_best={keep_best} with save_total_limit={args.save_total_limit}: keep_best is at least 1, and "
            "replaces save_total_limit."
        )


def _delete_worse(run: Path, state: Any, args: Any, keep: int) -> None:
    """Deletes checkpoints that are neither among the best, nor the last one."""
    key = metric_key(args.metric_for_best_model)
    values = {row["step"]: row[key] for row in state.log_history if key in row}
    sign = 1 if args.greater_is_better else -1
    found = {int(path.name.split("-")[1]): path for path in run.glob("checkpoint-*") if re.search(r"-\d+$", path.name)}
    best = sorted((step for step in found if step in values), key=lambda step: (sign * values[step], step))[-keep:]
    for step, path in found.items():
        if step not in (*best, max(found)):
            shutil.rmtree(path, ignore_errors=True)
