"""Settings of a run outside trainer and model: method, data, rewards and the collapse alarm."""

import json
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from trl.scripts.grpo import GRPOScriptArguments

from ...collapse import CollapseAlarm
from ...evaluation.benchmarks import Benchmark, read_benchmark
from ...grpo.config import help_from_docstring


@help_from_docstring
@dataclass
class TrainArguments(GRPOScriptArguments):
    """
    Settings of `trl-archer train` in addition to the fields of [`ArcherGRPOConfig`] and [`~trl.ModelConfig`].

    Args:
        method (`str`, *optional*, defaults to `"archer"`):
            `"archer"` or `"grpo"`, TRL's losses. `"grpo"` trains the same recipe with `DurableGRPOTrainer` and any
            `loss_type`; fields that only Archer has are then ignored.
        preset (`str`, *optional*):
            Objective of a paper, such as `"dapo"`. As a flag, its values replace those of the recipe. In a recipe, the
            recipe's other fields replace the preset's.
        dataset_name (`str`):
            Dataset on the Hub, path of a JSON, JSONL, Parquet, CSV, TSV or Arrow file or of a folder, or
            `"playground"`.
        dataset_config, dataset_streaming (*optional*):
            As in TRL.
        dataset_train_split, dataset_test_split (*optional*):
            As in TRL. Splits may be slices, such as `"train[:-500]"`.
        eval_dataset_name (`str`, *optional*):
            Dataset to evaluate on, if it is not `dataset_name`.
        dataset_columns (`dict[str, str | list[str]]`, *optional*):
            Maps each new name to a name in the dataset, such as `{"prompt": "problem", "solution": "answer"}`. An
            existing column with the new name is replaced. A dot selects a nested field, an element of a list or a field
            of JSON text: `{"tests": "reward_model.ground_truth"}`, `{"prompt": "messages.0.content"}`. A list of names
            becomes one column with a field for each: `{"tests": ["public_tests", "private_tests"]}`.
        prompt_template (`str`, *optional*):
            Jinja template of the prompt, rendered with the columns of a row: `"{{ prompt }}\\nAnswer in \\\\boxed{}."`
            If the prompt is a list of messages, `prompt` is the text of the last user message, and the template
            replaces that text.
        conversational (`bool`, *optional*, defaults to `False`):
            Whether to wrap a string prompt as a user message, so that the chat template applies. TRL passes strings to
            the model unchanged.
        system_prompt (`str`, *optional*):
            System message to put before each prompt. Implies `conversational`.
        max_prompt_length (`int`, *optional*):
            Drops rows whose prompt has more tokens, including the chat template.
        reward_funcs (`list` of `str` or `dict`):
            Names (`math`, `code`, `countdown`, `think_format`, `soft_overlong`, `repetition_penalty`) or import paths
            (`package.module.function`). To pass settings, use a mapping: `{"name": "soft_overlong",
            "max_completion_len": 8192, "soft_punish_cache": 1024}`. The object at an import path is then called with
            the settings and must return the reward function. Set the weights in `reward_weights`.
        eval_benchmarks (`list` of `str` or `dict`, *optional*):
            Benchmarks to evaluate on while training: presets (`aime24`, `aime25`, `amc23`, `math500`, `minerva`,
            `olympiad`, `lcb_v5`, `lcb_v6`; `countdown`, offline), mappings such as `{"name": "math500", "k": 1}`, or
            YAML files with a mapping. The settings are those of `trl_archer.evaluation.Benchmark`. Logged as
            `eval/NAME/avg@K` and so on.
        eval_benchmarks_steps (`int`, *optional*):
            Optimizer steps between evaluations on benchmarks. `None` evaluates together with `eval_strategy`.
        keep_best (`int`, *optional*):
            Number of checkpoints to keep: those with the best `metric_for_best_model`, which must be that of a
            benchmark or of `eval_strategy`, and in any case the last one.
        reward_model_name_or_path (`str`, *optional*):
            Reward model, scored before the functions.
        num_processes (`int`, *optional*):
            Number of processes that the batch sizes assume. A launch with another number is refused.
        collapse_action (`str`, *optional*, defaults to `"warn"`):
            Action of `CollapseAlarm` when the policy collapses: `"warn"`, or `"stop"`, which ends training without
            another checkpoint and with exit status 1. `"none"` or `None` disables the alarm.
        collapse_entropy_floor (`float`, *optional*, defaults to `0.05`):
            Alarm below this mean token entropy, in nats (`entropy`). `None` ignores entropy.
        collapse_repetition_ceiling (`float`, *optional*, defaults to `0.3`):
            Alarm above this share of repeated 20-grams (`completions/repetition`). `None` ignores repetition.
        collapse_patience (`int`, *optional*, defaults to `10`):
            Number of consecutive logs beyond a limit before the alarm is raised.
    """

    method: str = field(default="archer", metadata={"choices": ["archer", "grpo"]})
    preset: str | None = None
    dataset_name: str | None = None
    reward_funcs: list[str] | None = None
    eval_dataset_name: str | None = None
    dataset_columns: dict | str | None = None
    prompt_template: str | None = None
    conversational: bool = False
    system_prompt: str | None = None
    max_prompt_length: int | None = None
    eval_benchmarks: list[str] | None = None
    eval_benchmarks_steps: int | None = None
    keep_best: int | None = None
    num_processes: int | None = None
    collapse_action: str | None = field(default="warn", metadata={"choices": ["none", "warn", "stop"]})
    collapse_entropy_floor: float | None = 0.05
    collapse_repetition_ceiling: float | None = 0.3
    collapse_patience: int = 10

    def __post_init__(self):
        if self.dataset_name is None:
            raise ValueError(
                "dataset_name is missing. Name a dataset on the Hub, a JSON, Parquet or CSV file, or 'playground'."
            )
        if not self.rewards and self.reward_model_name_or_path is None:
            raise ValueError("reward_funcs is missing. Name at least one, such as `reward_funcs: [math]`.")
        if self.max_prompt_length is not None and self.max_prompt_length < 1:
            raise ValueError(f"max_prompt_length={self.max_prompt_length} leaves no prompt. Use 1 or more, or null.")
        if self.ignore_bias_buffers:
            raise ValueError("ignore_bias_buffers=True has no effect in a GRPO trainer. Remove it.")
        if self.eval_benchmarks is None and (self.eval_benchmarks_steps or self.keep_best) is not None:
            raise ValueError("eval_benchmarks_steps and keep_best have no effect without eval_benchmarks. Set it.")
        _ = self.benchmarks  # raises on unknown ones
        _ = self.columns  # raises unless it is a mapping
        _ = self.collapse_alarm  # raises on limits out of range

    @property
    def columns(self) -> dict[str, str | list[str]]:
        """`dataset_columns` as a dictionary; empty if not set."""
        value = self.dataset_columns
        columns = _from_json("dataset_columns", value) if isinstance(value, str) else value or {}
        if not isinstance(columns, dict) or not all(
            isinstance(new, str) and old and isinstance(old, str | list) and all(isinstance(name, str) for name in old)
            for new, old in columns.items()
        ):
            raise ValueError(
                f"dataset_columns={value!r} does not map names to names. Write it as "
                "{new name: name in the dataset}, such as {prompt: problem, solution: answer}."
            )
        single = [old for old in columns.values() if isinstance(old, str)]
        if len(set(single)) < len(single):
            raise ValueError(f"dataset_columns={value!r} maps two names to one column. A column has one new name.")
        for new, old in columns.items():
            if isinstance(old, list) and len({name.rpartition(".")[2] for name in old}) < len(old):
                raise ValueError(f"dataset_columns={value!r} has two fields with one name in {new!r}. Remove one.")
        return columns

    @property
    def rewards(self) -> list[dict[str, Any]]:
        """`reward_funcs` as mappings with a `name` and settings."""
        return [_reward(entry) for entry in self.reward_funcs or []]

    @property
    def benchmarks(self) -> list[Benchmark]:
        """`eval_benchmarks`, read; not loaded yet."""
        return read_benchmarks(self.eval_benchmarks)

    @property
    def collapse_alarm(self) -> CollapseAlarm | None:
        """The callback configured by the `collapse_*` fields; `None` if it is disabled."""
        if self.collapse_action in (None, "none"):
            return None
        settings = {name: getattr(self, f"collapse_{name}") for name in signature(CollapseAlarm).parameters}
        try:
            return CollapseAlarm(**settings)
        except ValueError as error:
            message = str(error)
            for name in settings:
                message = message.replace(f"{name}=", f"collapse_{name}=")
            raise ValueError(f"{message} Or disable the alarm with collapse_action='none'.") from None


def read_benchmarks(entries: Any) -> list[Benchmark]:
    """
    Reads `eval_benchmarks` of a recipe or of flags: one entry or a list of them, mappings also as JSON.

    Raises:
        ValueError: If there is no such benchmark, or it has an invalid setting.
    """
    listed = [entries] if isinstance(entries, str | dict) else entries or []
    return [
        read_benchmark(_from_json("eval_benchmarks", x) if isinstance(x, str) and x.startswith("{") else x)
        for x in listed
    ]


def _reward(entry: Any) -> dict[str, Any]:
    if isinstance(entry, str):
        entry = _from_json("reward_funcs", entry) if entry.startswith("{") else {"name": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ValueError(
            f"reward_funcs has the entry {entry!r}, which is neither a name nor a mapping with a `name`, such as "
            "{name: soft_overlong, max_completion_len: 8192, soft_punish_cache: 1024}."
        )
    return entry


def _from_json(field_name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{field_name}={text!r} is not valid JSON: {error}.") from None
