"""The code reward as TRL's trainers see it, with the local sandbox and with a service."""

import json
import pickle
import sys
import time
from pathlib import Path

import pytest

from trl_archer import rewards
from trl_archer.rewards import code_reward, get_code_reward
from trl_archer.rewards.code.reward import CodeReward
from trl_archer.sandbox import Limits, Program, Run, Sandbox, SandboxError, SandboxFusion, probe

from ...helpers.fusion_server import fusion_server

DOUBLE = "print(2 * int(input()))"
TESTS = json.dumps({"inputs": ["1", "2", "3"], "outputs": ["2", "4", "6"]})

needs_isolation = pytest.mark.skipif(
    not any(problem == "" for problem in probe().values()),
    reason="this kernel isolates no programs (Landlock, bubblewrap)",
)


def fenced(source: str) -> str:
    return f"Here it is:\n```python\n{source}\n```"


def logs() -> tuple[dict, dict]:
    columns, metrics = {}, {}
    return {"log_extra": columns.__setitem__, "log_metric": metrics.__setitem__}, (columns, metrics)


@needs_isolation
def test_verdicts_reasons_and_metrics():
    completions = [
        fenced(DOUBLE),
        fenced("print(2)"),
        fenced("import os; os._exit(0)"),
        fenced("raise SystemExit(1)"),
        "I do not know.",
        fenced(DOUBLE),
    ]
    hooks, (columns, metrics) = logs()
    rewards = code_reward(
        completions, tests=[TESTS] * 5 + ["{}"], completion_ids=[[1, 2, 3]] * 5 + [[1]], prompts=["?"] * 6, **hooks
    )
    assert rewards == [1.0, 0.0, 0.0, 0.0, 0.0, None]
    reasons = columns["code_reward_reason"]
    assert reasons[:2] == ["passed 3 tests", "wrong answer on test 1: expected '4', got '2'"]
    assert reasons[2].startswith("wrong answer on test 0")
    assert reasons[3].startswith("crashed on test 0")
    assert reasons[4] == "no program"
    assert "inputs" in reasons[5]
    kinds = {name: metrics[f"code_reward/{name}"] for name in ("passed", "wrong_answer", "crashed", "not_scorable")}
    assert kinds == {"passed": 1 / 6, "wrong_answer": 2 / 6, "crashed": 1 / 6, "not_scorable": 1 / 6}
    assert metrics["code_reward/length/right"] == 3.0


CHEATS = {
    "exit with success": "import sys; sys.exit(0)",
    "exit at once": "import os; os._exit(0)",
    "print words that a judge may look for": "print('OK'); print('All tests passed'); print('Accepted'); print(True)",
    "equal anything": """
class Any(str):
    __eq__ = lambda *_: True
    __hash__ = str.__hash__
print(Any('?'))
def double(n): return Any('?')""",
    "change how values are compared and written": """
import builtins, json, operator
operator.eq = builtins.all = lambda *_: True
json.dumps = lambda *_, **__: 'true'
builtins.print = lambda *_, **__: None
def double(n): return n""",
    "read the tests": """
import glob, os
for path in glob.glob('/proc/self/**', recursive=True) + glob.glob('./*') + glob.glob('../*'):
    try: text = open(path).read()
    except Exception: continue
    if '"outputs"' in text: print(text)
def double(n): return n""",
    "look for expected outputs in memory": """
import gc
for found in gc.get_objects():
    if isinstance(found, (list, tuple)) and '4' in [str(x) for x in found][:9]: print(found)
def double(n): return n""",
    "write to inherited descriptors": """
import os
for descriptor in range(3, 64):
    try: os.write(descriptor, b'started true 1 passed')
    except OSError: pass
os._exit(0)""",
    "answer from a thread that outlives the program": """
import threading, time
threading.Thread(target=lambda: (time.sleep(60), print('late')), daemon=True).start()
def double(n): return None""",
    "return what pickles into code": """
class Evil:
    def __reduce__(self): return (print, ('passed',))
def double(n): return Evil()""",
    "fail at the end only": """
import atexit, os
atexit.register(lambda: os._exit(0))
def double(n): raise ValueError""",
    "answer everything at once": "print(*range(100), sep='\\n')\ndef double(n): return list(range(100))",
}


@needs_isolation
@pytest.mark.parametrize("form", ["stdin", "call"])
def test_cheating_earns_nothing(form: str):
    tests = {"inputs": ["2", "3"], "outputs": ["4", "6"]}
    if form == "call":
        tests = {"inputs": [[2], [3]], "outputs": [4, 6], "fn_name": "double"}
    honest = "def double(n): return 2 * n" if form == "call" else DOUBLE
    completions = [fenced(source) for source in (*CHEATS.values(), honest)]
    rewards = get_code_reward(scoring="fraction")(completions, [tests] * len(completions))
    assert dict(zip([*CHEATS, "be honest"], rewards, strict=True)) == {**dict.fromkeys(CHEATS, 0.0), "be honest": 1.0}


