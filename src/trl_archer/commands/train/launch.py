"""Checks that batch, launcher and precision agree, before anything is loaded."""

import importlib.util
import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...grpo.preflight import QUANTIZED_SYNC
from ...grpo.vllm_server import check_installed

if TYPE_CHECKING:
    from ...grpo.config import DurableGRPOConfig

Values = Mapping[str, Any]
_MODULE = "-m trl_archer.cli train"


@dataclass(frozen=True)
class BatchGeometry:
    """A configuration's batch in the paper's terms."""

    prompts: Fraction
    responses: int
    prompts_per_update: Fraction
    updates_per_rollout: Fraction
    passes: int

    def __str__(self) -> str:
        return (
            f"{self.prompts} prompts x {self.responses} responses per rollout; {self.updates_per_rollout} updates per "
            f"rollout, of {self.prompts_per_update} prompts each, in {self.passes} pass{'es' * (self.passes > 1)}"
        )


def batch_geometry(args: "DurableGRPOConfig") -> BatchGeometry:
    """Computes the batch of a configuration."""
    per_update = args.per_device_train_batch_size * args.world_size * args.gradient_accumulation_steps
    return BatchGeometry(
        prompts=Fraction(args.generation_batch_size, args.num_generations),
        responses=args.num_generations,
        prompts_per_update=Fraction(per_update, args.num_generations),
        updates_per_rollout=Fraction(args.num_iterations * args.generation_batch_size, per_update),
        passes=args.num_iterations,
    )


