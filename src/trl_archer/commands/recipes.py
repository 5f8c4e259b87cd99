"""The recipes and accelerate files that come with the package: list, print and find them by name."""

import difflib
import re
import sys
from argparse import Namespace, _SubParsersAction
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_EXAMPLES = _PACKAGE.parents[1] / "examples"  # in a clone; a wheel has the folders in the package
FOLDERS = {
    kind: _PACKAGE / kind if (_PACKAGE / kind).is_dir() else _EXAMPLES / kind
    for kind in ("recipes", "accelerate_configs")
}


def add_recipes(commands: _SubParsersAction) -> None:
    """Adds `trl-archer recipes` to the command line."""
    parser = commands.add_parser(
        "recipes",
        help="list the recipes and accelerate files that come with the package",
        description="Lists the recipes and accelerate files that come with the package. `trl-archer train --config "
        "NAME` starts a recipe. To change one, write it to a file: `trl-archer recipes NAME > my.yaml`.",
    )
    parser.add_argument("name", nargs="?", help="recipe or accelerate file to print")
    parser.add_argument("--path", action="store_true", help="print its path instead, for `accelerate --config_file`")
    parser.set_defaults(run=run_recipes)


def run_recipes(args: Namespace) -> int:
    """Runs `trl-archer recipes`; returns 0, or 2 if there is no such file."""
    if args.name is None:
        print(listing())
        return 0
    try:
        path = find_file(args.name)
    except ValueError as error:
        print(f"trl-archer recipes: error: {error}", file=sys.stderr)
        return 2
    print(path if args.path else path.read_text(encoding="utf-8"), end="\n" if args.path else "")
    return 0


def find_file(name: str, *kinds: str) -> Path:
    """
    Finds a file by its path or, among those of the package, by its name. Hyphens and underscores are equal.

    Args:
        name (`str`): Path or name.
        kinds (`str`): Folders to search, `"recipes"` or `"accelerate_configs"`; both if there are none.

    Raises:
        ValueError: If there is none; the message has the nearest names.
    """
    if Path(name).is_file():
        return Path(name)
    files = {_plain(path.stem): path for kind in kinds or FOLDERS for path in _files(kind)}
    found = files.get(_plain(name.removesuffix(".yaml")))
    if found is not None:
        return found
    nearest = difflib.get_close_matches(_plain(name.removesuffix(".yaml")), files, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(files[match].stem for match in nearest)}?" if nearest else ""
    raise ValueError(
        f"There is no recipe {name!r} (relative to {Path.cwd()}), and none of that name comes with the package.{hint} "
        "`trl-archer recipes` lists them."
    )


def listing() -> str:
    """Returns the table of all recipes and accelerate files."""
    lines = ["Recipes, for `trl-archer train --config NAME`:", ""]
    for path in _files("recipes"):
        text = path.read_text(encoding="utf-8")
        hardware = re.search(r"^# Hardware: (.+?)[.;,(]? *(?:$|\()", text, re.MULTILINE)
        title = text.partition("\n")[0].removeprefix("# ").rstrip(".")
        lines += [f"  {path.stem}", f"      {title}", f"      {hardware[1] if hardware else ''}"]
    lines += ["", "Accelerate files, for `accelerate launch --config_file $(trl-archer recipes --path NAME)`:", ""]
    for path in _files("accelerate_configs"):
        title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").rstrip(".")
        lines.append(f"  {path.stem:<14} {title}")
    return "\n".join(lines)


def _files(kind: str) -> list[Path]:
    return sorted(FOLDERS[kind].glob("*.yaml"))


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
