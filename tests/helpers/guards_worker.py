"""One rank of a test of guards: `accelerate launch ... tests/helpers/guards_worker.py MODEL OUTPUT BACKEND`."""

import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainerCallback, set_seed

import trl_archer.grpo.trainer
from tests.helpers.backends import BACKENDS, local_share, without_gpu
from tests.helpers.tiny import TOKENIZER, make_trainer
from trl_archer.grpo.checkpoints import why_incomplete
from trl_archer.records import read_token_records

Options = dict[str, Any]


def outcome(call: Callable[[], Any]) -> dict[str, str]:
    try:
        call()
    except Exception as error:
        return {"type": type(error).__name__, "text": str(error)}
    return {"type": "none", "text": ""}


def failing_reward(model_path: str, output: Path, kind: str, options: Options) -> dict[str, str]:
    """A reward that raises on the second rank only."""

    def judge(completions: list[str], **kwargs: Any) -> list[float]:
        if PartialState().process_index == 1:
            raise LookupError("the judge is out")
        return [float(len(completion)) for completion in completions]

    async def async_judge(completions: list[str], **kwargs: Any) -> list[float]:
        return judge(completions)

    async_judge.__name__ = "judge"

    class Model(torch.nn.Module):
        config = type("Config", (), {"_name_or_path": "judge"})()

        def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:
            return type("Output", (), {"logits": torch.tensor([judge([""] * len(input_ids))]).T})()

    reward = {"function": judge, "async": async_judge, "model": Model()}[kind]
    trainer = make_trainer(
        model_path,
        output,
        reward_funcs=reward,
        num_iterations=2,
        trainer_kwargs={"reward_processing_classes": TOKENIZER} if kind == "model" else None,
        **options,
    )
    return outcome(trainer.train)


class Watch(TrainerCallback):
    """Notes steps that left the weights alone, and may stop at one."""

    def __init__(self, stop_after: int | None = None):
        self.stop_after = stop_after
        self.unchanged: list[int] = []
        self.weights: torch.Tensor | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        weights = flat(model)
        if self.weights is not None and torch.equal(weights, self.weights):
            self.unchanged.append(state.global_step)
        self.weights = weights
        control.should_training_stop |= state.global_step == self.stop_after


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([local_share(p).detach().flatten().clone() for p in model.parameters()])


def bad_numbers(model_path: str, output: Path, what: str, options: Options) -> dict[str, Any]:
    """The second rank's loss, or gradient, is not finite in the second step."""
    watch = Watch()
    trainer = make_trainer(
        model_path, output, num_iterations=2, max_steps=4, learning_rate=1e-2, save_strategy="no",
        token_records_steps=3, trainer_kwargs={"callbacks": [watch]}, **options,
    )  # fmt: skip
    spoil_on_second_rank(trainer, what, {1})
    trainer.train()
    logs = [{k: v for k, v in e.items() if "time" not in k} for e in trainer.state.log_history if "loss" in e]
    PartialState().wait_for_everyone()
    records = read_token_records(output / "out" / "token_records", step=3)
    return {
        "num_processes": trainer.accelerator.num_processes,
        "type": trainer.accelerator.distributed_type.value,
        "logs": logs,
        "unchanged": watch.unchanged,
        "is_finite": flat(trainer.model).isfinite().all().item(),
        "recorded_ranks": sorted({record.rank for record in records.completions}),
    }


def without_signal(model_path: str, output: Path, options: Options) -> dict[str, Any]:
    """All rewards of the second of three rollouts are equal, on both ranks."""
    watch, calls = Watch(), iter(range(100))

    def reward(completions: list[str], **kwargs: Any) -> list[float]:
        has_signal = next(calls) != 1
        return [float(index % 2 and has_signal) for index in range(len(completions))]

    trainer = make_trainer(
        model_path, output, reward_funcs=reward, max_steps=3, learning_rate=1e-2, weight_decay=0.1,
        save_strategy="no", trainer_kwargs={"callbacks": [watch]}, **options,
    )  # fmt: skip
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {"unchanged": watch.unchanged, **{n: [e[n] for e in logs] for n in ("empty_updates", "skipped_updates")}}


def spoil_on_second_rank(trainer: Any, what: str, steps: set[int]) -> None:
    compute_loss, rank = trainer.compute_loss, trainer.accelerator.process_index

    def compute_badly(*args: Any, **kwargs: Any) -> torch.Tensor:
        loss = compute_loss(*args, **kwargs)
        if rank == 1 and trainer.state.global_step in steps:
            if what == "loss":
                return loss + torch.inf
            loss.register_hook(lambda gradient: gradient * torch.nan)
        return loss

    trainer.compute_loss = compute_badly


