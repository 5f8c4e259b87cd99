"""Checks reward functions and their results; a failure on one rank is raised on every rank."""

import inspect
import logging
import math
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather, gather_object
from torch import Tensor, nn
from trl.trainer.utils import get_callable_name, is_async_callable

logger = logging.getLogger(__name__)

# Arguments that TRL's trainers pass to every reward, in addition to the data's columns
_ALWAYS = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
_FROM_TRL = {*_ALWAYS, "environments"}


def needed_columns(rewards: Iterable[Any]) -> dict[str, str]:
    """
    Returns the data columns that rewards take as arguments without a default.

    Example:

    ```python
    >>> def reward(completions, solution, difficulty=1, **kwargs): ...
    >>> needed_columns([reward])
    {'solution': "the reward 'reward'"}

    ```
    """
    return {
        parameter.name: f"the reward {getattr(reward, '__name__', type(reward).__name__)!r}"
        for reward in rewards
        if callable(reward) and not isinstance(reward, nn.Module)
        for parameter in inspect.signature(reward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name not in _FROM_TRL
    }


def check_signatures(rewards: Iterable[Any], columns: Iterable[str]) -> None:
    """
    Checks that rewards accept everything that TRL passes to them.

    Raises:
        ValueError: If a reward has no `**kwargs` and lacks an argument.
    """
    passed = [*_ALWAYS, *(column for column in columns if column not in ("prompt", "completion"))]
    for reward in rewards:
        if not callable(reward) or isinstance(reward, nn.Module):
            continue
        parameters = inspect.signature(reward).parameters.values()
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            continue
        missing = set(passed) - {parameter.name for parameter in parameters}
        if missing:
            raise ValueError(
                f"The reward {get_callable_name(reward)!r} does not accept {', '.join(sorted(missing))}, which TRL "
                "passes to every reward. Add `**kwargs` to its arguments."
            )


def checked_reward(reward_func: Callable[..., Any]) -> Callable[..., Any]:
    """
    Wraps a reward function. It raises `ValueError` unless it returns one finite number per completion, or `None` or
    NaN for one that it cannot score. Its own exceptions pass through, with a note that names the function.
    """
    name = get_callable_name(reward_func)

    if is_async_callable(reward_func):

        @wraps(reward_func)
        async def checked(*args: Any, completions: Sequence[Any], **kwargs: Any) -> list[float | None]:
            with _named(name):
                rewards = await reward_func(*args, completions=completions, **kwargs)
                return _check_rewards(name, rewards, len(completions))

    else:

        @wraps(reward_func)
        def checked(*args: Any, completions: Sequence[Any], **kwargs: Any) -> list[float | None]:
            with _named(name):
                rewards = reward_func(*args, completions=completions, **kwargs)
                return _check_rewards(name, rewards, len(completions))

    return checked


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"Raised in the reward function '{name}'.")
        raise


def _check_rewards(name: str, rewards: Any, count: int) -> list[float | None]:
    if isinstance(rewards, Iterator):
        rewards = list(rewards)
    if not hasattr(rewards, "__len__") or isinstance(rewards, str | dict):
        raise ValueError(
            f"The reward function '{name}' returned {type(rewards).__name__}; it must return a list of {count} "
            "rewards, one per completion."
        )
    if len(rewards) != count:
        raise ValueError(
            f"The reward function '{name}' returned {len(rewards)} rewards for {count} completions; it must return "
            "exactly one per completion, and None for a completion that it cannot score."
        )
    return [_check_reward(name, index, reward) for index, reward in enumerate(rewards)]


def _check_reward(name: str, index: int, reward: Any) -> float | None:
    if reward is None:
        return None
    try:
        value = float(reward)
    except (TypeError, ValueError):
        value = math.inf
    if math.isnan(value):  # TRL takes it for None, too
        _warn_of_nan(name)
        return None
    if math.isinf(value):
        raise ValueError(
            f"The reward function '{name}' returned {reward!r} for completion {index}; a reward is a finite number, or "
            "None for a completion that it cannot score."
        )
    return value


@cache
def _warn_of_nan(name: str) -> None:
    logger.warning("The reward function '%s' returned NaN, which counts as None: the completion is not scorable.", name)


def check_reward_models(reward_funcs: Sequence[Any], names: Sequence[str], rewards_per_func: Tensor) -> None:
    """
    Checks the rewards of reward models on every rank. [`checked_reward`] checks functions.

    Raises:
        ValueError: If a model returned a non-finite reward.
    """
    for index, (reward_func, name) in enumerate(zip(reward_funcs, names, strict=True)):
        if isinstance(reward_func, nn.Module) and not rewards_per_func[:, index].isfinite().all():
            count = (~rewards_per_func[:, index].isfinite()).sum().item()
            raise ValueError(
                f"The reward model '{name}' returned non-finite rewards for {count} of {len(rewards_per_func)} "
                "completions. Check its weights, precision and tokenizer."
            )


def raise_on_all_ranks(calculate: Callable[[], Tensor], rows: int, columns: int, accelerator: Accelerator) -> Tensor:
    """
    Calculates rewards. A failure on one rank is raised on every rank, so that no rank waits for it.

    This needs no additional collective: a rank that failed still takes part in gathering the rewards, and passes
    infinity, which is never a valid reward.

    Raises:
        RuntimeError: On every rank, with the rank and traceback of each failure. One process raises the error itself.
    """
    if accelerator.num_processes == 1:
        return calculate()
    failure = None
    try:
        rewards = calculate()
    except Exception as error:
        failure = error
        rewards = gather(torch.full((rows, columns), torch.inf, device=accelerator.device))
    if not rewards.isinf().any():
        return rewards
    text = [] if failure is None else ["".join(traceback.format_exception(failure))]
    texts = gather_object([f"Rank {accelerator.process_index}:\n{part}" for part in text])
    if texts:
        raise RuntimeError(
            f"Rewards failed on {len(texts)} of {accelerator.num_processes} ranks, so training stops on every rank.\n"
            + "\n".join(texts)
        ) from failure
    return rewards
