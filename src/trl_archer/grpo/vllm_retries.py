"""Generation on a vLLM server that may go away at any moment, and come back without the policy."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.client import HTTPException
from typing import Any
from urllib.request import urlopen

from accelerate.logging import get_logger
from accelerate.utils import broadcast_object_list

from .vllm_server import server_info

logger = get_logger(__name__)

_NO_INSTANCE = "none"  # is known to have all of the weights


class ServerWatch:
    """
    The main process's view of a vLLM server: whether it answers, and whether it is still the one that has our weights.

    While `watching`, calls of the client that fail do not raise, on this rank alone: weights that other ranks help to
    gather are gathered to the end, and no completions are returned, which TRL broadcasts as any others. So no rank
    waits for ever.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer with `vllm_mode="server"`.
    """

    _NOTHING: dict[str, list] = {"prompt_ids": [], "completion_ids": [], "logprobs": [], "logprob_token_ids": []}

    def __init__(self, trainer: Any):
        self.client = trainer.vllm_generation.vllm_client
        self.device = trainer.accelerator.device
        self.watching = False
        self.error: Exception | None = None  # of the last call
        self.instance = self._instance_id()
        generate, update, reset = self.client.generate, self.client.update_named_params, self.client.reset_prefix_cache

        def send_weights(metadata: list, named_params: Iterator) -> None:
            self.error = None
            self._attempt(lambda: update(metadata, named_params))
            if self.error is not None:
                self.instance = _NO_INSTANCE
                for _ in named_params:  # the other ranks take part in gathering each
                    pass

        def reset_cache() -> None:
            if self.error is None:
                self._attempt(reset)
            if self.error is not None:
                self.instance = _NO_INSTANCE

        def generate_or_nothing(*args: Any, **kwargs: Any) -> dict[str, Any]:
            if self.watching and self.instance == _NO_INSTANCE:
                return self._NOTHING
            self.error = None
            output = self._attempt(lambda: generate(*args, **kwargs))
            if self.error is None:
                self._attempt(self._check_instance)
            return output if self.error is None else self._NOTHING

        self.client.update_named_params = send_weights
        self.client.reset_prefix_cache = reset_cache
        self.client.generate = generate_or_nothing

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Watches the client's calls for as long as the context lasts."""
        self.watching, self.error = True, None
        try:
            yield
        finally:
            self.watching = False

    def look(self) -> str:
        """Returns `"up"`, `"restarted"` for a server that needs the weights anew, or what is wrong."""
        try:
            urlopen(f"{self.client.base_url}/health", timeout=10).close()
            instance = self._instance_id()
            # A server that does not tell its id may have been another since it last failed
            if instance == self.instance and (instance is not None or self.error is None):
                return "up"
            self.client.close_communicator()
            self.client.init_communicator(device=self.device)
            self.instance, self.error = instance, None
            return "restarted"
        except Exception as error:
            self.error = error
            return _describe(error)

    def verdict(self) -> tuple[str | None, bool]:
        """What went wrong since the last look, if anything, and whether another attempt may go better."""
        if self.error is None:
            return None, True
        # For any other status than 200 the client raises an `Exception`
        of_server = str(self.error).startswith("Request failed: 5")
        return _describe(self.error), of_server or isinstance(self.error, OSError | HTTPException)

    def _attempt(self, call: Callable[[], Any]) -> Any:
        if not self.watching:
            return call()
        try:
            return call()
        except Exception as error:
            self.error = error
            return None

    def _check_instance(self) -> None:
        # The client repeats a request that was cut off, which a server that was started again would answer from the
        # weights on its disk
        if self._instance_id() != self.instance:
            raise ConnectionError("it was started again meanwhile")

    def _instance_id(self) -> str | None:
        return (server_info(self.client.base_url) or {}).get("instance_id")


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


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
        RuntimeError: On all ranks, if it refuses what it is asked, which another attempt would not change.
    """
    retries = trainer.args.max_generation_retries
    watch: ServerWatch | None = trainer._server if trainer.accelerator.is_main_process else None
    for attempt in range(retries + 1):
        (state,) = broadcast_object_list([watch.look() if watch else None])
        if state == "restarted":
            logger.warning("The vLLM server is a new one; it is sent the weights.")
            trainer._last_loaded_step = -1
        if state in ("up", "restarted"):
            with watch.watch() if watch else nullcontext():
                output = generate()
            # Not by the completions, of which a rank may have none to make
            failure, may_pass = broadcast_object_list([*watch.verdict()] if watch else [None, None])
            if failure is None:
                return output
            if not may_pass:
                raise RuntimeError(f"The vLLM server gave no completions: {failure}") from (
                    watch.error if watch else None
                )
            state = f"cut off, {failure}"
        if attempt < retries:
            delay = min(10 * 2**attempt, 300)
            logger.warning(f"No completions from the vLLM server ({state}). Attempt {attempt + 2} in {delay} seconds.")
            time.sleep(delay)
    raise ConnectionError(
        f"The vLLM server gave no completions in {retries + 1} attempts (max_generation_retries={retries}): {state}. "
        "Start it again and resume from the last checkpoint."
    )
