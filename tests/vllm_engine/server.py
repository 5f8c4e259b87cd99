"""A real vLLM server on the CPU that can be killed and restarted."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.vllm_engine.settings import MAX_LENGTH, PID_FILE, free_port
from trl_archer.grpo.vllm_server import start_command


class Server:
    """
    The server that our error messages tell the user to start, in float32 and without compilation.

    Args:
        model (`str`): Path of the model.
        log (`Path`): File for its output.
    """

    def __init__(self, model: str, log: Path):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        setting, *command = shlex.split(start_command({"vllm_server_base_url": self.url}, model))
        assert (setting, command[0]) == ("VLLM_SERVER_DEV_MODE=1", "vllm")
        self.command = [sys.executable, "-m", "vllm.entrypoints.cli.main", *command[1:]]
        self.command += ["--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager"]
        self.command += ["--max-model-len", str(MAX_LENGTH)]
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, "VLLM_SERVER_DEV_MODE": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (self.log.parent / PID_FILE).write_text(str(self.process.pid))

    def kill(self) -> None:
        """Kills server and engine at once, as a machine failure would."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *args: Any) -> None:
        self.kill()
