# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Archer in ten minutes
#
# GRPO treats all tokens of a response alike. Archer (Wang et al. 2025, [arXiv
# 2507.15778](https://huggingface.co/papers/2507.15778)) splits them by entropy. **Reasoning** tokens, where the policy
# decides something, get a wide clip range and no KL term. **Knowledge** tokens, where it recalls or completes
# something, get a narrow range and a KL term to the reference. All tokens are updated together.
#
# This notebook trains the package's policy of 0.7M parameters on a task that a program verifies. It covers the gate,
# the loss, a training run and its figures. It runs in minutes on a CPU, without network or account.

# %%
import importlib.util
import os

# Installs from a clone of the repository. The default is the clone that holds this notebook
CLONE = os.environ.get("TRL_ARCHER_CLONE", "..")
if importlib.util.find_spec("trl_archer") is None:
    get_ipython().run_line_magic("pip", f"install -q '{CLONE}[plots]'")
    importlib.invalidate_caches()

SIZE = os.environ.get("ARCHER_NOTEBOOK_SIZE", "full")  # "tiny" trains fewer steps
STEPS, PROBLEMS = {"full": (160, 256), "tiny": (40, 64)}[SIZE]

# %%
import html
import math
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import HTML
from transformers import logging

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer, ConsoleLog
from trl_archer.evaluation import sample
from trl_archer.figures import (
    plot_clip_plane,
    plot_constraints,
    plot_entropy_spread,
    plot_training_dynamics,
    read_run,
    write_token_view,
)
from trl_archer.objective import Constraint, Constraints, archer_token_loss
from trl_archer.playground import (
    countdown_reward,
    evaluate_policy,
    load_dataset,
    load_policy,
    sample_problems,
    token_roles,
    verify,
)
from trl_archer.records import read_token_records

logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning)  # from transformers, about its own arguments
OUTPUT = Path("runs/ten_minutes")

# %% [markdown]
# ## A task that a program can verify
#
# Combine four numbers with + and − into a target, one step at a time, and write down the remaining numbers. Choosing
# two numbers and an operator is a decision; the result and the remaining numbers follow from it. The policy has learned
# the format and most of the arithmetic, but little of the search.

# %%
model, tokenizer = load_policy()
problem = sample_problems("eval", 8, seed=1)[1]
(completions,) = sample(model, tokenizer, [problem.prompt], 4, max_new_tokens=32)
print(problem.prompt)
for completion in completions:
    print("  ", completion, "  correct" if verify(problem, completion) else "  wrong")

# %% [markdown]
# ## The gate: which tokens are decisions
#
# Each token's entropy is the entropy of the distribution it was sampled from. The threshold is the 80 % quantile of
# *this response's own* entropies. Tokens above it are reasoning tokens. The gate has no other information about where
# the decisions are.

# %%
completion = f"{completions[0]} {tokenizer.eos_token}"
words, entropies, is_reasoning = zip(*token_roles(model, tokenizer, problem.prompt, completion), strict=True)
entropies = torch.tensor([entropies])
mask = torch.ones_like(entropies)

figure, ax = plt.subplots(figsize=(7.2, 2.4), layout="constrained", facecolor="white")
ax.bar(range(len(words)), entropies[0], color=["#d55e00" if r else "#0072b2" for r in is_reasoning])
ax.set_xticks(range(len(words)), words, fontsize=8)
for label, reasoning in zip(ax.get_xticklabels(), is_reasoning, strict=True):
    label.set_color("#d55e00" if reasoning else "#0072b2")
ax.set(ylabel="entropy, nats", title="orange: reasoning, blue: knowledge")
plt.show()

# %% [markdown]
# ## The loss: the same ratio, two outcomes
#
# Suppose that every token of this response is now 1.35 times as probable as when it was sampled, and that the response
# earned a reward above its group's mean. The knowledge tokens are outside their range (0.8 to 1.2) and get no gradient.
# The reasoning tokens are still inside theirs (0.5 to 1.5) and keep their gradient.

# %%
old_logps = torch.zeros_like(entropies)  # only differences of log-probabilities matter
logps = (old_logps + math.log(1.35)).requires_grad_()
without_kl = Constraints(knowledge=Constraint(0.2, 0.2, beta=0.0), reasoning=Constraint(0.5, 0.5, beta=0.0))
pieces = archer_token_loss(logps, old_logps, torch.tensor([1.0]), entropies, mask, constraints=without_kl)
pieces.loss.sum().backward()
gradient = logps.grad[0]
for role, members in (("reasoning", pieces.gate[0] == 1), ("knowledge", pieces.gate[0] == 0)):
    print(f"{role}: {members.sum()} tokens, {(gradient[members] != 0).sum()} of them with a gradient")

# %% [markdown]
# ## Training
#
# The role settings below are defaults with the paper's values. `steps_per_generation=4` makes four updates from every
# rollout, so that ratios differ from 1; strictly on-policy, no clip range acts. `token_records_steps` records the
# objective's view of each token, for the figures.

# %%
config = ArcherGRPOConfig(
    OUTPUT,
    epsilon=0.2,  # knowledge tokens: clip range
    beta=0.001,  # and KL weight
    epsilon_reasoning=0.5,  # reasoning tokens: clip range
    beta_reasoning=0.0,  # and KL weight
    entropy_quantile=0.8,  # the split between the roles
    steps_per_generation=4,
    learning_rate=2e-4,  # for 0.7M parameters; the default and the paper's value is 1e-6
    lr_scheduler_type="constant",
    per_device_train_batch_size=64,  # 8 prompts with 8 completions each
    max_completion_length=32,
    max_steps=STEPS,
    logging_steps=4,  # once per rollout
    token_records_steps=STEPS // 4,
    save_strategy="no",
    report_to=[],
    disable_tqdm=True,
    bf16=False,  # float32 also on a GPU: the model is small
    use_cpu=not torch.cuda.is_available(),
)


