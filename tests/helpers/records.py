"""Token records with random log-probabilities and what the objective makes of them."""

from typing import Any

import torch

from trl_archer.records import CompletionRecord, TokenRecords

from .settings import record_settings, token_loss

SETTINGS = record_settings()
WORDS = [" so", "\n", "wait", "$x$", "=", "中", "7", "<eos>"]


def make_completions(step: int, rows: int = 6, length: int = 40, **settings: Any) -> list[CompletionRecord]:
    """Completions of a step, two per prompt."""
    generator = torch.Generator().manual_seed(step)

    def random(scale: float, offset: float) -> torch.Tensor:
        return scale * torch.rand(rows, length, generator=generator) + offset

    ids = torch.randint(len(WORDS), (rows, length), generator=generator)
    # Entropies rise with the row, so that one threshold for all rows fits none, and with the token id
    entropies = random(1.0, 0.0) * (1 + torch.arange(rows)).unsqueeze(1) * (0.1 + ids)
    old = -random(4.0, 0.01)
    logps, ref = old + random(1.2, -0.6), old + random(0.4, -0.2)
    advantages = torch.linspace(-1.5, 1.5, rows)
    mask = torch.ones(rows, length, dtype=torch.bool)
    mask[:, :2] = False
    pieces = token_loss(logps, old, advantages, entropies, mask, ref_per_token_logps=ref, **settings)
    return [
        CompletionRecord(
            step=step,
            rank=row % 2,
            row=row,
            prompt=f"prompt {row // 2}",
            completion="".join(WORDS[i] for i in ids[row].tolist()),
            token_ids=ids[row].int().numpy(),
            tokens=[WORDS[i] for i in ids[row].tolist()],
            reward=None if row == 0 else float(row),
            advantage=advantages[row].item(),
            entropy_threshold=pieces.entropy_threshold[row].item(),
            entropies=entropies[row].numpy(),
            per_token_logps=logps[row].numpy(),
            old_per_token_logps=old[row].numpy(),
            ref_per_token_logps=None if row == 1 else ref[row].numpy(),
            gate=pieces.gate[row].numpy(),
            mask=mask[row].numpy(),
            clipped_low=pieces.clipped_low[row].numpy(),
            clipped_high=pieces.clipped_high[row].numpy(),
        )
        for row in range(rows)
    ]


def make_records(steps: tuple[int, ...] = (10, 20), **settings: Any) -> TokenRecords:
    return TokenRecords([c for step in steps for c in make_completions(step, **settings)], record_settings(**settings))
