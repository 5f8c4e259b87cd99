"""Trainers with the rewards, end to end: a tiny byte-level model with fixed completions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer
from trl_archer.rewards import code_reward, math_reward

from ..helpers.tiny import SIZES
from .code.test_reward import fenced, needs_isolation

GROUP = 4
ANSWERS = [r"<think>Hm.</think>It is \boxed{\frac{1}{2}}.", r"It is \boxed{0.5}.", r"It is \boxed{2}.", "Who knows?"]
PROGRAMS = [fenced("print(input()[::-1])"), fenced("print(input())"), fenced("1 / 0"), "No."]
TASKS = {
    "math": (math_reward, ANSWERS, {"solution": [r"\frac12", "not a $ gold {"]}, [1.0, 1.0, 0.0, 0.0]),
    "code": (
        code_reward,
        PROGRAMS,
        {"tests": [json.dumps({"inputs": ["ab", "xyz"], "outputs": ["ba", "zyx"]}), "{}"]},
        [1.0, 0.0, 0.0, 0.0],
    ),
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def given_completions(texts: Sequence[str], tokenizer: Any) -> Any:
    """Replaces generation: the same `GROUP` completions for every prompt."""

    def rollout(prompts: list[str], trainer: Any) -> dict[str, list]:
        completions = [tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in texts]
        rows = [completions[row % GROUP] for row in range(len(prompts))]
        return {
            "prompt_ids": [tokenizer(prompt)["input_ids"] for prompt in prompts],
            "completion_ids": rows,
            "logprobs": None,
        }

    return rollout


@needs_isolation
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("trainer_class", [ArcherGRPOTrainer, GRPOTrainer])
def test_training_with_the_reward(task: str, trainer_class: type, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    reward, texts, columns, expected = TASKS[task]
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    sizes = {**SIZES, "vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1}
    model = LlamaForCausalLM(LlamaConfig(**sizes, intermediate_size=48))
    before = model.lm_head.weight.detach().clone()
    config_class = ArcherGRPOConfig if trainer_class is ArcherGRPOTrainer else GRPOConfig
    trainer = trainer_class(
        model,
        reward,
        args=config_class(
            str(tmp_path),
            use_cpu=True,
            bf16=False,
            beta=0.0,
            per_device_train_batch_size=2 * GROUP,
            num_generations=GROUP,
            max_completion_length=128,
            max_steps=2,
            logging_steps=1,
            learning_rate=1e-2,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["Half?", "Broken?"], **columns}),
        processing_class=tokenizer,
        rollout_func=given_completions(texts, tokenizer),
    )
    trainer.train()

    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 2
    name = f"{task}_reward"
    for entry in logged:
        assert entry[f"rewards/{name}/mean"] == pytest.approx(sum(expected) / GROUP)  # the broken row is left out
        assert entry[f"{name}/not_scorable"] == 0.5
    rows = {
        text: (advantage, why)
        for prompt, text, advantage, why in zip(
            trainer._logs["prompt"],
            trainer._logs["completion"],
            trainer._logs["advantages"],
            trainer._logs["extra"][f"{name}_reason"],
            strict=True,
        )
        if prompt == "Half?"
    }
    assert [rows[text][0] > 0 for text in texts] == [reward > 0 for reward in expected]
    assert all(why for _, why in rows.values())
    assert not torch.equal(model.lm_head.weight, before)
