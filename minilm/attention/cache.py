"""What attention keeps of the tokens already read: an explicit object that the caller owns and the model only fills.

Without it, writing token n computes the keys and values of all n tokens again; with it, of one.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor


class LayerCache:
    """The keys and values of one layer.

    Room for `capacity` positions is taken at the first `append` and doubled when it runs out, so that a step writes into memory
    that is already there. With a `window`, only the first `sinks` positions and the last `window` of the others are kept, in a
    ring of fixed size: what falls out is what sliding-window attention cannot see anyway.
    """

    def __init__(self, capacity: int = 256, window: int | None = None, sinks: int = 0) -> None:
        if capacity < 1 or (window is not None and window < 1) or sinks < 0:
            raise ValueError(f"capacity = {capacity}, window = {window}, sinks = {sinks}: need at least 1, 1 and 0")
        self.window, self.sinks = window, sinks
        self.capacity = capacity if window is None else sinks + window
        self.length = 0  # positions read so far, kept or not
        self.keys: Float[Tensor, "batch kv_heads capacity head_dim"] | None = None
        self.values: Float[Tensor, "batch kv_heads capacity head_dim"] | None = None
        self._places: Tensor | None = None  # which position stands in each slot of a ring

    def append(
        self, keys: Float[Tensor, "batch kv_heads new head_dim"], values: Float[Tensor, "batch kv_heads new head_dim"]
    ) -> tuple[
        Float[Tensor, "batch kv_heads seen head_dim"],
        Float[Tensor, "batch kv_heads seen head_dim"],
        Int[Tensor, "seen"] | None,
    ]:
        """Add the new positions; return all keys and values their queries may need, and the position of each.

        The positions are None where they are simply 0, 1, 2, ...: a cache without a window.
        """
        if torch.is_grad_enabled() and keys.requires_grad:
            raise RuntimeError("a KV cache is for writing, not for training: call the model under torch.no_grad()")
        if self.keys is None or self.values is None:
            self._allocate(keys)
        assert self.keys is not None
        assert self.values is not None
        if keys.shape[0] != self.keys.shape[0]:
            raise ValueError(
                f"the cache holds {self.keys.shape[0]} sequences and got {keys.shape[0]}: a batch keeps its size; "
                "start a new cache for another batch"
            )
        if self.window is not None:
            return self._append_to_ring(keys, values)
        start, self.length = self.length, self.length + keys.shape[2]
        if self.length > self.capacity:
            self._grow(self.length)
        self.keys[:, :, start : self.length] = keys
        self.values[:, :, start : self.length] = values
        return self.keys[:, :, : self.length], self.values[:, :, : self.length], None

    def _allocate(self, like: Tensor) -> None:
        batch, kv_heads, _, head_dim = like.shape
        with torch.inference_mode(False):  # memory taken under inference_mode could be written to nowhere else
            self.keys = like.new_empty(batch, kv_heads, self.capacity, head_dim)
            self.values = torch.empty_like(self.keys)
            self._places = torch.arange(self.capacity, device=like.device)

    def _grow(self, needed: int) -> None:
        assert self.keys is not None
        assert self.values is not None
        self.capacity = max(2 * self.capacity, needed)
        batch, kv_heads, old, head_dim = self.keys.shape
        for name in ("keys", "values"):
            with torch.inference_mode(False):
                larger = self.keys.new_empty(batch, kv_heads, self.capacity, head_dim)
            larger[:, :, :old] = getattr(self, name)
            setattr(self, name, larger)

    def _slot(self, position: Tensor | int) -> Tensor | int:
        """Where a position stands in the ring: sinks in front, the others in turn behind them."""
        assert self.window is not None
        ring = self.sinks + (position - self.sinks) % self.window
        if isinstance(position, Tensor):
            return torch.where(position < self.sinks, position, ring)
        return position if position < self.sinks else ring

    def _append_to_ring(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        assert self.keys is not None
        assert self.values is not None
        assert self._places is not None
        assert self.window is not None
        new, held = keys.shape[2], min(self.length, self.capacity)
        if new == 1:  # the step of writing: one slot changes, nothing moves
            slot = self._slot(self.length)
            self.keys[:, :, slot] = keys[:, :, 0]
            self.values[:, :, slot] = values[:, :, 0]
            self._places[slot] = self.length
            self.length += 1
            held = min(self.length, self.capacity)
            return self.keys[:, :, :held], self.values[:, :, :held], self._places[:held]
        # The first of many new queries still see positions that the last ones push out: return all, then keep the latest.
        arriving = torch.arange(self.length, self.length + new, device=keys.device)
        places = torch.cat((self._places[:held], arriving))
        all_keys = torch.cat((self.keys[:, :, :held], keys), dim=2)
        all_values = torch.cat((self.values[:, :, :held], values), dim=2)
        self.length += new
        kept = (places < self.sinks) | (places >= self.length - self.window)
        slots = self._slot(places[kept])
        self.keys[:, :, slots] = all_keys[:, :, kept]
        self.values[:, :, slots] = all_values[:, :, kept]
        self._places[slots] = places[kept]
        return all_keys, all_values, places

    def crop(self, length: int) -> None:
        """Forget all but the first `length` positions. A ring has lost what would be needed: ValueError."""
        if length > self.length or length < 0:
            raise ValueError(f"cannot crop a cache of {self.length} positions to {length}")
        if self.window is not None and self.length > self.window and length:
            raise ValueError("a windowed cache cannot go back: read the text again into a new cache")
        self.length = length

    def select(self, rows: Int[Tensor, "chosen"]) -> None:
        """Go on with these sequences of the batch only, in this order; one may be chosen more than once (beam search)."""
        if self.keys is not None and self.values is not None:
            with torch.inference_mode(False):  # as in `_allocate`
                self.keys, self.values = self.keys[rows], self.values[rows]

    @property
    def nbytes(self) -> int:
        """Bytes taken by keys and values, used or not."""
        return sum(t.nbytes for t in (self.keys, self.values) if t is not None)


class KVCache:
    """One `LayerCache` for each layer, and how many tokens of padding stand before each sequence of the batch.

    Make it with `model.new_cache()`, hand it to every call of `model(ids, cache)` with the tokens that are new.
    """

    def __init__(self, layers: list[LayerCache], padding: Int[Tensor, "batch"] | None = None) -> None:
        if not layers:
            raise ValueError("a cache needs at least one layer")
        if padding is not None and any(layer.sinks for layer in layers):
            raise ValueError("left padding would stand where attention sinks are: batch prompts of equal length")
        self.layers, self.padding = layers, padding

    @property
    def length(self) -> int:
        """Positions read so far, padding included."""
        return self.layers[0].length

    @property
    def nbytes(self) -> int:
        """Bytes taken by all layers."""
        return sum(layer.nbytes for layer in self.layers)

    def crop(self, length: int) -> None:
        """Forget all but the first `length` positions in every layer."""
        for layer in self.layers:
            layer.crop(length)

    def select(self, rows: Int[Tensor, "chosen"]) -> None:
        """Go on with these sequences of the batch only, in this order, in every layer."""
        for layer in self.layers:
            layer.select(rows)
        if self.padding is not None:
            self.padding = self.padding[rows]

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layer: int) -> LayerCache:
        return self.layers[layer]

    def __iter__(self) -> Iterator[LayerCache]:
        return iter(self.layers)
