"""Says once per launch why a run was refused."""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


def report_refusal(message: str) -> None:
    """
    Prints an error on the first process of each node, and hands it to torch's launcher.

    The launcher's own report is the last in the log of a run. It shows the message of the process that failed first, if
    the process has left it in a file.
    """
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(message, file=sys.stderr, flush=True)
    if path := os.environ.get(_ERROR_FILE):
        content = {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}
        with contextlib.suppress(OSError):  # the message is in the log already
            Path(path).write_text(json.dumps({"message": content}))
