"""Checks that padding on the left does not change a model's log-probabilities, so that it can be removed."""

from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.nn.functional import pad

# Normalize rotated queries and keys with learned weights, so that positions are absolute once these are trained
_NORM_AFTER_ROPE = {"hunyuan_v1_dense", "hunyuan_v1_moe"}
_REMEDY = "Set remove_padding=False to train in TRL's layout."


def check_positions(model: nn.Module, is_sharded: bool) -> None:
    """
    Checks that a model's positions are relative. Rotary ones are; other kinds are measured on a short sequence.

    Args:
        model (`nn.Module`): Policy, before it is wrapped for distributed training.
        is_sharded (`bool`): Whether other processes hold parts of its weights, so that it cannot run alone.

    Raises:
        ValueError: If positions are absolute, or cannot be measured.
    """
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        raise ValueError(
            f"remove_padding=True with {type(model.active_peft_config).__name__}: its virtual tokens come before the "
            f"padding, so padding separates them from the prompt. {_REMEDY}"
        )
    config: Any = model.config.get_text_config()  # type: ignore[union-attr, operator]
    if _is_rotary(config):
        return
    if is_sharded:
        raise ValueError(
            f"remove_padding=True: the position embeddings of model_type={config.model_type!r} are not rotary, and "
            f"sharded weights do not allow to measure whether they are relative. {_REMEDY}"
        )
    difference, rounding = _effect_of_left_padding(model, config)
    limit = max(1e-3, 10 * rounding)
    if not difference <= limit:
        raise ValueError(
            f"remove_padding=True: padding on the left changes the log-probabilities of model_type="
            f"{config.model_type!r} by {difference:.3g} nats on average, more than rounding does ({limit:.1g} nats). "
            f"Its positions are absolute. {_REMEDY}"
        )


def _is_rotary(config: Any) -> bool:
    layers = getattr(config, "layer_types", None) or ()
    attends = all(kind.endswith("attention") and not kind.startswith("linear") for kind in layers)
    return bool(getattr(config, "rope_parameters", None)) and attends and config.model_type not in _NORM_AFTER_ROPE


@torch.no_grad()
def _effect_of_left_padding(model: Any, config: Any, length: int = 32, shift: int = 8) -> tuple[float, float]:
    """Measures mean differences of log-probabilities, in nats: due to padding, and due to another batch shape."""
    padding = config.pad_token_id or 0
    ids = torch.randint(config.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    ids = torch.where(ids == padding, (padding + 1) % config.vocab_size, ids).to(model.device)

    def logps(input_ids: torch.Tensor, padded: int) -> torch.Tensor:
        mask = torch.ones_like(input_ids)
        mask[:, :padded] = 0
        logits = model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits[:1, padded:-1]
        return logits.float().log_softmax(dim=-1).gather(2, ids[:, 1:, None])

    training = model.training
    model.eval()  # no dropout
    plain = logps(ids, 0)
    shifted = logps(pad(ids, (shift, 0), value=padding), shift)
    batched = logps(ids.repeat(3, 1), 0)
    model.train(training)
    return (plain - shifted).abs().mean().item(), (plain - batched).abs().mean().item()
