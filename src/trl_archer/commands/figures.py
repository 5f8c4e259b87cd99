"""Command line of the figures: `trl-archer figures runs | records | tokens | accuracy`."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


def add_figures(commands: Any) -> None:
    """Adds the command to the parsers of `trl-archer`."""
    figures = commands.add_parser(
        "figures",
        help="draw training dynamics, constraints, tokens and accuracy",
        description="Draws figures of runs, recorded tokens and evaluations as PNG and vector graphics. Exits with 1 "
        "if some of it could not be read or drawn, with 2 if nothing could.",
    )
    kinds = figures.add_subparsers(required=True, metavar="kind")

    runs = _add(kinds, "runs", "training dynamics and constraints of one or more runs", _draw_runs)
    runs.add_argument(
        "runs",
        nargs="+",
        metavar="[NAME=]PATH[,PATH...]",
        help="log of a run: an output or checkpoint folder, trainer_state.json, CSV table or TensorBoard event file; "
        "several paths are seeds of one run",
    )
    runs.add_argument(
        "--smoothing",
        type=float,
        help="standard deviation of the smoothing in steps; 0 for none, None for 1/50 of the longest run",
    )
    runs.add_argument("--entropy-quantile", type=float, help="rho, to draw the nominal share of reasoning tokens")

    what = "entropy spread, clip plane and frequent tokens of recorded updates"
    records = _add(kinds, "records", what, _draw_records)
    records.add_argument("--top", type=int, default=20, help="number of frequent tokens of each role")
    records.add_argument("--min-count", type=int, default=100, help="minimum number of occurrences of a frequent token")

    tokens = _add(kinds, "tokens", "the recorded tokens as one HTML file", _write_tokens)
    tokens.add_argument("--title", default="Token view", help="heading of the page")
    tokens.add_argument("--output", type=Path, default=Path("tokens.html"), help="the HTML file")

    accuracy = _add(kinds, "accuracy", "pass@k and avg@K of evaluations", _draw_accuracy)
    accuracy.add_argument(
        "results",
        nargs="+",
        metavar="[NAME=]PATH",
        help='JSON file {"correct": [correct samples by problem], "samples": K}',
    )

    for parser in (records, tokens):
        text = "output folder of a run with token_records_steps set, its token_records folder, or one file in it"
        parser.add_argument("records", help=text)
        parser.add_argument("--step", type=int, help="optimizer step to read; None reads all recorded steps")
    for parser in (runs, records, accuracy):
        parser.add_argument("--output", type=Path, default=Path("figures"), help="folder for the figures")
        parser.add_argument("--theme", choices=("light", "dark"), default="light", help="color theme")
        parser.add_argument("--vector", choices=("svg", "pdf"), default="svg", help="format of the vector graphics")


def _add(kinds: Any, name: str, text: str, draw: Callable[[argparse.Namespace, list[str]], None]) -> Any:
    parser = kinds.add_parser(
        name, help=text, description=f"Draws {text}.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.set_defaults(run=partial(_run, draw))
    return parser


def _run(draw: Callable[[argparse.Namespace, list[str]], None], args: argparse.Namespace) -> int:
    """Draws and collects what could not be read or drawn. Scripts notice it by the exit status."""
    problems: list[str] = []
    try:
        draw(args, problems)
    except (ImportError, OSError, ValueError) as error:
        print(f"trl-archer figures: {error}", file=sys.stderr)
        return 2
    for problem in dict.fromkeys(problems):
        print(f"trl-archer figures: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _draw_runs(args: argparse.Namespace, problems: list[str]) -> None:
    from ..figures import plot_constraints, plot_training_dynamics, read_runs

    runs = read_runs(args.runs, problems)
    options = {"smoothing": args.smoothing, "theme": args.theme}
    _save(
        args,
        problems,
        training_dynamics=partial(plot_training_dynamics, runs, **options),
        constraints=partial(plot_constraints, runs, entropy_quantile=args.entropy_quantile, **options),
    )


def _draw_records(args: argparse.Namespace, problems: list[str]) -> None:
    from ..figures import plot_clip_plane, plot_entropy_spread, plot_frequent_tokens
    from ..records import read_token_records

    records = read_token_records(args.records, args.step, problems)
    frequent = {"top": args.top, "min_count": args.min_count}
    _save(
        args,
        problems,
        entropy_spread=partial(plot_entropy_spread, records, theme=args.theme),
        clip_plane=partial(plot_clip_plane, records.settings, records, theme=args.theme),
        frequent_tokens=partial(plot_frequent_tokens, records, **frequent, theme=args.theme),
    )


def _write_tokens(args: argparse.Namespace, problems: list[str]) -> None:
    from ..figures import write_token_view
    from ..records import read_token_records

    print(write_token_view(read_token_records(args.records, args.step, problems), args.output, title=args.title))


def _draw_accuracy(args: argparse.Namespace, problems: list[str]) -> None:
    from .._files import read_each
    from ..figures import plot_accuracy_curves

    paths: dict[str, Path] = {}
    for text in args.results:
        name, _, path = text.rpartition("=")
        name = name or Path(path).stem
        if name in paths:
            raise ValueError(f"Two results are called {name!r}; rename one, for example NAME={path}.")
        paths[name] = Path(path)
    results = dict(read_each(paths, lambda name: _read_result(name, paths[name]), problems))
    _save(args, problems, accuracy=partial(plot_accuracy_curves, results, theme=args.theme))


def _read_result(name: str, path: Path) -> Any:
    from ..figures import SampleCounts
    from ..figures.accuracy import check_counts

    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        counts = SampleCounts(result["correct"], result["samples"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not an evaluation result ({type(error).__name__}: {error}); expected JSON such as "
            '{"correct": [3, 0, 8], "samples": 8}.'
        ) from error
    return check_counts(name, counts)


def _save(args: argparse.Namespace, problems: list[str], **plots: Callable[[], Any]) -> None:
    """Draws and writes each figure. An error in one figure does not stop the others."""
    from ..figures import save
    from ..figures.style import add_notes, get_theme

    unreadable, errors = list(problems), []
    for name, plot in plots.items():
        try:
            figure = plot()
        except ValueError as error:
            errors.append(str(error))
            continue
        add_notes(figure, unreadable, get_theme(args.theme))
        for path in save(figure, args.output / name, vector=args.vector):
            print(path)
        for note in figure.notes:
            print(f"  {note}")
    if len(errors) == len(plots):
        raise ValueError("\n".join(dict.fromkeys(errors)))
    problems += errors
