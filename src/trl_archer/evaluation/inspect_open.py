"""Opens the model of an evaluation with one of Inspect's providers, and identifies its weights."""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from inspect_ai.model import Model, get_model

_ADAPTER = "adapter_config.json"
_WEIGHTS = ("*.safetensors", "*.bin", "config.json", _ADAPTER)
API_KEY = "TRL_ARCHER_API_KEY"


def open_model(
    model: str,
    *,
    adapter: str | None = None,
    revision: str | None = None,
    backend: str = "transformers",
    endpoint: str | None = None,
    raw_prompts: bool = False,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    model_args: Mapping[str, Any] | None = None,
) -> tuple[Model, str]:
    """
    Opens a model.

    Args:
        model (`str`): Folder or name on the Hub. A folder with an adapter opens its base model as well. For an
            endpoint, the name of the model on the server.
        adapter (`str`, *optional*): Folder of a PEFT adapter.
        revision (`str`, *optional*): Revision on the Hub.
        backend (`str`, *optional*, defaults to `"transformers"`): `"transformers"`, `"vllm"` (starts a server on this
            machine) or `"inspect"` (`model` then names one of Inspect's providers, such as `"mockllm/model"`).
        endpoint (`str`, *optional*): URL of an OpenAI-compatible server, such as `"http://node7:8000/v1"`.
        raw_prompts (`bool`, *optional*, defaults to `False`): Whether to leave out the chat template.
        chat_template_kwargs (`dict`, *optional*): Arguments of the chat template.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether to run code that comes with the model.
        model_args (`dict`, *optional*): Other arguments of the provider.

    Returns:
        `tuple`: The model, and a digest of its weights. A server does not reveal its weights, so its digest is the URL.

    Raises:
        ValueError: If the model cannot be found, or an argument has no effect.
    """
    args = dict(model_args or {})
    if endpoint is not None:
        if adapter or revision or backend != "transformers":
            raise ValueError(
                f"endpoint={endpoint!r} already runs a model, so adapter, revision and backend have no effect. Name "
                "the model or adapter as the server does."
            )
        provider = "openai-api-completions" if raw_prompts else "openai-api"
        key = os.environ.get(API_KEY, "none")
        _check_endpoint(endpoint, model, key)
        name = f"{provider}/trl_archer/{model}"
        return get_model(name, base_url=endpoint, api_key=key, **_body(chat_template_kwargs), **args), endpoint
    if backend == "inspect":
        return get_model(model, **args), model
    if adapter is None and (Path(model) / _ADAPTER).is_file():
        adapter, model = model, json.loads((Path(model) / _ADAPTER).read_text())["base_model_name_or_path"]
    weights = "+".join(_digest(name, revision) for name in (model, adapter) if name)
    if backend == "vllm":
        if find_spec("vllm") is None:
            raise ValueError("backend='vllm' needs `pip install 'trl-archer[vllm]'`, or pass --endpoint.")
        # Inspect starts the program `vllm` by name, which is on the path of an activated environment only
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        provider = "vllm-completions" if raw_prompts else "vllm"
        options = {"host": "127.0.0.1", "revision": revision, "trust_remote_code": trust_remote_code or None, **args}
        options = {name: value for name, value in options.items() if value is not None}
        name = f"{provider}/{model}" + (f":{adapter}" if adapter else "")
        return get_model(name, **_body(chat_template_kwargs), **options), weights
    options = {"adapter": adapter, "revision": revision, "raw_prompts": raw_prompts, **args}
    options |= {"chat_template_kwargs": dict(chat_template_kwargs or {}), "trust_remote_code": trust_remote_code}
    return get_model(f"trl_archer/{model}", **options), weights


def _check_endpoint(endpoint: str, model: str, key: str) -> None:
    request = Request(f"{endpoint.rstrip('/')}/models", headers={"Authorization": f"Bearer {key}"})
    try:
        with urlopen(request, timeout=30) as response:
            served = [entry["id"] for entry in json.load(response)["data"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"endpoint={endpoint!r} does not list its models ({error}). Give the URL of an OpenAI-compatible server, "
            f"such as http://node7:8000/v1, and its key, if it has one, in {API_KEY}."
        ) from None
    if model not in served:
        raise ValueError(
            f"endpoint={endpoint!r} does not serve {model!r}, but {', '.join(served)}. Pass it as --model."
        )


def _body(chat_template_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments of the chat template, as vLLM's server takes them."""
    from inspect_ai.model import GenerateConfig

    if not chat_template_kwargs:
        return {}
    return {"config": GenerateConfig(extra_body={"chat_template_kwargs": dict(chat_template_kwargs)})}


def _digest(name: str, revision: str | None) -> str:
    """A digest of the files of a local model; the commit of one on the Hub."""
    folder = Path(name)
    if not folder.is_dir():
        return _commit(name, revision)
    files = sorted({path for pattern in _WEIGHTS for path in folder.glob(pattern)})
    if not files:
        raise ValueError(f"model={name!r} is a folder without a model. Pass the output_dir of a run or a checkpoint.")
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _commit(name: str, revision: str | None) -> str:
    from transformers.utils.hub import cached_file, extract_commit_hash

    try:
        path = cached_file(name, "config.json", revision=revision or "main")
    except OSError as error:
        raise ValueError(f"model={name!r} is neither a folder nor a model on the Hub: {error}") from None
    return str(extract_commit_hash(path, None))
