"""
Pairs of math_pairs.py on which TRL's `accuracy_reward` says something else, what it says, and why ours differs.

TRL gets the gold answer boxed if it is bare; of several gold answers each by itself, and the best verdict counts.
"""

# (what TRL says, why ours differs) -> (gold, answer)
DISAGREEMENTS: dict[tuple[bool | None, str], list[tuple[str | tuple[str, ...], str]]] = {
    (False, "it does not read a trailing point and full-width digits"): [
        ("5", "5."),
        ("5", "６−１"),
    ],
    (False, "it does not read spaces in numbers, and takes a list of hundreds for one number"): [
        ("1234", "1\\,234"),
        ("12 345", "12345"),
        ("100,200,300", "100, 200, 300"),
    ],
    (False, "it does not read \\frac12 in full, mixed numbers, the sign 1/2 and repeating decimals; 1/0 is no gold"): [
        ("\\frac{1}{2}", "\\frac12"),
        ("\\frac{1}{2}", "\\tfrac 1 2"),
        ("\\frac{1}{2}", "½"),
        ("2\\frac{1}{2}", "2 1/2"),
        ("0.\\overline{3}", "\\frac{1}{3}"),
        ("0.1\\overline{6}", "1/6"),
        ("\\frac{1}{0}", "5"),
    ],
    (False, "it does not read a comma in braces"): [
        ("0{,}5", "0.5"),
    ],
    (True, "it compares to a number of decimals, in which all small numbers are zero"): [
        ("10^{-7}", "0.0"),
        ("10^{-7}\\sqrt{2}", "0.0"),
        ("\\frac{1}{2^{99}}", "\\frac{1}{2^{98}}"),
        ("10^{-20}\\sqrt{2}", "10^{-20}\\sqrt{3}"),
        ("\\frac{1}{2004!}", "\\frac{1}{2006!}"),
    ],
    (False, "it does not read 1.2e5 and million"): [
        ("120000", "1.2e5"),
        ("5 \\text{ million}", "5,000,000"),
    ],
    (True, "it drops million as if it were a unit"): [
        ("5 \\text{ million}", "5"),
    ],
    (True, "it takes 1 % for 1, and dollars for percent"): [
        ("1", "1\\%"),
        ("50\\%", "\\$50"),
    ],
    (False, "it lets the sign be left out on one side only, and does not read mixed numbers of percent"): [
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
    (True, "it takes cents for dollars"): [
        ("\\$5", "5 \\text{ cents}"),
    ],
    (False, "it knows the dollar only"): [
        ("€5", "5"),
    ],
    (False, "it does not read the sign of degrees, nor degrees in a sine"): [
        ("90^{\\circ}", "90°"),
        ("\\frac{1}{2}", "\\sin 30^\\circ"),
    ],
    (False, "it does not read pi without a backslash"): [
        ("2\\pi", "2pi"),
    ],
    (False, "it does not read the root sign and sqrt(), and not \\sqrt 2 in a fraction"): [
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
    (True, "it takes lists for sets, so that how often an element occurs is lost"): [
        ("1, 1, 2", "1, 2"),
    ],
    (False, "it keeps lists of irrational numbers in order, and does not read thousands in lists"): [
        ("\\frac12, \\sqrt{2}", "\\sqrt2, 0.5"),
        ("\\sqrt{8}, \\sqrt{2}", "\\sqrt2, 2\\sqrt2"),
        ("1,234; 5,678", "5678, 1234"),
    ],
    (True, "it takes sets for points"): [
        ("\\{1,2\\}", "(1,2)"),
        ("(1,2)", "\\{1,2\\}"),
    ],
    (False, "it does not read other signs and words for the empty set, and sets by what they leave out"): [
        ("\\emptyset", "\\varnothing"),
        ("\\emptyset", "\\text{no solution}"),
        ("\\mathbb{R}\\setminus\\{0\\}", "x \\ne 0"),
    ],
    (False, "it does not read angle brackets and named points"): [
        ("(3,4,5)", "\\langle 3,4,5\\rangle"),
        ("(1, 2)", "A(1, 2)"),
    ],
    (False, "it does not read intervals written as inequalities, nor compares their ends by value"): [
        ("(5,\\infty)", "x>5"),
        ("(-\\infty,1)\\cup(2,\\infty)", "x<1 \\text{ or } x>2"),
        ("\\{x | x>2\\}", "(2,\\infty)"),
        ("[0.5,1]", "[\\frac12,1]"),
    ],
    (False, "it does not take a point for a column, nor compares entries by value"): [
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "(1,2)"),
        ("\\begin{pmatrix}\\sqrt8\\\\0\\end{pmatrix}", "\\begin{pmatrix}2\\sqrt2\\\\0\\end{pmatrix}"),
    ],
    (False, "it does not read a letter with a bracket, a point, or what stands beside it"): [
        ("(B)", "B."),
        ("B", "(B) 12"),
        ("\\textbf{(B)}\\ 12", "B"),
        ("\\textbf{(B)}\\ 12", "12"),
        ("12", "\\textbf{(B)}\\ 12"),
    ],
    (True, "it multiplies the letters of a word"): [
        ("east", "seat"),
    ],
    (False, "it compares words letter by letter, with no regard to order in a list, hyphens or plurals"): [
        ("\\text{Alice and Bob}", "Bob and Alice"),
        ("\\text{right triangle}", "right-triangle"),
        ("\\text{No solution}", "\\text{no solutions}"),
    ],
    (False, "it does not reduce ratios of three terms"): [
        ("3:4:5", "6:8:10"),
    ],
    (True, "it drops the base of a numeral"): [
        ("101_2", "101_3"),
    ],
    (True, "it finds the right answer among several"): [
        ("6", "\\boxed{5 \\text{ or } \\boxed{6}}"),
        ("5", "5 \\approx 6"),
        ("5", "5 \\text{ (or 6)}"),
    ],
    (False, "it takes the letters of a sentence for a product, where there is nothing to score"): [
        ("\\frac{1}{", "5"),
        (("\\frac{1}{", ""), "7"),
        ("All primes p > 3 such that p divides n", "3"),
        ("See the proof above.", "5"),
        ("1, 2, \\ldots, n", "1, 3, 5, \\ldots, 2n-1"),
        ("k\\pi, k \\in \\mathbb{Z}", "0"),
        ("The answer is 5 because 2+3 is 5", "5"),
        ("\\cos t = 0 when t = \\frac{\\pi}{2} for any integer k", "0"),
    ],
    (True, "it reads the start of a sentence and drops its condition"): [
        ("5 \\text{ if } n \\text{ is even}", "5"),
    ],
    (False, "it takes an indexed E for a number, and T and t for two variables where one value is asked for"): [
        ("E_1+E_2", "E_2+E_1"),
        ("T=4\\sqrt{2}", "t=4\\sqrt 2"),
    ],
    (False, "it does not read what stands beside \\approx"): [
        ("\\sqrt{2} \\approx 1.414", "1.414"),
        ("2.35", "\\frac{40}{17} \\approx 2.35"),
    ],
    (True, "it does not tell capitals from small letters"): [
        ("\\frac{N}{2}", "\\frac{n}{2}"),
    ],
    (True, "it takes any true equation without variables for any other"): [
        ("2^5=32", "1=1"),
        ("2^5=32", "2^4=16"),
    ],
}
