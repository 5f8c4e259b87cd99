"""A server that answers as vLLM's does, without generating anything."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ServerStub:
    """
    Answers what is asked of a vLLM server before training; `answers` holds a status and a body, or what makes one, by
    path.

    It serves the model `MODEL` with vLLM 0.31.0 until told otherwise.
    """

    def __init__(self) -> None:
        self.info: dict[str, Any] = {
            "instance_id": "first",
            "weight_transfer_config": {"backend": "nccl"},
            "model_config": {"model": "MODEL", "served_model_name": "MODEL"},
        }
        self.answers: dict[str, tuple[int, Any]] = {
            "/health": (200, ""),
            "/version": (200, {"version": "0.31.0"}),
            "/server_info?config_format=json": (200, {"vllm_config": self.info}),
        }
        self.requests: list[str] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stub.requests.append(self.path)
                status, body = stub.answers.get(self.path, (404, {"detail": "Not Found"}))
                body = body() if callable(body) else body
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode() if isinstance(body, str) else json.dumps(body).encode())

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
