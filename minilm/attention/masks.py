"""Who may look at whom. A mask is boolean: row = the position that looks, column = the one looked at, True = may look."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def causal_mask(n: int) -> Bool[Tensor, "n n"]:
    """Position t sees positions 0 .. t: itself and the past.

    >>> causal_mask(3).int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    return torch.ones(n, n, dtype=torch.bool).tril()


def sliding_window_mask(n: int, window: int, sinks: int = 0) -> Bool[Tensor, "n n"]:
    """Position t sees itself and the window - 1 positions before it (Mistral), and the first `sinks` (StreamingLLM).

    >>> sliding_window_mask(4, window=2).int().tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    """
    return visibility(torch.arange(n), torch.arange(n), window=window, sinks=sinks)


def prefix_mask(n: int, prefix: int) -> Bool[Tensor, "n n"]:
    """Causal, but the first `prefix` positions are seen by all, earlier ones included (prefix language model).

    >>> prefix_mask(3, prefix=2).int().tolist()
    [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    """
    return visibility(torch.arange(n), torch.arange(n), prefix=prefix)


def visibility(
    queries: Int[Tensor, "queries"],
    keys: Int[Tensor, "keys"],
    causal: bool = True,
    window: int | None = None,
    sinks: int = 0,
    prefix: int = 0,
) -> Bool[Tensor, "queries keys"]:
    """All the patterns in one: which of the `keys` each of the `queries` sees, both given as places in the sequence.

    Places need not start at 0 nor be in order, which is what a cache needs: one new query, and keys wherever they are kept.
    """
    row, column = queries[:, None], keys[None, :]
    if not causal:
        return torch.ones(len(queries), len(keys), dtype=torch.bool, device=queries.device)
    seen = column <= row
    if window is not None:
        seen &= (row - column < window) | (column < sinks)
    if prefix:
        seen = seen | (column < prefix)
    return seen


def padding_mask(ids: Int[Tensor, "batch seq"], pad_id: int) -> Bool[Tensor, "batch 1 1 seq"]:
    """Nobody looks at padding. Pass it as `mask`; it is combined with the layer's own pattern."""
    return (ids != pad_id)[:, None, None, :]


def document_mask(documents: Int[Tensor, "batch seq"]) -> Bool[Tensor, "batch 1 seq seq"]:
    """Positions see each other only within one document; `documents` numbers them (`minilm.data.windows.pack`)."""
    return (documents[:, :, None] == documents[:, None, :])[:, None]
