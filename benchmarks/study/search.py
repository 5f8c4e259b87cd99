"""
Search: a task with long chains, which can repeat themselves and run out of tokens.

    prompt      3 17 22 41 8 29 33 12 54 5 19 26 = 30 >
    completion  3 + 17 = 20 no 41 + 8 = 49 no 22 + 8 = 30 yes

The completion tries sums of two numbers until one is the target. Only the last try is verified.
"""

import random
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from .policy import Demonstration

COUNT, LARGEST = 12, 49
TRIES, WORDS = 24, 6  # tries of a demonstration, words of a try
LONGEST = 160  # tokens of a completion, with eos


def draw_prompt(rng: random.Random) -> str:
    """A problem that has a solution."""
    numbers = rng.sample(range(1, LARGEST + 1), COUNT)
    return f"{' '.join(map(str, numbers))} = {sum(rng.sample(numbers, 2))} >"


def demonstrate(rng: random.Random) -> Demonstration:
    """A demonstration for the warm start: random pairs, which may recur, until one is right or `TRIES` are used up."""
    prompt = draw_prompt(rng)
    *numbers, _, target, _ = prompt.split()
    tries = []
    for _ in range(TRIES):
        left, right = rng.sample(numbers, 2)
        is_right = int(left) + int(right) == int(target)
        tries.append(f"{left} + {right} = {int(left) + int(right)} {'yes' if is_right else 'no'}")
        if is_right:
            break
    return prompt, " ".join(tries)


def verify(prompt: str, completion: str) -> int:
    """1 if the last try is a right sum of two different numbers of the prompt and says yes."""
    *numbers, _, target, _ = prompt.split()
    pairs = [(a, b) for a, b in combinations(numbers, 2) if int(a) + int(b) == int(target)]
    solutions = {f"{a} + {b} = {target} yes" for one in pairs for a, b in (one, one[::-1])}
    return int(" ".join(completion.split()[-WORDS:]) in solutions)


def search_reward(prompts: Sequence[str], completions: Sequence[str], **kwargs: Any) -> list[float]:
    """1 for a right completion, else 0."""
    return [float(verify(prompt, completion)) for prompt, completion in zip(prompts, completions, strict=True)]
