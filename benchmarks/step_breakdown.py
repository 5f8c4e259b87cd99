"""Time of a step by piece, and the update phase relative to its arithmetic floor.

python -m benchmarks.step_breakdown [--steps 40]

The first part trains on the playground and times the pieces of a step. The second part compares the update phase of
`benchmarks.update_phase` (log-normal lengths) with its floor. The floor is real tokens times FLOPs per token (2 per
weight and forward pass, 4 per weight and backward pass), at this machine's rate for matrix products of these shapes.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers.trainer_callback import PrinterCallback

from trl_archer.commands.demo import make_trainer

from .environment import save
from .update_phase import CASES, ROWS, draw_lengths, save_model, timed
from .update_phase import make_trainer as make_fixed_trainer

PIECES = ("generation", "rewards", "old policy", "reference", "policy forward", "backward", "optimizer", "logging")


def breakdown(steps: int) -> dict[str, float]:
    """Share of each piece in the time of a playground run; the rest is the training loop."""
    with tempfile.TemporaryDirectory() as folder:
        trainer: Any = make_trainer("archer", steps, seed=0, lora=False, output_dir=folder)
        trainer.remove_callback(PrinterCallback)
        spent: dict[str, float] = defaultdict(float)

        def watch(owner: Any, method: str, piece: str | Callable[..., str]) -> None:
            original = getattr(owner, method)

            def run(*args: Any, **kwargs: Any) -> Any:
                start = time.perf_counter()
                try:
                    return original(*args, **kwargs)
                finally:
                    name = piece if isinstance(piece, str) else piece(*args)
                    spent[name] += time.perf_counter() - start

            setattr(owner, method, run)

        def scored(model: Any, *args: Any) -> str:
            if torch.is_grad_enabled():
                return "inside policy forward"
            return "reference" if model is trainer.ref_model else "old policy"

        watch(trainer, "_generate", "generation")
        watch(trainer, "_calculate_rewards", "rewards")
        watch(trainer, "_get_per_token_logps_and_entropies", scored)
        watch(trainer, "compute_loss", "policy forward")
        watch(trainer.accelerator, "backward", "backward")
        watch(trainer, "log", "logging")
        trainer.create_optimizer()
        watch(trainer.optimizer, "step", "optimizer")
        start = time.perf_counter()
        trainer.train()
        total = time.perf_counter() - start
    shares = {piece: spent[piece] / total for piece in PIECES}
    return {**shares, "the rest": 1 - sum(shares.values())}


def flops_per_second(weights: list[tuple[int, int]], tokens: int) -> float:
    """Rate of the products of activations with the model's matrices, in float32."""
    activations = [(torch.randn(tokens, inner), torch.randn(inner, outer)) for outer, inner in weights]
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for left, right in activations:
            left @ right
        rounds.append(time.perf_counter() - start)
    return sum(2 * tokens * outer * inner for outer, inner in weights) / statistics.median(rounds)


def floor(rounds: int) -> dict[str, float]:
    """Time of the update phase and the least time of its matrix products."""
    lengths = draw_lengths("log-normal")
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder)
        trainer = make_fixed_trainer("archer", folder, lengths, CASES["log-normal"]["dropped"])
        matrices = [
            tuple(p.shape) for name, p in trainer.model.named_parameters() if p.ndim == 2 and "embed" not in name
        ]
        timed(trainer)
        seconds = statistics.median(timed(trainer) for _ in range(rounds))
    tokens = sum(lengths) + sum(len(row) for row in trainer.rollout_func([], trainer)["prompt_ids"])
    weights = sum(outer * inner for outer, inner in matrices)
    rate = flops_per_second(matrices, tokens=1024)
    least = tokens * weights * (2 + 2 + 6) / rate  # old, reference, policy forward and backward
    return {
        "rows": ROWS,
        "real_tokens": tokens,
        "matrix_weights": weights,
        "gflops_per_second": rate / 1e9,
        "floor_seconds": least,
        "seconds": seconds,
        "times_the_floor": seconds / least,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    shares = breakdown(args.steps)
    for piece, share in shares.items():
        print(f"{piece:16} {share:6.1%}")
    least = floor(args.rounds)
    print(f"update phase {least['seconds']:.1f} s, {least['times_the_floor']:.2f} times its floor")
    result = {"command": "python -m benchmarks.step_breakdown", "threads": torch.get_num_threads()}
    print(f"wrote {save('step_breakdown', {**result, 'shares': shares, 'update_phase': least}).name}")


if __name__ == "__main__":
    main()
