"""What a policy still knows: cloze facts by log-probability, and the perplexity of a page of plain English."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trl_archer.evaluation.sampling import evaluation_mode

from .facts import Fact, facts, legs, legs_in_the_task

PAGE = Path(__file__).with_name("page.txt")
PROBES = {"facts": facts, "legs": legs, "legs in the task": legs_in_the_task}
BATCH = 64  # sentences at a time


def sentences() -> list[str]:
    """All text of the probes, for a vocabulary that must hold it."""
    return [
        PAGE.read_text(),
        *(f"{x.begin}{end}" for make in PROBES.values() for x in make() for end in (x.true, *x.false)),
    ]


def end_logps(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]]
) -> list[float]:
    """Log-probability in nats of each end after its begin, summed over the tokens of the end."""
    result = []
    for start in range(0, len(pairs), BATCH):
        rows = []
        for begin, end in pairs[start : start + BATCH]:
            before = tokenizer(begin)["input_ids"]
            rows.append((before, tokenizer(end, add_special_tokens=False)["input_ids"]))
        width = max(len(before) + len(after) for before, after in rows)
        ids = torch.full((len(rows), width), tokenizer.pad_token_id)
        mask, scored = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, (before, after) in enumerate(rows):  # padding on the right: a causal model does not see it
            length = len(before) + len(after)
            ids[row, :length] = torch.tensor([*before, *after])
            mask[row, :length] = 1
            scored[row, len(before) : length] = 1
        result += (_token_logps(model, ids, mask) * scored[:, 1:]).sum(1).tolist()
    return result


def _token_logps(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Log-probability `(B, T - 1)` of every token but the first, on the CPU."""
    ids, mask = ids.to(model.device), mask.to(model.device)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    return logits.log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2).cpu()


def probe(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, known: Sequence[Fact]) -> dict[str, float]:
    """
    Scores facts.

    Returns:
        `dict[str, float]`: `accuracy`, the share of facts whose true end is more probable than each false one, and
        `nats`, the mean negative log-probability of the true end.
    """
    pairs = [(fact.begin, end) for fact in known for end in (fact.true, *fact.false)]
    with evaluation_mode(model, seed=0):
        logps = iter(end_logps(model, tokenizer, pairs))
    true, right = [], 0
    for fact in known:
        first, *others = [next(logps) for _ in (fact.true, *fact.false)]
        true.append(first)
        right += first > max(others)
    return {"accuracy": right / len(known), "nats": -sum(true) / len(true)}


def perplexity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> float:
    """Perplexity of the page, per token."""
    ids = tokenizer(PAGE.read_text(), return_tensors="pt")["input_ids"]
    with evaluation_mode(model, seed=0):
        return math.exp(-_token_logps(model, ids, torch.ones_like(ids)).mean().item())


def knowledge(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, every: int = 1) -> dict[str, float]:
    """All probes, of which every `every`-th fact counts, by name: accuracy, nats, and the perplexity of the page."""
    found = {"perplexity": perplexity(model, tokenizer)}
    for name, make in PROBES.items():
        found |= {f"{name}: {measure}": value for measure, value in probe(model, tokenizer, make()[::every]).items()}
    return found
