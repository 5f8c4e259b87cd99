"""Cost of Archer's loss relative to GRPO's: `compute_loss` and backward on the same inputs, alternating in one run.

python -m benchmarks.compute_loss [--rounds 41]

Both trainers use the same model and the log-probabilities of a reference (`beta > 0`). Time is the median ratio over
rounds. Memory is the peak of a round's allocations, from torch's profiler on a CPU and its caching allocator on a GPU.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, set_seed
from trl import GRPOConfig, GRPOTrainer

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer
from trl_archer.playground import build_tokenizer

from .environment import save

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES: dict[str, dict[str, Any]] = {
    "short": {"rows": 64, "prompt": 8, "completion": 32, "vocabulary": 110, "hidden": 128, "layers": 3},
    "long": {"rows": 2, "prompt": 128, "completion": 2048, "vocabulary": 32_000, "hidden": 64, "layers": 2},
}


# Name -> trainer, configuration and its fields
Variants = dict[str, tuple[type[GRPOTrainer], type[GRPOConfig], dict[str, Any]]]
VARIANTS: Variants = {"archer": (ArcherGRPOTrainer, ArcherGRPOConfig, {}), "grpo": (GRPOTrainer, GRPOConfig, {})}


def make_trainers(shape: dict[str, Any], folder: str, variants: Variants) -> dict[str, GRPOTrainer]:
    """Trainers with equal models."""
    set_seed(0)
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["hidden"],
        intermediate_size=3 * shape["hidden"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        initializer_range=0.2,
        dtype="float32",
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    trainers: dict[str, GRPOTrainer] = {}
    for name, (trainer_class, config_class, own) in variants.items():
        args = config_class(
            output_dir=folder,
            use_cpu=DEVICE == "cpu",
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            per_device_train_batch_size=shape["rows"],
            num_generations=2,
            **{"num_iterations": 2, "beta": 0.001, "use_bias_correction_kl": False, **own},
        )
        trainers[name] = trainer_class(
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
            lambda completions, **kwargs: [0.0] * len(completions),
            args=args,
            train_dataset=Dataset.from_dict({"prompt": ["1 2 ="] * 64}),
            processing_class=tokenizer,
        )
        trainers[name].model.train()
        trainers[name].current_gradient_accumulation_steps = 1
    return trainers


def make_inputs(shape: dict[str, Any]) -> dict[str, Tensor]:
    """One micro-batch of random tokens with plausible old and reference log-probabilities."""
    rows, prompt, completion = shape["rows"], shape["prompt"], shape["completion"]
    ids = torch.randint(3, shape["vocabulary"], (rows, prompt + completion))
    logps = -3 * torch.rand(rows, completion)
    inputs = {
        "prompt_ids": ids[:, :prompt],
        "prompt_mask": torch.ones(rows, prompt, dtype=torch.long),
        "completion_ids": ids[:, prompt:],
        "completion_mask": torch.ones(rows, completion, dtype=torch.long),
        "advantages": torch.randn(rows),
        "num_items_in_batch": torch.tensor(rows * completion),
        "num_sequences_in_batch": torch.tensor(rows),
        "old_per_token_logps": logps,
        "ref_per_token_logps": logps - 0.1 * torch.rand(rows, completion),
    }
    return {name: tensor.to(DEVICE) for name, tensor in inputs.items()}


def one_step(trainer: GRPOTrainer, inputs: dict[str, Tensor]) -> None:
    trainer.compute_loss(trainer.model, inputs).backward()
    trainer.model.zero_grad()
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def peak_bytes(step: Callable[[], None]) -> int:
    """Peak of the memory that the step allocates."""
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    live = peak = 0
    events = profile.profiler.kineto_results.events()
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def alternate(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step in each round, after one to warm up. Every other round has the opposite order."""
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(rounds):
        for name in list(steps)[:: 1 if index % 2 else -1]:
            times[name].append(seconds(steps[name]))
    return times


def make_steps(shape: dict[str, Any], variants: Variants) -> dict[str, Callable[[], None]]:
    """Loss and backward pass of each variant, on the same inputs."""
    with tempfile.TemporaryDirectory() as folder:
        trainers = make_trainers(shape, folder, variants)
    inputs = make_inputs(shape)
    return {name: (lambda trainer=trainer: one_step(trainer, inputs)) for name, trainer in trainers.items()}


def measure(shape: dict[str, Any], rounds: int) -> dict[str, Any]:
    steps = make_steps(shape, VARIANTS)
    times = alternate(steps, rounds)
    ratios = [a / b for a, b in zip(times["archer"], times["grpo"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    peaks = {name: peak_bytes(step) for name, step in steps.items()}
    return {
        "shape": shape,
        "rounds": rounds,
        "seconds": {name: statistics.median(values) for name, values in times.items()},
        "time_ratio": quartiles[1],
        "time_ratio_quartiles": [quartiles[0], quartiles[2]],
        "peak_bytes": peaks,
        "memory_ratio": peaks["archer"] / peaks["grpo"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=41)
    args = parser.parse_args()
    shapes = {}
    for name, shape in SHAPES.items():
        shapes[name] = measure(shape, args.rounds)
        print(f"{name:6} time x{shapes[name]['time_ratio']:.3f}   peak memory x{shapes[name]['memory_ratio']:.4f}")
    result = {"command": "python -m benchmarks.compute_loss", "device": DEVICE, "threads": torch.get_num_threads()}
    print(f"wrote {Path(save('compute_loss', {**result, 'shapes': shapes})).name}")


if __name__ == "__main__":
    main()
