"""Countdown with scratchpad: combine four numbers with + and - to reach a target, step by step.

    prompt      3 5 6 8 = 10 >
    completion  5 + 8 = 13 : 3 6 13 ; 3 + 13 = 16 : 6 16 ; 16 - 6 = 10 : 10 ;

Each step picks two numbers and an operator (decisions), then states the result and the remaining numbers (recall).
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, combinations_with_replacement
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from datasets import Dataset

COUNT = 4
MAX_NUMBER = 15
MAX_TARGET = 50
MAX_VALUE = 99

# Percent of all problems in each split.
SPLITS = {"warm_start": 50, "rl": 40, "eval": 10}

# The only valid spellings of numbers: no leading zeros, no sign, ASCII digits.
_VALUES = {str(value): value for value in range(MAX_VALUE + 1)}

Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """
    Four numbers and a target.

    Args:
        numbers (`tuple[int, ...]`):
            Four integers in 1..15, in ascending order. Repeats are allowed; other orders are sorted.
        target (`int`):
            Integer in 1..50.

    Raises:
        ValueError: If the numbers or the target are out of range.

    Example:

    ```python
    >>> Problem((8, 3, 6, 5), 10).prompt
    '3 5 6 8 = 10 >'

    ```
    """

    numbers: Numbers
    target: int

    def __post_init__(self) -> None:
        if len(self.numbers) != COUNT or not all(_in_range(n, MAX_NUMBER) for n in self.numbers):
            raise ValueError(f"numbers={self.numbers!r} is invalid. Use {COUNT} integers in 1..{MAX_NUMBER}.")
        if not _in_range(self.target, MAX_TARGET):
            raise ValueError(f"target={self.target!r} is invalid. Use an integer in 1..{MAX_TARGET}.")
        object.__setattr__(self, "numbers", tuple(sorted(self.numbers)))

    @property
    def prompt(self) -> str:
        """The prompt of the problem: `3 5 6 8 = 10 >`."""
        return f"{_spell(self.numbers)} = {self.target} >"

    @classmethod
    def from_prompt(cls, prompt: str) -> "Problem":
        """Inverts `prompt`; raises `ValueError` if the text is not a countdown prompt."""
        words = prompt.split(maxsplit=COUNT + 3)
        values = [_VALUES.get(word) for word in [*words[:COUNT], *words[COUNT + 1 : COUNT + 2]]]
        if len(words) != COUNT + 3 or words[COUNT] != "=" or words[-1] != ">" or None in values:
            raise ValueError(f"prompt={prompt[:80]!r} is not a countdown prompt. Use the form '3 5 6 8 = 10 >'.")
        *numbers, target = [value for value in values if value is not None]
        return cls(tuple(numbers), target)


class Move(NamedTuple):
    """One step: `left operator right = result`, and the remaining numbers (`rest`)."""

    left: int
    operator: str
    right: int
    result: int
    rest: Numbers

    def __str__(self) -> str:
        step = f"{self.left} {self.operator} {self.right} = {self.result}"
        return f"{step} : {_spell(self.rest)} ;"


def _in_range(value: object, largest: int) -> bool:
    return isinstance(value, int) and 1 <= value <= largest


def _spell(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _apply(left: int, operator: str, right: int) -> int:
    return left + right if operator == "+" else left - right


def _parse(completion: object) -> list[Move] | None:
    """Parses three steps of fixed shape (27 words) without checking the arithmetic."""
    if not isinstance(completion, str) or not completion.isascii():
        return None
    moves = []
    # `maxsplit` bounds the work: the tail of a longer text ends up in one invalid word.
    words = completion.split(maxsplit=27)
    for left_over in range(COUNT - 1, 0, -1):
        step, words = words[: 7 + left_over], words[7 + left_over :]
        if len(step) != 7 + left_over or step[1] not in ("+", "-"):
            return None
        if (step[3], step[5], step[-1]) != ("=", ":", ";"):
            return None
        values = [_VALUES.get(word, -1) for word in (step[0], step[2], step[4], *step[6:-1])]
        if min(values) < 0:
            return None
        left, right, result, *rest = values
        moves.append(Move(left, step[1], right, result, tuple(rest)))
    return None if words else moves


def _replay(numbers: Numbers, moves: list[Move]) -> tuple[int, str] | None:
    """Plays the moves; returns the last value and its expression, or `None` if a move is illegal."""
    held = [(number, str(number)) for number in numbers]
    for move in moves:
        terms = []
        for operand in (move.left, move.right):
            term = next((item for item in held if item[0] == operand), None)
            if term is None:
                return None
            held.remove(term)
            terms.append(term[1])
        if _apply(move.left, move.operator, move.right) != move.result:
            return None
        held.append((move.result, f"({terms[0]} {move.operator} {terms[1]})"))
        if sorted(value for value, _ in held) != sorted(move.rest):
            return None
    return held[0]


def verify(prompt: str | Problem, completion: object) -> int:
    """
    Checks a completion exactly: 1 if it solves the problem, else 0.

    A solution has three steps. Each uses two of the available numbers (as a multiset), and states the correct result,
    in 0..99, and the remaining numbers in any order. The last number is the target, and only whitespace follows the
    last `;`. Words are separated by ASCII whitespace. Time is linear in the length of the completion.

    Args:
        prompt (`str` or [`Problem`]):
            The problem.
        completion (`object`):
            The answer. Malformed text and values other than strings score 0; they never raise.

    Returns:
        `int`: 0 or 1.

    Raises:
        ValueError: If `prompt` is a string but not a countdown prompt.

    Example:

    ```python
    >>> verify("3 5 6 8 = 10 >", "5 + 8 = 13 : 3 6 13 ; 3 + 13 = 16 : 6 16 ; 16 - 6 = 10 : 10 ;")
    1
    >>> verify("3 5 6 8 = 10 >", "10 ;")
    0

    ```
    """
    problem = prompt if isinstance(prompt, Problem) else Problem.from_prompt(prompt)
    moves = _parse(completion)
    final = _replay(problem.numbers, moves) if moves else None
    return int(final is not None and final[0] == problem.target)


def to_expression(completion: object) -> str | None:
    """
    Converts a legal trace to one parenthesized arithmetic expression; returns `None` for any other text.

    The starting numbers come from the first step. The value of the expression is the last number of the trace.

    Example:

    ```python
    >>> to_expression("5 + 8 = 13 : 3 6 13 ; 3 + 13 = 16 : 6 16 ; 16 - 6 = 10 : 10 ;")
    '((3 + (5 + 8)) - 6)'

    ```
    """
    moves = _parse(completion)
    if not moves or moves[0].result not in moves[0].rest:
        return None
    rest = list(moves[0].rest)
    rest.remove(moves[0].result)
    numbers = (moves[0].left, moves[0].right, *rest)
    final = _replay(numbers, moves) if all(_in_range(n, MAX_NUMBER) for n in numbers) else None
    return final[1] if final else None


def decision_mask(words: Sequence[str]) -> list[bool]:
    """
    Marks the operands and operators of a completion: the numbers and signs before each `=`. Malformed text is fine.

    Example:

    ```python
    >>> decision_mask("5 + 8 = 13 : 3 6 13 ; <eos>".split())
    [True, True, True, False, False, False, False, False, False, False, False]

    ```
    """
    mask, choosing = [], True
    for word in words:
        choosing = (choosing or word == ";") and word != "="
        mask.append(choosing and (word in _VALUES or word in ("+", "-")))
    return mask


def countdown_reward(prompts: Sequence[Any], completions: Sequence[Any], **kwargs: Any) -> list[float]:
    """
    TRL reward function: 1.0 for a completion that [`verify`] accepts, else 0.0.

    Args:
        prompts (`list[str]` or `list[list[dict]]`):
            Countdown prompts, plain or conversational (the last message holds the prompt).
        completions (`list[str]` or `list[list[dict]]`):
            One completion per prompt, plain or conversational (the last message is scored).
        **kwargs:
            Other columns that TRL passes; ignored.

    Returns:
        `list[float]`: one reward per completion.

    Raises:
        ValueError: If a prompt is not a countdown prompt.
    """
    return [
        float(verify(_text(prompt), _text(completion))) for prompt, completion in zip(prompts, completions, strict=True)
    ]


def _text(message: Any) -> Any:
    """Returns the text itself, or the content of the last message of a conversation (`""` if there is none)."""
    if isinstance(message, list):
        return message[-1].get("content", "") if message else ""
    return message


@cache
def legal_moves(numbers: Numbers) -> tuple[Move, ...]:
    """Returns all distinct legal moves, smaller operand first for `+` and larger first for `-`, `rest` sorted."""
    moves: dict[Move, None] = {}
    for i, j in combinations(range(len(numbers)), 2):
        low, high = sorted((numbers[i], numbers[j]))
        others = [number for at, number in enumerate(numbers) if at not in (i, j)]
        for left, operator, right in ((low, "+", high), (high, "-", low)):
            result = _apply(left, operator, right)
            if result <= MAX_VALUE:
                move = Move(left, operator, right, result, tuple(sorted([*others, result])))
                moves[move] = None
    return tuple(moves)


@cache
def reachable(numbers: Numbers) -> frozenset[int]:
    """Returns all values that legal moves can reach with all of `numbers` (sorted)."""
    if len(numbers) == 1:
        return frozenset(numbers)
    return frozenset().union(*(reachable(move.rest) for move in legal_moves(numbers)))


def solve(problem: Problem) -> str | None:
    """Returns a completion that [`verify`] accepts, or `None` if the problem has no solution."""
    if problem.target not in reachable(problem.numbers):
        return None
    return demonstrate(problem, random.Random(0), random_move=0.0)


def demonstrate(problem: Problem, rng: random.Random, random_move: float = 0.3) -> str:
    """
    Generates a legal trace that often, but not always, reaches the target, as training data for the warm start.

    Each step is a random legal move with probability `random_move`. Otherwise it is a random move among those that
    keep the target reachable, or a random legal move if there are none.

    Args:
        problem ([`Problem`]):
            The problem.
        rng (`random.Random`):
            Source of randomness.
        random_move (`float`, *optional*, defaults to `0.3`):
            Probability in [0, 1] of a move that ignores the target.

    Returns:
        `str`: a completion of three legal steps.

    Raises:
        ValueError: If `random_move` is outside [0, 1].
    """
    if not 0.0 <= random_move <= 1.0:
        raise ValueError(f"random_move={random_move} is not a probability. Use a value in [0, 1].")
    numbers, steps = problem.numbers, []
    while len(numbers) > 1:
        moves = legal_moves(numbers)
        if rng.random() >= random_move:
            moves = tuple(m for m in moves if problem.target in reachable(m.rest)) or moves
        move = rng.choice(moves)
        steps.append(str(move))
        numbers = move.rest
    return " ".join(steps)


def split_of(problem: Problem) -> str:
    """Returns the split of a problem, chosen by the SHA-256 of its prompt: the same in every process."""
    bucket = int.from_bytes(hashlib.sha256(problem.prompt.encode()).digest()[:8], "big") % 100
    for split, share in SPLITS.items():
        bucket -= share
        if bucket < 0:
            return split
    raise AssertionError("the shares of SPLITS add up to 100")


@cache
def _pools() -> dict[str, list[Problem]]:
    pools: dict[str, list[Problem]] = {split: [] for split in SPLITS}
    for numbers in combinations_with_replacement(range(1, MAX_NUMBER + 1), COUNT):
        for target in sorted(reachable(numbers)):
            if 1 <= target <= MAX_TARGET:
                problem = Problem(numbers, target)
                pools[split_of(problem)].append(problem)
    return pools


def all_problems(split: str) -> list[Problem]:
    """Returns every solvable problem of a split, in a fixed order; raises `ValueError` for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is unknown. Use one of {', '.join(map(repr, SPLITS))}.")
    return list(_pools()[split])


