"""The network that is called again and again: post-norm blocks that read a state with something added to it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minilm.attention import Attention, LayerCache
from minilm.block import Block, RMSNorm, SwiGLU
from minilm.embeddings import RotaryEmbedding
from minilm.recursion.config import RecursionConfig


class AcrossPositions(nn.Module):
    """A module that works on channels, turned so that it works on positions: y[b, :, c] = module(x[b, :, c]).

    It takes attention's arguments and needs none of them, so it stands where attention stands.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(
        self,
        x: Float[Tensor, "batch seq dim"],
        positions: Int[Tensor, "seq"] | None = None,
        mask: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """Every channel as one vector of positions, through the module."""
        return self.module(x.mT).mT  # type: ignore[no-any-return]


class RecursionNetwork(nn.Module):
    """`network(state, injected, positions)`: the sum of both through the blocks, each of them norm(x + f(x)) twice (HRM, TRM).

    Post-norm keeps a state at mean square 1 however often it goes through. The norms have no gain, and nothing has a bias.
    """

    def __init__(self, config: RecursionConfig, rotary: RotaryEmbedding | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_block(config, rotary) for _ in range(config.layers))

    def forward(
        self,
        state: Float[Tensor, "batch seq dim"],
        injected: Float[Tensor, "batch seq dim"],
        positions: Int[Tensor, "seq"],
    ) -> Float[Tensor, "batch seq dim"]:
        """The state's next value."""
        x = state + injected
        for block in self.blocks:
            x = block(x, positions)
        return x


def _block(config: RecursionConfig, rotary: RotaryEmbedding | None) -> Block:
    norm = RMSNorm(config.dim, config.eps, gain=False)
    mixer: nn.Module = Attention(config.dim, config.num_heads, causal=False, rotary=rotary)
    mixer_norm: nn.Module = norm
    if config.mixer == "mlp":  # the norm after it goes over the positions too, as in TRM
        mixer = AcrossPositions(SwiGLU(config.length, config.mixer_hidden))
        mixer_norm = AcrossPositions(RMSNorm(config.length, config.eps, gain=False))
    return Block(mixer, SwiGLU(config.dim, config.hidden), mixer_norm, norm, norm_first=False)


def draw_lecun_(weight: Tensor, inputs: int) -> Tensor:
    """Fill with a normal cut off at two sigma, of variance 1 / inputs: a layer then keeps the variance of what it reads."""
    sigma = inputs**-0.5 / 0.8796256610342398  # what the cut leaves of a normal's sigma
    with torch.no_grad():
        return nn.init.trunc_normal_(weight, std=sigma, a=-2 * sigma, b=2 * sigma)