def stopped(model_path: str, output: Path, options: Options) -> dict[str, Any]:
    """The second rank's loss is infinite in the first two steps, which is as often as is allowed."""
    trainer = make_trainer(model_path, output, num_iterations=2, max_skipped_updates=2, **options)
    spoil_on_second_rank(trainer, "loss", {0, 1})
    error = outcome(trainer.train)
    dump = torch.load(error["text"].split(" batch is in ")[1].split(": load")[0], weights_only=True)
    return {**error, "dump": {"step": dump["step"], "rows": [len(batch["rewards"]) for batch in dump["micro_batches"]]}}


def run(model_path: str, output: Path, stop_after: int | None = None, resume: bool = False) -> dict[str, Any]:
    trainer = make_trainer(
        model_path, output, num_iterations=3, max_steps=6, save_steps=2, logging_steps=3, learning_rate=1e-2,
        per_device_train_batch_size=4, trainer_kwargs={"callbacks": [Watch(stop_after)]},
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    history = [{k: v for k, v in e.items() if "time" not in k} for e in trainer.state.log_history if "loss" in e]
    return {"weights": flat(trainer.model).tolist(), "history": history}


class Terminate(TrainerCallback):
    """SIGTERM to the second rank in the middle of its third step."""

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2 and PartialState().process_index == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def terminated(model_path: str, output: Path, options: Options) -> dict[str, Any]:
    """A run that is told to end, and what resumes it, beside one that is left alone."""

    def trainer_in(folder: str, *callbacks: TrainerCallback) -> Any:
        set_seed(0)
        return make_trainer(
            model_path, output / folder, num_iterations=2, gradient_accumulation_steps=2, steps_per_generation=4,
            per_device_train_batch_size=4, max_steps=5, save_strategy="no", learning_rate=1e-2,
            enable_jit_checkpoint=True, trainer_kwargs={"callbacks": list(callbacks)}, **options,
        )  # fmt: skip

    undisturbed = trainer_in("undisturbed")
    undisturbed.train()
    told = trainer_in("told", Terminate())
    told.train()
    PartialState().wait_for_everyone()
    folders = sorted((output / "told" / "out").glob("checkpoint-*"))
    resumed = trainer_in("told")
    resumed.train(resume_from_checkpoint=True)
    return {
        "checkpoints": [folder.name for folder in folders],
        "incomplete": [why_incomplete(folder) for folder in folders],
        "same": torch.equal(flat(resumed.model), flat(undisturbed.model)),
        "steps": [trainer.state.global_step for trainer in (told, resumed)],
        "handler": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
    }


def full_disk(model_path: str, output: Path, failing: int, options: Options) -> dict[str, Any]:
    """The disk is full for one rank, once."""
    rank, save, failed = PartialState().process_index, trl_archer.grpo.trainer.save_progress, []

    def save_progress(state: Any, folder: Any, args: Any) -> None:
        if Path(folder).name == "checkpoint-1" and rank == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(state, folder, args)

    class Note(TrainerCallback):
        def on_save(self, *args: Any, **kwargs: Any) -> None:
            failed.append(trainer._saver._failed_in_a_row)

    trl_archer.grpo.trainer.save_progress = save_progress
    trainer = make_trainer(
        model_path, output, num_iterations=2, max_steps=2, save_steps=1, trainer_kwargs={"callbacks": [Note()]},
        **options,
    )  # fmt: skip
    trainer.train()
    trl_archer.grpo.trainer.save_progress = save
    PartialState().wait_for_everyone()
    folders = sorted((output / "out").glob("checkpoint-*"))
    return {
        "failed_saves": failed,
        "checkpoints": [folder.name for folder in folders],
        "incomplete": why_incomplete(folders[-1]),
    }


def main() -> None:
    model_path, output, backend = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    without_gpu(backend)
    options = dict(BACKENDS[backend].arguments)
    if backend != "ddp":
        options["bf16"] = True  # the precision of the configurations, and a matter of its own to DeepSpeed
    results: dict[str, Any] = {}
    for kind in ("function", "async", "model") if backend == "ddp" else ("function",):
        results[f"reward {kind}"] = failing_reward(model_path, output / kind, kind, options)
    for what in ("loss", "gradient"):
        results[f"bad {what}"] = bad_numbers(model_path, output / what, what, options)
    results["without signal"] = without_signal(model_path, output / "equal", options)
    results["stopped"] = stopped(model_path, output / "stopped", options)
    if backend == "ddp":
        results["undisturbed"] = run(model_path, output / "undisturbed")
        run(model_path, output / "resumed", stop_after=4)
        results["resumed"] = run(model_path, output / "resumed", resume=True)
    results["terminated"] = terminated(model_path, output / "terminated", options)
    for failing in (0, 1):
        results[f"disk {failing}"] = full_disk(model_path, output / f"disk{failing}", failing, options)
    (output / f"rank{PartialState().process_index}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