@needs_isolation
def test_conversations_calls_and_fractions():
    function = "class Solution:\n    def add(self, a: List[int]) -> int:\n        return sum(a) if len(a) < 3 else 0"
    completion = [{"role": "assistant", "content": fenced(function)}]
    tests = {"inputs": [[[1, 2]], [[1, 2, 3]]], "outputs": [3, 6], "fn_name": "add"}
    assert get_code_reward(scoring="fraction")([completion], [tests]) == [0.5]
    assert get_code_reward(scoring="all")([completion], [tests]) == [0.0]
    unnamed = {"inputs": tests["inputs"][:1], "outputs": tests["outputs"][:1]}
    assert code_reward([completion], [unnamed], fn_name=["add"]) == [1.0]


@needs_isolation
def test_all_completions_of_a_problem_run_the_same_few_tests():
    tests = json.dumps({"inputs": [str(i) for i in range(40)], "outputs": [str(2 * i) for i in range(40)]})
    hooks, (columns, _) = logs()
    assert get_code_reward(max_tests=3)([fenced(DOUBLE)] * 2, [tests] * 2, **hooks) == [1.0, 1.0]
    assert columns["code_reward_reason"] == ["passed 3 tests"] * 2
    special = fenced("n = int(input()); print(2 * n if n in (12, 24, 33) else 0)")
    scores = {get_code_reward(max_tests=3, scoring="fraction", seed=0)([special], [tests])[0] for _ in range(2)}
    assert len(scores) == 1


@needs_isolation
def test_a_poisoned_program_costs_its_own_slot_only():
    sandbox = Sandbox(limits=Limits(wall_seconds=1, cpu_seconds=1))
    completions = [fenced(DOUBLE), fenced("while True: pass"), fenced("print('x' * 10**9)"), fenced(DOUBLE)]
    hooks, (columns, _) = logs()
    assert get_code_reward(sandbox)(completions, [TESTS] * 4, **hooks) == [1.0, 0.0, 0.0, 1.0]
    assert columns["code_reward_reason"][1] == "timeout on test 0"


def test_an_invalid_function_name_makes_tests_unusable():
    tests = [{"inputs": [[1]], "outputs": [2]}] * 2
    assert code_reward([fenced("def f(n): return 2 * n")] * 2, tests, fn_name=[float("nan"), "2 f"]) == [None, None]


