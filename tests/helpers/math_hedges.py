r"""Answers that try to be right for everything, golds of all kinds, and which of the answers really equal which gold.

`REALLY_EQUAL` holds the only pairs that may earn a reward.
"""

GOLDS = r"""
5
-3
0
1
42
123456
\frac{1}{2}
-\frac{22}{7}
0.75
\sqrt{2}
3+2\sqrt{3}
2\pi
\ln 2
e^2
2^{100}
3+2i
50\%
5\text{ cm}
\$12.50
30^\circ
x=3
y=2x+3
x^2+y^2=4
f(x)=2x+1
x+1
n^2
\frac{n(n+1)}{2}
\sin x
\lfloor \frac{n}{2} \rfloor
|x-1|
f'(x)
(3,7)
(1,2,3)
[0,1]
(-\infty,2)\cup(3,\infty)
x>4
x \neq 2
\{1,2\}
1,2,3
\pm 2
\begin{pmatrix}1&2\\3&4\end{pmatrix}
B
A, C
\text{east}
\text{Yes}
3:4
101_2
2k\pi, k\in\mathbb{Z}
\frac{KL}{LM}=\frac{2}{7}
x^2-2x+10=0
\infty
\emptyset
\mathbb{R}
""".strip().splitlines()

# Values that are infinite, undefined or unknown
_NO_VALUES = r"""
\infty
-\infty
\tan\frac{\pi}{2}
10^\infty
\frac{1}{0}
\ln 0
\infty-\infty
\frac{0}{0}
\lim_{x\to 0} \frac{1}{x}
\sum_{k=1}^{\infty} k
\cot 0
\Gamma(0)
\infty^0
\gcd(a,b)
""".strip().splitlines()

# What a policy may build around them
_TEMPLATES = r"""
{}
2^{{ {} }}
\sqrt{{ {} }}
|\log_2({})|
\max({}, 1)
\sinh({})
({}, {})
{}, {}
\{{ {}, {} \}}
[{}, {}]
x + {}
x > {}
x = {}
{} \cdot 0
\frac{{5}}{{ {} }}
5 \approx {}
\begin{{pmatrix}} {} & {} \\ {} & {} \end{{pmatrix}}
""".strip().splitlines()

