"""Records what the objective saw of each token of an update, for figures and the token view."""

import logging
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from ..config import ArcherGRPOConfig
from ..objective import ArcherTokenLoss
from .parquet import FOLDER, CompletionRecord, write_token_records

logger = logging.getLogger(__name__)


class TokenRecorder:
    """
    Collects the completions of one optimizer step on this rank, and writes those of all ranks to one file.

    Args:
        args ([`ArcherGRPOConfig`]): Configuration; files go to `token_records` in its output directory.
        decode (`Callable`): Returns the text of a list of token ids, special tokens included.
    """

    def __init__(self, args: ArcherGRPOConfig, decode: Callable[[list[int]], str]):
        self._folder = Path(args.output_dir) / FOLDER
        names = ("loss_type", "temperature", "surrogate", "clip_range", "token_weights")
        self._settings = {**asdict(args.constraints), **{name: getattr(args, name) for name in names}}
        self._decode = decode
        self._rank = args.process_index
        self._every = args.token_records_steps or 0
        self._rows: list[CompletionRecord] = []
        self._pieces: dict[int, str] = {}

    def record(
        self,
        accelerator: Accelerator,
        step: int,
        inputs: dict[str, Any],
        mask: Tensor,
        per_token_logps: Tensor,
        entropies: Tensor,
        pieces: ArcherTokenLoss,
    ) -> None:
        """
        Records a micro-batch if its step is to be recorded, and writes the file after the last one of the step. Steps
        count from 1. `inputs` has `rewards` of shape `(B,)`, NaN where not scorable.
        """
        if step % self._every:
            return
        columns = {
            "entropies": entropies,
            "per_token_logps": per_token_logps,
            "old_per_token_logps": inputs.get("old_per_token_logps", per_token_logps),  # absent when on-policy
            "ref_per_token_logps": inputs.get("ref_per_token_logps"),
            "gate": pieces.gate,
            "mask": mask.bool(),
            "clipped_low": pieces.clipped_low,
            "clipped_high": pieces.clipped_high,
        }
        arrays = {name: _to_numpy(value) for name, value in columns.items() if value is not None}
        prompts, prompt_mask = inputs["prompt_ids"], inputs["prompt_mask"].bool()
        ids, real = _to_numpy(inputs["completion_ids"]), _to_numpy(inputs["completion_mask"].bool())
        for row in np.flatnonzero(real.any(axis=1)):  # a placeholder has no token
            tokens = ids[row][real[row]]
            reward = inputs["rewards"][row].item()
            per_token: dict[str, Any] = {name: array[row][real[row]] for name, array in arrays.items()}
            self._rows.append(
                CompletionRecord(
                    step=step,
                    rank=self._rank,
                    row=len(self._rows),
                    prompt=self._decode(prompts[row][prompt_mask[row]].tolist()),
                    completion=self._decode(tokens.tolist()),
                    token_ids=tokens,
                    tokens=[self._piece(token) for token in tokens.tolist()],
                    reward=None if math.isnan(reward) else reward,
                    advantage=inputs["advantages"][row].mean().item(),
                    entropy_threshold=pieces.entropy_threshold[row].item(),
                    **per_token,
                )
            )
        if accelerator.sync_gradients:
            self._write(step, accelerator)

    def _piece(self, token: int) -> str:
        """Text of a token inside a text. Decoded alone, it may lack the space before it."""
        if token not in self._pieces:
            first, both = self._decode([token]), self._decode([token, token])
            self._pieces[token] = both[len(first) :] if both.startswith(first) else first
        return self._pieces[token]

    def _write(self, step: int, accelerator: Accelerator) -> None:
        rows = gather_object(self._rows)
        self._rows = []
        if accelerator.is_main_process and rows:
            try:
                write_token_records(self._folder, rows, self._settings)
            except OSError as error:  # on this rank only; the others must not wait for it
                logger.warning("The token records of step %d could not be written: %s", step, error)


def _to_numpy(tensor: Tensor) -> Any:
    return tensor.detach().cpu().float().numpy() if tensor.is_floating_point() else tensor.detach().cpu().numpy()
