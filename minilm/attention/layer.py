"""Attention: a weighted average of values, with weights from how well a query fits each key (Vaswani et al. 2017).

Three forms of the same mathematics: `attend` to read (it returns the weights), `attend_fast` to run, `Attention` the layer.

A row that may see nothing at all (padding, say) gets weights of zero and an output of zero, not NaN, in every form, and sends
back no gradient. PyTorch's kernel does the same.
"""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minilm.attention.cache import LayerCache
from minilm.attention.masks import visibility
from minilm.config import divisors
from minilm.embeddings import RelativePositions, RotaryEmbedding, alibi_bias, alibi_slopes


class AttentionLayer(Protocol):
    """What the model needs of a class given as `LanguageModel(config, attention=...)`; `Attention` is one, yours another.

    It is made with `(dim, num_heads, num_kv_heads)` and, by name, those options of `Attention` that the config sets to something
    other than their default (`rotary=` where positions are rotary, `window=`, `qk_norm=`, ...). A class that lacks one of these
    is refused with the option's name.
    """

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int) -> None: ...

    def forward(
        self,
        x: Float[Tensor, "batch seq dim"],
        positions: Int[Tensor, "seq"] | Int[Tensor, "batch seq"],
        mask: Bool[Tensor, "#batch #heads #seq keys"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """What each position gathers from those it sees: by the layer's own pattern, and by `mask` where one is given."""
        ...


def attend(
    q: Float[Tensor, "batch heads queries head_dim"],
    k: Float[Tensor, "batch kv_heads keys head_dim"],
    v: Float[Tensor, "batch kv_heads keys head_dim"],
    mask: Bool[Tensor, "#batch #heads queries keys"] | None = None,
    bias: Float[Tensor, "#batch #heads queries keys"] | None = None,
    scale: float | None = None,
) -> tuple[Float[Tensor, "batch heads queries head_dim"], Float[Tensor, "batch heads queries keys"]]:
    """softmax(q k^T * scale + bias) v over the keys that the mask allows; returns the output and the weights.

    The scale is 1 / sqrt(head_dim) unless given: it keeps the variance of a score at 1 when those of q and k are 1.
    Fewer key-value heads than heads are shared by groups of consecutive heads (GQA, Ainslie et al. 2023).
    """
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)  # batch heads queries keys
    if bias is not None:
        scores = scores + bias
    if mask is None:
        weights = scores.softmax(dim=-1)
    else:
        # The lowest finite number instead of -inf: a row without any key then has no NaN to pass on, and is zeroed after.
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1) * mask
    return weights @ v, weights


