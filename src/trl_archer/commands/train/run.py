"""The run itself: from flags and recipe to a trained model."""

import dataclasses
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers.integrations import get_available_reporting_integrations
from transformers.utils import is_kernels_available
from trl import ModelConfig

from ...collapse import CollapseAlarm
from ...config import ArcherGRPOConfig
from ...grpo.preemption import SaveOnSigterm
from ...grpo.reward_checks import needed_columns
from ...grpo.vllm_server import check_generation
from .arguments import TrainArguments
from .data import PLAYGROUND, load_data
from .launch import batch_geometry, check_devices, check_launch, count_processes
from .recipe import RecipeParser
from .resume import check_same_model, record_run, resume_point
from .rewards import load_rewards

if TYPE_CHECKING:
    from ...trainer import ArcherGRPOTrainer

logger = logging.getLogger(__name__)

Settings = tuple[TrainArguments, ArcherGRPOConfig, ModelConfig]

_TRACEBACK = "TRL_ARCHER_TRACEBACK"
_DESCRIPTION = """\
Trains a model with ArcherGRPOTrainer. Settings come from a recipe (--config), a YAML file with the flags below as keys;
flags override it. Start it on several GPUs with
`accelerate launch --config_file ACCELERATE.yaml -m trl_archer.cli train --config RECIPE.yaml`."""


def main(argv: Sequence[str]) -> int:
    """
    Runs `trl-archer train`.

    Args:
        argv (`Sequence[str]`): Arguments after `train`.

    Returns:
        `int`: 0 on success, 1 when the run stopped as the policy collapsed, 2 when it is refused at the start. Errors
        while training are raised.
    """
    try:
        settings = parse(argv)
        trainer, checkpoint = prepare(*settings)
    except (ValueError, OSError) as error:
        if os.environ.get(_TRACEBACK):
            raise
        print(f"trl-archer train: error: {error}", file=sys.stderr)
        return 2
    return train(trainer, checkpoint, str(settings[0].dataset_name))


def make_parser() -> RecipeParser:
    """
    The parser of flags and recipes.

    Returns:
        [`RecipeParser`]: Fills [`TrainArguments`], [`ArcherGRPOConfig`] and [`~trl.ModelConfig`].
    """
    parser = RecipeParser(
        (TrainArguments, ArcherGRPOConfig, ModelConfig),
        check=check_launch,
        prog="trl-archer train",
        usage="trl-archer train --config RECIPE.yaml [--resume [PATH]] [--field value ...]",
        description=_DESCRIPTION,
        epilog=f"Exits with 2 and a message when it cannot start; {_TRACEBACK}=1 shows where the message comes from.",
    )
    parser.add_argument("--config", metavar="RECIPE.yaml", help="Recipe, a YAML file.", default=None)
    parser.add_argument(
        "--resume",
        dest="resume_from_checkpoint",
        metavar="PATH",
        nargs="?",
        const="latest",
        help="Continue from a checkpoint: the last one of output_dir, or the one at PATH. `auto` starts anew if there "
        "is none.",
    )
    return parser


def parse(argv: Sequence[str]) -> Settings:
    """
    Reads recipe and flags.

    Args:
        argv (`Sequence[str]`): Arguments.

    Returns:
        `tuple`: [`TrainArguments`], [`ArcherGRPOConfig`] and [`~trl.ModelConfig`].

    Raises:
        ValueError: If they cannot be used; the message names the field, its value and the way out.
    """
    arguments, config, model, *_ = make_parser().parse_args_and_config(argv)
    if model.model_name_or_path is None:
        raise ValueError("model_name_or_path is missing. Name a model on the Hub, a folder, or 'playground'.")
    if model.model_name_or_path == PLAYGROUND:
        from ...playground.policy import POLICY_DIR

        model.model_name_or_path = str(POLICY_DIR)
    return arguments, config, model


