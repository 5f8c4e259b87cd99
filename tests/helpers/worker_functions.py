"""Functions for the workers in test_workers.py."""

import contextlib
import os
import re
import time


def double(number: int) -> int:
    return 2 * number


def slow_double(number: int) -> int:
    time.sleep(0.1)
    return 2 * number


def environment(_: None) -> list[str]:
    return list(os.environ)


def poisoned(poison: str) -> object:
    match poison:
        case "power":
            return 9 ** (9**9)
        case "sleep":
            time.sleep(10_000)
        case "loop":
            while True:
                try:
                    time.sleep(0.01)
                except Exception:
                    continue
        case "stubborn":
            while True:
                with contextlib.suppress(BaseException):
                    time.sleep(0.01)
        case "regex":
            re.match("(a+)+$", "a" * 60 + "b")
        case "memory":
            return len(bytearray(2**40))
        case "raise":
            raise ValueError("not this one")
        case "unsendable":
            return {1, 2}
        case "exit":
            os._exit(3)
        case "abort":
            os.abort()
    return "fine"
