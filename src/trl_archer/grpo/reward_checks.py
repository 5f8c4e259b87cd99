"""What is settled about a generation batch before its update phase: sound rewards, and groups without a signal."""

import inspect
import math
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from accelerate.utils import gather, gather_object
from torch import Tensor, nn
from trl.trainer.utils import get_callable_name, is_async_callable

# What TRL's trainers hand to every reward, beside the columns of the data
_FROM_TRL = {"prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments"}


def needed_columns(rewards: Iterable[Any]) -> dict[str, str]:
    """
    Columns that rewards take as arguments without a default.

    Args:
        rewards (`Iterable`): Reward functions. Reward models, or the names of some, take none.

    Returns:
        `dict[str, str]`: Columns, and the reward that needs each.

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


def checked_reward(reward_func: Callable[..., Any]) -> Callable[..., Any]:
    """
    Wraps a reward function so that what it returns is checked before it is used.

    Args:
        reward_func (`Callable`): Reward function of TRL, synchronous or asynchronous.

    Returns:
        `Callable`: The same function, which raises `ValueError` unless it returns one finite number or `None` (not
        scorable) per completion. What it raises itself passes through, with a note that names it.
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
    if not hasattr(rewards, "__len__") or isinstance(rewards, str | dict):
        raise ValueError(
            f"The reward function '{name}' returned {type(rewards).__name__}; it must return a list of {count} "
            "rewards, one per completion."
        )
    if len(rewards) != count:
        raise ValueError(
            f"The reward function '{name}' returned {len(rewards)} rewards for {count} completions; it must return "
            "exactly one per completion, None for one that it cannot score."
        )
    return [_check_reward(name, index, reward) for index, reward in enumerate(rewards)]


def _check_reward(name: str, index: int, reward: Any) -> float | None:
    if reward is None:
        return None
    try:
        value = float(reward)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"The reward function '{name}' returned {reward!r} for completion {index}; a reward is a finite number, or "
            "None for a completion that it cannot score."
        )
    return value


def check_reward_models(reward_funcs: Sequence[Any], names: Sequence[str], rewards_per_func: Tensor) -> None:
    """
    Checks what reward models returned, on all ranks alike; functions are checked by [`checked_reward`].

    Args:
        reward_funcs (`Sequence`): Reward functions and models.
        names (`Sequence[str]`): Their names.
        rewards_per_func (`Tensor` of shape `(N, F)`): Gathered rewards.

    Raises:
        ValueError: If a model gave a reward that is not finite.
    """
    for index, (reward_func, name) in enumerate(zip(reward_funcs, names, strict=True)):
        if isinstance(reward_func, nn.Module) and not rewards_per_func[:, index].isfinite().all():
            count = (~rewards_per_func[:, index].isfinite()).sum().item()
            raise ValueError(
                f"The reward model '{name}' returned {count} of {len(rewards_per_func)} rewards that are not finite. "
                "Check its weights and precision, and that its tokenizer fits."
            )


def raise_on_all_ranks(trainer: Any, calculate: Callable[[], Tensor], rows: int) -> Tensor:
    """
    Calculates rewards; where that fails on one rank it fails on all of them, instead of leaving the others to wait.

    No collective is added: a rank that failed takes part in the one that gathers rewards, with infinity for its own,
    which no sound reward is.

    Args:
        trainer ([`ArcherGRPOTrainer`]): Trainer.
        calculate (`Callable`): TRL's calculation, which ends by gathering.
        rows (`int`): Completions of this rank.

    Returns:
        `Tensor` of shape `(N, F)`: Rewards of all ranks.

    Raises:
        RuntimeError: On all ranks, with rank and traceback of those that failed. In one process the error itself.
    """
    if trainer.accelerator.num_processes == 1:
        return calculate()
    failure = None
    try:
        rewards = calculate()
    except Exception as error:
        failure = error
        rewards = gather(torch.full((rows, len(trainer.reward_funcs)), torch.inf, device=trainer.accelerator.device))
    if not rewards.isinf().any():
        return rewards
    text = [] if failure is None else ["".join(traceback.format_exception(failure))]
    texts = gather_object([f"Rank {trainer.accelerator.process_index}:\n{part}" for part in text])
    if texts:
        raise RuntimeError(
            f"Rewards failed on {len(texts)} of {trainer.accelerator.num_processes} ranks, so training stops on all of "
            "them.\n" + "\n".join(texts)
        ) from failure
    return rewards
