"""What programs can do in the sandbox, and what hostile ones cannot, under each isolation of this machine."""

import contextlib
import dataclasses
import functools
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trl_archer.sandbox import Limits, Program, Run, Sandbox, SandboxError, probe
from trl_archer.sandbox.isolation import SAFE_ISOLATIONS

from ..helpers.hostile_programs import FILES, PROGRAMS, Hostile
from ..helpers.sandbox_harness import Harness, Report

SOURCE = Path(__file__).parents[2] / "src"
IMPORT_PATH = os.pathsep.join([str(SOURCE), *filter(None, sys.path)])
NOBODY = 65534
USERS = ["nobody", "root"] if os.geteuid() == 0 else ["this user"]
LIMITS = Limits(wall_seconds=5, cpu_seconds=3, memory_mib=512, file_mib=2, scratch_mib=16, open_files=32)
BRIEF = dataclasses.replace(LIMITS, wall_seconds=0.4)
LATE = 0.5  # seconds a program may run past its wall limit

isolations = functools.cache(probe)
# `make test` takes the isolation that code runs in here, and `make test-slow` the others
USED = next((name for name, problem in isolations().items() if not problem), SAFE_ISOLATIONS[0])
ISOLATIONS = [pytest.param(name, marks=[pytest.mark.slow] if name != USED else []) for name in SAFE_ISOLATIONS]


class Sandboxed:
    """The runners of one isolation in a harness, one per set of limits."""

    def __init__(self, harness: Harness, isolation: str):
        self.harness = harness
        self.isolation = isolation
        self._runners: dict[tuple[Limits, float], int] = {}

    def runner(self, limits: Limits = LIMITS, delay: float = 0.0) -> int:
        if (limits, delay) not in self._runners:
            self._runners[limits, delay] = self.harness.open(self.isolation, limits, delay)
        return self._runners[limits, delay]

    def report(self, program: Program, limits: Limits = LIMITS, delay: float = 0.0) -> Report:
        return self.harness.run(self.runner(limits, delay), program)

    def run(self, source: str, limits: Limits = LIMITS, **options: str) -> Run:
        return self.report(Program(textwrap.dedent(source), **options), limits).run


def skip_unless_it_works(isolation: str, problem: str | None = None) -> None:
    """Skips a test if the machine lacks something that the isolation needs."""
    problem = isolations()[isolation] if problem is None else problem
    if re.search(r"The kernel has no Landlock|bwrap is not installed|unshare: |mount: |syscall: |bwrap: ", problem):
        pytest.skip(problem)
    assert problem == ""


