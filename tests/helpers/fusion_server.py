"""A server with the HTTP interface of SandboxFusion, for trusted programs only: it isolates nothing."""

import base64
import json
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


@contextmanager
def fusion_server():
    """
    Yields the server: `url` is its address, `failures` the statuses of its first replies, 0 for a broken reply, and
    `replies` their texts.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.url = f"http://127.0.0.1:{server.server_port}"
        server.failures = []
        server.requests, server.replies = [], []
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, "token": self.headers.get("Authorization"), **request})
        status = self.server.failures.pop(0) if self.server.failures else 200
        answer = _run(request) if status == 200 else {}
        if "sandbox failure" in request["stdin"]:
            answer = {"status": "SandboxError", "message": "no cgroup"}
        body = self.server.replies.pop(0) if self.server.replies else json.dumps(answer).encode()
        self.send_response(status or 200)
        self.send_header("Content-Length", str(len(body) + (status == 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _run(request: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "main.py").write_text(request["code"])
        for path, content in request["files"].items():
            (folder / path).write_bytes(base64.b64decode(content))
        begin = time.monotonic()
        try:
            ended = subprocess.run(
                [sys.executable, "main.py"],
                input=request["stdin"],
                capture_output=True,
                text=True,
                cwd=folder,
                timeout=request["run_timeout"],
            )
            result = {"status": "Finished", "return_code": ended.returncode}
            result |= {"stdout": ended.stdout, "stderr": ended.stderr, "execution_time": time.monotonic() - begin}
        except subprocess.TimeoutExpired:
            result = {"status": "TimeLimitExceeded", "return_code": None, "stdout": "", "stderr": None}
            result |= {"execution_time": request["run_timeout"]}
        fetched = {
            path: base64.b64encode((folder / path).read_bytes()).decode()
            for path in request["fetch_files"]
            if (folder / path).exists()
        }
    is_success = result["status"] == "Finished" and result["return_code"] == 0
    return {"status": "Success" if is_success else "Failed", "message": "", "run_result": result, "files": fetched}
