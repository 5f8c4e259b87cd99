"""
The update phase relative to TRL's on a GPU, on the shapes of Qwen2.5 with random weights.

32 completions per rollout, two updates, `beta > 0`, float32 weights under bf16 autocast, gradient checkpointing, SDPA.
Both trainers have equal settings and the same rollouts and alternate. A case gives

- `loss`: time of `compute_loss` and backward on the same micro-batch, without padding removal;
- `phase`: time of old and reference passes, policy forward and backward, and the peak memory;
- `flops`: FLOP/s of the policy pass, as model FLOPs of real tokens (a recomputed forward pass does not count).
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, set_seed

from benchmarks.scaling.measured import configuration
from benchmarks.update_phase import make_fixed_trainer
from trl_archer.commands.forecast.hardware import GPUS
from trl_archer.commands.forecast.memory import kept_layers, passing
from trl_archer.commands.forecast.models import MODELS, Shape
from trl_archer.commands.forecast.setup import Setup

from .device import DEVICE, Stopwatch, matmul_rate, peak

ROWS, GROUP, UPDATES = 32, 8, 2
ROUNDS = 3
TINY = Shape("rehearsal", "qwen2", 2, 64, 4, 2, 16, 128, 512, tied=True)


@dataclass(frozen=True)
class Case:
    """A model, the longest completion, the distribution of the lengths, and the completions of a forward pass."""

    model: str
    longest: int
    lengths: str
    micro_batch: int

    @property
    def name(self) -> str:
        return f"{self.model}, {self.longest:,} tokens, {self.lengths}"

    @property
    def shape(self) -> Shape:
        return MODELS.get(self.model, TINY)


# The most telling first: the benchmark may run out of time
CASES = (
    Case("qwen2.5-0.5b", 4096, "log-normal", 4),
    Case("qwen2.5-1.5b", 4096, "log-normal", 4),
    Case("qwen2.5-0.5b", 4096, "constant", 4),
    Case("qwen2.5-0.5b", 8192, "log-normal", 2),
    Case("qwen2.5-1.5b", 8192, "log-normal", 2),
    Case("qwen2.5-1.5b", 4096, "constant", 4),
    Case("qwen2.5-0.5b", 8192, "constant", 2),
    Case("qwen2.5-1.5b", 8192, "constant", 2),
)
REHEARSAL = (Case("rehearsal", 64, "log-normal", 4), Case("rehearsal", 64, "constant", 4))


def draw_lengths(case: Case) -> list[int]:
    """Tokens of each completion: half of the longest, or log-normal with a mean of a quarter of the longest."""
    if case.lengths == "constant":
        return [case.longest // 2] * ROWS
    generator = torch.Generator().manual_seed(0)
    drawn = 0.19 * case.longest * torch.exp(0.75 * torch.randn(ROWS - 1, generator=generator))
    return [case.longest, *drawn.clamp(8, case.longest).int().tolist()]


def prompt_length(row: int) -> int:
    return 8 * (4 + row // GROUP)


def make_trainer(method: str, case: Case, folder: str, lengths: list[int]) -> Any:
    """A trainer with random tokens of these lengths as its rollouts."""
    generator = torch.Generator().manual_seed(1)

    def draw(count: int) -> list[int]:
        return torch.randint(3, case.shape.vocabulary, (count,), generator=generator).tolist()

    group_prompts = [draw(prompt_length(row)) for row in range(0, ROWS, GROUP)]
    prompts = [group_prompts[row // GROUP] for row in range(ROWS)]
    completions = [draw(length) for length in lengths]
    return make_fixed_trainer(
        method,
        folder,
        prompts,
        completions,
        [float(row % 2) for row in range(ROWS)],
        case.micro_batch,
        UPDATES,
        bf16=True,
        gradient_checkpointing=True,
        num_generations=GROUP,
        max_completion_length=case.longest,
    )


def next_rollout(trainer: Any) -> None:
    trainer._step, trainer._buffered_inputs = 0, None
    trainer.model.zero_grad()
    torch.manual_seed(2)  # for TRL's shuffle


def inputs_of(trainer: Any, step: int) -> dict[str, Any]:
    trainer._step = step
    return trainer._prepare_inputs([{"prompt": "1 2 ="}] * ROWS)


def update_phase(trainer: Any) -> tuple[dict[str, float], dict[str, int]]:
    """One rollout. Returns the seconds of `scoring` and `policy`, and the sizes of the largest micro-batch."""
    next_rollout(trainer)
    watch, widest = Stopwatch(), {"rows": 0, "tokens": 0}
    for step in range(trainer.args.steps_per_generation):
        inputs = inputs_of(trainer, step)
        watch.mark("scoring")
        rows, tokens = inputs["completion_ids"].shape
        tokens += inputs["prompt_ids"].size(1)
        widest = max(widest, {"rows": rows, "tokens": tokens}, key=lambda x: x["rows"] * x["tokens"])
        trainer.compute_loss(trainer.model, inputs).backward()
        watch.mark("policy")
        if (step + 1) % trainer.args.gradient_accumulation_steps == 0:
            trainer.model.zero_grad()
    return watch.seconds(), widest


def loss_only(trainer: Any, inputs: dict[str, Any]) -> float:
    watch = Stopwatch()
    trainer.compute_loss(trainer.model, dict(inputs)).backward()
    watch.mark("loss")
    trainer.model.zero_grad()
    return watch.seconds()["loss"]


def model_flops(shape: Shape, lengths: list[int]) -> float:
    """
    FLOPs of forward and backward over real tokens: 6 per weight of a linear layer and token, and causal attention.
    """
    linear = shape.layers * (shape.attention_matrices + 3 * shape.hidden * shape.intermediate)
    total = 0.0
    for row, length in enumerate(lengths):
        tokens = prompt_length(row) + length
        attention = 2 * shape.layers * shape.query * tokens**2  # two products over half of the pairs
        total += 2 * linear * tokens + attention + 2 * shape.embedding * length
    return 3 * total


def predicted_peak(case: Case, rows: int, tokens: int) -> float:
    """Bytes that docs/scaling.md predicts for gradients and activations."""
    setup = Setup(case.shape, GPUS["h100"], 1, "none", rows, 1, tokens - 1)
    count = rows * tokens
    return 4 * case.shape.parameters + kept_layers(setup, count) + passing(setup, count)


def ratio(times: dict[str, list[float]]) -> dict[str, Any]:
    """Median seconds of both methods and the median ratio with its range."""
    ratios = sorted(a / b for a, b in zip(times["archer"], times["grpo"], strict=True))
    return {
        "seconds": {name: statistics.median(values) for name, values in times.items()},
        "ratio": statistics.median(ratios),
        "range": [ratios[0], ratios[-1]],
    }


def measure(case: Case, rate: float, deadline: float) -> dict[str, Any]:
    """Measures a case: a warm-up, then up to `ROUNDS` rounds, fewer if time is over."""
    lengths = draw_lengths(case)
    with tempfile.TemporaryDirectory() as folder:
        set_seed(0)
        with torch.device(DEVICE):
            model = AutoModelForCausalLM.from_config(configuration(case.shape), dtype=torch.bfloat16)
        model.save_pretrained(folder)
        del model
        trainers = {name: make_trainer(name, case, folder, lengths) for name in ("archer", "grpo")}
    for trainer in trainers.values():
        update_phase(trainer)
    next_rollout(trainers["grpo"])
    first = inputs_of(trainers["grpo"], 0)
    first.setdefault("num_sequences_in_batch", torch.tensor(ROWS, device=DEVICE))
    phases: dict[str, list[float]] = {name: [] for name in trainers}
    losses: dict[str, list[float]] = {name: [] for name in trainers}
    policy, rounds = [], 0
    while rounds < ROUNDS and (rounds == 0 or time.monotonic() < deadline):
        for name in list(trainers)[:: 1 if rounds % 2 else -1]:
            losses[name].append(loss_only(trainers[name], first))
            seconds, _ = update_phase(trainers[name])
            phases[name].append(sum(seconds.values()))
            if name == "archer":
                policy.append(seconds["policy"])
        rounds += 1
    peaks, memory = {}, {}
    for name, trainer in trainers.items():
        trainer.model.zero_grad()
        found: list[dict[str, int]] = []

        def step(trainer: Any = trainer, found: list[dict[str, int]] = found) -> None:
            found.append(update_phase(trainer)[1])

        peaks[name] = peak(step)
        memory[name] = {"bytes": peaks[name], "predicted_bytes": predicted_peak(case, **found[0]), **found[0]}
    flops, seconds = model_flops(case.shape, lengths), statistics.median(policy)
    return {
        **asdict(case),
        "rounds": rounds,
        "mean_length_of_longest": statistics.mean(lengths) / max(lengths),
        "real_tokens": sum(lengths) + sum(map(prompt_length, range(ROWS))),
        "loss": ratio(losses),
        "phase": ratio(phases),
        "memory": memory,
        "flops_per_second": flops / seconds,
        "mfu": flops / seconds / rate,
        "tokens_per_second": sum(lengths) / statistics.median(phases["archer"]),
    }


def run(save: Callable[[dict[str, Any]], None], deadline: float) -> dict[str, Any]:
    """Measures the cases until time is over; passes the results to `save` after each."""
    rate = matmul_rate()
    result: dict[str, Any] = {"matmul_flops_per_second": rate, "cases": {}}
    longest = 0.0
    for case in CASES if DEVICE == "cuda" else REHEARSAL:
        if time.monotonic() + longest > deadline and result["cases"]:
            break
        began = time.monotonic()
        try:
            found = measure(case, rate, deadline)
        except torch.OutOfMemoryError as error:
            found = {**asdict(case), "error": str(error).splitlines()[0]}
        result["cases"][case.name] = found
        longest = max(longest, time.monotonic() - began)
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
        print(f"{case.name}: {describe(found)}", flush=True)
        save(result)
    return result


def describe(case: dict[str, Any]) -> str:
    """A case on one line."""
    if "error" in case:
        return case["error"]
    phase, memory = case["phase"], case["memory"]
    peaks = [memory[name]["bytes"] for name in ("archer", "grpo")]
    shown = f"peak memory x{peaks[0] / peaks[1]:.2f}, " if all(peaks) else ""
    return (
        f"update phase x{phase['ratio']:.2f} ({phase['seconds']['archer']:.2f} s), loss x{case['loss']['ratio']:.2f}, "
        f"{shown}{case['flops_per_second'] / 1e12:.1f} TFLOP/s, MFU {case['mfu']:.1%}, "
        f"{case['tokens_per_second']:,.0f} tokens/s"
    )
