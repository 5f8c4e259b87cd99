"""Trains with a server in another process: `python tests/vllm_engine/server_worker.py KIND FOLDER`."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import vllm
from requests.adapters import HTTPAdapter
from vllm_cpu_shims import install_in_trainer

from tests.vllm_engine.engine import engine_trainer, save_model, train_and_measure
from tests.vllm_engine.server import Server
from tests.vllm_engine.settings import PASSES, TOKENS, free_port
from trl_archer.grpo.vllm_server import check_server


def engine_logps(client: Any) -> torch.Tensor:
    answer = client.get_sequence_logprobs([TOKENS], [1], top_logprobs=0)
    return torch.tensor(answer["actual_logprobs"][0]).squeeze(1)


def kill_while_it_generates(trainer: Any, server: Server) -> list[list[Any]]:
    """
    Kills and restarts the server between a request and its answer, in the second and third rollout.

    In the second rollout the request fails. In the third, the new server answers it.

    Returns:
        `list`: The requests, as `[path, step]`. It grows during training.
    """
    client = trainer.vllm_generation.vllm_client
    client.session.mount("http://", HTTPAdapter())  # TRL's adapter would retry for a minute
    post, posts = client._post, []

    def post_or_kill(url: str, **kwargs: Any) -> Any:
        request = [url.removeprefix(server.url), trainer.state.global_step]
        is_first = request not in posts
        posts.append(request)
        if is_first and request in (["/v1/completions", PASSES], ["/v1/completions", 2 * PASSES]):
            server.kill()
            server.start()
            if request[1] == 2 * PASSES:
                check_server(vars(trainer.args), trainer.model.name_or_path)  # waits until it is up
        return post(url, **kwargs)

    client._post = post_or_kill
    return posts


def refusal(path: str, folder: Path, config: dict[str, Any]) -> str | None:
    try:
        engine_trainer(path, folder, **config)
    except ValueError as error:
        return str(error)
    return None


def refusals(path: str, folder: Path, config: dict[str, Any]) -> dict[str, str | None]:
    """The errors for a server with another model, and for a server with another version of vLLM."""
    texts = {"model": refusal(save_model(folder / "other", tied=False, seed=1), folder, config)}
    own_version, vllm.__version__ = vllm.__version__, "0.22.0"
    texts["version"] = refusal(path, folder, config)
    vllm.__version__ = own_version
    return texts


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    install_in_trainer()
    path = save_model(folder / "model", tied=kind == "tied")
    with Server(path, folder / "server.log") as server:
        config = {
            "vllm_mode": "server",
            "vllm_server_base_url": server.url,
            "vllm_group_port": free_port(),
            "max_generation_retries": 6,
        }
        facts: dict[str, Any] = {} if kind == "tied" else {"refusals": refusals(path, folder, config)}
        trainer = engine_trainer(path, folder, **config)
        if kind == "tied":
            facts["posts"] = kill_while_it_generates(trainer, server)
        logps = partial(engine_logps, trainer.vllm_generation.vllm_client)
        train_and_measure(trainer, logps, folder / "facts.json", **facts)


if __name__ == "__main__":
    main()
