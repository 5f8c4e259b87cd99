"""Shared by the workers: a model that vLLM's CPU engine can run, a trainer for it, and the measurements on both."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tests.helpers.tiny import SIZES, TOKENIZER, loss_and_gradients, make_trainer
from tests.trainer.test_oracle import oracle_loss
from tests.vllm_engine.settings import MAX_LENGTH, PASSES, ROLLOUTS, TOKENS


def save_model(directory: Path, *, tied: bool, seed: int = 0) -> str:
    """Writes a model whose heads are wide enough for vLLM's CPU attention, with tied or untied embeddings."""
    torch.manual_seed(seed)
    config = LlamaConfig(**SIZES, intermediate_size=48, head_dim=32, tie_word_embeddings=tied)
    LlamaForCausalLM(config).save_pretrained(directory)
    TOKENIZER.save_pretrained(directory)
    return str(directory)


def engine_trainer(path: str, folder: Path, *, lora: bool = False, **config: Any) -> Any:
    """A trainer that runs `ROLLOUTS` rollouts."""
    adapter = LoraConfig(r=4, lora_alpha=32, target_modules="all-linear")
    return make_trainer(
        path,
        folder,
        trainer_kwargs={"peft_config": adapter} if lora else None,
        use_vllm=True,
        num_iterations=PASSES,
        max_steps=ROLLOUTS * PASSES,
        learning_rate=0.01,
        lr_scheduler_type="constant",
        beta=0.1,
        beta_reasoning=0.02,
        save_strategy="no",
        vllm_max_model_length=MAX_LENGTH,
        **config,
    )


def train_and_measure(trainer: Any, engine_logps: Callable[[], Tensor], output: Path, **facts: Any) -> None:
    """
    Trains, and writes the values that the tests check.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer with a vLLM engine.
        engine_logps (`Callable`): Returns the engine's log-probabilities of `TOKENS`, without the first.
        output (`Path`): JSON file for the logs, the largest gaps between log-probabilities (in nats) and the losses.
        **facts (`Any`): Further values to write there.
    """
    initial = policy_logps(trainer)
    gaps = {"start": gap(engine_logps(), initial)}
    trainer.train()
    trained = policy_logps(trainer)
    gaps["before the last sync"] = gap(engine_logps(), trained)
    corrections = {mode: correct_stale_samples(trainer, mode) for mode in ("token_truncate", "sequence_mask")}
    trainer.vllm_generation.sync_weights()
    gaps["after the last sync"] = gap(engine_logps(), trained)
    gaps["to the initial model"] = gap(engine_logps(), initial)
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    output.write_text(json.dumps({"gaps": gaps, "corrections": corrections, "logs": logs, **facts}))


def correct_stale_samples(trainer: Any, mode: str) -> dict[str, Any]:
    """Samples a batch from outdated engine weights, and returns its loss and the oracle's."""
    trainer.args.vllm_importance_sampling_mode = mode
    trainer._last_loaded_step = trainer.state.global_step  # TRL then sends no weights
    trainer._step, trainer._buffered_inputs = 0, None
    trainer.model.train()
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    ratio, mask = inputs["importance_sampling_ratio"], inputs["completion_mask"]
    of_tokens = ratio.expand(mask.shape)[mask.bool()]
    loss, _ = loss_and_gradients(trainer, inputs)
    without = {name: value for name, value in inputs.items() if name != "importance_sampling_ratio"}
    return {
        "shape": list(ratio.shape),
        "mask shape": list(mask.shape),
        "ratio": [of_tokens.min().item(), of_tokens.max().item()],
        "loss": loss.item(),
        "oracle": oracle_loss(trainer, inputs),
        "oracle without ratio": oracle_loss(trainer, without),
    }


@torch.no_grad()
def policy_logps(trainer: Any) -> Tensor:
    """The trained model's log-probabilities of `TOKENS`, without the first."""
    logps = trainer.model(torch.tensor([TOKENS], device=trainer.model.device)).logits[0, :-1].log_softmax(-1)
    return logps.gather(1, torch.tensor(TOKENS[1:]).unsqueeze(1)).squeeze(1)


def gap(left: Tensor, right: Tensor) -> float:
    return (left - right).abs().max().item()
