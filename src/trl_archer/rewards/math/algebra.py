r"""
Compares expressions by Math-Verify, with refusals where it is known to be wrong.

Values at a few points reject quickly. They never accept: what they do not tell apart goes to Math-Verify. A value that
is infinite, undefined or not known equals nothing, because sympy simplifies 7 - 2**(10**oo) to 0. Math-Verify also
drops primes, bases, transpositions and the case of letters; equates all equations without a solution, and all small
numbers; and reads 2(3) as 5, `\coth x` as `\cot(hx)` and `\gcd(a, b)` as 1.
"""

import logging
import re
from fractions import Fraction
from functools import lru_cache, reduce
from math import log10
from typing import Any

from latex2sympy2_extended import NormalizationConfig  # type: ignore[import-untyped]
from latex2sympy2_extended.logic import And  # type: ignore[import-untyped]
from math_verify import LatexExtractionConfig, parse, verify  # type: ignore[import-untyped]
from sympy import (  # type: ignore[import-untyped]
    AccumBounds,
    Derivative,
    E,
    Eq,
    Expr,
    Float,
    Function,
    I,
    Integer,
    Interval,
    Limit,
    MatrixBase,
    MatrixExpr,
    N,
    Ne,
    Rational,
    Set,
    Symbol,
    log,
    nan,
    oo,
    solve,
    zoo,
)
from sympy.concrete.expr_with_limits import ExprWithLimits  # type: ignore[import-untyped]
from sympy.core.function import AppliedUndef  # type: ignore[import-untyped]
from sympy.core.relational import Relational  # type: ignore[import-untyped]

from .equality import Compare
from .forms import Answer
from .numbers import join_thousands, rounds_to
from .units import TRIGONOMETRY

# We put answers into a box, which Math-Verify then reads. Units and malformed LaTeX are handled before
_EXTRACTION = [
    LatexExtractionConfig(
        boxed_match_priority=0, try_extract_without_anchor=False, normalization_config=NormalizationConfig(boxed="last")
    )
]
for _logger in ("math_verify.parser", "math_verify.grader"):  # which warn that their time limits are off, on purpose
    logging.getLogger(_logger).addFilter(lambda record: "Timeout is disabled" not in record.getMessage())

# Everything that Math-Verify reads as it is meant
_COMMANDS = frozenset(
    "frac sqrt cdot times div pi infty sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh ln log exp "
    "lfloor rfloor lceil rceil max min binom sum prod int lim to cup cap setminus emptyset mathbb leq geq neq begin "
    "end bar overline vec hat dot tilde widehat Gamma % { } \\ circ".split()
)
_COMMAND = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)
_UNKNOWN_CHARACTER = re.compile(
    r"[^\x20-\x7e]|\\exp.*\\log_|\\log_.*\\exp|[#$&;?@\"`~]|!!|\d ?_\{|\^\{\s*[*\\]?(?:top|dagger|ast|\*)?\s*\}|:"
)
# Infinity as an operand, or 0^0: sympy takes \infty^0 and 5/\infty for numbers. It may end an interval or a sum
_BOUNDS = re.compile(r"\\to ?[-+]?\\infty|\\(?:sum|prod|int)(?: ?_\{[^{}]*\})?(?: ?\^\{[^{}]*\})?|^-?\\infty$")
_INFINITE = re.compile(
    r"(?<![(\[,] )(?<![(\[,])(?<![(\[,]-)(?<!, -)\\infty|\\infty(?! ?[,)\]])|(?<![\d.])0 ?\^\{0\}"
    r"|\[ ?-?\\infty|\\infty ?\]|\\(?:max|min).*\\infty"
)
_FLATTENED_TEXT = re.compile(r"(?<=_\{)\s*\\text\{([^{}]*)\}\s*(?=\})")
_LETTER = re.compile(
    r"\\frac\{d(?:\^\{(?P<order>\d)\})?(?P<upper>[A-Za-z])?\}\{d(?P<lower>[a-z])(?:\^\{\d\})?\}|\\mathbb\{[A-Z]\}|"
    r"\\(?:begin|end)\{[a-z]+\}(?:\{[clr| ]*\})?|"
    r"(?:\\(?P<symbol>(?:var)?(?:alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|"
    r"upsilon|phi|chi|psi|omega)|Gamma(?! ?\()|Delta|Theta|Lambda|Xi|Pi|Sigma|Upsilon|Phi|Psi|Omega|triangle|angle|ell|"
    r"hbar)(?![A-Za-z])|\\[A-Za-z]+|(?P<letter>[A-Za-z]))(?P<primes>'*)(?:_\{(?P<index>[^{}]*)\})?(?P<late>'*)"
)
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[a-z]+\}")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?|\\frac\{\d+\}\{\d+\})\s*\^\{\\circ\}")
_PRODUCT = re.compile(r"(?<=\d) ?(?=\()")  # Math-Verify adds the two factors of 2(3)
_INVERSE = re.compile(r"(?<![A-Za-z\\])([fghFGH])\^\{-1\} ?(?=\()")
_LARGEST_POWER = 100_000  # digits
_TOWER = re.compile(r"\d{1,300}(?:\s*\^\{[\s(]*\d{1,300})+")
_INTEGER = re.compile(r"\d+")
_EULER = Symbol("w_{euler}", real=True)
_LIMITS = (ExprWithLimits, Limit, Derivative)
_FACTORIAL = re.compile(r"\d{6,}\s*!")
# Odd fractions and whole numbers of several sizes, so that nothing cancels by chance, and steps and cases show
_POINTS = tuple(Rational(*pair) for pair in ((10, 13), (3, 1), (8, 1), (101, 7), (37, 1), (-17, 18), (-5, 1), (-47, 6)))
_LEAST_DECIDED = 2  # points at which both sides have a value
_DIGITS, _MOST_DIGITS = 40, 20_000
_NOISE = 16  # bits, below which a value is the error of a zero


