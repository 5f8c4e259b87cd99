"""
Tests that are Python code: assertions about a function, and functions that check one.

Assertions such as `assert f(1, b=[2]) == 3` are read as calls and expected values. Other code is cut into pieces that
[`judge`][trl_archer.rewards.code.judge.judge] runs in a process without the program.
"""

import ast
import builtins
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

# Test code that executes text could execute what a program returns
_FORBIDDEN = {"eval", "exec", "compile", "__import__", "pickle", "marshal", "subprocess", "importlib", "ctypes"}
_TESTED_MODULE = "solution"  # KodCode imports functions from there


class Call(NamedTuple):
    """Arguments, plain and named, and the value that the tested function should return for them, as typed JSON."""

    arguments: str
    expected: str


class Asserts(NamedTuple):
    """What test code asserts about a function."""

    function: str
    calls: list[Call] | None  # `None` if the code does more than that
    pieces: list[str]  # else the same as code, in pieces that stand for themselves and call `__assert__`


def read_asserts(code: str, entry: str | None = None) -> Asserts:
    """
    Reads test code. `entry` is the tested function, such as `f` or `Solution().f`. Without it, the code has to tell by
    calling its check function, by an import from `solution`, or by asserting about a single function.

    Raises:
        ValueError: If it is not Python code, asserts nothing, does not name its function, or executes text.
    """
    try:
        tree = ast.parse(code)
        named = _name_of(ast.parse(entry, mode="eval").body) if entry else None
    except (SyntaxError, ValueError, MemoryError) as error:
        raise ValueError(f"The test code cannot be read: {error}") from None
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.name.partition(".")[0] for alias in node.names}
            names.add((getattr(node, "module", None) or "").partition(".")[0])
    if names & _FORBIDDEN:
        raise ValueError(f"The test code uses {', '.join(sorted(names & _FORBIDDEN))}, which could run what it tests.")

    setup, bodies = _split(tree)
    checked = next((node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_check(node)), None)
    function = named or (_name_of(checked.args[0]) if checked else None) or _tested(tree)
    parts = [(alias, statements) for alias, body in bodies for statements in _pieces(body)]
    if not any(isinstance(node, ast.Assert) for _, statements in parts for top in statements for node in ast.walk(top)):
        raise ValueError("The test code asserts nothing.")
    calls = [_call(statements, {function, alias}) for alias, statements in parts]
    literal = [call for call in calls if call is not None]
    if len(literal) == len(calls):
        return Asserts(function, literal, [])
    pieces = []
    for alias, statements in parts:
        start = ast.parse(f"{alias} = candidate").body if alias else []
        module = ast.Module([*setup, *start, *statements], type_ignores=[])
        pieces.append(ast.unparse(ast.fix_missing_locations(_Continue().visit(module))))
    return Asserts(function, None, pieces)


class _Continue(ast.NodeTransformer):
    """Replaces assertions by calls that go on after a failure: being called again must not tell a program anything."""

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        call = ast.Call(ast.Name("__assert__", ast.Load()), [node.test], [])
        return ast.copy_location(ast.Expr(call), node)


def _split(tree: ast.Module) -> tuple[list[ast.stmt], list[tuple[str, list[ast.stmt]]]]:
    """The statements that prepare the tests, and the bodies of tests with the name that each has for the function."""
    setup: list[ast.stmt] = []
    bodies: list[tuple[str, list[ast.stmt]]] = []
    asserts: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == "check" and len(node.args.args) == 1:
            bodies.append((node.args.args[0].arg, node.body))
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            if node.args.args or node.decorator_list:
                raise ValueError(f"The test function {node.name} needs pytest, which is not there.")
            bodies.append(("", node.body))
        elif isinstance(node, ast.Assert):
            asserts.append(node)
        elif not _starts_tests(node):
            setup.append(node)
    return setup, [*bodies, *([("", asserts)] if asserts else [])]


def _pieces(body: Sequence[ast.stmt]) -> Iterator[list[ast.stmt]]:
    """Each assertion alone if there is nothing else, or all of the body."""
    told = [node for node in body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    told = [node for node in told if not isinstance(node, ast.Pass)]
    if all(isinstance(node, ast.Assert) for node in told):
        yield from ([node] for node in told)
    else:
        yield [ast.FunctionDef("__test__", ast.arguments([], [], None, [], [], None, []), list(told), []),
               *ast.parse("__test__()").body]  # fmt: skip


def _starts_tests(node: ast.stmt) -> bool:
    """Whether a statement calls the check function, or is for a script."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return _is_check(node.value)
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


def _is_check(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "check" and len(node.args) == 1


def _name_of(node: ast.expr | None) -> str | None:
    """The function's name in `f`, `Solution.f` or `Solution().f`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) and node.id != "candidate" else None


def _tested(tree: ast.Module) -> str:
    imported = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == _TESTED_MODULE
        for alias in node.names
    ]
    if imported:
        return imported[0]
    known = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)} | {"check"}
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    known |= {alias.asname or alias.name for node in imports for alias in node.names}
    known |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    found = {
        _called(call.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
        for call in ast.walk(node.test)
        if isinstance(call, ast.Call)
    }
    names = [name for name in found if name and name not in known | {"Solution"} and not hasattr(builtins, name)]
    if len(names) != 1:
        raise ValueError(
            f"The test code asserts something about {len(names)} functions ({', '.join(sorted(names))[:80]}), not one. "
            "Name the function in 'fn_name' or 'entry_point'."
        )
    return names[0]


def _called(node: ast.expr) -> str | None:
    """The function in `f(...)` or `Solution().f(...)`."""
    if isinstance(node, ast.Attribute):
        return node.attr if ast.unparse(node.value) == "Solution()" else None
    return node.id if isinstance(node, ast.Name) else None


def _call(statements: list[ast.stmt], names: set[str]) -> Call | None:
    """The call and the expected value of a single assertion, if both are literal."""
    if len(statements) != 1 or not isinstance(statements[0], ast.Assert):
        return None
    test = statements[0].test
    if not (isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq | ast.Is)):
        return None
    for call, expected in ((test.left, test.comparators[0]), (test.comparators[0], test.left)):
        if isinstance(call, ast.Call) and _called(call.func) in names:
            try:
                arguments = [_encoded(node) for node in call.args]
                named = {word.arg: _encoded(word.value) for word in call.keywords if word.arg}
                if len(named) == len(call.keywords):
                    return Call(json.dumps([arguments, named]), json.dumps(_encoded(expected)))
            except (ValueError, TypeError, MemoryError):
                return None
    return None


def _encoded(node: ast.expr) -> Any:
    """A literal in the encoding of the sandbox's bootstrap."""
    return encode(ast.literal_eval(node))


def encode(value: Any) -> Any:
    """A literal value as JSON that keeps Python's types, as the sandbox's bootstrap does."""
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, tuple | set):
        return {type(value).__name__: [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, bytes):
        return {"bytes": value.decode("latin-1")}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if value is Ellipsis:
        raise TypeError("an ellipsis is no value")
    return value
