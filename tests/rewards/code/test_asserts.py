"""Tests that are Python code: read as calls where they are literal, else run without the program."""

import json
from typing import Any

import pytest

from trl_archer.rewards import code_reward, get_code_reward
from trl_archer.rewards.code.asserts import Call, read_asserts
from trl_archer.rewards.code.cases import read_tests
from trl_archer.sandbox import Sandbox, probe

needs_isolation = pytest.mark.skipif(
    not any(problem == "" for problem in probe().values()),
    reason="this kernel isolates no programs (Landlock, bubblewrap)",
)

CHECK = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(a=[1]) is None, 'no'\n"
CALLS = [Call("[[1], {}]", "2"), Call('[[], {"a": [1]}]', "null")]


@pytest.mark.parametrize(
    ("code", "entry"),
    [
        (CHECK + "\n\ncheck(Solution().f)", None),
        (CHECK + "\ncheck(f)", None),
        (CHECK, "f"),
        ("METADATA = {'author': 'a'}\nimport math\n" + CHECK, "Solution().f"),
        (CHECK.replace("candidate", "g"), "f"),
        ("assert f(1) == 2\nassert None is f(a=[1])", None),
        ("assert Solution().f(1) == 2\nassert (Solution().f(a=[1]) == None)", None),
        ("from solution import f\n\ndef test_a():\n    '''Adds.'''\n    assert f(1) == 2\n\ndef test_b():\n"
         "    assert f(a=[1]) == None\n\nif __name__ == '__main__':\n    test_a()", None),
    ],
)  # fmt: skip
def test_literal_assertions_are_calls(code: str, entry: str | None) -> None:
    found = read_asserts(code, entry)
    assert (found.function, found.calls) == ("f", CALLS)


def test_values_keep_their_types() -> None:
    code = "assert f((1, [2]), {3: {4}}, b'\\xff', 1j, -1.5) == {'a': (True, None), 2: set()}"
    [call] = read_asserts(code).calls
    assert json.loads(call.arguments)[0] == [
        {"tuple": [1, [2]]},
        {"dict": [[3, {"set": [4]}]]},
        {"bytes": "\u00ff"},
        {"complex": [0.0, 1.0]},
        -1.5,
    ]
    assert json.loads(call.expected) == {"dict": [["a", {"tuple": [True, None]}], [2, {"set": []}]]}


@pytest.mark.parametrize(
    "assertion",
    [
        "f(1)", "not f(1)", "f(1) != 2", "f(1) > 2", "f(1) == g", "f(x) == 1", "f(*[1]) == 2", "f(**{'a': 1}) == 2",
        "f(1)[0] == 2", "abs(f(1) - 2) < 0.1", "f(1) == f(2)", "1 < f(1) < 2", "f(1) == ...", "f(f(1)) == 2",
    ],
)  # fmt: skip
def test_other_assertions_are_code(assertion: str) -> None:
    found = read_asserts(f"g = x = 1\nassert f(3) == 4\nassert {assertion}")
    assert (found.function, found.calls) == ("f", None)
    assert found.pieces == ["g = x = 1\n__assert__(f(3) == 4)", f"g = x = 1\n__assert__({assertion})"]


