"""The pool of killable workers: limits are enforced, and nothing is left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from trl_archer.workers import WorkerPool, workers_per_rank

from ..helpers import worker_functions

FUNCTIONS = worker_functions.__name__


def pool(name: str, workers: int = 2, **options: int) -> WorkerPool:
    return WorkerPool(f"{FUNCTIONS}:{name}", workers, **options)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_results_come_in_the_order_of_the_items():
    with pool("double") as doubles:
        assert [outcome.value for outcome in doubles.map(list(range(50)), seconds=30)] == list(range(0, 100, 2))
        assert doubles.map([], seconds=30) == []


@pytest.mark.parametrize("poison", ["power", "sleep", "regex", "loop", "stubborn"])
def test_an_item_that_never_ends_costs_its_own_slot_only(poison):
    """Some items can be interrupted. The stubborn one catches every exception and is killed."""
    with pool("poisoned") as poisoned:
        poisoned.map(["", ""], seconds=60)
        begin = time.monotonic()
        outcomes = poisoned.map(["", poison, "", "", poison, ""], seconds=1.0)
        assert time.monotonic() - begin < 4
    assert [outcome.failure for outcome in outcomes] == [None, "time", None, None, "time", None]
    assert [outcome.value for outcome in outcomes] == ["fine", None, "fine", "fine", None, "fine"]


def test_a_worker_that_can_be_interrupted_is_kept():
    with pool("poisoned", workers=1) as poisoned:
        poisoned.map([""], seconds=60)
        pids = poisoned.pids
        assert [o.failure for o in poisoned.map(["sleep", "loop", "", "sleep"], seconds=0.2)] == [
            "time",
            "time",
            None,
            "time",
        ]
        assert poisoned.pids == pids
        poisoned.map(["stubborn", ""], seconds=0.2)
        assert poisoned.pids != pids


def test_memory_is_limited():
    with pool("poisoned", workers=1, memory_mib=600) as poisoned:
        assert [o.failure for o in poisoned.map(["memory", ""], seconds=60)] == ["memory", None]


def test_what_the_function_raises_is_reported():
    with pool("poisoned", workers=1) as poisoned:
        assert poisoned.map(["raise"], seconds=60)[0][1:] == ("error", "ValueError: not this one")
        assert poisoned.map(["unsendable"], seconds=60)[0].failure == "error"


def test_an_item_is_given_up_after_it_killed_two_workers():
    with pool("poisoned", workers=1) as poisoned:
        outcomes = poisoned.map(["exit", "", "abort", ""], seconds=60)
    assert [outcome.failure for outcome in outcomes] == ["died", None, "died", None]
    assert "exit status 3" in outcomes[0].detail
    assert "exit status -6" in outcomes[2].detail


def test_workers_that_are_killed_while_they_work_are_replaced():
    with pool("slow_double") as doubles:
        doubles.map([0, 0], seconds=60)
        results = []
        thread = threading.Thread(target=lambda: results.extend(doubles.map(list(range(8)), seconds=60)))
        thread.start()
        time.sleep(0.15)
        victims = doubles.pids
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        thread.join(timeout=60)
        assert [outcome.value for outcome in results] == list(range(0, 16, 2))
        assert len(victims) == 2
        assert not set(victims) & set(doubles.pids)


def test_it_works_in_any_thread():
    results = []
    with pool("poisoned") as poisoned:
        thread = threading.Thread(target=lambda: results.extend(poisoned.map(["power", ""], seconds=2.0)))
        thread.start()
        thread.join(timeout=60)
    assert [outcome.failure for outcome in results] == ["time", None]


def test_nothing_is_left_when_it_closes():
    descriptors = len(os.listdir("/proc/self/fd"))
    doubles = pool("double")
    doubles.map([1, 2, 3], seconds=60)
    pids, folder = doubles.pids, Path(doubles._workers[0]._folder)
    assert folder.exists()
    doubles.close()
    assert doubles.closed
    assert wait_until(lambda: not any(map(is_alive, pids)))
    assert not folder.exists()
    with pytest.raises(RuntimeError, match="closed"):
        doubles.map([1], seconds=1)
    del doubles
    assert len(os.listdir("/proc/self/fd")) == descriptors


SCRIPT = """
    import os, signal, sys, threading, time
    from trl_archer.workers import WorkerPool
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit an ignored SIGINT
    pool = WorkerPool("{functions}:poisoned", 2)
    pool.map(["", ""], seconds=60)
    print(*pool.pids, pool._workers[0]._folder, flush=True)
    pool.map([sys.argv[1]] * 2, seconds=float(sys.argv[2]))
