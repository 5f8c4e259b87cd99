"""Trains and evaluates methods over seeds and tasks, and compares them: `trl-archer study`."""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import yaml  # type: ignore[import-untyped]

from .._files import whole_file

SETTINGS = "study.json"
TRAINED, EVALUATED = "trained.done", "evaluated.done"

# Fields of a recipe that decide how much a run may train and generate
_BUDGET = (
    *("max_steps", "num_train_epochs", "num_generations", "generation_batch_size", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "steps_per_generation", "num_iterations", "max_completion_length"),
    *("dataset_name", "dataset_train_split", "model_name_or_path"),
)
_OURS = ("output_dir", "seed")


def add_study(commands: argparse._SubParsersAction) -> None:
    """Adds `trl-archer study` to the command line."""
    parser = commands.add_parser(
        "study",
        help="train and evaluate methods over seeds and tasks with equal budget, and compare them",
        description="Runs what a YAML file describes: the same recipe with each method, seed and task, an evaluation "
        "of each run, and a comparison. Without `eval`, it compares the last evaluations while training. The same "
        "command continues a study; finished runs are not run again. Exits with 1 if a run failed, with 2 if the study "
        "cannot start.",
    )
    parser.add_argument("--config", required=True, metavar="STUDY.yaml", help="description of the study")
    parser.add_argument("--only", metavar="RUN", help="run one of its runs, such as archer/seed-0, without comparison")
    parser.add_argument(
        "--list", choices=("runs", "commands", "slurm"), help="print runs, their commands or a SLURM array, and stop"
    )
    parser.set_defaults(run=_run)


@dataclass(frozen=True, kw_only=True)
class Study:
    """
    A study, as its YAML file describes it.

    Args:
        output_dir (`str`): Folder of all runs.
        recipe (`str`): Recipe that all runs share, a file or the name of one that is shipped.
        methods (`dict[str, dict]`): Changes of the recipe by method. The first method is the baseline.
        seeds (`list[int]`): Training seeds.
        eval (`dict`, *optional*): Arguments of `trl-archer eval`; `benchmarks` is required. Without it, the last
            evaluation while training (`eval_benchmarks` of the recipe) is compared.
        tasks (`dict[str, dict]`, *optional*): Changes of the recipe by task. An entry `eval` changes the evaluation.
        devices (`list[str]`, *optional*): GPUs of each parallel run, such as `["0", "1"]` or `["0,1", "2,3"]`; `"cpu"`
            is a run without a GPU. One run at a time if empty.
        launcher (`str`, *optional*): Command that starts the training, such as `accelerate launch --config_file F`.
        allow_unequal_budget (`bool`, *optional*, defaults to `False`): Whether methods may change the budget.
    """

    output_dir: str
    recipe: str
    methods: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int]
    eval: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"": {}})
    devices: Sequence[str] = ()
    launcher: str = f"{sys.executable}"
    allow_unequal_budget: bool = False

    def __post_init__(self) -> None:
        for name in ("methods", "tasks"):
            entries = getattr(self, name)
            if not isinstance(entries, dict) or not entries:
                raise ValueError(f"{name}={entries!r} maps no names to changes of the recipe, as in {{archer: {{}}}}.")
            for label, changes in entries.items():
                if not isinstance(changes or {}, dict):
                    raise ValueError(f"{name}.{label}={changes!r} does not map fields of the recipe to values.")
        if not self.seeds or any(isinstance(seed, bool) or not isinstance(seed, int) for seed in self.seeds):
            raise ValueError(f"seeds={self.seeds!r} is not a list of integers, such as [0, 1, 2].")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds!r} has a seed twice. Its runs would be equal.")
        for label, changes in self.methods.items():
            unequal = [name for name in changes or {} if name in _BUDGET]
            if unequal and not self.allow_unequal_budget:
                raise ValueError(
                    f"methods.{label} sets {unequal[0]}, so the methods would not have the same budget. Set it in the "
                    "recipe or in tasks, or set allow_unequal_budget: true."
                )
            for name in _OURS:
                if name in (changes or {}):
                    raise ValueError(f"methods.{label} sets {name}, which the study sets for each run. Remove it.")


