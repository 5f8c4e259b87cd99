"""Loss and gradient of each method against the oracle, and what each method reduces to."""

from typing import Any

import pytest
import torch
from torch import Tensor

from trl_archer.methods import (
    ClipCov,
    ClipSchedule,
    Opefo,
    Probability,
    ProbabilityRange,
    Steer,
    aspo,
    cispo,
    dppo,
    entropy_balance,
    entropy_change,
    uniform_by_token,
)
from trl_archer.objective import ARCHER, Constraint, Constraints, Method, archer_token_loss, clip

from ..helpers import method_oracle, oracle
from ..helpers.method_oracle import Choice
from ..helpers.tolerances import FLOAT64

SURROGATES: dict[str, Any] = {"clip": clip, "aspo": aspo, "cispo": cispo, "dppo": dppo}
WEIGHTS: dict[str, Any] = {"opefo": Opefo, "probability": Probability, "steer": Steer, "clip_cov": ClipCov}
STATES = {
    "opefo": {"lambda": 0.3},
    "steer": {"largest": 0.7},
    "clip_cov": {"advantage": 0.1, "logp": -1.4, "rate": 0.5},
}
CHOICES = {
    **{name: Choice(surrogate=name) for name in SURROGATES},
    "probability range": Choice(clip_range="probability", shares=(0.25, 0.75)),
    "probability range, aspo": Choice(clip_range="probability", surrogate="aspo"),
    **{f"{name} weights": Choice(token_weights=name, state=STATES.get(name, {})) for name in WEIGHTS},
    "opefo weights, dppo": Choice(token_weights="opefo", surrogate="dppo", state=STATES["opefo"]),
}
SETTINGS = {"epsilon": 0.2, "epsilon_reasoning": 0.4, "beta": 0.1, "beta_reasoning": 0.02}


def method_of(choice: Choice, uniform: Tensor | None = None) -> Method:
    weights = None if choice.token_weights is None else WEIGHTS[choice.token_weights]()
    if weights is not None:
        weights.state = dict(choice.state)
    if isinstance(weights, ClipCov) and uniform is not None:
        weights.uniform = uniform
    low, high = choice.shares
    own_range = ProbabilityRange(share_low=low, share_high=high)
    clip_range = own_range if choice.clip_range == "probability" else ARCHER.clip_range
    return Method(clip_range=clip_range, surrogate=SURROGATES[choice.surrogate], token_weights=weights)


def constraints_of(settings: oracle.Settings) -> Constraints:
    return Constraints(
        knowledge=Constraint(settings.epsilon, settings.epsilon, settings.beta),
        reasoning=Constraint(settings.epsilon_reasoning, settings.epsilon_reasoning, settings.beta_reasoning),
        entropy_quantile=settings.entropy_quantile,
    )


