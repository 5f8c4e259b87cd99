"""Generates on a vLLM server that may go down at any time, and come back without the policy."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.client import HTTPException
from typing import Any, NamedTuple

import torch
from accelerate.logging import get_logger
from accelerate.utils import broadcast_object_list
from trl.generation.vllm_client import VLLMClient

from .vllm_server import read_url, server_info

logger = get_logger(__name__)

_NO_INSTANCE = "none"  # no server is known to have all of the weights


class Status(NamedTuple):
    """State of a server. `problem` is `None` if it is up; a restarted server needs the weights again."""

    problem: str | None = None
    is_restarted: bool = False


class ServerWatch:
    """
    The main process's view of a vLLM server: whether it responds, and whether it still has the policy's weights.

    Inside [`ServerWatch.guarded`], a failing call of the client does not raise on this rank alone. Weights that other
    ranks help to gather are still gathered to the end. A failed generation returns no completions, which TRL broadcasts
    as usual. As a result, no rank waits forever.
    """

    _NOTHING: dict[str, list] = {"prompt_ids": [], "completion_ids": [], "logprobs": [], "logprob_token_ids": []}

    def __init__(self, client: VLLMClient, device: torch.device):
        self.client = client
        self.device = device
        self.error: Exception | None = None  # of the last call
        self.instance = self._instance_id()
        self._is_guarded = False
        generate, update, reset = client.generate, client.update_named_params, client.reset_prefix_cache

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
            if self._is_guarded and self.instance == _NO_INSTANCE:
                return self._NOTHING
            self.error = None
            output = self._attempt(lambda: generate(*args, **kwargs))
            if self.error is None:
                self._attempt(self._check_instance)
            return output if self.error is None else self._NOTHING

        client.update_named_params = send_weights
        client.reset_prefix_cache = reset_cache
        client.generate = generate_or_nothing

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Records errors of the client's calls instead of raising them."""
        self._is_guarded, self.error = True, None
        try:
            yield
        finally:
            self._is_guarded = False

    def probe(self) -> Status:
        """Asks the server for its state, and connects to one that was restarted."""
        try:
            read_url(f"{self.client.base_url}/health", timeout=10)
            instance = self._instance_id()
            # A server without an id may have been restarted since it last failed
            if instance == self.instance and (instance is not None or self.error is None):
                return Status()
            self.client.close_communicator()
            self.client.init_communicator(device=self.device)
            self.instance, self.error = instance, None
            return Status(is_restarted=True)
        except Exception as error:
            self.error = error
            return Status(problem=_describe(error))

    def last_failure(self) -> tuple[str | None, bool]:
        """The error of the guarded calls, if any, and whether a retry may succeed."""
        if self.error is None:
            return None, True
        # For any status other than 200 the client raises an `Exception`
        is_server_error = str(self.error).startswith("Request failed: 5")
        return _describe(self.error), is_server_error or isinstance(self.error, OSError | HTTPException)

    def _attempt(self, call: Callable[[], Any]) -> Any:
        if not self._is_guarded:
            return call()
        try:
            return call()
        except Exception as error:
            self.error = error
            return None

    def _check_instance(self) -> None:
        # The client repeats an interrupted request, which a restarted server answers with the weights from its disk
        if self._instance_id() != self.instance:
            raise ConnectionError("it was restarted in the meantime")

    def _instance_id(self) -> str | None:
        return (server_info(self.client.base_url) or {}).get("instance_id")


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def generate_with_retries(
    watch: ServerWatch | None,
    generate: Callable[[], tuple[list, Any]],
    send_weights_again: Callable[[], None],
    max_retries: int,
) -> tuple[list, Any]:
    """
    Generates on a vLLM server that may go down and come back, on all ranks together.

    A restarted server has lost the policy, so all ranks send it the weights before it generates. `watch` is `None` on
    every rank except the main process.

    Returns:
        `tuple`: The result of `generate`.

    Raises:
        ConnectionError: On every rank, if the server does not respond after `max_retries`.
        RuntimeError: On every rank, if the server rejects the request, so that a retry would not help.
    """
    for attempt in range(max_retries + 1):
        (status,) = broadcast_object_list([watch.probe() if watch else None])
        problem = status.problem
        if status.is_restarted:
            logger.warning("The vLLM server was restarted; sending it the weights.")
            send_weights_again()
        if problem is None:
            with watch.guarded() if watch else nullcontext():
                output = generate()
            # Missing completions do not imply a failure: a rank may have none to generate
            failure, may_pass = broadcast_object_list([*watch.last_failure()] if watch else [None, None])
            if failure is None:
                return output
            if not may_pass:
                raise RuntimeError(f"The vLLM server returned no completions: {failure}") from (
                    watch.error if watch else None
                )
            problem = f"interrupted, {failure}"
        if attempt < max_retries:
            delay = min(10 * 2**attempt, 300)
            logger.warning(f"No completions from the vLLM server ({problem}). Retry {attempt + 1} in {delay} seconds.")
            time.sleep(delay)
    raise ConnectionError(
        f"The vLLM server returned no completions in {max_retries + 1} attempts "
        f"(max_generation_retries={max_retries}): {problem}. Start it again and resume from the last checkpoint."
    )
