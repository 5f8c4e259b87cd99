# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Inside the objective
#
# Archer's loss, equation by equation, on tensors small enough to print. No model is involved: the functions of
# `trl_archer.objective` take and return per-token tensors of shape `(B, T)`. The notebook runs in seconds on a CPU.
#
# GRPO has one clip range and one KL weight for all tokens. Archer (Wang et al. 2025, [arXiv
# 2507.15778](https://huggingface.co/papers/2507.15778)) uses a token's entropy to tell whether it was a decision.
# Tokens of high entropy are **reasoning** tokens and may move far. The others are **knowledge** tokens and stay closer
# to the old policy and the reference. Equation numbers are the paper's.

# %%
import importlib.util
import os

# Installs from a clone of the repository. The default is the clone that holds this notebook
CLONE = os.environ.get("TRL_ARCHER_CLONE", "..")
if importlib.util.find_spec("trl_archer") is None:
    get_ipython().run_line_magic("pip", f"install -q '{CLONE}[plots]'")
    importlib.invalidate_caches()

SIZE = os.environ.get("ARCHER_NOTEBOOK_SIZE", "full")  # "tiny" is the same here: no training

# %%
from dataclasses import asdict

import matplotlib.pyplot as plt
import torch

from trl_archer.figures import plot_clip_plane
from trl_archer.objective import (
    Constraint,
    Constraints,
    archer_token_loss,
    clipped_surrogate,
    entropy_threshold,
    interpolate,
    k3_kl,
    reasoning_gate,
)

COLORS = {"reasoning": "#d55e00", "knowledge": "#0072b2"}


def show(name, row, form=".3f"):
    print(f"{name:<22}", *(f"{value:>7{form}}" for value in row.tolist()))


# %% [markdown]
# ## (1) Token entropy
#
# Two responses of ten tokens from a vocabulary of six. A token's entropy is the entropy of the distribution it was
# sampled from, at the sampling temperature, in nats: $e_{i,t} = -\sum_v \pi_\theta(v) \log \pi_\theta(v)$. The second
# response has the same logits times four, as from a more confident policy.

# %%
sharpness = torch.tensor([9.0, 1.0, 5.0, 8.0, 2.0, 7.0, 4.0, 9.0, 6.0, 8.0])
logits = torch.randn(10, 6, generator=torch.Generator().manual_seed(0)) * sharpness[:, None]
logits = torch.stack([logits, 4 * logits])  # (B, T, V)
mask = torch.ones(2, 10)

log_probs = logits.log_softmax(dim=-1)
entropies = -(log_probs.exp() * log_probs).sum(dim=-1)  # (B, T)
for i in range(2):
    show(f"entropies, response {i}", entropies[i])

# %% [markdown]
# ## (2) Threshold and gate
#
# $$\tau_i = \mathrm{Quantile}(\{e_{i,t}\}_t, \rho), \qquad w_{i,t} = 1[e_{i,t} > \tau_i]$$
#
# With $\rho = 0.8$, `entropy_quantile`, two tokens in ten are reasoning tokens. The quantile is over **each response's
# own tokens**. A threshold over the whole batch would mark nearly every token of an uncertain response as a decision,
# and almost none of a confident one.

# %%
tau = entropy_threshold(entropies, mask, entropy_quantile=0.8)
gate = reasoning_gate(entropies, mask, entropy_quantile=0.8)
batch_tau = torch.quantile(entropies, 0.8)

figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.6), sharey=True, layout="constrained", facecolor="white")
for i, ax in enumerate(axes):
    roles = ["reasoning" if w else "knowledge" for w in gate[i]]
    ax.bar(range(10), entropies[i], color=[COLORS[role] for role in roles])
    ax.axhline(tau[i], color="black", linewidth=1, label="its own threshold")
    ax.axhline(batch_tau, color="gray", linewidth=1, linestyle=":", label="threshold of the batch")
    ax.set(title=f"response {i}", xlabel="token", xticks=range(10))