def random_tokens(seed: int, rows: int = 6, width: int = 40, drift: float = 0.5) -> dict[str, Tensor]:
    """Log-probabilities and entropies of the same logits, with ratios inside and outside of all ranges."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(rows, width, 7, dtype=torch.float64, generator=generator)
    log_probs = logits.log_softmax(dim=-1)
    ids = torch.distributions.Categorical(logits=logits).probs.flatten(0, 1).multinomial(1, generator=generator)
    logps = log_probs.gather(2, ids.view(rows, width, 1)).squeeze(2)
    noise = torch.randn(2, rows, width, dtype=torch.float64, generator=generator)
    mask = torch.rand(rows, width, generator=generator) > 0.2
    mask[0] = False
    old = logps + drift * noise[0]
    old[1, :3] = logps[1, :3] - 25
    return {
        "logps": logps,
        "old": old.clamp(max=0),
        "ref": logps + 0.3 * noise[1],
        "entropies": -(log_probs.exp() * log_probs).sum(dim=2),
        "mask": mask.long(),
        "advantages": torch.tensor([1.0, -1.3, 0.8, 0.0, -0.6, 1.9], dtype=torch.float64),
        "uniform": torch.rand(rows, width, dtype=torch.float64, generator=generator),
    }


def loss_and_gradient(tokens: dict[str, Tensor], method: Method, on_policy: bool, ref: bool = True, **settings: Any):
    logps = tokens["logps"].clone().requires_grad_()
    pieces = archer_token_loss(
        logps,
        None if on_policy else tokens["old"],
        tokens["advantages"],
        tokens["entropies"],
        tokens["mask"],
        ref_per_token_logps=tokens["ref"] if ref else None,
        constraints=constraints_of(oracle.Settings(**{**SETTINGS, **settings})),
        method=method,
    )
    (gradient,) = torch.autograd.grad(pieces.loss.sum(), logps)
    return pieces, gradient


@pytest.mark.parametrize("on_policy", [True, False], ids=["on-policy", "off-policy"])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", CHOICES)
def test_agrees_with_the_oracle(name: str, seed: int, on_policy: bool) -> None:
    tokens, choice = random_tokens(seed), CHOICES[name]
    lists = {key: x.tolist() for key, x in tokens.items()}
    terms = method_oracle.terms(
        lists["logps"],
        None if on_policy else lists["old"],
        lists["ref"],
        lists["entropies"],
        lists["mask"],
        lists["advantages"],
        oracle.Settings(**SETTINGS),
        choice,
        lists["uniform"],
    )
    pieces, gradient = loss_and_gradient(tokens, method_of(choice, tokens["uniform"]), on_policy)
    torch.testing.assert_close(pieces.loss, torch.tensor(terms.loss, dtype=torch.float64), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(gradient, torch.tensor(terms.gradient, dtype=torch.float64), rtol=1e-12, atol=1e-13)
    if not on_policy:
        stopped = (pieces.clipped_low | pieces.clipped_high).sum()
        assert (stopped > 0) == (choice.surrogate != "cispo")
    assert not pieces.tokens.logps.requires_grad


@pytest.mark.parametrize("name", WEIGHTS)
def test_statistics_agree_with_the_oracle_however_a_step_is_split(name: str) -> None:
    choice = Choice(token_weights=name, state=STATES.get(name, {}))
    tokens = random_tokens(3)
    method = method_of(choice, tokens["uniform"])
    pieces, _ = loss_and_gradient(tokens, method, on_policy=False)
    stopped = (pieces.clipped_low | pieces.clipped_high).tolist()
    lists = {key: x.tolist() for key, x in tokens.items()}
    expected = method_oracle.statistics(
        *(lists[key] for key in ("logps", "old", "entropies", "mask", "advantages")), stopped, choice
    )
    for split in ([6], [1, 5], [2, 2, 2]):
        method = method_of(choice, tokens["uniform"])
        rows = []
        for part in zip(*(x.split(split) for x in tokens.values()), strict=True):
            some = dict(zip(tokens, part, strict=True))
            if isinstance(method.token_weights, ClipCov):
                method.token_weights.uniform = some["uniform"]
            pieces, _ = loss_and_gradient(some, method, on_policy=False)
            some_stopped = pieces.clipped_low | pieces.clipped_high
            rows.append(method.token_weights.measure(pieces.tokens, some_stopped))
        method.token_weights.update(torch.stack(rows))
        assert method.token_weights.state == pytest.approx(expected if name != "probability" else {}, rel=1e-12)


# Reductions


def same(tokens: dict[str, Tensor], one: Method, other: Method, on_policy: bool, **settings: Any) -> bool:
    _, gradient = loss_and_gradient(tokens, one, on_policy, **settings)
    _, expected = loss_and_gradient(tokens, other, on_policy, **settings)
    return torch.allclose(gradient, expected, **FLOAT64)


@pytest.mark.parametrize("surrogate", [aspo, cispo, dppo])
def test_every_surrogate_is_the_policy_gradient_on_policy(surrogate: Any) -> None:
    assert same(random_tokens(0), Method(surrogate=surrogate), ARCHER, on_policy=True)
    assert not same(random_tokens(0), Method(surrogate=surrogate), ARCHER, on_policy=False)


def test_a_probability_range_without_slope_and_offset_is_plain() -> None:
    plain = ProbabilityRange(slope_low=0, slope_high=0, offset_low=0, offset_high=0)
    assert same(random_tokens(0), Method(clip_range=plain), ARCHER, on_policy=False)
    assert same(random_tokens(0), Method(clip_range=ProbabilityRange(share_low=0, share_high=0)), ARCHER, False)
    assert not same(random_tokens(0), Method(clip_range=ProbabilityRange()), ARCHER, on_policy=False)


@pytest.mark.parametrize("weights", [Opefo(), Steer(min_weight=1.0), Probability(alpha=0.0)])
def test_weights_that_are_off_are_1(weights: Any) -> None:
    assert same(random_tokens(0), Method(token_weights=weights), ARCHER, on_policy=False)


def test_the_range_in_the_old_probability_stops_the_same_tokens() -> None:
    """r > 1 + a r pi_old + b exactly where r > (1 + b) / (1 - a pi_old), which needs no current probability."""
    tokens = random_tokens(5, rows=6, width=400)
    settings = {"epsilon_reasoning": 0.2}
    pieces, _ = loss_and_gradient(tokens, Method(clip_range=ProbabilityRange()), on_policy=False, **settings)
    old, ratio = tokens["old"].exp(), pieces.ratio
    positive = tokens["advantages"].unsqueeze(1) > 0
    negative = tokens["advantages"].unsqueeze(1) < 0
    high = (ratio > (1 + 0.5) / (1 + 0.25 * old)) & positive & tokens["mask"].bool()
    low = (ratio < (1 - 0.3) / (1 - 0.13 * old)) & negative & tokens["mask"].bool()
    assert torch.equal(pieces.clipped_high, high)
    assert torch.equal(pieces.clipped_low, low)
    assert high.any()
    assert low.any()


def test_aspo_turns_the_weight_of_positive_advantages_around() -> None:
    """By hand: weight 1 / r = 2 for a token that lags behind, r = 2 for a bad one that grew, and the cap at 3."""
    ratios = torch.tensor([[0.5, 1.1, 0.2, 1.9], [2.0, 0.9, 5.0, 0.3]], dtype=torch.float64)
    tokens = {
        "logps": torch.full((2, 4), -1.0, dtype=torch.float64),
        "old": -1.0 - ratios.log(),
        "entropies": torch.zeros(2, 4),
        "mask": torch.ones(2, 4),
        "advantages": torch.tensor([1.0, -1.0], dtype=torch.float64),
    }
    pieces, gradient = loss_and_gradient(tokens, Method(surrogate=aspo), False, ref=False, beta=0.0, beta_reasoning=0.0)
    expected = [[-2.0, -1 / 1.1, -3.0, 0.0], [2.0, 0.9, 3.0, 0.0]]
    torch.testing.assert_close(gradient, torch.tensor(expected, dtype=torch.float64), **FLOAT64)
    assert pieces.capped.tolist() == [[False, False, True, False], [False, False, True, False]]
    assert pieces.loss[0, 3].item() == pytest.approx(-1 / 1.2)


# Entropy flow


def test_entropy_change_is_that_of_a_policy_gradient_step() -> None:
    """The expectation of the estimate over the policy, times the step, is the change of the entropy to first order."""
    logits = torch.tensor([1.2, 0.1, -0.4, -2.0, 0.6], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([0.5, -1.0, 2.0, -0.3, 0.1], dtype=torch.float64)
    logps = logits.log_softmax(0)
    probs = logps.exp().detach()
    entropy = -(probs * logps.detach()).sum()
    # A step on the logits that raises each sampled token by its own advantage, without the softmax's coupling
    step = 1e-6 * probs * advantages * (1 - probs)
    moved = (logits.detach() + step).log_softmax(0)
    change = -(moved.exp() * moved).sum() - entropy
    coupled = -(probs * (logps.detach() + entropy) * (1e-6 * probs * advantages * (1 - probs))).sum()
    torch.testing.assert_close(change, coupled, rtol=1e-4, atol=1e-12)
    signs = entropy_change(logps.detach(), entropy, advantages).sign()
    assert signs.tolist() == (-advantages * (logps.detach() + entropy)).sign().tolist()


def test_balance_weighs_rise_and_fall_alike() -> None:
    for raised, lowered in ((1.0, 3.0), (0.2, 0.1), (0.0, 2.0), (2.0, 0.0)):
        lam = entropy_balance(raised, lowered)
        assert (1 + lam) * raised == pytest.approx((1 - lam) * lowered)
    assert entropy_balance(0.0, 0.0) == 0.0


# Schedules


def test_schedules_at_their_ends() -> None:
    def shares(name: str) -> list[tuple[float, float]]:
        return [ClipSchedule(name).shares(progress) for progress in (0.0, 0.25, 0.5, 0.75, 1.0)]

    assert shares("constant") == [(1.0, 1.0)] * 5
    assert shares("increase_decrease") == [(0.0, 1.0), (0.0, 0.5), (1.0, 0.0), (0.5, 0.0), (0.0, 0.0)]
    assert shares("decrease_increase_decrease") == [(0.0, 0.0), (0.0, 0.5), (1.0, 1.0), (0.5, 1.0), (0.0, 1.0)]


def test_oscillating_schedule() -> None:
    """Floor 0.2, ceiling from 1.0 down to 0.2: raises once at the floor, until above the ceiling of that step."""
    schedule = ClipSchedule("oscillate")
    seen = []
    for step, entropy in enumerate([1.0, 0.6, 0.2, 0.5, 0.55, 0.61, 0.4, 0.19, 0.3, 0.29]):
        schedule.update(entropy, step / 10)
        seen.append(schedule.shares(step / 10)[1])
    assert seen == [0, 0, 1, 1, 1, 0, 0, 1, 1, 0]
    again = ClipSchedule("oscillate", dict(schedule.state))
    assert again.shares(0.9) == schedule.shares(0.9)


# Random numbers


def test_random_numbers_depend_on_the_completion_the_position_and_the_seed_only() -> None:
    ids = torch.randint(0, 30_000, (8, 50), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(8, 50)
    mask[:4, 30:] = 0
    whole = uniform_by_token(ids, mask, 7)
    assert torch.equal(uniform_by_token(ids[[5, 2]], mask[[5, 2]], 7), whole[[5, 2]])
    assert torch.equal(uniform_by_token(ids[:4, :30], mask[:4, :30], 7), whole[:4, :30])
    assert not (uniform_by_token(ids, mask, 8) == whole).any()
    assert not (uniform_by_token(ids + 1, mask, 7) == whole).any()
    many = uniform_by_token(torch.randint(0, 9, (500, 400)), torch.ones(500, 400), 0)
    assert many.mean().item() == pytest.approx(0.5, abs=0.005)
    assert many.std().item() == pytest.approx(12**-0.5, abs=0.005)
    assert (many < 0.01).float().mean().item() == pytest.approx(0.01, abs=0.002)
