"""Checks made before the first GPU minute; each error names what is wrong, its value and the way out."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
import trl
from datasets import Dataset
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn.functional import pad

from .adapters import is_quantized


def refuse_unsloth(trainer_class: type) -> None:
    """
    Refuses to run on a `GRPOTrainer` that Unsloth has rewritten: it returns no entropies, which Archer is made of.

    Args:
        trainer_class (`type`): Class of the trainer about to be built.

    Raises:
        RuntimeError: If Unsloth's trainer is among its bases or has taken the place of `trl.GRPOTrainer`.
    """
    for cls in (*trainer_class.__mro__, trl.GRPOTrainer):
        if "unsloth" in f"{cls.__module__}.{cls.__qualname__}".lower():
            raise RuntimeError(
                f"Unsloth has replaced TRL's GRPOTrainer by {cls.__module__}.{cls.__qualname__}, which returns no "
                "token entropies. Remove `import unsloth` from this process to train with Archer."
            )


def check_dataset(name: str, dataset: Any, needed: Mapping[str, str] = MappingProxyType({})) -> None:
    """
    Checks that every data set has the columns that are needed, and no row without a prompt. Of a stream with unknown
    columns the first row is read.

    Args:
        name (`str`): Argument that holds the data set, for the message.
        dataset (`Dataset`, `IterableDataset`, a dictionary of them or `None`): The data.
        needed (`Mapping[str, str]`, *optional*): Columns beside `prompt`, and what needs them.

    Raises:
        ValueError: If there is no such column, or a prompt is missing.
    """
    if isinstance(dataset, dict):
        for key, part in dataset.items():
            check_dataset(f"{name}['{key}']", part, needed)
        return
    columns = getattr(dataset, "column_names", None)
    if dataset is not None and columns is None:
        columns = next((list(row) for row in dataset), None)
    for column, user in {"prompt": "the trainer", **needed}.items():
        if columns is not None and column not in columns:
            raise ValueError(
                f"{name} has no column {column!r}, which {user} needs, only {', '.join(map(repr, columns)) or 'none'}. "
                f"Rename the one that holds it, as in `dataset.rename_column({next(iter(columns), 'question')!r}, "
                f"{column!r})`."
            )
    if isinstance(dataset, Dataset):
        batches = dataset.select_columns("prompt").with_format("arrow").iter(10_000)
        missing = sum(batch["prompt"].null_count for batch in batches)
        if missing:
            raise ValueError(
                f"{name} has {missing} of {len(dataset)} rows without a prompt. Leave them out, as in "
                "`dataset.filter(lambda row: row['prompt'] is not None)`."
            )


def check_rollout_fits(train_dataset: Any, args: Any) -> None:
    """
    Checks that the data fills one rollout: TRL leaves out what does not, and would train on nothing.

    Args:
        train_dataset (`Dataset`, `IterableDataset` or `None`): The data; streams are not counted.
        args ([`ArcherGRPOConfig`]): Configuration.

    Raises:
        ValueError: If there are fewer prompts than a rollout takes.
    """
    prompts = args.generation_batch_size // args.num_generations
    if isinstance(train_dataset, Dataset) and len(train_dataset) < prompts:
        raise ValueError(
            f"train_dataset has {len(train_dataset)} prompts, and one rollout takes {prompts} "
            f"(generation_batch_size={args.generation_batch_size} / num_generations={args.num_generations}): nothing "
            "would be trained. Lower generation_batch_size or steps_per_generation, or add prompts."
        )


def check_trainable(model: nn.Module) -> None:
    """
    Checks that training can change the model.

    Args:
        model (`nn.Module`): Model, adapters included.

    Raises:
        ValueError: If no parameter requires a gradient.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        count = sum(parameter.numel() for parameter in model.parameters())
        raise ValueError(
            f"None of the model's {count:,} parameters requires a gradient, so training would change nothing. Pass a "
            "`peft_config`, load the adapter with `is_trainable=True`, or call `requires_grad_(True)`."
        )


_QUANTIZED_SYNC = (
    "use_vllm=True with a quantised model: TRL would merge the adapter into the quantised weights, which rounds them "
    "anew at every sync, and send vLLM the result without its scales. Set use_vllm=False, or train the adapter on the "
    "model in bfloat16, without load_in_4bit, load_in_8bit and quantization_config."
)


