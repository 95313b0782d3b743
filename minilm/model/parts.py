"""The three parts of a language model, and how a config becomes layers."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minilm.attention import KVCache
from minilm.block import activation
from minilm.config import AttentionConfig, ModelConfig
from minilm.embeddings import LearnedPositions, RelativePositions, RotaryEmbedding, SinusoidalPositions, TokenEmbedding

PartClass = Callable[..., nn.Module]

# Where a config's name for a part leads. Looked up when used: a lesson's module never imports a later one by itself.
ATTENTION = {
    "standard": "minilm.attention:Attention",
    "dynamic-mask": "minilm.dynamic_mask:DynamicMaskAttention",
    "dlib-fused": "minilm.exhibits:FusedAttention",
}
FEED_FORWARD = {
    "gated": "minilm.block:SwiGLU",
    "plain": "minilm.block:FeedForward",
    "dlib-fused": "minilm.exhibits:FusedFeedForward",
}
MIXTURE = {
    "token": "minilm.moe:MixtureOfExperts",
    "sample": "minilm.moe:MixtureOfExperts",
    "expert-choice": "minilm.moe:MixtureOfExperts",
    "product-key": "minilm.moe.product_key:CDMoE",
}
NORM = {
    "rms": "minilm.block:RMSNorm",
    "layer": "minilm.block:LayerNorm",
    "whole-sample": "minilm.exhibits:WholeSampleNorm",
}


class Embedder(nn.Module):
    """Ids to the stream's first vectors: the token's row, plus its position's where positions are absolute."""

    def __init__(self, vocab_size: int, dim: int, positions: nn.Module | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.tokens = TokenEmbedding(vocab_size, dim)
        self.positions = positions
        self.dropout = dropout

    def forward(
        self, ids: Int[Tensor, "batch seq"], positions: Int[Tensor, "seq"] | Int[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch seq dim"]:
        """The stream before the first block."""
        x: Tensor = self.tokens(ids)
        if self.positions is not None:
            x = x + self.positions(positions).to(x.dtype)
        return F.dropout(x, self.dropout) if self.dropout and self.training else x


class Core(nn.Module):
    """The blocks one after the other, and the last norm where blocks normalise first."""

    def __init__(self, layers: Iterable[nn.Module], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(
        self,
        x: Float[Tensor, "batch seq dim"],
        positions: Int[Tensor, "seq"] | Int[Tensor, "batch seq"],
        mask: Bool[Tensor, "#batch 1 #seq keys"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """The stream after the last block."""
        for i, layer in enumerate(self.layers):
            x = layer(x, positions, mask, None if cache is None else cache[i])
        return x if self.norm is None else self.norm(x)


class TokenHead(nn.Linear):
    """Logits at every position: the score of each token of the vocabulary as the next one."""

    def __init__(self, dim: int, vocab_size: int, bias: bool = False) -> None:
        super().__init__(dim, vocab_size, bias=bias)


class FlatHead(nn.Linear):
    """Logits for the one token after a whole window, read from all its positions at once (dlib's `fc`).

    Gives batch 1 vocab, so that `logits[:, -1]` is the next token's with every head.
    """

    def __init__(self, dim: int, vocab_size: int, context_length: int, bias: bool = True) -> None:
        super().__init__(context_length * dim, vocab_size, bias=bias)
        self.context_length = context_length

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch 1 vocab"]:
        """The scores of the next token."""
        return super().forward(flatten_window(x, self.context_length))[:, None]


class SqueezedFlatHead(nn.Module):
    """The same through a bottleneck of dim / 4, with no activation between: a product of two thin matrices (dlib)."""

    def __init__(self, dim: int, vocab_size: int, context_length: int, bias: bool = True) -> None:
        super().__init__()
        self.context_length = context_length
        self.squeeze = nn.Linear(context_length * dim, dim // 4, bias=bias)
        self.output = nn.Linear(dim // 4, vocab_size, bias=bias)

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch 1 vocab"]:
        """The scores of the next token."""
        logits: Tensor = self.output(self.squeeze(flatten_window(x, self.context_length)))
        return logits[:, None]


def flatten_window(x: Float[Tensor, "batch seq dim"], context_length: int) -> Float[Tensor, "batch seq*dim"]:
    """One long vector for each window, refused unless it is exactly full."""
    if x.shape[1] != context_length:
        raise ValueError(
            f"a flat head reads windows of exactly {context_length} tokens and got {x.shape[1]}: pad on the left, or cut"
        )
    return x.flatten(1)


# ------------------------------------------------------------------------------------------------- from config to layers


def known_part(table: Mapping[str, str], kind: str) -> PartClass:
    """The class behind a config's name for a part."""
    module, _, name = table[kind].partition(":")
    found: PartClass = getattr(importlib.import_module(module), name)
    return found


def make_part(part: PartClass, *arguments: Any, **options: Any) -> nn.Module:
    """Make a part from positional arguments and the options that the config asks for.

    TypeError names an option that the class does not take: so a class needs to know only what its config uses.
    """
    accepted = inspect.signature(part).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in accepted.values())
    unknown = [name for name in options if name not in accepted and not takes_any]
    if unknown:
        raise TypeError(
            f"{part_name(part)} takes no {', '.join(map(repr, unknown))}, which the config asks for "
            f"({', '.join(f'{name}={options[name]!r}' for name in unknown)}): add it to the constructor, "
            "or leave it at its default in the config"
        )
    return part(*arguments, **options)


def part_name(part: PartClass) -> str:
    """A part's class by name, also where it is wrapped in functools.partial."""
    return getattr(part, "__name__", None) or part_name(part.func)  # type: ignore[attr-defined]


def changed_options(config: Any, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Those options of a config that differ from what the part's class does by itself."""
    return {name: getattr(config, name) for name, value in defaults.items() if getattr(config, name) != value}


def build_embedder(config: ModelConfig, part: PartClass | None) -> nn.Module:
    """The embedder with absolute positions where the config asks for them."""
    kind = config.positions.kind
    positions: nn.Module | None = None
    if kind == "learned":
        positions = LearnedPositions(config.context_length, config.dim)
    elif kind == "sinusoidal":
        positions = SinusoidalPositions(config.dim, config.positions.base)
    elif kind == "sinusoidal-dlib":
        exhibit = known_part({kind: "minilm.exhibits:DlibSinusoidalPositions"}, kind)
        positions = exhibit(config.dim, config.positions.base)
    options = {} if positions is None else {"positions": positions}
    return make_part(
        part or Embedder, config.vocab_size, config.dim, **options, **changed_options(config.block, {"dropout": 0.0})
    )


def build_attention(config: ModelConfig, part: PartClass | None, rotary: RotaryEmbedding | None) -> nn.Module:
    """One layer's attention. Its options: `rotary`, `relative` or `alibi` by the positions, and what the config changes."""
    part = part or known_part(ATTENTION, config.attention.kind)
    skip = {"num_heads", "num_kv_heads", "kind", "dynamic_mask"}
    defaults = {f.name: f.default for f in dataclasses.fields(AttentionConfig) if f.name not in skip}
    options = changed_options(config.attention, defaults)
    if config.attention.dynamic_mask is not None:
        options |= config.attention.dynamic_mask.to_dict()
    if rotary is not None:
        options["rotary"] = rotary
    elif config.positions.kind == "relative":
        options["relative"] = RelativePositions(config.head_dim, config.positions.max_distance)
    elif config.positions.kind == "alibi":
        options["alibi"] = True
    options |= window_option(config, part)
    return make_part(part, config.dim, config.attention.num_heads, config.num_kv_heads, **options)


def build_feed_forward(
    config: ModelConfig, part: PartClass | None, learned: Callable[[Tensor], Tensor] | None
) -> nn.Module:
    """One layer's feed-forward."""
    kind, moe = config.feed_forward.kind, config.feed_forward.moe
    part = part or (known_part(FEED_FORWARD, kind) if moe is None else known_part(MIXTURE, moe.route))
    usual = {"gated": ("silu", False), "plain": ("gelu", True), "dlib-fused": ("gelu", True)}[kind]
    options = changed_options(config.feed_forward, {"activation": usual[0], "bias": usual[1]})
    if learned is not None:
        options["activation"] = learned
    if moe is not None:
        options["moe"] = moe
    return make_part(part, config.dim, config.feed_forward.hidden, **options, **window_option(config, part))


def build_norm(config: ModelConfig, part: PartClass | None) -> nn.Module:
    """One norm."""
    kind = config.norm.kind
    if kind == "none" and part is None:
        return nn.Identity()
    usual: dict[str, Any] = {"eps": 1e-6, "gain": True}
    if kind == "layer":
        usual = {"eps": 1e-5, "gain": True, "bias": True}
    elif kind == "whole-sample":
        usual = {"eps": 1e-5, "gain": True}
    return make_part(part or known_part(NORM, kind), config.dim, **changed_options(config.norm, usual))


def build_core(config: ModelConfig, parts: Mapping[str, PartClass | None]) -> Core:
    """All blocks, with what they share made once: the rotary tables, a shared feed-forward, a learned activation."""
    rotary = None
    if config.positions.kind == "rotary":
        p = config.positions
        rotary = RotaryEmbedding(config.rotary_dim, p.base, p.interleaved, p.scaling)
    learned = activation("learned") if config.feed_forward.activation == "learned" else None
    shared = build_feed_forward(config, parts["feed_forward"], learned) if config.feed_forward.shared else None
    options: dict[str, Any] = changed_options(config.block, {"norm_first": True, "dropout": 0.0})
    if config.block.residual_scale:
        options["residual_scale"] = config.dim
    layers = [
        make_part(
            parts["block"] or known_part({"block": "minilm.block:Block"}, "block"),
            build_attention(config, parts["attention"], rotary),
            shared or build_feed_forward(config, parts["feed_forward"], learned),
            build_norm(config, parts["norm"]),
            build_norm(config, parts["norm"]),
            **options,
        )
        for _ in range(config.num_layers)
    ]
    return Core(layers, build_norm(config, parts["norm"]) if config.block.norm_first else None)


def build_head(config: ModelConfig, part: PartClass | None) -> nn.Module:
    """The head; `LanguageModel` ties it."""
    if part is None:
        part = {"per_token": TokenHead, "flat": FlatHead, "flat_squeeze": SqueezedFlatHead}[config.head.kind]
    options = changed_options(config.head, {"bias": config.head.kind != "per_token"})
    return make_part(part, config.dim, config.vocab_size, **options, **window_option(config, part))


def window_option(config: ModelConfig, part: PartClass) -> dict[str, int]:
    """`context_length` for a part that names it: those that read a whole window at once."""
    return {"context_length": config.context_length} if "context_length" in inspect.signature(part).parameters else {}
