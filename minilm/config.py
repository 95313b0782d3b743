"""What a model is made of, in one object: `ModelConfig`, with one small frozen dataclass for each part.

A config is validated when it is made, survives JSON, and refuses a key it does not know with the nearest name it does know.
It holds numbers and names only; `minilm.model` is the one place that turns it into layers.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

PositionKind = Literal["rotary", "learned", "sinusoidal", "sinusoidal-dlib", "relative", "alibi", "none"]
ScalingKind = Literal["linear", "dynamic", "yarn", "llama3"]
AttentionKind = Literal["standard", "dynamic-mask", "dlib-fused"]
MaskOwner = Literal["head", "kv-head"]
FeedForwardKind = Literal["plain", "gated", "dlib-fused"]
NormKind = Literal["rms", "layer", "whole-sample", "none"]
HeadKind = Literal["per_token", "flat", "flat_squeeze"]
ActivationKind = Literal["gelu", "gelu-tanh", "relu", "silu", "tanh", "learned", "none"]
InitKind = Literal["normal", "scaled", "lecun", "torch"]
RouteKind = Literal["token", "sample", "expert-choice", "product-key"]
ScoringKind = Literal["softmax", "softmax-chosen", "sigmoid"]
NoiseKind = Literal["plain", "learned"]
OverflowKind = Literal["next", "drop"]
BalanceKind = Literal["none", "switch", "importance", "bias"]


class Config:
    """What every part's config can do: check its own values, become JSON and come back from it.

    A subclass is a frozen dataclass whose annotations are the check: `int`, `float`, `bool`, `str`, a `Literal`, another
    config, or any of them with `| None`. What annotations cannot say goes into `validate`.
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for each in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if not _fits(value, hints[each.name]):
                raise ValueError(
                    f"{type(self).__name__}.{each.name} = {value!r}: expected {_describe(hints[each.name])}"
                )
        self.validate()

    def validate(self) -> None:
        """Raise ValueError where the values do not go together."""

    def to_dict(self) -> dict[str, Any]:
        """This config as nested dictionaries of plain values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The config that `to_dict` described. ValueError names a key that does not exist and the nearest that does."""
        hints = get_type_hints(cls)
        refuse_unknown(data, hints, cls.__name__)
        return cls(**{key: _revive(value, hints[key]) for key, value in data.items()})

    def to_json(self) -> str:
        """This config as indented JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The config that `to_json` wrote."""
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError(f"expected a JSON object for {cls.__name__}, got {type(data).__name__}")
        return cls.from_dict(data)

    def replace(self, **changes: Any) -> Self:
        """A copy with some values changed. For a part, a dictionary changes only the values it names.

        >>> config.replace(num_layers=2, head={"tied": False})  # doctest: +SKIP
        """
        hints = get_type_hints(type(self))
        refuse_unknown(changes, hints, type(self).__name__)
        merged = {}
        for key, value in changes.items():
            current = getattr(self, key)
            if isinstance(current, Config) and isinstance(value, Mapping):
                merged[key] = current.replace(**value)
            else:
                merged[key] = _revive(value, hints[key])
        return dataclasses.replace(self, **merged)  # type: ignore[type-var]


def refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Any], owner: str) -> None:
    """Raise ValueError if a given key is not known, naming the nearest known one."""
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
            advice = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(map(repr, known))}."
            raise ValueError(f"{owner} has no {key!r}: {advice}")


