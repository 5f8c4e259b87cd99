"""
What the objective saw of each token, from an update to disk and back.

Set `token_records_steps` to write records while training; [`read_token_records`] reads them.
"""

from typing import TYPE_CHECKING, Any

from .._lazy import load_public

if TYPE_CHECKING:
    from .parquet import CompletionRecord, TokenRecords, read_token_records, write_token_records

__all__ = ["CompletionRecord", "TokenRecords", "read_token_records", "write_token_records"]


def __getattr__(name: str) -> Any:
    return load_public(__name__, dict.fromkeys(__all__, ".parquet"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
