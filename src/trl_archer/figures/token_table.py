"""The tokens in the loss as one table, for the figures of token records."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..records.parquet import TokenRecords

if TYPE_CHECKING:
    from pandas import DataFrame

_COLUMNS: dict[str, Any] = {
    "token_ids": np.int32,
    "tokens": object,
    "entropies": np.float64,
    "per_token_logps": np.float64,
    "old_per_token_logps": np.float64,
    "gate": np.float64,
    "clipped_low": np.bool_,
    "clipped_high": np.bool_,
}
_FLOATS = [name for name, dtype in _COLUMNS.items() if dtype is np.float64]


def token_table(records: TokenRecords) -> tuple["DataFrame", list[str], str]:
    """
    One row per token, with columns of the records and `completion`, the index of its record.

    Tokens with NaN or infinite values are left out: skipped non-finite updates are recorded, too. Also returns a note
    with their number, if there are any, and the text for a figure without tokens.
    """
    from pandas import DataFrame

    completions = records.completions
    index = np.repeat(np.arange(len(completions)), [int(record.mask.sum()) for record in completions])
    columns: dict[str, Any] = {"completion": index}
    for name in ("step", "prompt"):
        columns[name] = np.array([getattr(record, name) for record in completions], dtype=object)[index]
    for name, dtype in _COLUMNS.items():
        parts = [np.asarray(getattr(record, name), dtype=dtype)[record.mask] for record in completions]
        columns[name] = np.concatenate([np.empty(0, dtype=dtype), *parts])
    table = DataFrame(columns)
    finite = np.isfinite(table[_FLOATS]).all(axis=1)
    if finite.all():
        return table, [], "no token in the loss"
    note = f"{(~finite).sum():,} of {len(table):,} tokens are not finite and are left out"
    return table[finite], [note], "no finite token in the loss"
