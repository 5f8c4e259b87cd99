"""The update phase relative to TRL's: old and reference passes, policy forward and backward, on the same rollouts.

python -m benchmarks.update_phase [--rounds 5]

In turn, both trainers take one generation batch with fixed completions and rewards through `_prepare_inputs`,
`compute_loss` and the backward pass, with equal settings and `beta > 0`. The results are the median ratio of times, the
ratio of peak memory, and the largest relative difference between the gradients of an update.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, set_seed
from trl import GRPOConfig, GRPOTrainer

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer
from trl_archer.playground import build_tokenizer

from .compute_loss import DEVICE, peak_bytes
from .environment import save

LONGEST = 640  # tokens of a completion
ROWS = 64
GROUP = 8
MICRO_BATCH = 4
UPDATES = 2  # per generation batch: steps_per_generation is twice the accumulation
SHAPE = {"hidden": 192, "layers": 4, "vocabulary": 2048, "prompt": 32}


def draw_lengths(kind: str) -> list[int]:
    """Lengths of the completions of a generation batch, in tokens; the longest is `LONGEST`, except for `constant`."""
    generator = torch.Generator().manual_seed(0)
    if kind == "constant":
        return [LONGEST // 2] * ROWS
    if kind == "uniform":
        return [LONGEST, *torch.randint(16, LONGEST + 1, (ROWS - 1,), generator=generator).tolist()]
    drawn = torch.exp(4.75 + 0.75 * torch.randn(ROWS - 1, generator=generator))
    return [LONGEST, *drawn.clamp(8, LONGEST).int().tolist()]


CASES: dict[str, dict[str, Any]] = {
    "constant": {"lengths": "constant", "dropped": 0},
    "uniform": {"lengths": "uniform", "dropped": 0},
    "log-normal": {"lengths": "log-normal", "dropped": 0},
    "log-normal, 2 of 8 groups dropped": {"lengths": "log-normal", "dropped": 2},
    "log-normal, 3 of 8 groups dropped": {"lengths": "log-normal", "dropped": 3},
    "log-normal, 4 of 8 groups dropped": {"lengths": "log-normal", "dropped": 4},
}


def model_config() -> LlamaConfig:
    """The model of the benchmark."""
    return LlamaConfig(
        vocab_size=SHAPE["vocabulary"],
        hidden_size=SHAPE["hidden"],
        intermediate_size=3 * SHAPE["hidden"],
        num_hidden_layers=SHAPE["layers"],
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=1024,
        dtype="float32",
    )


def prompt_length(row: int) -> int:
    """Prompt length of a row, in tokens; groups differ."""
    return 8 + 3 * (row // GROUP)


def save_model(folder: str) -> None:
    """Writes the randomly initialized model from which both trainers load policy and reference."""
    set_seed(0)
    LlamaForCausalLM(model_config()).save_pretrained(folder)


def make_trainer(method: str, folder: str, lengths: list[int], dropped: int) -> GRPOTrainer:
    """A trainer with fixed rollouts: random tokens of given lengths; the last `dropped` groups have equal rewards."""
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(3, SHAPE["vocabulary"], (ROWS, SHAPE["prompt"]), generator=generator).tolist()
    prompts = [prompt[: prompt_length(row)] for row, prompt in enumerate(prompts)]
    completions = [torch.randint(3, SHAPE["vocabulary"], (n,), generator=generator).tolist() for n in lengths]

    rewards = [float(row % 2) if row < ROWS - dropped * GROUP else 1.0 for row in range(ROWS)]
    return make_fixed_trainer(
        method,
        folder,
        prompts,
        completions,
        rewards,
        MICRO_BATCH,
        UPDATES,
        bf16=False,
        gradient_checkpointing=False,
        num_generations=GROUP,
        max_completion_length=LONGEST,
    )


def make_fixed_trainer(
    method: str,
    folder: str,
    prompts: list[list[int]],
    completions: list[list[int]],
    rewards: list[float],
    micro_batch: int,
    updates: int,
    **config: Any,
) -> GRPOTrainer:
    """A trainer whose rollouts and rewards are given, with the same settings for both methods."""
    trainer_class, config_class, own = {
        "archer": (ArcherGRPOTrainer, ArcherGRPOConfig, {"epsilon_reasoning": 0.2, "beta_reasoning": 0.001}),
        "grpo": (GRPOTrainer, GRPOConfig, {}),
    }[method]
    rows = len(completions)
    set_seed(0)
    args = config_class(
        output_dir=folder,
        use_cpu=DEVICE == "cpu",
        report_to=[],
        beta=0.001,
        use_bias_correction_kl=False,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=rows // micro_batch // updates,
        steps_per_generation=rows // micro_batch,
        **config,
        **own,
    )
    trainer = trainer_class(
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa"),
        lambda completions, **kwargs: rewards[: len(completions)],
        args=args,
        train_dataset=Dataset.from_dict({"prompt": ["1 2 ="] * rows}),
        processing_class=build_tokenizer(),
        rollout_func=lambda *_: {"prompt_ids": prompts, "completion_ids": completions, "logprobs": None},
    )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = args.gradient_accumulation_steps
    return trainer


def gradients(trainer: GRPOTrainer) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


def update_phase(trainer: GRPOTrainer, keep: bool = False) -> list[dict[str, Tensor]]:
    """One generation batch: scoring passes, then all micro-batches forward and backward. Returns kept gradients."""
    torch.manual_seed(2)  # for TRL's shuffle
    trainer._step, trainer._buffered_inputs = 0, None
    kept = []
    steps = trainer.args.steps_per_generation
    for step in range(steps):
        trainer._step = step
        inputs = trainer._prepare_inputs([{"prompt": "1 2 ="}] * ROWS)
        trainer.compute_loss(trainer.model, inputs).backward()
        if (step + 1) % trainer.args.gradient_accumulation_steps == 0:
            if keep:
                kept.append(gradients(trainer))
            trainer.model.zero_grad()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return kept


def largest_difference(ours: list[dict[str, Tensor]], theirs: list[dict[str, Tensor]]) -> float:
    """Largest difference over all updates, relative to the largest entry of the update's gradient."""
    worst = 0.0
    for one, other in zip(ours, theirs, strict=True):
        scale = max(gradient.abs().max().item() for gradient in other.values())
        worst = max(worst, *((one[name] - other[name]).abs().max().item() / scale for name in other))
    return worst