@dataclass(frozen=True)
class StudyRun:
    """One training run of a study and its evaluation."""

    name: str
    task: str
    method: str
    folder: Path
    recipe: dict[str, Any]
    eval: dict[str, Any]

    @property
    def is_finished(self) -> bool:
        """Whether it has been trained and evaluated."""
        return (self.folder / (EVALUATED if self.eval else TRAINED)).exists()

    @property
    def has_other_settings(self) -> bool:
        """Whether its folder has results of other settings. A run that never trained has none."""
        before, results = self.folder / SETTINGS, [*self.folder.glob("checkpoint-*"), *self.folder.glob("*.done")]
        return bool(results) and before.is_file() and json.loads(before.read_text()) != self.settings

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that its result depends on, as JSON types."""
        return json.loads(json.dumps({"train": self.recipe, "eval": self.eval}))


def read_study(path: str | Path) -> Study:
    """
    Reads the description of a study.

    Raises:
        ValueError: If a field is missing, unknown or invalid.
    """
    from .train.recipe import read_recipe

    settings = read_recipe(path)
    known = [entry.name for entry in fields(Study)]
    for name in settings:
        if name not in known:
            raise ValueError(f"{path}: there is no field {name!r}. Use {', '.join(known)}.")
    for name in ("output_dir", "recipe", "methods", "seeds"):
        if name not in settings:
            raise ValueError(f"{path}: {name} is missing.")
    try:
        return Study(**settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def list_runs(study: Study) -> list[StudyRun]:
    """The runs of a study: all methods with the first seed, then with the next one."""
    from .recipes import find_file
    from .train.recipe import read_recipe

    shared = read_recipe(find_file(study.recipe, "recipes"))
    runs = []
    for task, changes in study.tasks.items():
        own = dict(changes or {})
        evaluation = {**study.eval, **own.pop("eval", {})}
        for seed in study.seeds:
            for method, changed in study.methods.items():
                name = "/".join(filter(None, (task, method, f"seed-{seed}")))
                folder = Path(study.output_dir) / name
                recipe = {**shared, **own, **(changed or {}), "output_dir": str(folder), "seed": seed}
                runs.append(StudyRun(name, task, method, folder, recipe, evaluation))
    return runs


def _run(args: argparse.Namespace) -> int:
    try:
        study = read_study(args.config)
        runs = list_runs(study)
        if args.only is not None and args.only not in (run.name for run in runs):
            raise ValueError(f"--only={args.only}: there is no such run. {args.config} has the runs {_names(runs)}.")
        if args.list:
            print("\n".join(_listing(args.list, args.config, runs)))
            return 0
        _check(runs)
    except (ValueError, OSError) as error:
        print(f"trl-archer study: error: {error}", file=sys.stderr)
        return 2
    chosen = [run for run in runs if args.only in (None, run.name)]
    failed = _execute(study, chosen)
    if failed:
        print(f"{len(failed)} of {len(chosen)} runs failed: {_names(failed)}. Run the command again to continue them.")
        return 1
    return 0 if args.only else _compare(study, runs)


def _names(runs: Sequence[StudyRun]) -> str:
    return ", ".join(run.name for run in runs)


def _listing(kind: str, config: str, runs: Sequence[StudyRun]) -> Iterator[str]:
    if kind == "runs":
        yield from (f"{run.name}{' (finished)' if run.is_finished else ''}" for run in runs)
        return
    command = ["trl-archer", "study", "--config", config, "--only"]
    if kind == "commands":
        yield from (shlex.join([*command, run.name]) for run in runs)
        return
    yield "#!/bin/bash"
    yield f"#SBATCH --array=0-{len(runs) - 1}"
    yield "#SBATCH --gpus=1  # and what your cluster asks for"
    yield f"runs=({' '.join(shlex.quote(run.name) for run in runs)})"
    yield f'{shlex.join(command)} "${{runs[$SLURM_ARRAY_TASK_ID]}}"'


def _check(runs: Sequence[StudyRun]) -> None:
    """Checks all settings before the first run starts."""
    from ..evaluation.benchmarks import load_benchmark
    from .eval import check_inspect, load_benchmarks
    from .train.arguments import read_benchmarks
    from .train.run import make_parser, objective_of

    others = [str(run.folder) for run in runs if run.has_other_settings]
    if others:
        raise ValueError(
            f"{', '.join(others)}: these runs had other settings. Delete the folders to run them again, or choose "
            "another output_dir."
        )
    evaluations: list[Any] = []
    for run in runs:
        try:
            make_parser(objective_of(run.recipe)).set_defaults_with_config(**run.recipe)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{run.name}: {error}") from None
        while_training = read_benchmarks(run.recipe.get("eval_benchmarks"))
        if not run.eval and not while_training:
            raise ValueError(
                f"{run.name}: nothing evaluates it. Set eval in the study, or eval_benchmarks in its recipe."
            )
        for benchmark in while_training:
            if benchmark not in evaluations:
                evaluations.append(benchmark)
                load_benchmark(benchmark)
        if run.eval and run.eval not in evaluations:
            evaluations.append(run.eval)
            load_benchmarks(_parse_eval(run))
    if any(run.eval for run in runs):
        check_inspect()


def _eval_flags(run: StudyRun) -> list[str]:
    flags = ["--model", str(run.folder)]
    for name, value in run.eval.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            flags += [flag] if value else []
        elif isinstance(value, list):
            flags += [flag, ",".join(map(str, value))] if name == "benchmarks" else [flag, *map(str, value)]
        else:
            flags += [flag, json.dumps(value) if isinstance(value, dict) else str(value)]
    return flags


def _parse_eval(run: StudyRun) -> argparse.Namespace:
    from .eval import add_eval

    parser = argparse.ArgumentParser(prog="trl-archer study: eval")
    add_eval(parser.add_subparsers())
    return parser.parse_args(["eval", *_eval_flags(run)])


def _execute(study: Study, runs: Sequence[StudyRun]) -> list[StudyRun]:
    """Runs what is not finished, one run per entry of `devices` at a time. Returns the runs that failed."""
    free: SimpleQueue[str | None] = SimpleQueue()
    for devices in study.devices or (None,):
        free.put(devices)

    def execute(run: StudyRun) -> bool:
        devices = free.get()
        try:
            return _execute_one(study, run, devices)
        finally:
            free.put(devices)

    with ThreadPoolExecutor(max(1, len(study.devices))) as threads:
        succeeded = list(threads.map(execute, runs))
    return [run for run, success in zip(runs, succeeded, strict=True) if not success]


def _execute_one(study: Study, run: StudyRun, devices: str | None) -> bool:
    if run.is_finished:
        print(f"{run.name}: finished before", flush=True)
        return True
    recipe = run.folder / "recipe.yaml"
    for path, text in ((run.folder / SETTINGS, json.dumps(run.settings, indent=1)), (recipe, yaml.dump(run.recipe))):
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    ours = ["-m", "trl_archer.cli"]
    steps = {
        TRAINED: [*shlex.split(study.launcher), *ours, "train", "--config", str(recipe), "--resume", "auto"],
    }
    if run.eval:
        steps[EVALUATED] = [sys.executable, *ours, "eval", *_eval_flags(run)]
    visible = {} if devices is None else {"CUDA_VISIBLE_DEVICES": "" if devices == "cpu" else str(devices)}
    environment = {**os.environ, **visible}
    for done, command in steps.items():
        if (run.folder / done).exists():
            continue
        verb, log = command[command.index("trl_archer.cli") + 1], run.folder / "log.txt"
        print(f"{run.name}: {verb}", flush=True)
        with log.open("ab") as output:
            status = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False).returncode
        if status:
            written = log.read_text(encoding="utf-8", errors="replace").strip()
            reason = written.splitlines()[-1] if written else "it wrote nothing"
            print(f"{run.name}: {verb} failed with status {status}: {reason} (see {log})", file=sys.stderr, flush=True)
            return False
        (run.folder / done).touch()
    return True


def _compare(study: Study, runs: Sequence[StudyRun]) -> int:
    from .compare import write_comparison

    for task in study.tasks:
        folders = {
            method: ",".join(str(run.folder) for run in runs if (run.task, run.method) == (task, method))
            for method in study.methods
        }
        if len(folders) < 2:
            print(f"{task or study.output_dir}: one method has nothing to be compared with.")
            continue
        output = Path(study.output_dir) / task / "comparison"
        text = write_comparison([f"{method}={paths}" for method, paths in folders.items()], output)
        print(f"{f'# {task}' if task else ''}\n{text}\nWritten to {output}.")
    return 0