@pytest.fixture(scope="module")
def for_nobody() -> Iterator[tuple[str, str]]:
    """An interpreter that every user can execute, and a folder with what it needs to run a sandbox."""
    folder = Path(tempfile.mkdtemp(prefix="sandbox-source-"))  # pytest's own folders are closed to other users
    shutil.copytree(SOURCE / "trl_archer", folder / "trl_archer", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).parents[1] / "helpers" / "sandbox_harness.py", folder)
    for package in ("landlockpy", "pyseccomp"):
        origin = Path(importlib.util.find_spec(package).origin)
        if origin.name == "__init__.py":
            shutil.copytree(origin.parent, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    try:
        names = ["python3", *(f"python3.{minor}" for minor in range(11, 20))]
        found = [sys.executable, *(shutil.which(name, path="/usr/local/bin:/usr/bin") for name in names)]
        pythons = [python for python in found if python and serves_nobody(python, folder)]
        if not pythons:
            pytest.skip("there is no Python >= 3.11 here that a user other than root can execute")
        yield pythons[0], str(folder)
    finally:
        shutil.rmtree(folder)


def serves_nobody(python: str, folder: Path) -> bool:
    check = "import sys; assert sys.version_info >= (3, 11); import trl_archer.sandbox.runner, landlockpy, pyseccomp"
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    with contextlib.suppress(OSError):
        command, environment = [python, "-B", "-c", check], {"PYTHONPATH": str(folder)}
        return subprocess.run(command, capture_output=True, env=environment, cwd="/", **user).returncode == 0
    return False


def new_harness(request: pytest.FixtureRequest, user: str) -> Harness:
    if user == "nobody":
        python, folder = request.getfixturevalue("for_nobody")
        return Harness(python, folder, f"{folder}/sandbox_harness.py", NOBODY)
    return Harness(sys.executable, IMPORT_PATH)


@pytest.fixture(scope="module", params=USERS)
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """One harness per user. Nothing may be left when all its tests are done."""
    harness = new_harness(request, request.param)
    try:
        yield harness
        assert harness.strays() == []
        harness.close()
        assert os.listdir(harness.folder) == ["outside"]
    finally:
        harness.remove()


@pytest.fixture(scope="module", params=ISOLATIONS)
def sandboxed(harness: Harness, request: pytest.FixtureRequest) -> Sandboxed:
    skip_unless_it_works(request.param)
    sandboxed = Sandboxed(harness, request.param)
    try:
        sandboxed.runner()
    except RuntimeError as error:
        skip_unless_it_works(request.param, str(error))  # some systems forbid namespaces to some users
    return sandboxed


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_an_isolation_works_here():
    assert tuple(isolations()) == SAFE_ISOLATIONS
    assert "" in isolations().values(), isolations()


# Hostile programs


@pytest.mark.parametrize("hostile", PROGRAMS, ids=lambda hostile: hostile.name)
def test_a_hostile_program(sandboxed: Sandboxed, hostile: Hostile):
    harness, limits = sandboxed.harness, BRIEF if hostile.brief else LIMITS
    sandboxed.runner(limits)
    canary, (descriptors, _) = harness.canary(), harness.state()
    source = hostile.source.replace("OUTSIDE", repr(str(harness.outside))).replace("WORKER", str(harness.pid))
    report = sandboxed.report(Program(source, hostile.stdin, hostile.function, hostile.arguments), limits)
    run = report.run

    assert [line for line in run.stdout.splitlines() if line.startswith("could")] == []
    assert run.status in hostile.statuses, run
    assert hostile.stdout in (None, run.stdout), run
    assert hostile.value in (None, run.value), run
    assert len(run.stderr) <= 2000
    assert max(len(run.stdout), len(run.value or "")) <= limits.file_mib * 2**20
    assert run.seconds <= limits.wall_seconds + LATE
    assert (report.children, report.descriptors) == ([], descriptors)
    assert harness.canary() == canary

    honest = sandboxed.run("import os\nprint(sorted(os.listdir()), os.getcwd() == os.environ['HOME'])", limits)
    assert honest[:4] == ("ended", "['program.py'] True\n", "", None)


def test_a_run_is_over_when_all_its_processes_are(sandboxed: Sandboxed):
    harness, runner = sandboxed.harness, sandboxed.runner(BRIEF)
    # A program that tries to write into the folder of the next one
    restless = """if True:
        import os
        while True:
            try:
                file = os.open("program.py", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
                os.write(file, b"print('in its place')")
                os.close(file)
            except OSError:
                pass
    """
    for _ in range(3):
        harness.send("run", runner, Program(restless))
        time.sleep(BRIEF.wall_seconds / 2)
        processes = harness.descendants()
        make_the_end_slow(processes)
        assert harness.receive()[0][0] == "timeout"
        assert [process for process in processes if Path(f"/proc/{process}").exists()] == []
        assert sandboxed.run("print('honest')", BRIEF)[:2] == ("ended", "honest\n")


def make_the_end_slow(processes: list[int]) -> None:
    """Makes the processes between the runner's child and the program wait for a core that the program keeps busy."""
    core = {min(os.sched_getaffinity(0))}
    for process in processes[1:]:
        os.sched_setaffinity(process, core)
    for process in processes[1:-1]:
        os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))


