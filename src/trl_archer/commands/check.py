"""Checks a run without GPUs: settings, data, prompts, solutions, batch, memory and downloads."""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import IterableDataset

from ..evaluation.benchmarks import load_benchmark
from ..grpo.config import DurableGRPOConfig
from ..grpo.reward_checks import needed_columns
from ..rewards.named import load_rewards
from .forecast.hardware import GIB, GPU
from .forecast.memory import estimate
from .forecast.models import Shape, read_shape
from .forecast.setup import SHARDING, accelerate_file, make_setup
from .recipes import find_file
from .train.data import load_data
from .train.gradable import name_of, row_check, sample_rows
from .train.launch import batch_geometry, check_launch, count_processes
from .train.recipe import read_recipe
from .train.run import Settings, load_tokenizer, parse, silence_libraries
from .train.sources import PLAYGROUND

_ROWS = 10
_WIDTH = 600  # characters of a prompt
_SOLUTIONS = ("solution", "answer", "tests")


def main(argv: Sequence[str]) -> int:
    """Runs `trl-archer check`; returns 0, or 2 if the run would be refused or does not fit."""
    own = argparse.ArgumentParser(
        prog="trl-archer check",
        usage="trl-archer check --config RECIPE.yaml [--gpus N] [--memory GIB] [--accelerate NAME] [--field value ...]",
        description="Checks a run without GPUs: everything that `trl-archer train` refuses before it loads the model, "
        "the prompts as the model will see them, the solutions, the batch, and a forecast of the memory. GPUs and "
        "installed packages are checked when training starts. It takes the flags of `trl-archer train`, and downloads "
        "only the dataset, the tokenizer and config.json.",
        allow_abbrev=False,
    )
    own.add_argument("--gpus", type=int, help="number of processes; that of the recipe by default")
    own.add_argument("--memory", type=float, help="memory of one GPU in GiB; that in the recipe's header, or 80")
    own.add_argument("--accelerate", choices=SHARDING, help="accelerate file; the first in the recipe's header")
    args, rest = own.parse_known_args(argv)
    silence_libraries()
    try:
        return _check(args, rest)
    except (ValueError, OSError) as error:
        print(f"trl-archer check: error: {error}", file=sys.stderr)
        return 2


def _check(args: argparse.Namespace, rest: Sequence[str]) -> int:
    recipe = _recipe(rest)
    if recipe is None and not any("dataset_name" in flag for flag in rest):
        raise ValueError("--config is missing. Name a recipe; `trl-archer recipes` lists those that are shipped.")
    if args.gpus is not None:
        rest = [*rest, "--num_processes", str(args.gpus)]
    gpus = args.gpus or _processes(rest, recipe)
    with _world_of(gpus):
        settings = parse([*rest, "--use_cpu", "true"], partial(check_launch, processes=gpus, installed=False))
        arguments, config, model = settings
        print(f"Model     {model.model_name_or_path}, method {arguments.method}, on {count_processes(gpus)}")
        print(f"Batch     {batch_geometry(config)}")
    name = str(model.model_name_or_path)
    try:
        shape = read_shape(name, model.model_revision, config.trust_remote_code)
    except OSError as error:
        raise ValueError(
            f"model_name_or_path={name!r} cannot be loaded: {str(error).splitlines()[0]} Without a network, fill the "
            "cache beforehand, or pass --model_name_or_path FOLDER."
        ) from None
    longest = _check_data(settings)
    if recipe is not None and read_recipe(recipe).get("use_cpu"):
        print(
            "All checks pass. The recipe sets use_cpu, so no GPU memory is predicted. Installed packages are checked "
            "when training starts."
        )
        return 0
    return _forecast(args, settings, recipe, gpus, longest, shape)


