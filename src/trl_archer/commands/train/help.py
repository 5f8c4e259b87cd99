"""The help of `trl-archer train`: the flags that a run needs, in groups, or all of them."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping

_SHORT = {
    "Run": "config resume_from_checkpoint model_name_or_path output_dir method preset num_processes max_steps seed",
    "Data": "dataset_name dataset_config dataset_train_split dataset_test_split dataset_columns prompt_template "
    "conversational system_prompt max_prompt_length",
    "Rewards": "reward_funcs reward_weights",
    "Archer": "entropy_quantile epsilon epsilon_reasoning beta beta_reasoning gate_width mask_zero_std_groups",
    "Batch": "num_generations generation_batch_size per_device_train_batch_size gradient_accumulation_steps "
    "num_iterations",
    "Completions": "max_completion_length temperature use_vllm vllm_mode vllm_gpu_memory_utilization",
    "Optimizer": "learning_rate lr_scheduler_type warmup_steps dtype bf16 use_peft lora_r lora_target_modules",
    "Logs and checkpoints": "logging_steps log_completions report_to token_records_steps save_steps eval_strategy "
    "eval_steps collapse_action",
}
_NAMES = {"resume_from_checkpoint": "resume"}
_EXAMPLE = """\
Examples:
  trl-archer recipes                                   list the recipes that come with the package
  trl-archer train --config playground                 train on the built-in task, on a CPU
  trl-archer check --config math_qwen3_1.7b_1gpu       check a run without a GPU
  accelerate launch --config_file "$(trl-archer recipes --path zero2)" -m trl_archer train --config RECIPE.yaml"""


def short_help(parser: argparse.ArgumentParser) -> str:
    """Returns the usage and the most frequent flags, one line each."""
    actions = _actions(parser)
    groups = {title: [actions[n] for n in names.split() if n in actions] for title, names in _SHORT.items()}
    rest = len(actions) - sum(map(len, groups.values()))
    ending = f"`trl-archer train --help-all` lists the other {rest} flags. {parser.epilog or ''}"
    return _assemble(parser, _lines(groups, brief=True), ending)


def full_help(parser: argparse.ArgumentParser, sections: Mapping[str, Iterable[str]]) -> str:
    """Returns the usage and all flags, in sections by the class that declares them first."""
    actions = _actions(parser)
    del actions["help"]
    groups = {title: [actions.pop(name) for name in names if name in actions] for title, names in sections.items()}
    return _assemble(parser, _lines({"Run": list(actions.values()), **groups}, brief=False), parser.epilog or "")


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Actions by field. `--no_x` comes after `--x` and is left out; `--resume` replaces the flag of transformers."""
    resume = [action for action in parser._actions if "--resume" in action.option_strings]
    return {action.dest: action for action in (*reversed(parser._actions), *resume)}


def _assemble(parser: argparse.ArgumentParser, lines: Iterable[str], ending: str) -> str:
    about = textwrap.fill(" ".join((parser.description or "").split()), _width())
    return "\n".join([f"usage: {parser.usage}", "", about, "", _EXAMPLE, *lines, "", textwrap.fill(ending, _width())])


def _lines(groups: Mapping[str, Iterable[argparse.Action]], brief: bool) -> Iterator[str]:
    for title, actions in groups.items():
        yield from ("", f"{title}:")
        for action in actions:
            flag = f"  --{_NAMES.get(action.dest, action.dest)}"
            text = _text(action, brief)
            if brief:
                lines = textwrap.wrap(f"{flag:<31} {text}", _width(), subsequent_indent=" " * 32)
                yield from lines[:2] if len(lines) < 3 else (lines[0], f"{lines[1]} ...")
            else:
                yield flag
                yield from textwrap.wrap(text, _width(), initial_indent=" " * 8, subsequent_indent=" " * 8)


def _text(action: argparse.Action, brief: bool) -> str:
    text = " ".join((action.help or "").replace("%%", "%").split())
    if brief:
        text = re.split(r"(?<=\.) ", text)[0].rstrip(".")
    default = "" if action.default in (None, argparse.SUPPRESS) else f" [{action.default}]"
    return f"{text}{default}"


def _width() -> int:
    return max(80, min(shutil.get_terminal_size((100, 24)).columns, 120))