def test_the_kernel_confines_the_process(sandboxed: Sandboxed):
    harness = sandboxed.harness
    harness.send("run", sandboxed.runner(), Program("import time\ntime.sleep(0.6)"))
    time.sleep(0.3)
    program = Path(f"/proc/{harness.descendants()[-1]}")
    status = dict(line.split(":\t", 1) for line in (program / "status").read_text().splitlines())
    adjustment = (program / "oom_score_adj").read_text()
    own = {
        name
        for name in ("user", "net", "ipc", "pid", "mnt")
        if os.readlink(program / "ns" / name) != os.readlink(f"/proc/{harness.pid}/ns/{name}")
    }
    assert harness.receive()[0][0] == "ended"
    assert {status[name].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {""}
    assert (status["Seccomp"], status["NoNewPrivs"], status["Threads"]) == ("2", "1", "1")
    assert adjustment == "1000\n"
    expected = {"landlock": "", "landlock+namespaces": "user net ipc mnt", "bubblewrap": "user net ipc pid mnt"}
    assert own == set(expected[sandboxed.isolation].split())


@pytest.mark.parametrize("isolation", ["landlock+namespaces", "bubblewrap"])
def test_reading_leaves_no_trace_on_files(isolation: str):
    """An access time that changes would tell later programs what this one has read."""
    skip_unless_it_works(isolation)
    now = time.time()
    found = [path for path in Path("/usr/share/zoneinfo").rglob("*") if path.is_file() and not path.is_symlink()]
    stale = [path for path in found if (then := path.stat()).st_atime <= max(then.st_mtime, now - 86_400)][:20]
    if not stale:
        pytest.skip("all time zones have been read today")
    before = [path.stat().st_atime_ns for path in stale]
    program = f"print(sum(len(open(path, 'rb').read()) > 0 for path in {list(map(str, stale))}))"
    assert Sandbox(isolation).run_many([Program(program)], workers=1)[0].stdout == f"{len(stale)}\n"
    assert [path.stat().st_atime_ns for path in stale] == before


AGAIN = "import os, sys\nos.execv(sys.executable, ['python', '-c', 'import time; time.sleep(60)'])"


@pytest.mark.parametrize("source", ["while True:\n    pass", AGAIN], ids=["busy", "executed again"])
def test_programs_end_with_their_runner(request: pytest.FixtureRequest, sandboxed: Sandboxed, source: str):
    harness = new_harness(request, request.node.callspec.params["harness"])
    try:
        harness.send("run", harness.open(sandboxed.isolation, LIMITS), Program(source))
        assert wait_until(lambda: harness.strays() != [])
        time.sleep(0.2)
        assert harness.strays() != []
        harness.kill()
        assert wait_until(lambda: harness.strays() == [], seconds=2)
    finally:
        harness.remove()


def test_nothing_accumulates_in_the_runner(sandboxed: Sandboxed):
    program = Program("print('x' * 10**5)\ndef f(x):\n    return x * 10**4", function="f", arguments='["x"]')
    for _ in range(10):
        sandboxed.report(program)
    descriptors, memory = sandboxed.harness.state()
    for _ in range(70):
        assert sandboxed.report(program).run.status == "ended"
    assert sandboxed.harness.state()[0] == descriptors
    assert sandboxed.harness.state()[1] - memory < 1024  # KiB


# Limits


@pytest.mark.parametrize(
    ("source", "limits", "status", "complaint"),
    [
        ("import time\ntime.sleep(60)", {"wall_seconds": 0.3}, "timeout", ""),
        ("while True:\n    pass", {"cpu_seconds": 1}, "timeout", ""),
        ("a = bytearray(300 * 2**20)", {"memory_mib": 256}, "failed", "MemoryError"),
        ("open('f', 'wb').write(bytes(3 * 2**20))", {"file_mib": 2}, "failed", "File too large"),
        ("print('x' * 3 * 2**20)", {"file_mib": 2}, "output", ""),
        ("files = [open(f'f{n}', 'w') for n in range(32)]", {"open_files": 20}, "failed", "Too many open files"),
        (
            "import time\nfor n in range(9):\n    open(f'f{n}', 'wb').write(bytes(2**20))\ntime.sleep(60)",
            {"scratch_mib": 8},
            "output",
            "",
        ),
    ],
    ids=["wall", "cpu", "memory", "file", "stdout", "descriptors", "scratch"],
)
def test_a_limit(sandboxed: Sandboxed, source: str, limits: dict[str, float], status: str, complaint: str):
    run = sandboxed.run(source, dataclasses.replace(LIMITS, **limits))
    assert run.status == status, run
    assert complaint in run.stderr
    assert run.seconds < limits.get("wall_seconds", 4) + LATE


def test_time_counts_from_the_start_of_the_program(sandboxed: Sandboxed):
    report = sandboxed.report(Program("print(1)"), BRIEF, delay=0.6)
    assert report.run[:2] == ("ended", "1\n")
    assert report.run.seconds < BRIEF.wall_seconds
    assert report.seconds > 0.6


# Well-behaved programs


def test_a_program_reads_and_prints(sandboxed: Sandboxed):
    run = sandboxed.run("a, b = map(int, input().split())\nprint(a + b)\nprint(input()[::-1])", stdin="2 40\nüñ🎉\n")
    assert run[:4] == ("ended", "42\n🎉ñü\n", "", None)
    assert 0 < run.seconds < 2


def test_a_program_that_fails_says_why(sandboxed: Sandboxed):
    run = sandboxed.run("print('begun', flush=True)\nint('x')")
    assert run[:2] == ("failed", "begun\n")
    assert run.stderr.endswith("ValueError: invalid literal for int() with base 10: 'x'\n")
    assert "program.py" in run.stderr


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("def f(a, b=1):\n    return [a, b, {'ü': None}]", '[7, 2.5, {"\\u00fc": null}]'),
        ("class Solution:\n    def f(self, a, b):\n        return self.g(a) + b\n    g = lambda self, a: -a", "-4.5"),
        ("class Solution:\n    def f(self, *a):\n        return 1\ndef f(*a):\n    return 2", "1"),
        ("class Solution:\n    pass\ndef f(*a):\n    return 2", "2"),
        ("f = lambda *a: None", "null"),
        ("def f(*a):\n    print('aside')\n    return (True, float('inf'))", "[true, Infinity]"),
        ("if __name__ == '__main__':\n    input()\ndef f(*a):\n    return __name__", '"program"'),
    ],
)
def test_a_function_is_called(sandboxed: Sandboxed, source: str, value: str):
    run = sandboxed.run(source, function="f", arguments="[7, 2.5]")
    assert (run.status, run.stderr, run.value) == ("ended", "", value)


