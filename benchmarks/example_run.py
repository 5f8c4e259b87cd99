"""The runs in the pictures of docs/figures.md: Archer and TRL's GRPO on the playground, two seeds each.

python -m benchmarks.example_run
"""

import csv
import json
import multiprocessing
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .environment import RESULTS, save

FOLDER = RESULTS / "example_run"
METHODS, SEEDS = ("archer", "grpo"), (0, 1)
STEPS, RECORD_EVERY = 150, 50
PROBLEMS, SAMPLES = 256, 16
DRAWN = re.compile(r"reward|entropy.*|kl|kl/.*|clip_ratio/.*|archer/.*|completions/(mean_length|repetition)")


def write_log(path: Path, log_history: Sequence[dict[str, Any]]) -> None:
    """Writes the metrics that figures draw, one row per step. A cell is empty if the row did not log the metric."""
    names = list(dict.fromkeys(name for entry in log_history for name in entry if DRAWN.fullmatch(name)))
    rows = [entry for entry in log_history if any(name in entry for name in names)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", *names])
        for row in rows:
            cells = ["" if row.get(name) is None else f"{row[name]:.5g}" for name in names]
            writer.writerow([row["step"], *cells])


def write_accuracy(path: Path, trainer: Any) -> None:
    """Writes the number of correct samples of each held-out problem, for `trl-archer figures accuracy`."""
    from trl_archer.playground import evaluate_policy, sample_problems

    problems = sample_problems("eval", PROBLEMS, seed=0)
    evaluation = evaluate_policy(trainer.model, trainer.processing_class, problems, SAMPLES)
    path.write_text(json.dumps(evaluation.counts) + "\n")


def run(job: tuple[str, int]) -> None:
    """One run, in its own process, on one thread. The first seed also records tokens and accuracy."""
    import torch
    import transformers
    from transformers.trainer_callback import PrinterCallback

    from trl_archer.commands.demo import make_trainer

    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    method, seed = job
    records = {"token_records_steps": RECORD_EVERY} if method == "archer" and seed == 0 else {}
    with TemporaryDirectory() as output:
        trainer = make_trainer(method, STEPS, seed, lora=False, output_dir=output, logging_steps=1, **records)
        trainer.remove_callback(PrinterCallback)
        if records:
            write_accuracy(FOLDER / "before.json", trainer)
        trainer.train()
        write_log(FOLDER / f"{method}_seed{seed}.csv", trainer.state.log_history)
        if seed == 0:
            write_accuracy(FOLDER / f"{method}.json", trainer)
        if records:
            shutil.copytree(Path(output) / "token_records", FOLDER / "token_records")
    print(f"{method}, seed {seed}: done")


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    jobs = [(method, seed) for seed in SEEDS for method in METHODS]
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        pool.map(run, jobs, chunksize=1)
    settings = {
        "steps": STEPS,
        "seeds": SEEDS,
        "token_records_steps": RECORD_EVERY,
        "problems": PROBLEMS,
        "samples": SAMPLES,
    }
    print(f"wrote {save('example_run', {'command': 'python -m benchmarks.example_run', 'settings': settings})}")


if __name__ == "__main__":
    main()