class MathVerify(Compare):
    """Compares expressions by Math-Verify. Records whether it was called and what it raised."""

    def __init__(self) -> None:
        self.asked = False
        self.error: str | None = None

    def __call__(self, gold: Answer, answer: Answer) -> bool:
        if is_hopeless(answer.latex) and not is_hopeless(gold.latex):
            return False
        self.asked = True
        for exact, decimal in ((gold, answer.number), (answer, gold.number)):
            if decimal and decimal.decimals:
                value = self.value(exact)
                if value is not None and rounds_to(value, decimal):
                    return True
        degrees = "\\circ" in gold.latex + answer.latex
        try:  # an angle in a formula may lack its sign: 180 - a
            return any(
                _equal(_read(gold, keep), _read(answer, keep)) for keep in ((True, False) if degrees else (True,))
            )
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"[:200]
            return False

    def value(self, exact: Answer) -> Fraction | None:
        """The value of a number or of an expression without variables, to 40 digits."""
        if exact.number:
            return exact.number.value
        try:
            expression = None if is_hopeless(exact.latex) else _read(exact, True)
            known = isinstance(expression, Expr) and not expression.free_symbols
            return Fraction(str(_at(_settled(expression), {}, _DIGITS))) if known else None
        except (ArithmeticError, AttributeError, TypeError, ValueError):
            return None


def is_comparable(parsed: Answer) -> bool:
    """Whether Math-Verify reads an expression that has a value."""
    try:
        return is_hopeless(parsed.latex) or _is_defined(_read(parsed, True))
    except Exception:
        return False


def is_hopeless(latex: str) -> bool:
    """Whether an expression contains a power or factorial too large to evaluate, which sympy would attempt."""
    return bool(_FACTORIAL.search(latex)) or any(map(_is_large, _TOWER.findall(latex)))


def _is_large(tower: str) -> bool:
    """Whether a tower of powers has more than 100,000 digits."""
    base, *exponents = map(float, _INTEGER.findall(tower))
    try:
        digits = reduce(lambda top, number: number**top, reversed(exponents), 1.0) * max(log10(base), 0.0)
    except (OverflowError, ValueError):
        return base > 1
    return digits > _LARGEST_POWER


# From LaTeX to sympy


def _read(parsed: Answer, degrees: bool) -> Any:
    return _parse(_latex(parsed, degrees))


def _latex(parsed: Answer, degrees: bool) -> str:
    """The formula for Math-Verify. Everything that it would drop becomes part of a symbol's name."""
    latex = join_thousands(parsed.latex) if parsed.number else parsed.latex
    keep = degrees or TRIGONOMETRY.search(latex)
    latex = _DEGREES.sub(r"(\\frac{\1\\pi}{180})" if keep else r"\1", latex)
    latex = _INVERSE.sub(r"\1_{inverse}", latex)
    latex = _PRODUCT.sub(r" \\cdot ", _FLATTENED_TEXT.sub(r"\1", latex))
    latex = _LETTER.sub(_symbol, latex)
    return f"{latex}\\%" if parsed.unit == "percent" else latex


