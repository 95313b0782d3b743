"""Exhibits: what other systems do that nobody should copy, exact enough to measure what goes wrong.

Most are from dlib's transformer language models of 2025, whose published parameter counts they reproduce; one is the router of
Doge's experts. `future_leak` and `batch_leak` measure what they let through.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minilm.attention import LayerCache
from minilm.block import Block
from minilm.embeddings import LearnedPositions, TokenEmbedding
from minilm.moe.product_key import CDMoE, at_least_float32


class WholeSampleNorm(nn.Module):
    """dlib's `rms_norm` of November 2025: one scale for a whole sample, one learned gain.

    y = weight * x / sqrt(mean over positions and channels of x^2 + eps). The mean runs over the future too, so with a loss at
    every position each prediction is told a little of what comes (`future_leak` measures it). And the last token's prediction
    changes with how much is in the window.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(1))  # whatever dim is: dlib counts a single parameter

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch seq dim"]:
        """Each sample to mean square 1."""
        return self.weight * x * torch.rsqrt(x.square().mean(dim=(-2, -1), keepdim=True) + self.eps)


def dlib_sinusoidal_positions(
    positions: Int[Tensor, "*shape"], dim: int, base: float = 10_000.0
) -> Float[Tensor, "*shape dim"]:
    """dlib's sinusoidal positions: channel c turns with base ** (-c / dim), sine where c is even, cosine where it is odd.

    The standard gives channels 2i and 2i + 1 the same frequency; here the cosine's is a little lower, so a shift of position is
    no longer a rotation of pairs, and attention cannot read distances from dot products as exactly.
    """
    channels = torch.arange(dim, dtype=torch.float32, device=positions.device)
    angles = positions.float()[..., None] * base ** (-channels / dim)
    return torch.where(channels.long() % 2 == 0, angles.sin(), angles.cos())


