"""The demo: trains the shipped policy on countdown with Archer and shows what changed."""

import json
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from ..config import ArcherGRPOConfig
from ..trainer import ArcherGRPOTrainer
from .countdown import Problem, countdown_reward, load_dataset, sample_problems, verify
from .evaluate import evaluate_policy, sample, token_roles
from .policy import load_policy

LOG_EVERY = 10
MAX_COMPLETION_LENGTH = 32
ROWS = {
    "avg_at_k": "avg@8, share of samples that are right",
    "pass_at_k": "pass@8, share of problems solved in 8 samples",
    "greedy": "greedy accuracy",
    "entropy_reasoning": "entropy of reasoning tokens (nats)",
    "entropy_knowledge": "entropy of knowledge tokens (nats)",
}


class ProgressTable(TrainerCallback):
    """A progress bar, and above it a line of metrics at every log."""

    def __init__(self, console: Console):
        self.progress = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )

    def on_train_begin(self, args, state, control, **kwargs):
        self.task = self.progress.add_task("training", total=state.max_steps)
        self.progress.start()

    def on_step_end(self, args, state, control, **kwargs):
        self.progress.advance(self.task)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs is None or "reward" not in logs:
            return
        shown = {"reward": "reward", "entropy": "entropy", "entropy/reasoning": "reasoning", "kl": "KL"}
        values = [f"{name} {logs[key]:.3f}" for key, name in shown.items() if logs.get(key) is not None]
        self.progress.console.print(f"  step {state.global_step:4d}   " + "   ".join(values))


def make_trainer(method: str, steps: int, seed: int, lora: bool, output_dir: str, **config: Any) -> GRPOTrainer:
    """
    A trainer for the shipped policy on countdown: four updates of 64 completions per rollout, on the CPU.

    Args:
        method (`str`): `"archer"`, or `"grpo"` for TRL's own trainer with its own defaults.
        steps (`int`): Optimizer steps.
        seed (`int`): Seed of the data order and of sampling.
        lora (`bool`): Whether to train a LoRA adapter instead of all weights.
        output_dir (`str`): Where checkpoints and the model card go.
        config: Any field of the trainer's configuration.

    Returns:
        [`ArcherGRPOTrainer`] or [`~trl.GRPOTrainer`]: the trainer, ready to train.
    """
    model, tokenizer = load_policy()
    trainer_class, config_class = (
        (ArcherGRPOTrainer, ArcherGRPOConfig) if method == "archer" else (GRPOTrainer, GRPOConfig)
    )
    peft_config = None
    if lora:
        from peft import LoraConfig

        peft_config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    options = {
        "output_dir": output_dir,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "learning_rate": 1e-3 if lora else 2e-4,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 64,
        "num_generations": 8,
        "steps_per_generation": 4,
        "max_completion_length": MAX_COMPLETION_LENGTH,
        "max_steps": steps,
        "logging_steps": LOG_EVERY,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": seed,
        **config,
    }
    return trainer_class(
        model,
        countdown_reward,
        args=config_class(**options),
        train_dataset=load_dataset("rl", 4096, seed=seed),
        processing_class=tokenizer,
        peft_config=peft_config,
    )


def train_and_measure(
    method: str = "archer",
    steps: int = 150,
    seed: int = 0,
    problems: int = 256,
    lora: bool = False,
    output_dir: str = "runs/demo",
    console: Console | None = None,
    **config: Any,
) -> tuple[dict[str, Any], GRPOTrainer]:
    """
    Trains and evaluates on held-out problems before and after.

    Returns:
        `tuple`: a dictionary with the settings, `before` and `after` (see [`evaluate_policy`]) and `seconds` of
        training, and the trainer.
    """
    console = console or Console(quiet=True)
    held_out = sample_problems("eval", problems, seed=0)
    trainer = make_trainer(method, steps, seed, lora, output_dir, **config)
    trainer.remove_callback(PrinterCallback)
    table = ProgressTable(console)
    trainer.add_callback(table)
    with console.status(f"evaluating on {problems} held-out problems ..."):
        before = evaluate_policy(trainer.model, trainer.processing_class, held_out)
    start = time.perf_counter()
    try:
        trainer.train()
    finally:
        table.progress.stop()
    seconds = time.perf_counter() - start
    with console.status(f"evaluating on {problems} held-out problems ..."):
        after = evaluate_policy(trainer.model, trainer.processing_class, held_out)
    settings = {"method": method, "steps": steps, "seed": seed, "problems": problems, "lora": lora}
    return {**settings, "before": before, "after": after, "seconds": seconds}, trainer


def run_demo(method: str, steps: int, seed: int, problems: int, lora: bool, output_dir: str) -> None:
    """Trains with visible progress, prints the comparison and a few completions, saves the policy and its numbers."""
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)  # as fast as more for a model this small, and safe on a busy machine

    console = Console()
    name = "Archer" if method == "archer" else "TRL's GRPO"
    what = "a LoRA adapter of" if lora else "all weights of"
    console.print(f"[bold]{name}[/bold] on countdown: training {what} a 0.7M-parameter policy for {steps} steps")
    result, trainer = train_and_measure(method, steps, seed, problems, lora, output_dir, console)
    console.print(comparison(result))
    print_completions(console, trainer.model, trainer.processing_class, sample_problems("eval", 4, seed=1))
    trainer.save_model()
    path = Path(output_dir) / "results.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    console.print(f"Trained in {result['seconds']:.0f} s. Policy and numbers are in {output_dir}/ ({path.name}).")


def comparison(result: dict[str, Any]) -> Table:
    """Accuracy and entropies before and after, as a table."""
    table = Table(title=f"{result['problems']} held-out problems, before and after {result['steps']} steps")
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="left" if column == "" else "right")
    for key, label in ROWS.items():
        before, after = result["before"][key], result["after"][key]
        table.add_row(label, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}")
    return table


def print_completions(
    console: Console, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: list[Problem]
) -> None:
    """Prints one sample per problem, reasoning tokens highlighted, with the verifier's verdict."""
    console.print(
        Text.assemble("Completions: ", ("reasoning", "bold yellow"), " and ", ("knowledge", "cyan"), " tokens")
    )
    samples = sample(model, tokenizer, [p.prompt for p in problems], 1, max_new_tokens=MAX_COMPLETION_LENGTH)
    for problem, (completion,) in zip(problems, samples, strict=True):
        line = Text(f"  {problem.prompt} ")
        for text, _, is_reasoning in token_roles(model, tokenizer, problem.prompt, completion):
            line.append(f"{text} ", style="bold yellow" if is_reasoning else "cyan")
        line.append("right" if verify(problem, completion) else "wrong", style="bold")
        console.print(line)
