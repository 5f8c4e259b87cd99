"""The memory formula against tiny models, counted on a CPU.

States are counted tensor by tensor. Activations are the storages that autograd saves, each counted once. Peaks cover
all allocations of a forward and backward pass, from torch's profiler. Gradients of an earlier pass exist, as in the
middle of an accumulation. The layers and TRL's fused head are measured separately. On a CPU the head uses temporaries
that its GPU kernel does not need; the head's cases keep them small.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from trl.kernels import ChunkedLogProbFunction
from trl.trainer.utils import add_fused_lm_head

from benchmarks.compute_loss import peak_bytes
from trl_archer.commands.forecast.hardware import GPUS
from trl_archer.commands.forecast.memory import TILE_VOCABULARY, head_backward, kept_ends, kept_layers, passing
from trl_archer.commands.forecast.models import Shape
from trl_archer.commands.forecast.setup import Setup


@dataclass(frozen=True)
class Case:
    """A tiny model and the shape of its batch."""

    shape: Shape
    rows: int
    tokens: int
    dtype: str = "bfloat16"  # float32 runs under autocast
    checkpointing: bool = False

    @property
    def setup(self) -> Setup:
        """The setup with this update phase: bf16 weights stand for DeepSpeed, float32 for a single process."""
        return Setup(
            model=self.shape,
            gpu=GPUS["h100"],
            gpus=1,
            sharding="none",
            micro_batch=self.rows,
            prompt=1,
            completion=self.tokens - 1,
            dtype=self.dtype,
            checkpointing=self.checkpointing,
        )


_QWEN2 = Shape("tiny", "qwen2", 6, 384, 6, 2, 64, 1536, 512, tied=False)
_QWEN3 = Shape("tiny", "qwen3", 8, 256, 8, 2, 64, 768, 512, tied=True)
_WIDE = Shape("tiny", "qwen3", 2, 512, 4, 4, 64, 1024, 2048, tied=False)
_MOE = Shape("tiny", "qwen3_moe", 6, 256, 4, 2, 64, 192, 512, False, 8, 4)
CASES = {
    "Qwen2": Case(_QWEN2, 2, 768),
    "Qwen2, checkpointing": Case(_QWEN2, 4, 768, checkpointing=True),
    "Qwen2, autocast": Case(_QWEN2, 2, 768, "float32"),
    "Qwen3": Case(_QWEN3, 4, 512),
    "Qwen3, checkpointing": Case(_QWEN3, 8, 512, checkpointing=True),
    "Qwen3, autocast, checkpointing": Case(_QWEN3, 4, 512, "float32", checkpointing=True),
    "Qwen3, wide, autocast": Case(_WIDE, 4, 1024, "float32"),
    "Qwen3 MoE": Case(_MOE, 2, 512),
    "Qwen3 MoE, checkpointing": Case(_MOE, 4, 768, checkpointing=True),
}

HEADS = {"many tokens": (6000, 256, 64), "many words": (16, 512, 100_000)}  # tokens, hidden, vocabulary


def configuration(shape: Shape) -> Any:
    """The transformers configuration of a shape."""
    sizes: dict[str, Any] = {
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": shape.tied,
    }
    if shape.family != "qwen2":
        sizes["head_dim"] = shape.head_dim
    if shape.experts:
        sizes.update(
            num_experts=shape.experts,
            num_experts_per_tok=shape.experts_per_token,
            moe_intermediate_size=shape.intermediate,
            norm_topk_prob=True,
        )
    return AutoConfig.for_model(shape.family, use_cache=False, **sizes)


def build(case: Case) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        configuration(case.shape), attn_implementation="sdpa", dtype=getattr(torch, case.dtype)
    )
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if case.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train()


def forward(model: PreTrainedModel, case: Case) -> Tensor:
    ids = torch.randint(0, case.shape.vocabulary, (case.rows, case.tokens))
    cast = torch.autocast("cpu", torch.bfloat16) if case.dtype == "float32" else nullcontext()
    with cast:
        out = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, fused_lm_head=True)
    return out.log_probs.sum()


def layers_step(model: PreTrainedModel, case: Case) -> None:
    """Forward and backward pass of everything but the head."""
    ids = torch.randint(0, case.shape.vocabulary, (case.rows, case.tokens))
    cast = torch.autocast("cpu", torch.bfloat16) if case.dtype == "float32" else nullcontext()
    with cast:
        hidden = model.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    hidden.backward(torch.ones_like(hidden))


def head_step(weight: Tensor, tokens: int) -> None:
    """Forward and backward pass of the head in bf16."""
    hidden = torch.randn(tokens, weight.size(1), dtype=weight.dtype, requires_grad=True)
    labels = torch.randint(0, len(weight), (tokens,))
    out = ChunkedLogProbFunction.apply(
        hidden, weight, None, labels, 1.0, TILE_VOCABULARY, None, 1.0, ("log_probs", "entropy")
    )
    out[0].sum().backward()


def storages(tensors: list[Tensor]) -> dict[int, int]:
    """Bytes by storage: views and shared weights count once."""
    return {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}


def states(model: PreTrainedModel) -> dict[str, int]:
    """Bytes of weights, gradients and Adam's moments after an update."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    optimizer.step()
    moments = [x for entry in optimizer.state.values() for name, x in entry.items() if name != "step"]
    tensors = {
        "weights": list(model.parameters()),
        "gradients": [p.grad for p in model.parameters() if p.grad is not None],
        "optimizer": moments,
    }
    return {name: sum(storages(group).values()) for name, group in tensors.items()}


def saved(model: PreTrainedModel, case: Case) -> int:
    """Bytes that autograd saves in a forward pass, without weights."""
    weights = storages(list(model.parameters()))
    found: dict[int, int] = {}
    held = []  # a freed storage could give its address to the next one

    def pack(tensor: Tensor) -> Tensor:
        found.update(storages([tensor]))
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward(model, case)
    del loss
    return sum(size for address, size in found.items() if address not in weights)


def measure(case: Case) -> dict[str, float]:
    """Counted and predicted bytes of a case. Checkpointing has its own hooks, so only its peak is measured."""
    model, setup, tokens = build(case), case.setup, case.rows * case.tokens
    layers_step(model, case)
    kept = kept_layers(setup, tokens)
    result = {"peak": float(peak_bytes(partial(layers_step, model, case)))}
    result["predicted_peak"] = kept + passing(setup, tokens, head=False)
    if not case.checkpointing:
        copies = 2 * case.shape.parameters if setup.casts else 0
        result.update(saved=saved(model, case), predicted_saved=kept + kept_ends(setup, tokens) + copies)
    return result


def measure_head(tokens: int, hidden: int, vocabulary: int) -> dict[str, float]:
    """Counted and predicted peak bytes of the head."""
    weight = torch.randn(vocabulary, hidden, dtype=torch.bfloat16, requires_grad=True)
    head_step(weight, tokens)
    shape = Shape("tiny", "qwen2", 0, hidden, 1, 1, hidden, 1, vocabulary, tied=False)
    return {
        "peak": float(peak_bytes(partial(head_step, weight, tokens))),
        "predicted_peak": head_backward(Case(shape, 1, tokens).setup, tokens),
    }


def measure_all() -> dict[str, dict[str, float]]:
    """All cases, by name."""
    cases = {name: measure(case) for name, case in CASES.items()}
    return {**cases, **{f"head, {name}": measure_head(*sizes) for name, sizes in HEADS.items()}}
