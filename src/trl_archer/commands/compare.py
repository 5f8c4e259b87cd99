"""Compares evaluated runs: `trl-archer compare`."""

import argparse
import json
import sys
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

from .._files import whole_file


def add_compare(commands: argparse._SubParsersAction) -> None:
    """Adds `trl-archer compare` to the command line."""
    parser = commands.add_parser(
        "compare",
        help="compare evaluated runs: differences with intervals, and what can be concluded",
        description="Compares methods on the same problems, paired by problem and by training seed, each with the "
        "first one. Writes comparison.md, comparison.json and, if matplotlib is installed, a figure with avg@K, pass@k "
        "and the learning curves.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="[NAME=]PATH[,PATH...]",
        help="folder of an evaluated run, or its report.json; several paths are training seeds of one method, in the "
        "same order for each method",
    )
    parser.add_argument("--output", type=Path, default=Path("comparison"), help="folder to write")
    parser.add_argument("--all-pairs", action="store_true", help="compare all pairs, not only with the first method")
    parser.add_argument("--theme", choices=("light", "dark"), default="light", help="color theme of the figure")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    try:
        print(write_comparison(args.runs, args.output, all_pairs=args.all_pairs, theme=args.theme))
    except (ValueError, OSError) as error:
        print(f"trl-archer compare: error: {error}", file=sys.stderr)
        return 2
    return 0


def write_comparison(runs: list[str], output: Path, all_pairs: bool = False, theme: str = "light") -> str:
    """
    Compares runs and writes table, JSON and figure.

    Returns:
        `str`: The table and the conclusions, in Markdown.

    Raises:
        ValueError: If the runs cannot be compared.
    """
    from ..evaluation.comparison import Method, compare, render_comparison
    from ..evaluation.report import read_report

    paths = _parse(runs)
    methods = [Method(name, [read_report(path) for path in folders]) for name, folders in paths.items()]
    pairs = combinations(methods, 2) if all_pairs else ((methods[0], method) for method in methods[1:])
    differences = [difference for first, second in pairs for difference in compare(first, second)]
    text = render_comparison(differences)
    content = json.dumps([difference._asdict() for difference in differences], indent=1)
    for name, written in (("comparison.md", text), ("comparison.json", content + "\n")):
        with whole_file(output / name) as temporary:
            temporary.write_text(written, encoding="utf-8")
    if find_spec("matplotlib") is None:
        return f"{text}\nNo figure was drawn: that needs matplotlib. Run `pip install 'trl-archer[plots]'`.\n"
    from ..figures import save
    from .compare_figure import plot_comparison

    save(plot_comparison(methods, paths, theme), output / "comparison", vector="svg")
    return text


def _parse(runs: list[str]) -> dict[str, list[Path]]:
    from ..figures.logs import parse_run

    found: dict[str, list[Path]] = {}
    for text in runs:
        name, paths = parse_run(text)
        name = name or paths[0].resolve().name
        if name in found:
            raise ValueError(f"Two runs are called {name!r}. Rename one, for example NAME={text}.")
        found[name] = paths
    if len(found) < 2:
        raise ValueError(f"{runs[0]!r} alone has nothing to be compared with. Name at least two methods.")
    return found
