"""Turns dropout off, wherever a model keeps its rates."""

from collections.abc import Iterator
from typing import Any

from torch import nn


def _rates(holder: Any) -> Iterator[str]:
    for name, value in vars(holder).items():
        if isinstance(value, float) and value > 0 and ("dropout" in name or name.endswith(("pdrop", "layerdrop"))):
            yield name


def disable_dropout(model: nn.Module) -> None:
    """
    Sets the dropout rates that modules and configurations hold as numbers to 0.

    TRL's `disable_dropout` changes `nn.Dropout` only. Attention in transformers calls dropout as a function, with a
    rate that it reads from the module or its configuration. Not reported upstream yet (TRL 1.16).
    """
    for holder in _holders(model):
        for name in list(_rates(holder)):
            setattr(holder, name, 0.0)


def active_dropout(model: nn.Module) -> str | None:
    """Returns the first dropout rate above 0 and where it is, such as `"attention_dropout=0.1 in LlamaConfig"`."""
    for module in model.modules():
        if isinstance(module, nn.Dropout) and module.p > 0:
            return f"p={module.p} in {type(module).__name__}"
    for holder in _holders(model):
        for name in _rates(holder):
            return f"{name}={getattr(holder, name)} in {type(holder).__name__}"
    return None


def _holders(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        if not isinstance(module, nn.Dropout):
            yield module
        config = vars(module).get("config")
        if config is not None:
            yield config
