"""Lesson 04: the block. Attention and a feed-forward write onto a residual stream, and norms keep its scale in hand."""

import math
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minilm.attention import LayerCache
from minilm.config import ActivationKind, InitKind

# ----------------------------------------------------------------------------------------------------------------- norms


class LayerNorm(nn.Module):
    """Each position to mean 0 and variance 1 over its channels, then gain and bias (Ba et al. 2016).

    y = (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance: divided by dim, not by dim - 1.
    """

    def __init__(self, dim: int, eps: float = 1e-5, gain: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim)) if gain else None
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """The normalised positions."""
        return F.layer_norm(x, (self.dim,), self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Width and eps."""
        return f"{self.dim}, eps={self.eps:g}"


class RMSNorm(nn.Module):
    """Each position to mean square 1 over its channels, then a gain (Zhang and Sennrich 2019). No mean is taken off.

    y = x / sqrt(mean(x^2) + eps) * weight; eps inside the root. Without `gain` nothing is learned (HRM).
    Half-precision input is normalised in float32.
    """

    def __init__(self, dim: int, eps: float = 1e-6, gain: bool = True) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim)) if gain else None

    def forward(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """The normalised positions."""
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        normed = (wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)).to(x.dtype)
        return normed if self.weight is None else normed * self.weight

    def extra_repr(self) -> str:
        """Width and eps."""
        return f"{self.dim}, eps={self.eps:g}"


# ----------------------------------------------------------------------------------------------------------- activations


class LearnedActivation(nn.Module):
    """An activation that is itself a network: the scalar x through `units` ReLUs to a scalar (31 parameters for 10 units).

    y = sum_i out_weight_i * relu(in_weight_i * x + in_bias_i) + out_bias, the same for every channel, and in a model one instance
    for all layers (Super Tiny Language Models). It starts as the piecewise linear interpolation of GELU between -3 and 3, so that
    training starts from a known activation.
    """

    def __init__(self, units: int = 10) -> None:
        super().__init__()
        knots = torch.linspace(-3, 3, units, dtype=torch.float64)
        heights = F.gelu(knots)
        slopes = torch.cat(
            (torch.zeros(1), heights.diff() / knots.diff(), torch.ones(1))
        )  # left of, between, right of knots
        self.in_weight = nn.Parameter(torch.ones(units))
        self.in_bias = nn.Parameter(-knots.float())
        self.out_weight = nn.Parameter(slopes.diff().float())
        self.out_bias = nn.Parameter(heights[0].float())

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The activation, entry by entry."""
        return F.relu(x[..., None] * self.in_weight + self.in_bias) @ self.out_weight + self.out_bias


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,  # x * Phi(x), exact
    "gelu-tanh": lambda x: F.gelu(x, approximate="tanh"),  # GPT-2's approximation of it
    "relu": F.relu,
    "silu": F.silu,  # x * sigmoid(x)
    "tanh": torch.tanh,
    "none": lambda x: x,
}


def activation(kind: ActivationKind) -> Callable[[Tensor], Tensor]:
    """The activation of that name; "learned" makes a new `LearnedActivation`."""
    if kind == "learned":
        return LearnedActivation()
    if kind not in _ACTIVATIONS:
        raise ValueError(f"no activation {kind!r}: choose one of {', '.join(map(repr, [*_ACTIVATIONS, 'learned']))}")
    return _ACTIVATIONS[kind]


# ---------------------------------------------------------------------------------------------------------- feed-forward


