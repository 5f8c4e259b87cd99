"""Loads every parameter of a checkpoint, whatever names transformers saved it under."""

import json
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME


def load_all_weights(model: nn.Module, folder: str | Path) -> None:
    """
    Loads the weights that the Trainer leaves at their initial values when it loads a checkpoint.

    transformers 5 saves some architectures (mixtures of experts, vision-language models, GPT-NeoX) under names other
    than those of their modules, and the Trainer loads by name and ignores missing parameters. `from_pretrained` reverts
    the renaming, so such a checkpoint is loaded again with it.

    Upstream: https://github.com/huggingface/transformers/issues/48805 (open in 5.23).

    Raises:
        ValueError: If a parameter is not in the checkpoint; the message names the first ones.
    """
    if isinstance(model, PeftModel) or not isinstance(model, PreTrainedModel):
        return
    saved = _saved_names(Path(folder))
    if saved is None or {name for name, _ in model.named_parameters()} <= saved:
        return
    loaded, info = type(model).from_pretrained(folder, config=model.config, dtype=model.dtype, output_loading_info=True)
    missing = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} of the model's parameters, such as "
            f"{', '.join(missing[:3])}, which would keep their initial values. "
            "Resume from another checkpoint, or start a new run."
        )
    with torch.no_grad():
        model.load_state_dict(loaded.state_dict())


def _saved_names(folder: Path) -> set[str] | None:
    """Reads the names in the safetensors files of a checkpoint; `None` without such files, as with FSDP."""
    index = folder / SAFE_WEIGHTS_INDEX_NAME
    if index.is_file():
        return set(json.loads(index.read_text())["weight_map"])
    if not (folder / SAFE_WEIGHTS_NAME).is_file():
        return None
    with safe_open(folder / SAFE_WEIGHTS_NAME, framework="pt") as file:
        return set(file.keys())
