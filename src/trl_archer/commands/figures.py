"""Command line of the figures: `trl-archer figures runs | records | tokens | accuracy`."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

_STEP_HELP = "the only optimizer step to read; all that were recorded if left out"
_RECORDS_HELP = "output folder of a run with token_records_steps set, its token_records folder, or one file of that"


def add_figures(commands: Any) -> None:
    """Adds the command to the parsers of `trl-archer`."""
    figures = commands.add_parser(
        "figures",
        help="draw what a run did: its dynamics, its constraints, its tokens",
        description="Draws figures of runs, of recorded tokens and of evaluations, as PNG and vector graphics. The "
        "exit status is 1 if something could not be read or drawn and was left out, 2 if all of it.",
    )
    kinds = figures.add_subparsers(required=True, metavar="kind")

    runs = _add(kinds, "runs", "training dynamics and constraints of runs, overlaid", _draw_runs)
    runs.add_argument(
        "runs",
        nargs="+",
        metavar="[NAME=]PATH[,PATH...]",
        help="logs of a run: an output or checkpoint folder, trainer_state.json, TensorBoard events, PROJECT.db/RUN of "
        "trackio, or a CSV or JSON export; several paths are seeds of one run",
    )
    runs.add_argument("--smoothing", type=float, help="standard deviation of the smoothing in steps; 0 for none")
    runs.add_argument("--entropy-quantile", type=float, help="draw the nominal share of reasoning tokens for this rho")
    _add_drawing(runs)

    records = _add(
        kinds, "records", "entropy spread, clip plane and frequent tokens of recorded updates", _draw_records
    )
    records.add_argument("records", help=_RECORDS_HELP)
    records.add_argument("--step", type=int, help=_STEP_HELP)
    records.add_argument("--top", type=int, default=20, help="frequent tokens of each role")
    records.add_argument("--min-count", type=int, default=100, help="fewest occurrences of a frequent token")
    _add_drawing(records)

    tokens = _add(kinds, "tokens", "one HTML file that shows every recorded token", _write_tokens)
    tokens.add_argument("records", help=_RECORDS_HELP)
    tokens.add_argument("--step", type=int, help=_STEP_HELP)
    tokens.add_argument("--title", default="Token view", help="heading of the page")
    tokens.add_argument("--output", type=Path, default=Path("tokens.html"), help="the file")

    accuracy = _add(kinds, "accuracy", "pass@k and avg@K of evaluations", _draw_accuracy)
    accuracy.add_argument(
        "results",
        nargs="+",
        metavar="NAME=PATH",
        help='JSON file {"correct": [right samples by problem], "samples": K}',
    )
    _add_drawing(accuracy)


def _add(kinds: Any, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser = kinds.add_parser(
        name, help=text, description=f"Draws {text}.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.set_defaults(run=partial(_tell_errors, run))
    return parser


def _tell_errors(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    try:
        return run(args)
    except (ImportError, OSError, ValueError) as error:
        print(f"trl-archer figures: {error}", file=sys.stderr)
        return 2


def _add_drawing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("figures"), help="folder of the figures")
    parser.add_argument("--theme", choices=("light", "dark"), default="light", help="for print or a dark notebook")
    parser.add_argument("--vector", choices=("svg", "pdf"), default="svg", help="kind of the vector graphics")


def _draw_runs(args: argparse.Namespace) -> int:
    from ..figures import plot_constraints, plot_training_dynamics, read_runs

    unreadable: list[str] = []
    runs = read_runs(args.runs, unreadable)
    options = {"smoothing": args.smoothing, "theme": args.theme}
    return _save(
        args,
        unreadable,
        training_dynamics=partial(plot_training_dynamics, runs, **options),
        constraints=partial(plot_constraints, runs, entropy_quantile=args.entropy_quantile, **options),
    )


def _draw_records(args: argparse.Namespace) -> int:
    from ..figures import plot_clip_plane, plot_entropy_spread, plot_frequent_tokens
    from ..records.parquet import read_token_records

    unreadable: list[str] = []
    records = read_token_records(args.records, args.step, unreadable)
    return _save(
        args,
        unreadable,
        entropy_spread=partial(plot_entropy_spread, records, theme=args.theme),
        clip_plane=partial(plot_clip_plane, records.settings, records, theme=args.theme),
        frequent_tokens=partial(
            plot_frequent_tokens, records, top=args.top, min_count=args.min_count, theme=args.theme
        ),
    )


def _write_tokens(args: argparse.Namespace) -> int:
    from ..figures import write_token_view
    from ..records.parquet import read_token_records

    unreadable: list[str] = []
    records = read_token_records(args.records, args.step, unreadable)
    print(write_token_view(records, args.output, title=args.title))
    return _tell(unreadable)


def _draw_accuracy(args: argparse.Namespace) -> int:
    from ..figures import plot_accuracy_curves

    unreadable: list[str] = []
    results = _read_results(args.results, unreadable)
    return _save(args, unreadable, accuracy=partial(plot_accuracy_curves, results, theme=args.theme))


def _read_results(texts: list[str], unreadable: list[str]) -> dict[str, Any]:
    from .._files import read_each

    paths: dict[str, Path] = {}
    for text in texts:
        name, _, path = text.rpartition("=")
        name = name or Path(path).stem
        if name in paths:
            raise ValueError(f"Two results are called {name!r}; name them apart, as in NAME={path}.")
        paths[name] = Path(path)
    return dict(read_each(paths, lambda name: _read_result(name, paths[name]), unreadable))


def _read_result(name: str, path: Path) -> Any:
    from ..figures import SampleCounts
    from ..figures.accuracy import check_counts

    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        counts = SampleCounts(result["correct"], result["samples"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a result of an evaluation ({type(error).__name__}: {error}); it holds JSON such as "
            '{"correct": [3, 0, 8], "samples": 8}.'
        ) from error
    return check_counts(name, counts)


def _save(args: argparse.Namespace, unreadable: list[str], **plots: Callable[[], Any]) -> int:
    """Draws and writes each figure on its own: what one of them refuses does not keep the others."""
    from ..figures import save
    from ..figures.style import add_notes, get_theme

    refused = []
    for name, plot in plots.items():
        try:
            figure = plot()
        except ValueError as error:
            refused.append(str(error))
            continue
        add_notes(figure, unreadable, get_theme(args.theme))
        for path in save(figure, args.output / name, vector=args.vector):
            print(path)
        for note in figure.notes:
            print(f"  {note}")
    if len(refused) == len(plots):
        raise ValueError("\n".join(dict.fromkeys(refused)))
    return _tell(unreadable + refused)


def _tell(problems: list[str]) -> int:
    """The exit status after what could be drawn was drawn: scripts notice that it is not all."""
    for problem in dict.fromkeys(problems):
        print(f"trl-archer figures: {problem}", file=sys.stderr)
    return 1 if problems else 0
