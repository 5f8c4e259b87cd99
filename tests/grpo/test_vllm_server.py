"""Unsuitable servers are refused before a model is loaded; the message names the field and the fix."""

import re
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from http.client import IncompleteRead
from importlib.machinery import ModuleSpec
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from datasets import Dataset

from trl_archer import ArcherGRPOConfig, ArcherGRPOTrainer
from trl_archer.commands.train.run import main
from trl_archer.grpo import vllm_server
from trl_archer.grpo.vllm_server import check_server, server_url, start_command

from ..helpers.tiny import PROMPTS, length_reward, make_trainer
from ..helpers.vllm_stub import ServerStub

INFO = "/server_info?config_format=json"


@pytest.fixture
def server() -> Iterator[ServerStub]:
    stub = ServerStub()
    yield stub
    stub.close()


@pytest.fixture(autouse=True)
def own_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vllm")
    module.__spec__, module.__version__ = ModuleSpec("vllm", None), "0.31.1+cu130"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)


def fields(server: ServerStub, **values: Any) -> dict[str, Any]:
    return {
        "vllm_server_base_url": None,
        "vllm_server_host": "127.0.0.1",
        "vllm_server_port": server.port,
        "vllm_server_timeout": 0.0,
        **values,
    }


def refusal(values: dict[str, Any], model: str = "MODEL") -> str:
    with pytest.raises((ValueError, ConnectionError)) as error:
        check_server(values, model)
    return str(error.value)


