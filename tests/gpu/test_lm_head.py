"""TRL's fused LM head, a Triton kernel on a GPU, against a plain log-softmax in float32."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

# Rows, tokens, hidden size, vocabulary. On the GPU: more than a tile of tokens, and of the vocabulary, 4096 x 32768
SHAPES = {"cpu": (2, 24, 32, 300), "cuda": (5, 1024, 256, 70_000)}
TEMPERATURE = 0.7
EXACT = 2e-5  # relative L2 error of float32


def make_model(device: str) -> LlamaForCausalLM:
    *_, hidden, vocabulary = SHAPES[device]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=2048,
        initializer_range=0.5,  # wide, so that entropies are far from that of uniform logits
        tie_word_embeddings=True,
        dtype="float32",
    )
    return LlamaForCausalLM(config).to(device)


def plain(model: LlamaForCausalLM, ids: Tensor) -> tuple[Tensor, Tensor]:
    logps = (model(input_ids=ids).logits[:, :-1].float() / TEMPERATURE).log_softmax(-1)
    return logps.gather(2, ids[:, 1:, None]).squeeze(2), -(logps.exp() * logps).sum(-1)


def fused(model: LlamaForCausalLM, ids: Tensor) -> tuple[Tensor, Tensor]:
    labels = ids.clone()
    labels[:, 0] = -100
    output = model(input_ids=ids, labels=labels, fused_lm_head=True)
    return output.log_probs[:, -(ids.size(1) - 1) :], output.entropy[:, -(ids.size(1) - 1) :]


def results(score: Any, model: LlamaForCausalLM, ids: Tensor, bf16: bool) -> dict[str, Tensor]:
    """Log-probabilities, entropies, and gradients of both with respect to the first norm and the tied weights."""
    weights = [model.model.embed_tokens.weight, model.model.layers[0].input_layernorm.weight]
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=bf16):
        logps, entropies = score(model, ids)
    found = {"log-probabilities": logps.detach(), "entropies": entropies.detach()}
    factors = torch.randn(logps.shape, generator=torch.Generator().manual_seed(1)).to(logps)
    for name, value in (("log-probabilities", logps), ("entropies", entropies)):
        gradients = torch.autograd.grad((value * factors).sum(), weights, retain_graph=True)
        found |= {f"gradient {i} of {name}": gradient for i, gradient in enumerate(gradients)}
    return found


def errors(found: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    return {name: ((found[name] - exact[name]).norm() / exact[name].norm()).item() for name in exact}


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_equals_plain_log_softmax(device: str, bf16: bool) -> None:
    rows, length, _, vocabulary = SHAPES[device]
    model = make_model(device)
    ids = torch.randint(vocabulary, (rows, length), generator=torch.Generator().manual_seed(0)).to(device)
    exact = results(plain, model, ids, bf16=False)
    rounded = errors(results(plain, model, ids, bf16=bf16), exact)
    add_fused_lm_head(model, temperature=TEMPERATURE, outputs=("log_probs", "entropy"))
    found = results(fused, model, ids, bf16=bf16)
    assert found["entropies"].dtype == found["log-probabilities"].dtype == torch.float32
    assert exact["entropies"].std() > 0.1
    for name, error in errors(found, exact).items():
        # In 16 bits: not worse than 16-bit logits of the whole vocabulary, turned into float32
        assert error <= max(1.5 * rounded[name], EXACT), name