def test_a_function_that_is_not_there(sandboxed: Sandboxed):
    run = sandboxed.run("def g():\n    return 1", function="f")
    assert (run.status, run.value) == ("failed", None)
    assert "KeyError: 'f'" in run.stderr


def test_common_names_are_predefined_unless_the_program_defines_them(sandboxed: Sandboxed):
    run = sandboxed.run(
        """
        cache = {"own": 1}
        class Solution:
            def f(self, a: List[int], b: Optional[str] = None) -> Dict[str, Any]:
                heap = list(a)
                heapq.heapify(heap)
                heappush(heap, inf)
                return [Counter(a)[3], heap[0], defaultdict(int)["x"], gcd(12, 18), list(accumulate(a)), cache,
                        bisect_left(a, 3), math.comb(4, 2), reduce(lambda x, y: x * y, a), deque(a)[-1], string.digits]
        """,
        function="f",
        arguments="[[1, 3, 3]]",
    )
    assert run.stderr == ""
    assert run.value == '[2, 1, 0, 6, [1, 4, 7], {"own": 1}, 1, 6, 9, 3, "0123456789"]'


@pytest.mark.parametrize("end", ["exit()", "quit(0)", "sys.exit()", "raise SystemExit", "import os; os._exit(0)"])
def test_a_program_may_end_itself(sandboxed: Sandboxed, end: str):
    run = sandboxed.run(f"import sys\nprint('done', flush=True)\n{end}\nprint('not this')")
    assert run[:3] == ("ended", "done\n", "")


def test_an_exit_status_means_failure(sandboxed: Sandboxed):
    assert sandboxed.run("exit(3)").status == "failed"
    assert sandboxed.run("exit('no luck')")[:3] == ("failed", "", "no luck\n")


def test_the_main_guard_runs(sandboxed: Sandboxed):
    run = sandboxed.run("def main():\n    print(__name__, __file__)\nif __name__ == '__main__':\n    main()")
    assert run[:2] == ("ended", "__main__ program.py\n")


def test_recursion_threads_and_files(sandboxed: Sandboxed):
    run = sandboxed.run(
        """
        import asyncio, sys, tempfile, threading
        def depth(n):
            return 0 if n == 0 else 1 + depth(n - 1)
        print(depth(20_000))
        threading.stack_size(2**26)
        def deep():
            sys.setrecursionlimit(10**6)
            print(depth(40_000))
        thread = threading.Thread(target=deep)
        thread.start()
        thread.join()
        with open("notes", "w") as file:
            file.write("kept")
        print(open("notes").read(), len(open("/dev/urandom", "rb").read(4)), open("/dev/null").read() == "")
        with tempfile.TemporaryFile() as file:
            file.write(b"1")
        async def add(a, b):
            await asyncio.sleep(0.01)
            return await asyncio.to_thread(sum, (a, b))
        print(asyncio.run(add(1, 2)))
        """
    )
    assert run[:3] == ("ended", "20000\n40000\nkept 4 True\n3\n", "")


