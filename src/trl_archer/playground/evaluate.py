"""Samples completions from a policy, scores them and measures where its entropy is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from trl_archer.evaluation import avg_at_k, pass_at_k
from trl_archer.objective import reasoning_gate

from .countdown import Problem, decision_mask, verify

ENTROPY_QUANTILE = 0.8


class Evaluation(NamedTuple):
    """What [`evaluate_policy`] measures, and what its accuracies are made of."""

    measures: dict[str, float]
    correct: list[int]  # right samples of each problem
    samples: int  # drawn of each problem

    @property
    def counts(self) -> dict[str, Any]:
        """What `trl-archer figures accuracy` reads, as JSON."""
        return {"correct": self.correct, "samples": self.samples}


class Batch(NamedTuple):
    """Prompts padded on the left and completions padded on the right; masks are 1 on real tokens, eos included."""

    prompt_ids: Tensor  # (B, P)
    prompt_mask: Tensor  # (B, P)
    completion_ids: Tensor  # (B, T)
    completion_mask: Tensor  # (B, T)


@contextmanager
def _evaluating(model: PreTrainedModel, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradients and a seeded random state, all put back at the end."""
    modes = [(module, module.training) for module in model.modules()]
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(seed)
            model.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


def _generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float,
    batch_size: int,
) -> Iterator[Batch]:
    """Generates one batch at a time; to be used inside `_evaluating`."""
    options: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        options = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **options,
    )
    for start in range(0, len(prompts), batch_size):
        inputs = tokenizer(
            list(prompts[start : start + batch_size]),
            return_tensors="pt",
            padding=True,
            padding_side="left",
        ).to(model.device)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        completion = output[:, ids.shape[1] :]
        is_eos = (completion == tokenizer.eos_token_id).long()
        yield Batch(ids, mask, completion, (is_eos.cumsum(1) - is_eos == 0).long())


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    k: int,
    *,
    max_new_tokens: int = 32,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 512,
) -> list[list[str]]:
    """
    Samples `k` completions per prompt. The model's mode, its generation config and the global random state of torch
    are left as they were.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The policy.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer, with pad and eos tokens.
        prompts (`list[str]`):
            The prompts.
        k (`int`):
            Completions per prompt, at least 1.
        max_new_tokens (`int`, *optional*, defaults to `32`):
            Longest completion, in tokens.
        temperature (`float`, *optional*, defaults to `1.0`):
            Sampling temperature; `0.0` is greedy decoding.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the samples. The same seed and `batch_size` give the same samples on the same machine.
        batch_size (`int`, *optional*, defaults to `512`):
            Completions generated at a time.

    Returns:
        `list[list[str]]`: `k` completions for each prompt, special tokens removed.

    Raises:
        `ValueError`: if `k` or `batch_size` is below 1, or `temperature` is negative.
    """
    _check(k, temperature, batch_size)
    repeated = [prompt for prompt in prompts for _ in range(k)]
    texts: list[str] = []
    with _evaluating(model, seed):
        for batch in _generate(
            model, tokenizer, repeated, max_new_tokens=max_new_tokens, temperature=temperature, batch_size=batch_size
        ):
            texts += tokenizer.batch_decode(batch.completion_ids, skip_special_tokens=True)
    return [texts[i : i + k] for i in range(0, len(texts), k)]


def _check(k: int, temperature: float, batch_size: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if temperature < 0:
        raise ValueError(f"temperature must be 0 (greedy) or positive, got {temperature}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def token_entropies(model: PreTrainedModel, batch: Batch) -> Tensor:
    """
    Entropy of the next-token distribution at each completion token, at temperature 1, whatever the padding.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The policy; used in the mode it is in.
        batch ([`Batch`]):
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
    max_new_tokens: int = 32,
    batch_size: int = 512,
) -> dict[str, float]:
    """
    Accuracy and entropy of a policy on countdown problems, from `k` samples each at temperature 1.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The policy; left as it was.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer.
        problems (`list[Problem]`):
            The problems.
        k (`int`, *optional*, defaults to `8`):
            Samples per problem.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the samples.
        max_new_tokens (`int`, *optional*, defaults to `32`):
            Longest completion, in tokens.
        batch_size (`int`, *optional*, defaults to `512`):
            Completions generated at a time.

    Returns:
        `dict[str, float]`:

        - `avg_at_k`, `pass_at_k`: see [`trl_archer.evaluation`]; in [0, 1].
        - `greedy`: share of problems solved by greedy decoding.
        - `entropy_reasoning`, `entropy_knowledge`: mean entropy in nats of the sampled tokens in the top 20 % of their
          response, and of the others; nan if there are none.
        - `decision_share`: share of operands and operators among the tokens in the top 20 %.

    Raises:
        `ValueError`: if there are no problems, or `k` or `batch_size` is below 1.
    """
    return evaluate_problems(
        model, tokenizer, problems, k, seed, max_new_tokens=max_new_tokens, batch_size=batch_size
    ).measures


def evaluate_problems(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    k: int = 8,
    seed: int = 0,
    *,
    max_new_tokens: int = 32,
    batch_size: int = 512,
) -> Evaluation:
    """[`evaluate_policy`] with the right samples of each problem, which figures and comparisons start from."""
    _check(k, 1.0, batch_size)
    if not problems:
        raise ValueError("problems is empty; pass at least one problem")
    prompts = [problem.prompt for problem in problems]
    repeated = [prompt for prompt in prompts for _ in range(k)]
    texts: list[str] = []
    entropies, gates, decisions = [], [], []
    limits: dict[str, Any] = {"max_new_tokens": max_new_tokens, "batch_size": batch_size}
    with _evaluating(model, seed):
        for batch in _generate(model, tokenizer, repeated, temperature=1.0, **limits):
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
        "avg_at_k": avg_at_k(correct, k),
        "pass_at_k": pass_at_k(correct, k),
        "greedy": avg_at_k([[verify(p, t)] for p, (t,) in zip(problems, greedy, strict=True)], 1),
        "entropy_reasoning": entropy[gate].mean().item(),
        "entropy_knowledge": entropy[~gate].mean().item(),
        "decision_share": decision[gate].float().mean().item(),
    }
    return Evaluation(measures, [sum(row) for row in correct], k)


def token_roles(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str
) -> list[tuple[str, float, bool]]:
    """
    The tokens of one completion with their entropy and role, for display.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The policy; left as it was.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer.
        prompt (`str`):
            The prompt.
        completion (`str`):
            The completion. Append `tokenizer.eos_token` to include the end, as in training.

    Returns:
        `list[tuple[str, float, bool]]`: text, entropy in nats, and whether the token is a reasoning token (top 20 % of
        this completion).
    """
    prompt_ids = tokenizer(prompt, return_tensors="pt")["input_ids"].to(model.device)
    encoded = tokenizer(completion, return_tensors="pt", add_special_tokens=False)["input_ids"]
    if encoded.numel() == 0:
        return []
    ids = encoded.to(model.device)
    batch = Batch(prompt_ids, torch.ones_like(prompt_ids), ids, torch.ones_like(ids))
    with _evaluating(model, seed=0):
        entropies = token_entropies(model, batch)
    roles = _gate(entropies, batch.completion_mask)[0].tolist()
    texts = [tokenizer.decode([token]) for token in ids[0].tolist()]
    return list(zip(texts, entropies[0].tolist(), roles, strict=True))
