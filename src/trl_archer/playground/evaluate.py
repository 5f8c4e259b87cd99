"""Evaluates a policy on countdown: accuracies, and the entropy of its tokens by role."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..evaluation import avg_at_k, pass_at_k
from ..evaluation.sampling import Batch, evaluation_mode, generate, repeat, sample
from ..objective import reasoning_gate
from .countdown import Problem, decision_mask, verify

ENTROPY_QUANTILE = 0.8
MAX_COMPLETION_LENGTH = 32  # tokens; a complete trace with its eos has 28


class Evaluation(NamedTuple):
    """Result of [`evaluate_policy`]."""

    measures: dict[str, float]
    correct: list[int]  # correct samples of each problem
    samples: int  # samples per problem

    @property
    def counts(self) -> dict[str, Any]:
        """The input of `trl-archer figures accuracy`, as JSON."""
        return {"correct": self.correct, "samples": self.samples}


def token_entropies(model: PreTrainedModel, batch: Batch) -> Tensor:
    """
    Computes the entropy of the next-token distribution at each completion token, at temperature 1.

    Padding has no effect.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The policy; its mode does not change.
        batch ([`~trl_archer.evaluation.sampling.Batch`]):
            Prompts and completions.

    Returns:
        `Tensor` of shape `(B, T)`: entropies in nats, 0 where the completion is masked.
    """
    ids = torch.cat([batch.prompt_ids, batch.completion_ids], dim=1)
    mask = torch.cat([batch.prompt_mask, batch.completion_mask], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    logps = logits[:, batch.prompt_ids.shape[1] - 1 : -1].float().log_softmax(-1)
    return torch.where(batch.completion_mask.bool(), -(logps.exp() * logps).sum(-1), 0.0)


def _gate(entropies: Tensor, mask: Tensor) -> Tensor:
    gate = reasoning_gate(entropies, mask, entropy_quantile=ENTROPY_QUANTILE, gate_width=0.0)
    return (gate > 0.5) & mask.bool()


def evaluate_policy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    k: int = 8,
    seed: int = 0,
    *,
    max_new_tokens: int = MAX_COMPLETION_LENGTH,
    batch_size: int = 512,
) -> Evaluation:
    """
    Measures accuracy and token entropies, from `k` samples at temperature 1 and one greedy completion per problem.

    The model's mode, its generation config and torch's global random state do not change.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The policy.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer.
        problems (`list[Problem]`):
            Problems, usually `sample_problems("eval", n, seed)`.
        k (`int`, *optional*, defaults to `8`):
            Samples per problem.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the samples.
        max_new_tokens (`int`, *optional*, defaults to `32`):
            Longest completion, in tokens.
        batch_size (`int`, *optional*, defaults to `512`):
            Completions generated at a time.

    Returns:
        `Evaluation`: the correct samples of each problem in `correct`, `k` in `samples`, and in `measures`:

        - `avg_at_k`, `pass_at_k`: see [`trl_archer.evaluation`]; in [0, 1].
        - `greedy`: share of problems that greedy decoding solves.
        - `entropy_reasoning`, `entropy_knowledge`: mean entropy in nats of the sampled tokens in the top 20% of their
          response, and of the others; NaN if there are none.
        - `decision_share`: share of operands and operators among the tokens in the top 20%.

    Raises:
        ValueError: If there are no problems, or `k`, `max_new_tokens` or `batch_size` is below 1.
    """
    if not problems:
        raise ValueError("problems=[] is empty. Pass at least one problem.")
    prompts = [problem.prompt for problem in problems]
    repeated = repeat(prompts, k)
    texts: list[str] = []
    entropies, gates, decisions = [], [], []
    limits: dict[str, Any] = {"max_new_tokens": max_new_tokens, "batch_size": batch_size}
    with evaluation_mode(model, seed):
        for batch in generate(model, tokenizer, repeated, temperature=1.0, **limits):
            texts += tokenizer.batch_decode(batch.completion_ids, skip_special_tokens=True)
            real = batch.completion_mask.bool()
            entropy = token_entropies(model, batch)
            words = map(tokenizer.convert_ids_to_tokens, batch.completion_ids.tolist())
            decision = torch.tensor([decision_mask(row) for row in words], device=real.device)
            entropies.append(entropy[real])
            gates.append(_gate(entropy, batch.completion_mask)[real])
            decisions.append(decision[real])
    correct = [[verify(problem, text) for text in texts[i * k : (i + 1) * k]] for i, problem in enumerate(problems)]
    greedy = sample(model, tokenizer, prompts, 1, temperature=0.0, seed=seed, **limits)
    entropy, gate, decision = torch.cat(entropies), torch.cat(gates), torch.cat(decisions)
    measures = {
        "avg_at_k": avg_at_k(correct),
        "pass_at_k": pass_at_k(correct, k),
        "greedy": avg_at_k([[verify(p, t)] for p, (t,) in zip(problems, greedy, strict=True)]),
        "entropy_reasoning": entropy[gate].mean().item(),
        "entropy_knowledge": entropy[~gate].mean().item(),
        "decision_share": decision[gate].float().mean().item(),
    }
    return Evaluation(measures, [sum(row) for row in correct], k)


def token_roles(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str
) -> list[tuple[str, float, bool]]:
    """
    Returns the tokens of one completion with their entropy and role, for display.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The policy; its mode does not change.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer.
        prompt (`str`):
            The prompt.
        completion (`str`):
            The completion. Append `tokenizer.eos_token` to include the end, as in training.

    Returns:
        `list[tuple[str, float, bool]]`: text, entropy in nats, and whether the token is a reasoning token (top 20% of
        this completion).
    """
    prompt_ids = tokenizer(prompt, return_tensors="pt")["input_ids"].to(model.device)
    encoded = tokenizer(completion, return_tensors="pt", add_special_tokens=False)["input_ids"]
    if encoded.numel() == 0:
        return []
    ids = encoded.to(model.device)
    batch = Batch(prompt_ids, torch.ones_like(prompt_ids), ids, torch.ones_like(ids))
    with evaluation_mode(model, seed=0):
        entropies = token_entropies(model, batch)
    roles = _gate(entropies, batch.completion_mask)[0].tolist()
    texts = [tokenizer.decode([token]) for token in ids[0].tolist()]
    return list(zip(texts, entropies[0].tolist(), roles, strict=True))
