"""What is loaded is what was saved, for architectures that transformers saves under other names."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

from trl_archer.grpo.weights import load_all_weights

from ..helpers.tiny import SIZES, TOKENIZER, make_trainer

TEXT = {
    **{name: SIZES[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")},
    **{"num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 128, "initializer_range": 0.3},
    **{"pad_token_id": TOKENIZER.pad_token_id, "eos_token_id": TOKENIZER.eos_token_id, "bos_token_id": None},
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {**TEXT, "tie_word_embeddings": True}),
    "qwen3_moe": ("Qwen3MoeForCausalLM", {**TEXT, **EXPERTS, "head_dim": 8}),
    "mixtral": ("MixtralForCausalLM", {**TEXT, "num_local_experts": 4}),
    "deepseek_v3": (
        "DeepseekV3ForCausalLM",
        {
            **TEXT,
            **{"num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
            **{"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16},
            **{"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
        },
    ),
    "gpt_neox": ("GPTNeoXForCausalLM", TEXT),
    "llava": (
        "LlavaForConditionalGeneration",
        {
            "text_config": {"model_type": "llama", **TEXT},
            "vision_config": {"model_type": "clip_vision_model", **VISION, "image_size": 28, "patch_size": 14},
            "image_token_index": 2,
        },
    ),
    "qwen2_5_vl": (
        "Qwen2_5_VLForConditionalGeneration",
        {
            "text_config": {**TEXT, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
            "vision_config": {
                "depth": 1,
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_heads": 2,
                "out_hidden_size": 32,
            },
        },
    ),
    "gemma3": (
        "Gemma3ForConditionalGeneration",
        {
            "text_config": {**TEXT, "head_dim": 8, "sliding_window": 64},
            "vision_config": {"model_type": "siglip_vision_model", **VISION, "image_size": 28, "patch_size": 14},
            "mm_tokens_per_image": 4,
        },
    ),
}


def build(name: str, seed: int) -> PreTrainedModel:
    cls, sizes = CONFIGS[name]
    torch.manual_seed(seed)
    return getattr(transformers, cls)(AutoConfig.for_model(name, **sizes)).float()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_is_restored(tmp_path: Path, name: str) -> None:
    """As the Trainer loads, by name, and then what it left."""
    trained, started = build(name, seed=1), build(name, seed=2)
    trained.save_pretrained(tmp_path)
    load_all_weights(started, tmp_path)
    if name == "llama":  # saved under its own names, so the Trainer's own loading is enough
        assert not torch.equal(started.lm_head.weight, trained.lm_head.weight)
        return
    weights = dict(trained.named_parameters())
    assert all(torch.equal(p, weights[key]) for key, p in started.named_parameters())


def test_a_parameter_that_is_missing_is_named(tmp_path: Path) -> None:
    cls, sizes = CONFIGS["gpt_neox"]
    build("gpt_neox", seed=1).save_pretrained(tmp_path)
    deeper = getattr(transformers, cls)(AutoConfig.for_model("gpt_neox", **{**sizes, "num_hidden_layers": 3}))
    with pytest.raises(ValueError, match=r"lacks \d+ of the model's parameters, such as gpt_neox\.layers\.2"):
        load_all_weights(deeper, tmp_path)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "qwen3_moe" else [pytest.mark.slow]) for name in CONFIGS]
)
def test_resume_is_exact(tmp_path: Path, name: str) -> None:
    """Bit-for-bit in the middle of a rollout, and `load_best_model_at_end` loads the best checkpoint."""
    options: dict[str, Any] = {"num_iterations": 2, "learning_rate": 1e-2, "save_steps": 3, "max_steps": 6}
    options |= {"lr_scheduler_type": "constant", "router_aux_loss_coef": 0.0}

    def train(folder: str, resume: bool = False, **changes: Any) -> Any:
        trainer = make_trainer("", tmp_path / folder, model=build(name, seed=0), **{**options, **changes})
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = dict(train("whole").model.named_parameters())
    train("parts", max_steps=3)
    resumed = train("parts", resume=True)
    assert all(torch.equal(p, whole[key]) for key, p in resumed.model.named_parameters())

    best = train(
        "best", load_best_model_at_end=True, metric_for_best_model="eval_reward", eval_strategy="steps", eval_steps=3
    )
    saved = type(best.model).from_pretrained(best.state.best_model_checkpoint, dtype=torch.float32)
    weights = dict(saved.named_parameters())
    assert all(torch.equal(p, weights[key]) for key, p in best.model.named_parameters())