axes[0].set_ylabel("entropy, nats")
axes[1].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# Orange bars are reasoning tokens, blue bars knowledge tokens. The dotted line would give response 0 three reasoning
# tokens and response 1 one.
#
# The inequality is strict, while the paper writes $\ge$. If a response is so confident that the threshold is 0, $\ge$
# would make *every* token a reasoning token and remove all constraints. The strict inequality gives no reasoning token.

# %%
certain = reasoning_gate(torch.zeros(1, 10), torch.ones(1, 10))
show("gate of zero entropies", certain[0], ".0f")

# %% [markdown]
# ## (3) and (4) Clip range and KL weight
#
# $$\epsilon_{i,t} = w_{i,t} \epsilon_r + (1 - w_{i,t}) \epsilon_k, \qquad
# \beta_{i,t} = w_{i,t} \beta_r + (1 - w_{i,t}) \beta_k$$
#
# One function for both. The paper's values: reasoning $\epsilon_r = 0.5$, $\beta_r = 0$; knowledge $\epsilon_k =
# 0.2$, $\beta_k = 0.001$.

# %%
epsilon_t = interpolate(gate, knowledge=0.2, reasoning=0.5)
beta_t = interpolate(gate, knowledge=0.001, reasoning=0.0)
show("gate", gate[0], ".0f")
show("clip range", epsilon_t[0], ".1f")
show("KL weight", beta_t[0])

# %% [markdown]
# As an area: the horizontal axis is a token's probability when it was sampled, the vertical axis its probability now.
# Inside its wedge a token is free to move. Knowledge tokens have the narrow wedge.

# %%
plot_clip_plane(asdict(Constraints()))  # the paper's values

# %% [markdown]
# ## (5) The surrogate, and where its gradient is zero
#
# $$\min\big(r A,\ \mathrm{clip}(r, 1 - \epsilon_{i,t}, 1 + \epsilon_{i,t})\,A\big), \qquad r = \pi_\theta / \pi_{old}$$
#
# Clipping stops a token's gradient when it has moved far enough *in the direction of its advantage*: above the range if
# the advantage is positive, below it if negative. Moving back is always allowed. The curves show the surrogate, and
# autograd gives its slope at seven ratios.

# %%
ratios = torch.linspace(0.2, 1.8, 321)
figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.8), layout="constrained", facecolor="white")
for ax, advantage in zip(axes, (1.0, -1.0), strict=True):
    for role, epsilon, width in (("reasoning", 0.5, 4), ("knowledge", 0.2, 1.5)):
        values = clipped_surrogate(ratios, torch.tensor(advantage), epsilon, epsilon)
        ax.plot(ratios, values, color=COLORS[role], linewidth=width, label=f"{role}, {1 - epsilon} to {1 + epsilon}")
    ax.set(title=f"advantage {advantage:+.0f}", xlabel="ratio r", ylabel="surrogate")
axes[0].legend(frameon=False, fontsize=8)
plt.show()

# %%
points = [0.4, 0.7, 0.9, 1.0, 1.1, 1.3, 1.6]
slopes = {}
show("ratio", torch.tensor(points), ".1f")
for role, epsilon in (("knowledge", 0.2), ("reasoning", 0.5)):
    for advantage in (1.0, -1.0):
        ratio = torch.tensor(points, requires_grad=True)
        clipped_surrogate(ratio, torch.tensor(advantage), epsilon, epsilon).sum().backward()
        slopes[role, advantage] = ratio.grad.tolist()
        show(f"{role}, A = {advantage:+.0f}", ratio.grad, ".0f")

# %% [markdown]
# At ratio 1.3 with a positive advantage a knowledge token has no gradient, while a reasoning token has its full
# gradient. The same holds at 0.7 with a negative advantage. The split of the clip range changes only these cells.
# On-policy the ratio is exactly 1 and they cannot occur: hence `num_iterations > 1` or `steps_per_generation >
# gradient_accumulation_steps`.
#
# ## (5) The KL term
#
# The second term pulls knowledge tokens toward a reference policy, weighted by $\beta_{i,t}$. It uses the estimator
# $e^d - d - 1$ with $d = \log \pi_{ref} - \log \pi_\theta$. It is never negative, and its mean over tokens sampled from
# the policy is the KL divergence. With six words in the vocabulary, the mean is a short sum:

