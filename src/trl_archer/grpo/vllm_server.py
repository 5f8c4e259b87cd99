"""Checks a vLLM server before training: whether it responds, and whether TRL can train this model with it."""

import importlib.util
import json
import logging
import os
import shlex
import time
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import SplitResult, urlsplit
from urllib.request import urlopen

from accelerate.utils import broadcast_object_list

logger = logging.getLogger(__name__)

_ANSWER_SECONDS = 60  # on the first request, a server collects information about its machine
_RETRY_SECONDS = 2
_PROBES = 8  # almost surely reach more than one process if several share an address


def check_installed() -> None:
    """
    Checks that vLLM can be imported. The client of a server needs it, too.

    Raises:
        ValueError: If it cannot.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ValueError("use_vllm=True, but vLLM is not installed. Run `pip install 'trl-archer[vllm]'`.")


def check_generation(args: Any, model: str) -> None:
    """
    Checks vLLM if `use_vllm` is set. The main process, which talks to a server, checks the server.

    Raises:
        OSError or ValueError: As [`check_installed`] and [`check_server`], on every rank.
    """
    if not args.use_vllm:
        return
    check_installed()
    if args.vllm_mode != "server":
        return
    refusal: Exception | None = None
    if args.process_index == 0:
        try:
            check_server(vars(args), model)
        except Exception as error:  # the other ranks wait for it
            refusal = error
    (refusal,) = broadcast_object_list([refusal])
    if refusal is not None:
        raise refusal


def check_server(values: Mapping[str, Any], model: str) -> None:
    """
    Waits for a vLLM server for up to `vllm_server_timeout` seconds, then checks that TRL can train with it.

    Raises:
        ConnectionError: If no server responds.
        ValueError: If the address is invalid, or if it is not a vLLM server, runs a version other than the one
            installed here, accepts no weights, serves another model, or consists of several processes. Each message
            contains the address, its field, and the command that starts the right server.
    """
    url = server_url(values)
    place = f"{url} ({_fields(values)})"
    start = f"Start it with `{start_command(values, model)}`"
    _wait(url, place, start, values["vllm_server_timeout"])

    from vllm import __version__ as own_version

    version = (_ask(url, "/version") or {}).get("version")
    if version is None:
        raise ValueError(f"{place} is not a vLLM server: it has no /version endpoint. {start}.")
    if _release(version) != _release(own_version):
        raise ValueError(
            f"The server at {place} runs vLLM {version}, but vLLM {own_version} is installed here. The two may pack "
            "weights differently. Install the same version on both sides."
        )
    info = server_info(url)
    if info is None:
        raise ValueError(f"The vLLM server at {place} has no development endpoints for receiving weights. {start}.")
    transfer = info.get("weight_transfer_config")
    if transfer is None or transfer.get("backend") != "nccl":
        raise ValueError(
            f"The vLLM server at {place} has weight_transfer_config={transfer}, so TRL cannot send it weights. {start}."
        )
    served = {info["model_config"]["model"], *_names(info["model_config"].get("served_model_name"))}
    if model and _real_path(model) not in map(_real_path, served):
        raise ValueError(
            f"The vLLM server at {place} serves {' as '.join(map(repr, sorted(served)))}, not {model!r}, the model to "
            f"train. {start}. If it is the same model under another path, add `--served-model-name {model}` there."
        )
    ids = {(server_info(url) or {}).get("instance_id") for _ in range(_PROBES)}
    if len(ids) > 1:
        raise ValueError(
            f"Several processes respond at {place}, so a restarted one looks like one that has the weights. "
            "With data parallelism, start `vllm serve` with `--api-server-count 1`."
        )


def server_url(values: Mapping[str, Any]) -> str:
    """
    Builds the address of the server, as TRL does.

    Raises:
        ValueError: If `vllm_server_base_url` is not a URL or `vllm_server_port` not a port.

    Example:

    ```python
    >>> server_url({"vllm_server_base_url": None, "vllm_server_host": "node7", "vllm_server_port": 8000})
    'http://node7:8000'

    ```
    """
    base_url = values["vllm_server_base_url"]
    if base_url is None:
        host, port = values["vllm_server_host"], values["vllm_server_port"]
        if not 0 < port < 2**16:
            raise ValueError(f"vllm_server_port={port} is not a valid port (1-65535).")
        return f"http://{host}:{port}"
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not _has_address(parts) or parts.path.endswith("/") or parts.query:
        raise ValueError(
            f"vllm_server_base_url={base_url!r} is not a server address. Write it as 'http://HOST:PORT', without a "
            "trailing slash."
        )
    return base_url


def start_command(values: Mapping[str, Any], model: str) -> str:
    """Returns the command that starts a server for TRL."""
    port = urlsplit(server_url(values)).port
    command = ["vllm", "serve", model or "MODEL", *([] if port is None else ["--port", str(port)])]
    options = ["--weight-transfer-config", '{"backend": "nccl"}', "--logprobs-mode", "processed_logprobs"]
    return f"VLLM_SERVER_DEV_MODE=1 {shlex.join(command + options)}"


def server_info(url: str) -> dict[str, Any] | None:
    """
    Reads the server's configuration.

    Raises:
        OSError: If it does not respond.
    """
    info = _ask(url, "/server_info?config_format=json")
    return None if info is None else info["vllm_config"]


def read_url(url: str, timeout: float) -> bytes:
    """Reads what is at a URL, and closes the connection, on an error status too."""
    try:
        with urlopen(url, timeout=timeout) as answer:
            return answer.read()
    except HTTPError as error:
        error.close()
        raise


def _wait(url: str, place: str, start: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    waiting = False
    while True:
        try:
            read_url(f"{url}/health", timeout=10)
            return
        except (OSError, HTTPException) as error:
            problem = getattr(error, "reason", None) or error
        if time.monotonic() >= deadline:
            raise ConnectionError(
                f"No vLLM server responded at {place} within {timeout:g} s (vllm_server_timeout): {problem}. {start}, "
                "or correct the address."
            )
        if not waiting:
            logger.warning(f"Waiting for the vLLM server at {place}, up to {timeout:g} seconds: {problem}.")
            waiting = True
        time.sleep(_RETRY_SECONDS)


def _ask(url: str, path: str) -> dict[str, Any] | None:
    """Reads the JSON object at a path; returns `None` if there is none."""
    try:
        content = json.loads(read_url(f"{url}{path}", timeout=_ANSWER_SECONDS))
    except HTTPError as error:
        if error.code == 404:
            return None
        raise ConnectionError(f"{url}{path} responds with {error}.") from None
    except HTTPException as error:
        raise ConnectionError(f"{url}{path} responds with {type(error).__name__}: {error}.") from None
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _has_address(parts: SplitResult) -> bool:
    try:
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # not a port
        return False


def _fields(values: Mapping[str, Any]) -> str:
    base_url = values["vllm_server_base_url"]
    if base_url is not None:
        return f"vllm_server_base_url={base_url!r}"
    return f"vllm_server_host={values['vllm_server_host']!r}, vllm_server_port={values['vllm_server_port']}"


def _release(version: str) -> list[str]:
    """Returns the major and minor version."""
    return version.split(".")[:2]


def _names(served: str | list[str] | None) -> list[str]:
    """Returns `served_model_name` as a list: vLLM accepts one name or several."""
    return [served] if isinstance(served, str) else served or []


def _real_path(model: str) -> str:
    return os.path.realpath(model) if os.path.exists(model) else model