def sample_problems(split: str, n: int, seed: int) -> list[Problem]:
    """
    Draws distinct, solvable problems from one split. Splits are disjoint by (numbers, target).

    Args:
        split (`str`):
            `"warm_start"`, `"rl"` or `"eval"`.
        n (`int`):
            Number of problems, from 1 to the size of the split.
        seed (`int`):
            The same seed gives the same problems in every process.

    Returns:
        `list[Problem]`: `n` different problems in random order.

    Raises:
        ValueError: If the split is unknown, or `n` is below 1 or larger than the split.
    """
    pool = all_problems(split)
    if not 1 <= n <= len(pool):
        raise ValueError(f"n={n} is outside 1..{len(pool)}, the size of split {split!r}. Use a number in that range.")
    return random.Random(seed).sample(pool, n)


def load_dataset(split: str, n: int, seed: int) -> "Dataset":
    """
    Draws problems as [`sample_problems`] does, as a `datasets.Dataset` for TRL.

    Returns:
        `datasets.Dataset`: columns `prompt` (`str`), `numbers` (`list[int]`) and `target` (`int`).

    Raises:
        ValueError: As [`sample_problems`].
    """
    from datasets import Dataset

    return Dataset.from_list(
        [{"prompt": p.prompt, "numbers": list(p.numbers), "target": p.target} for p in sample_problems(split, n, seed)]
    )