"""


def start(poison: str, seconds: float, tmp_path: Path) -> tuple[subprocess.Popen, list[int], Path]:
    """A script with busy workers and, like many training scripts, no main guard."""
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT.format(functions=FUNCTIONS)))
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, str(script), poison, str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "src")]), "TMPDIR": str(tmp_path)},
    )
    *pids, folder = process.stdout.readline().split()
    return process, [int(pid) for pid in pids], Path(folder)


def test_an_interrupt_ends_trainer_and_workers(tmp_path):
    process, pids, folder = start("power", 600, tmp_path)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    assert wait_until(lambda: not any(map(is_alive, pids)))
    assert not folder.exists()


@pytest.mark.parametrize("poison", ["power", "sleep"])
def test_workers_outlive_a_killed_trainer_by_one_item_at_most(poison, tmp_path):
    process, pids, _ = start(poison, 3, tmp_path)
    time.sleep(0.3)
    process.kill()
    process.communicate(timeout=20)
    assert wait_until(lambda: not any(map(is_alive, pids)), seconds=30)


FORKED = """
    if os.fork() == 0:  # a data loader: it keeps the pipes of the workers open
        time.sleep(12)
        os._exit(0)
"""


@pytest.mark.parametrize("poison", ["idle", "sleep"])
def test_workers_of_a_killed_trainer_end_although_its_child_lives(poison, tmp_path, monkeypatch):
    wait = "    time.sleep(30)\n" if poison == "idle" else ""
    monkeypatch.setattr(
        sys.modules[__name__], "SCRIPT", SCRIPT.replace("    pool.map([sys", FORKED[1:] + wait + "    pool.map([sys")
    )
    process, pids, folder = start(poison, 1, tmp_path)
    time.sleep(0.3)
    process.kill()
    process.wait()
    process.stdout.close(), process.stderr.close()
    assert wait_until(lambda: not any(map(is_alive, pids)), seconds=10)
    assert wait_until(lambda: not folder.parent.exists())


def test_a_worker_that_does_not_read_costs_its_own_slot_only():
    """A pipe holds 64 KiB."""
    with pool("double", workers=1) as doubles:
        doubles.map([1], seconds=60)
        for size in (1, 300_000):
            os.kill(doubles.pids[0], signal.SIGSTOP)
            begin = time.monotonic()
            assert [outcome.failure for outcome in doubles.map(["x" * size], seconds=0.3)] == ["time"]
            assert time.monotonic() - begin < 5
            assert doubles.map(["x" * 300_000], seconds=60)[0].value == "x" * 600_000


def test_workers_see_no_secrets(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    with pool("environment", workers=1) as environments:
        assert "HF_TOKEN" not in environments.map([None], seconds=60)[0].value


def test_a_function_that_does_not_exist_is_an_error_at_once():
    with WorkerPool("trl_archer.no_such_module:f", 1) as missing, pytest.raises(RuntimeError, match="no_such_module"):
        missing.map([1], seconds=60)


def test_the_cores_are_divided_among_the_ranks_of_a_machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    for ranks, expected in (("", 16), ("1", 16), ("8", 2), ("32", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        assert workers_per_rank() == expected
    with pytest.raises(ValueError, match="workers is 0"):
        WorkerPool("math:factorial", workers=0)
