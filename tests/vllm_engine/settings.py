"""What workers and tests share; imports nothing large, so that the tests start at once."""

import socket

ROLLOUTS = 3
PASSES = 2  # over each rollout, so that ratios and KL come into play
TOKENS = list(range(3, 27))  # scored by engine and trained model
MAX_LENGTH = 64
PID_FILE = "server.pid"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