def _check_data(settings: Settings) -> int:
    """Prints the data as the model and the rewards see it. Returns the longest prompt of a sample, in tokens."""
    arguments, config, model = settings
    rewards = load_rewards(arguments.rewards)
    tokenizer = load_tokenizer(config, model)
    template = config.chat_template_kwargs or {}
    train, evaluation = load_data(
        arguments,
        needed={"prompt": "the trainer", **needed_columns(rewards)},
        evaluates=config.eval_strategy != "no",
        tokenizer=lambda: tokenizer,
        chat_template_kwargs=config.chat_template_kwargs,
        rewards=rewards,
    )
    for name, data in (("Data", train), ("Evaluation", evaluation)):
        if data is not None:
            count = "a stream" if isinstance(data, IterableDataset) else f"{len(data):,} rows"
            columns = ", ".join(next(iter(data)))
            print(f"{name:<9} {count} of {arguments.dataset_name}, with the columns {columns}")
    texts = [_text(row["prompt"], tokenizer, template) for row in sample_rows(train, 256)[1]]
    tokens = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    lengths = sorted(map(len, tokens))
    middle = lengths[len(lengths) // 2]
    print(f"Prompts   median {middle} tokens, longest {lengths[-1]}, of {len(lengths)} prompts")
    _, rows = sample_rows(train)
    for reward in rewards:
        check = row_check(reward)
        if check is not None:
            fine = sum(reason is None for reason in check(rows))
            print(f"Reward    {name_of(reward)} can score {fine} of {len(rows)} sampled rows")
    reads_boxes = any(entry["name"] == "math" and not entry.get("phrases") for entry in arguments.rewards)
    if reads_boxes and not any("boxed" in text for text in texts):
        print(
            f"Warning   None of {len(texts)} prompts asks for \\boxed{{}}, the only answer that the reward `math` "
            "reads. Ask for it in prompt_template or system_prompt, or set phrases of the reward."
        )
    unknown = sum(ids.count(tokenizer.unk_token_id) for ids in tokens) if tokenizer.unk_token_id is not None else 0
    if unknown:
        print(f"Warning   {unknown:,} of {sum(map(len, tokens)):,} tokens of the prompts are unknown to the tokenizer.")
    for benchmark in map(load_benchmark, arguments.benchmarks):
        scorable = len(benchmark.problems) - len(benchmark.not_scorable)
        name, k = benchmark.benchmark.name, benchmark.benchmark.k
        print(f"Benchmark {name}: {scorable} of {len(benchmark.problems)} problems can be scored, {k} samples each")
    for index, row in enumerate(islice(train, _ROWS)):
        text = _text(row["prompt"], tokenizer, template)
        print(f"\n--- prompt {index}, as the model sees it")
        print(text if len(text) <= _WIDTH else f"{text[: _WIDTH // 2]}\n[...]\n{text[-_WIDTH // 2 :]}")
        for column in _SOLUTIONS:
            if row.get(column) is not None:
                print(f"--- {column}: {row[column]!r:.200}")
    print()
    return lengths[-1]


def _text(prompt: Any, tokenizer: Any, template: Mapping[str, Any]) -> str:
    if isinstance(prompt, str):
        return prompt
    return tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False, **template)


def _forecast(
    args: argparse.Namespace, settings: Settings, recipe: Path | None, gpus: int, longest: int, shape: Shape
) -> int:
    """Prints memory and downloads; returns 2 if the memory does not suffice."""
    arguments, config, model = settings
    accelerate = args.accelerate or (recipe and accelerate_file(recipe)) or ("single_gpu" if gpus == 1 else "ddp")
    memory = args.memory or (24 if recipe and "24 GB" in recipe.read_text().split("\n\n")[0] else 80)
    values = {
        **config.to_dict(),
        **asdict(model),
        "max_prompt_length": arguments.max_prompt_length or longest,
    }
    setup = make_setup(shape, GPU(f"GPU of {memory:g} GiB", int(memory * GIB)), gpus, SHARDING[accelerate], values)
    result = estimate(setup)
    print(f"Weights   {shape.parameters / 1e6:,.1f} million, {setup.trained / 1e6:,.1f} million trained")
    parts = ", ".join(f"{part} {size / GIB:.1f}" for part, size in result.parts.items() if size / GIB >= 0.05)
    print(
        f"Memory    {result.total / GIB:.1f} of {memory:g} GiB on each GPU with {accelerate}, predicted for the "
        f"fullest phase ({result.phase}): {parts}"
    )
    if not Path(shape.name).exists():
        print(f"Download  {shape.name}: about {2 * shape.parameters / 1e9:.1f} GB in 16 bits, when training starts")
    elif arguments.dataset_name != PLAYGROUND:
        print("Download  nothing: the model is a folder on this machine")
    if result.problem is not None:
        print(f"trl-archer check: error: {result.problem}", file=sys.stderr)
        return 2
    print("All checks pass. GPUs and installed packages are checked when training starts.")
    return 0


def _recipe(argv: Sequence[str]) -> Path | None:
    before = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    before.add_argument("--config")
    name = before.parse_known_args(argv)[0].config
    return None if name is None else find_file(name, "recipes")


def _processes(argv: Sequence[str], recipe: Path | None) -> int:
    before = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    before.add_argument("--num_processes", "--num-processes", type=int)
    given = before.parse_known_args(argv)[0].num_processes
    return given or (recipe and read_recipe(recipe).get("num_processes")) or 1


@contextmanager
def _world_of(processes: int) -> Iterator[None]:
    """Lets configurations count this number of processes, as if a launcher had started them."""
    DurableGRPOConfig.world_size = processes
    try:
        yield
    finally:
        del DurableGRPOConfig.world_size