def test_the_same_program_prints_the_same(sandboxed: Sandboxed):
    source = "print({str(n) for n in range(50)}, hash('x'))"
    assert sandboxed.run(source).stdout == sandboxed.run(source).stdout != ""


def test_a_crash_leaves_no_core_file(sandboxed: Sandboxed):
    report = sandboxed.report(Program("import ctypes\nctypes.string_at(0)"))
    assert report.run.status == "failed"
    assert set(report.scratch) <= {"program.py"}


# The trainer's side of the sandbox


@pytest.mark.parametrize("isolation", SAFE_ISOLATIONS)
def test_packages_are_available_only_on_request(isolation: str):
    skip_unless_it_works(isolation)
    folder = Path(importlib.util.find_spec("numpy").origin).parents[1]
    use = Program("import numpy\nprint(numpy.arange(4).reshape(2, 2) @ numpy.ones(2))")
    seek = Program(f"import sys\nsys.path.append({str(folder)!r})\nimport numpy")
    other = Program("import regex")
    ended, refused = Sandbox(isolation, packages=("numpy",)).run_many([use, other], workers=1)
    assert ended[:3] == ("ended", "[1. 5.]\n", "")
    assert refused.status == "failed"
    runs = Sandbox(isolation).run_many([use, seek], workers=1)
    assert [run.status for run in runs] == ["failed", "failed"]
    assert "ModuleNotFoundError: No module named 'numpy'" in runs[0].stderr


def test_many_programs_come_back_in_their_order():
    programs = [Program(f"import time\ntime.sleep({n % 3} / 20)\nprint({n})") for n in range(8)]
    runs = Sandbox().run_many(iter(programs), workers=2)
    assert [run.stdout for run in runs] == [f"{n}\n" for n in range(8)]
    assert all(isinstance(run, Run) for run in runs)
    assert Sandbox().run_many([]) == []


def test_the_largest_outputs_come_back():
    """JSON writes each null character as six letters."""
    size = Limits().file_mib * 2**20
    most = Program(f"import os\nfor n in (1, 2, 3):\n    os.ftruncate(n, {size})")
    below = Program(f"import os\nfor n in (1, 3):\n    os.ftruncate(n, {size - 1})")
    assert [run.status for run in Sandbox().run_many([most, below], workers=1)] == ["output", "output"]


def test_unsafe_sets_only_limits():
    folder = Program("import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').close()\nprint(os.path.exists('/etc/passwd'))")
    programs = [folder, Program("import os\nprint(os.listdir())"), Program("while True:\n    pass")]
    runs = Sandbox("unsafe", BRIEF).run_many(programs, workers=1)
    assert [run.status for run in runs] == ["ended", "ended", "timeout"]
    assert [run.stdout for run in runs] == ["True\n", "['program.py']\n", ""]


def test_arguments_are_checked():
    with pytest.raises(
        ValueError, match=r"isolation is 'docker'; it must be one of auto, landlock\+namespaces, .*unsafe"
    ):
        Sandbox("docker")
    with pytest.raises(ValueError, match="packages contains 'no-such-package', which is not installed"):
        Sandbox(packages=("numpy", "no-such-package"))
    for name in vars(Limits()):
        for value in (0, -1, float("nan")):
            with pytest.raises(ValueError, match=f"{name} is {value}; "):
                Limits(**{name: value})


# Nothing runs without walls