def _options(hint: Any) -> tuple[Any, ...]:
    """The alternatives of `X | None`, or the one type."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    for option in _options(hint):
        if get_origin(option) is Literal:
            if isinstance(value, str) and value in get_args(option):
                return True
        elif option is float:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return True
        elif option is int:
            if isinstance(value, int) and not isinstance(value, bool):
                return True
        elif isinstance(value, option):
            return True
    return False


def _describe(hint: Any) -> str:
    names = []
    for option in _options(hint):
        if get_origin(option) is Literal:
            names += [repr(choice) for choice in get_args(option)]
        else:
            names.append("None" if option is type(None) else option.__name__)
    return "one of " + ", ".join(names) if len(names) > 1 else names[0]


def _revive(value: Any, hint: Any) -> Any:
    """A nested config from its dictionary; everything else as it is."""
    if isinstance(value, Mapping):
        for option in _options(hint):
            if isinstance(option, type) and issubclass(option, Config):
                return option.from_dict(value)
    return value


def _require_positive(config: Config, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value <= 0:
            raise ValueError(f"{type(config).__name__}.{name} = {value}: it must be above 0")


def _require_probability(config: Config, name: str) -> None:
    value = getattr(config, name)
    if not 0 <= value < 1:
        raise ValueError(f"{type(config).__name__}.{name} = {value}: a dropout rate is at least 0 and below 1")


@dataclass(frozen=True)
class RotaryScaling(Config):
    """How rotary angles change for contexts longer than the `original_length` that the model was trained on."""

    kind: ScalingKind
    factor: float  # how many times longer the new context is
    original_length: int
    low_frequency_factor: float = 1.0  # llama3: wavelengths above original_length / this are stretched in full
    high_frequency_factor: float = 4.0  # llama3: wavelengths below original_length / this are left alone
    beta_fast: float = 32.0  # yarn: channels that turn more often than this within original_length are left alone
    beta_slow: float = 1.0  # yarn: channels that turn less often than this are stretched in full
    attention_factor: float | None = None  # yarn: scale of cos and sin; None: 0.1 ln(factor) + 1, as in the paper

    def validate(self) -> None:
        """Refuse factors that shrink."""
        _require_positive(self, "original_length", "beta_fast", "beta_slow", "attention_factor")
        if self.factor < 1:
            raise ValueError(f"RotaryScaling.factor = {self.factor}: it must be at least 1 (new length / old length)")
        if self.high_frequency_factor <= self.low_frequency_factor:
            raise ValueError(
                f"RotaryScaling.high_frequency_factor = {self.high_frequency_factor} must be above "
                f"low_frequency_factor = {self.low_frequency_factor}"
            )


@dataclass(frozen=True)
class PositionConfig(Config):
    """How the model knows where a token stands."""

    kind: PositionKind = "rotary"
    base: float = 10_000.0  # rotary and sinusoidal: the longest wavelength is about 2 pi times this
    interleaved: bool = (
        True  # rotary: channels paired (0, 1), (2, 3) ...; False: (i, i + dim/2), as transformers' Llama
    )
    partial: float = 1.0  # rotary: the share of a head's channels that turn
    scaling: RotaryScaling | None = None
    max_distance: int = 16  # relative: farther than this counts as this far

    def validate(self) -> None:
        """Check ranges."""
        _require_positive(self, "max_distance")
        if self.base <= 1:
            raise ValueError(f"PositionConfig.base = {self.base}: it must be above 1 (usually 10,000)")
        if not 0 < self.partial <= 1:
            raise ValueError(f"PositionConfig.partial = {self.partial}: the share of rotated channels is in (0, 1]")
        if self.scaling is not None and self.kind != "rotary":
            raise ValueError(
                f"PositionConfig.scaling is for rotary positions, and kind is {self.kind!r}: leave it None"
            )


@dataclass(frozen=True)
class DynamicMaskConfig(Config):
    """Attention that learns which keys to keep (lesson 10): a bias for each key, computed from its value."""

    keep_window: int = 2048  # a query keeps this many of the keys it may see, those of the largest bias; Doge: 2048
    per: MaskOwner = "head"  # who has a bias of its own: each head (SmallDoge), or each key-value head (transformers)

    def validate(self) -> None:
        """Check the window."""
        _require_positive(self, "keep_window")


@dataclass(frozen=True)
class AttentionConfig(Config):
    """The heads, and which positions they may look at."""

    num_heads: int
    num_kv_heads: int | None = None  # None: as many as num_heads; 1: multi-query; between: grouped-query
    head_dim: int | None = None  # None: dim / num_heads
    kind: AttentionKind = "standard"
    bias: bool = False  # of the query, key and value projections
    output_bias: bool = False
    causal: bool = True
    window: int | None = None  # a position sees itself and the window - 1 before it
    sinks: int = 0  # with a window: the first positions that everyone goes on seeing
    prefix: int = 0  # the first positions that everyone sees, later ones included in both directions
    qk_norm: bool = False  # RMS-normalise each head's queries and keys before they turn
    qk_norm_eps: float = 1e-6
    dropout: float = 0.0  # of the attention weights
    dynamic_mask: DynamicMaskConfig | None = None  # of the kind "dynamic-mask"

    def validate(self) -> None:
        """Check the heads and the visibility pattern."""
        _require_positive(self, "num_heads", "num_kv_heads", "head_dim", "window", "qk_norm_eps")
        _require_probability(self, "dropout")
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_kv_heads = {self.num_kv_heads} does not divide num_heads = {self.num_heads}: "
                f"each key-value head serves an equal group; choose one of {divisors(self.num_heads)}"
            )
        if self.sinks < 0 or self.prefix < 0:
            raise ValueError(f"AttentionConfig.sinks = {self.sinks}, prefix = {self.prefix}: neither may be negative")
        if self.sinks and self.window is None:
            raise ValueError(f"AttentionConfig.sinks = {self.sinks} means something only with a window: set window")
        if not self.causal and (self.window or self.prefix):
            raise ValueError("AttentionConfig: window and prefix are for causal attention; set causal=True")
        if self.window and self.prefix:
            raise ValueError("AttentionConfig: window and prefix contradict each other; set one of them")
        if (self.dynamic_mask is None) == (self.kind == "dynamic-mask"):
            raise ValueError(
                f"AttentionConfig: kind = {self.kind!r} and dynamic_mask = {self.dynamic_mask} contradict each other; set both "
                'kind="dynamic-mask" and dynamic_mask=DynamicMaskConfig(keep_window=...), or neither'
            )
        if self.dynamic_mask is not None and (self.prefix or not self.causal):
            raise ValueError(
                f"AttentionConfig: a dynamic mask is for causal attention; leave prefix = {self.prefix} at 0 and "
                f"causal = {self.causal} at True"
            )


@dataclass(frozen=True)
class MoEConfig(Config):
    """Many feed-forwards in the place of one, of which each token passes through a few: the experts, and who chooses them."""

    num_experts: int
    top_k: int | None = None  # experts a token; None: a fifth of them, at least one (dlib)
    # token: each token its best experts; sample: one choice for a whole window (dlib); expert-choice: each expert its best
    # tokens, top_k a token on average; product-key: experts of one neuron each, found through two short lists of keys (CDMoE)
    route: RouteKind = "token"
    # softmax: over all experts, then choose; softmax-chosen: choose, then softmax over the chosen; sigmoid: each by itself
    scoring: ScoringKind = "softmax"
    normalize: bool = False  # the chosen experts' weights are made to sum to 1; of one expert, nothing is left to learn
    noise: float = 0.0  # on the logits while training; plain: its deviation; learned: a factor on a learned one
    noise_kind: NoiseKind = "plain"
    capacity_factor: float | None = None  # an expert serves at most this many times its even share; None: all who come
    overflow: OverflowKind = "next"  # whom a full expert refuses goes to the next best, or goes without
    shared_hidden: int | None = None  # the width of one more expert, which every token passes through
    # switch, importance: a loss; bias: the choice goes by score plus a bias that evens the load out (DeepSeek-V3)
    balance: BalanceKind = "none"
    balance_weight: float = 0.01  # of the balance loss
    balance_rate: float = 0.001  # how far a bias moves at each step
    z_loss: float = 0.0  # weight of the mean squared logsumexp of the logits
    usage_decay: float = 0.95  # of the running average of each expert's share
    gate_hidden: int = 32  # sample: width of the router's hidden layer
    gate_dropout: float = 0.0  # sample: behind it
    gate_reads_stream: bool = False  # the router reads the residual stream before the norm (dlib)

    def validate(self) -> None:
        """Check the numbers, and that the parts of a router go together."""
        _require_positive(
            self, "num_experts", "top_k", "capacity_factor", "shared_hidden", "balance_rate", "gate_hidden"
        )
        for name in ("noise", "balance_weight", "z_loss"):
            if getattr(self, name) < 0:
                raise ValueError(f"MoEConfig.{name} = {getattr(self, name)}: it must be at least 0")
        if self.top_k is not None and self.top_k > self.num_experts:
            raise ValueError(
                f"MoEConfig.top_k = {self.top_k}, and there are {self.num_experts} experts: choose 1 to {self.num_experts}"
            )
        _require_probability(self, "gate_dropout")
        if not 0 <= self.usage_decay < 1:
            raise ValueError(
                f"MoEConfig.usage_decay = {self.usage_decay}: the share of the past that is kept, at least 0 and below 1"
            )
        if self.noise_kind == "learned" and (self.route not in ("token", "expert-choice") or not self.noise):
            raise ValueError(
                f"MoEConfig.noise_kind = 'learned' with route = {self.route!r}, noise = {self.noise}: a deviation is learned "
                "for each token, so route must be 'token' or 'expert-choice', and noise, its factor, above 0 (Shazeer: 1.0)"
            )
        if self.route == "expert-choice":
            self._validate_expert_choice()
        if self.route == "product-key":
            self._validate_product_key()
        if self.balance == "bias" and self.scoring == "softmax-chosen":
            raise ValueError(
                "MoEConfig.balance = 'bias' moves scores, and scoring = 'softmax-chosen' has none before it chooses: "
                "use scoring='softmax' with normalize=True, which gives the same weights, or 'sigmoid'"
            )

    def _validate_expert_choice(self) -> None:
        """Experts that choose have the same load by construction, and there is nothing that could run over."""
        idle = {
            "balance": self.balance != "none",
            "capacity_factor": self.capacity_factor is not None,
            "normalize": self.normalize,
            "scoring": self.scoring != "softmax",
        }
        given = [name for name, is_set in idle.items() if is_set]
        if given:
            raise ValueError(
                f"MoEConfig: {' and '.join(given)} cannot be set with route = 'expert-choice', where each expert takes its "
                "top_k / num_experts of all tokens, each with its softmax weight: leave the default"
            )

    def _validate_product_key(self) -> None:
        """A square of experts, found through keys: what needs a score for each expert by itself is not to be had."""
        root = math.isqrt(self.num_experts)
        if root**2 != self.num_experts:
            raise ValueError(
                f"MoEConfig.num_experts = {self.num_experts}: product keys find experts in a square, so their number is one; "
                f"choose {root**2} or {(root + 1) ** 2}"
            )
        idle = {
            "noise": self.noise != 0,
            "capacity_factor": self.capacity_factor is not None,
            "shared_hidden": self.shared_hidden is not None,
            "balance='bias'": self.balance == "bias",
            "scoring='sigmoid'": self.scoring == "sigmoid",
            "gate_reads_stream": self.gate_reads_stream,
        }
        given = [name for name, is_set in idle.items() if is_set]
        if given:
            raise ValueError(
                f"MoEConfig: {' and '.join(given)} cannot be set with route = 'product-key', whose scores are sums over two keys "
                "(FeedForwardConfig.hidden is the width of its shared expert): leave the default"
            )

    @property
    def chosen(self) -> int:
        """Experts a token passes through, also where the config leaves that to a fifth of them."""
        return self.top_k or max(1, self.num_experts // 5)


@dataclass(frozen=True)
class FeedForwardConfig(Config):
    """The part of a block that works on each position alone."""

    hidden: int
    kind: FeedForwardKind = "gated"  # gated: down(activation(gate x) * up x); plain: down(activation(up x))
    activation: ActivationKind = "silu"
    bias: bool = False
    shared: bool = False  # one feed-forward for all layers (Super Tiny Language Models)
    # many of them in the place of one: then `hidden` is the width of one expert (product-key: of the shared one)
    moe: MoEConfig | None = None

    def validate(self) -> None:
        """Check the width, and what experts can be."""
        _require_positive(self, "hidden")
        if self.moe is not None and self.kind != "gated":
            raise ValueError(f"FeedForwardConfig.kind = {self.kind!r}: experts are gated, set kind='gated' or moe=None")
        if self.moe is not None and self.shared:
            raise ValueError(
                "FeedForwardConfig.shared = True with moe: the balance of one bank of experts cannot be told by layer; "
                "set shared=False, and moe.shared_hidden for an expert that every token passes through"
            )


@dataclass(frozen=True)
class NormConfig(Config):
    """What keeps the residual stream's scale in hand."""

    kind: NormKind = "rms"
    eps: float = 1e-6
    gain: bool = True
    bias: bool = False  # of a LayerNorm

    def validate(self) -> None:
        """Check eps and bias."""
        _require_positive(self, "eps")
        if self.bias and self.kind != "layer":
            raise ValueError(f"NormConfig.bias belongs to a 'layer' norm, and kind is {self.kind!r}: set bias=False")


