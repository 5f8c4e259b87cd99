"""Strict reading of recipes: TRL's parser, without what it lets pass."""

import argparse
import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml  # type: ignore[import-untyped]
from trl import TrlParser

_SINGLE_VALUES = ("int", "float", "string_to_bool", "_name_or_false")


class RecipeParser(TrlParser):
    """
    A [`~trl.TrlParser`] that refuses whatever a run would not use.

    Unknown keys and flags, keys that stand twice, values of another type than the field's and values outside its
    choices raise an error that names the key and, where there is one, the nearest valid name. Flags are spelled out.

    Args:
        dataclass_types (`Iterable[type]`):
            Dataclasses to fill.
        check (`Callable`, *optional*):
            Called with all values, by field, before the dataclasses are made.
        **kwargs:
            Arguments of [`argparse.ArgumentParser`].
    """

    def __init__(
        self,
        dataclass_types: Iterable[type] | None = None,
        check: Callable[[Mapping[str, Any]], None] | None = None,
        **kwargs: Any,
    ):
        super().__init__(dataclass_types, allow_abbrev=False, **kwargs)
        self._check = check
        for dataclass_type in self.dataclass_types:
            for name, kind in get_type_hints(dataclass_type).items():
                if Literal[False] in get_args(kind):  # a plain string to argparse, "False" included
                    self._actions_by_field()[name].type = _name_or_false

    def error(self, message: str) -> Any:
        """Raises what argparse would print below a usage of 250 options."""
        raise ValueError(message)

    def parse_args_and_config(self, args: Iterable[str] | None = None, **kwargs: Any) -> tuple:
        """
        Reads the file after `--config`, then the flags, which override it.

        Args:
            args (`Iterable[str]`, *optional*): Arguments; those of the process if `None`.
            **kwargs: As in [`~trl.TrlParser`].

        Returns:
            `tuple`: The dataclasses, filled.

        Raises:
            ValueError: If the file or a flag cannot be used as it stands.
        """
        before = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        before.add_argument("--config", action="append", default=[])
        try:
            known, rest = before.parse_known_args(args)
        except argparse.ArgumentError as error:
            raise ValueError(str(error)) from None
        if len(known.config) > 1:
            raise ValueError(f"--config is given {len(known.config)} times. A run has one recipe; override with flags.")
        if not known.config:
            return super().parse_args_and_config(rest, **kwargs)
        (path,) = known.config
        read_recipe(path)
        try:
            return super().parse_args_and_config(["--config", path, *rest], **kwargs)
        except _RecipeError as error:
            raise ValueError(f"{path}: {error}") from None

    def set_defaults_with_config(self, **config: Any) -> list[str]:
        """Takes the values of a recipe as defaults, as TRL does, after checking each."""
        actions = self._actions_by_field()
        _refuse_unknown(config, actions, "key", _RecipeError)
        return super().set_defaults_with_config(**{key: _value(key, v, actions[key]) for key, v in config.items()})

    def parse_args_into_dataclasses(self, args: Sequence[str] | None = None, **kwargs: Any) -> tuple:
        """Refuses unknown flags and runs the check on all values, then fills the dataclasses."""
        namespace, unknown = self.parse_known_args(args)
        flags = [word.removeprefix("--").split("=")[0].replace("-", "_") for word in unknown if word.startswith("--")]
        _refuse_unknown(flags, self._actions_by_field(), "flag", ValueError)
        if unknown:
            raise ValueError(f"{' '.join(unknown)!r} belongs to no flag.")
        if self._check is not None:
            self._check(vars(namespace))
        return super().parse_args_into_dataclasses(args, **{**kwargs, "look_for_args_file": False})

    def _actions_by_field(self) -> dict[str, argparse.Action]:
        actions = {action.dest: action for action in reversed(self._actions)}  # a field's own comes before its --no_*
        return {name: action for name, action in actions.items() if name not in ("help", "config")}


class _RecipeError(ValueError):
    """An error in the recipe itself, to be prefixed by its path."""


def read_recipe(path: str | Path) -> dict[str, Any]:
    """
    Reads a recipe as a dictionary.

    Args:
        path (`str` or `Path`): YAML file.

    Returns:
        `dict[str, Any]`: Its keys and values.

    Raises:
        ValueError: If there is no such file, or if it is no YAML mapping of names, each standing once.
    """
    if not Path(path).is_file():
        raise ValueError(f"There is no recipe {str(path)!r} (seen from {Path.cwd()}).")
    try:
        recipe = yaml.load(Path(path).read_text(encoding="utf-8"), _UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(recipe, dict) or not all(isinstance(key, str) for key in recipe):
        raise ValueError(f"{path} does not map names to values, as in `learning_rate: 1.0e-6`.")
    return recipe


class _UniqueKeys(yaml.SafeLoader):
    """YAML, in which the last of two equal keys would win silently, without equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.YAMLError(f"the key {key!r} stands twice{node.value[index][0].start_mark}")
        return super().construct_mapping(node, deep)


def _refuse_unknown(
    names: Iterable[str], actions: Mapping[str, argparse.Action], kind: str, error: type[ValueError]
) -> None:
    for name in names:
        if name not in actions:
            nearest = [
                match
                for word in (name.replace("-", "_"), name.removeprefix("no_"))
                for match in difflib.get_close_matches(word, actions, n=1)
            ]
            hint = f"Did you mean {nearest[0]!r}?" if nearest else "`trl-archer train --help` lists the valid names."
            raise error(f"There is no {kind} {name!r}. {hint}")


def _value(key: str, value: Any, action: argparse.Action) -> Any:
    """A value of a recipe as a default for argparse, which converts text by the field's type, and checks only text."""
    kind = getattr(action.type, "__name__", "str")
    if value is None:
        if not _accepts_none(action):
            raise _RecipeError(f"{key} is empty. Give it a value, or leave it out for its default, {action.default!r}.")
        return None
    if action.nargs == "+":
        return [_item(key, item, action) for item in (value if isinstance(value, list) else [value])]
    if isinstance(value, dict | list):
        if kind in _SINGLE_VALUES:
            raise _RecipeError(f"{key} takes a single value, not {value!r}.")
        return value
    return _item(key, value, action)


def _item(key: str, value: Any, action: argparse.Action) -> Any:
    kind = getattr(action.type, "__name__", "str")
    if isinstance(value, dict):
        return value
    if isinstance(value, bool) and kind not in ("string_to_bool", "_name_or_false"):
        raise _RecipeError(
            f"{key}: YAML reads a bare yes, no, on or off as true or false ({value} here), which this field does not "
            'take. Quote the word, as in "no".'
        )
    try:
        converted = action.type(str(value)) if callable(action.type) else value
    except (ValueError, TypeError, argparse.ArgumentTypeError):
        kind = {"string_to_bool": "truth value", "_name_or_false": "name, nor false"}.get(kind, kind)
        raise _RecipeError(f"{key}: {value!r} is not a valid {kind}.") from None
    if action.choices is not None and converted not in action.choices:
        raise _RecipeError(f"{key}: {value!r} is not one of {', '.join(map(str, action.choices))}.")
    return converted


def _name_or_false(text: str) -> str | Literal[False]:
    if text.lower() == "true":
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid name, nor false.")
    return text if text.lower() != "false" else False


def _accepts_none(action: argparse.Action) -> bool:
    if "none" in (action.choices or ()):
        return True
    try:
        return action.default is None or (callable(action.type) and action.type("none") is None)
    except (ValueError, TypeError, argparse.ArgumentTypeError):
        return False
