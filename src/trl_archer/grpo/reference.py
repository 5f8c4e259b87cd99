"""The reference policy: a copy of the policy in memory, checked before the first update."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import Tensor
from trl.trainer import grpo_trainer

from .config import DurableGRPOConfig


@contextmanager
def reference_from_memory(model: Any, args: DurableGRPOConfig, has_new_adapter: bool) -> Iterator[None]:
    """
    Makes TRL copy the reference from a model that was passed as an object.

    TRL loads it by the model's name. That fails for a model without one, and gives another policy if the weights have
    changed since they were loaded, for example by merging an adapter or resizing the embeddings. A model in parts
    (ZeRO-3) cannot be copied. Not reported upstream yet (TRL 1.16).
    """
    is_object = not isinstance(model, str | PeftModel) and not has_new_adapter
    if args.beta == 0 or not is_object or any(hasattr(p, "ds_id") for p in model.parameters()):
        yield
        return
    load = grpo_trainer.create_model_from_path
    grpo_trainer.create_model_from_path = lambda *_, **__: copy.deepcopy(model).eval().requires_grad_(False)
    try:
        yield
    finally:
        grpo_trainer.create_model_from_path = load


def check_reference(
    policy_logps: Tensor, ref_logps: Tensor, mask: Tensor, accelerator: Accelerator, args: DurableGRPOConfig
) -> None:
    """
    Checks that the reference agrees with the policy before the first update.

    Args:
        policy_logps, ref_logps (`Tensor` of shape `(B, T)`): Log-probabilities in nats.
        mask (`Tensor` of shape `(B, T)`): Nonzero where a slot holds a token that counts.

    Raises:
        ValueError: On every rank, if they differ by more than rounding.
    """
    difference = (policy_logps - ref_logps).abs()[mask.bool()].float()
    worst = accelerator.gather(difference.sum() / max(difference.numel(), 1)).max().item()
    limit = 5e-2 if args.bf16 or args.fp16 or args.tf32 or policy_logps.dtype != torch.float32 else 1e-3
    if not worst <= limit:
        raise ValueError(
            f"beta={args.beta}: before the first update, the reference's log-probabilities differ from the policy's "
            f"by {worst:.3g} nats on average; more than {limit} nats is not rounding. The reference is not the policy "
            "that training starts from. This happens if weights were changed after loading (a merged or "
            "data-dependent adapter, such as PiSSA; resized embeddings), or if the policy is compiled with another "
            "precision. Save the changed model with `save_pretrained` and train from that path, or set beta=0.0."
        )