@dataclass(frozen=True)
class BlockConfig(Config):
    """How attention and feed-forward are put on the residual stream."""

    norm_first: bool = True  # pre-norm, x + f(norm(x)); False: post-norm, norm(x + f(x))
    residual_scale: bool = False  # a learned factor for each channel of the stream, r * x + f(norm(x)) (Doge)
    dropout: float = 0.0  # of the embeddings and of what each sub-layer adds

    def validate(self) -> None:
        """Check the rate."""
        _require_probability(self, "dropout")


@dataclass(frozen=True)
class HeadConfig(Config):
    """From the last layer to logits: for every position, or for the token after a whole window (dlib)."""

    kind: HeadKind = "per_token"
    tied: bool = True  # the output matrix is the embedding table
    bias: bool = False

    def validate(self) -> None:
        """Refuse to tie what has another shape."""
        if self.tied and self.kind != "per_token":
            raise ValueError(f"a {self.kind!r} head reads a whole window and cannot be tied: set head.tied=False")


@dataclass(frozen=True)
class InitConfig(Config):
    """Where the weights start."""

    # normal: every matrix N(0, std); scaled: the same, but what writes to the stream N(0, std / sqrt(2 layers)) (GPT-2);
    # lecun: truncated normal with std 1 / sqrt(inputs); torch: whatever PyTorch's layers do
    kind: InitKind = "scaled"
    std: float = 0.02

    def validate(self) -> None:
        """Check std."""
        _require_positive(self, "std")


