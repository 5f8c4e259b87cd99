"""
Code that runs a piece of test code in the sandbox, in a process without the tested program. It is never imported.

What the program returned to earlier calls is given. At a call that has not been made yet, the code stops and asks for
it. The sandbox's bootstrap lends it what they share.
"""

import builtins
import sys
from types import ModuleType
from typing import Any

bootstrap: Any = sys.modules["__main__"]


class _Ask(BaseException):
    """Not an `Exception`, because tests catch those."""


class _Session:
    def __init__(self, answers):
        self.answers, self.calls, self.asks = answers, [], False
        self.failures, self.raised, self.namespace = [], [], {}

    def ask(self, target, name, arguments, named):
        number = len(self.calls)
        named = {key: bootstrap._encode(value) for key, value in named.items()}
        self.calls.append([target, name, bootstrap._encode(list(arguments)) if arguments is not None else None, named])
        if self.answers is None:
            return None  # as a function that does nothing
        if number == len(self.answers) or self.asks:
            self.asks = True
            raise _Ask
        import json

        answer = json.loads(self.answers[number])
        if "raised" in answer:
            raise self.exception(answer["raised"])
        if "object" in answer:
            return _Function(self, number, "__call__") if answer["object"] else _Object(self, number)
        return bootstrap._decode(answer["value"], self.namespace)

    def exception(self, names):
        """The closest built-in exception to the one that the program raised."""
        found = (getattr(builtins, name, None) for name in names)
        kinds = [kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception)]
        self.raised.append((kinds or [Exception])[0](f"{names[0]} in the program"))
        return self.raised[-1]

    def check(self, value):
        if not value:
            self.failures.append("an assertion failed")


class _Function:
    """Stands for a function of the program."""

    def __init__(self, session, target, name):
        self._session, self._target, self._name = session, target, name

    def __call__(self, *arguments, **named):
        return self._session.ask(self._target, self._name, arguments, named)

    def __eq__(self, other):
        if self._target is None:  # the test code compares something with a name that nobody defines
            raise NameError(self._name)
        return self is other


class _Object:
    """Stands for an object of the program that is not plain data. Only its attributes can be used."""

    def __init__(self, session, number):
        self._session, self._number = session, number

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self._session.ask(self._number, name, None, {})


class _Program(ModuleType):
    """Stands for the program as a module, or for its class `Solution`."""

    def __init__(self, session):
        super().__init__("solution")
        self._session = session

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Function(self._session, None, name)


def list_node(values):
    start = node = bootstrap.ListNode()
    for value in values:
        node.next = bootstrap.ListNode(value)
        node = node.next
    return start.next


def tree_node(values):
    """A tree from its values, level by level, with `None` for missing nodes."""
    nodes = [None if value is None else bootstrap.TreeNode(value) for value in values]
    children = iter(nodes[1:])
    for node in nodes:
        if node is not None:
            node.left, node.right = next(children, None), next(children, None)
    return nodes[0] if nodes else None


def is_same_list(one, other):
    while one is not None and other is not None:
        if one.val != other.val:
            return False
        one, other = one.next, other.next
    return one is other is None


def is_same_tree(one, other):
    if one is None or other is None:
        return one is other
    return one.val == other.val and is_same_tree(one.left, other.left) and is_same_tree(one.right, other.right)


def run(code, function, answers):
    session = _Session(answers)
    program = _Program(session)
    names = session.namespace
    names |= {
        "__name__": "check",
        "__assert__": session.check,
        "ListNode": bootstrap.ListNode,
        "TreeNode": bootstrap.TreeNode,
    }
    names |= {
        "list_node": list_node,
        "tree_node": tree_node,
        "is_same_list": is_same_list,
        "is_same_tree": is_same_tree,
    }
    bootstrap._provide_names(code, names)
    missing = {name for name in bootstrap._missing_names(code) if name not in names and not hasattr(builtins, name)}
    names |= {name: _Function(session, None, name) for name in {*missing, function, "candidate"}}
    names["candidate"]._name = function
    names["Solution"] = lambda: program
    sys.modules["solution"] = program
    try:
        exec(compile(code, "check", "exec"), names)
    except _Ask:
        pass
    except Exception as error:
        if isinstance(error, (NameError, ImportError)) and error not in session.raised:
            raise  # the test code itself is at fault
        session.failures.append(f"{type(error).__name__}: {error}"[:200])
    if session.asks:
        return {"calls": session.calls}
    passed = bool(session.calls) and not session.failures
    return {"passed": passed, "failures": session.failures[:1], "calls": len(session.calls)}
