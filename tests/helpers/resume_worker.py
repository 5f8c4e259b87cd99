"""A run in a process of its own, which may be killed at a chosen moment and resumed by another."""

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from transformers import TrainerCallback

import trl_archer.grpo.trainer
from trl_archer.grpo.progress import PROGRESS
from trl_archer.grpo.saving import CheckpointSaver

from .tiny import make_trainer

LORA = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", lora_dropout=0.0)
TIMINGS = ("time", "runtime", "per_second", "flos")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KillAfter(TrainerCallback):
    """SIGKILL at the end of an optimizer step, or after some micro-batches of the next."""

    def __init__(self, step: int, micro_batches: int = 0):
        self.step = step
        self.micro_batches = micro_batches

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step and self.micro_batches == 0:
            die()

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.micro_batches -= state.global_step == self.step
        if state.global_step == self.step and self.micro_batches == 0:
            die()


def kill_while_saving(step: int, before: str) -> None:
    """SIGKILL in the checkpoint of a step: after half of the file `progress`, or before `manifest` or `state`."""
    save_progress, write_manifest = trl_archer.grpo.trainer.save_progress, CheckpointSaver.write_manifest

    def progress(state: Any, folder: Any, args: Any) -> None:
        save_progress(state, folder, args)
        if is_due(folder) and before == "progress":
            path = next(Path(folder).glob(f"{PROGRESS}*"))
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            die()

    def manifest(saver: CheckpointSaver, folder: Any) -> None:
        if is_due(folder) and before == "manifest":
            die()
        write_manifest(saver, folder)
        if is_due(folder) and before == "state":
            die()

    def is_due(folder: Any) -> bool:
        return Path(folder).name == f"checkpoint-{step}"

    trl_archer.grpo.trainer.save_progress, CheckpointSaver.write_manifest = progress, manifest


def train(
    model_path: str,
    output: str,
    options: dict[str, Any],
    lora: bool = False,
    resume: bool | str = False,
    kill: tuple[int, int] | None = None,
    kill_saving: tuple[int, str] | None = None,
) -> None:
    """Trains and writes weights, logs and the state of the random generators to `result.pt`."""
    torch.set_num_threads(1)
    if kill_saving is not None:
        kill_while_saving(*kill_saving)
    trainer = make_trainer(
        model_path,
        Path(output),
        trainer_kwargs={
            "peft_config": LORA if lora else None,
            "callbacks": [] if kill is None else [KillAfter(*kill)],
        },
        **{"learning_rate": 1e-2, "beta": 0.05, "save_steps": 1, "per_device_train_batch_size": 4, **options},
    )
    trainer.train(resume_from_checkpoint=resume)
    history = [{k: v for k, v in entry.items() if not k.endswith(TIMINGS)} for entry in trainer.state.log_history]
    result = {
        "weights": {name: p.detach().clone() for name, p in trainer.model.named_parameters()},
        "history": history,
        "global_step": trainer.state.global_step,
        "tokens": trainer.state.num_input_tokens_seen,
        "random": (random.random(), float(np.random.rand()), torch.rand(3).tolist()),
    }
    torch.save(result, Path(output) / "result.pt")


def in_a_process(function: Callable[..., None], *args: Any, **kwargs: Any) -> int:
    """Exit code of a call in a new process; negative is the signal that ended it."""
    context = multiprocessing.get_context("forkserver")  # forks from a process that has imported, but not trained
    context.set_forkserver_preload([__name__])
    process = context.Process(target=function, args=args, kwargs=kwargs)
    process.start()
    process.join(timeout=120)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode
