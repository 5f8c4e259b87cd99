"""Strict parsing of recipes and flags, on top of TRL's parser."""

import argparse
import difflib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml  # type: ignore[import-untyped]
from trl import TrlParser

logger = logging.getLogger(__name__)

_SINGLE_VALUES = ("int", "float", "string_to_bool", "_name_or_false")


class RecipeParser(TrlParser):
    """
    A [`~trl.TrlParser`] that refuses everything that a run would not use.

    Unknown keys and flags, duplicate keys, values of the wrong type and values outside a field's choices raise an error
    that names the key and the nearest valid name. Flags cannot be abbreviated. `check` is called before the dataclasses
    are created, with all values by field, and with the fields that flags or recipe set. Recipe keys in `ignored` are
    skipped with a warning. `preset` holds values that replace the recipe's, or that the recipe's replace.
    """

    def __init__(
        self,
        dataclass_types: Iterable[type] | None = None,
        check: Callable[[Mapping[str, Any], Collection[str]], None] | None = None,
        ignored: Collection[str] = (),
        preset: Mapping[str, Any] | None = None,
        preset_wins: bool = False,
        **kwargs: Any,
    ):
        super().__init__(dataclass_types, allow_abbrev=False, **kwargs)
        self._check = check
        self._ignored = ignored
        self._preset, self._preset_wins = preset or {}, preset_wins
        self._given: set[str] = set()
        for dataclass_type in self.dataclass_types:
            for name, kind in get_type_hints(dataclass_type).items():
                if name == "report_to":  # several trackers, which argparse would take for one
                    self._actions_by_field()[name].nargs = "+"
                if Literal[False] in get_args(kind):  # a plain string to argparse, "False" included
                    self._actions_by_field()[name].type = _name_or_false

    def error(self, message: str) -> Any:
        """Raises the message that argparse would print after its list of 250 options."""
        raise ValueError(message)

    def parse_args_and_config(self, args: Iterable[str] | None = None, **kwargs: Any) -> tuple:
        """
        Reads the file after `--config`, then the flags, which override it.

        Raises:
            ValueError: If the file or a flag is invalid.
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
            self.set_defaults_with_config()
            return super().parse_args_and_config(rest, **kwargs)
        (path,) = known.config
        read_recipe(path)
        try:
            return super().parse_args_and_config(["--config", path, *rest], **kwargs)
        except _RecipeError as error:
            raise ValueError(f"{path}: {error}") from None

    def set_defaults_with_config(self, **config: Any) -> list[str]:
        """Uses the values of a recipe as defaults, as TRL does, after checking each."""
        unused = sorted(key for key in config if key in self._ignored)
        if unused:
            logger.warning("The recipe's %s: only Archer has these fields, so they are ignored.", ", ".join(unused))
        config = {key: value for key, value in config.items() if key not in unused}
        config = {**config, **self._preset} if self._preset_wins else {**self._preset, **config}
        actions = self._actions_by_field()
        _refuse_unknown(config, actions, "key", _RecipeError)
        self._given = set(config)
        return super().set_defaults_with_config(**{key: _value(key, v, actions[key]) for key, v in config.items()})

    def parse_args_into_dataclasses(self, args: Sequence[str] | None = None, **kwargs: Any) -> tuple:
        """Refuses unknown flags, checks all values, then fills the dataclasses."""
        namespace, unknown = self.parse_known_args(args)
        flags = [word.removeprefix("--").split("=")[0].replace("-", "_") for word in unknown if word.startswith("--")]
        _refuse_unknown(flags, self._actions_by_field(), "flag", ValueError)
        if unknown:
            raise ValueError(f"{' '.join(unknown)!r} does not follow a flag.")
        if self._check is not None:
            flags = [word.split("=")[0] for word in args or ()]
            options = self._option_string_actions
            self._check(vars(namespace), self._given | {options[flag].dest for flag in flags if flag in options})
        return super().parse_args_into_dataclasses(args, **{**kwargs, "look_for_args_file": False})

    def _actions_by_field(self) -> dict[str, argparse.Action]:
        actions = {action.dest: action for action in reversed(self._actions)}  # a field's own flag precedes its --no_*
        return {name: action for name, action in actions.items() if name not in ("help", "config")}


class _RecipeError(ValueError):
    """An error in the recipe; its path is added later."""


def read_recipe(path: str | Path) -> dict[str, Any]:
    """
    Reads a recipe as a dictionary.

    Raises:
        ValueError: If there is no such file, or it is not a YAML mapping with unique names.
    """
    if not Path(path).is_file():
        raise ValueError(f"There is no recipe {str(path)!r} (relative to {Path.cwd()}).")
    try:
        recipe = yaml.load(Path(path).read_text(encoding="utf-8"), _UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(recipe, dict) or not all(isinstance(key, str) for key in recipe):
        raise ValueError(f"{path} does not map names to values, as in `learning_rate: 1.0e-6`.")
    return recipe


class _UniqueKeys(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys. Otherwise, the last one would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.YAMLError(f"duplicate key {key!r}{node.value[index][0].start_mark}")
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
    """Converts a value of a recipe to a default for argparse, which converts and checks only text."""
    kind = getattr(action.type, "__name__", "str")
    if value is None:
        if not _accepts_none(action):
            raise _RecipeError(f"{key} is empty. Give it a value, or remove it for its default, {action.default!r}.")
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
            'accept. Quote the word, as in "no".'
        )
    try:
        converted = action.type(str(value)) if callable(action.type) else value
    except (ValueError, TypeError, argparse.ArgumentTypeError):
        kind = {"string_to_bool": "truth value", "_name_or_false": "name or false"}.get(kind, kind)
        raise _RecipeError(f"{key}: {value!r} is not a valid {kind}.") from None
    if action.choices is not None and converted not in action.choices:
        raise _RecipeError(f"{key}: {value!r} is not one of {', '.join(map(str, action.choices))}.")
    return converted


def _name_or_false(text: str) -> str | Literal[False]:
    if text.lower() == "true":
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid name or false.")
    return text if text.lower() != "false" else False


def _accepts_none(action: argparse.Action) -> bool:
    if "none" in (action.choices or ()):
        return True
    try:
        return action.default is None or (callable(action.type) and action.type("none") is None)
    except (ValueError, TypeError, argparse.ArgumentTypeError):
        return False
