"""
The task: how many legs do some animals have together? A solution recalls facts and computes with them.

    prompt      Now, how many legs are there in total if you have 12 chickens, 3 cats?
    completion  12 chickens have 12*2=24 legs. 3 cats have 3*4=12 legs. Total 24+12=\\boxed{36}

Problems are those of reasoning-gym's `leg_counting`. They are stored in a file, so that a machine without that package
trains on the same ones.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Never seen in training. Held-out problems about them test knowledge that training did not touch.
UNSEEN = ("duck", "leech", "lion", "deer", "giraffe", "wasp", "cricket", "cockroach", "scorpion", "shrimp")
SPLITS = ("warm_start", "train", "held_out", "unseen")


class Problem(NamedTuple):
    """A prompt, its answer, and the animals as `(count, name as written, legs of one)`."""

    prompt: str
    answer: str
    animals: list[tuple[int, str, int]]


def demonstrate(problem: Problem) -> str:
    """
    A correct completion, as training data for the warm start.

    Example:

    ```python
    >>> demonstrate(Problem("...", "36", [(12, "chickens", 2), (3, "cats", 4)]))
    ' 12 chickens have 12*2=24 legs. 3 cats have 3*4=12 legs. Total 24+12=\\\\boxed{36}'

    ```
    """
    lines = [
        f" {count} {name} {'have' if count > 1 else 'has'} {count}*{legs}={count * legs} legs."
        for count, name, legs in problem.animals
    ]
    terms = "+".join(str(count * legs) for count, _, legs in problem.animals)
    return f"{''.join(lines)} Total {terms}=\\boxed{{{problem.answer}}}"


def _generate(seed: int, size: int, most: int, instances: int) -> Iterator[tuple[Problem, set[str]]]:
    """Problems of reasoning-gym, and the names of their animals."""
    import reasoning_gym
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    limits = {"min_animals": 2, "max_animals": most, "min_instances": 1, "max_instances": instances}
    for entry in reasoning_gym.create_dataset("leg_counting", seed=seed, size=size, **limits):
        animals = entry["metadata"]["animals"]
        question = entry["question"].split("\n\n")[1].strip()
        written = [(count, f"{name}{'s' if count > 1 else ''}", ANIMALS[name]) for name, count in animals.items()]
        yield Problem(f"{question}\n", entry["answer"], written), set(animals)


def make_problems(most: int, instances: int) -> dict[str, list[Problem]]:
    """
    All problems by split. No problem is in two splits, and those of `unseen` are only about animals of `UNSEEN`.

    Args:
        most (`int`): Largest number of kinds of animals in a problem, at least 2.
        instances (`int`): Largest number of animals of one kind.
    """
    wanted: dict[str, tuple[int, int, Callable[[set[str]], bool]]] = {
        "held_out": (256, 4096, lambda names: names.isdisjoint(UNSEEN)),
        "unseen": (64, 8192, lambda names: names <= set(UNSEEN)),
        "warm_start": (4096, 32768, lambda names: names.isdisjoint(UNSEEN)),
        "train": (8192, 65536, lambda names: names.isdisjoint(UNSEEN)),
    }
    problems, known = {}, set()
    for seed, (split, (count, tried, fits)) in enumerate(wanted.items(), start=1):
        found = {p.prompt: p for p, names in _generate(seed * 10**6, tried, most, instances) if fits(names)}
        problems[split] = [p for prompt, p in found.items() if prompt not in known][:count]
        known |= {p.prompt for p in problems[split]}
    return problems


def load_problems(folder: Path, most: int, instances: int) -> dict[str, list[Problem]]:
    """
    Reads the problems from `problems_{most}_{instances}.json` in a folder; writes the file first if it does not exist.

    Raises:
        ModuleNotFoundError: If the file does not exist and reasoning-gym is not installed.
    """
    path = folder / f"problems_{most}_{instances}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(make_problems(most, instances)))
    splits = json.loads(path.read_text())
    return {split: [Problem(*row) for row in splits[split]] for split in SPLITS}


def digest(problems: dict[str, list[Problem]]) -> str:
    """Identifies the problems of a result."""
    return hashlib.sha256(json.dumps(problems).encode()).hexdigest()[:16]


def to_dataset(problems: Sequence[Problem]) -> Any:
    """The problems as a dataset for a trainer, with the columns `prompt` and `solution`."""
    from datasets import Dataset

    return Dataset.from_dict({"prompt": [p.prompt for p in problems], "solution": [p.answer for p in problems]})
