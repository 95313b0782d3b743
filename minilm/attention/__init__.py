"""Lesson 03: attention, the one place in the model where a position looks at others.

- `masks`: who may look at whom, as boolean matrices (True: may look);
- `layer`: attention as a readable function that returns its weights, the same on PyTorch's fast kernel, and the layer with its
  projections, heads and options;
- `cache`: the keys and values of what was already read, so that writing a token costs one position and not all of them.
"""

from minilm.attention.cache import KVCache, LayerCache
from minilm.attention.layer import Attention, AttentionLayer, attend, attend_fast
from minilm.attention.masks import (
    causal_mask,
    document_mask,
    padding_mask,
    prefix_mask,
    sliding_window_mask,
    visibility,
)

__all__ = [
    "Attention",
    "AttentionLayer",
    "KVCache",
    "LayerCache",
    "attend",
    "attend_fast",
    "causal_mask",
    "document_mask",
    "padding_mask",
    "prefix_mask",
    "sliding_window_mask",
    "visibility",
]
