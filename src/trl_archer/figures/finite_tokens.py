"""Leaves out tokens with NaN or infinite values: skipped non-finite updates are recorded, too."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..records.parquet import TokenRecords

_VALUES = ("entropies", "per_token_logps", "old_per_token_logps", "gate")


class FiniteTokens(NamedTuple):
    """
    Records without non-finite tokens.

    Attributes:
        records ([`TokenRecords`]): The records. Their masks exclude non-finite tokens.
        notes (`list[str]`): A note with the number of excluded tokens, if there are any.
        none (`str`): Text for a figure without tokens.
    """

    records: TokenRecords
    notes: list[str]
    none: str


def finite_tokens(records: TokenRecords) -> FiniteTokens:
    """
    Excludes tokens from the masks if their entropy, a log-probability or the gate is NaN or infinite.

    The recorded thresholds and gates of the other tokens do not change.

    Args:
        records ([`TokenRecords`]): Recorded completions.

    Returns:
        [`FiniteTokens`]: the records to draw.
    """
    completions = []
    for record in records.completions:
        finite = np.all([np.isfinite(getattr(record, name)) for name in _VALUES], axis=0)
        completions.append(replace(record, mask=record.mask & finite))
    counted, kept = (sum(int(r.mask.sum()) for r in some) for some in (records.completions, completions))
    if kept == counted:
        return FiniteTokens(records, [], "no token in the loss")
    notes = [f"{counted - kept:,} of {counted:,} tokens are not finite and are left out"]
    return FiniteTokens(TokenRecords(completions, records.settings), notes, "no finite token in the loss")
