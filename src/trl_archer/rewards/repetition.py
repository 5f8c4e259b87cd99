"""Measures how much a response repeats itself."""

from collections.abc import Sequence

import torch
from torch import Tensor


def repeated_ngram_share(token_ids: Sequence[Sequence[int]], n: int = 20) -> Tensor:
    """
    Computes the share of each response's n-grams that repeat an earlier one, the paper's sign of collapse.

    Args:
        token_ids (`Sequence` of `Sequence[int]`): Token ids of `B` responses.
        n (`int`, *optional*, defaults to `20`): Length of the n-grams in tokens.

    Returns:
        `Tensor` of shape `(B,)`: 1 - distinct / all n-grams, in [0, 1); 0 for a response of fewer than `n` tokens.

    Example:

    ```python
    >>> repeated_ngram_share([[1, 2, 1, 2, 1, 2], [1, 2, 3, 4, 5, 6]], n=2)
    tensor([0.6000, 0.0000])

    ```
    """
    return torch.tensor([_repeated_share(torch.tensor(ids, dtype=torch.int64), n) for ids in token_ids])


def generated_ids(token_ids: Sequence[Sequence[int]], tool_mask: Tensor | None) -> list[list[int]]:
    """
    Leaves out the tokens that tools wrote.

    Args:
        token_ids (`Sequence` of `Sequence[int]`): Token ids of `B` completions, tool output included.
        tool_mask (`Tensor` of shape `(B, T)`, *optional*): 0 where a tool wrote the token.
    """
    if tool_mask is None:
        return [list(ids) for ids in token_ids]
    rows = zip(token_ids, tool_mask.tolist(), strict=True)
    return [[token for token, generated in zip(ids, mask, strict=False) if generated] for ids, mask in rows]


def _repeated_share(ids: Tensor, n: int) -> float:
    count = len(ids) - n + 1
    if count < 1:
        return 0.0
    # One 64-bit polynomial hash per window; integer overflow is intended
    window = torch.zeros(count, dtype=torch.int64)
    for offset in range(n):
        window = window * 6364136223846793005 + ids[offset : offset + count]
    return 1 - len(window.unique()) / count
