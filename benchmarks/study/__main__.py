"""
Compares methods on three tasks of the playground, over many seeds. PROTOCOL.md, written before the runs, says how.

python -m benchmarks.study [--tasks countdown,shop,search] [--parts calibration,comparison] [--seeds 5]
python -m benchmarks.study --quick      a few updates of some runs, without a result

The same command continues where it was stopped. Finished runs are stored in results/study.json and not run again.
"""

import argparse
import json
import shutil
import sys
from typing import Any

from trl_archer.cli import main as trl_archer

from ..environment import RESULTS, environment
from .collect import collect
from .methods import BATCH_WIDE, methods
from .plan import PARTS, Part, calibration, compared
from .tasks import TASKS, prepare, root

RESULT = RESULTS / "study.json"


def run(part: Part) -> list[dict[str, Any]]:
    """Runs what is not finished, and returns one row per run."""
    if trl_archer(["study", "--config", str(part.write())]):
        sys.exit(f"{part.folder}: runs failed. Run the command again to continue.")
    return [
        {
            **{"task": part.task, "part": part.name, "method": method, "seed": seed},
            **collect(part.folder / method / f"seed-{seed}", part.task),
        }
        for seed in part.seeds
        for method in part.methods
    ]


class Results:
    """The rows of finished runs and the chosen values, in results/study.json."""

    def __init__(self) -> None:
        stored = json.loads(RESULT.read_text()) if RESULT.is_file() else {"chosen": {}, "runs": []}
        self.chosen: dict[str, Any] = stored["chosen"]
        self.rows: list[dict[str, Any]] = stored["runs"]

    def run(self, part: Part) -> list[dict[str, Any]]:
        """The rows of a part; runs those that are not stored, and stores them."""
        stored = {_key(row): row for row in self.rows}
        keys = [(part.task, part.name, method, seed) for seed in part.seeds for method in part.methods]
        missing = {key[2]: part.methods[key[2]] for key in keys if key not in stored}
        if missing:
            new = [row for row in run(part._replace(methods=missing)) if _key(row) not in stored]
            stored |= {_key(row): row for row in new}
            self.rows += new
            self.save()
        return [stored[key] for key in keys]

    def save(self) -> None:
        """Writes the file, one run per line."""
        head = {"command": "python -m benchmarks.study", "environment": environment(), "chosen": self.chosen}
        rows = ",\n".join(map(json.dumps, self.rows))
        RESULT.write_text(json.dumps(head, indent=1).removesuffix("\n}") + f',\n "runs": [\n{rows}\n ]\n}}\n')


def _key(row: dict[str, Any]) -> tuple[str, str, str, int]:
    return row["task"], row["part"], row["method"], row["seed"]


def run_quick() -> None:
    """A few updates of three methods on each task; a deleted run must come back bit-equal."""
    shutil.rmtree(root(quick=True), ignore_errors=True)
    settings = methods({"grpo-kl": 0.05, "archer": 0.05})
    parts = [
        Part(task, "comparison", {name: settings[name] for name in ("archer", "80-20")}, (0,), 4, True)
        for task in TASKS
    ]
    for part in parts:
        prepare(part.task, quick=True)
        run(part)
    weights = parts[0].folder / "archer" / "seed-0" / "model.safetensors"
    before = weights.read_bytes()
    shutil.rmtree(weights.parent)
    run(parts[0])
    if weights.read_bytes() != before:
        sys.exit(f"{weights}: the repeated run differs.")
    print(f"{weights.parent}: the deleted run came back bit-equal.", flush=True)
    run(parts[0]._replace(name=BATCH_WIDE, methods={BATCH_WIDE: settings[BATCH_WIDE]}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seeds", type=int, help="only the first ones of each part")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        run_quick()
        return
    results, parts = Results(), args.parts.split(",")
    for task in args.tasks.split(","):
        prepare(task)
        if "calibration" in parts:
            results.chosen[task] = calibration(task, results.run)
            results.save()
        if task not in results.chosen:
            sys.exit(f"{task}: no learning rate has been chosen yet. Run the part calibration first.")
        for part in compared(task, results.chosen[task]):
            if part.name in parts and (args.seeds is None or part.seeds[0] < args.seeds):
                results.run(part)
    print(f"wrote {RESULT}")


if __name__ == "__main__":
    main()