def attend_fast(
    q: Float[Tensor, "batch heads queries head_dim"],
    k: Float[Tensor, "batch kv_heads keys head_dim"],
    v: Float[Tensor, "batch kv_heads keys head_dim"],
    mask: Bool[Tensor, "#batch #heads #queries keys"] | Float[Tensor, "#batch #heads #queries keys"] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Float[Tensor, "batch heads queries head_dim"]:
    """The same on PyTorch's fused kernel, which never writes the matrix of weights to memory.

    `causal=True` is for square attention without a mask. A float mask is a bias, with -inf where looking is forbidden.
    """
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        mask = mask.float() if mask is not None and mask.dtype != torch.bool else mask
        with torch.autocast("cpu", enabled=False):  # the backward pass of the CPU's kernel is far slower in bfloat16
            return attend_fast(q.float(), k.float(), v.float(), mask, causal, dropout, scale)
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad:  # for the same reason
        mask = mask.float() if mask is not None and mask.dtype != torch.bool else mask
        return attend_fast(q.float(), k.float(), v.float(), mask, causal, dropout, scale).to(q.dtype)
    heads, kv_heads = q.shape[1], k.shape[1]
    if q.shape[2] == 1 and kv_heads != heads and not causal and (mask is None or mask.shape[1] == 1):
        # One query a head: the heads of a group are as good as several queries of one head, and nothing is repeated.
        rows = q.reshape(len(q), kv_heads, -1, q.shape[3])
        return F.scaled_dot_product_attention(rows, k, v, mask, dropout, scale=scale).reshape(q.shape)
    return F.scaled_dot_product_attention(
        q, k, v, mask, dropout, is_causal=causal, scale=scale, enable_gqa=heads != kv_heads
    )


class Attention(nn.Module):
    """Multi-head attention with everything that the course's models need; what is not asked for costs nothing.

    `num_kv_heads` below num_heads shares keys and values in groups; 1 is multi-query attention.
    `causal`, `window`, `sinks`, `prefix` are the pattern of `minilm.attention.masks.visibility`.
    `rotary` turns queries and keys; `alibi` and `relative` act on the scores instead; none of them is no positions at all (NoPE).
    `qk_norm` RMS-normalises each head's queries and keys before they turn (Henry et al. 2020, Qwen3).
    Weights: q_proj (num_heads * head_dim, dim), k_proj and v_proj (num_kv_heads * head_dim, dim), o_proj (dim, num_heads * head_dim).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        *,
        head_dim: int | None = None,
        bias: bool = False,
        output_bias: bool = False,
        rotary: RotaryEmbedding | None = None,
        relative: RelativePositions | None = None,
        alibi: bool = False,
        causal: bool = True,
        window: int | None = None,
        sinks: int = 0,
        prefix: int = 0,
        qk_norm: bool = False,
        qk_norm_eps: float = 1e-6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if head_dim is None and dim % num_heads:
            raise ValueError(
                f"dim = {dim} is not divisible by num_heads = {num_heads}: choose one of {divisors(dim)} heads, or set head_dim"
            )
        if num_heads % num_kv_heads:
            raise ValueError(
                f"num_kv_heads = {num_kv_heads} does not divide num_heads = {num_heads}: choose one of {divisors(num_heads)}"
            )
        if relative is not None and dropout:
            raise ValueError("attention dropout is not offered together with relative positions: set dropout=0")
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        self.head_dim = head_dim or dim // num_heads
        self.causal, self.window, self.sinks, self.prefix = causal, window, sinks, prefix
        self.dropout = dropout
        self.q_proj = nn.Linear(dim, num_heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(dim, num_kv_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(dim, num_kv_heads * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(num_heads * self.head_dim, dim, bias=output_bias)
        self.q_norm = nn.RMSNorm(self.head_dim, eps=qk_norm_eps) if qk_norm else None
        self.k_norm = nn.RMSNorm(self.head_dim, eps=qk_norm_eps) if qk_norm else None
        self.rotary, self.relative = rotary, relative
        self.slopes = alibi_slopes(num_heads) if alibi else None  # no buffer: fixed numbers need no saving
        self._pattern: tuple[tuple[int, int, torch.device], Tensor] | None = None

    def forward(
        self,
        x: Float[Tensor, "batch seq dim"],
        positions: Int[Tensor, "seq"] | Int[Tensor, "batch seq"],
        mask: Bool[Tensor, "#batch #heads #seq keys"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """What each position gathers from those it sees. `x` holds the new positions only where there is a cache.

        `mask` (True: may look) narrows the layer's own pattern further; its last dimension counts every position from the first,
        cached ones included. `positions` are used by rotary embeddings alone: the pattern goes by order of arrival.
        """
        q, k, v = self.project(x, positions)
        start, places = 0, None
        if cache is not None:
            start = self._check_cache(cache, x.shape[1])
            k, v, places = cache.append(k, v)
        if self.relative is not None:
            out, _ = self._explicit(q, k, v, mask, start, places)
        else:
            simple = mask is None and self._needs_no_mask(start, q.shape[2], k.shape[2], in_ring=places is not None)
            out = attend_fast(
                q,
                k,
                v,
                mask=None if simple else self._mask_or_bias(q, k, mask, start, places),
                causal=simple and self.causal and q.shape[2] > 1,
                dropout=self.dropout if self.training else 0.0,
            )
        return self.o_proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # batch seq (heads head_dim)

    def with_weights(
        self,
        x: Float[Tensor, "batch seq dim"],
        positions: Int[Tensor, "seq"] | Int[Tensor, "batch seq"],
        mask: Bool[Tensor, "#batch #heads #seq seq"] | None = None,
    ) -> tuple[Float[Tensor, "batch seq dim"], Float[Tensor, "batch heads seq seq"]]:
        """The output of `forward` by the readable form, and the weights it was averaged with. For looking, not for speed."""
        q, k, v = self.project(x, positions)
        out, weights = self._explicit(q, k, v, mask, 0, None)
        return self.o_proj(out.transpose(1, 2).flatten(2)), weights

    def project(
        self, x: Float[Tensor, "batch seq dim"], positions: Int[Tensor, "seq"] | Int[Tensor, "batch seq"]
    ) -> tuple[
        Float[Tensor, "batch heads seq head_dim"],
        Float[Tensor, "batch kv_heads seq head_dim"],
        Float[Tensor, "batch kv_heads seq head_dim"],
    ]:
        """Queries, keys and values, split into heads, normalised and turned as the layer does."""
        batch, seq, _ = x.shape
        q = self.q_proj(x).view(batch, seq, self.num_heads, self.head_dim)
        k = self.k_proj(x).view(batch, seq, self.num_kv_heads, self.head_dim)
        v = self.v_proj(x).view(batch, seq, self.num_kv_heads, self.head_dim)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # batch heads seq head_dim
        if self.rotary is not None:
            q, k = self.rotary(q, positions), self.rotary(k, positions)
        return q, k, v

    def _check_cache(self, cache: LayerCache, new: int) -> int:
        """The place of the first new position; ValueError where cached and uncached attention would differ."""
        if not self.causal:
            raise ValueError(
                "attention with causal=False cannot use a cache: every new token changes what the earlier ones gather; "
                "call the model on the whole sequence"
            )
        if self.rotary is not None and self.rotary.depends_on_length:
            raise ValueError(
                "rotary scaling 'dynamic' cannot use a cache: the angles of old keys change with the length; "
                "call the model on the whole sequence, or choose 'yarn' or 'linear'"
            )
        if cache.window is not None and (cache.window != self.window or cache.sinks != self.sinks):
            raise ValueError(
                f"the cache keeps a window of {cache.window} and {cache.sinks} sinks, the layer sees window={self.window}, "
                f"sinks={self.sinks}: make the cache with model.new_cache()"
            )
        if cache.length == 0 and new < self.prefix:
            raise ValueError(
                f"the first call must hold the whole prefix of {self.prefix} positions, which see each other, and holds {new}"
            )
        return cache.length

    def _needs_no_mask(self, start: int, queries: int, keys: int, in_ring: bool) -> bool:
        """Whether the kernel's own causal pattern, or none, says it all, so that no mask is needed."""
        if self.slopes is not None:
            return False
        if not self.causal:
            return True
        if queries == 1 and start > 0:  # the newest position sees everything that a ring has kept
            return in_ring or self.window is None or keys <= self.window
        return start == 0 and not self.prefix and (self.window is None or queries <= self.window)

    def _places(self, start: int, q: Tensor, k: Tensor, places: Tensor | None) -> tuple[Tensor, Tensor]:
        """Where in the sequence queries and keys stand."""
        queries = torch.arange(start, start + q.shape[2], device=q.device)
        return queries, torch.arange(k.shape[2], device=q.device) if places is None else places

    def _allowed(self, q: Tensor, k: Tensor, mask: Tensor | None, start: int, places: Tensor | None) -> Tensor:
        """The layer's pattern and the caller's mask as one boolean mask."""
        whole = places is None and start == 0  # then it is the same for every batch of this length
        key = (q.shape[2], k.shape[2], q.device)
        if whole and self._pattern is not None and self._pattern[0] == key:
            pattern = self._pattern[1]
        else:
            with torch.inference_mode(False):  # a mask kept from inference must serve training too
                pattern = visibility(
                    *self._places(start, q, k, places), self.causal, self.window, self.sinks, self.prefix
                )
            if whole:  # kept, but not in the state dict
                self._pattern = (key, pattern)
        if mask is None:
            return pattern
        if mask.dtype != torch.bool:
            raise TypeError(
                f"a mask answers yes or no and must be torch.bool (True: may look), got {mask.dtype}: "
                "convert with mask.bool(), or mask == 0 where it holds -inf for what is hidden"
            )
        if mask.dim() not in (2, 4):
            raise ValueError(
                f"the mask has shape {list(mask.shape)}: it is (queries, keys), or (batch, heads, queries, keys) with 1 for what "
                "is shared; give a mask of (batch, queries, keys) its heads with mask[:, None]"
            )
        if places is not None:
            mask = mask[..., places]
        if mask.shape[-1] != k.shape[2]:
            raise ValueError(
                f"the mask speaks of {mask.shape[-1]} keys and there are {k.shape[2]}, cached ones included"
            )
        return pattern & mask

    def _mask_or_bias(self, q: Tensor, k: Tensor, mask: Tensor | None, start: int, places: Tensor | None) -> Tensor:
        """What the kernel takes: a boolean mask, or with ALiBi the bias with -inf where looking is forbidden."""
        allowed = self._allowed(q, k, mask, start, places)
        if self.slopes is None:
            return allowed[None, None] if allowed.dim() == 2 else allowed
        return self._alibi(q, k, start, places).masked_fill(~allowed, -math.inf)

    def _alibi(self, q: Tensor, k: Tensor, start: int, places: Tensor | None) -> Tensor:
        assert self.slopes is not None
        return alibi_bias(*self._places(start, q, k, places), self.slopes.to(q.device, q.dtype))[None]

    def _explicit(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, start: int, places: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        allowed = self._allowed(q, k, mask, start, places)
        if self.relative is None:
            return attend(q, k, v, allowed, bias=None if self.slopes is None else self._alibi(q, k, start, places))
        index = self.relative.index(*self._places(start, q, k, places))
        bias = self.relative.scores(q, index) * self.head_dim**-0.5
        out, weights = attend(q, k, v, allowed, bias=bias)
        return out + self.relative.outputs(weights, index), weights

    def extra_repr(self) -> str:
        """Heads and pattern."""
        text = f"num_heads={self.num_heads}, num_kv_heads={self.num_kv_heads}, head_dim={self.head_dim}"
        pattern = {"window": self.window, "sinks": self.sinks, "prefix": self.prefix}
        text += "".join(f", {name}={value}" for name, value in pattern.items() if value)
        return text + ("" if self.causal else ", causal=False")