def test_no_program_runs_if_no_isolation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Workers inherit this process's import path and PATH, and lack what it lacks."""
    for module in ("landlockpy", "pyseccomp"):
        (tmp_path / f"{module}.py").write_text(f"raise ImportError('no {module}')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    program = Program(f"open({str(tmp_path / 'escaped')!r}, 'w')")
    with pytest.raises(SandboxError) as caught:
        Sandbox().run_many([program], workers=1)
    for word in (*SAFE_ISOLATIONS, "no landlockpy", "bwrap is not installed", "docs/security.md", "isolation='unsafe'"):
        assert word in str(caught.value)
    for isolation in SAFE_ISOLATIONS:
        with pytest.raises(SandboxError, match=r"bwrap is not installed|no landlockpy.*trl-archer\[code\]"):
            Sandbox(isolation).run_many([program], workers=1)
    assert not (tmp_path / "escaped").exists()
    assert all(probe().values())


@pytest.mark.parametrize("isolation", SAFE_ISOLATIONS)
def test_no_program_runs_without_the_filter(isolation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    skip_unless_it_works(isolation)
    (tmp_path / "pyseccomp.py").write_text("raise RuntimeError('Unable to find libseccomp')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SandboxError, match=r"Unable to find libseccomp.*install the system library libseccomp"):
        Sandbox(isolation).run_many([Program("")], workers=1)


NO_LANDLOCK = "isolation.Landlock.enter = lambda self: None"
NO_BUBBLEWRAP = """
isolation.Bubblewrap.enter = lambda self: None
isolation.Bubblewrap.command = lambda self, command: command
"""
FILTER_ALONE = """
isolation.Landlock.enter = lambda self: (system.forbid_new_privileges(), system.install_filter(self._filter))
"""
FILES_ALONE = "system.install_filter = lambda program: None"
ALL_FILES = "change('--remount-ro /', f'--bind {tempfile.gettempdir()} {tempfile.gettempdir()}')"
FOR_FILES = ("read a file", "write a file")
FOR_THE_FILTER = ("start a process", "change a file's mode", "open a socket")
WEAK_WALLS = {
    "no Landlock": ("landlock", NO_LANDLOCK, (*FOR_FILES, *FOR_THE_FILTER, "signal another process")),
    "no namespaces": ("landlock+namespaces", NO_LANDLOCK, (*FOR_FILES, *FOR_THE_FILTER, "signal another process")),
    "no bubblewrap": ("bubblewrap", NO_BUBBLEWRAP, (*FOR_FILES, *FOR_THE_FILTER, "signal another process")),
    "Landlock is the filter alone": ("landlock", FILTER_ALONE, FOR_FILES),
    "Landlock has no filter": ("landlock", FILES_ALONE, FOR_THE_FILTER),
    "bubblewrap has no filter": ("bubblewrap", "change('--seccomp 5', '')", FOR_THE_FILTER),
    "bubblewrap shows other files": ("bubblewrap", ALL_FILES, FOR_FILES),
}


@pytest.mark.parametrize("case", WEAK_WALLS)
def test_broken_walls_are_noticed(case: str, tmp_path: Path):
    name, sabotage, broken = WEAK_WALLS[case]
    skip_unless_it_works(name)
    script = """
        import tempfile
        from trl_archer.sandbox import Limits, SandboxError, isolation, runner, system
        def change(old, new):
            before = isolation.Bubblewrap.command
            isolation.Bubblewrap.command = lambda self, command: (
                " ".join(before(self, [])).replace(old, new).split() + list(command))
        runner.Runner._is_full = lambda *_: False  # there may be no scratch file system to look at
        exec(SABOTAGE)
        try:
            runner.Runner(NAME, Limits())
            print("opened")
        except SandboxError as error:
            print(error)
    """
    output = in_process(script.replace("SABOTAGE", repr(sabotage)).replace("NAME", repr(name)), tmp_path)
    assert f"The isolation '{name}' does not work on this machine: a check program could " in output
    assert [attempt for attempt in broken if attempt not in output] == []


@pytest.mark.parametrize("version", [1, 2, 3, 5])
def test_older_landlocks_work_as_well(version: int, tmp_path: Path):
    """Landlock before version 3 does not restrict truncation. The filter has to, as for everything Landlock misses."""
    skip_unless_it_works("landlock")
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    sources = [hostile.source.replace("OUTSIDE", repr(str(tmp_path))).replace("WORKER", "1") for hostile in FILES]
    script = f"""
        import json, sys
        import landlockpy._syscall
        landlockpy._syscall.abi_version = lambda: {version}
        from trl_archer.sandbox import Limits, Program
        from trl_archer.sandbox.runner import Runner
        runner = Runner("landlock", Limits())
        assert runner._walls._rules.abi_version == {version}
        runs = [runner.run(Program(source)) for source in json.loads({json.dumps(sources)!r})]
        runner.close()
        print(json.dumps([(run.status, run.stdout) for run in runs]))
    """
    assert json.loads(in_process(script, tmp_path)) == [["ended", "tried\n"]] * len(FILES)
    assert canary.read_text() == "untouched"


def in_process(script: str, folder: Path) -> str:
    """What a script prints in a separate process, which has one thread and takes its patches with it."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": IMPORT_PATH, "TMPDIR": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
