"""A training run, from flags and recipe to a trained model."""

import argparse
import dataclasses
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from huggingface_hub import HfApi
from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.utils import is_kernels_available
from trl import GRPOConfig, ModelConfig, get_peft_config, get_quantization_config

from ...collapse import CollapseAlarm
from ...config import ArcherGRPOConfig
from ...console import ConsoleLog
from ...evaluation.benchmarks import load_benchmark
from ...evaluation.callback import EvaluationCallback
from ...grpo.checkpoints import find_checkpoint
from ...grpo.config import DurableGRPOConfig
from ...grpo.preemption import SaveOnSigterm
from ...grpo.preflight import preflight
from ...grpo.reward_checks import needed_columns
from ...rewards.named import load_rewards
from ..recipes import find_file
from .arguments import TrainArguments
from .card import CardDetails, complete_cards
from .data import load_data
from .failure import report_refusal
from .help import full_help, short_help
from .launch import batch_geometry, check_devices, check_launch, count_processes
from .presets import find_preset
from .recipe import RecipeParser, read_recipe
from .resume import check_new_run, check_same_model, record_run
from .sources import PLAYGROUND, is_on_hub

if TYPE_CHECKING:
    from ...grpo.trainer import DurableGRPOTrainer

logger = logging.getLogger(__name__)

Settings = tuple[TrainArguments, DurableGRPOConfig, ModelConfig]

_CONFIGS = {"archer": ArcherGRPOConfig, "grpo": DurableGRPOConfig}
_TRACEBACK = "TRL_ARCHER_TRACEBACK"
_DESCRIPTION = """\
Trains a model with ArcherGRPOTrainer, or with any of TRL's GRPO losses (--method grpo). Settings come from a recipe
(--config), a YAML file with the flags below as keys, or one that comes with the package; flags override it."""


def main(argv: Sequence[str]) -> int:
    """Runs `trl-archer train`; returns 0, 1 if the policy collapsed, or 2 if the run is refused at the start."""
    if asked := {"-h", "--help", "--help-all"}.intersection(argv):
        parser = make_parser(_objective([word for word in argv if word not in asked]))
        print(full_help(parser, _sections()) if "--help-all" in asked else short_help(parser))
        raise SystemExit(0)
    silence_libraries()
    try:
        settings = parse(argv)
        trainer, checkpoint = prepare(*settings, argv)
    except (ValueError, OSError) as error:
        if os.environ.get(_TRACEBACK):
            raise
        report_refusal(f"trl-archer train: error: {error}")
        return 2
    return train(trainer, checkpoint)


def silence_libraries() -> None:
    """Ignores warnings of libraries about each other's next release, which a user of the command cannot act on."""
    for library in ("accelerate", "datasets", "peft", "torch", "transformers", "trl"):
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category, module=rf"{library}(\.|$)")


class Objective(NamedTuple):
    """What the parser depends on: the method, and the values of a preset, which a flag makes replace the recipe's."""

    method: str = "archer"
    preset: Mapping[str, Any] = {}
    preset_wins: bool = False


_ARCHER = Objective()


def make_parser(objective: Objective = _ARCHER, check: Callable[..., None] = check_launch) -> RecipeParser:
    """Builds the parser of flags and recipes. `check` is called with all values, and with the fields that are set."""
    method, preset, preset_wins = objective
    fields = {name: {f.name for f in dataclasses.fields(config)} for name, config in _CONFIGS.items()}
    parser = RecipeParser(
        (TrainArguments, _CONFIGS[method], ModelConfig),
        check=check,
        ignored=fields["archer"] - fields[method],
        preset=preset,
        preset_wins=preset_wins,
        prog="trl-archer train",
        usage="trl-archer train --config RECIPE.yaml [--resume [PATH]] [--field value ...]",
        description=_DESCRIPTION,
        epilog=f"Exits with status 2 and a message if it cannot start; {_TRACEBACK}=1 shows where it comes from.",
    )
    parser.add_argument(
        "--config",
        metavar="RECIPE.yaml",
        help="Recipe: a YAML file, or the name of one that comes with the package.",
        default=None,
    )
    parser.add_argument(
        "--resume",
        dest="resume_from_checkpoint",
        metavar="PATH",
        nargs="?",
        const="latest",
        help="Resume from the last checkpoint, or from the one at PATH. `auto` starts a new run if there is none.",
    )
    return parser


