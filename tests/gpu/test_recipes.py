"""The recipes' GPU path at its real sizes: trainer, forward and backward pass on `meta` tensors, which have no data."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import AutoModelForCausalLM, masking_utils
from trl import get_peft_config
from trl.trainer import grpo_trainer

from benchmarks.scaling.measured import configuration
from trl_archer import ArcherGRPOTrainer
from trl_archer.commands.forecast.models import MODELS, Shape
from trl_archer.commands.train.run import parse

from ..helpers.tiny import PROMPTS, TOKENIZER, length_reward

RECIPES = sorted((Path(__file__).parents[2] / "examples" / "recipes").glob("*_*.yaml"))
SHAPES = {shape.name: shape for shape in MODELS.values()}
# The launcher, vLLM, bitsandbytes and the kernels of a GPU machine are not here
FLAGS = "--num_processes null --use_vllm false --load_in_4bit false --attn_implementation sdpa --use_cpu true"
GROUP = 4


def make_model(shape: Shape, dtype: str) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            configuration(shape), dtype=getattr(torch, dtype), attn_implementation="sdpa"
        )


def make_trainer(recipe: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Shape, int]:
    """The trainer of a recipe with a batch of one group, its model, and its LoRA rank or 0."""
    flags = [*FLAGS.split(), "--output_dir", str(output), "--generation_batch_size", str(GROUP)]
    flags += ["--num_generations", str(GROUP), "--per_device_train_batch_size", str(GROUP)]
    _, config, model_config = parse(["--config", str(recipe), *flags, "--gradient_accumulation_steps", "1"])
    shape = SHAPES[str(model_config.model_name_or_path)]
    # Looks into the mask, as SDPA may leave out one without padding
    monkeypatch.setattr(masking_utils, "_ignore_causal_mask_sdpa", lambda *args, **kwargs: True)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *args, **kwargs: self)  # there is nothing to move
    monkeypatch.setattr(
        grpo_trainer, "create_model_from_path", lambda *args, **kwargs: make_model(shape, model_config.dtype)
    )
    peft_config = get_peft_config(model_config)

    def add_adapter(*args: Any, **kwargs: Any) -> Any:
        with torch.device("meta"):
            return get_peft_model(*args, **kwargs)

    monkeypatch.setattr(grpo_trainer, "get_peft_model", add_adapter)
    trainer = ArcherGRPOTrainer(
        make_model(shape, model_config.dtype),
        length_reward,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        processing_class=TOKENIZER,
        peft_config=peft_config,
    )
    return trainer, shape, peft_config.r if peft_config else 0


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_recipe_on_meta_tensors(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, shape, rank = make_trainer(recipe, tmp_path, monkeypatch)
    args, model = trainer.args, trainer.model
    assert sum(p.numel() for n, p in model.named_parameters() if "lora_" not in n) == shape.parameters
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == (shape.lora(rank) if rank else shape.parameters)
    assert (trainer.ref_model is None) == bool(rank)
    assert args.bf16
    assert args.gradient_checkpointing
    # As transformers' Trainer does when training starts
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs)

    prompt = int(re.findall(r"^max_prompt_length: (\d+)", recipe.read_text(), re.M)[0])
    width = prompt + args.max_completion_length
    ids = torch.zeros(1, width, dtype=torch.long, device="meta")
    model.train()
    # Without the LM head and autocast, which does not know `meta`
    model.bfloat16()  # as under autocast
    base = model.get_base_model() if rank else model
    hidden = base.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).last_hidden_state
    assert hidden.shape == (1, width, shape.hidden)
    hidden.sum().backward()
    head = [] if rank or shape.tied else [model.lm_head.weight]
    assert all(p.grad.shape == p.shape for p in trained if not any(p is x for x in head))