_OTHERS = r"""
0^0
e^{-\infty}
\frac{5}{\infty}
\infty + \tan\frac{\pi}{2}
x + \infty + \tan\frac{\pi}{2}
\sin(\infty)
\arctan\infty
\log_{\infty} 5
\sqrt[\infty]{5}
i^\infty
\infty!
\binom{\infty}{2}
\tan 90^\circ
\sum_{k=1}^{\infty} (-1)^k
\int_0^\infty x\,dx
\prod_{k=1}^{\infty} k
\lim_{x\to\infty} x
x = x
y = y
1 = 1
a = b
x \neq x
a \ne b
x^2 \ge 0
|x| \ge 0
x^2 = -1
\sqrt{-1} = \sqrt{-1}
\frac{dy}{dx} = 1
y'' = y
x \in \mathbb{R}
\mathbb{R}
\mathbb{C}
\mathbb{Z}
\mathbb{N}
(-\infty, \infty)
-\infty < x < \infty
x < \infty
x > -\infty
\mathbb{R} \cup \{\infty\}
(-\infty, \infty) \cup \{5\}
\mathbb{R} \setminus \emptyset
\{x \mid x = x\}
\{x \mid x \in \mathbb{R}\}
\emptyset
\{\}
(5, 3)
(1, 1)
[1, 0]
0 \pm \infty
\pm\infty
5 \pm 5
\pm 5 \pm 37
5 \mp 5
3 \approx 7+0
5 \approx 5.3
7 \approx 5
x \approx x
x \approx 5 \approx 42
0 \approx (1 \approx (2 \approx 3+0))
5 \approx (B)
5 \approx \{1,2\}
5 \approx 42 \approx 0
1, 2, 3, 4, 5
0, 1, 2, 5, 42
5 \text{ or } 42
5 \text{ and } 42
\{5, 42, 0\}
5; 42
5 \quad 42
5 \\ 42
[0, 123456]
(5, 42)
5/42
5:42
5 = 42
5 \to 42
5 \vee 42
5 \neq 42
5 \text{ (or 42)}
5 \text{ or more}
5 \text{ or so}
\text{at least } 0
\text{at most } 123456
\text{between 0 and 123456}
1, 2, \ldots
1, 2, 3, \dots, 123456
\ldots
...
\{1, 2, 3, \ldots\}
\text{all of the above}
\text{any number}
\text{any real number}
\text{the answer}
\text{the correct answer}
\text{see above}
\text{yes or no}
\text{yes and no}
\text{east or west}
\text{undefined}
\text{NaN}
\text{none}
nan
proof
\text{ab}
\text{alphabeta}
ABCD
ABC
A, B, C, D
A or B or C or D
(A)(B)(C)(D)
(A) 5 (B) 42
\text{A, B, C, or D}
x
n
y
f(x)
f
f(n)
c
\theta
e
i
a_\infty
x_{\infty}
A^T
2^T
5^T
2(3)
\coth x
\text{lcm}(a,b)
\det A
\arg z
\deg f
5!!
\nabla f
\hbar
f''(x)
x'
?
5?
*
+
-
=
\%
\$
\text{cm}
\square
\cdots
\boxed{}
9^{9^{9^9}}
2^{2^{2^{2^{2^2}}}}
99999999!
10^{10^{10}} \cdot 0
\sqrt{\sqrt{\sqrt{\sqrt{\sqrt{9^{9^{99}}}}}}}
\max(0, 1, 2, 5, 42, \infty)
\min(a, b)
\max(a, b)
\overline{5}
5 \mod x
\forall x
\exists x
\neg p
A \cup B
A \cap B
\frac{x-x}{x-x}
\frac{\sin x}{x-x}
0 \cdot f(x)
\int f
\delta(0)
\partial x
\vec{0}
O(n)
""".strip().splitlines()

_DEEP = [
    "(" * 40 + "5 = 42" + ")" * 40,
    r"\sqrt{" * 40 + r"\infty" + "}" * 40,
    r"5 \approx (" * 30 + "42" + ")" * 30,
    "+".join([r"\infty"] * 100),
    ", ".join(map(str, range(300))),
    r"\{" + ", ".join(map(str, range(300))) + r"\}",
    " = ".join(map(str, range(60))),
    r" \approx ".join(map(str, range(60))),
    r" \text{ or } ".join(GOLDS[:20]),
    r" \quad ".join(GOLDS[:20]),
]

ANSWERS = list(
    dict.fromkeys([t.format(*[v] * t.count("{}")) for v in _NO_VALUES for t in _TEMPLATES] + _OTHERS + _DEEP)
)

_ALL_REALS = [r"x \in \mathbb{R}", r"\mathbb{R}", r"(-\infty, \infty)", r"-\infty < x < \infty", r"x < \infty"]
_ALL_REALS += [r"x > -\infty", r"(-\infty, \infty) \cup \{5\}", r"\{x \mid x \in \mathbb{R}\}"]
REALLY_EQUAL = {
    *((r"\mathbb{R}", answer) for answer in _ALL_REALS),
    *((r"\infty", answer) for answer in (r"\infty", r"x = \infty")),
    *((r"\emptyset", answer) for answer in (r"\emptyset", r"\{\}")),
    ("1", "1 = 1"),
    ("1", r"\frac{dy}{dx} = 1"),
    ("0", r"0 \cdot f(x)"),
    # Limits and sums of zeros, and tan(0)
    *(
        ("0", rf"{value} \cdot 0")
        for value in (r"\lim_{x\to 0} \frac{1}{x}", r"\sum_{k=1}^{\infty} k", r"\tan\frac{\pi}{2}")
    ),
}