def launched_processes() -> int:
    """Returns the number of processes that the launcher started, from the variable that all torch launchers set."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_launch(
    values: Values, given: Collection[str] = (), processes: int | None = None, installed: bool = True
) -> None:
    """
    Checks flags and recipe before the configuration is created, which initializes the devices. `processes` replaces
    the number that was launched, and `installed` says whether packages must be installed here.

    Raises:
        ValueError: If number of processes, batch sizes, precision, quantization or DeepSpeed's file contradict each
            other, if a field has no effect, or if vLLM, bitsandbytes or DeepSpeed is requested but not installed.
    """
    check_effects(values, given)
    if processes is None:
        processes = launched_processes()
    check_processes(values, processes)
    check_batch(values, processes)
    check_vllm(values, processes, installed)
    check_quantization(values, installed)
    check_precision(values)
    settings = deepspeed_settings(values)
    if settings is not None:
        check_deepspeed(*settings, values, processes)
        if installed and importlib.util.find_spec("deepspeed") is None:
            raise ValueError("DeepSpeed is not installed. Run `pip install 'trl-archer[deepspeed]'`.")


# Fields that act only if another one is set: the switch, how to set it, and the fields
_OFF = (False, None, "no", "colocate")
_SWITCHES = (
    ("use_peft", "use_peft: true", r"lora_\w+|use_rslora|use_dora"),
    ("load_in_4bit", "load_in_4bit: true", r"bnb_4bit_\w+|use_bnb_nested_quant"),
    ("use_vllm", "use_vllm: true", r"vllm_\w+"),
    ("vllm_mode", "vllm_mode: server", r"vllm_server_\w+|vllm_group_port"),
    (
        "log_completions",
        "log_completions: true",
        "num_completions_to_print|log_unique_prompts|log_completions_hub_repo",
    ),
    ("push_to_hub", "push_to_hub: true", r"hub_\w+"),
    (
        "eval_strategy",
        "eval_strategy: steps",
        r"eval_(?!benchmarks)\w+|num_generations_eval|per_device_eval_batch_size|dataset_test_split",
    ),
    ("sync_ref_model", "sync_ref_model: true", r"ref_model_\w+"),
    ("use_liger_kernel", "use_liger_kernel: true", "liger_kernel_config"),
)


def check_effects(values: Values, given: Collection[str]) -> None:
    """
    Checks that the fields that flags or recipe set have an effect. A switch that is off on purpose, such as `use_vllm:
    false`, may leave its fields in place.

    Raises:
        ValueError: If a field has none; the message names the switch.
    """
    for switch, remedy, pattern in _SWITCHES:
        idle = sorted(name for name in given if name != switch and re.fullmatch(pattern, name))
        if idle and switch not in given and values.get(switch) in _OFF:
            raise ValueError(
                f"{idle[0]}={values[idle[0]]!r} has no effect without {switch}. Set {remedy}, or remove {idle[0]}. "
                f"{switch}={values.get(switch)!r}, if set explicitly, keeps it for later."
            )


def check_processes(values: Values, processes: int) -> None:
    """Checks that the launcher started as many processes as it was asked for, and as the recipe is written for."""
    alone = "WORLD_SIZE" not in os.environ and os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true")
    if alone and "MASTER_PORT" in os.environ:  # accelerate sets it for several processes, and then starts one
        raise ValueError(
            "accelerate was asked for several processes on the CPU but started one. Use its settings for several, "
            '`accelerate launch --config_file "$(trl-archer recipes --path ddp)" --num_processes 2 --mixed_precision '
            f"no {_MODULE} ...`, or start one process without accelerate."
        )
    expected = values.get("num_processes")
    if expected is None or expected == processes:
        return
    steps = Fraction(values["gradient_accumulation_steps"] * expected, processes)
    keep = (
        f"gradient_accumulation_steps={steps}"
        if steps.denominator == 1
        else "other values of per_device_train_batch_size and gradient_accumulation_steps"
    )
    start = f"accelerate launch --num_processes {expected} {_MODULE} ..."
    raise ValueError(
        f"The batch sizes are written for num_processes={expected}, but {processes} started. Use `{start}`, or set "
        f"num_processes to {processes} and keep the batch size of an update with {keep}. null accepts any number."
    )


def check_batch(values: Values, processes: int) -> None:
    """Checks that rollouts and evaluation batches consist of whole groups, on this number of processes."""
    names = "per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps num_iterations"
    for name in [*names.split(), "generation_batch_size", "steps_per_generation"]:
        if values[name] is not None and values[name] < 1:
            raise ValueError(f"{name}={values[name]} is below 1.")
    responses = values["num_generations"]
    if responses < 2:
        raise ValueError(
            f"num_generations={responses} is below 2, so groups would have no advantages. The paper uses 16."
        )
    rollout, steps = values["generation_batch_size"], values["steps_per_generation"]
    if rollout is not None and steps is not None:
        raise ValueError(
            f"generation_batch_size={rollout} and steps_per_generation={steps} set the same value. Keep one."
        )
    at_once = values["per_device_train_batch_size"] * processes
    made_of = f"per_device_train_batch_size={values['per_device_train_batch_size']} x {count_processes(processes)}"
    if rollout is not None and rollout % at_once:
        raise ValueError(
            f"generation_batch_size={rollout} is not a multiple of {at_once} ({made_of}). Set it to "
            f"{_multiples(rollout, at_once)}, or change the others."
        )
    if rollout is None:
        name = "steps_per_generation" if steps is not None else "gradient_accumulation_steps"
        rollout = at_once * values[name]
        made_of += f" x {name}={values[name]}"
    else:
        made_of = "generation_batch_size"
    if rollout % responses:
        raise ValueError(
            f"A rollout of {rollout} completions ({made_of}) is not a whole number of groups of "
            f"num_generations={responses}. Make it {_multiples(rollout, responses)}, or change num_generations."
        )
    if values["eval_strategy"] != "no":
        responses = values["num_generations_eval"] or responses
        batch = values["per_device_eval_batch_size"] * processes
        if batch % responses:
            raise ValueError(
                f"An evaluation batch of {batch} completions (per_device_eval_batch_size="
                f"{values['per_device_eval_batch_size']} x {count_processes(processes)}) is not a whole number of "
                f"groups of {responses}. Change per_device_eval_batch_size or set num_generations_eval to a divisor of "
                f"{batch}."
            )


def check_vllm(values: Values, processes: int, installed: bool = True) -> None:
    """Checks that vLLM is installed, and that processes can be split into its tensor-parallel groups."""
    if not values["use_vllm"]:
        return
    if installed:
        check_installed()
    size = values["vllm_tensor_parallel_size"]
    if values["vllm_mode"] == "colocate" and (size < 1 or processes % size):
        raise ValueError(
            f"vllm_tensor_parallel_size={size} does not divide {count_processes(processes)} into groups. Set it to a "
            "divisor."
        )


def check_quantization(values: Values, installed: bool = True) -> None:
    """Checks that a quantized model has an adapter to train, and does not sample with vLLM."""
    flag = next((name for name in ("load_in_4bit", "load_in_8bit") if values[name]), None)
    if flag is None:
        return
    if not values["use_peft"]:
        raise ValueError(
            f"{flag}=True without use_peft: quantized weights cannot be trained. Set use_peft, which trains an adapter "
            f"on top of them, or remove {flag}."
        )
    if values["use_vllm"]:
        raise ValueError(f"{flag}=True, {QUANTIZED_SYNC}")
    if installed and importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            f"{flag}=True, but bitsandbytes is not installed. Run `pip install 'trl-archer[quantization]'`."
        )


def check_precision(values: Values) -> None:
    """Checks that accelerate's precision is the one in the training arguments."""
    bf16, fp16 = _precision(values)
    wanted = "fp16" if fp16 else "bf16" if bf16 else "no"
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched not in ("no", wanted):
        raise ValueError(
            f"mixed_precision={launched!r} of accelerate contradicts the training arguments, bf16={bf16} and "
            f"fp16={fp16}. Set mixed_precision to {wanted!r} in accelerate's file, or change bf16 and fp16."
        )


