"""Checks that run before training starts; each error names the field, its value and the fix."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import trl
from datasets import Dataset
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from trl.trainer.utils import get_config_model_id

from .adapters import is_quantized
from .config import DurableGRPOConfig
from .reward_checks import check_signatures, needed_columns
from .updates import check_deepspeed_version
from .vllm_server import check_generation


@dataclass(frozen=True)
class Preflight:
    """
    Result of [`preflight`]. Pass it to the trainer, so that the checks are not repeated.

    Attributes:
        checkpoint (`Path` or `None`): Complete checkpoint to resume from.
    """

    checkpoint: Path | None = None


def preflight(
    args: DurableGRPOConfig,
    model: Any,
    quantization_config: Any = None,
    checkpoint: Path | None = None,
) -> Preflight:
    """
    Runs the checks that need neither data nor weights, cheap ones first. All ranks must call it together. `checkpoint`
    is the complete checkpoint to resume from, as chosen by [`find_checkpoint`].

    Raises:
        ValueError: If DeepSpeed would not drop non-finite gradients, vLLM or the reference would not get the weights
            of the adapter, or TRL cannot train with the vLLM server.
        ConnectionError: If no vLLM server responds.
        RuntimeError: If Unsloth has replaced TRL's trainer.
    """
    refuse_unsloth()
    check_adapter(model, args, quantization_config)
    check_deepspeed_version(args)
    check_generation(args, model if isinstance(model, str) else get_config_model_id(model.config))
    return Preflight(checkpoint)


def refuse_unsloth(trainer_class: type = trl.GRPOTrainer) -> None:
    """
    Refuses a `GRPOTrainer` that Unsloth has rewritten. It does not return the entropies that Archer needs.

    Raises:
        RuntimeError: If Unsloth's trainer is among its bases or has replaced `trl.GRPOTrainer`.
    """
    for cls in (*trainer_class.__mro__, trl.GRPOTrainer):
        if "unsloth" in f"{cls.__module__}.{cls.__qualname__}".lower():
            raise RuntimeError(
                f"Unsloth has replaced TRL's GRPOTrainer with {cls.__module__}.{cls.__qualname__}, which returns no "
                "token entropies. Remove `import unsloth` from this process to train with Archer."
            )


def check_data(train_dataset: Any, eval_dataset: Any, reward_funcs: Iterable[Any], args: DurableGRPOConfig) -> None:
    """
    Checks that the data has the columns that the trainer and rewards need, lacks no prompt, and fills one rollout.

    Raises:
        ValueError: If a column or a prompt is missing, or if there are fewer prompts than one rollout takes.
    """
    of_rewards = needed_columns(reward_funcs)
    needed = {"prompt": "the trainer", **of_rewards}
    check_dataset("train_dataset", train_dataset, needed)
    if args.eval_strategy != "no":
        check_dataset("eval_dataset", eval_dataset, needed)
    if args.remove_unused_columns and of_rewards:
        raise ValueError(
            f"remove_unused_columns=True removes the columns {', '.join(map(repr, of_rewards))}, which "
            f"{next(iter(of_rewards.values()))} needs. Set it to False."
        )
    check_signatures(reward_funcs, column_names(train_dataset) or ())
    prompts = args.generation_batch_size // args.num_generations
    if isinstance(train_dataset, Dataset) and len(train_dataset) < prompts:  # TRL would train on nothing
        raise ValueError(
            f"train_dataset has {len(train_dataset)} prompts, but one rollout takes {prompts} "
            f"(generation_batch_size={args.generation_batch_size} / num_generations={args.num_generations}), so "
            "nothing would be trained. Lower generation_batch_size or steps_per_generation, or add prompts."
        )


def check_dataset(
    name: str, dataset: Any, needed: Mapping[str, str] = MappingProxyType({"prompt": "the trainer"})
) -> None:
    """
    Checks the columns of a dataset, and that no row lacks a prompt. For a stream without column names, it reads the
    first row.

    Raises:
        ValueError: If a column or a prompt is missing.
    """
    if isinstance(dataset, dict):
        for key, part in dataset.items():
            check_dataset(f"{name}['{key}']", part, needed)
        return
    columns = column_names(dataset)
    if columns is not None:
        check_columns(
            name,
            columns,
            needed,
            lambda column: f"`dataset.rename_column({_likely(column, columns)!r}, {column!r})`",
        )
    if isinstance(dataset, Dataset) and "prompt" in dataset.column_names:  # else a transform makes it
        batches = dataset.select_columns("prompt").with_format("arrow").iter(10_000)
        missing = sum(batch["prompt"].null_count for batch in batches)
        if missing:
            raise ValueError(
                f"{name} has no prompt in {missing} of {len(dataset)} rows. Remove them, as in "
                "`dataset.filter(lambda row: row['prompt'] is not None)`."
            )


def column_names(dataset: Any) -> Sequence[str] | None:
    """Returns the columns of a dataset as the trainer sees them: after `set_transform`, or of a stream's first row."""
    if dataset is None:
        return None
    columns = getattr(dataset, "column_names", None)
    if isinstance(dataset, Dataset) and dataset.format["type"] == "custom" and len(dataset):
        return list(dataset[0])
    return next((list(row) for row in dataset), None) if columns is None else columns


