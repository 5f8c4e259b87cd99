"""The demo: trains the shipped policy on countdown and compares it before and after."""

import json
import shlex
import shutil
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from ..config import ArcherGRPOConfig
from ..evaluation import sample
from ..playground.countdown import Problem, countdown_reward, load_dataset, sample_problems, verify
from ..playground.evaluate import MAX_COMPLETION_LENGTH, Evaluation, evaluate_policy, token_roles
from ..playground.policy import load_policy
from ..trainer import ArcherGRPOTrainer

LOG_EVERY = 10
RECORDED_UPDATES = 5
ROWS = {
    "avg_at_k": "avg@8, share of correct samples",
    "pass_at_k": "pass@8, share of problems solved within 8 samples",
    "greedy": "greedy accuracy",
    "entropy_reasoning": "entropy of reasoning tokens (nats)",
    "entropy_knowledge": "entropy of knowledge tokens (nats)",
}


class ProgressTable(TrainerCallback):
    """A progress bar with a line of metrics above it at every log."""

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
    A trainer for the shipped policy on countdown, on the CPU, with four updates of 64 completions per rollout.
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
        "logging_steps": min(LOG_EVERY, steps),
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


class Run(NamedTuple):
    """A run of the demo, evaluated before and after training."""

    settings: dict[str, Any]
    before: Evaluation
    after: Evaluation
    seconds: float  # of training
    trainer: GRPOTrainer

    @property
    def result(self) -> dict[str, Any]:
        """Settings and measures as JSON."""
        return {
            **self.settings,
            "before": self.before.measures,
            "after": self.after.measures,
            "seconds": self.seconds,
        }


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
    """Trains a policy and evaluates it on held-out problems before and after."""
    console = console or Console(quiet=True)
    run = _train(method, steps, seed, problems, lora, output_dir, console, **config)
    return run.result, run.trainer


def _train(
    method: str, steps: int, seed: int, problems: int, lora: bool, output_dir: str, console: Console, **config: Any
) -> Run:
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
    return Run(settings, before, after, seconds, trainer)


def run_demo(method: str, steps: int, seed: int, problems: int, lora: bool, output_dir: str) -> None:
    """
    Trains with visible progress. Prints the comparison, some completions and the commands that draw the run. Saves the
    policy, its results and the data of the figures.
    """
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)

    console = Console()
    name = "Archer" if method == "archer" else "TRL's GRPO"
    what = "a LoRA adapter of" if lora else "all weights of"
    console.print(f"[bold]{name}[/bold] on countdown: training {what} a 0.7M-parameter policy for {steps} steps")
    folder = Path(output_dir)
    for left in folder.glob("token_records/step-*.parquet"):
        left.unlink()  # records of an earlier demo would mix with the new ones
    records = {"token_records_steps": max(1, steps // RECORDED_UPDATES)} if method == "archer" else {}
    run = _train(method, steps, seed, problems, lora, output_dir, console, **records)
    console.print(comparison(run.result))
    print_completions(console, run.trainer.model, run.trainer.processing_class, sample_problems("eval", 4, seed=1))
    run.trainer.save_model()
    run.trainer.save_state()
    _write_json(folder / "results.json", run.result)
    for when, evaluation in (("before", run.before), ("after", run.after)):
        _write_json(folder / f"{when}.json", {**evaluation.counts, **evaluation.measures})
    console.print(f"Trained in {run.seconds:.0f} s. Policy and results are in {output_dir}/ (results.json).")
    console.print("To draw the run:")
    for command in figure_commands(folder):
        console.print(f"  {shlex.join(command)}", soft_wrap=True, markup=False, highlight=False)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def figure_commands(folder: Path) -> list[list[str]]:
    """The commands that draw a run of the demo, from the same working directory."""
    figures = [*_program(), "figures"]
    output = ["--output", str(folder / "figures")]
    commands = [[*figures, "runs", str(folder), *output]]
    if recorded := sorted(folder.glob("token_records/step-*.parquet")):
        commands += [
            [*figures, "records", str(folder / "token_records"), *output],
            [*figures, "tokens", str(recorded[-1]), "--output", str(folder / "tokens.html")],
        ]
    commands += [[*figures, "accuracy", *(str(folder / f"{when}.json") for when in ("before", "after")), *output]]
    if find_spec("matplotlib") is None:
        commands.insert(0, [sys.executable, "-m", "pip", "install", "matplotlib"])
    return commands


def _program() -> list[str]:
    """How a shell can start this program: by name if it is on the path, otherwise by its path."""
    called = Path(sys.argv[0])
    if called.name != "trl-archer":  # python -m
        return [sys.executable, "-m", "trl_archer.cli"]
    found = shutil.which(called.name)
    return [called.name] if found and called.exists() and called.samefile(found) else [sys.argv[0]]


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
    """Prints one sample per problem with reasoning tokens highlighted and the verdict of the verifier."""
    marks = ("", "") if console.is_terminal else ("[", "]")
    reasoning = "reasoning".join(marks)
    console.print(Text.assemble("Completions: ", (reasoning, "bold yellow"), " and ", ("knowledge", "cyan"), " tokens"))
    samples = sample(model, tokenizer, [p.prompt for p in problems], 1, max_new_tokens=MAX_COMPLETION_LENGTH)
    for problem, (completion,) in zip(problems, samples, strict=True):
        line = Text(f"  {problem.prompt} ")
        for text, _, is_reasoning in token_roles(model, tokenizer, problem.prompt, completion):
            line.append(text.join(marks) if is_reasoning else text, style="bold yellow" if is_reasoning else "cyan")
            line.append(" ")
        line.append("correct" if verify(problem, completion) else "wrong", style="bold")
        console.print(line)
