"""Settings of a run that belong neither to the trainer nor to the model: data, rewards and the collapse alarm."""

import json
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from trl.scripts.grpo import GRPOScriptArguments

from ...collapse import CollapseAlarm


@dataclass
class TrainArguments(GRPOScriptArguments):
    """
    What `trl-archer train` takes beside the fields of [`ArcherGRPOConfig`] and [`~trl.ModelConfig`].

    Args:
        dataset_name (`str`):
            Data set on the Hub, path of a JSON, JSONL, Parquet or CSV file or of a folder, or `"playground"`.
        dataset_config, dataset_train_split, dataset_test_split, dataset_streaming (*optional*):
            As in TRL. Splits may be slices, such as `"train[:-500]"`.
        eval_dataset_name (`str`, *optional*):
            Data set to evaluate on, if it is another one.
        dataset_columns (`dict[str, str]`, *optional*):
            New name -> name in the data set, such as `{"prompt": "problem", "solution": "answer"}`. A column that has
            the new name already is replaced. A dot reaches into a column: `{"tests": "reward_model.ground_truth"}`.
        prompt_template (`str`, *optional*):
            Jinja template of the prompt, over the columns of a row: `"{{ prompt }}\\nAnswer in \\\\boxed{}."`
        conversational (`bool`, *optional*, defaults to `False`):
            Whether to wrap a prompt that is a string as a message of the user, so that the chat template applies. TRL
            hands strings to the model as they are.
        system_prompt (`str`, *optional*):
            System message to put before each prompt. Implies `conversational`.
        max_prompt_length (`int`, *optional*):
            Leaves out rows whose prompt has more tokens, chat template included.
        reward_funcs (`list` of `str` or `dict`):
            Names (`math`, `code`, `countdown`, `think_format`, `soft_overlong`, `repetition_penalty`) or import paths
            (`package.module.function`). With settings, a mapping: `{"name": "soft_overlong", "max_completion_len":
            8192, "soft_punish_cache": 1024}`; an import path is then called with them, and returns the function. Their
            weights are `reward_weights`.
        reward_model_name_or_path (`str`, *optional*):
            Reward model, scored before the functions.
        num_processes (`int`, *optional*):
            Number of processes that the batch sizes are written for. A launch with another number is refused.
        collapse_action (`str`, *optional*, defaults to `"warn"`):
            What `CollapseAlarm` does when the policy collapses: `"warn"`, or `"stop"`, which ends training without
            another checkpoint. `"none"` or `None` leaves the alarm out.
        collapse_entropy_floor (`float`, *optional*, defaults to `0.05`):
            Alarm below this mean token entropy, in nats (`entropy`). `None` to leave entropy alone.
        collapse_repetition_ceiling (`float`, *optional*, defaults to `0.3`):
            Alarm above this share of repeated 20-grams (`completions/repetition`). `None` to leave it alone.
        collapse_patience (`int`, *optional*, defaults to `10`):
            How many logs in a row have to be beyond the limit.
    """

    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Data set on the Hub, path of a JSON, JSONL, Parquet or CSV file or of a folder, or 'playground'."
        },
    )
    reward_funcs: list[str] | None = field(
        default=None,
        metadata={
            "help": "Rewards by name (math, code, countdown, think_format, soft_overlong, repetition_penalty) or by "
            "import path (package.module.function). One with settings is a mapping in the recipe and JSON here: "
            '\'{"name": "soft_overlong", "max_completion_len": 8192, "soft_punish_cache": 1024}\'. Weights: '
            "--reward_weights."
        },
    )
    eval_dataset_name: str | None = field(
        default=None, metadata={"help": "Data set to evaluate on, if it is another one than `dataset_name`."}
    )
    dataset_columns: dict | str | None = field(
        default=None,
        metadata={
            "help": 'New name -> name in the data set, as JSON: \'{"prompt": "problem"}\'. A dot reaches into a '
            "column. A column that has the new name already is replaced."
        },
    )
    prompt_template: str | None = field(
        default=None, metadata={"help": "Jinja template of the prompt, over the columns of a row."}
    )
    conversational: bool = field(
        default=False,
        metadata={"help": "Whether to wrap string prompts as the user's message, so that the chat template applies."},
    )
    system_prompt: str | None = field(
        default=None, metadata={"help": "System message to put before each prompt. Implies `conversational`."}
    )
    max_prompt_length: int | None = field(
        default=None, metadata={"help": "Leaves out rows whose prompt has more tokens, chat template included."}
    )
    num_processes: int | None = field(
        default=None,
        metadata={"help": "Processes that the batch sizes are written for. A launch with another number is refused."},
    )
    collapse_action: str | None = field(
        default="warn",
        metadata={
            "help": "What to do when the policy collapses: warn, stop (without saving it, exit status 1), or none.",
            "choices": ["none", "warn", "stop"],
        },
    )
    collapse_entropy_floor: float | None = field(
        default=0.05, metadata={"help": "Collapse: mean token entropy below this, in nats. none leaves entropy alone."}
    )
    collapse_repetition_ceiling: float | None = field(
        default=0.3,
        metadata={"help": "Collapse: share of repeated 20-grams above this. none leaves repetition alone."},
    )
    collapse_patience: int = field(
        default=10, metadata={"help": "How many logs in a row have to be beyond a limit for a collapse."}
    )

    def __post_init__(self):
        if self.dataset_name is None:
            raise ValueError(
                "dataset_name is missing. Name a data set on the Hub, a JSON, Parquet or CSV file, or 'playground'."
            )
        if not self.rewards and self.reward_model_name_or_path is None:
            raise ValueError("reward_funcs is missing. Name at least one, such as `reward_funcs: [math]`.")
        if self.max_prompt_length is not None and self.max_prompt_length < 1:
            raise ValueError(f"max_prompt_length={self.max_prompt_length} leaves no prompt. Use 1 or more, or null.")
        if self.ignore_bias_buffers:
            raise ValueError("ignore_bias_buffers=True is read by no GRPO trainer. Leave it out.")
        _ = self.columns  # raises on what is no mapping
        _ = self.collapse_alarm  # raises on limits out of their range

    @property
    def columns(self) -> dict[str, str]:
        """`dataset_columns` as a dictionary, empty if there are none."""
        value = self.dataset_columns
        columns = _from_json("dataset_columns", value) if isinstance(value, str) else value or {}
        if not isinstance(columns, dict) or not all(isinstance(name, str) for pair in columns.items() for name in pair):
            raise ValueError(
                f"dataset_columns={value!r} does not map names to names. Write it as "
                "{new name: name in the data set}, such as {prompt: problem, solution: answer}."
            )
        if len(set(columns.values())) < len(columns):
            raise ValueError(f"dataset_columns={value!r} maps two names to one column. A column has one new name.")
        return columns

    @property
    def rewards(self) -> list[dict[str, Any]]:
        """`reward_funcs` as mappings with a `name` and settings."""
        return [_reward(entry) for entry in self.reward_funcs or []]

    @property
    def collapse_alarm(self) -> CollapseAlarm | None:
        """The callback that the `collapse_*` fields describe, `None` if they leave it out."""
        if self.collapse_action in (None, "none"):
            return None
        settings = {name: getattr(self, f"collapse_{name}") for name in signature(CollapseAlarm).parameters}
        try:
            return CollapseAlarm(**settings)
        except ValueError as error:
            message = str(error)
            for name in settings:
                message = message.replace(f"{name}=", f"collapse_{name}=")
            raise ValueError(f"{message} Or leave the alarm out with collapse_action='none'.") from None


def _reward(entry: Any) -> dict[str, Any]:
    if isinstance(entry, str):
        entry = _from_json("reward_funcs", entry) if entry.startswith("{") else {"name": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ValueError(
            f"reward_funcs holds {entry!r}, which is neither a name nor a mapping with a `name`, such as "
            "{name: soft_overlong, max_completion_len: 8192, soft_punish_cache: 1024}."
        )
    return entry


def _from_json(field_name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{field_name}={text!r} is not valid JSON: {error}.") from None
