"""Loads rewards by name or import path."""

import difflib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple


class _Reward(NamedTuple):
    function: str | None  # import path of the reward without settings
    factory: str | None  # import path of a function that takes settings and returns a reward


REWARDS = {
    "math": _Reward("trl_archer.rewards.math_reward", "trl_archer.rewards.get_math_reward"),
    "code": _Reward("trl_archer.rewards.code_reward", "trl_archer.rewards.get_code_reward"),
    "countdown": _Reward("trl_archer.playground.countdown_reward", None),
    "think_format": _Reward("trl.rewards.think_format_reward", None),
    "soft_overlong": _Reward(None, "trl_archer.rewards.get_soft_overlong_punishment"),
    "repetition_penalty": _Reward(None, "trl_archer.rewards.get_repetition_penalty_reward"),
}


def load_rewards(entries: Iterable[Mapping[str, Any]], field: str = "reward_funcs") -> list[Callable]:
    """
    Loads reward functions. Messages begin with `field`, the setting that names them.

    Raises:
        ValueError: If there is no such reward, it does not accept the settings, or it does not work on this machine.

    Example:

    ```python
    >>> [function.__name__ for function in load_rewards([{"name": "countdown"}, {"name": "repetition_penalty"}])]
    ['countdown_reward', 'repetition_penalty_reward']

    ```
    """
    try:
        return [_load(**entry) for entry in entries]
    except ModuleNotFoundError:  # in a module of the user, who needs the traceback
        raise
    except (ValueError, ImportError) as error:
        raise ValueError(f"{field}: {error}") from None


def _load(name: str, **settings: Any) -> Callable:
    named = REWARDS.get(name)
    if named is None and "." not in name:
        nearest = difflib.get_close_matches(name, REWARDS, n=1)
        hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(
            f"there is no reward {name!r}. {hint}Use one of {', '.join(REWARDS)}, or an import path such "
            "as package.module.function."
        )
    function, factory = named or (name, name)
    if settings or function is None:
        if factory is None:
            raise ValueError(f"{name} takes no settings, but got {', '.join(settings)}.")
        reward = _configured(name, _import(factory), settings)
    else:
        reward = _import(function)
    if not callable(reward):
        raise ValueError(f"{name!r} is {reward!r:.80}, which is not callable.")
    return reward


def _configured(name: str, factory: Callable, settings: Mapping[str, Any]) -> Any:
    signature = inspect.signature(factory)
    try:
        signature.bind(**settings)
    except TypeError as error:
        raise ValueError(f"{name} {error}. Its settings: {', '.join(signature.parameters)}.") from None
    return factory(**settings)


def _import(path: str) -> Any:
    if str(Path.cwd()) not in sys.path:  # as `python -m` does: a user's module is beside the recipe
        sys.path.insert(0, str(Path.cwd()))
    module, _, attribute = path.rpartition(".")
    try:
        imported = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # raised by an import inside that module
        raise ValueError(f"{path!r} cannot be imported: there is no module {error.name!r}.") from None
    try:
        return getattr(imported, attribute)
    except AttributeError:
        raise ValueError(f"{path!r} cannot be imported: {module!r} has no {attribute!r}.") from None
    except ImportError as error:  # a missing package, or the wrong platform
        raise ValueError(str(error)) from error