def timed(trainer: GRPOTrainer) -> float:
    start = time.perf_counter()
    update_phase(trainer)
    return time.perf_counter() - start


def measure(case: dict[str, Any], rounds: int) -> dict[str, Any]:
    lengths = draw_lengths(case["lengths"])
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder)
        trainers = {name: make_trainer(name, folder, lengths, case["dropped"]) for name in ("archer", "grpo")}
        # Dropping groups changes the objective; the gradients are compared with the same rows in both
        exact = make_trainer("archer", folder, lengths, case["dropped"])
        exact.args.mask_zero_std_groups = False
        difference = largest_difference(update_phase(exact, keep=True), update_phase(trainers["grpo"], keep=True))
    times: dict[str, list[float]] = {name: [] for name in trainers}
    timed(trainers["archer"])
    for index in range(rounds):
        for name in list(trainers)[:: 1 if index % 2 else -1]:
            times[name].append(timed(trainers[name]))
    ratios = sorted(a / b for a, b in zip(times["archer"], times["grpo"], strict=True))
    peaks = {name: peak_bytes(partial(update_phase, trainer)) for name, trainer in trainers.items()}
    return {
        **case,
        "mean_length_of_longest": statistics.mean(lengths) / max(lengths),
        "seconds": {name: statistics.median(values) for name, values in times.items()},
        "time_ratio": statistics.median(ratios),
        "time_ratio_range": [ratios[0], ratios[-1]],
        "memory_ratio": peaks["archer"] / peaks["grpo"],
        "gradient_difference": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", choices=list(CASES), action="append", help="run only this case and write no result")
    args = parser.parse_args()
    cases = {}
    for name in args.case or CASES:
        cases[name] = result = measure(CASES[name], args.rounds)
        print(
            f"{name:34} time x{result['time_ratio']:.3f}   peak memory x{result['memory_ratio']:.3f}   "
            f"gradient {result['gradient_difference']:.1e}   mean length {result['mean_length_of_longest']:.2f}",
            flush=True,
        )
    if args.case is None:
        result = {"command": "python -m benchmarks.update_phase", "device": DEVICE, "rounds": args.rounds}
        result["threads"] = torch.get_num_threads()
        print(f"wrote {save('update_phase', {**result, 'shape': SHAPE, 'cases': cases}).name}")


if __name__ == "__main__":
    main()
