"""Generation on a vLLM server that may go away, and come back without the policy."""

import time
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

from accelerate.logging import get_logger
from accelerate.utils import broadcast_object_list

from .vllm_server import server_info

logger = get_logger(__name__)


class ServerWatch:
    """
    The main process's view of a vLLM server: whether it answers, and whether it is still the one that has our weights.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer with `vllm_mode="server"`. A call of its client that is cut off returns
            no completions from now on, which TRL broadcasts as any others, so that no rank waits for ever.
    """

    _NOTHING: dict[str, list] = {"prompt_ids": [], "completion_ids": [], "logprobs": [], "logprob_token_ids": []}

    def __init__(self, trainer: Any):
        self.client = trainer.vllm_generation.vllm_client
        self.device = trainer.accelerator.device
        self.failure: str | None = None
        self.instance = self._instance_id()
        generate = self.client.generate

        def generate_or_nothing(*args: Any, **kwargs: Any) -> dict[str, Any]:
            self.failure = None
            try:
                output = generate(*args, **kwargs)
                # The client repeats a request that was cut off, which a server that was started again would answer
                # from the weights on its disk
                if self._instance_id() == self.instance:
                    return output
                self.failure = "it was started again meanwhile"
            except OSError as error:  # what requests raises
                self.failure = f"{type(error).__name__}: {error}"
            return self._NOTHING

        self.client.generate = generate_or_nothing

    def look(self) -> str:
        """Returns `"up"`, `"restarted"` for a server that needs the weights anew, or what is wrong."""
        try:
            urlopen(f"{self.client.base_url}/health", timeout=10).close()
            instance = self._instance_id()
            # A server that does not tell its id may have been another since it last failed
            if instance == self.instance and (instance is not None or self.failure is None):
                return "up"
            self.client.close_communicator()
            self.client.init_communicator(device=self.device)
            self.instance, self.failure = instance, None
            return "restarted"
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            return self.failure

    def _instance_id(self) -> str | None:
        return (server_info(self.client.base_url) or {}).get("instance_id")


def generate_with_retries(trainer: Any, generate: Callable[[], tuple[list, Any]]) -> tuple[list, Any]:
    """
    Generates on a vLLM server that may go away and come back, on all ranks together.

    A server that was restarted has lost the policy: it is sent the weights again, by all ranks, before it generates.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer.
        generate (`Callable`): TRL's generation, which sends the weights if `_last_loaded_step` is not the current step.

    Returns:
        `tuple`: What it returned.

    Raises:
        ConnectionError: On all ranks, if the server does not answer after `max_generation_retries`.
    """
    retries = trainer.args.max_generation_retries
    is_main = trainer.accelerator.is_main_process
    for attempt in range(retries + 1):
        (state,) = broadcast_object_list([trainer._server.look() if is_main else None])
        if state == "restarted":
            logger.warning("The vLLM server is a new one; it is sent the weights.")
            trainer._last_loaded_step = -1
        if state in ("up", "restarted"):
            output = generate()
            # Not by the completions, of which a rank may have none to make
            (failure,) = broadcast_object_list([trainer._server.failure if is_main else None])
            if failure is None:
                return output
            state = f"cut off, {failure}"
        if attempt < retries:
            delay = min(10 * 2**attempt, 300)
            logger.warning(f"No completions from the vLLM server ({state}). Attempt {attempt + 2} in {delay} seconds.")
            time.sleep(delay)
    raise ConnectionError(
        f"The vLLM server gave no completions in {retries + 1} attempts (max_generation_retries={retries}): {state}. "
        "Start it again and resume from the last checkpoint."
    )
