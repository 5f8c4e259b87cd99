"""What is settled about a generation batch before its update phase: sound rewards, and groups without a signal."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
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


def weighted_rewards(rewards_per_func: Tensor, reward_weights: Tensor) -> Tensor:
    """
    The reward of each completion, its functions' weighted sum.

    Args:
        rewards_per_func (`Tensor` of shape `(N, F)`): Rewards by completion and function; NaN is not scorable.
        reward_weights (`Tensor` of shape `(F,)`): Weight of each function.

    Returns:
        `Tensor` of shape `(N,)`: Sums over the functions that could score; NaN where none could.
    """
    rewards = (rewards_per_func * reward_weights.to(rewards_per_func)).nansum(dim=1)
    return rewards.masked_fill(rewards_per_func.isnan().all(dim=1), torch.nan)


def zero_std_groups(rewards_per_func: Tensor, reward_weights: Tensor, num_generations: int, by_func: bool) -> Tensor:
    """
    Finds the groups whose rewards are all equal, which carry no advantage.

    Args:
        rewards_per_func (`Tensor` of shape `(N * G, F)`): Rewards by completion and function; NaN is not scorable.
        reward_weights (`Tensor` of shape `(F,)`): Weight of each function.
        num_generations (`int`): Completions per prompt, G.
        by_func (`bool`): Whether each function is normalised by itself (`multi_objective_aggregation=
            "normalize_then_sum"`), so that every one of them must be constant, not only their sum.

    Returns:
        `Tensor` of shape `(N,)`, bool: Whether all completions of the group that could be scored have one reward, up
        to float32 rounding of its size. A group that nothing could score has no signal either.
    """
    if by_func:
        scores = rewards_per_func[:, reward_weights.to(rewards_per_func.device) != 0]
    else:
        scores = weighted_rewards(rewards_per_func, reward_weights).unsqueeze(1)
    scores = scores.view(-1, num_generations, scores.size(1))
    highest = scores.nan_to_num(nan=-torch.inf).amax(dim=1)
    lowest = scores.nan_to_num(nan=torch.inf).amin(dim=1)
    varies = (highest > lowest) & ~torch.isclose(highest, lowest, rtol=1e-6)  # rounding of weighted sums
    return ~varies.any(dim=1)
