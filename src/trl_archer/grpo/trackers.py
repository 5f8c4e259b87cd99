"""Keeps metrics without a value from trackers."""

from typing import Any

from transformers import TrainerCallback


class WithoutMissing(TrainerCallback):
    """Removes values that are missing from a log, before trackers complain of each. The log history keeps them."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        for name in [name for name, value in (logs or {}).items() if value is None]:
            del logs[name]  # type: ignore[union-attr]
