"""
Pairs of math_pairs.py on which TRL's `accuracy_reward` disagrees, with its verdict and the reason.

TRL gets a bare gold answer in a box. It gets each of several gold answers separately, and its best verdict counts.
"""

# (verdict of TRL, reason) -> (gold, answer)
DISAGREEMENTS: dict[tuple[bool | None, str], list[tuple[str | tuple[str, ...], str]]] = {
    (False, "it does not read a trailing period or full-width digits"): [
        ("5", "5."),
        ("5", "６−１"),
    ],
    (False, "it does not read spaces in numbers, and reads a list of hundreds as one number"): [
        ("1234", "1\\,234"),
        ("100,200,300", "100, 200, 300"),
    ],
    (False, "it does not read \\frac12 in all forms, mixed numbers or the character ½, and scores against 1/0"): [
        ("\\frac{1}{2}", "\\frac12"),
        ("\\frac{1}{2}", "\\tfrac 1 2"),
        ("\\frac{1}{2}", "½"),
        ("2\\frac{1}{2}", "2 1/2"),
        ("\\frac{1}{0}", "5"),
    ],
    (False, "it does not read a comma in braces"): [
        ("0{,}5", "0.5"),
    ],
    (True, "it compares a fixed number of decimals, so all small numbers are zero"): [
        ("10^{-7}", "0.0"),
        ("10^{-7}\\sqrt{2}", "0.0"),
        ("\\frac{1}{2^{99}}", "\\frac{1}{2^{98}}"),
        ("10^{-20}\\sqrt{2}", "10^{-20}\\sqrt{3}"),
        ("\\frac{1}{2004!}", "\\frac{1}{2006!}"),
    ],
    (False, "it does not read 1.2e5"): [
        ("120000", "1.2e5"),
    ],
    (True, "it drops million as if it were a unit"): [
        ("5 \\text{ million}", "5"),
    ],
    (True, "it treats 1 % as 1, and dollars as percent"): [
        ("1", "1\\%"),
        ("50\\%", "\\$50"),
    ],
    (False, "it allows a missing percent sign on one side only, and does not read mixed numbers of percent"): [
        ("12.5", "12.5\\%"),
        ("0.5\\%", "0.5"),
        ("33\\frac{1}{3}\\%", "\\frac{100}{3}\\%"),
    ],
    (True, "it drops units, and letters that could be units, instead of comparing them"): [
        ("5 \\text{ cm}", "5 \\text{ m}"),
        ("36 \\text{ cm}^2", "36 \\text{ cm}^3"),
        ("60 \\text{ mph}", "60 \\text{ km/h}"),
        ("3", "3 \\text{ or more}"),
        ("5", "5 \\text{ million}"),
        ("5t", "5c"),
        ("3x+2c", "3x+2d"),
        ("5m", "5"),
        ("3 \\text{ p.m.}", "3 \\text{ a.m.}"),
    ],
    (True, "it treats cents as dollars"): [
        ("\\$5", "5 \\text{ cents}"),
    ],
    (False, "it knows only the dollar"): [
        ("€5", "5"),
    ],
    (False, "it does not read the degree sign or degrees in a sine"): [
        ("90^{\\circ}", "90°"),
        ("\\frac{1}{2}", "\\sin 30^\\circ"),
    ],
    (False, "it does not read pi without a backslash"): [
        ("2\\pi", "2pi"),
    ],
    (False, "it does not read the root sign, sqrt(), or \\sqrt 2 in a fraction"): [
        ("\\sqrt{3}", "√3"),
        ("\\sqrt{3}", "sqrt(3)"),
        ("\\frac{1}{\\sqrt 2}", "\\frac{\\sqrt2}{2}"),
    ],
    (True, "it takes the last side of any equation, and values without their names"): [
        ("5", "3=5"),
        ("5", "6=5"),
        ("x=1, y=2", "(2,1)"),
        ("x=1, y=2", "2, 1"),
    ],
    (True, "it treats lists as sets, so repeated elements are lost"): [
        ("1, 1, 2", "1, 2"),
    ],
    (False, "it compares lists of irrational numbers in order, and does not read thousands in lists"): [
        ("\\frac12, \\sqrt{2}", "\\sqrt2, 0.5"),
        ("\\sqrt{8}, \\sqrt{2}", "\\sqrt2, 2\\sqrt2"),
        ("1,234; 5,678", "5678, 1234"),
    ],
    (True, "it treats sets as points"): [
        ("\\{1,2\\}", "(1,2)"),
        ("(1,2)", "\\{1,2\\}"),
    ],
    (False, "it does not read other symbols for the empty set"): [
        ("\\emptyset", "\\varnothing"),
    ],
    (False, "it does not read angle brackets"): [
        ("(3,4,5)", "\\langle 3,4,5\\rangle"),
    ],
    (False, "it does not read intervals written as inequalities, or compare endpoints by value"): [
        ("(5,\\infty)", "x>5"),
        ("(-\\infty,1)\\cup(2,\\infty)", "x<1 \\text{ or } x>2"),
        ("\\{x | x>2\\}", "(2,\\infty)"),
        ("[0.5,1]", "[\\frac12,1]"),
    ],
    (False, "it does not treat a point as a column, or compare entries by value"): [
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "(1,2)"),
        ("\\begin{pmatrix}\\sqrt8\\\\0\\end{pmatrix}", "\\begin{pmatrix}2\\sqrt2\\\\0\\end{pmatrix}"),
    ],
    (False, "it does not read a letter with a bracket or period, or the content next to it"): [
        ("(B)", "B."),
        ("B", "(B) 12"),
        ("\\textbf{(B)}\\ 12", "B"),
        ("\\textbf{(B)}\\ 12", "12"),
        ("12", "\\textbf{(B)}\\ 12"),
    ],
    (True, "it multiplies the letters of a word"): [
        ("east", "seat"),
    ],
    (False, "it compares words letter by letter, ignoring lists and hyphens"): [
        ("\\text{Alice and Bob}", "Bob and Alice"),
        ("\\text{right triangle}", "right-triangle"),
    ],
    (True, "it reads times as ratios"): [
        ("6:15", "12:30"),
    ],
    (True, "it drops the base of a numeral"): [
        ("101_2", "101_3"),
    ],
    (True, "it finds the right answer among several"): [
        ("6", "\\boxed{5 \\text{ or } \\boxed{6}}"),
        ("5", "5 \\approx 6"),
        ("5", "5 \\text{ (or 6)}"),
    ],
    (False, "it reads the letters of a sentence as a product, so it scores against unreadable golds"): [
        ("\\frac{1}{", "5"),
        (("\\frac{1}{", ""), "7"),
        ("All primes p > 3 such that p divides n", "3"),
        ("See the proof above.", "5"),
        ("1, 2, \\ldots, n", "1, 3, 5, \\ldots, 2n-1"),
        ("The answer is 5 because 2+3 is 5", "5"),
        ("\\cos t = 0 when t = \\frac{\\pi}{2} for any integer k", "0"),
    ],
    (True, "it reads the start of a sentence and drops its condition"): [
        ("5 \\text{ if } n \\text{ is even}", "5"),
    ],
    (False, "it reads an indexed E as a number, and T and t as different variables even if one value is asked for"): [
        ("E_1+E_2", "E_2+E_1"),
        ("T=4\\sqrt{2}", "t=4\\sqrt 2"),
    ],
    (True, "it ignores the case of variables"): [
        ("\\frac{N}{2}", "\\frac{n}{2}"),
    ],
    (True, "it accepts any true equation without variables for any other"): [
        ("2^5=32", "1=1"),
        ("2^5=32", "2^4=16"),
    ],
}