class FeedForward(nn.Module):
    """Two matrices with an activation between, the same for every position: down(activation(up x))."""

    def __init__(
        self,
        dim: int,
        hidden: int,
        *,
        activation: Callable[[Tensor], Tensor] | ActivationKind = "gelu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.up_proj = nn.Linear(dim, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, dim, bias=bias)
        self.activation = _callable(activation)

    def forward(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """What each position writes back."""
        return self.down_proj(self.activation(self.up_proj(x)))  # type: ignore[no-any-return]


class SwiGLU(nn.Module):
    """Three matrices, of which one decides how much of the other passes: down(silu(gate x) * up x) (Shazeer 2020).

    At 2/3 of the width it has the parameters of the plain form; `gated_width` rounds as the systems do.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        *,
        activation: Callable[[Tensor], Tensor] | ActivationKind = "silu",
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden, bias=bias)
        self.up_proj = nn.Linear(dim, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, dim, bias=bias)
        self.activation = _callable(activation)

    def forward(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """What each position writes back."""
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


def _callable(given: Callable[[Tensor], Tensor] | ActivationKind) -> Callable[[Tensor], Tensor]:
    return activation(given) if isinstance(given, str) else given


def gated_width(dim: int, expansion: float = 8 / 3, multiple_of: int = 1) -> int:
    """The hidden width of a gated feed-forward: dim * expansion, rounded up to a multiple.

    >>> gated_width(4096, 8 / 3, 256)  # Llama 7B
    11008
    >>> gated_width(512, 8 / 3, 256)  # HRM and TRM
    1536
    >>> gated_width(228, 8 / 3), gated_width(228, 2 / 7)  # dlib's transformer today, and its experts of 2025
    (608, 65)
    >>> gated_width(256, 4), gated_width(256, 2)  # SLiM, Doge
    (1024, 512)
    """
    return math.ceil(int(dim * expansion) / multiple_of) * multiple_of


# ----------------------------------------------------------------------------------------------------------------- block


class BlockLayer(Protocol):
    """What the model needs of a class given as `LanguageModel(config, block=...)`.

    It is made from the finished parts, `(attention, feed_forward, attention_norm, feed_forward_norm)`, and, by name, those
    options of `Block` that the config sets to something other than their default.
    """

    def __init__(
        self, attention: nn.Module, feed_forward: nn.Module, attention_norm: nn.Module, feed_forward_norm: nn.Module
    ) -> None: ...

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        """The stream after this block."""
        ...


class Block(nn.Module):
    """One layer of a transformer on its residual stream.

    Pre-norm (`norm_first`): x + attention(norm(x)), then x + feed_forward(norm(x)); the stream itself is never normalised, and
    the gradient flows back along it unchanged (Xiong et al. 2020). Post-norm: norm(x + attention(x)), ... (Vaswani et al. 2017).
    With `residual_scale` (the stream's width), each channel of the stream has a learned factor, 1 at first:
    r * x + attention(norm(x)) (Doge). `dropout` acts on what is added.

    A feed-forward with `reads_stream = True` is called with the stream beside the norm's output: feed_forward(norm(x), x).
    """

    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module,
        attention_norm: nn.Module,
        feed_forward_norm: nn.Module,
        *,
        norm_first: bool = True,
        residual_scale: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm = attention_norm
        self.attention = attention
        self.feed_forward_norm = feed_forward_norm
        self.feed_forward = feed_forward
        self.norm_first, self.dropout = norm_first, dropout
        self.attention_residual = nn.Parameter(torch.ones(residual_scale)) if residual_scale else None
        self.feed_forward_residual = nn.Parameter(torch.ones(residual_scale)) if residual_scale else None

    def forward(
        self,
        x: Float[Tensor, "batch seq dim"],
        positions: Int[Tensor, "seq"] | Int[Tensor, "batch seq"],
        mask: Bool[Tensor, "#batch #heads #seq keys"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """The stream after this block. Mask and cache are attention's."""
        if self.norm_first:
            x = self._add(x, self.attention(self.attention_norm(x), positions, mask, cache), self.attention_residual)
            normed = self.feed_forward_norm(x)
            reads_stream = getattr(self.feed_forward, "reads_stream", False)
            update = self.feed_forward(normed, x) if reads_stream else self.feed_forward(normed)
            return self._add(x, update, self.feed_forward_residual)
        x = self.attention_norm(self._add(x, self.attention(x, positions, mask, cache), self.attention_residual))
        return self.feed_forward_norm(  # type: ignore[no-any-return]
            self._add(x, self.feed_forward(x), self.feed_forward_residual)
        )

    def _add(self, x: Tensor, update: Tensor, factor: Tensor | None) -> Tensor:
        if self.dropout and self.training:
            update = F.dropout(update, self.dropout)
        return x + update if factor is None else torch.addcmul(update, factor, x)


# -------------------------------------------------------------------------------------------------------- initialisation

WRITERS = ("o_proj", "down_proj")  # the matrices that write to the stream


def initialize(module: nn.Module, kind: InitKind = "scaled", std: float = 0.02, num_layers: int = 1) -> None:
    """Draw the weights of a model or a part of it anew; norms start at 1, biases at 0.

    - normal: every matrix from N(0, std^2);
    - scaled: the same, except that o_proj and down_proj get std / sqrt(2 num_layers), so that the 2 num_layers updates of a
      stream add up to the variance of one (Radford et al. 2019, section 2.3);
    - lecun: normal cut off at two sigma with variance 1 / inputs, so that each layer keeps the variance of what it reads;
      tables from N(0, std^2);
    - torch: left as PyTorch's constructors drew them (uniform within 1 / sqrt(inputs)).

    A tensor of many matrices, a bank of experts, is drawn as they would be one by one: its name says what it does.
    """
    if kind == "torch":
        return
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        for own_name, parameter in part.named_parameters(recurse=False):
            if parameter.dim() < 2:
                continue  # gains, biases, residual scales: their constructors know where to start
            if own_name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif kind == "lecun" and (isinstance(part, nn.Linear) or parameter.dim() == 3):
                sigma = (
                    parameter.shape[-1] ** -0.5 / 0.8796256610342398
                )  # what the cut at two sigma leaves of a normal's sigma
                nn.init.trunc_normal_(parameter, std=sigma, a=-2 * sigma, b=2 * sigma)
            else:
                writes = kind == "scaled" and (name.endswith(WRITERS) or own_name in WRITERS)
                nn.init.normal_(parameter, std=std / math.sqrt(2 * num_layers) if writes else std)