# %%
reference = (logits[0] / 2).log_softmax(dim=-1)  # a less confident policy
policy = log_probs[0]
per_word = k3_kl(policy, reference)
expected_k3 = (policy.exp() * per_word).sum(dim=-1)
exact_kl = (policy.exp() * (policy - reference)).sum(dim=-1)
show("mean of the estimator", expected_k3)
show("KL divergence", exact_kl)

# %% [markdown]
# ## The token's loss
#
# `archer_token_loss` combines the pieces; the trainer calls it. The first response has a reward above its group's mean,
# the second one below. The second line is the equation by hand:

# %%
ratio = torch.tensor([0.6, 1.35, 0.9, 1.1, 1.35, 0.7, 1.6, 1.0, 1.25, 0.85]).repeat(2, 1)
old = torch.full((2, 10), -1.5)  # log-probabilities when the responses were sampled
logps = (old + ratio.log()).requires_grad_()  # log-probabilities now
ref = old - 0.5  # log-probabilities under the reference
advantages = torch.tensor([1.0, -1.0])

pieces = archer_token_loss(logps, old, advantages, entropies, mask, ref_per_token_logps=ref)

r, A = torch.exp(logps - old), advantages[:, None]
surrogate = torch.min(r * A, torch.clamp(r, 1 - epsilon_t, 1 + epsilon_t) * A)
by_hand = -(surrogate - beta_t * (torch.exp(ref - logps) - (ref - logps) - 1))
show("archer_token_loss", pieces.loss[0])
show("equation (5), negated", by_hand[0])

# %% [markdown]
# Over a batch, (5) divides by the number of tokens of all responses, $\sum_i |o_i|$. This is TRL's `loss_type="dapo"`:
# every token has the same weight, so a long response counts more than a short one.
#
# ## GRPO is the special case
#
# If both roles have the same range and the same weight, the gate has no effect. The code has no branch for this case.
# Below is the gradient of each token of the first response, for GRPO's own token loss (without a gate), Archer with
# equal roles, and Archer.


# %%
def gradient(loss):
    return torch.autograd.grad(loss.sum(), logps)[0]


def grpo_loss(epsilon, beta):
    ratio = torch.exp(logps - old)
    return -torch.min(ratio * A, ratio.clamp(1 - epsilon, 1 + epsilon) * A) + beta * k3_kl(logps, ref)


grpo = Constraint(epsilon_low=0.2, epsilon_high=0.2, beta=0.001)
equal_roles = Constraints(knowledge=grpo, reasoning=grpo)
inputs = (logps, old, advantages, entropies, mask)
gradients = {
    "GRPO": gradient(grpo_loss(0.2, 0.001)),
    "Archer, equal roles": gradient(archer_token_loss(*inputs, ref_per_token_logps=ref, constraints=equal_roles).loss),
    "Archer": gradient(archer_token_loss(*inputs, ref_per_token_logps=ref).loss),
}
show("gate", gate[0], ".0f")
show("ratio", ratio[0], ".2f")
for name, value in gradients.items():
    show(name, 0 - value[0], ".4f")

# %%
figure, ax = plt.subplots(figsize=(7.2, 2.6), layout="constrained", facecolor="white")
ax.bar(torch.arange(10) - 0.2, -gradients["GRPO"][0], width=0.4, color="#9a9aa3", label="GRPO")
colors = [COLORS["reasoning" if w else "knowledge"] for w in gate[0]]
ax.bar(torch.arange(10) + 0.2, -gradients["Archer"][0], width=0.4, color=colors, label="Archer, color of the role")
ax.set(xlabel="token of the first response", ylabel="push on its log-probability", xticks=range(10))
ax.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# Tokens 1 and 4 have the same ratio, 1.35. GRPO clips both; Archer still updates token 1, which was a decision. Token 6
# is outside even the wide range. Knowledge tokens have GRPO's gradient, and reasoning tokens have no KL term.

