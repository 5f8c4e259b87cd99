"""Trains the shipped policy from scratch, supervised, on demonstrations that are often wrong.

python -m benchmarks.warm_start --output DIR
"""

import argparse
import json
import platform
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    get_cosine_schedule_with_warmup,
)

from trl_archer.playground.countdown import Problem, all_problems, demonstrate, sample_problems
from trl_archer.playground.evaluate import evaluate_policy
from trl_archer.playground.policy import build_model, build_tokenizer

STEPS = 2400
BATCH_SIZE = 64
LEARNING_RATE = 3e-3
WARM_UP_STEPS = 50
MAX_GRAD_NORM = 1.0
EVAL_PROBLEMS = 256
EVAL_K = 8


def make_batch(
    tokenizer: PreTrainedTokenizerBase, problems: list[Problem], rng: random.Random
) -> tuple[Tensor, Tensor]:
    """
    Demonstrations as token ids. All countdown prompts and traces have the same length and need no padding.

    Returns:
        `tuple[Tensor, Tensor]`: input ids and labels of shape `(B, T)`; labels are -100 on the prompt.
    """
    prompts = tokenizer([p.prompt for p in problems], return_tensors="pt")["input_ids"]
    traces = [f"{demonstrate(p, rng)} {tokenizer.eos_token}" for p in problems]
    completions = tokenizer(traces, return_tensors="pt")["input_ids"]
    labels = torch.cat([torch.full_like(prompts, -100), completions], dim=1)
    return torch.cat([prompts, completions], dim=1), labels


def train(seed: int, steps: int = STEPS) -> tuple[PreTrainedModel, float]:
    """
    Trains a policy by cross-entropy on completion tokens and eos (nats per token).

    Args:
        seed (`int`):
            Seed of the initial weights, the problems and the demonstrations.
        steps (`int`, *optional*, defaults to `2400`):
            Optimizer steps.

    Returns:
        `tuple`: the model in evaluation mode, and the mean loss of the last 100 steps.
    """
    model, tokenizer, rng = build_model(seed), build_tokenizer(), random.Random(seed)
    pool = all_problems("warm_start")
    return model, fit(model, lambda: make_batch(tokenizer, rng.choices(pool, k=BATCH_SIZE), rng), steps)


def fit(model: PreTrainedModel, make: Callable[[], tuple[Tensor, Tensor]], steps: int) -> float:
    """
    Trains a model on batches of input ids and labels, and sets it to evaluation mode.

    Returns:
        `float`: The mean loss of the last 100 steps, in nats per token.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = get_cosine_schedule_with_warmup(optimizer, WARM_UP_STEPS, steps)
    losses = []
    for step in range(1, steps + 1):
        ids, labels = make()
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 0 or step == steps:
            print(f"step {step}/{steps}  loss {sum(losses[-100:]) / len(losses[-100:]):.4f}", flush=True)
    model.eval()
    return sum(losses[-100:]) / len(losses[-100:])


def pad_right(pairs: Sequence[tuple[list[int], list[int]]], pad: int) -> dict[str, Tensor]:
    """Ids, mask and labels `(B, T)` of prompts with completions; labels are -100 on prompts and padding."""
    width = max(len(prompt) + len(rest) for prompt, rest in pairs)
    ids = torch.full((len(pairs), width), pad)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (prompt, rest) in enumerate(pairs):
        length = len(prompt) + len(rest)
        ids[row, :length] = torch.tensor([*prompt, *rest])
        mask[row, :length] = 1
        labels[row, len(prompt) : length] = torch.tensor(rest)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int) -> dict[str, float]:
    """The measures of the model card: `evaluate_policy` on 256 problems of the eval split, 8 samples each."""
    problems = sample_problems("eval", EVAL_PROBLEMS, seed)
    return evaluate_policy(model, tokenizer, problems, k=EVAL_K, seed=seed).measures


def render_card(metrics: dict[str, Any]) -> str:
    """The model card. All its numbers come from `metrics`."""
    m, t, e = metrics["evaluation"], metrics["training"], metrics["environment"]
    return f"""\
---
library_name: transformers
license: apache-2.0
pipeline_tag: text-generation
---

# Countdown warm start

A Llama with {metrics["parameters"]:,} parameters (float32) and a vocabulary of {metrics["vocabulary"]} words that
plays countdown with a scratchpad. It has learned the format and most of the arithmetic, but little of the search.
It is a starting point for reinforcement learning with verifiable rewards on a CPU.

    prompt      3 5 6 8 = 10 >
    completion  5 + 8 = 13 : 3 6 13 ; 3 + 13 = 16 : 6 16 ; 16 - 6 = 10 : 10 ;

```python
from trl_archer.playground import load_policy

model, tokenizer = load_policy()
```

## Measured

{m["problems"]} held-out problems, {m["k"]} samples each at temperature 1, seed {m["seed"]}.

| measure | value |
|---|---|
| avg@{m["k"]} | {m["avg_at_k"]:.3f} |
| pass@{m["k"]} | {m["pass_at_k"]:.3f} |
| greedy | {m["greedy"]:.3f} |
| mean entropy, top 20 % tokens of a response | {m["entropy_reasoning"]:.3f} nats |
| mean entropy, the other tokens | {m["entropy_knowledge"]:.3f} nats |
| operands and operators among the top 20 % | {m["decision_share"]:.1%} |

## Training

{t["steps"]} steps of AdamW (learning rate {t["learning_rate"]:g}, cosine after {t["warm_up_steps"]} warm-up steps,
gradient norm at most {t["max_grad_norm"]:g}), batch {t["batch_size"]}, cross-entropy on completion tokens;
last loss {t["final_loss"]:.3f} nats per token. Each demonstration plays a random legal move with probability 0.3 per
step, so it often misses the target. {t["seconds"]:.0f} seconds on {e["machine"]}, {e["threads"]} threads,
torch {e["torch"]}, transformers {e["transformers"]}. Reproduce it with

    {metrics["command"]}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the warm-start policy of the playground.")
    parser.add_argument("--output", type=Path, required=True, help="directory to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps")
    args = parser.parse_args()

    start = time.perf_counter()
    model, final_loss = train(args.seed, args.steps)
    seconds = time.perf_counter() - start
    tokenizer = build_tokenizer()
    evaluation = measure(model, tokenizer, args.seed)
    print(json.dumps(evaluation, indent=2))

    options = f"--seed {args.seed} --steps {args.steps}"
    metrics = {
        "command": f"python -m benchmarks.warm_start --output DIR {options}",
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "training": {
            "seed": args.seed,
            "steps": args.steps,
            "batch_size": BATCH_SIZE,
            "learning_rate": LEARNING_RATE,
            "warm_up_steps": WARM_UP_STEPS,
            "max_grad_norm": MAX_GRAD_NORM,
            "final_loss": final_loss,
            "seconds": seconds,
        },
        "evaluation": {
            "split": "eval",
            "problems": EVAL_PROBLEMS,
            "k": EVAL_K,
            "seed": args.seed,
            **evaluation,
        },
        "environment": {
            "machine": f"{platform.machine()} CPU ({platform.system()})",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    model.save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)
    (args.output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    (args.output / "README.md").write_text(render_card(metrics))
    print(f"saved to {args.output}")


if __name__ == "__main__":
    main()
