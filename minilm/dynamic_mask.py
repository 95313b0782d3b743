"""Lesson 10: attention that learns what to forget (dynamic mask attention, Doge).

A key's value decides how much the key counts: a bias for each key, the same for every query that may see it. Past the keep
window, a query looks only at the keys of the largest bias. So what is worth keeping is learned, and decided before anyone asks.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minilm.attention import Attention, LayerCache, attend, attend_fast
from minilm.config import MaskOwner
from minilm.embeddings import RotaryEmbedding


def dynamic_mask_bias(
    values: Float[Tensor, "batch kv_heads keys head_dim"],
    weight: Float[Tensor, "owners kv_heads*head_dim"],
    factors: Float[Tensor, "owners"],
    weight_bias: Float[Tensor, "owners"] | None = None,
) -> Float[Tensor, "batch owners keys"]:
    """What is added to every score of a key: exp(A softplus(W v)), where v is the key's value, all key-value heads in one vector.

    `factors` is A, one number for each owner of a mask: each head, or each key-value head. At A = 0 every bias is 1, which changes
    no weight; A < 0 holds biases between 0 and 1; A > 0 lets them grow without bound. Half precision is computed in float32.
    """
    wide = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
    flat = wide.transpose(1, 2).flatten(2)  # batch keys kv_heads*head_dim
    steps = F.softplus(F.linear(flat, weight.to(wide.dtype), None if weight_bias is None else weight_bias.to(wide)))
    return (factors.to(wide.dtype) * steps).exp().mT


def keep_top(
    bias: Float[Tensor, "*batch keys"], allowed: Bool[Tensor, "*#batch queries keys"], keep: int
) -> Bool[Tensor, "*batch queries keys"]:
    """For each query, the `keep` keys of the largest bias among those it is allowed to see. Of equal biases the later key wins.

    Nothing flows back through a choice: gradients reach the biases of chosen keys through the scores, and no others.

    >>> keep_top(torch.tensor([0.5, 0.9, 0.1, 0.5]), torch.ones(4, 4, dtype=torch.bool).tril(), keep=2).int().tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 1]]
    """
    if keep < 1:
        raise ValueError(f"keep = {keep}: a query keeps at least 1 key")
    keys = bias.shape[-1]
    # Sort once for all queries; then the keys that a query keeps are the first `keep` of those it is allowed to see.
    best_first = keys - 1 - bias.detach().flip(-1).argsort(dim=-1, descending=True, stable=True)
    shape = (*bias.shape[:-1], allowed.shape[-2], keys)
    order = best_first[..., None, :].expand(shape)
    ranked = allowed.expand(shape).gather(-1, order)
    ranked &= ranked.cumsum(-1, dtype=torch.int32) <= keep
    return torch.zeros_like(ranked).scatter(-1, order, ranked)


class DynamicMaskAttention(Attention):
    """Attention with a learned bias for each key, and of the keys only the `keep_window` of the largest bias for each query.

    `per` says who has a bias of its own: "head", each attention head (SmallDoge), or "kv-head", each key-value head, whose group of
    heads shares it (transformers' Doge, which also sets `qk_norm`). Everything else is as in `Attention`.
    Weights: those of `Attention`, dt_proj (owners, num_kv_heads * head_dim) and A (owners), 0 at first: causal attention, as long
    as no more than `keep_window` keys can be seen; with more of them sliding-window attention, since all tie and the later win.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_kv_heads: int | None = None,
        *,
        keep_window: int = 2048,
        per: MaskOwner = "head",
        head_dim: int | None = None,
        bias: bool = False,
        output_bias: bool = False,
        rotary: RotaryEmbedding | None = None,
        window: int | None = None,
        sinks: int = 0,
        qk_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            dim,
            num_heads,
            num_kv_heads,
            head_dim=head_dim,
            bias=bias,
            output_bias=output_bias,
            rotary=rotary,
            window=window,
            sinks=sinks,
            qk_norm=qk_norm,
            dropout=dropout,
        )
        if keep_window < 1:
            raise ValueError(f"keep_window = {keep_window}: a query keeps at least 1 key")
        if per not in ("head", "kv-head"):
            raise ValueError(f"per = {per!r}: choose 'head' or 'kv-head'")
        self.keep_window, self.per = keep_window, per
        owners = self.num_heads if per == "head" else self.num_kv_heads
        self.A = nn.Parameter(torch.zeros(owners))
        self.dt_proj = nn.Linear(self.num_kv_heads * self.head_dim, owners, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "batch seq dim"],
        positions: Int[Tensor, "seq"] | Int[Tensor, "batch seq"],
        mask: Bool[Tensor, "#batch #heads #seq keys"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """What each position gathers from the keys it keeps. Arguments as in `Attention.forward`.

        Only keys that `mask` lets a query see compete for a place in its keep window.
        """
        q, k, v = self.project(x, positions)
        start, places = 0, None
        if cache is not None:
            start = self._check_cache(cache, x.shape[1])
            k, v, places = cache.append(k, v)
        bias = self.bias_of(v)
        nothing_dropped = places is None and k.shape[2] <= self.keep_window
        simple = mask is None and nothing_dropped and self._needs_no_mask(start, q.shape[2], k.shape[2], in_ring=False)
        kept = None if simple else self._kept(bias, self._allowed(q, k, mask, start, places), places)
        out = attend_with_bias(
            q,
            k,
            v,
            bias,
            None if kept is None else self._by_head(kept),
            causal=simple and q.shape[2] > 1,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.o_proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # batch seq (heads head_dim)

    def bias_of(self, v: Float[Tensor, "batch kv_heads keys head_dim"]) -> Float[Tensor, "batch owners keys"]:
        """The bias of each key from its value."""
        return dynamic_mask_bias(v, self.dt_proj.weight, self.A, self.dt_proj.bias)

    def dynamic_mask(
        self, x: Float[Tensor, "batch seq dim"], mask: Bool[Tensor, "#batch #heads #seq seq"] | None = None
    ) -> tuple[Float[Tensor, "batch owners seq"], Bool[Tensor, "batch owners seq seq"]]:
        """The bias of each key, and for each query which keys it keeps. For looking: `forward` computes the same."""
        v = self.v_proj(x).view(*x.shape[:2], self.num_kv_heads, self.head_dim).transpose(1, 2)
        bias = self.bias_of(v)
        return bias, self._kept(bias, self._allowed(v, v, mask, 0, None), None)

    def _kept(self, bias: Tensor, allowed: Tensor, places: Tensor | None) -> Tensor:
        """Which of the allowed keys each query keeps: batch owners (or heads, where the mask tells heads apart) queries keys."""
        allowed = allowed[None, None] if allowed.dim() == 2 else allowed
        if allowed.shape[1] not in (1, bias.shape[1]):
            bias = self._by_head(bias)
        if places is None:
            return keep_top(bias, allowed, self.keep_window)
        order = places.argsort()  # a ring of a sliding window: by age again, since of equal biases the later key wins
        back = order.argsort()
        return keep_top(bias[..., order], allowed[..., order], self.keep_window)[..., back]

    def _by_head(self, of_owners: Tensor) -> Tensor:
        """For each head what belongs to its owner, which may be a key-value head."""
        return of_owners.repeat_interleave(self.num_heads // of_owners.shape[1], dim=1)

    def _explicit(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, start: int, places: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        bias = self.bias_of(v)
        kept = self._by_head(self._kept(bias, self._allowed(q, k, mask, start, places), places))
        return attend(q, k, v, kept, bias=self._by_head(bias)[:, :, None])

    def extra_repr(self) -> str:
        """Heads, pattern and keep window."""
        return f"{super().extra_repr()}, keep_window={self.keep_window}, per={self.per!r}"


def attend_with_bias(
    q: Float[Tensor, "batch heads queries head_dim"],
    k: Float[Tensor, "batch kv_heads keys head_dim"],
    v: Float[Tensor, "batch kv_heads keys head_dim"],
    bias: Float[Tensor, "batch owners keys"],
    mask: Bool[Tensor, "#batch #heads queries keys"] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads queries head_dim"]:
    """softmax(q k^T / sqrt(head_dim) + bias) v on PyTorch's fused kernel, with a bias that depends on the key alone.

    Such a bias is one more channel: [q, 1] . [k, bias] = q . k + bias. So no matrix of biases is made for each pair of query and
    key, and the gradient reaches the bias as it reaches a key.
    """
    head_dim = q.shape[-1]
    groups = bias.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)  # the keys of each owner of a mask
    channel = (bias * math.sqrt(head_dim)).to(k.dtype)[..., None]
    q, k, v = F.pad(q, (0, 1), value=1.0), torch.cat((k, channel), dim=-1), F.pad(v, (0, 1))
    return attend_fast(q, k, v, mask, causal, dropout, scale=head_dim**-0.5)[..., :head_dim]
