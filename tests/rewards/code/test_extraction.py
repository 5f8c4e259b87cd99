"""Extraction of the submitted program."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trl_archer.rewards.code.extraction import extract_program, opens_program

TICKS = "```"


def fenced(program: str, label: str = "python", fence: str = TICKS) -> str:
    return f"{fence}{label}\n{program}\n{fence}\n"


@pytest.mark.parametrize("label", ["python", "py", "python3", "Python", "PY", "", " python", "python title=a.py", " "])
@pytest.mark.parametrize("fence", [TICKS, "````", "~~~", "~~~~~~"])
def test_labels_and_fences(label: str, fence: str) -> None:
    assert extract_program(f"Here it is:\n\n{fenced('print(1)', label, fence)}Done.") == "print(1)"


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        # Which of several blocks
        (fenced("a = 1") + fenced("b = 2"), "b = 2"),
        (fenced("a = 1") + "It prints\n" + fenced("5", ""), "a = 1"),
        (fenced("a = 1", "") + fenced("b = 2", "py") + fenced("c = 3", ""), "b = 2"),
        (fenced("a = 1", "") + fenced("b = 2", ""), "b = 2"),
        (fenced("a = 1") + fenced("int a;", "cpp"), "a = 1"),
        (fenced("a = 1", "") + fenced("ls", "bash"), "a = 1"),
        (fenced("int a;", "cpp"), None),
        (fenced("a = 1", "python2"), None),
        (fenced("a = 1", "pythonic"), None),
        # None at all
        ("", None),
        ("print(1)", None),
        ("Use `print(1)`.", None),
        (f"{TICKS}python print(1){TICKS}", None),
        (fenced(""), None),
        (fenced("  \n\t\n"), None),
        (fenced("a = 1") + fenced(""), None),
        (fenced("a = '\ud800'"), None),
        # Cut off
        (f"{TICKS}python\nprint(1)", None),
        (f"{TICKS}python", None),
        (fenced("draft = 1") + f"{TICKS}python\nprint(", None),
        (fenced("draft = 1") + f"{TICKS}\nprint(", "draft = 1"),
        (fenced("draft = 1", "") + f"{TICKS}\nprint(", None),
        (fenced("draft = 1") + f"{TICKS}cpp\nint", "draft = 1"),
        (fenced("draft = 1", "") + f"{TICKS}python\nprint(", None),
        (f"````python\nprint(1)\n{TICKS}", None),
        (f"~~~python\nprint(1)\n{TICKS}", None),
        # Reasoning
        (f"<think>\n{fenced('draft = 1')}</think>\n{fenced('final = 2')}", "final = 2"),
        (f"{fenced('draft = 1')}</think>\nNo idea.", None),
        (f"<think>\n{fenced('draft = 1')}", None),
        (f"{TICKS}python\ndraft = 1\n</think>\n{fenced('final = 2')}", "final = 2"),
        # Lines and indentation
        (fenced("if a:\r\n    b = 1").replace("\n", "\r\n").replace("\r\r", "\r"), "if a:\n    b = 1"),
        ("1. First\n\n   ```python\n   if a:\n       b = 1\n   ```\n", "if a:\n    b = 1"),
        ("1. First\n\n      ```python\n      if a:\n\n          b = 1\n      ```\n", "if a:\n\n    b = 1"),
        ("\t```python\n\tif a:\n\t\tb = 1\n\t```", "if a:\n\tb = 1"),
        ("   ```python\nif a:\n  b = 1\n```", "if a:\nb = 1"),
        (fenced("  a = 1"), "  a = 1"),
        (fenced("a = 1\n\n"), "a = 1\n\n"),
        (fenced("a = '\f'\nb = '\u2028'"), "a = '\f'\nb = '\u2028'"),
        # Fences as models write them
        (f"The code: {TICKS}python\nprint(1)\n{TICKS}\n", "print(1)"),
        (f"<answer>{TICKS}python\nprint(1)\n{TICKS}</answer>", "print(1)"),
        (f"\\boxed{{{TICKS}py\nprint(1)\n{TICKS}}}.", "print(1)"),
        (f"1. {TICKS}python\nprint(1)\n{TICKS} </answer> ", "print(1)"),
        (f"{TICKS}python\nprint(2){TICKS}\nand\n{TICKS}python\nprint('3'){TICKS}</answer>", "print('3')"),
        (f"{TICKS}python\ns = '''\ncode{TICKS}'''\n{TICKS}", f"s = '''\ncode{TICKS}'''"),
        (f"{TICKS}python\ns = '{TICKS}\n{TICKS}", f"s = '{TICKS}"),
        (f"{TICKS}python\n# {TICKS}\nprint(1)\n{TICKS}", f"# {TICKS}\nprint(1)"),
        (f"Say {TICKS}print(1){TICKS} or {TICKS}\nnothing", None),
        (f"Say: {TICKS}cpp\nint a;\n{TICKS}", "Say: ```cpp\nint a;"),  # as good as none
        *((fenced("a = 1", label), "a = 1")
          for label in ("python3.11", "{.python}", "{python}", "python:main.py", "Python 3", "py3", "python,ignore")),
        *((fenced("a = 1", label), None) for label in ("c++", "cpython", "{.cpp}", "python2.7", "pyrex")),
        (f"print(1)\n{TICKS}", "print(1)"),
        (f"print(1)\n{TICKS}\nIt prints 1.", "print(1)"),
        (f"print(1)\n{TICKS}\nIt prints\n{TICKS}\n1\n{TICKS}", "print(1)"),
        # Fences within
        (fenced(f"s = '''\n{TICKS}\n'''", fence="````"), f"s = '''\n{TICKS}\n'''"),
        (fenced(f"s = '''\n~~~\n{TICKS} {TICKS}\n'''"), f"s = '''\n~~~\n{TICKS} {TICKS}\n'''"),
        (fenced(f'def f():\n    """\n    {TICKS}\n    f()\n    {TICKS}\n    """'),
         f'def f():\n    """\n    {TICKS}\n    f()\n    {TICKS}\n    """'),
        (fenced(f"{TICKS}python\na = 1"), f"{TICKS}python\na = 1"),
        ("```python\na = 1\n   `````  \n", "a = 1"),
        ("```python\na = 1\n\t```\n```\n", "a = 1\n\t```"),
        (f"{TICKS}x{TICKS} is code.\n" + fenced("a = 1"), "a = 1"),
        (fenced("# Markdown\n```python\na = 1\n```\n", "markdown", "~~~"), None),
    ],
)  # fmt: skip
def test_extraction(completion: str, program: str | None) -> None:
    assert extract_program(completion) == program


PIECES = st.sampled_from(
    [
        "```",
        "~~~",
        "````",
        "python",
        "\n",
        "\r\n",
        " ",
        "\t",
        "a = 1",
        "</think>",
        "<think>",
        "`",
        "cpp",
        "\x00",
        "\ud800",
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
@example("```python\n" * 3)
@settings(max_examples=300, deadline=None)
def test_programs_consist_of_lines_of_the_completion(completion: str) -> None:
    program = extract_program(completion)
    if program is not None:
        assert program.strip()
        assert "<think>" not in completion or "</think>" in completion
        assert all(line.strip() in completion for line in program.split("\n"))


@pytest.mark.parametrize(
    ("prompt", "is_open"),
    [
        (f"Solve it.\n{TICKS}python\n", True),
        (f"Solve it.\n{TICKS}python", True),
        ([{"role": "user", "content": "Solve it."}, {"role": "assistant", "content": f"Here:\n{TICKS}python\n"}], True),
        (f"Solve it.\n{TICKS}python\nprint(1)\n{TICKS}\n", False),
        (f"Use {TICKS}python ... {TICKS}", False),
        (f"{TICKS}python\nprint(1)\n{TICKS}\n{TICKS}", False),
        ("Solve it.", False),
        ("", False),
        ([], False),
        (None, False),
    ],
)
def test_a_fence_that_the_prompt_opens(prompt: object, is_open: bool) -> None:
    assert opens_program(prompt) is is_open
    completion = f"print(1)\n{TICKS}\nOr\n{TICKS}\n"
    assert extract_program(completion, opened=is_open) == ("print(1)" if is_open else "Or")
    assert extract_program("print(1)", opened=is_open) is None


@pytest.mark.parametrize(
    "piece",
    [
        "`",
        "```\n",
        "``` `",
        "```python\nx\n```\n",
        "\n",
        "</think>",
        " " * 999 + "```python" + " " * 999 + "\n",
        "~~~~ x\n",
    ],
)
def test_time_is_linear(piece: str) -> None:
    """Ten times the text takes about ten times as long. Quadratic time would be a hundred times as long."""

    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        start = time.process_time()
        extract_program(text)
        return time.process_time() - start

    small = min(seconds(200_000) for _ in range(3))
    assert seconds(2_000_000) < 40 * small + 0.05