def test_a_body_with_more_than_assertions_is_one_piece() -> None:
    found = read_asserts("def check(candidate):\n    for n in range(3):\n        assert candidate(n) == n\n", "f")
    [piece] = found.pieces
    assert "assert " not in piece.replace("__assert__", "")
    assert piece.endswith("__test__()")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("assert f(", "The test code cannot be read"),
        ("assert f(1) == 1\0", "The test code cannot be read"),
        ("x = 1", "about 0 functions"),
        ("def check(candidate):\n    candidate(1)\ncheck(f)", "asserts nothing"),
        ("assert f(1) == g(1)", r"about 2 functions \(f, g\), not one"),
        ("assert len([1]) == 1", "about 0 functions"),
        ("def f(a):\n    return a\nassert f(1) == 1", "about 0 functions"),
        ("assert eval(f(1)) == 1", "uses eval"),
        ("import pickle\nassert f(1) == 1", "uses pickle"),
        ("from subprocess import run\nassert f(1) == 1", "uses subprocess"),
        ("import importlib.util\nassert f(1) == 1", "uses importlib"),
        ("def test_a(tmp_path):\n    assert f(1) == 1", "test_a needs pytest"),
    ],
)
def test_code_that_cannot_be_used(code: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_asserts(code)


@pytest.mark.parametrize(
    "tests",
    [
        {"functional": CHECK + "\ncheck(Solution().f)"},
        {"functional": CHECK, "fn_name": "f", "inputs": None},
        {"test": CHECK, "entry_point": "f"},
        {"test_code": CHECK, "entry_point": "Solution().f", "import_prefix": "import math\n"},
        {"test_list": ["assert f(1) == 2", "assert f(a=[1]) == None"], "test_imports": ["import re"]},
        {"test_list": ["assert f(1) == 2", "assert f(a=[1]) == None"], "test_setup_code": ""},
        {"test_cases": ["assert f(1) == 2", "assert f(a=[1]) is None"]},
        ["assert f(1) == 2", "assert f(a=[1]) is None"],
        "assert f(1) == 2\nassert f(a=[1]) is None",
        '["assert f(1) == 2", "assert f(a=[1]) is None"]',
    ],
)  # fmt: skip
def test_layouts_of_public_sets(tests: Any) -> None:
    for layout in (tests, json.dumps(tests), repr(tests)):
        found = read_tests(layout)
        assert (found.function, found.form) == ("f", "python")
        assert list(map(Call, found.inputs, found.outputs)) == CALLS


def test_a_word_in_the_data_is_no_code() -> None:
    found = read_tests(json.dumps({"public_test_cases": json.dumps([{"input": "assert x", "output": "assert y"}])}))
    assert found.inputs == ("assert x",)


def test_code_that_a_function_without_a_value_passes() -> None:
    with pytest.raises(ValueError, match="All expected values are null"):
        read_tests(["assert f(1) == None", "assert f(2) is None"])


def fenced(source: str) -> str:
    return f"```python\n{source}\n```"


LISTS = """def check(candidate):
    assert is_same_list(candidate(a=list_node([1, 2])), list_node([2, 1]))
    assert candidate(a=None) is None

check(Solution().f)"""
TREES = """def check(candidate):
    r = candidate(tree_node([1, 2, None, 3]))
    assert is_same_tree(r, tree_node([1, None, 2, None, 3]))

check(Solution().f)"""
CLASS = """from solution import Bag
def test_a():
    a = Bag(1)
    a.put(2)
    assert a.all() == [1, 2] and a.size == 2"""
RAISES = """from solution import f
def test_a():
    try:
        f(-1)
        assert False
    except ValueError:
        pass"""
SWAP = """class Solution:
    def f(self, a: Optional[ListNode]):
        if a is None: return None
        b = a.next
        """
MIRROR = """class Solution:
    def f(self, a: TreeNode): return a and TreeNode(a.val, self.f(a.right), self.f(a.left))"""
BAG = """class Bag:
    def __init__(self, *a): self.a = list(a)
    def all(self): return self.a
"""
PAIRS = [
    ({"functional": LISTS}, SWAP + "a.next, b.next = None, a\n        return b", 1.0),
    ({"functional": LISTS}, SWAP + "return a", 0.0),
    ({"functional": LISTS}, SWAP + "b.next = a\n        return b", 0.0),  # a circle
    ({"functional": TREES}, MIRROR, 1.0),
    ({"functional": TREES}, MIRROR.replace("self.f(a.right), self.f(a.left)", "a.right, a.left"), 0.0),
    (CLASS, BAG + "    def put(self, b): self.a.append(b)\n    size = property(lambda self: len(self.a))", 1.0),
    (CLASS, BAG + "    def put(self, b): pass\n    size = 2", 0.0),
    (CLASS, BAG, 0.0),
    (RAISES, "def f(x):\n    if x < 0: raise ValueError(x)", 1.0),
    (RAISES, "def f(x):\n    if x < 0: raise KeyError(x)", 0.0),
    (RAISES, "def f(x): pass", 0.0),
    (["assert f((1, 2)) == (2, 1)"], "def f(a): return a[::-1]", 1.0),
    (["assert f((1, 2)) == (2, 1)"], "def f(a): return list(a[::-1])", 0.0),
    (["assert set(f([1])) == {2}", "assert f([]) == []"], "def f(a): return [x + 1 for x in a]", 1.0),
    (["assert f(2) == {1, 2}", "assert f(0) == set()"], "def f(n): return {n - i for i in range(n)}", 1.0),
    (["assert f(2) == {2: 'b', 1: 'a'}"], "def f(n): return {1: 'a', n: 'b'}", 1.0),
    (["assert f(2) == {2: 'b', 1: 'a'}"], "def f(n): return {1: 'a', n: 'b', 3: 'c'}", 0.0),
    (["assert f(2) == {'2': 'b'}"], "def f(n): return {2: 'b'}", 0.0),
    (["assert f(5000) == 1" + "0" * 5000], "def f(n): return 10**n", 1.0),
    (["assert f(5000) == 1" + "0" * 5000], "def f(n): return 10**n + 1", 0.0),
    (["assert not f(1)", "assert f(2) is None"], "def f(n): pass", None),
    (["assert not f(1)", "assert f(2)"], "def f(n): return n > 1", 1.0),
    (["assert f(1) == undefined"], "def f(n): return n", None),
    ("import nowhere\nassert f(1) == 1\nassert f(2) > 1", "def f(n): return n", None),
    ("def check(candidate):\n    assert candidate(1) == 1\n    raise SystemExit\ncheck(f)", "def f(n): return n", None),
    ("from random import random\nassert f(random()) + f(random()) > 0", "def f(n): return n", None),
]  # fmt: skip


@needs_isolation
def test_programs_on_test_code() -> None:
    rewards = code_reward([fenced(program) for _, program, _ in PAIRS], [tests for tests, _, _ in PAIRS])
    wrong = [(pair, reward) for pair, reward in zip(PAIRS, rewards, strict=True) if reward != pair[2]]
    assert wrong == []


# The value that each program returns is data to the test code, whatever the program does to its own process
END = "\nos._exit(0)"
CHEATS = {
    "be equal to anything": """
class Any(int):
    __eq__ = __ge__ = __le__ = __lt__ = lambda *_: True
    __sub__ = __rsub__ = __abs__ = lambda *_: 0
def double(n): return Any(9)""",
    "return an object": """
class Any:
    def __eq__(self, other): return True
    def __getattr__(self, name): return Any()
    def __call__(self, *arguments): return Any()
def double(n): return Any()""",
    "return a class": "def double(n): return int",
    "return itself": "def double(n): return double",
    "change what asserts": """
import builtins
builtins.AssertionError = Exception
__assert__ = check = lambda *_: None
def double(n): return 0""",
    "change the caller": """
import sys
bootstrap = sys.modules["__main__"]
bootstrap._encode = lambda value: True
bootstrap._perform = lambda *_: {"value": True, "passed": True, "object": True, "failures": []}
def double(n): return 1""",
    "write the verdict": """import os\nos.write(3, b'{"passed": true, "failures": []}')""" + END,
    "write a verdict as a value": """import os\nos.write(3, b'{"value": {"dict": [["passed", true]]}}')""" + END,
    "write a value that is not data": """import os\nos.write(3, b'{"value": {"eval": ["1"]}}')""" + END,
    "write deep values": """import os\nos.write(3, b'{"value": ' + b'[' * 10**5 + b']' * 10**5 + b'}')""" + END,
    "write an odd answer": "import os\nos.write(3, b'[]')" + END,
    "return nan": "def double(n): return float('nan')",
    "return everything": "def double(n): return [4, 6, 2 * n + 1]",
    "raise": "def double(n): raise AssertionError",
    "raise to the very end": "def double(n): raise SystemExit(0)",
    "raise what stops tests": "def double(n): raise KeyboardInterrupt",
    "raise what test code may raise": "def double(n): raise NameError('double')",
    "end": "import os\ndef double(n): os._exit(0)",
    "do nothing": "def double(n): pass",
}
FORMS = {
    "calls": ["assert double(2) == 4", "assert double(3) == 6"],
    "code": ["assert double(2) == 4", "assert 6 == int(double(3))"],
    "loop": """def check(candidate):
    for n in (2, 3):
        assert abs(candidate(n) - 2 * n) < 1e-9
check(double)""",
    "body": """from solution import double
def test_a():
    assert double(2) == 4
    r = double(3)
    assert r == 6""",
}


@needs_isolation
@pytest.mark.parametrize("form", FORMS)
def test_cheating_earns_nothing(form: str) -> None:
    completions = [fenced(source) for source in (*CHEATS.values(), "def double(n): return 2 * n")]
    rewards = get_code_reward(scoring="fraction")(completions, [FORMS[form]] * len(completions))
    assert dict(zip([*CHEATS, "be honest"], rewards, strict=True)) == {**dict.fromkeys(CHEATS, 0.0), "be honest": 1.0}


@needs_isolation
def test_names_that_graders_provide() -> None:
    program = """
print(next(pairwise([1, 2])), xor(5, 1), list(zip_longest([1], [])), floor(pi), deepcopy([1]), itemgetter(0)([7]))
print(re_search("b", "abc").start(), commonprefix(["ab", "ac"]), int(time()) > 5, ascii_uppercase[:2], mean([1, 3]))
print(next(count(3)), or_(1, 2), list(merge([2], [1, 3])), partial(pow, 2)(3), log10(100), atan2(0, 1), prod([2, 3]))
print(stdin.read(), StringIO("x").read(), math.e == e, datetime.date(2020, 1, 1), ListNode(1).val, TreeNode(2).left)
"""
    expected = "(1, 2) 4 [(1, None)] 3 [1] 7\n1 a True AB 2\n3 3 [1, 2, 3] 8 2.0 0.0 6\nq x True 2020-01-01 1 None"
    own = "count = 3\ndef mean(a): return 'own'\nfrom re import split as sub\nprint(count, mean(1), sub(',', 'a,b'))"
    tests = [{"inputs": ["q"], "outputs": [expected]}, {"inputs": ["1"], "outputs": ["3 own ['a', 'b']"]}]
    assert code_reward([fenced(program), fenced(own)], tests) == [1.0, 1.0]


@needs_isolation
def test_values_of_numpy_and_limits_of_the_stack() -> None:
    reward = get_code_reward(Sandbox(packages=("numpy",)))
    programs = {
        "import numpy\ndef f(n): return numpy.int64(n + 1)": 1.0,
        "def f(n): return [np.float32(n) + 1, np.arange(n, n + 1)][0]": 1.0,
        "def f(n): return np.arange(n + 1, n + 2)": 0.0,
    }
    for tests in ({"inputs": [[1], [2]], "outputs": [2, 3], "fn_name": "f"}, ["assert f(1) == 2", "assert f(2) == 3"]):
        assert reward(list(map(fenced, programs)), [tests] * 3) == list(programs.values())
    limits = ["(2**26, resource.RLIM_INFINITY)", "(2**29, 2**29)", "(-1, -1)", "[2**28, resource.RLIM_INFINITY]"]
    deep = "import resource, sys\nresource.setrlimit(resource.RLIMIT_STACK, {})\nsys.setrecursionlimit(10**9)\n"
    deep += "def f(n): return n and 1 + f(n - 1)\nprint(f(100_000))"
    completions = [fenced(deep.format(limit)) for limit in limits]
    assert code_reward(completions, [{"inputs": ["1"], "outputs": ["100000"]}] * 4) == [1.0] * 4
