"""PEFT adapters: what training and vLLM must leave as it is, and what they would otherwise round away.

The reference of an adapter is the same model with the adapter off, or with the adapter as it was at the start. It is
only a reference for as long as the weights under the adapter do not change, so nothing is left merged into them.
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
    """
    Trainable weights of an adapter that exists before the trainer does.

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`): What the trainer was given.

    Returns:
        `dict[str, Tensor]`: The tensors themselves, by name; empty if there is no adapter yet.
    """
    if not isinstance(model, PeftModel):
        return {}
    return {name: parameter.data for name, parameter in model.named_parameters() if parameter.requires_grad}


def prepare_adapter(trainer: Any, weights: dict[str, Tensor]) -> None:
    """
    Makes the adapter of a new trainer trainable in small steps, and its base model stay as it is.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer, as TRL has set it up.
        weights (`dict[str, Tensor]`): What [`adapter_weights`] returned before.
    """
    if not isinstance(trainer.model, PeftModel):
        return
    if is_quantized(trainer.model):
        if not (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled):  # both keep float32 copies of their own
            _keep_precision(trainer.model, weights)
        _keep_weights_unpacked(trainer.model)
    if trainer.use_vllm:
        sync_without_drift(trainer.vllm_generation)


def load_trained_adapter(model: Any, folder: str) -> None:
    """
    Loads the trained one of two adapters from a checkpoint: transformers 5.17 loads the frozen copy beside it only.

    Args:
        model (`nn.Module`): Model that the Trainer has loaded the checkpoint into.
        folder (`str`): Checkpoint.
    """
    if isinstance(model, PeftModel) and len(model.peft_config) > 1:
        model.load_adapter(folder, "default", is_trainable=True)


def is_quantized(model: Any) -> bool:
    """Whether bitsandbytes holds the model's weights in 4 or 8 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))


def _keep_precision(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """
    Undoes TRL's rounding of the adapter to bfloat16, whose steps are larger than most updates of RL.

    Other adapters than those of quantised models are in float32 already, by default of PEFT.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = weights[name] if name in weights else parameter.data.float()


def _keep_weights_unpacked(model: nn.Module) -> None:
    """
    Keeps bitsandbytes from packing 4-bit weights for fast inference on CPUs with AVX-512 BF16.

    It does so in the first pass in evaluation mode, and a packed weight passes no gradient on from then on.
    """
    if is_bitsandbytes_available():
        from bitsandbytes.nn import Linear4bit

        for module in model.modules():
            if isinstance(module, Linear4bit):
                module.support_avx512bf16_for_cpu = False


def sync_without_drift(generation: Any) -> None:
    """
    Makes TRL send vLLM the merged weights without merging them into the model.

    TRL adds the adapter to the weights and then subtracts it again. In bfloat16 that does not give back the weights it
    started from; the errors add up from sync to sync, in the reference and under the saved adapter.

    Args:
        generation (`VLLMGeneration`): TRL's engine or client. With FSDP, which shards the weights, it stays as it is.
    """
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
    """
    Weights of the base model with the active adapter in them, which is as it was whenever one is handed out.

    Args:
        model (`PeftModel`): Model with a LoRA-like adapter.

    Yields:
        `tuple[str, Tensor]`: Name in the base model and weight. Tied weights come once, under their first name.
    """
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
    """Merges one layer, takes the result out, and puts back every bit of what was there."""
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
