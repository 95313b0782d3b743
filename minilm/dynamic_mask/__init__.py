"""Lesson 10: attention that learns what to forget (dynamic mask attention, Doge).

A key's value decides how much the key counts: a bias for each key, the same for every query that may see it. Past the keep
window, a query looks only at the keys of the largest bias. So what is worth keeping is learned, and decided before anyone asks.

- `bias`: the bias of each key, which keys a query keeps, and attention with such a bias on PyTorch's fast kernel;
- `cache`: since what is dropped is never needed again, a cache of fixed size that is exact;
- `layer`: the layer in both published variants, one mask for each head or for each key-value head.
"""

from minilm.dynamic_mask.bias import attend_with_bias, dynamic_mask_bias, keep_top
from minilm.dynamic_mask.cache import KeepCache
from minilm.dynamic_mask.layer import DynamicMaskAttention

__all__ = ["DynamicMaskAttention", "KeepCache", "attend_with_bias", "dynamic_mask_bias", "keep_top"]
