"""Runs programs on a remote service with the HTTP interface of SandboxFusion (arXiv 2412.00535)."""

import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Literal

from .program import Limits, Program, Run, SandboxError, bootstrap

_NETWORK_SECONDS = 30.0  # on top of the program's own time
_MOST_REPLIED = 4  # times the size of a file that a program may write
_RESULT_FILE = "result"


@dataclass(frozen=True)
class SandboxFusion:
    """
    Runs programs on a [SandboxFusion](https://github.com/bytedance/SandboxFusion) server.

    The server isolates the programs and enforces the limits on wall time and memory. Other limits are the server's own.

    Args:
        url (`str`): Base address of the server, such as `"http://sandbox:8080"`.
        limits ([`Limits`], *optional*): What each program may use.
        headers (`dict[str, str]`, *optional*): Headers of each request, for example for authorization.
        attempts (`int`, *optional*, defaults to `3`): How many times to send a request that fails in transit.

    Example:

    ```python
    from trl_archer.rewards import get_code_reward
    from trl_archer.sandbox import SandboxFusion

    reward = get_code_reward(sandbox=SandboxFusion("http://sandbox:8080"))
    ```
    """

    url: str
    limits: Limits = field(default_factory=Limits)
    headers: dict[str, str] = field(default_factory=dict, hash=False)
    attempts: int = 3

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url is {self.url!r}; it must start with http:// or https://.")
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}; it must be at least 1.")

    def run(self, program: Program) -> Run:
        """
        Runs a program to its end or a limit.

        Raises:
            SandboxError: If the server cannot be reached or reports a failure of its own.
        """
        opened = {"request": "'request', os.O_RDONLY", "result": f"{_RESULT_FILE!r}, os.O_WRONLY | os.O_CREAT"}
        request = {
            "language": "python",
            "code": bootstrap(
                "os.open(os.devnull, os.O_WRONLY)", **{name: f"os.open({how})" for name, how in opened.items()}
            ),
            "stdin": program.stdin,
            "run_timeout": self.limits.wall_seconds,
            "memory_limit_MB": self.limits.memory_mib,
            "files": {"request": base64.b64encode(program.request().encode(errors="surrogatepass")).decode()},
            "fetch_files": [_RESULT_FILE],
        }
        answer = self._post(request)
        if answer is None:
            return Run("output", "", "", None, 0.0)
        try:
            return _read(answer)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SandboxError(f"{self.url} returned a malformed result: {str(answer)[:500]}") from error

    def _post(self, request: dict[str, Any]) -> Any:
        """The server's reply. `None` if it is larger than any reply to a program within its limits."""
        message = urllib.request.Request(
            f"{self.url.rstrip('/')}/run_code",
            data=json.dumps(request).encode(),
            headers={"Content-Type": "application/json", **self.headers},
        )
        failure: Exception | None = None
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(message, timeout=self.limits.wall_seconds + _NETWORK_SECONDS) as reply:
                    return self._body(reply)
            except urllib.error.HTTPError as error:
                error.close()
                failure = error
                if error.code < 500 and error.code != 429:  # the request is at fault, a retry would not help
                    raise SandboxError(f"{self.url} refused the program: {error}") from error
            except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
                failure = error
        raise SandboxError(f"{self.url} failed {self.attempts} times, last with: {failure}") from failure

    def _body(self, reply: http.client.HTTPResponse) -> Any:
        end = time.monotonic() + self.limits.wall_seconds + _NETWORK_SECONDS
        body, most = bytearray(), _MOST_REPLIED * self.limits.file_mib * 2**20
        while chunk := reply.read1(2**20):
            body += chunk
            if len(body) > most:
                return None
            if time.monotonic() > end:
                raise TimeoutError(f"{self.url} sent only a part of its reply in time.")
        if reply.length:
            raise http.client.IncompleteRead(bytes(body), reply.length)
        return json.loads(body)


def _read(answer: dict[str, Any]) -> Run:
    if answer["status"] == "SandboxError":
        raise SandboxError(f"The server failed: {str(answer.get('message'))[:500]}")
    ended = answer["run_result"]
    value = base64.b64decode((answer.get("files") or {}).get(_RESULT_FILE) or "", validate=True)
    stdout, stderr, seconds = (ended[name] for name in ("stdout", "stderr", "execution_time"))
    for text in (stdout, stderr):
        if not isinstance(text, str | None):
            raise TypeError("an output is not text")
    status: Literal["ended", "failed", "timeout"] = "failed" if ended["return_code"] else "ended"
    return Run(
        status="timeout" if ended["status"] == "TimeLimitExceeded" else status,
        stdout=stdout or "",
        stderr=(stderr or "")[-2000:],
        value=value.decode(errors="replace") or None,
        seconds=float(seconds or 0.0),
    )
