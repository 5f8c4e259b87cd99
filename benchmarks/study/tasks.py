"""The tasks of the study: their policies, data and benchmarks, as files for `trl-archer train`."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from trl_archer.playground.countdown import sample_problems
from trl_archer.playground.evaluate import MAX_COMPLETION_LENGTH

from . import search, shop
from .policy import warm_start, words_tokenizer

TRAINING, TEST, VALIDATION = 4096, 64, 32  # problems
K, VALIDATION_K, EXTRA_K = 16, 8, 4
WARM_UP_STEPS = {"shop": 3000, "search": 1000}


class Task(NamedTuple):
    """
    A task.

    Attributes:
        verifier (`str`): The reward, by name or import path.
        length (`int`): Longest completion, in tokens.
        steps (`int`): Optimizer steps of a run.
        prompts (`Callable`): Prompts of the splits `train`, `test` and `validation`, without overlap.
        extra (`Callable`): More prompts, by the name of their benchmark, of which only the accuracy is measured.
    """

    verifier: str
    length: int
    steps: int
    prompts: Callable[[], dict[str, list[str]]]
    extra: Callable[[], dict[str, list[str]]] = dict

    @property
    def every(self) -> int:
        """Optimizer steps between evaluations."""
        return self.steps // 9


def _countdown() -> dict[str, list[str]]:
    train = [problem.prompt for problem in sample_problems("rl", TRAINING + VALIDATION, seed=0)]
    test = [problem.prompt for problem in sample_problems("eval", TEST, seed=0)]
    return {"train": train[VALIDATION:], "validation": train[:VALIDATION], "test": test}


def _splits(draw: Callable[[random.Random], str]) -> dict[str, list[str]]:
    rng, drawn = random.Random(0), dict[str, None]()
    while len(drawn) < TRAINING + VALIDATION + TEST:
        drawn[draw(rng)] = None
    prompts = list(drawn)
    return {
        "train": prompts[:TRAINING],
        "validation": prompts[TRAINING : TRAINING + VALIDATION],
        "test": prompts[TRAINING + VALIDATION :],
    }


def _facts() -> dict[str, list[str]]:
    used, unused = ([f"{shop.PRICE} {good} >" for good in goods] for goods in (shop.USED, shop.UNUSED))
    rng = random.Random(1)
    problems = [shop.draw_prompt(shop.UNUSED, rng) for _ in range(TEST)]
    return {"facts-used": used, "facts-unused": unused, "unused": problems}


TASKS = {
    "countdown": Task("countdown", MAX_COMPLETION_LENGTH, 900, _countdown),
    "shop": Task(
        "benchmarks.study.shop.shop_reward",
        shop.LONGEST,
        900,
        lambda: _splits(lambda rng: shop.draw_prompt(shop.USED, rng)),
        _facts,
    ),
    "search": Task(
        "benchmarks.study.search.search_reward",
        search.LONGEST,
        270,
        lambda: _splits(search.draw_prompt),
    ),
}


def root(quick: bool) -> Path:
    """The folder of everything that is not committed."""
    return Path("runs") / ("study-quick" if quick else "study")


def policy(name: str, quick: bool) -> str:
    """The warm-start policy of a task."""
    return "playground" if name == "countdown" else str(root(quick) / "policies" / name)


def prepare(name: str, quick: bool = False) -> None:
    """Writes the data of a task, and trains its warm-start policy unless it exists."""
    task, folder = TASKS[name], root(quick) / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    for split, prompts in {**task.prompts(), **task.extra()}.items():
        rows = (json.dumps({"id": f"{split}-{n}", "prompt": prompt}) + "\n" for n, prompt in enumerate(prompts))
        (folder / f"{split}.jsonl").write_text("".join(rows))
    start = Path(policy(name, quick))
    if name == "countdown" or (start / "model.safetensors").is_file():
        return
    module, words = {"shop": (shop, [*shop.GOODS, shop.PRICE]), "search": (search, ["yes", "no"])}[name]
    tokenizer = words_tokenizer(words, task.length + 32)
    warm_start(start, tokenizer, module.demonstrate, 3 if quick else WARM_UP_STEPS[name])


def benchmarks(name: str, quick: bool = False) -> list[dict[str, Any]]:
    """The benchmarks of a task: its test set at K samples and greedily, its validation set, and its extra sets."""
    task = TASKS[name]

    def benchmark(label: str, split: str, k: int) -> dict[str, Any]:
        return {
            "name": label,
            "dataset": str(root(quick) / "data" / name / f"{split}.jsonl"),
            "columns": {"id": "id"},
            "verifier": task.verifier,
            "max_new_tokens": task.length,
            "k": k,
            "temperature": 0.0 if k == 1 else 1.0,
        }

    return [
        benchmark("test", "test", 2 if quick else K),
        benchmark("greedy", "test", 1),
        benchmark("validation", "validation", 2 if quick else VALIDATION_K),
        *(benchmark(label, label, EXTRA_K) for label in task.extra()),
    ]