def prepare(
    arguments: TrainArguments, config: ArcherGRPOConfig, model: ModelConfig
) -> "tuple[ArcherGRPOTrainer, str | None]":
    """
    Makes the trainer, after everything that can be checked without the model's weights.

    Args:
        arguments ([`TrainArguments`]): Data, rewards and the collapse alarm.
        config ([`ArcherGRPOConfig`]): Configuration of the trainer.
        model ([`~trl.ModelConfig`]): Model, adapter and quantisation.

    Returns:
        `tuple`: The trainer, and the checkpoint to resume from or `None`.

    Raises:
        ValueError: If the run cannot start as it is; the message names the field, its value and the way out.
    """
    check_devices(config)
    _check_installed(config, model)
    resume = resume_point(config.resume_from_checkpoint, config.output_dir)
    if resume is not None:
        check_same_model(resume, config.output_dir, dataclasses.asdict(model))
    check_generation(config, str(model.model_name_or_path))
    functions = load_rewards(arguments.rewards)
    reward_model = [arguments.reward_model_name_or_path] if arguments.reward_model_name_or_path else []
    rewards, weights = [*reward_model, *functions], config.reward_weights
    if weights is not None and len(weights) != len(rewards):
        raise ValueError(f"reward_weights has {len(weights)} entries for {len(rewards)} rewards. Give each one weight.")
    train_data, eval_data = load_data(
        arguments,
        needed={"prompt": "the trainer", **needed_columns(functions)},
        evaluates=config.eval_strategy != "no",
        tokenizer=lambda: _tokenizer(config, model),
        chat_template_kwargs=config.chat_template_kwargs,
    )
    config.model_init_kwargs = {
        "revision": model.model_revision,
        "trust_remote_code": config.trust_remote_code,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **(config.model_init_kwargs or {}),
    }
    _warn_of_rounding(config, model)

    from trl import get_peft_config, get_quantization_config

    from ...grpo.checkpoints import find_checkpoint
    from ...trainer import ArcherGRPOTrainer

    alarm = arguments.collapse_alarm
    trainer = ArcherGRPOTrainer(
        model=model.model_name_or_path,
        reward_funcs=rewards,
        args=config,
        train_dataset=train_data,
        eval_dataset=eval_data,
        callbacks=None if alarm is None else [alarm],
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
    )
    checkpoint = find_checkpoint(trainer, resume)
    if config.process_index == 0:
        record_run(
            config.output_dir,
            data=dataclasses.asdict(arguments),
            training=config.to_dict(),
            model=dataclasses.asdict(model),
        )
    return trainer, checkpoint


def train(trainer: "ArcherGRPOTrainer", checkpoint: str | None, dataset_name: str) -> int:
    """
    Trains, saves, and pushes to the Hub if the configuration says so. A run that stopped before its end, by SIGTERM or
    as the policy collapsed, leaves its checkpoints only.

    Args:
        trainer ([`ArcherGRPOTrainer`]): The trainer.
        checkpoint (`str`, *optional*): Checkpoint to resume from.
        dataset_name (`str`): Name of the data, for the model card.

    Returns:
        `int`: 0, or 1 if the policy collapsed.
    """
    args, say = trainer.args, trainer.accelerator.print
    say(f"{batch_geometry(args)}, on {count_processes(args.world_size)}.")
    if checkpoint is not None:
        say(f"Resuming from {checkpoint}.")
    trainer.train(resume_from_checkpoint=checkpoint)
    has_collapsed, is_terminated = (_has_stopped(trainer, x) for x in (CollapseAlarm, SaveOnSigterm))
    if has_collapsed or is_terminated:
        why = "as the policy collapsed" if has_collapsed else "by SIGTERM, go on with --resume"
        say(f"Stopped {why}: no model was saved, the checkpoints in {args.output_dir} are what there is.")
    else:
        trainer.save_model(args.output_dir)
        say(f"Model saved to {args.output_dir}.")
        if args.push_to_hub:
            trainer.push_to_hub(dataset_name=dataset_name)
            say(f"Model pushed to https://huggingface.co/{trainer.hub_model_id}.")
    if hasattr(trainer, "end"):  # from transformers 5.18 on: ends trackers and process group
        trainer.end()
    return int(has_collapsed)


def _has_stopped(trainer: "ArcherGRPOTrainer", callback: type[CollapseAlarm] | type[SaveOnSigterm]) -> bool:
    return any(x.has_stopped for x in trainer.callback_handler.callbacks if isinstance(x, callback))


def _check_installed(config: ArcherGRPOConfig, model: ModelConfig) -> None:
    missing = sorted(set(config.report_to) - set(get_available_reporting_integrations()))
    if missing:
        raise ValueError(f"report_to={config.report_to}: {missing[0]!r} is not installed. Install it, or leave it out.")
    if "/" in str(model.attn_implementation) and not is_kernels_available():
        raise ValueError(
            f"attn_implementation={model.attn_implementation!r} is a kernel on the Hub. Run "
            "`pip install 'transformers[kernels]'`, or set attn_implementation: sdpa."
        )


def _warn_of_rounding(config: ArcherGRPOConfig, model: ModelConfig) -> None:
    """DeepSpeed and FSDP keep float32 weights beside the model's; without them, the optimizer updates these."""
    shards = config.distributed_state.distributed_type.value in ("DEEPSPEED", "FSDP")
    if model.dtype != "float32" and not model.use_peft and not shards:
        logger.warning(
            "dtype=%s is also that of the weights which the optimizer updates, and in 16 bits an update of "
            "learning_rate=%s rounds to nothing on most of them. Set dtype to float32; the forward pass runs in "
            "bfloat16 all the same (bf16).",
            *(model.dtype, config.learning_rate),
        )


def _tokenizer(config: ArcherGRPOConfig, model: ModelConfig) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        model.model_name_or_path, revision=model.model_revision, trust_remote_code=config.trust_remote_code
    )