@dataclass(frozen=True)
class ModelConfig(Config):
    """Everything that `LanguageModel` is built from."""

    vocab_size: int
    dim: int  # width of the residual stream
    num_layers: int
    context_length: int  # tokens it is trained on; learned positions and flat heads end here, others may go on
    attention: AttentionConfig
    feed_forward: FeedForwardConfig
    positions: PositionConfig = field(default_factory=PositionConfig)
    norm: NormConfig = field(default_factory=NormConfig)
    block: BlockConfig = field(default_factory=BlockConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    initialization: InitConfig = field(default_factory=InitConfig)

    def validate(self) -> None:
        """Check that the parts fit one another."""
        _require_positive(self, "vocab_size", "dim", "num_layers", "context_length")
        heads = self.attention.num_heads
        if self.attention.head_dim is None and self.dim % heads:
            raise ValueError(
                f"dim = {self.dim} is not divisible by num_heads = {heads}: choose one of {divisors(self.dim)} heads, "
                f"dim = {self.dim - self.dim % heads or heads}, or set attention.head_dim"
            )
        if self.positions.kind == "rotary" and self.rotary_dim % 2:
            raise ValueError(
                f"rotary positions turn pairs of channels, and {self.rotary_dim} of {self.head_dim} channels a head is "
                "an odd number: change num_heads, attention.head_dim or positions.partial"
            )
        if self.attention.prefix > self.context_length:
            raise ValueError(
                f"attention.prefix = {self.attention.prefix} exceeds context_length = {self.context_length}"
            )

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.attention.head_dim or self.dim // self.attention.num_heads

    @property
    def num_kv_heads(self) -> int:
        """Key-value heads, also where the config leaves them to num_heads."""
        return self.attention.num_kv_heads or self.attention.num_heads

    @property
    def rotary_dim(self) -> int:
        """Channels of a head that turn."""
        return int(self.head_dim * self.positions.partial)


def divisors(n: int) -> list[int]:
    """The divisors of n, for error messages that offer a choice."""
    return [d for d in range(1, n + 1) if n % d == 0]
