"""Command line: `trl-archer demo`, `recipes`, `check`, `train`, `export`, `eval`, `compare`, `study` and `figures`."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from . import __doc__ as description
from . import __version__
from .commands.compare import add_compare
from .commands.eval import add_eval
from .commands.figures import add_figures
from .commands.recipes import add_recipes
from .commands.study import add_study


def main(argv: Sequence[str] | None = None) -> int:
    """
    Runs the command line and returns its exit status.

    Args:
        argv (`Sequence[str]`, *optional*): Arguments; `None` uses those of the process.

    Returns:
        `int`: 0 on success, 2 on invalid input, 130 when interrupted; argparse exits with 2 on invalid arguments.
    """
    parser = argparse.ArgumentParser(prog="trl-archer", description=description)
    parser.add_argument("--version", action="version", version=f"trl-archer {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_demo(commands)
    add_recipes(commands)
    _add_with_rest(
        commands, "check", ".commands.check", "check a recipe without GPUs: settings, data, prompts and memory"
    )
    _add_with_rest(
        commands,
        "train",
        ".commands.train.run",
        "train a model with a recipe, on one GPU or on many with accelerate launch",
    )
    _add_export(commands)
    add_eval(commands)
    add_compare(commands)
    add_study(commands)
    add_figures(commands)
    args, rest = parser.parse_known_args(argv)
    if rest and args.run is not _run_with_rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1; use a positive number")
    return value


def _add_demo(commands: argparse._SubParsersAction) -> None:
    demo = commands.add_parser(
        "demo",
        help="train Archer on the built-in playground, offline, in minutes on a CPU",
        description="Trains a small warm-started policy on countdown (combine four numbers with + and - to reach a "
        "target) with ArcherGRPOTrainer. Prints held-out accuracy and entropies by token role before and after. Needs "
        "neither network nor GPU.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("--steps", type=_positive, default=150, help="optimizer steps")
    demo.add_argument(
        "--method", choices=("archer", "grpo"), default="archer", help="trainer; grpo is TRL's GRPOTrainer"
    )
    demo.add_argument("--lora", action="store_true", help="train a LoRA adapter instead of all weights")
    demo.add_argument("--seed", type=int, default=0, help="seed of data order and sampling")
    demo.add_argument("--problems", type=_positive, default=256, help="held-out problems to evaluate on")
    demo.add_argument("--output-dir", default="runs/demo", help="directory of the policy, results and records")
    demo.set_defaults(run=_run_demo)


def _run_demo(args: argparse.Namespace) -> int:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the libraries read it on import
    from .commands.demo import run_demo

    run_demo(
        steps=args.steps,
        method=args.method,
        lora=args.lora,
        seed=args.seed,
        problems=args.problems,
        output_dir=args.output_dir,
    )
    return 0


def _add_with_rest(commands: argparse._SubParsersAction, name: str, module: str, description: str) -> None:
    """Adds a command whose flags come from TRL's dataclasses, which are too slow to import for the other commands."""
    parser = commands.add_parser(name, help=description, add_help=False)
    parser.set_defaults(run=_run_with_rest, module=module)


def _run_with_rest(args: argparse.Namespace) -> int:
    return import_module(args.module, __package__).main(args.rest)


def _add_export(commands: argparse._SubParsersAction) -> None:
    export = commands.add_parser(
        "export",
        help="merge a trained adapter into its base model, for transformers and vLLM without PEFT",
        description="Merges the adapter of a run into its base model, in float32 on the CPU, and saves model, "
        "tokenizer and generation configuration. For an adapter trained on quantized weights, the base model is the "
        "unquantized one.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    export.add_argument("--run", dest="run_dir", required=True, help="directory of a run, a checkpoint or an adapter")
    export.add_argument("--output", required=True, help="directory to create")
    export.add_argument("--checkpoint", type=_positive, help="step of the checkpoint; None means the end of the run")
    export.add_argument("--base", help="base model, if it has moved since training")
    export.add_argument("--revision", help="revision of the base model; None means that of the run")
    export.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), help="None means that of the base model")
    export.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the base model")
    export.set_defaults(run=_run_export)


def _run_export(args: argparse.Namespace) -> int:
    from .commands.export import export

    names = ("checkpoint", "base", "revision", "dtype", "trust_remote_code")
    try:
        done = export(args.run_dir, args.output, **{name: getattr(args, name) for name in names})
    except (ValueError, OSError) as error:
        print(f"trl-archer export: error: {error}", file=sys.stderr)
        return 2
    print(f"{done['adapter']} merged into {done['base']}, written to {args.output} in {done['dtype']}.")
    print(f"Log-probabilities differ by at most {done['difference']:.1e} nats before rounding to {done['dtype']}.")
    if done["quantized"]:
        print("The adapter was trained on quantized weights and is now on the unquantized ones; evaluate the result.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
