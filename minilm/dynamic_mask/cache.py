"""What dynamic mask attention remembers: a cache that stops growing."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minilm.attention import LayerCache, attend_fast
from minilm.dynamic_mask.bias import ROUNDING, attend_with_bias, keep_top


class KeepCache(LayerCache):
    """What dynamic mask attention keeps of the tokens already read: never more than its window, however long the text grows.

    That is exact. A key's bias is a function of its value, and never changes; the keys it competes with only become more. So a
    key that the newest query drops is dropped for good, and another may have its place. Each key-value head has room for
    `keep` keys of each of its `owners` (1, or the heads of a group, which may keep different ones), and for one newcomer.

    For the same reason, a key that `mask` hides from the newest query is forgotten: what it hides must stay hidden.
    """

    def __init__(self, capacity: int, keep: int, owners: int = 1) -> None:
        super().__init__(capacity)
        self.keep, self.owners = keep, owners
        self.limit = owners * keep + 1
        self.capacity = min(capacity, self.limit)
        self.bias: Float[Tensor, "batch kv_heads owners capacity"] | None = None  # -inf: dropped
        self.places: Int[Tensor, "batch kv_heads capacity"] | None = None  # which position stands in each slot

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Refused: what is kept depends on the biases."""
        raise TypeError("this cache keeps keys by their bias, which only DynamicMaskAttention knows: use a LayerCache")

    def attend(
        self,
        q: Float[Tensor, "batch heads new head_dim"],
        k: Float[Tensor, "batch kv_heads new head_dim"],
        v: Float[Tensor, "batch kv_heads new head_dim"],
        bias: Float[Tensor, "batch kv_heads*owners new"],
        mask: Bool[Tensor, "#batch 1 #new seen"] | None = None,
    ) -> Float[Tensor, "batch heads new head_dim"]:
        """Add the new positions, and what each of them gathers from those it keeps."""
        if torch.is_grad_enabled() and k.requires_grad:
            raise RuntimeError("a KV cache is for writing, not for training: call the model under torch.no_grad()")
        if mask is not None and mask.dim() == 4 and mask.shape[1] != 1:
            raise ValueError(
                f"the mask has {mask.shape[1]} heads: with a cache it is one for all heads, as the model's is"
            )
        if self.keys is not None and len(self.keys) != len(k):
            raise ValueError(
                f"the cache holds {len(self.keys)} sequences and got {len(k)}: a batch keeps its size; "
                "start a new cache for another batch"
            )
        bias = bias.reshape(*k.shape[:2], self.owners, -1)  # batch kv_heads owners new
        return self._step(q, k, v, bias, mask) if k.shape[2] == 1 else self._read(q, k, v, bias, mask)

    def _step(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        """One new position: it takes a free slot, and where there are then too many, the least is dropped."""
        self._make_room(k, bias, self.length + 1)
        keys, values, biases, places = self._slots(self.capacity)
        if self.length < self.capacity:
            slot = places.new_full((*k.shape[:2], 1), self.length)
        else:
            slot = biases.amax(dim=2).argmin(dim=-1, keepdim=True)  # one that nobody keeps
        wide = slot[..., None].expand_as(k)
        keys.scatter_(2, wide, k)
        values.scatter_(2, wide, v)
        biases.scatter_(3, slot[:, :, None].expand_as(bias), bias)
        places.scatter_(2, slot, self.length)
        self.length += 1
        keys, values, biases, places = self._slots(min(self.length, self.capacity))
        if mask is not None:
            biases.masked_fill_(~_seen(mask, places[:, :, None, None])[:, :, :, -1], -math.inf)
        if self.length > self.keep:
            _drop_least(biases, places[:, :, None], self.keep)
        # The heads of a group are as good as several queries of one head, and each has its owner's bias.
        rows = q.reshape(*k.shape[:2], -1, q.shape[-1])
        return attend_fast(rows, keys, values, biases.to(q.dtype).expand(-1, -1, rows.shape[2], -1)).reshape(q.shape)

    def _read(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        """Many new positions: the first of them still see what the last ones push out."""
        start, new = self.length, k.shape[2]
        queries = torch.arange(start, start + new, device=k.device)
        places = queries.expand(*k.shape[:2], -1)
        if start:
            keys, values, biases, old = self._slots(min(start, self.capacity))
            order = old.argsort(dim=-1)  # by age, since of equal biases the later key wins
            k, v = torch.cat((_pick(keys, order), k), dim=2), torch.cat((_pick(values, order), v), dim=2)
            bias = torch.cat((_pick_biases(biases, order), bias), dim=-1)
            places = torch.cat((old.gather(-1, order), places), dim=-1)
        self.length += new
        alive, kept = bias > -math.inf, None
        if start or mask is not None or new > self.keep:
            allowed = alive[..., None, :] & (places[:, :, None] <= queries[:, None])[:, :, None]
            if mask is not None:
                allowed &= _seen(mask, places[:, :, None, None].expand(-1, -1, -1, new, -1))
            kept = keep_top(bias, allowed, self.keep)  # batch kv_heads owners new keys
            alive = kept[..., -1, :]
        finite = bias.masked_fill(bias == -math.inf, 0).flatten(1, 2)
        out = attend_with_bias(q, k, v, finite, None if kept is None else kept.flatten(1, 2), causal=kept is None)
        self._store(k, v, bias.masked_fill(~alive, -math.inf), places)
        return out

    def _store(self, keys: Tensor, values: Tensor, bias: Tensor, places: Tensor) -> None:
        """Hold these, or where they are too many, those that somebody keeps."""
        self._make_room(keys, bias, keys.shape[2])
        if keys.shape[2] > self.capacity:
            somebody = (bias > -math.inf).any(dim=2)
            chosen = somebody.int().argsort(dim=-1, descending=True, stable=True)[..., : self.capacity]
            keys, values = _pick(keys, chosen), _pick(values, chosen)
            bias, places = _pick_biases(bias, chosen), places.gather(-1, chosen)
        for held, new in zip(self._slots(keys.shape[2]), (keys, values, bias, places), strict=True):
            held.copy_(new)

    def _slots(self, held: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Keys, values, biases and places of the first slots."""
        assert self.keys is not None
        assert self.values is not None
        assert self.bias is not None
        assert self.places is not None
        return self.keys[:, :, :held], self.values[:, :, :held], self.bias[..., :held], self.places[..., :held]

    def _make_room(self, like: Tensor, bias: Tensor, needed: int) -> None:
        """Take memory at the first call, and more of it, up to the limit, when it runs out."""
        needed = min(needed, self.limit)
        if self.keys is not None and needed <= self.capacity:
            return
        old = () if self.keys is None else self._slots(self.capacity)
        if needed > self.capacity:
            self.capacity = min(max(2 * self.capacity, needed), self.limit)
        batch, kv_heads, _, head_dim = like.shape
        with torch.inference_mode(False):  # memory taken under inference_mode could be written to nowhere else
            self.keys = like.new_zeros(batch, kv_heads, self.capacity, head_dim)
            self.values = torch.zeros_like(self.keys)
            self.bias = bias.new_full((batch, kv_heads, self.owners, self.capacity), -math.inf)
            self.places = torch.zeros(batch, kv_heads, self.capacity, dtype=torch.long, device=like.device)
        if old:
            for held, before in zip(self._slots(old[0].shape[2]), old, strict=True):
                held.copy_(before)

    def crop(self, length: int) -> None:
        """Forget all but the first `length` positions, as long as all of them are still held."""
        if self.length > self.keep and 0 < length < self.length:
            raise ValueError("a cache that has dropped keys cannot go back: read the text again into a new cache")
        super().crop(length)

    def select(self, rows: Int[Tensor, "chosen"]) -> None:
        """Go on with these sequences of the batch only, in this order; one may be chosen more than once (beam search)."""
        super().select(rows)
        if self.bias is not None and self.places is not None:
            with torch.inference_mode(False):
                self.bias, self.places = self.bias[rows], self.places[rows]

    @property
    def nbytes(self) -> int:
        """Bytes taken by keys, values, biases and places, used or not."""
        return super().nbytes + sum(t.nbytes for t in (self.bias, self.places) if t is not None)


def _drop_least(
    bias: Float[Tensor, "batch kv_heads owners slots"], places: Int[Tensor, "batch kv_heads 1 slots"], keep: int
) -> None:
    """Where one more than `keep` biases are finite, make the least -inf; of those that are equal up to rounding, the oldest."""
    alive = bias > -math.inf
    least = bias.masked_fill(~alive, math.inf).amin(dim=-1, keepdim=True)
    equal = alive & (bias <= least * (1 + ROUNDING * torch.finfo(bias.dtype).eps))
    oldest = torch.where(equal, places, torch.iinfo(places.dtype).max).argmin(dim=-1, keepdim=True)
    crowded = alive.sum(dim=-1, keepdim=True) > keep
    bias.scatter_(-1, oldest, torch.where(crowded, -math.inf, bias.gather(-1, oldest)))


def _seen(mask: Bool[Tensor, "#batch 1 #new seen"], places: Int[Tensor, "batch kv_heads 1 new keys"]) -> Tensor:
    """The caller's mask, which counts all positions from the first, at the positions that are held."""
    mask = mask[None, None] if mask.dim() == 2 else mask
    rows = mask[:, :, None, -places.shape[3] :]
    return rows.expand(*places.shape[:-1], mask.shape[-1]).gather(-1, places)


def _pick(x: Float[Tensor, "batch kv_heads slots head_dim"], chosen: Int[Tensor, "batch kv_heads chosen"]) -> Tensor:
    """Keys or values in the chosen slots."""
    return x.gather(2, chosen[..., None].expand(-1, -1, -1, x.shape[-1]))


def _pick_biases(
    bias: Float[Tensor, "batch kv_heads owners slots"], chosen: Int[Tensor, "batch kv_heads chosen"]
) -> Tensor:
    """Biases in the chosen slots."""
    return bias.gather(-1, chosen[:, :, None].expand(-1, -1, bias.shape[2], -1))