class DlibSinusoidalPositions(nn.Module):
    """`dlib_sinusoidal_positions` as a part of the embedder."""

    def __init__(self, dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        self.dim, self.base = dim, base

    def forward(self, positions: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape dim"]:
        """The waves at the positions."""
        return dlib_sinusoidal_positions(positions, self.dim, self.base)


class FusedAttention(nn.Module):
    """Attention of dlib's "fused" block: over the features of one flattened window, not over its positions.

    A matrix reads the whole window at once (context_length * dim inputs) and gives one query, key and value vector of width dim.
    Each head compares the head_dim *features* of its query with those of its key, hides "later" features with a triangular mask,
    and mixes features of the value. No position ever looks at another; the window's order lives in the big matrix. The result
    is added to the first row of the stream only, because dlib adds tensors of unequal shape by filling up with zeros.
    """

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int | None = None, *, context_length: int) -> None:
        super().__init__()
        if dim % num_heads or num_kv_heads not in (None, num_heads):
            raise ValueError(
                f"the fused block wants equal heads: dim = {dim}, {num_heads} heads, {num_kv_heads} kv heads"
            )
        self.num_heads, self.head_dim, self.context_length = num_heads, dim // num_heads, context_length
        self.qkv_proj = nn.Linear(context_length * dim, 3 * dim, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)

    def forward(
        self,
        x: Float[Tensor, "batch seq dim"],
        positions: Int[Tensor, "seq"],
        mask: Bool[Tensor, "..."] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """An update for the stream that is zero everywhere but in its first row."""
        if mask is not None or cache is not None:
            raise ValueError("the fused block knows neither masks nor a cache: its window is one long vector")
        flat = _flatten(x, self.context_length)
        q, k, v = self.qkv_proj(flat).view(len(x), 3, self.num_heads, self.head_dim).unbind(1)  # batch heads features
        scores = q[..., :, None] * k[..., None, :] * self.head_dim**-0.5  # batch heads features features
        hidden = torch.ones(self.head_dim, self.head_dim, dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
        mixed = (weights @ v[..., None]).flatten(1)  # batch dim
        return _first_row(self.o_proj(mixed), x.shape[1])


class FusedFeedForward(nn.Module):
    """Feed-forward of dlib's "fused" block: reads the flattened window, writes to the first row of the stream only."""

    def __init__(self, dim: int, hidden: int, *, context_length: int) -> None:
        super().__init__()
        self.context_length = context_length
        self.up_proj = nn.Linear(context_length * dim, hidden)
        self.down_proj = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch seq dim"]:
        """An update for the stream that is zero everywhere but in its first row."""
        return _first_row(self.down_proj(F.gelu(self.up_proj(_flatten(x, self.context_length)))), x.shape[1])


def _flatten(x: Tensor, context_length: int) -> Tensor:
    if x.shape[1] != context_length:
        raise ValueError(
            f"the fused block reads windows of exactly {context_length} positions and got {x.shape[1]}: pad on the left"
        )
    return x.flatten(1)


def _first_row(row: Float[Tensor, "batch dim"], seq: int) -> Float[Tensor, "batch seq dim"]:
    return F.pad(row[:, None], (0, 0, 0, seq - 1))


def fused_block(dim: int, num_heads: int, hidden: int, context_length: int) -> Block:
    """dlib's fused block complete: the two parts above on a residual stream, with whole-sample norms."""
    return Block(
        FusedAttention(dim, num_heads, context_length=context_length),
        FusedFeedForward(dim, hidden, context_length=context_length),
        WholeSampleNorm(dim),
        WholeSampleNorm(dim),
    )


def upstream_router_view(
    scores: Float[Tensor, "tokens 2*keys"],
) -> tuple[Float[Tensor, "tokens keys"], Float[Tensor, "tokens keys"]]:
    """The scores of both axes as Doge's published code cuts them: `view(2, tokens, keys)` of a tensor that lies token by token.

    The first half of the memory, which holds both axes of the first half of the tokens, is taken for everyone's x axis. So token t
    of n, counted through the whole batch, gets as x the scores of token t // 2, and as y those of token (n + t) // 2, which comes
    later: of each it gets the x half where the sum is even, the y half where it is odd. It should have been
    `view(tokens, 2, keys)`. With one token in all the two agree, which is why writing token by token doesn't show it.

    >>> x, y = upstream_router_view(torch.tensor([[10, 11], [20, 21], [30, 31], [40, 41]]))  # 4 tokens, one key an axis
    >>> x.flatten().tolist(), y.flatten().tolist()
    ([10, 11, 20, 21], [30, 31, 40, 41])
    """
    x, y = scores.reshape(2, len(scores), -1)
    return x, y


class UpstreamCDMoE(CDMoE):
    """CDMoE with `upstream_router_view`: a token's experts are chosen by the scores of two other tokens, one of them later.

    Trained with a loss at every position, a model learns from what it will not have when it writes; and what a sequence gets
    depends on its neighbours in the batch. For comparison with transformers' `DogeForCausalLM`, which keeps it for the sake
    of existing checkpoints; `LanguageModel(config, feed_forward=UpstreamCDMoE)`.
    """

    why_no_cache = "the upstream router view lets later tokens choose the experts of earlier ones"

    def axis_scores(
        self, x: Float[Tensor, "batch seq dim"]
    ) -> tuple[Float[Tensor, "tokens keys"], Float[Tensor, "tokens keys"]]:
        """The scores of other tokens."""
        return upstream_router_view(at_least_float32(self.router_gate(x)).flatten(0, -2))


def future_leak(model: nn.Module, ids: Int[Tensor, "batch seq"], replacement: int) -> float:
    """How far the logits of earlier positions move when only the last token is replaced: 0 for a causal model.

    `model(ids)` must give logits for every position. Dropout must be off (`model.eval()`).
    """
    changed = ids.clone()
    changed[:, -1] = replacement
    if torch.equal(changed, ids):
        raise ValueError(f"replacement = {replacement} is the last token already: nothing would change")
    with torch.no_grad():
        return float((model(changed) - model(ids))[:, :-1].abs().max())


def batch_leak(model: nn.Module, ids: Int[Tensor, "batch seq"], replacement: int) -> float:
    """How far a sequence's logits move when the last sequence of the batch is replaced: 0 where sequences are independent.

    `ids` holds two sequences or more. Dropout must be off (`model.eval()`).
    """
    if len(ids) < 2:
        raise ValueError(f"a batch of {len(ids)}: there must be another sequence to hear of")
    changed = ids.clone()
    changed[-1] = replacement
    if torch.equal(changed, ids):
        raise ValueError(f"replacement = {replacement} is the whole last sequence already: nothing would change")
    with torch.no_grad():
        return float((model(changed) - model(ids))[:-1].abs().max())


def counted_by_dlib(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that dlib's count includes: all but embedding tables, since its embedding layers report none.

    A table that is also the output matrix is counted once, as the head's. (dlib does not tie them.)
    """
    elsewhere = {
        id(parameter)
        for part in model.modules()
        if not isinstance(part, TokenEmbedding | LearnedPositions)
        for parameter in part.parameters(recurse=False)
    }
    return [parameter for parameter in model.parameters() if id(parameter) in elsewhere]


def count_as_dlib(model: nn.Module) -> int:
    """The number of parameters as dlib reports it (`counted_by_dlib`)."""
    return sum(parameter.numel() for parameter in counted_by_dlib(model))
