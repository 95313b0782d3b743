"""HRM-Text: the loops of HRM inside a causal language model (the architecture of transformers' `hrm_text`).

Two stacks of pre-norm blocks, without gains in their norms and with a gate on attention's output, are run in turns on the whole text:

    high = embedding * scale, low = 0
    high_cycles times: low_cycles times low <- low_stack(low + high), then high <- high_stack(high + low)

There is no carried state and no halting: one pass of the loops gives the logits, and every call of a stack has keys and values of
its own, so a cache has a slot for each. The tokens of a prompt may be let to see each other in both directions (`prefix`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minilm.attention import Attention, KVCache, LayerCache
from minilm.attention.layer import attend_fast
from minilm.block import Block, RMSNorm, SwiGLU
from minilm.config import ActivationKind, Config
from minilm.embeddings import RotaryEmbedding


@dataclass(frozen=True)
class HrmTextConfig(Config):
    """A looped language model. Its 1B form has dim 1536, 12 heads of 128, hidden 4096 and two stacks of 16 blocks."""

    vocab_size: int
    dim: int
    num_layers: int  # blocks of each stack
    num_heads: int
    hidden: int
    context_length: int = 2048
    head_dim: int | None = None  # None: dim / num_heads
    high_cycles: int = 2
    low_cycles: int = 3
    # How many of a cycle's low steps carry a gradient, for the last cycles; the cycles before them carry one.
    gradient_steps: tuple = (2,)  # type: ignore[type-arg]
    embedding_scale: float = 50.0  # 1 / init_std, so that what goes in has variance 1
    init_std: float = 0.02
    base: float = 10_000.0  # of the rotary positions
    activation: ActivationKind = "silu"
    bias: bool = False  # of attention's projections
    feed_forward_bias: bool = False
    eps: float = 1e-6
    tied: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "gradient_steps", tuple(self.gradient_steps))  # JSON gives a list
        super().__post_init__()

    def validate(self) -> None:
        """Check that the numbers fit one another."""
        for name in ("vocab_size", "dim", "num_layers", "num_heads", "hidden", "high_cycles", "low_cycles"):
            if getattr(self, name) < 1:
                raise ValueError(f"HrmTextConfig.{name} = {getattr(self, name)}: it must be at least 1")
        if self.head_dim is None and self.dim % self.num_heads:
            raise ValueError(f"num_heads = {self.num_heads} does not divide dim = {self.dim}: set head_dim")

    @property
    def slots(self) -> int:
        """Calls of a block in one pass, each with keys and values of its own."""
        return self.high_cycles * (self.low_cycles + 1) * self.num_layers

    def steps_with_gradient(self, cycle: int) -> int:
        """How many of the last low steps of a cycle carry a gradient: the list, with ones put in front of it."""
        padded = (1,) * (self.high_cycles - len(self.gradient_steps)) + self.gradient_steps
        return int(padded[cycle])


class GatedAttention(Attention):
    """Attention whose output passes a gate that each position opens by itself: o_proj(sigmoid(gate_proj x) * attention(x)).

    A position that finds nothing worth fetching can so shut its door, and needs no sink. `mask` is the whole pattern here (None:
    causal).
    """

    def __init__(self, dim: int, num_heads: int, *, head_dim: int, bias: bool, rotary: RotaryEmbedding) -> None:
        super().__init__(dim, num_heads, head_dim=head_dim, bias=bias, output_bias=bias, rotary=rotary)
        self.gate_proj = nn.Linear(dim, num_heads * head_dim, bias=bias)

    def forward(
        self,
        x: Float[Tensor, "batch seq dim"],
        positions: Int[Tensor, "seq"] | Int[Tensor, "batch seq"],
        mask: Bool[Tensor, "#batch #heads #seq keys"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """What each position gathers and lets in."""
        q, k, v = self.project(x, positions)
        if cache is not None:
            k, v, _ = cache.append(k, v)
        out = attend_fast(q, k, v, mask, causal=mask is None and q.shape[2] > 1)
        return self.o_proj(self.gate_proj(x).sigmoid() * out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Stack(nn.Module):
    """Blocks one after the other and a norm: one call of a loop."""

    def __init__(self, config: HrmTextConfig, rotary: RotaryEmbedding) -> None:
        super().__init__()
        head_dim = config.head_dim or config.dim // config.num_heads
        self.layers = nn.ModuleList(
            Block(
                GatedAttention(config.dim, config.num_heads, head_dim=head_dim, bias=config.bias, rotary=rotary),
                SwiGLU(config.dim, config.hidden, activation=config.activation, bias=config.feed_forward_bias),
                RMSNorm(config.dim, config.eps, gain=False),
                RMSNorm(config.dim, config.eps, gain=False),
            )
            for _ in range(config.num_layers)
        )
        self.norm = RMSNorm(config.dim, config.eps, gain=False)

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None, caches: list[LayerCache] | None) -> Tensor:
        """The stream after the blocks."""
        for i, layer in enumerate(self.layers):
            x = layer(x, positions, mask, None if caches is None else caches[i])
        return self.norm(x)  # type: ignore[no-any-return]


class HrmText(nn.Module):
    """The language model: `model(ids) -> logits`, as `LanguageModel`, with `prefix` for prompts that are read both ways."""

    def __init__(self, config: HrmTextConfig) -> None:
        super().__init__()
        self.config = config
        rotary = RotaryEmbedding(config.head_dim or config.dim // config.num_heads, config.base, interleaved=False)
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.low_stack, self.high_stack = Stack(config, rotary), Stack(config, rotary)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=config.init_std)
            if isinstance(part, nn.Linear) and part.bias is not None:
                nn.init.zeros_(part.bias)
        if config.tied:
            self.head.weight = self.embedding.weight

    def forward(
        self,
        ids: Int[Tensor, "batch seq"],
        cache: KVCache | None = None,
        prefix: int | Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "batch seq vocab"]:
        """The logits of the next token after each position.

        `prefix`: how many of the first tokens see each other both ways, for all or for each row. It must be read in one call:
        ValueError where it comes with tokens that go on from a cache.
        """
        if ids.dim() != 2 or ids.shape[1] == 0:
            raise ValueError(f"ids have shape {list(ids.shape)}: the model wants (batch, seq) with at least one token")
        start = 0 if cache is None else cache.length
        if prefix is not None and start:
            raise ValueError("a prefix sees itself both ways, so it is read in one call, into an empty cache")
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)
        mask = self._mask(positions, prefix)
        high = self.embedding(ids) * self.config.embedding_scale
        low = torch.zeros_like(high)
        calls = self._slots_by_call(cache)
        for cycle in range(self.config.high_cycles):
            silent = self.config.low_cycles - self.config.steps_with_gradient(cycle)
            for step in range(self.config.low_cycles):
                with torch.set_grad_enabled(torch.is_grad_enabled() and step >= silent):
                    low = self.low_stack(low + high, positions, mask, next(calls))
            high = self.high_stack(high + low, positions, mask, next(calls))
        return self.head(high)  # type: ignore[no-any-return]

    def _slots_by_call(self, cache: KVCache | None) -> Iterator[list[LayerCache] | None]:
        """For each call of a stack, in order, the slots of its blocks."""
        layers = self.config.num_layers
        for first in range(0, self.config.slots, layers):
            yield None if cache is None else cache.layers[first : first + layers]

    @staticmethod
    def _mask(positions: Tensor, prefix: "int | Tensor | None") -> Tensor | None:
        """Who sees whom; None where it is simply causal, or one new token that sees all before it."""
        start, seq = int(positions[0]), len(positions)
        if prefix is None and (start == 0 or seq == 1):
            return None
        keys = torch.arange(start + seq, device=positions.device)
        seen = (keys[None, :] <= positions[:, None])[None]  # 1 seq keys
        if prefix is not None:
            ends = torch.as_tensor(prefix, device=positions.device).reshape(-1, 1, 1)
            seen = seen | (positions[:, None] < ends) & (keys[None, :] < ends)
        return seen[:, None]

    def new_cache(self, capacity: int | None = None) -> KVCache:
        """An empty cache: a slot for each call of each block, high_cycles * (low_cycles + 1) times those of a plain model."""
        return KVCache([LayerCache(capacity or self.config.context_length) for _ in range(self.config.slots)])

    def num_parameters(self) -> int:
        """How many parameters, each counted once."""
        return sum(parameter.numel() for parameter in self.parameters())