trainer = ArcherGRPOTrainer(
    model,
    reward_funcs=countdown_reward,
    args=config,
    train_dataset=load_dataset("rl", 4096, seed=0),
    processing_class=tokenizer,
)
ConsoleLog.attach(trainer, every=STEPS // 5, times=False)

held_out = sample_problems("eval", PROBLEMS, seed=0)
before = evaluate_policy(trainer.model, tokenizer, held_out).measures
trainer.train()
after = evaluate_policy(trainer.model, tokenizer, held_out).measures

# %% [markdown]
# ## Before and after
#
# Eight samples for each held-out problem. `avg_at_k` is the share of correct samples, `pass_at_k` the share of problems
# solved at least once, and `greedy` the share of problems solved by greedy decoding.
#
# The reward pays for avg@8, which rises. pass@8 starts near its ceiling and has little to gain: samples vary less as
# entropy falls, and a problem that one lucky sample in eight had solved can be lost. On 256 problems the standard error
# is about two points for pass@8 and three for greedy. Changes of that size are noise.
#
# `decision_share` is the share of operands and operators, the policy's choices, among the tokens above the threshold.
# It falls because the gate takes a fifth of every response, however certain the policy is. When fewer choices are open,
# results and separators of very low entropy fill that fifth.
#
# This toy does not show which method is better: here TRL's GRPO is ahead (the README has the numbers of both).

# %%
print(f"{'':<20}{'before':>8}{'after':>8}")
for name, value in before.items():
    print(f"{name:<20}{value:>8.3f}{after[name]:>8.3f}")

# %% [markdown]
# ## Training dynamics
#
# The paper's signs of a healthy run: the reward rises, length and repetition stay level, and the entropy of reasoning
# tokens stays above that of knowledge tokens.

# %%
trainer.save_state()
run = read_run(OUTPUT)
plot_training_dynamics(run)

# %% [markdown]
# ## What the constraints do
#
# Top: the share of each role's tokens that the clip range stopped, and how far each role is from the reference. Bottom
# right: groups whose completions all got the same reward. They carry no signal and are dropped.

# %%
plot_constraints(run, entropy_quantile=config.entropy_quantile)

# %% [markdown]
# The same for single tokens of the recorded updates. The horizontal axis is a token's probability when it was sampled,
# the vertical axis its probability in the update. Between its two lines a token is free to move.

# %%
records = read_token_records(OUTPUT / "token_records")
plot_clip_plane(records.settings, records)

# %% [markdown]
# ## Why each response has its own threshold
#
# Left: mean entropy differs little between batches and much between responses. Right: the share of reasoning tokens
# that one threshold for the whole batch would give each response, and the share that each response had.

# %%
plot_entropy_spread(records)

# %% [markdown]
# ## Every token of an update
#
# The token view is one HTML file without dependencies. Colors show entropy; hover over a token for its role, ratio and
# clip range. This is the last update. `trl-archer figures tokens` writes such a file from the records of any run.

# %%
last_update = read_token_records(OUTPUT / "token_records", step=STEPS)
page = html.escape(write_token_view(last_update, OUTPUT / "tokens.html", title="Last update").read_text())
HTML(f'<div><iframe srcdoc="{page}" style="width: 100%; height: 720px; border: 0"></iframe></div>')

# %% [markdown]
# ## Checks

# %%
# the gate: one token in five, those of highest entropy
assert is_reasoning.count(True) == round(0.2 * len(words))
assert min(e for e, r in zip(entropies[0], is_reasoning, strict=True) if r) > pieces.entropy_threshold

# the loss: at ratio 1.35 reasoning tokens have a gradient, knowledge tokens have none
assert torch.equal(gradient != 0, torch.tensor(is_reasoning))

# the training: higher accuracy on held-out problems, with the expected share of reasoning tokens
assert after["avg_at_k"] > before["avg_at_k"] + 0.02
_, shares = run.series("archer/reasoning_fraction")
assert (abs(shares - (1 - config.entropy_quantile)) < 0.03).all()
assert after["entropy_reasoning"] > 10 * after["entropy_knowledge"]

# the constraints: each role was clipped, and knowledge tokens stayed closer to the reference
kl = {role: run.series(f"kl/{role}")[1].mean() for role in ("reasoning", "knowledge")}
assert 0 < kl["knowledge"] < kl["reasoning"]
for role in kl:
    assert sum(run.series(f"clip_ratio/{role}/{side}_mean")[1].sum() for side in ("low", "high")) > 0, role

# the records: exactly the tokens beyond their role's range in the direction of the advantage are clipped
for record in records.completions:
    ratio = record.per_token_logps - record.old_per_token_logps
    epsilon = config.epsilon + record.gate * (config.epsilon_reasoning - config.epsilon)
    beyond = ratio > np.log1p(epsilon) if record.advantage > 0 else ratio < np.log1p(-epsilon)
    assert np.array_equal(beyond & record.mask, record.clipped_high | record.clipped_low)
print(f"avg@8 {before['avg_at_k']:.3f} -> {after['avg_at_k']:.3f}. All checks pass.")
