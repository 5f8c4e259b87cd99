"""Logged metrics equal a recomputation from the tokens, over micro-batches, ranks, training and evaluation."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from trl_archer.metrics import summarize, token_statistics
from trl_archer.rewards.repetition import repeated_ngram_share

from ..helpers import oracle
from ..helpers.settings import token_loss
from ..helpers.tiny import loss_and_gradients, make_inputs, make_trainer, rows_of
from ..helpers.tolerances import FLOAT32

SETTINGS = {"beta": 0.1, "beta_reasoning": 0.02, "delta": 2.5}


def tokens_of(trainer: Any, inputs: dict[str, Any]) -> dict[str, list[Any]]:
    """Per-token oracle terms of a batch, from the trainer's own log-probabilities and entropies."""
    with torch.no_grad():
        logps, entropies, _ = trainer._policy_forward(trainer.model, inputs)
    mask = inputs["completion_mask"].tolist()
    terms = oracle.token_terms(
        logps.tolist(),
        inputs["old_per_token_logps"].tolist(),
        inputs["ref_per_token_logps"].tolist(),
        entropies.tolist(),
        mask,
        inputs["advantages"].tolist(),
        oracle.Settings(**SETTINGS),
    )
    flat: dict[str, list[Any]] = {
        "threshold": terms.threshold,
        "mean_entropy": [sum(oracle.kept(e, m)) / sum(m) for e, m in zip(entropies.tolist(), mask, strict=True)],
        "low_share": [sum(low) / sum(m) for low, m in zip(terms.clipped_low, mask, strict=True)],
        "high_share": [sum(high) / sum(m) for high, m in zip(terms.clipped_high, mask, strict=True)],
    }
    columns = {
        "entropy": entropies.tolist(),
        "kl": terms.kl,
        "gate": terms.gate,
        "low": terms.clipped_low,
        "high": terms.clipped_high,
        "capped": terms.capped,
        "bounded": terms.bounded,
        "ratio": terms.ratio,
        "logp": logps.tolist(),
        "advantage": [[a] * len(m) for a, m in zip(inputs["advantages"].tolist(), mask, strict=True)],
    }
    for name, rows in columns.items():
        flat[name] = [x for row, keep in zip(rows, mask, strict=True) for x in oracle.kept(row, keep)]
    return flat


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def expected_metrics(flat: dict[str, list[Any]]) -> dict[str, float]:
    def of_role(name: str, role: int) -> float:
        return mean([x for x, w in zip(flat[name], flat["gate"], strict=True) if w == role])

    spread = mean([(x - mean(flat["mean_entropy"])) ** 2 for x in flat["mean_entropy"]]) ** 0.5
    metrics = {
        "entropy": mean(flat["entropy"]),
        "kl": mean(flat["kl"]),
        "clip_ratio/low_mean": mean(flat["low"]),
        "clip_ratio/high_mean": mean(flat["high"]),
        "clip_ratio/region_mean": mean(flat["low"]) + mean(flat["high"]),
        "clip_ratio/low_min": min(flat["low_share"]),
        "clip_ratio/high_max": max(flat["high_share"]),
        "clip_ratio/capped_mean": mean(flat["capped"]),
        "log_ratio/max": max(abs(math.log(x)) for x in flat["ratio"]),
        "log_ratio/bounded": mean(flat["bounded"]),
        "archer/reasoning_fraction": mean(flat["gate"]),
        "archer/entropy_threshold": mean(flat["threshold"]),
        "archer/entropy_spread": spread,
    }
    for name, role in (("reasoning", 1), ("knowledge", 0)):
        metrics[f"entropy/{name}"] = of_role("entropy", role)
        metrics[f"kl/{name}"] = of_role("kl", role)
        metrics[f"clip_ratio/{name}/low_mean"] = of_role("low", role)
        metrics[f"clip_ratio/{name}/high_mean"] = of_role("high", role)
    flows = {
        f"entropy_flow/{sign}_{kind}/{role}": 0.0
        for sign in ("positive", "negative")
        for kind in ("likely", "unlikely")
        for role in ("reasoning", "knowledge")
    }
    for logp, entropy, advantage, weight in zip(
        *(flat[x] for x in ("logp", "entropy", "advantage", "gate")), strict=True
    ):
        change = -advantage * (1 - math.exp(logp)) ** 2 * (logp + entropy)
        sign, kind = "positive" if advantage > 0 else "negative", "likely" if logp + entropy > 0 else "unlikely"
        flows[f"entropy_flow/{sign}_{kind}/{'reasoning' if weight else 'knowledge'}"] += change / len(flat["logp"])
    return {**metrics, **flows, "entropy_flow": sum(flows.values())}


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_logged_metrics_over_unequal_micro_batches(model_path: str, tmp_path: Path, mode: str) -> None:
    trainer = make_trainer(model_path, tmp_path, **SETTINGS)
    inputs = make_inputs(trainer, (3, 6, 1, 4, 2), (9, 4, 2, 12, 11), drift=1.5)
    inputs["old_per_token_logps"][0, 0] -= 30
    expected = expected_metrics(tokens_of(trainer, inputs))
    parts = [rows_of(inputs, [0]), rows_of(inputs, [1, 2, 3, 4])]
    if mode == "train":
        loss_and_gradients(trainer, *parts)
    else:
        trainer.model.eval()
        with torch.no_grad():
            for part in parts:
                trainer.compute_loss(trainer.model, part)
    logs: dict[str, float] = {}
    trainer.log(logs)
    prefix = "" if mode == "train" else "eval_"
    for name, value in expected.items():
        torch.testing.assert_close(logs[prefix + name], value, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    assert expected["clip_ratio/reasoning/high_mean"] > 0
    assert expected["clip_ratio/knowledge/low_mean"] > 0
    assert expected["clip_ratio/capped_mean"] > 0
    assert expected["log_ratio/bounded"] > 0


def test_window_starts_anew_after_each_log(model_path: str, tmp_path: Path) -> None:
    trainer = make_trainer(model_path, tmp_path, **SETTINGS)
    first, second = make_inputs(trainer), make_inputs(trainer, seed=1)
    loss_and_gradients(trainer, first)
    trainer.log({})
    loss_and_gradients(trainer, second)
    logs: dict[str, float] = {}
    trainer.log(logs)
    torch.testing.assert_close(logs["kl"], expected_metrics(tokens_of(trainer, second))["kl"], rtol=1e-5, atol=1e-6)


def test_one_collective_per_micro_batch(model_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(model_path, tmp_path, **SETTINGS)
    inputs = make_inputs(trainer)
    calls: list[str] = []
    for name in ("gather", "gather_for_metrics", "reduce", "pad_across_processes"):
        method = getattr(trainer.accelerator, name)
        monkeypatch.setattr(
            trainer.accelerator, name, lambda *a, n=name, m=method, **k: (calls.append(n), m(*a, **k))[1]
        )
    loss_and_gradients(trainer, inputs)
    assert calls == ["gather"]


def random_statistics(seed: int, rows: int) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)
    logps, old, ref, entropies = (torch.rand(rows, 10, generator=generator) for _ in range(4))
    mask = torch.rand(rows, 10, generator=generator) > 0.3
    mask[0] = False  # a dropped row
    advantages = torch.randn(rows, generator=generator)
    return logps - 1, old - 1, advantages, entropies, mask, ref - 1


def statistics_of(rows: slice, batch: tuple[Any, ...]) -> torch.Tensor:
    logps, old, advantages, entropies, mask, ref = (x[rows] for x in batch)
    pieces = token_loss(logps, old, advantages, entropies, mask, ref_per_token_logps=ref, gate_width=0.4)
    return token_statistics(pieces)


def test_ranks_and_micro_batches_add_up() -> None:
    """Two ranks with unequal shares, one of them without any token, give what one process gives."""
    batch = random_statistics(0, 9)
    whole = summarize([statistics_of(slice(0, 9), batch)], with_kl=True, with_aux_loss=False)
    ranks = torch.cat([statistics_of(slice(0, 1), batch), statistics_of(slice(1, 6), batch)])
    later = statistics_of(slice(6, 9), batch)
    split = summarize([ranks, later], with_kl=True, with_aux_loss=False)
    assert whole.keys() == split.keys()
    for name, value in whole.items():
        torch.testing.assert_close(split[name], value, **FLOAT32)


def test_a_micro_batch_that_is_not_finite_is_left_out() -> None:
    batch = random_statistics(0, 9)
    good = statistics_of(slice(0, 6), batch)
    bad = statistics_of(slice(6, 9), (torch.full_like(batch[0], torch.nan), *batch[1:]))
    assert bad.isnan().any()
    expected = summarize([good], with_kl=True, with_aux_loss=False)
    assert summarize([good, bad], with_kl=True, with_aux_loss=False) == expected


def test_nothing_to_average_is_nan_not_zero() -> None:
    mask = torch.zeros(2, 3)
    blank = torch.zeros(2, 3)
    pieces = token_loss(blank, blank, torch.ones(2), blank, mask, ref_per_token_logps=blank)
    metrics = summarize([token_statistics(pieces)], with_kl=True, with_aux_loss=True)
    assert metrics.pop("aux_loss") == 0
    assert all(value != value for value in metrics.values())


def repeated_share_by_sets(ids: list[int], n: int) -> float:
    grams = [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_repetition_equals_counting_with_sets(n: int) -> None:
    draw = random.Random(0)
    rows = [[draw.randrange(vocabulary) for _ in range(length)] for vocabulary, length in ((2, 60), (5, 300), (9, 7))]
    rows += [[], [3], [7] * 100, list(range(100)), list(range(30)) * 5, [150_000, 151_935] * 40]
    expected = torch.tensor([repeated_share_by_sets(row, n) for row in rows])
    torch.testing.assert_close(repeated_ngram_share(rows, n), expected, rtol=0, atol=1e-7)


def test_repetition_uses_twenty_grams() -> None:
    assert repeated_ngram_share([[1, 2] * 10]).item() == 0.0
    assert repeated_ngram_share([[1, 2] * 20]).item() == pytest.approx(1 - 2 / 21)
