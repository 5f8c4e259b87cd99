"""Keeps PEFT adapters and their base model exact through training, checkpoints and syncs with vLLM.

The reference of an adapter is the same model with the adapter off, or with a copy of the initial adapter. It stays the
reference only if the base weights never change, so nothing may remain merged into them.
"""

from collections.abc import Iterator
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import Tensor, nn
from transformers.utils import is_bitsandbytes_available


def adapter_weights(model: Any) -> dict[str, Tensor]:
    """Returns the trainable weights of an adapter that was created before the trainer."""
    if not isinstance(model, PeftModel):
        return {}
    return {name: parameter.data for name, parameter in model.named_parameters() if parameter.requires_grad}


def prepare_adapter(model: nn.Module, weights: dict[str, Tensor], is_sharded: bool) -> None:
    """Prepares the adapter of a quantized model, so that small updates are not lost."""
    if isinstance(model, PeftModel) and is_quantized(model):
        if not is_sharded:
            _keep_precision(model, weights)
        _keep_weights_unpacked(model)


def load_trained_adapter(model: Any, folder: str) -> None:
    """
    Loads the trained adapter from a checkpoint with two adapters. transformers loads only the frozen copy.

    Upstream: https://github.com/huggingface/transformers/issues/30478 (open in 5.23).
    """
    if isinstance(model, PeftModel) and len(model.peft_config) > 1:
        model.load_adapter(folder, "default", is_trainable=True)


def is_quantized(model: Any) -> bool:
    """Whether bitsandbytes stores the model's weights in 4 or 8 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))


def _keep_precision(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """
    Undoes TRL's rounding of the adapter to bfloat16, which is coarser than most RL updates.

    PEFT keeps adapters of models that are not quantized in float32. Not reported upstream yet (TRL 1.16).
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = weights[name] if name in weights else parameter.data.float()


def _keep_weights_unpacked(model: nn.Module) -> None:
    """
    Keeps bitsandbytes from packing 4-bit weights for fast inference on CPUs with AVX-512 BF16.

    It packs them in the first pass in evaluation mode, and packed weights do not propagate gradients. Not reported
    upstream yet; the packing was added in https://github.com/bitsandbytes-foundation/bitsandbytes/pull/1804 (0.49).
    """
    if is_bitsandbytes_available():
        from bitsandbytes.nn import Linear4bit

        for module in model.modules():
            if isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = False


def sync_without_drift(generation: Any) -> None:
    """
    Sends vLLM the merged weights without merging them into the model.

    TRL adds the adapter to the weights and then subtracts it. In bfloat16 that does not restore the original
    weights, and the errors accumulate over syncs, in the reference and under the saved adapter.

    Upstream: https://github.com/huggingface/trl/issues/6688 (open in 1.16).
    """
    if not isinstance(generation.model, PeftModel):
        return
    wrapped = [module for module in generation.model.modules() if isinstance(module, AuxiliaryTrainingWrapper)]
    if generation._dist.is_fsdp or not all(isinstance(module, ModulesToSaveWrapper) for module in wrapped):
        return

    def merged() -> Iterator[tuple[str, Tensor]]:
        model = generation.model
        with generation._dist.gather_params(list(model.parameters())):
            for name, weight in merged_weights(model):
                yield generation._fix_param_name_to_vllm(name), weight

    generation._iter_named_params = merged


@torch.no_grad()
def merged_weights(model: PeftModel) -> Iterator[tuple[str, Tensor]]:
    """Yields the base model's weights with the active adapter merged in, leaving the model unchanged. Tied weights
    appear once, under their first name."""
    seen: set[int] = set()
    for name, parameter, weight in _walk(model.get_base_model(), ""):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            yield name, weight


def _walk(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
    if isinstance(module, BaseTunerLayer):
        yield from _merged(module, prefix)
    elif isinstance(module, ModulesToSaveWrapper):
        trained = module.modules_to_save[module.active_adapters[0]]
        yield from ((name, p, p.data) for name, p in trained.named_parameters(prefix))
    else:
        yield from ((name, p, p.data) for name, p in module.named_parameters(prefix, recurse=False))
        for name, child in module.named_children():
            yield from _walk(child, f"{prefix}.{name}" if prefix else name)


def _merged(layer: Any, prefix: str) -> list[tuple[str, nn.Parameter, Tensor]]:
    """Merges one layer, copies the result, and restores every bit of the original."""
    layers = [module for module in layer.modules() if isinstance(module, BaseTunerLayer)]
    parameters = dict(layer.get_base_layer().named_parameters(prefix))
    before = {name: parameter.data.clone() for name, parameter in parameters.items()}
    for one in layers:
        one.merge()
    result = [(name, parameter, parameter.data.clone()) for name, parameter in parameters.items()]
    for one in layers:
        one.unmerge()
    for name, parameter in parameters.items():
        parameter.data.copy_(before[name])
    return result