def parse(argv: Sequence[str], check: Callable[..., None] = check_launch) -> Settings:
    """
    Reads recipe and flags, and checks them.

    Raises:
        ValueError: If a value is invalid; the message names the field, its value and the fix.
    """
    argv = _located(argv)
    arguments, config, model, *_ = make_parser(_objective(argv), check).parse_args_and_config(argv)
    if model.model_name_or_path is None:
        raise ValueError("model_name_or_path is missing. Name a model on the Hub, a folder, or 'playground'.")
    if model.model_name_or_path == PLAYGROUND:
        from ...playground.policy import POLICY_DIR, use_one_thread

        use_one_thread()
        model.model_name_or_path = str(POLICY_DIR)
    return arguments, config, model


def _sections() -> dict[str, list[str]]:
    """Returns the fields of all flags, by the class that declares them first."""
    inherited = {field.name for field in dataclasses.fields(TrainingArguments)}
    own = {field.name for field in dataclasses.fields(GRPOConfig)} - inherited
    archer = [field.name for field in dataclasses.fields(ArcherGRPOConfig) if field.name not in inherited | own]
    return {
        "Data, rewards and method": [field.name for field in dataclasses.fields(TrainArguments)],
        "Archer and long runs": archer,
        "TRL's GRPO": sorted(own),
        "Model and adapter": [field.name for field in dataclasses.fields(ModelConfig)],
        "Training, from transformers": sorted(inherited),
    }


def _located(argv: Sequence[str]) -> list[str]:
    """
    Replaces the name of a recipe by its path. With `--num_processes`, the recipe's batch is kept on that number.

    Raises:
        ValueError: If there is no such recipe, or the number does not divide the batch.
    """
    known = _before(argv)
    if known is None or len(known.config) != 1:
        return list(argv)
    path = str(find_file(known.config[0], "recipes"))
    argv = [
        path if word == known.config[0] else word.replace(f"--config={known.config[0]}", f"--config={path}")
        for word in argv
    ]
    recipe = read_recipe(path)
    written, steps = recipe.get("num_processes"), recipe.get("gradient_accumulation_steps")
    if known.num_processes in (None, written) or written is None or known.gradient_accumulation_steps is not None:
        return argv
    kept = Fraction((steps or 1) * written, known.num_processes)
    if kept.denominator != 1:
        raise ValueError(
            f"num_processes={known.num_processes} does not divide the recipe's batch, {written} processes with "
            f"gradient_accumulation_steps={steps or 1}. Set per_device_train_batch_size and "
            "gradient_accumulation_steps as well."
        )
    logger.warning(
        "gradient_accumulation_steps=%d keeps the recipe's batch on %d processes.", kept, known.num_processes
    )
    return [*argv, "--gradient_accumulation_steps", str(kept)]


def _before(argv: Sequence[str]) -> argparse.Namespace | None:
    """Reads the flags that the parser depends on. `None` if they are invalid, which the parser reports."""
    before = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    before.add_argument("--method")
    before.add_argument("--preset")
    before.add_argument("--config", action="append", default=[])
    before.add_argument("--num_processes", "--num-processes", type=int)
    before.add_argument("--gradient_accumulation_steps", "--gradient-accumulation-steps")
    try:
        return before.parse_known_args(argv)[0]
    except argparse.ArgumentError:
        return None


def _objective(argv: Sequence[str]) -> Objective:
    """Returns what flags and recipe request. The parser refuses invalid methods."""
    known = _before(argv)
    if known is None:
        return _ARCHER
    recipe = read_recipe(known.config[0]) if len(known.config) == 1 else {}
    return objective_of(recipe, method=known.method, preset=known.preset)