def test_server_to_train_with(server: ServerStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another patch release is the same version; a path is the same however it is written."""
    check_server(fields(server), "MODEL")
    check_server(fields(server, vllm_server_base_url=server.url, vllm_server_port=1), "MODEL")
    check_server(fields(server), "")
    server.info["model_config"] = {"model": "/mnt/model", "served_model_name": ["other", "MODEL"]}
    check_server(fields(server), "MODEL")
    (tmp_path / "model").mkdir()
    server.info["model_config"] = {"model": str(tmp_path / "model"), "served_model_name": None}
    monkeypatch.chdir(tmp_path)
    check_server(fields(server), "./model")


def test_unreachable_server(server: ServerStub) -> None:
    server.close()
    message = refusal(fields(server))
    assert message.startswith(
        f"No vLLM server responded at {server.url} (vllm_server_host='127.0.0.1', vllm_server_port={server.port}) "
        "within 0 s (vllm_server_timeout): "
    )
    assert "Connection refused" in message
    assert f"VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --port {server.port} --weight-transfer-config" in message
    by_url = refusal(fields(server, vllm_server_base_url=server.url))
    assert f"{server.url} (vllm_server_base_url='{server.url}') within" in by_url


def test_server_that_is_still_starting(
    server: ServerStub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is waited for, and the user is told so once, not after the time is over."""
    server.answers["/health"] = (503, "")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            server.answers["/health"] = (200, "")

    monkeypatch.setattr(vllm_server.time, "sleep", sleep)
    check_server(fields(server, vllm_server_timeout=240.0), "MODEL")
    assert waits == [2, 2, 2]
    assert [record.message for record in caplog.records] == [
        f"Waiting for the vLLM server at {server.url} (vllm_server_host='127.0.0.1', vllm_server_port={server.port}), "
        "up to 240 seconds: Service Unavailable."
    ]


def test_waiting_ends_whatever_is_answered(server: ServerStub, monkeypatch: pytest.MonkeyPatch) -> None:
    del server.answers["/health"]
    clock = iter(range(0, 1000, 30))
    monkeypatch.setattr(vllm_server.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(vllm_server.time, "sleep", lambda seconds: None)
    assert "within 100 s (vllm_server_timeout): Not Found." in refusal(fields(server, vllm_server_timeout=100.0))
    assert server.requests == ["/health"] * 4


def test_what_answers_speaks_another_protocol() -> None:
    """As a server of SSH does, or one that is truncated."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=answer, daemon=True).start()
        port = listener.getsockname()[1]
        values = {"vllm_server_base_url": f"http://127.0.0.1:{port}", "vllm_server_timeout": 0.0}
        with pytest.raises(ConnectionError, match=rf"No vLLM server responded at .*{port}.*: SSH-2.0-OpenSSH_9.2"):
            check_server(values, "MODEL")


def test_answer_that_is_cut_off(server: ServerStub, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(answer: Any) -> None:
        raise IncompleteRead(b"{", 100)

    monkeypatch.setattr(vllm_server.json, "loads", cut_off)
    with pytest.raises(ConnectionError, match=r"/version responds with IncompleteRead"):
        check_server(fields(server), "MODEL")


def test_several_processes_behind_one_address(server: ServerStub) -> None:
    numbers = count()
    server.answers[INFO] = (200, lambda: {"vllm_config": {**server.info, "instance_id": str(next(numbers) % 2)}})
    message = refusal(fields(server))
    assert f"Several processes respond at {server.url} (vllm_server_host" in message
    assert "`--api-server-count 1`" in message


@pytest.mark.parametrize("port", [0, -1, 80000])
def test_no_port(port: int) -> None:
    values = {"vllm_server_base_url": None, "vllm_server_host": "node7", "vllm_server_port": port}
    with pytest.raises(ValueError, match=rf"vllm_server_port={port} is not a valid port \(1-65535\)"):
        server_url(values)


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8000", "http://", "http://localhost:8000/", "node7", "ftp://node7"),
        *("http://node7:abc", "http://node7:80000", "http://node7:0", "http://:8000"),
    ],
)
def test_no_address(url: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"vllm_server_base_url={url!r} is not a server address. Write")):
        server_url({"vllm_server_base_url": url})


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.30.2", "runs vLLM 0.30.2, but vLLM 0.31.1+cu130 is installed here"),
        ("1.31.0", "runs vLLM 1.31.0, but"),
        (None, "is not a vLLM server: it has no /version endpoint. Start it with `VLLM_SERVER_DEV_MODE=1 vllm serve"),
    ],
)
def test_other_version(server: ServerStub, version: str | None, message: str) -> None:
    server.answers["/version"] = (404, "") if version is None else (200, {"version": version})
    assert message in refusal(fields(server))
    assert f"vllm_server_port={server.port}" in refusal(fields(server))


@pytest.mark.parametrize("body", ["<html>", [], "3", {}])
def test_not_a_vllm_server(server: ServerStub, body: Any) -> None:
    server.answers["/version"] = (200, body)
    assert "is not a vLLM server: it has no /version" in refusal(fields(server))


def test_failing_server(server: ServerStub) -> None:
    server.answers[INFO] = (500, "")
    assert refusal(fields(server)) == f"{server.url}{INFO} responds with HTTP Error 500: Internal Server Error."


def test_server_that_takes_no_weights(server: ServerStub) -> None:
    server.info["weight_transfer_config"] = None
    message = refusal(fields(server))
    assert "has weight_transfer_config=None, so TRL cannot send it weights" in message
    assert """--weight-transfer-config '{"backend": "nccl"}'""" in message
    server.info["weight_transfer_config"] = {"backend": "ipc"}
    assert "weight_transfer_config={'backend': 'ipc'}" in refusal(fields(server))
    del server.answers[INFO]
    assert "has no development endpoints" in refusal(fields(server))


def test_other_model(server: ServerStub) -> None:
    server.info["model_config"] = {"model": "/mnt/a", "served_model_name": "a"}
    message = refusal(fields(server), "org/b")
    assert "serves '/mnt/a' as 'a', not 'org/b', the model to train." in message
    assert "vllm serve org/b" in message
    assert "`--served-model-name org/b`" in message


def test_command_that_starts_a_server() -> None:
    values = {"vllm_server_base_url": "https://node7", "vllm_server_host": "0.0.0.0", "vllm_server_port": 8000}
    assert shlex.split(start_command(values, "my model")) == [
        "VLLM_SERVER_DEV_MODE=1",
        "vllm",
        "serve",
        "my model",
        "--weight-transfer-config",
        '{"backend": "nccl"}',
        "--logprobs-mode",
        "processed_logprobs",
    ]
    assert "--port 8001" in start_command({**values, "vllm_server_base_url": "http://[::1]:8001"}, "m")


def test_trainer_refuses_before_it_loads_the_model(server: ServerStub, tmp_path: Path) -> None:
    server.answers["/version"] = (200, {"version": "0.22.0"})
    config = ArcherGRPOConfig(
        str(tmp_path), use_cpu=True, bf16=False, use_vllm=True, **fields(server, vllm_mode="server")
    )
    data = Dataset.from_dict({"prompt": PROMPTS})
    with pytest.raises(ValueError, match=r"runs vLLM 0\.22\.0, but vLLM 0\.31\.1"):
        ArcherGRPOTrainer("./nowhere", length_reward, config, data)
    server.close()
    with pytest.raises(ConnectionError, match=f"vllm_server_port={server.port}"):
        ArcherGRPOTrainer("./nowhere", length_reward, config, data)


def test_trainer_compares_the_name_of_a_loaded_model(server: ServerStub, model_path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(f"serves 'MODEL', not {model_path!r}")):
        make_trainer(model_path, tmp_path, use_vllm=True, **fields(server, vllm_mode="server"))


def test_vllm_that_is_not_installed(model_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    for mode in ("server", "colocate"):
        with pytest.raises(ValueError, match=r"pip install 'trl-archer\[vllm\]'"):
            make_trainer(model_path, tmp_path, use_vllm=True, vllm_mode=mode)


def test_command_refuses_before_it_reads_data(
    server: ServerStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = (
        "--model_name_or_path ./nowhere --dataset_name none.jsonl --use_cpu --bf16 false --use_vllm --reward_funcs math"
    )
    address = (
        f" --vllm_mode server --vllm_server_host 127.0.0.1 --vllm_server_port {server.port} --vllm_server_timeout 0"
    )
    assert main((flags + address).split()) == 2
    assert "serves 'MODEL', not './nowhere', the model to train." in capsys.readouterr().err
    server.close()
    assert main((flags + address).split()) == 2
    err = capsys.readouterr().err
    assert f"trl-archer train: error: No vLLM server responded at {server.url} (vllm_server_host='127.0.0.1'" in err
    assert "Traceback" not in err
    assert main((flags + " --vllm_mode server --vllm_server_base_url localhost:8000").split()) == 2
    assert "vllm_server_base_url='localhost:8000' is not a server address" in capsys.readouterr().err