def test_unsafe_programs_leave_no_processes():
    program = Program("import subprocess\nprint(subprocess.Popen(['sleep', '60']).pid)")
    begin = time.monotonic()
    run = Sandbox("unsafe").run_many([program])[0]
    assert run.status == "ended"
    assert time.monotonic() - begin < 10
    assert not Path(f"/proc/{run.stdout.strip()}").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scoring": "some"}, "scoring is 'some'"),
        ({"max_tests": 0}, "max_tests is 0"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        get_code_reward(**arguments)


def test_it_can_be_pickled():
    reward = get_code_reward(Sandbox(packages=("numpy",)), scoring="fraction")
    assert pickle.loads(pickle.dumps(reward)) == reward
    assert pickle.loads(pickle.dumps(code_reward)) is code_reward
    assert reward.__name__ == code_reward.__name__ == "code_reward"


def test_without_isolation_nothing_runs(monkeypatch, tmp_path):
    """Workers inherit a `PATH` without bwrap and a Landlock library that cannot be imported."""
    (tmp_path / "landlockpy.py").write_text("raise ImportError('removed by the test')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")
    reward = get_code_reward(workers=3)  # a pool that no other test has started
    with pytest.raises(SandboxError, match=r"No isolation works.*removed by the test.*bwrap is not installed"):
        reward([fenced(f"open({str(tmp_path / 'ran')!r}, 'w')")], [TESTS])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("package", ["landlockpy", "pyseccomp"])
def test_a_missing_extra_is_reported_when_the_reward_is_made(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    for make in (Sandbox, get_code_reward, lambda: rewards.code_reward):
        with pytest.raises(ImportError, match=rf"needs {package}\. Run `pip install 'trl-archer\[code\]'`"):
            make()
    assert Sandbox("unsafe").isolation == "unsafe"
    get_code_reward(SandboxFusion("http://localhost"))
    assert callable(rewards.math_reward)


class Scripted:
    """A user-defined remote sandbox."""

    def run(self, program: Program) -> Run:
        if "fail" in program.source:
            raise SandboxError("no machine")
        return Run("ended", stdout=f"{2 * int(program.stdin)}\n", stderr="", value=None, seconds=0.0)


def test_reasoning_that_the_prompt_opens():
    reward = get_code_reward(Scripted(), thinking=True)
    draft = f"Perhaps {fenced('pass')}"
    assert reward([draft, f"{draft}</think>{fenced('pass')}"], [TESTS] * 2) == [0.0, 1.0]


def test_any_executor_serves():
    hooks, (columns, metrics) = logs()
    rewards = get_code_reward(Scripted())([fenced("pass"), fenced("fail")], [TESTS] * 2, **hooks)
    assert rewards == [1.0, None]
    assert columns["code_reward_reason"][1] == "sandbox: no machine"
    assert metrics["code_reward/not_scorable"] == 0.5


def test_programs_run_on_a_service():
    with fusion_server() as server:
        fusion = SandboxFusion(server.url + "/", Limits(wall_seconds=1), headers={"Authorization": "Bearer key"})
        assert fusion.run(Program(DOUBLE, stdin="21")).stdout == "42\n"
        assert (
            fusion.run(Program("def f(a, b): return [a, inf > b]", function="f", arguments="[1, 2]")).value
            == "[1, true]"
        )
        assert fusion.run(Program("1 / 0")).status == "failed"
        assert fusion.run(Program("while True: pass")).status == "timeout"
        with pytest.raises(SandboxError, match="no cgroup"):
            fusion.run(Program("", stdin="sandbox failure"))
        assert server.requests[0]["path"] == "/run_code"
        assert server.requests[0]["token"] == "Bearer key"
        assert server.requests[0]["memory_limit_MB"] == 1024
        assert get_code_reward(fusion)([fenced(DOUBLE), fenced("print(0)")], [TESTS] * 2) == [1.0, 0.0]


FINE = {"status": "Finished", "return_code": 0, "stdout": "2", "stderr": "", "execution_time": 0.1}
REPLIES = {
    "nothing": (b"", None),
    "no JSON": (b"<html>", None),
    "deep": (b"[" * 100_000, None),
    "a list": (b"[]", None),
    "no result": (b'{"status": "Success"}', None),
    "output that is a number": (json.dumps({"status": "Success", "run_result": FINE | {"stdout": 2}}).encode(), None),
    "output that is a list": (json.dumps({"status": "Success", "run_result": FINE | {"stdout": ["2"]}}).encode(), None),
    "errors that are a number": (json.dumps({"status": "Success", "run_result": FINE | {"stderr": 2}}).encode(), None),
    "time that is text": (
        json.dumps({"status": "Success", "run_result": FINE | {"execution_time": "x"}}).encode(),
        None,
    ),
    "files that are a list": (json.dumps({"status": "", "run_result": FINE, "files": [1]}).encode(), None),
    "a file that is not base64": (
        json.dumps({"status": "", "run_result": FINE, "files": {"result": "!"}}).encode(),
        None,
    ),
    "no file": (json.dumps({"status": "Success", "run_result": FINE, "files": {"result": None}}).encode(), 1.0),
    "no files": (json.dumps({"status": "Success", "run_result": FINE, "files": None}).encode(), 1.0),
    "too much": (json.dumps({"status": "Success", "run_result": FINE | {"stdout": "2" * 5 * 2**20}}).encode(), 0.0),
}


def test_whatever_a_service_replies():
    tests = {"inputs": ["1"], "outputs": ["2"]}
    with fusion_server() as server:
        reward = get_code_reward(SandboxFusion(server.url, Limits(file_mib=1), attempts=1), workers=1)
        for name, (body, expected) in REPLIES.items():
            server.replies = [body]
            assert (name, reward([fenced(DOUBLE)], [tests])) == (name, [expected])


@needs_isolation
def test_fences_that_prompts_open():
    prompts = ["Solve it.\n```python\n", [{"role": "assistant", "content": "Here:\n```python"}], "Solve it."]
    completions = [f"{DOUBLE}\n```\nOr:\n```\nnothing\n```", f"{DOUBLE}\n```", "Nothing."]
    assert code_reward(completions, [TESTS] * 3, prompts=prompts) == [1.0, 1.0, 0.0]


@needs_isolation
def test_a_program_that_does_nothing_earns_nothing():
    nothing = [fenced("pass"), fenced("def f(*a): pass")]
    outputs = [""] * 199 + ["7"]
    for scoring in ("all", "fraction"):
        reward = get_code_reward(scoring=scoring)
        blank = {"inputs": [str(n) for n in range(200)], "outputs": outputs}
        nulls = {"inputs": [[n] for n in range(200)], "outputs": [[value or None] for value in outputs], "fn_name": "f"}
        assert reward(nothing, [blank, nulls]) == [0.0, 0.0]
    assert code_reward([nothing[1]], [{"fn_name": "f", "inputs": [[1], [2]], "outputs": [[None], [None]]}]) == [None]


def test_a_failing_service_is_asked_again(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    with fusion_server() as server:
        server.failures = [503, 0]
        assert SandboxFusion(server.url).run(Program("print(1)")).stdout == "1\n"
        server.failures = [400]
        with pytest.raises(SandboxError, match=r"refused the program.*400"):
            SandboxFusion(server.url).run(Program("print(1)"))
        url = server.url
    with pytest.raises(SandboxError, match="failed 2 times"):
        SandboxFusion(url, attempts=2).run(Program("print(1)"))
    assert get_code_reward(SandboxFusion(url, attempts=1))([fenced(DOUBLE)], [TESTS]) == [None]
    with pytest.raises(ValueError, match="http://"):
        SandboxFusion("localhost:8080")
    with pytest.raises(ValueError, match="attempts is 0"):
        SandboxFusion("http://localhost", attempts=0)


def test_the_default_is_the_paper_s_reward():
    assert CodeReward() == get_code_reward()
    assert get_code_reward().scoring == "all"