def objective_of(recipe: Mapping[str, Any], method: str | None = None, preset: str | None = None) -> Objective:
    """
    Returns the objective that a recipe requests, or a method or preset that replaces its own.

    Raises:
        ValueError: If there is no such preset, or it is one of another method.
    """
    name, wins = preset or recipe.get("preset"), preset is not None
    if name is None:
        method = method or recipe.get("method")
        return Objective(method if method in _CONFIGS else "archer")
    found = find_preset(name)
    asked = method or (None if wins else recipe.get("method"))
    if asked not in (None, found.method):
        raise ValueError(f"preset={name!r} belongs to method={found.method!r}, not {asked!r}. Remove one of the two.")
    return Objective(found.method, {**found.values, "method": found.method}, wins)


def prepare(
    arguments: TrainArguments, config: DurableGRPOConfig, model: ModelConfig, argv: Sequence[str] = ()
) -> "tuple[DurableGRPOTrainer, Path | None]":
    """
    Creates the trainer, after all checks that do not need the model's weights. Model cards contain the command `argv`.

    Raises:
        ValueError: If the run cannot start; the message names the field, its value and the fix.
    """
    check_devices(config)
    _check_installed(config, model)
    if config.push_to_hub and config.process_index == 0:
        check_hub(config)
    functions = load_rewards(arguments.rewards)
    reward_model = [arguments.reward_model_name_or_path] if arguments.reward_model_name_or_path else []
    rewards, weights = [*reward_model, *functions], config.reward_weights
    if weights is not None and len(weights) != len(rewards):
        raise ValueError(f"reward_weights has {len(weights)} entries for {len(rewards)} rewards. Give each one weight.")
    quantization_config = get_quantization_config(model)
    checkpoint = find_checkpoint(config.resume_from_checkpoint or "auto", config)
    check_new_run(config.resume_from_checkpoint, checkpoint)
    if checkpoint is not None:
        check_same_model(checkpoint, dataclasses.asdict(model))
    checks = preflight(config, str(model.model_name_or_path), quantization_config, checkpoint)
    train_data, eval_data = load_data(
        arguments,
        needed={"prompt": "the trainer", **needed_columns(functions)},
        evaluates=config.eval_strategy != "no",
        tokenizer=cache(lambda: load_tokenizer(config, model)),
        chat_template_kwargs=config.chat_template_kwargs,
        rewards=rewards,
    )
    benchmarks = [load_benchmark(benchmark) for benchmark in arguments.benchmarks]
    config.model_init_kwargs = {
        "revision": model.model_revision,
        "trust_remote_code": config.trust_remote_code,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **(config.model_init_kwargs or {}),
    }
    _warn_of_rounding(config, model)

    from ...grpo.trainer import DurableGRPOTrainer
    from ...trainer import ArcherGRPOTrainer

    alarm = arguments.collapse_alarm
    trainer = (ArcherGRPOTrainer if arguments.method == "archer" else DurableGRPOTrainer)(
        model=model.model_name_or_path,
        reward_funcs=rewards,
        args=config,
        train_dataset=train_data,
        eval_dataset=eval_data,
        callbacks=None if alarm is None else [alarm],
        quantization_config=quantization_config,
        peft_config=get_peft_config(model),
        preflight=checks,
    )
    names = [getattr(reward, "__name__", str(reward)) for reward in rewards]
    dataset = str(arguments.dataset_name)
    complete_cards(trainer, CardDetails(names, dataset, is_on_hub(dataset), argv))
    if benchmarks:
        every, keep = arguments.eval_benchmarks_steps, arguments.keep_best
        trainer.add_callback(
            EvaluationCallback(trainer, benchmarks, every=every, system_prompt=arguments.system_prompt, keep_best=keep)
        )
    if config.process_index == 0:
        record_run(
            config.output_dir,
            data=dataclasses.asdict(arguments),
            training=config.to_dict(),
            model=dataclasses.asdict(model),
        )
    return trainer, checkpoint


