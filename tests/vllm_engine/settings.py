"""Shared by workers and tests. Imports nothing large, to keep the start of the tests fast."""

import socket

ROLLOUTS = 3
PASSES = 2  # over each rollout; from the second on, ratios differ from 1
TOKENS = list(range(3, 27))  # scored by the engine and by the trained model
MAX_LENGTH = 64
PID_FILE = "server.pid"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
