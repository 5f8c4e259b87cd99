"""Speed of the rewards: math compared with TRL's `accuracy_reward`, code in sandbox runs per second.

python -m benchmarks.rewards [--repeats 3]

Math: 1,024 completions, 8 for each of 128 problems, with reasoning of log-normal length before a boxed answer. Both
rewards grade them in turn. Ours then grades them again, with 5 % of the answers replaced by ones that Math-Verify does
not finish. Code: programs that print a number, one test each, under every isolation of this machine.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from trl.rewards import accuracy_reward

from trl_archer.rewards import get_code_reward, get_math_reward
from trl_archer.sandbox import Limits, Program, Sandbox, probe
from trl_archer.sandbox.local import open_runner
from trl_archer.workers import WorkerPool, workers_per_rank

from .environment import save

PROBLEMS, GROUP = 128, 8
SLOW_SHARE, SECONDS = 0.05, 2.0
PROGRAMS = 400
# A product of a million factors, which sympy does not finish
SLOW = r"\prod_{k=1}^{1000000} \left(k + \frac{1}{k}\right)"

REASONING = (
    r"Let us write $f(x) = x^2 + 3x - 4$, so that $f'(x) = 2x + 3$. ",
    r"By the triangle inequality $|a + b| \leq |a| + |b|$, we only need $\frac{a}{b} < 1$. ",
    "Wait, that is not right; let me check the second case again. ",
    r"Substituting, \[ \sum_{k=1}^{n} k = \frac{n(n+1)}{2}. \] ",
    "So there are two possibilities, and the first one is impossible. ",
)


def completions_and_solutions(rng: random.Random) -> tuple[list[list[dict[str, str]]], list[str]]:
    """Half of the answers are right, a third of those in another form than the solution. Groups repeat answers."""
    completions, solutions = [], []
    for _ in range(PROBLEMS):
        a, b = rng.randint(2, 999), rng.randint(2, 99)
        forms = rng.choice(
            [
                (rf"\frac{{{a}}}{{{b}}}", rf"\dfrac{{{2 * a}}}{{{2 * b}}}", rf"\frac{{{a}}}{{{b + 1}}}"),
                (f"{a}", f"{a}.0", f"{a + b}"),
                (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{b}}} \cdot {a}", rf"{a}\sqrt{{{b + 1}}}"),
                (rf"x^2 + {a}x", rf"x(x + {a})", rf"x^2 + {b}"),
                (rf"({a}, {b})", rf"\left({a}, {b}\right)", rf"({b}, {a})"),
                (rf"{a}\pi", rf"\pi \cdot {a}", rf"\frac{{\pi}}{{{a}}}"),
            ]
        )
        for _ in range(GROUP):
            answer = rng.choices(forms, weights=(2, 1, 3))[0]
            length = min(30_000, int(rng.lognormvariate(7.8, 0.8)))  # characters; median 2,400
            reasoning = "".join(rng.choices(REASONING, k=max(1, length // 60)))
            completions.append([{"role": "assistant", "content": rf"{reasoning}The answer is $\boxed{{{answer}}}$."}])
            solutions.append(rf"$\boxed{{{forms[0]}}}$")
    return completions, solutions


def seconds_of(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def math(repeats: int) -> dict[str, Any]:
    reward = get_math_reward(seconds=SECONDS)
    reward(*completions_and_solutions(random.Random(-1)))  # starts the workers
    ours, theirs, right, different = [], [], [], 0
    for seed in range(repeats):  # new problems each time, so nothing is cached
        rng = random.Random(seed)
        completions, solutions = completions_and_solutions(rng)
        seconds, rewards = seconds_of(lambda: reward(completions, solutions))  # noqa: B023
        ours.append(seconds)
        seconds, their_rewards = seconds_of(lambda: accuracy_reward(completions, solutions))  # noqa: B023
        theirs.append(seconds)
        right.append([sum(rewards), sum(their_rewards)])
        different += sum(our != their for our, their in zip(rewards, their_rewards, strict=True))
    slow = list(completions)
    rows = rng.sample(range(len(slow)), int(SLOW_SHARE * len(slow)))
    for number, row in enumerate(rows):  # all different, so each is graded
        slow[row] = [{"role": "assistant", "content": rf"\boxed{{{SLOW} + {number}}}"}]
    slow_seconds, slow_rewards = seconds_of(lambda: reward(slow, solutions))
    return {
        "completions": len(completions),
        "characters": statistics.median(len(completion[0]["content"]) for completion in completions),
        "workers": workers_per_rank(),
        "seconds": {"math_reward": statistics.median(ours), "accuracy_reward": statistics.median(theirs)},
        "speedup": statistics.median(their / our for our, their in zip(ours, theirs, strict=True)),
        "repeats": repeats,
        "right": [{"math_reward": our, "accuracy_reward": their} for our, their in right],
        "different": different,
        "slow": {
            "items": len(rows),
            "limit": SECONDS,
            "seconds": slow_seconds,
            "bound": 1.2 * (len(rows) * SECONDS / workers_per_rank()) + statistics.median(ours),
            "rewards": sorted({slow_rewards[row] for row in rows}),
        },
    }


def code(isolation: Any, repeats: int) -> dict[str, float]:
    sandbox = Sandbox(isolation)
    reward = get_code_reward(sandbox)
    completions = [f"```python\nprint({number})\n```" for number in range(PROGRAMS)]
    tests = [{"inputs": [""], "outputs": [str(number)]} for number in range(PROGRAMS)]
    assert reward(completions[:8], tests[:8]) == [1.0] * 8  # starts the workers
    rates = []
    for _ in range(repeats):
        seconds, rewards = seconds_of(lambda: reward(completions, tests))
        assert sum(rewards) == PROGRAMS
        rates.append(PROGRAMS / seconds)
    with WorkerPool("benchmarks.rewards:overheads", workers=1) as pool:
        overheads = pool.map([sandbox.as_dict()], seconds=120)[0].value
    return {"runs_per_second": statistics.median(rates), "overhead_ms": 1000 * statistics.median(overheads)}


def overheads(settings: dict[str, Any]) -> list[float]:
    """Time of each run of an empty program in seconds. Runs in a worker."""
    runner = open_runner(settings)
    return [seconds_of(lambda: runner.run(Program("")))[0] for _ in range(100)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    working = [name for name, problem in probe().items() if not problem]
    result = {
        "command": "python -m benchmarks.rewards",
        "math": math(args.repeats),
        "code": {name: code(name, args.repeats) for name in working},
        "limits": vars(Limits()),
    }
    print(save("rewards", result))


if __name__ == "__main__":
    main()