def deepspeed_settings(values: Values) -> tuple[str, dict[str, Any]] | None:
    """
    Returns DeepSpeed's settings as the user wrote them, and their source.

    Raises:
        ValueError: If the file cannot be read.
    """
    given = values.get("deepspeed")
    if isinstance(given, dict):
        return "deepspeed", given
    if given is None:
        if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() not in ("true", "1"):
            return None
        given = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
        if given == "none":
            return "deepspeed_config of accelerate", _accelerates_own_settings()
    if given.startswith("{"):
        try:
            return "deepspeed", json.loads(given)
        except json.JSONDecodeError as error:
            raise ValueError(f"deepspeed={given!r} is not valid JSON: {error}.") from None
    try:
        settings = json.loads(Path(given).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"DeepSpeed's file {given!r} cannot be read as JSON: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"DeepSpeed's file {given!r} is not a JSON object.")
    return given, settings


def check_deepspeed(source: str, settings: Mapping[str, Any], values: Values, processes: int) -> None:
    """
    Checks DeepSpeed's settings against the training arguments. `"auto"` uses the argument and always agrees.

    The default of a missing setting depends on the version of DeepSpeed (`gradient_clipping`: none, or 1.0) or on
    accelerate (`gradient_accumulation_steps`: 1). Both must therefore be set.

    Raises:
        ValueError: If they contradict each other; the message lists every contradiction.
    """
    per_device, steps = values["per_device_train_batch_size"], values["gradient_accumulation_steps"]
    bf16, fp16 = _precision(values)
    betas = [values["adam_beta1"], values["adam_beta2"]]
    expected = {
        "train_micro_batch_size_per_gpu": ("per_device_train_batch_size", per_device),
        "gradient_accumulation_steps": ("gradient_accumulation_steps", steps),
        "train_batch_size": (
            f"per_device_train_batch_size x {count_processes(processes)} x gradient_accumulation_steps",
            per_device * processes * steps,
        ),
        "gradient_clipping": ("max_grad_norm", values["max_grad_norm"]),
        "bf16.enabled": ("bf16", bf16),
        "fp16.enabled": ("fp16", fp16),
        "optimizer.params.lr": ("learning_rate", values["learning_rate"]),
        "optimizer.params.betas": ("adam_beta1, adam_beta2", betas),
        "optimizer.params.eps": ("adam_epsilon", values["adam_epsilon"]),
        "optimizer.params.weight_decay": ("weight_decay", values["weight_decay"]),
    }
    wrong = []
    for key, (name, value) in expected.items():
        found = _entry(settings, key)
        if found is None and key == "gradient_clipping":
            wrong.append(f"gradient_clipping is missing, so {name}={value} would not reach DeepSpeed")
        elif found is None and key == "gradient_accumulation_steps" and value != 1:
            wrong.append(f"gradient_accumulation_steps is missing, which accelerate reads as 1, not {value}")
        elif found not in (None, "auto", value):
            wrong.append(f"{key} is {found!r}, but {name} is {value!r}")
    if wrong:
        raise ValueError(
            f"{source} contradicts the training arguments: {'; '.join(wrong)}. Write 'auto' in {source} to use "
            "the arguments, or change them."
        )


def check_devices(args: "DurableGRPOConfig") -> None:
    """
    Checks that all launched processes train together, each on one device.

    Raises:
        ValueError: If not.
    """
    launched = launched_processes()
    if args.world_size != launched:
        raise ValueError(
            f"{launched} processes were launched, but each trains alone, as one of {args.world_size}. Without GPUs, "
            "set use_cpu; otherwise check distributed_type in accelerate's file."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"One process sees {args.n_gpu} GPUs and would split its batches over them. Start one process per GPU with "
            f"`accelerate launch --num_processes {args.n_gpu} {_MODULE} ...`, or set CUDA_VISIBLE_DEVICES to one."
        )


def _precision(values: Values) -> tuple[bool, bool]:
    """Returns `bf16` and `fp16`. TRL uses bf16 by default unless fp16 is set."""
    fp16 = bool(values["fp16"])
    return (not fp16 if values["bf16"] is None else values["bf16"]), fp16


def _accelerates_own_settings() -> dict[str, Any]:
    """Reads accelerate's own fields. accelerate drops `gradient_clipping: 0`, so it does not mean "no clipping"."""
    settings: dict[str, Any] = {"gradient_accumulation_steps": "auto", "gradient_clipping": "auto"}
    for name, variable in (
        ("gradient_accumulation_steps", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS"),
        ("gradient_clipping", "ACCELERATE_GRADIENT_CLIPPING"),
    ):
        text = os.environ.get(variable, "auto")
        if text not in ("auto", "none"):
            settings[name] = float(text) or None
    return settings


def _entry(settings: Mapping[str, Any], key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def count_processes(processes: int) -> str:
    """Formats a count as `1 process` or `8 processes`."""
    return f"{processes} process{'es' * (processes > 1)}"


def _multiples(value: int, of: int) -> str:
    """Formats the nearest multiples, as `96 or 128`."""
    below = value // of * of
    return " or ".join(str(multiple) for multiple in (below, below + of) if multiple > 0)
