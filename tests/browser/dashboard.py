"""Starts Trackio's local dashboard as a user does."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

STARTS_WITHIN = 120  # seconds
STOPS_WITHIN = 30


def environment(folder: Path) -> dict[str, str]:
    """Environment of offline processes that store their runs in a folder."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKIO_", "GRADIO_"))}
    return own | {"TRACKIO_DIR": str(folder), "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1", "BROWSER": "true"}


@contextmanager
def serve(folder: Path, project: str) -> Iterator[str]:
    """
    Yields the address of `trackio show` on a free port, and stops it with Ctrl-C.

    Args:
        folder (`Path`): Folder with the runs, `TRACKIO_DIR`.
        project (`str`): The project to show.

    Raises:
        RuntimeError: If the dashboard does not start, or does not stop cleanly.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    log = folder / "show.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("trackio")), "show", "--project", project],
            env=environment(folder) | {"GRADIO_SERVER_PORT": str(port), "GRADIO_NUM_PORTS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            # A shell in the background ignores Ctrl-C, and its children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        address = f"http://127.0.0.1:{port}/"
        _wait_for(f"{address}version", process, log)
        yield address
        process.send_signal(signal.SIGINT)
        if process.wait(STOPS_WITHIN) != 0:
            raise RuntimeError(f"`trackio show` ended with {process.returncode}:\n{log.read_text()}")
    finally:
        process.kill()
        process.wait()


def _wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + STARTS_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        try:
            opener.open(address, timeout=5).close()
            return
        except (URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"`trackio show` does not respond at {address}:\n{log.read_text()}")
