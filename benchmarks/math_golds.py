r"""Verdicts on the gold answers of public data sets, and on answers that try to be right for everything, beside TRL's.

python -m benchmarks.math_golds [FOLDER]

`FOLDER` holds data sets as `.jsonl`, `.json` or `.csv` files, for example those under `evaluation/data` of
QwenLM/Qwen2.5-Math. The gold answer is the first column of `COLUMNS` that a file has. Nothing of the folder is stored.

For each file: the share of golds that can be graded, and the share that is right as an answer to itself. TRL gets a
gold in a box, as its documentation shows, unless the gold holds a box. Hedges: each answer of
`tests/helpers/math_hedges.py` to each gold beside it. A wrong one is right for a gold that it does not equal.
"""

import argparse
import csv
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trl.rewards import accuracy_reward

from tests.helpers.math_hedges import ANSWERS, GOLDS, REALLY_EQUAL
from trl_archer.rewards import get_math_reward
from trl_archer.rewards.math.extraction import has_box
from trl_archer.rewards.math.golds import acceptable_answers, bare_gold, unscorable_golds
from trl_archer.workers import WorkerPool

from .environment import load, save

COLUMNS = ("answer", "final_answer", "Short Answer", "Answer", "target", "solution")


def rows_of(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return json.loads(text) if path.suffix == ".json" else list(csv.DictReader(text.splitlines(keepends=True)))


def verdict_of_trl(item: Sequence[str]) -> float | None:
    """Runs in workers, in whose main thread TRL's time limits work."""
    logging.disable(logging.WARNING)
    gold, answer = (text if has_box(text) else rf"$\boxed{{{text}}}$" for text in item)
    return accuracy_reward([[{"role": "assistant", "content": answer}]], [gold])[0]


def verdicts_of_trl(pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float | None]:
    unique = list(dict.fromkeys(pairs))
    with WorkerPool("benchmarks.math_golds:verdict_of_trl") as pool:
        return {pair: outcome.value for pair, outcome in zip(unique, pool.map(unique, 30), strict=True)}


def golds(path: Path) -> dict[str, Any]:
    rows = rows_of(path)
    column = next(name for name in COLUMNS if name in rows[0])
    values = [row[column] for row in rows]
    pairs = []
    for value in values:
        accepted = acceptable_answers(value)
        gold = value if isinstance(value, str) else accepted[0] if accepted else ""
        pairs.append((gold, (bare_gold(accepted[0]) or "") if accepted else ""))
    ours = get_math_reward(seconds=10.0)([rf"\boxed{{{answer}}}" for _, answer in pairs], values)
    verdicts = verdicts_of_trl(pairs)
    theirs = [verdicts[pair] for pair in pairs]
    return {
        "golds": len(rows),
        "column": column,
        "gradable": len(rows) - len(unscorable_golds(values)),
        "right": {"math_reward": ours.count(1.0), "accuracy_reward": theirs.count(1.0)},
        "wrong": {"math_reward": ours.count(0.0), "accuracy_reward": theirs.count(0.0)},
    }


def hedges() -> dict[str, Any]:
    pairs = [(gold, answer) for answer in ANSWERS for gold in GOLDS]
    reward = get_math_reward(seconds=10.0)
    ours = dict(
        zip(pairs, reward([rf"\boxed{{{answer}}}" for _, answer in pairs], [gold for gold, _ in pairs]), strict=True)
    )
    result: dict[str, Any] = {"answers": len(ANSWERS), "golds": len(GOLDS)}
    for name, verdicts in (("math_reward", ours), ("accuracy_reward", verdicts_of_trl(pairs))):
        earned = [pair for pair in pairs if verdicts[pair] == 1.0 and pair not in REALLY_EQUAL]
        counts = {answer: sum(answer == other for _, other in earned) for answer in dict.fromkeys(a for _, a in earned)}
        most = sorted(counts.items(), key=lambda item: -item[1])[:10]
        result[name] = {"wrongly_right": len(earned), "answers": len(counts), "most": dict(most)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", type=Path, nargs="?", help="data sets; without it, only the hedges are measured again"
    )
    args = parser.parse_args()
    paths = (
        [path for path in args.folder.iterdir() if path.suffix in (".jsonl", ".json", ".csv")] if args.folder else []
    )
    result = {
        "command": "python -m benchmarks.math_golds FOLDER",
        "hedges": hedges(),
        "data": {path.stem: golds(path) for path in sorted(paths)} if args.folder else load("math_golds")["data"],
    }
    print(save("math_golds", result))


if __name__ == "__main__":
    main()
