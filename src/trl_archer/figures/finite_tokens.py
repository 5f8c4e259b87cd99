"""Tokens whose values are numbers. A skipped update that was not finite is recorded like any other."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..records.parquet import TokenRecords

_VALUES = ("entropies", "per_token_logps", "old_per_token_logps", "gate")


class FiniteTokens(NamedTuple):
    """
    Records without the tokens that are not finite, and what to say of them.

    Attributes:
        records ([`TokenRecords`]): The records; their masks leave out what is not finite.
        notes (`list[str]`): How many tokens that is, if any.
        none (`str`): What to call the tokens where there is none.
    """

    records: TokenRecords
    notes: list[str]
    none: str


def finite_tokens(records: TokenRecords) -> FiniteTokens:
    """
    Takes the tokens that are NaN or infinite in their entropy, a log-probability or the gate out of the masks.

    Thresholds and gates of the other tokens stay what was recorded.

    Args:
        records ([`TokenRecords`]): Recorded completions.

    Returns:
        [`FiniteTokens`]: the records that can be drawn.
    """
    completions = []
    for record in records.completions:
        finite = np.all([np.isfinite(getattr(record, name)) for name in _VALUES], axis=0)
        completions.append(replace(record, mask=record.mask & finite))
    counted, kept = (sum(int(r.mask.sum()) for r in some) for some in (records.completions, completions))
    if kept == counted:
        return FiniteTokens(records, [], "no token that counts")
    notes = [f"{counted - kept:,} of {counted:,} tokens are not finite and are left out"]
    return FiniteTokens(TokenRecords(completions, records.settings), notes, "no finite token that counts")