# %% [markdown]
# ## A graded gate
#
# The paper names a continuous gate as future work. (3) and (4) are linear in $w$, so only the gate changes:
# `gate_width` replaces the step by a ramp over the response's entropy *ranks*, with this width in quantile units. Up to
# $2 \min(\rho, 1 - \rho) = 0.4$ the ramp fits and the mean weight stays $1 - \rho$.

# %%
ranked = torch.arange(100.0)[None]  # a response of 100 tokens in order of entropy
widths = (0.0, 0.1, 0.2, 0.4)
ramps = {width: reasoning_gate(ranked, torch.ones(1, 100), 0.8, gate_width=width)[0] for width in widths}

figure, ax = plt.subplots(figsize=(7.2, 2.6), layout="constrained", facecolor="white")
for (width, weights), shade in zip(ramps.items(), ("#1c1c20", "#8c2d04", "#d55e00", "#f4a36c"), strict=True):
    ax.plot(ranked[0] / 99, weights, color=shade, label=f"gate_width = {width}")
ax.set(xlabel="rank of the token's entropy in its response, as a quantile", ylabel="weight w")
ax.legend(frameon=False, fontsize=8)
plt.show()

# %%
show("clip range, step", interpolate(ramps[0.0], 0.2, 0.5)[70:92:3])
show("clip range, width 0.2", interpolate(ramps[0.2], 0.2, 0.5)[70:92:3])

# %% [markdown]
# ## Checks
#
# Each statement above as an assertion.

# %%
close = torch.testing.assert_close

# (1), (2): entropies and threshold match their definitions; 20 % of each response are reasoning tokens
close(entropies, torch.distributions.Categorical(logits=logits).entropy())
close(tau, torch.quantile(entropies, 0.8, dim=1))
assert gate.sum(dim=1).tolist() == [2, 2]
assert (entropies > batch_tau).sum(dim=1).tolist() == [3, 1]
assert not certain.any()

# padding may hold anything and never counts
padded = torch.cat([entropies, torch.full((2, 3), torch.nan)], dim=1)
padded_gate = reasoning_gate(padded, torch.cat([mask, torch.zeros(2, 3)], dim=1))
assert torch.equal(padded_gate, torch.cat([gate, torch.zeros(2, 3)], dim=1))

# (3), (4): the values of the role
assert torch.equal(epsilon_t, torch.where(gate.bool(), 0.5, 0.2))
assert torch.equal(beta_t, torch.where(gate.bool(), 0.0, 0.001))

# (5): no gradient beyond the range in the direction of the advantage
assert slopes["knowledge", 1.0] == [1, 1, 1, 1, 1, 0, 0]
assert slopes["reasoning", 1.0] == [1, 1, 1, 1, 1, 1, 0]
assert slopes["knowledge", -1.0] == [0, 0, -1, -1, -1, -1, -1]
assert slopes["reasoning", -1.0] == [0, -1, -1, -1, -1, -1, -1]
assert pieces.clipped_high[0].nonzero().flatten().tolist() == [4, 6, 8]
assert pieces.clipped_low[1].nonzero().flatten().tolist() == [0, 5]

# (5): the estimator is never negative, and its mean is the KL divergence
assert (per_word > -1e-6).all()
close(expected_k3, exact_kl, atol=1e-5, rtol=1e-4)
close(pieces.loss, by_hand)

# with equal roles all gradients are GRPO's; with different roles they are not
close(gradients["Archer, equal roles"], gradients["GRPO"])
differs = ~torch.isclose(gradients["Archer"], gradients["GRPO"])
assert differs[0, 1]
assert not differs[gate == 0].any()  # knowledge tokens have GRPO's range and weight here

# the ramp keeps the mean weight; width 0 is the step
for width, weights in ramps.items():
    assert abs(weights.mean() - 0.2) < 0.01, width
assert set(ramps[0.0].tolist()) == {0.0, 1.0}
assert 0.2 < interpolate(ramps[0.2], 0.2, 0.5)[80] < 0.5
print("All checks pass.")
