"""Imports go down only: which room of the package may import from which."""

import ast
from collections import defaultdict
from pathlib import Path

import trl_archer

PACKAGE = Path(trl_archer.__file__).parent
MAX_ROOT_MODULES = 14
HELPERS = {"_files", "_lazy"}
METHOD = {"config", "groups", "methods", "metrics", "objective", "options"}
ALLOWED: dict[str, set[str]] = {
    "__main__": {"cli"},
    "cli": {"commands"},
    "commands": {
        "collapse",
        "console",
        "evaluation",
        "figures",
        "grpo",
        "playground",
        "records",
        "rewards",
        "sandbox",
        "trainer",
        *METHOD,
    },
    "trainer": {"grpo", "records", "rewards", *METHOD},
    "config": {"grpo", "methods", "objective", "options"},
    "methods": {"grpo", "objective"},
    "metrics": {"methods", "objective"},
    "records": {"config", "objective"},
    "figures": {"evaluation", "records"},
    "playground": {"evaluation", "objective"},
    "evaluation": {"rewards"},
    "rewards": {"sandbox", "workers"},
    "sandbox": {"workers"},
    # These know nothing of the others; `grpo` nothing of Archer
    **{room: set() for room in ("collapse", "console", "grpo", "groups", "objective", "options", "workers", *HELPERS)},
}


def imports() -> dict[str, set[str]]:
    """Rooms (packages and modules at the root) that each room imports from, inside functions too."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        *folders, name = path.relative_to(PACKAGE).with_suffix("").parts
        room = folders[0] if folders else name
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom):
                continue
            parts = node.module.split(".") if node.module else []
            if node.level:
                parts = ["trl_archer", *folders][: len(folders) + 2 - node.level] + parts
            if parts[0] == "trl_archer" and len(parts) > 1:
                found[room].add(parts[1])
    return found


def test_imports_go_down_only() -> None:
    found = imports()
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert rooms - {"__init__"} == ALLOWED.keys()
    forbidden = {room: sorted(found[room] - ALLOWED[room] - HELPERS - {room}) for room in ALLOWED}
    assert {room: targets for room, targets in forbidden.items() if targets} == {}


def test_the_root_is_small() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MAX_ROOT_MODULES