def check_columns(name: str, columns: Sequence[str], needed: Mapping[str, str], remedy: Callable[[str], str]) -> None:
    """
    Checks that columns exist.

    Raises:
        ValueError: If one is missing.
    """
    for column, user in needed.items():
        if column not in columns:
            raise ValueError(
                f"{name} has no column {column!r}, which {user} needs. Its columns: "
                f"{', '.join(map(repr, columns)) or 'none'}. Rename the one that holds it, as in "
                f"{remedy(column)}."
            )


# Names that public datasets use, most specific first. A dot reaches into a column
USUAL_COLUMNS = {
    "prompt": "problem question question_content description query instruction text messages conversations input",
    "solution": "answer final_answer expected_answer ground_truth reward_model.ground_truth gold target",
    "tests": "test_cases input_output verification_info public_test_cases public_tests test_list ground_truth "
    "reward_model.ground_truth test",
}


def _likely(column: str, columns: Sequence[str]) -> str:
    return next((name for name in USUAL_COLUMNS.get(column, "").split() if name in columns), "COLUMN")


def check_trainable(model: nn.Module) -> None:
    """
    Checks that training can change the model.

    Raises:
        ValueError: If no parameter requires a gradient.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        count = sum(parameter.numel() for parameter in model.parameters())
        raise ValueError(
            f"None of the model's {count:,} parameters requires a gradient, so training would change nothing. Pass a "
            "`peft_config`, load the adapter with `is_trainable=True`, or call `requires_grad_(True)`."
        )


QUANTIZED_SYNC = (
    "use_vllm=True with a quantized model: TRL would merge the adapter into the quantized weights, which rounds them "
    "at every sync, and send vLLM the result without its scales. Set use_vllm=False, or train the adapter on the model "
    "in bfloat16, without load_in_4bit, load_in_8bit and quantization_config."
)


def check_adapter(model: Any, args: DurableGRPOConfig, quantization_config: Any = None) -> None:
    """
    Checks the adapter passed to the trainer, and that vLLM can receive its weights, before anything is loaded.

    Raises:
        ValueError: If TRL could not copy the adapter for the reference, or if quantized weights would go to vLLM.
    """
    if args.use_vllm and (is_quantized(model) or (isinstance(model, str) and quantization_config is not None)):
        raise ValueError(QUANTIZED_SYNC)
    if args.beta != 0 and isinstance(model, PeftModel) and list(model.peft_config) != ["default"]:
        names = ", ".join(map(repr, model.peft_config))
        raise ValueError(
            f"beta={args.beta} with adapters called {names}: TRL copies the adapter called 'default' for the "
            "reference, and it must be the only one. Load it with `PeftModel.from_pretrained(model, path, "
            "is_trainable=True)`, without adapter_name, or set beta=0.0."
        )


def check_synced_weights(model: nn.Module, args: DurableGRPOConfig) -> None:
    """
    Checks that vLLM can hold the trained weights. vLLM ties embeddings and output layer if the model's config does.

    Raises:
        ValueError: If the adapter trains one of the two separately, or the model is quantized.
    """
    if args.use_vllm and is_quantized(model):  # stored that way
        raise ValueError(QUANTIZED_SYNC)
    if not (args.use_vllm and isinstance(model, PeftModel) and model.config.get_text_config().tie_word_embeddings):
        return
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(embeddings, BaseTunerLayer) or embeddings.weight is not head.weight:
        raise ValueError(
            "use_vllm=True: the model ties its embeddings to its output layer, and the adapter trains only one of "
            "them. vLLM cannot represent this and would sample from weights other than the trained ones. Remove "
            "embed_tokens and lm_head from modules_to_save and target_modules, train both as one with "
            "`LoraConfig(modules_to_save=['embed_tokens'], ensure_weight_tying=True)`, or set use_vllm=False."
        )
