"""Evaluates a model on benchmarks: `trl-archer eval`."""

import argparse
import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from ..evaluation.benchmarks import PRESETS, LoadedBenchmark, load_benchmark, read_benchmark

_MODEL = "adapter revision backend endpoint raw_prompts chat_template_kwargs trust_remote_code model_args".split()
_SAMPLING = ("k", "temperature", "top_p", "max_new_tokens")


def add_eval(commands: argparse._SubParsersAction) -> None:
    """Adds `trl-archer eval` to the command line."""
    parser = commands.add_parser(
        "eval",
        help="evaluate a model on benchmarks with the paper's settings",
        description="Samples K completions per problem with Inspect, scores them with our verifiers and writes "
        "report.json, report.md and Inspect's logs. The same command continues an interrupted run. Exits with 1 if "
        "samples failed or the run stopped early, with 2 if it cannot start.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="folder of a model, run, checkpoint or adapter, or Hub id")
    parser.add_argument(
        "--benchmarks",
        required=True,
        type=lambda text: text.split(","),
        metavar="NAME[,NAME...]",
        help=f"presets ({', '.join(PRESETS)}) and YAML files that describe a benchmark",
    )
    parser.add_argument("--output", help="folder to write; None is `evaluation` in the model's folder")
    parser.add_argument("--k", type=int, help="samples per problem; None is the benchmark's")
    parser.add_argument("--temperature", type=float, help="sampling temperature; None is the benchmark's")
    parser.add_argument("--top-p", type=float, help="probability mass to sample from; None is the benchmark's")
    parser.add_argument("--max-new-tokens", type=int, help="longest completion; None is the benchmark's")
    parser.add_argument("--seed", type=int, default=0, help="seed of all samples")
    parser.add_argument("--limit", type=int, help="number of problems to keep of each benchmark")
    parser.add_argument(
        "--data", nargs="+", default=[], metavar="NAME=FILE", help="local files instead of data sets on the Hub"
    )
    parser.add_argument("--system-prompt", help="system message")
    parser.add_argument(
        "--thinking",
        action="store_true",
        help="the chat template opens the reasoning, as DeepSeek-R1's does: a completion needs </think>",
    )
    parser.add_argument("--adapter", help="folder of a PEFT adapter")
    parser.add_argument("--revision", help="revision of the model on the Hub")
    parser.add_argument(
        "--backend", choices=("transformers", "vllm", "inspect"), default="transformers", help="what generates"
    )
    parser.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible server that runs the model")
    parser.add_argument("--raw-prompts", action="store_true", help="leave out the chat template")
    parser.add_argument("--chat-template-kwargs", type=json.loads, metavar="JSON", help="such as enable_thinking")
    parser.add_argument("--model-args", type=json.loads, metavar="JSON", help="other arguments of the backend")
    parser.add_argument("--max-connections", type=int, help="requests in flight; None is the backend's default")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    parser.add_argument("--display", default="plain", choices=("full", "rich", "plain", "none"), help="progress")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    try:
        return evaluate(args)
    except (ValueError, OSError) as error:
        print(f"trl-archer eval: error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        print(f"trl-archer eval: {error}", file=sys.stderr)
        return 1


def evaluate(args: argparse.Namespace) -> int:
    """
    Evaluates with the parsed arguments; writes the report after each benchmark.

    Raises:
        ValueError: If the evaluation cannot start.
        RuntimeError: If it stopped before its end.
    """
    check_inspect()
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit={args.limit} keeps no problem. Use 1 or more.")
    benchmarks = load_benchmarks(args)
    from ..evaluation.inspect_open import open_model
    from ..evaluation.inspect_run import run_benchmark
    from ..evaluation.report import REPORT, build_report, render, write_report

    model, weights = open_model(args.model, **{name: getattr(args, name) for name in _MODEL})
    output = _output(args)
    settings = {
        "model": args.model,
        "weights": weights,
        "seed": args.seed,
        "limit": args.limit,
        "system_prompt": args.system_prompt,
        **{name: getattr(args, name) for name in _MODEL},
    }
    results = []
    for loaded in benchmarks:
        records = run_benchmark(
            loaded,
            model,
            output / "logs" / loaded.benchmark.name,
            weights=weights,
            seed=args.seed,
            limit=args.limit,
            system_prompt=args.system_prompt,
            max_connections=args.max_connections,
            display=args.display,
        )
        results.append((loaded, records))
        report = build_report(settings, results)
        write_report(report, output)
    print(render(report))
    print(f"Written to {output / REPORT}. To read every sample: inspect view --log-dir {output / 'logs'}")
    return int(any(result["summary"]["failed"] for result in report["benchmarks"].values()))


def check_inspect() -> None:
    """Raises `ValueError` if Inspect is not installed."""
    if find_spec("inspect_ai") is None:
        raise ValueError("Evaluation needs Inspect, which is not installed. Run `pip install 'trl-archer[eval]'`.")


def load_benchmarks(args: argparse.Namespace) -> list[LoadedBenchmark]:
    """Loads the benchmarks of parsed arguments; raises `ValueError` if they cannot be evaluated."""
    files = dict(entry.partition("=")[::2] for entry in args.data)
    changed = {name: getattr(args, name) for name in _SAMPLING if getattr(args, name) is not None}
    entries = [read_benchmark(text) for text in args.benchmarks]
    names = [entry.name for entry in entries]
    for name in {*names, *files}:
        if names.count(name) != 1:
            problem = "is given twice" if name in names else "is not among the benchmarks"
            raise ValueError(f"The benchmark {name!r} {problem}: --benchmarks {','.join(args.benchmarks)}.")
    loaded = []
    for entry in entries:
        name = entry.name
        benchmark = replace(entry, **changed, **({"dataset": files[name]} if name in files else {}))
        if args.thinking:
            verifier = benchmark.verifier
            verifier = {"name": verifier} if isinstance(verifier, str) else verifier
            benchmark = replace(benchmark, verifier={**verifier, "thinking": True})
        loaded.append(load_benchmark(benchmark, args.limit))
        if loaded[-1].not_scorable:
            ids = ", ".join(loaded[-1].not_scorable[:5])
            print(f"{name}: {len(loaded[-1].not_scorable)} problems cannot be scored and are left out, such as {ids}.")
    return loaded


def _output(args: argparse.Namespace) -> Path:
    if args.output:
        return Path(args.output)
    if Path(args.model).is_dir():
        return Path(args.model) / "evaluation"
    return Path("runs/evaluations") / args.model.replace("/", "--")