def check_adapter(model: Any, args: Any, quantization_config: Any = None) -> None:
    """
    Checks an adapter that the trainer was given, and that vLLM can be sent its weights, before anything is loaded.

    Args:
        model (`str`, `PreTrainedModel` or `PeftModel`): What the trainer was given.
        args ([`ArcherGRPOConfig`]): The configuration.
        quantization_config (`BitsAndBytesConfig`, *optional*): How a model that is yet to be loaded is quantised.

    Raises:
        ValueError: If TRL could not copy the adapter for the reference, or if quantised weights would go to vLLM.
    """
    if args.use_vllm and (is_quantized(model) or (isinstance(model, str) and quantization_config is not None)):
        raise ValueError(_QUANTIZED_SYNC)
    if not isinstance(model, PeftModel):
        return
    if list(model.peft_config) != ["default"]:
        names = ", ".join(map(repr, model.peft_config))
        raise ValueError(
            f"The model's adapter is called {names}. TRL takes the one adapter called 'default' for the one to train: "
            "load it with `PeftModel.from_pretrained(model, path, is_trainable=True)`, without adapter_name."
        )


def check_synced_weights(model: nn.Module, args: Any) -> None:
    """
    Checks that vLLM can hold what is trained; it ties embeddings and output layer where the configuration says so.

    Args:
        model (`nn.Module`): Model, adapters included.
        args ([`ArcherGRPOConfig`]): The configuration.

    Raises:
        ValueError: If the adapter trains one of the two apart from the other, or the model is quantised.
    """
    if args.use_vllm and is_quantized(model):  # as it was stored
        raise ValueError(_QUANTIZED_SYNC)
    if not (args.use_vllm and isinstance(model, PeftModel) and model.config.get_text_config().tie_word_embeddings):
        return
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(embeddings, BaseTunerLayer) or embeddings.weight is not head.weight:
        raise ValueError(
            "use_vllm=True: the model ties its embeddings to its output layer, and the adapter trains one apart from "
            "the other, which vLLM cannot hold; it would sample from other weights than those trained. Leave "
            "embed_tokens and lm_head out of modules_to_save and target_modules, train both as one with "
            "`LoraConfig(modules_to_save=['embed_tokens'], ensure_weight_tying=True)`, or set use_vllm=False."
        )


# Mean difference of log-probabilities, in nats, that rounding alone can make when a sequence is shifted
_ROUNDING = 1e-3
_ROUNDING_OF_HALF_PRECISION = 5e-2  # TF32 has as few digits


@torch.no_grad()
def check_left_padding(trainer: Any, inputs: dict[str, Any], shift: int = 8, longest: int = 64) -> None:
    """
    Checks on one row that padding on the left leaves the model's log-probabilities alone, as relative positions do.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer with the model. Every rank runs the same two forward passes.
        inputs (`dict`): A micro-batch, of which the first row is used.
        shift (`int`, *optional*, defaults to `8`): Padding to try, in tokens.
        longest (`int`, *optional*, defaults to `64`): Tokens of prompt and of completion to use at most.

    Raises:
        ValueError: If they change by more than rounding.
    """
    prompt = inputs["prompt_ids"][0][inputs["prompt_mask"][0].bool()][-longest:]
    ids = torch.cat([prompt, inputs["completion_ids"][0, :longest]]).unsqueeze(0)
    mask = torch.ones_like(ids)
    width = ids.size(1) - len(prompt)
    score = partial(trl.GRPOTrainer._get_per_token_logps_and_entropies, trainer)  # TRL's own, which trims nothing
    training = trainer.model.training
    trainer.model.eval()  # no dropout between the two
    plain, _, _ = score(trainer.model, ids, mask, width)
    shifted, _, _ = score(trainer.model, pad(ids, (shift, 0)), pad(mask, (shift, 0)), width)
    trainer.model.train(training)
    # The largest over the ranks, so that all of them go on or none does
    difference = trainer.accelerator.gather((plain - shifted).abs().mean()).max().item()
    # A quantised model multiplies in the dtype of its quantisation, whatever its own
    coarse = trainer.args.bf16 or trainer.args.fp16 or trainer.args.tf32 or is_quantized(trainer.model)
    exact = not coarse and trainer.model.dtype in (torch.float32, torch.float64)
    limit = _ROUNDING if exact else _ROUNDING_OF_HALF_PRECISION
    if not difference <= limit:
        raise ValueError(
            f"remove_padding=True: {shift} tokens of padding on the left change the model's log-probabilities by "
            f"{difference:.3g} nats on average, more than rounding ({limit} nats): its positions are absolute, or its "
            "arithmetic is coarse. Set remove_padding=False to train in TRL's layout."
        )
