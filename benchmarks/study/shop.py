"""
Shop: a task that needs memorized facts, the prices of 240 goods with made-up names. RL sees half of the goods.

    prompt      bal dem fin gor kul = 43 >
    completion  bal 12 dem 31 fin 7 gor 20 kul 4 : 12 + 31 = 43 ;

The completion recalls the prices and then combines two of them to the target. Only the last step is verified, against
the true prices. `price bal >` asks for a fact alone.
"""

import random
from collections.abc import Sequence
from itertools import combinations, product
from typing import Any, NamedTuple

from .policy import Demonstration

GOODS = ["".join(letters) for letters in product("bdfgklmnprst", "aeiou", "lmnr")]
PRICES = {good: random.Random(f"price of {good}").randint(1, 40) for good in GOODS}
USED, UNUSED = GOODS[::2], GOODS[1::2]  # in RL
COUNT = 5
PRICE = "price"
LONGEST = 18  # tokens of a completion, with eos
RIGHT_MOVES = 0.5  # share of the demonstrations that reach the target


class Combination(NamedTuple):
    """Two prices and what they give."""

    left: int
    operator: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right} = {self.result} ;"


def combinations_of(prices: Sequence[int]) -> list[Combination]:
    """All sums and positive differences of two prices, the larger price first in a difference."""
    found = []
    for one, other in combinations(prices, 2):
        low, high = sorted((one, other))
        found.append(Combination(low, "+", high, low + high))
        if low != high:
            found.append(Combination(high, "-", low, high - low))
    return found


def draw_prompt(goods: Sequence[str], rng: random.Random) -> str:
    """A problem that has a solution."""
    chosen = rng.sample(goods, COUNT)
    target = rng.choice(combinations_of([PRICES[good] for good in chosen])).result
    return f"{' '.join(chosen)} = {target} >"


def demonstrate(rng: random.Random) -> Demonstration:
    """A demonstration for the warm start: a fact in one of four, otherwise a problem, solved in half of the cases."""
    if rng.random() < 0.25:
        good = rng.choice(GOODS)
        return f"{PRICE} {good} >", f"{PRICES[good]} ;"
    prompt = draw_prompt(GOODS, rng)
    goods, target = prompt.split()[:COUNT], int(prompt.split()[-2])
    moves = combinations_of([PRICES[good] for good in goods])
    if rng.random() < RIGHT_MOVES:
        moves = [move for move in moves if move.result == target]
    recalled = " ".join(f"{good} {PRICES[good]}" for good in goods)
    return prompt, f"{recalled} : {rng.choice(moves)}"


def verify(prompt: str, completion: str) -> int:
    """1 if what follows the last colon combines true prices of two of the goods to the target; 1 for a right price."""
    words = prompt.split()
    if words[0] == PRICE:
        return int(completion.split() == [str(PRICES[words[1]]), ";"])
    goods, target = words[:COUNT], int(words[-2])
    solutions = [str(move) for move in combinations_of([PRICES[good] for good in goods]) if move.result == target]
    swapped = [f"{b} + {a} = {rest}" for a, sign, b, _, rest in (x.split(maxsplit=4) for x in solutions) if sign == "+"]
    return int(" ".join(completion.rpartition(":")[2].split()) in (*solutions, *swapped))


def shop_reward(prompts: Sequence[str], completions: Sequence[str], **kwargs: Any) -> list[float]:
    """1 for a right completion, else 0."""
    return [float(verify(prompt, completion)) for prompt, completion in zip(prompts, completions, strict=True)]
