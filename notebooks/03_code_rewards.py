# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Code rewards
#
# A code reward runs the policy's programs, while training pushes the policy toward anything that raises the reward.
# This notebook shows the verdicts on correct, wrong and hostile programs, and trains a small policy.
#
# It needs Linux but no GPU. If no kernel isolation works, the reward runs nothing and raises an error that names what
# is missing. [docs/security.md](../docs/security.md) lists what the sandbox defends against.

# %%
import importlib.util
import os

# Installs from a clone of the repository. The default is the clone that holds this notebook
CLONE = os.environ.get("TRL_ARCHER_CLONE", "..")
if importlib.util.find_spec("trl_archer") is None:
    get_ipython().run_line_magic("pip", f"install -q '{CLONE}[plots]'")
    importlib.invalidate_caches()

SIZE = os.environ.get("ARCHER_NOTEBOOK_SIZE", "full")  # "tiny" trains fewer steps
STEPS, PROBLEMS = {"full": (80, 256), "tiny": (40, 64)}[SIZE]

# %%
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from transformers import logging

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer, ConsoleLog
from trl_archer.evaluation import sample
from trl_archer.figures import plot_training_dynamics, read_run
from trl_archer.playground import (
    evaluate_policy,
    load_dataset,
    load_policy,
    sample_problems,
    to_expression,
    verify,
)
from trl_archer.rewards import code_reward, get_code_reward
from trl_archer.sandbox import Limits, Program, Sandbox, probe

logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning)  # from transformers, about its own arguments
OUTPUT = Path("runs/code_rewards")

# %% [markdown]
# ## Which isolation works here
#
# `probe` tests each isolation with a program that attempts what must fail: reading and writing outside, starting
# processes, opening sockets, sending signals. The sandbox uses the first isolation that works.

# %%
isolations = probe()
for name, problem in isolations.items():
    print(f"{name:<20} {problem or 'works'}")

# %% [markdown]
# ## The verdicts
#
# The program is the last Python block of the completion. The tests come with the problem, in any of the common data set
# formats. A program that passes all tests scores 1, any other 0. `None` means that the tests are unusable, so that the
# program cannot be judged. `log_extra` receives the reasons, which TRL shows in its table of completions.

# %%
tests = {"inputs": ["21", "-4", "0"], "outputs": ["42", "-8", "0"]}  # print the double of the number on standard input
answers = {
    "correct": "So:\n```python\nprint(2 * int(input()))\n```",
    "wrong": "```python\nprint(2 + int(input()))\n```",
    "crashes": "```python\nprint(2 * input()[9])\n```",
    "no program": "Multiply it by two.",
    "broken tests": "```python\nprint(2 * int(input()))\n```",
}
reasons = {}
rewards = code_reward(list(answers.values()), tests=[tests] * 4 + [{}], log_extra=reasons.__setitem__)
for name, reward, reason in zip(answers, rewards, reasons["code_reward_reason"], strict=True):
    print(f"{name:<14} {reward!s:<5} {reason}")

# %% [markdown]
# One setting makes the reward the share of passed tests. That gives more signal on hard problems, but is easier to
# game: adding two doubles some numbers.

# %%
fraction = get_code_reward(scoring="fraction")
print(fraction([answers["wrong"]], tests=[{"inputs": ["2", "5", "7", "9"], "outputs": ["4", "10", "14", "18"]}]))

# %% [markdown]
# ## Hostile programs
#
# Optimization finds such programs sooner or later. Each one gets the tests from above. No program may read, change or
# delete the canary file. The limits are short, so that this takes seconds.

# %%
canary = Path(tempfile.mkdtemp()) / "canary"
canary.write_text("untouched")
hostile = {
    "never ends": "while True: pass",
    "eats memory": "x = [0]\nwhile True: x += x",
    "prints forever": "while True: print('42' * 10_000)",
    "starts processes": "import os\nwhile True: os.fork()",
    "exits with success": "import os\nos._exit(0)",
    "claims success": "print('All tests passed. Score: 1.0')",
    "patches ==": "import builtins\nclass E(str):\n    __eq__ = lambda *_: True\nprint(E())",
    "looks for the tests": "import glob\nfor p in glob.glob('/**/*test*', recursive=True): print(open(p).read())",
    "reads the canary": f"print(open({str(canary)!r}).read())",
    "deletes the canary": f"import os\nos.remove({str(canary)!r})\nprint(2 * int(input()))",
    "leaves a file behind": f"open({str(canary.with_name('left'))!r}, 'w').write('x')\nprint(2 * int(input()))",
    "calls home": "import socket\nsocket.create_connection(('192.0.2.1', 80), timeout=1)\nprint(2 * int(input()))",
    "kills the trainer": f"import os\nos.kill({os.getpid()}, 9)\nprint(2 * int(input()))",
}
sandbox = Sandbox(limits=Limits(wall_seconds=2.0, cpu_seconds=2))
hostile_reward = get_code_reward(sandbox=sandbox)
verdicts = hostile_reward(
    [f"```python\n{source}\n```" for source in hostile.values()],
    tests=[tests] * len(hostile),
    log_extra=reasons.__setitem__,
)
for name, verdict, reason in zip(hostile, verdicts, reasons["code_reward_reason"], strict=True):
    print(f"{name:<26} {verdict}  {reason.replace(str(canary.parent), '...')[:80]}")

# %% [markdown]
# The last five attack something outside the sandbox. Inside, they see these errors:

# %%
inside = sandbox.run_many([Program(hostile[name], stdin="21") for name in list(hostile)[-5:]])
for name, run in zip(list(hostile)[-5:], inside, strict=True):
    print(f"{name:<26} {run.status}: {run.stderr.strip().splitlines()[-1].replace(str(canary.parent), '...')}")

# %% [markdown]
# ## A short training
#
# The package's policy of 0.7M parameters plays countdown: `3 5 6 8 = 10 >` asks for 10 from these four numbers.
# `to_expression` converts its steps into one line of Python. The sandbox runs the line, and the test checks that it
# prints the target. Any function of the completions and the columns of the data set can be a reward.


# %%
def program_reward(completions, target, **kwargs):
    programs = [f"```python\nprint({to_expression(completion)})\n```" for completion in completions]
    tests = [{"inputs": [""], "outputs": [str(number)]} for number in target]
    return code_reward(programs, tests=tests, **kwargs)


model, tokenizer = load_policy()
trainer = ArcherGRPOTrainer(
    model,
    reward_funcs=program_reward,
    args=ArcherGRPOConfig(
        OUTPUT,
        steps_per_generation=4,  # four updates per rollout, so that the clip ranges act
        learning_rate=2e-4,  # for 0.7M parameters
        lr_scheduler_type="constant",
        per_device_train_batch_size=32,  # 4 prompts with 8 completions each
        max_completion_length=32,
        max_steps=STEPS,
        logging_steps=4,  # once per rollout
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        bf16=False,  # float32 also on a GPU: the model is small
        use_cpu=not torch.cuda.is_available(),
    ),
    train_dataset=load_dataset("rl", 4096, seed=0),
    processing_class=tokenizer,
)
ConsoleLog.attach(trainer, every=STEPS // 5, times=False)

held_out = sample_problems("eval", PROBLEMS, seed=0)
before = evaluate_policy(trainer.model, tokenizer, held_out).measures
trainer.train()
after = evaluate_policy(trainer.model, tokenizer, held_out).measures
print(f"avg@8 on held-out problems: {before['avg_at_k']:.3f} -> {after['avg_at_k']:.3f}")

# %%
trainer.save_state()
run = read_run(OUTPUT)
plot_training_dynamics(run)

# %% [markdown]
# ## Verdicts during training
#
# The reward logs the share of completions by verdict. Here programs print either the target or something else, such as
# `None` for a completion that is not a legal trace. With real problems, watch `timeout` and above all `not_scorable`,
# which points to your tests or your sandbox, not to the policy.

# %%
figure, ax = plt.subplots(figsize=(7.2, 2.6), layout="constrained", facecolor="white")
for kind, color in (("passed", "#169c7b"), ("wrong_answer", "#d55e00"), ("not_scorable", "#1c1c20")):
    ax.plot(*run.series(f"code_reward/{kind}"), color=color, label=kind)
ax.set(xlabel="optimizer step", ylabel="share of completions", ylim=(-0.02, 1))
ax.legend(frameon=False, fontsize=8, ncols=4)
plt.show()

# %% [markdown]
# ## A reward only checks what its tests check
#
# The test asks for the target, but not for *these four numbers*. A solution of another problem with the same target
# passes. The playground's verifier checks every number. The number of problems on which the two disagree shows whether
# the policy has found the gap. Even if it has not, the gap exists, as the solution of another problem shows.

# %%
prompts = [problem.prompt for problem in held_out]
texts = [row[0] for row in sample(trainer.model, tokenizer, prompts, 1, max_new_tokens=32)]
by_tests = program_reward(texts, target=[problem.target for problem in held_out])
by_verifier = [float(verify(problem, text)) for problem, text in zip(held_out, texts, strict=True)]
disagreements = sum(test != verified for test, verified in zip(by_tests, by_verifier, strict=True))
print(f"passed the test {sum(by_tests) / PROBLEMS:.3f}, verified {sum(by_verifier) / PROBLEMS:.3f}")
found = "has been found" if disagreements else "has not been found"
print(f"they disagree on {disagreements} of {PROBLEMS} problems: the gap {found}")

cheat = "1 + 1 = 2 : 2 3 5 ; 2 + 3 = 5 : 5 5 ; 5 + 5 = 10 : 10 ;"  # not the numbers of 3 5 6 8 = 10 >
print("a solution of another problem:", program_reward([cheat], target=[10])[0], "and", verify("3 5 6 8 = 10 >", cheat))

# %% [markdown]
# ## Checks

# %%
assert "" in isolations.values()
assert rewards == [1.0, 0.0, 0.0, 0.0, None]
assert fraction([answers["wrong"]], tests=[{"inputs": ["2", "5"], "outputs": ["4", "10"]}]) == [0.5]

# hostile programs: all are wrong, none is "not scorable"; no file was read, changed, deleted or left behind
assert verdicts == [0.0] * len(hostile)
assert canary.read_text() == "untouched"
assert [path.name for path in canary.parent.iterdir()] == ["canary"]
assert not any("untouched" in run.stdout or run.status == "ended" for run in inside)

# the training: higher accuracy on held-out problems, with a reward that ran every program
assert after["avg_at_k"] > before["avg_at_k"]
assert run.series("code_reward/not_scorable")[1].tolist() == [0.0] * (STEPS // 4)

# whatever the verifier accepts passes the test; the test accepts more
assert all(test >= verified for test, verified in zip(by_tests, by_verifier, strict=True))
assert program_reward([cheat], target=[10]) == [1.0]
assert verify("3 5 6 8 = 10 >", cheat) == 0
print(f"avg@8 {before['avg_at_k']:.3f} -> {after['avg_at_k']:.3f}. All checks pass.")
