"""The layer: attention with projections and heads, whose keys compete for a place in each query's window."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minilm.attention import Attention, LayerCache, attend
from minilm.config import MaskOwner
from minilm.dynamic_mask.bias import attend_with_bias, dynamic_mask_bias, keep_top, repeat_to
from minilm.dynamic_mask.cache import KeepCache
from minilm.embeddings import RotaryEmbedding


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
        qk_norm_eps: float = 1e-6,
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
            qk_norm_eps=qk_norm_eps,
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
        if isinstance(cache, KeepCache):
            self._check_cache(cache, x.shape[1])
            out = cache.attend(q, k, v, self.bias_of(v), mask)
            return self.o_proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]
        start, places = 0, None
        if cache is not None:
            start = self._check_cache(cache, x.shape[1])
            k, v, places = cache.append(k, v)
        bias = self.bias_of(v)
        all_kept = places is None and k.shape[2] <= self.keep_window
        simple = mask is None and all_kept and self._needs_no_mask(start, q.shape[2], k.shape[2], in_ring=False)
        kept = None if simple else self._kept(bias, self._allowed(q, k, mask, start, places), places)
        dropout = self.dropout if self.training else 0.0
        out = attend_with_bias(q, k, v, bias, kept, causal=simple and q.shape[2] > 1, dropout=dropout)
        return self.o_proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]  # batch seq (heads head_dim)

    def new_cache(self, capacity: int) -> LayerCache:
        """A cache that holds no more than can still be kept; with a sliding window, one that holds the window."""
        if self.window is not None:
            return LayerCache(capacity, self.window, self.sinks)
        return KeepCache(capacity, self.keep_window, owners=len(self.A) // self.num_kv_heads)

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
            bias = repeat_to(bias, self.num_heads)
        if places is None:
            return keep_top(bias, allowed, self.keep_window)
        order = places.argsort()  # a ring of a sliding window: by age again, since of equal biases the later key wins
        back = order.argsort()
        return keep_top(bias[..., order], allowed[..., order], self.keep_window)[..., back]

    def _explicit(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, start: int, places: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        bias = self.bias_of(v)
        kept = repeat_to(self._kept(bias, self._allowed(q, k, mask, start, places), places), self.num_heads)
        return attend(q, k, v, kept, bias=repeat_to(bias, self.num_heads)[:, :, None])

    def extra_repr(self) -> str:
        """Heads, pattern and keep window."""
        return f"{super().extra_repr()}, keep_window={self.keep_window}, per={self.per!r}"