def train(trainer: "DurableGRPOTrainer", checkpoint: Path | None) -> int:
    """
    Trains, saves, and pushes to the Hub if `push_to_hub` is set. A run that stopped early, by SIGTERM or because the
    policy collapsed, leaves only its checkpoints.
    """
    args, report = trainer.args, trainer.accelerator.print
    ConsoleLog.attach(trainer)
    report(f"{batch_geometry(args)}, on {count_processes(args.world_size)}.")
    if checkpoint is not None:
        report(f"Resuming from {checkpoint}.")
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    has_collapsed, is_terminated = (_has_stopped(trainer, x) for x in (CollapseAlarm, SaveOnSigterm))
    if has_collapsed or is_terminated:
        why = "because the policy collapsed" if has_collapsed else "by SIGTERM"
        report(
            f"Stopped {why}. No final model was saved; --resume continues from the checkpoints in {args.output_dir}."
        )
    else:
        trainer.save_model(args.output_dir)
        trainer.save_state()  # the logs, for figures and comparisons
        trainer.create_model_card()
        report(f"Model saved to {args.output_dir}.")
        if args.push_to_hub:
            trainer.push_to_hub()
            report(f"Model pushed to https://huggingface.co/{trainer.hub_model_id}.")
    if hasattr(trainer, "end"):  # transformers >= 5.18: ends trackers and process group
        trainer.end()
    return int(has_collapsed)


def _has_stopped(trainer: "DurableGRPOTrainer", callback: type[CollapseAlarm] | type[SaveOnSigterm]) -> bool:
    return any(x.has_stopped for x in trainer.callback_handler.callbacks if isinstance(x, callback))


def _check_installed(config: DurableGRPOConfig, model: ModelConfig) -> None:
    missing = sorted(set(config.report_to) - set(get_available_reporting_integrations()))
    if missing:
        how = "Run `pip install 'trl-archer[trackio]'`" if missing[0] == "trackio" else "Install it"
        raise ValueError(f"report_to={config.report_to}: {missing[0]!r} is not installed. {how}, or remove it.")
    if "/" in str(model.attn_implementation) and not is_kernels_available():
        raise ValueError(
            f"attn_implementation={model.attn_implementation!r} is a kernel on the Hub. Run "
            "`pip install 'trl-archer[kernels]'`, or set attn_implementation: sdpa."
        )


def check_hub(config: DurableGRPOConfig) -> None:
    """
    Checks that the run can push to the Hub, before TRL creates the repository.

    Raises:
        ValueError: If the Hub does not respond, or does not accept the token.
    """
    try:
        HfApi().whoami(token=config.hub_token)
    except Exception as error:  # the types for no network depend on the version of huggingface_hub
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"push_to_hub=True, but the Hub cannot be used ({type(error).__name__}: {reason}). Log in with `hf auth "
            "login` on a machine with a network, or set push_to_hub=False and run `hf upload REPOSITORY "
            f"{config.output_dir}` after training."
        ) from error


def _warn_of_rounding(config: DurableGRPOConfig, model: ModelConfig) -> None:
    """Warns if updates round to zero. Only DeepSpeed and FSDP keep a float32 copy of the model's weights."""
    shards = config.distributed_state.distributed_type.value in ("DEEPSPEED", "FSDP")
    if model.dtype != "float32" and not model.use_peft and not shards:
        logger.warning(
            "dtype=%s is also the dtype of the weights that the optimizer updates, and in 16 bits an update with "
            "learning_rate=%s rounds to zero for most of them. Set dtype to float32; with bf16, the forward pass still "
            "runs in bfloat16.",
            *(model.dtype, config.learning_rate),
        )


def load_tokenizer(config: DurableGRPOConfig, model: ModelConfig) -> Any:
    """Loads the tokenizer as TRL does, with the chat template of the model's processor."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(
        model.model_name_or_path, revision=model.model_revision, trust_remote_code=config.trust_remote_code
    )
    tokenizer = getattr(processor, "tokenizer", processor)
    tokenizer.chat_template = tokenizer.chat_template or getattr(processor, "chat_template", None)
    return tokenizer