def _symbol(match: re.Match[str]) -> str:
    r"""A symbol of its own for `A` (`w_{qa}`), `f''` (`w_{fpp}`), `e_1`, `\Delta` and `\frac{dy}{dx}`."""
    if match["lower"]:
        return f"w_{{d{match['order'] or ''}{_name(match['upper'] or '')}d{match['lower']}}} "
    letter = match["symbol"] or match["letter"]
    if letter is None:
        return match[0]
    primes = "p" * len((match["primes"] or "") + (match["late"] or ""))
    index = _name((match["index"] or "").replace("\\", "").replace(" ", ""))
    if letter == "e" and not primes and not index:
        return "w_{euler}"
    is_plain = letter.islower() or letter == "C"  # C may be a constant of integration
    if len(letter) == 1 and is_plain and not primes and not (letter in "ei" and index):
        return f"{letter.lower()}_{{{index}}}" if index else letter.lower()
    return f" w_{{{_name(letter)}{primes}{index}}}"


def _name(text: str) -> str:
    """The text without capitals, whose case Math-Verify ignores."""
    return "".join(f"q{character.lower()}" if character.isupper() else character for character in text)


@lru_cache(maxsize=4096)
def _parse(latex: str) -> Any:
    """What Math-Verify reads, with one symbol per name, exact decimals and `i` as a number. `None` if it cannot."""
    if _INFINITE.search(_BOUNDS.sub("", latex)):
        return None
    if not _COMMANDS.issuperset(_COMMAND.findall(_ENVIRONMENT.sub("", latex))) or _UNKNOWN_CHARACTER.search(
        re.sub(r"\\%|\\\\|&(?=.*\\end)", "", latex.replace("\n", " "))
    ):
        return None
    parsed = parse(
        f"\\boxed{{{latex}}}",
        extraction_config=_EXTRACTION,
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    return _unified(parsed[0]) if parsed else None


def _unified(expression: Any) -> Any:
    if isinstance(expression, And):
        return And(*map(_unified, expression._unsorted_args))
    if isinstance(expression, Relational):  # with real symbols, x^2 + 1 = 0 would become `False`
        return type(expression)(*map(_unified, expression.args), evaluate=False)
    atoms = expression.atoms(Symbol, Float, AppliedUndef) if hasattr(expression, "atoms") else ()
    names: dict[Any, Any] = {atom: Rational(str(atom)) for atom in atoms if isinstance(atom, Float)}
    bound = {symbol for part in expression.atoms(ExprWithLimits) for symbol in part.bound_symbols} if atoms else ()
    for atom in atoms:
        if isinstance(atom, Symbol):
            names[atom] = I if atom.name == "i" and atom not in bound else Symbol(atom.name, real=True)
    names |= {atom: Symbol(str(atom), real=True) for atom in atoms if isinstance(atom, AppliedUndef)}
    expression = expression.xreplace(names)
    logarithms = {part: log(part.args[0]) / log(part.args[1]) for part in expression.atoms(log) if len(part.args) == 2}
    expression = nan if any(part.has(zoo) for part in logarithms.values()) else expression.xreplace(logarithms)
    return expression.xreplace({_EULER: E})  # only now, because sympy takes exp(log(2, 10)) for 2


# Equality


@lru_cache(maxsize=4096)
def _is_defined(expression: Any) -> bool:
    """Whether it has a value, and not only an infinite one or none."""
    if expression is None:
        return False
    if isinstance(expression, MatrixBase | MatrixExpr):
        return not expression.has(nan, zoo)
    if isinstance(expression, Expr):
        if expression in (oo, -oo) or (expression.has(*_LIMITS) and not expression.has(nan, zoo)):
            return True
        return any(_at(_settled(expression), point, _DIGITS) is not None for point in _points(expression))
    if isinstance(expression, Set):
        return all(end in (oo, -oo) or _is_defined(end) for end in _ends(expression))
    return isinstance(expression, Relational | And)


def _ends(region: Set) -> list[Any]:
    if isinstance(region, Interval):
        return [region.start, region.end]
    return [end for part in region.args for end in (_ends(part) if isinstance(part, Set) else [part])]


def _equal(gold: Any, answer: Any) -> bool:
    if gold is None or answer is None:
        return False
    if isinstance(gold, And) and isinstance(answer, And):
        pairs = list(zip(gold._unsorted_args, answer._unsorted_args, strict=False))
        return len(gold._unsorted_args) == len(answer._unsorted_args) and all(_equal(*pair) for pair in pairs)
    if isinstance(gold, Relational) and isinstance(answer, Relational):
        return _equal_relations(gold, answer)
    matrices = [isinstance(side, MatrixBase | MatrixExpr) for side in (gold, answer)]
    if any(matrices):
        return all(matrices) and _equal_matrices(gold.doit(), answer.doit())
    if isinstance(gold, Expr) and isinstance(answer, Expr):
        return _equal_expressions(gold, answer)
    if isinstance(gold, Set) and isinstance(answer, Set):
        return gold.is_empty is not True and all(map(_is_defined, (gold, answer))) and _verify(gold, answer)
    return False


def _verify(gold: Any, answer: Any) -> bool:
    return bool(verify([gold], [answer], timeout_seconds=None, raise_on_error=True))


def _equal_matrices(gold: Any, answer: Any) -> bool:
    if not (isinstance(gold, MatrixBase) and isinstance(answer, MatrixBase)) or gold.shape != answer.shape:
        return False
    return all(_equal(*pair) for pair in zip(gold.flat(), answer.flat(), strict=True))


def _equal_relations(gold: Relational, answer: Relational) -> bool:
    """
    Whether one is a multiple of the other, or Math-Verify finds the same solutions. That needs a solution: it finds no
    difference between two equations without one.
    """
    gold, answer = (side.reversed if side.rel_op.startswith(">") else side for side in (gold, answer))
    if gold.free_symbols != answer.free_symbols or not gold.free_symbols or gold.rel_op != answer.rel_op:
        return False
    left, right = gold.lhs - gold.rhs, answer.lhs - answer.rhs
    for point in _points(left):
        values = [_at(side, point, _DIGITS) for side in (left, right)]
        if all(value and value.is_real for value in values):
            factor = Fraction(str(values[0] / values[1])).limit_denominator(10**9)
            factor = Rational(factor.numerator, factor.denominator)
            if (factor > 0 or isinstance(gold, Eq | Ne)) and _equal_expressions(left, factor * right):
                return True
            break
    return isinstance(gold, Eq) and bool(solve(gold, gold.free_symbols)) and _verify(gold, answer)


def _equal_expressions(gold: Expr, answer: Expr) -> bool:
    if gold == answer and gold not in (oo, -oo):
        return True
    settled = _settled(gold), _settled(answer)
    if None in settled:
        return False
    verdicts = []
    for point in _points(gold + answer):
        verdict = _agree(*settled, point)
        if verdict is False:
            return False
        verdicts.append(verdict)
    return verdicts.count(True) >= min(_LEAST_DECIDED, len(verdicts)) and _verify(gold, answer)


@lru_cache(maxsize=4096)
def _settled(expression: Expr) -> Expr | None:
    """The expression with sums and limits carried out. `None` if that fails, or is infinite or undefined."""
    settled = expression.doit()
    # 5/tan(pi/2) would be 0
    parts = [part.doit() for part in expression.atoms(Function, *_LIMITS) if not part.free_symbols]
    if expression.has(nan, zoo) or any(part.has(nan, zoo, oo, -oo) for part in parts):
        return None
    return None if settled.has(nan, zoo, oo, -oo, AccumBounds, *_LIMITS) else settled


def _points(expression: Expr) -> list[dict[str, Rational]]:
    names = sorted(symbol.name for symbol in expression.free_symbols)
    return [
        {name: _POINTS[(shift + 3 * index) % len(_POINTS)] + index for index, name in enumerate(names)}
        for shift in range(len(_POINTS) if names else 1)
    ]


def _agree(gold: Expr, answer: Expr, point: dict[str, Rational]) -> bool | None:
    """
    Whether two values are equal as far as their digits tell. `None` if one is unknown, or complex in a real formula.
    The precision follows the size of the numbers: 2^{2024} + 1 is not 2^{2024} - 1.
    """
    sides = [side.subs({symbol: point[symbol.name] for symbol in side.free_symbols}) for side in (gold, answer)]
    if all(side.is_Rational for side in sides):
        return bool(sides[0] == sides[1])
    size = sum(len(str(number)) for side in sides for number in side.atoms(Rational))
    for digits in (_DIGITS, min(2 * _DIGITS + 2 * size, _MOST_DIGITS)):
        values = [_at(side, {}, digits) for side in sides]
        if any(value is None or not (value.is_real or gold.has(I) or answer.has(I)) for value in values):
            return None
        largest = max(map(abs, values))
        if abs(values[0] - values[1]) > largest * Float(10) ** (_DIGITS // 4 - digits):
            return False
    return True


def _at(expression: Expr | None, point: dict[str, Rational], digits: int) -> Any:
    """The value at a point. `None` if it is not a finite number."""
    if expression is None:
        return None
    value = N(expression.subs({symbol: point[symbol.name] for symbol in expression.free_symbols}), digits)
    parts = value.as_real_imag()
    if not all(part.is_Number and part.is_finite for part in parts):
        return None
    parts = [Integer(0) if part.is_Float and part._prec < _NOISE else part for part in parts]
    return parts[0] + I * parts[1]
