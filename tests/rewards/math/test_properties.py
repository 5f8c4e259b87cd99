"""Golds are met by themselves and harmless rewritings, not by a changed digit, sign, letter, bracket or function."""

import random
import re
from collections.abc import Iterator

import pytest

from trl_archer.workers import WorkerPool

# As they look in MATH, AIME, OlympiadBench, Minerva, IMO-AnswerBench, gaokao and college mathematics
GOLDS = r"""
204
-17
3.25
1{,}048{,}576
\frac{14}{3}
-\frac{7}{12}
2\frac{3}{5}
\dfrac{\sqrt{3}}{2}
4\sqrt{15}-14
\sqrt[3]{7}
\frac{\pi}{6}
12\pi
9+8\sqrt{2}
\ln 5
e^{3}-2
8.7 \times 10^{8}
2^{1009}
3^{100}-7
3-4i
\frac{48i-56}{85}
75\%
\$18.90
45^\circ
36\text{ cm}^2
9.6 \text{ m/s}
p-q
x^2-7x+12
\frac{1}{2n+2}
\frac{n(n+3)}{4}
2x^{3}+5
(x-3)(x+8)
a^2+5ab-b^2
\sin 3x
e^{-4t}
\log_2 n
\lfloor \frac{n^2}{4} \rfloor
|x-6|
\binom{2n}{n}
\left( 3, \frac{\pi}{2} \right)
(2,-5,7)
[3,8)
(-\infty,-2)\cup(5,\infty)
x<-2
-1 \le x < 4
\{3,5,9\}
4,-6
\pm 5
x=2
x=1, y=-4
y=3x-7
x^2+y^2=25
f(x)=6x-1
\begin{pmatrix} 1 & 4 \\ -3 & 6 \end{pmatrix}
\begin{pmatrix} 2 \\ 9 \end{pmatrix}
3:8
1032_5
\frac{KL}{LM}=\frac{2}{7}
f'(x)+3
x \neq 4
2k\pi, k \in \mathbb{Z}
\text{Evelyn}
""".strip().splitlines()


def rewritings(gold: str) -> Iterator[str]:
    yield from (
        gold,
        f"${gold}$",
        f"{gold}.",
        f" {gold} ",
        rf"\displaystyle {gold}",
        rf"\mathbf{{{gold}}}",
        f"**{gold}**",
    )
    yield from (rf"\textcolor{{blue}}{{{gold}}}", rf"\text{{Answer: }} {gold}", rf"{gold} \checkmark", rf"\[{gold}\]")
    yield (
        gold.replace("\\frac", "\\dfrac")
        .replace("(", "\\left(")
        .replace(")", "\\right)")
        .replace("\\left\\left", "\\left")
    )
    yield re.sub(r"(?<=\d)(?=[-+])|(?<=[-+])(?=\d)", " ", gold)
    yield gold.replace("-", "−").replace("\\pi", "π") if "\\text" not in gold else gold
    yield gold.replace("\\le ", "\\leqslant ").replace("\\pm", "±").replace(",", ", ") if "{,}" not in gold else gold


def changes(gold: str, rng: random.Random) -> Iterator[str]:
    formula = re.sub(r"\\(?:text|begin|end|mathbb)\{[^{}]*\}|\\[a-zA-Z]+", lambda match: "_" * len(match[0]), gold)
    for pattern, swap in (
        (r"\d", lambda mark: str((int(mark) + rng.randint(1, 8)) % 10)),
        (r"(?<=[\w)}])[-+]", lambda mark: "-" if mark == "+" else "+"),
        (r"(?<![A-Za-z])[a-zA-Z](?![A-Za-z])", lambda mark: "w" if mark.islower() else "W"),
        (r"[()\[\]]", lambda mark: {"(": "[", ")": "]", "[": "(", "]": ")"}[mark]),
    ):
        marks = list(re.finditer(pattern, formula))
        if marks:
            mark = rng.choice(marks)
            yield gold[: mark.start()] + swap(mark[0]) + gold[mark.end() :]
    for name, other in (("\\sin", "\\cos"), ("\\sqrt[3]", "\\sqrt"), ("\\lfloor", "\\lceil"), ("\\le ", "<")):
        if name in gold:
            yield gold.replace(name, other).replace("\\rfloor", "\\rceil")
    if (not gold.startswith(("-", "\\pm")) and gold[0] != "\\") or gold.startswith("\\frac"):
        yield f"-{gold}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_golds_are_met_by_themselves_only(seed: int):
    rng = random.Random(seed)
    same = [(gold, answer) for gold in GOLDS for answer in dict.fromkeys(rewritings(gold))]
    changed = [(gold, answer) for gold in GOLDS for answer in changes(gold, rng)]
    with WorkerPool("trl_archer.rewards.math.grading:grade_item", workers=2) as pool:
        outcomes = pool.map([((gold,), answer) for gold, answer in same + changed], seconds=20)
    verdicts = [outcome.value and outcome.value[0] for outcome in outcomes]
    assert not [pair for pair, verdict in zip(same, verdicts, strict=False) if not verdict]
    assert not [pair for pair, verdict in zip(changed, verdicts[len(same) :], strict=True) if verdict]
