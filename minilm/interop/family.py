"""What a family of transformers' models is to a translator, and what several families share."""

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from minilm.config import ActivationKind, ModelConfig, PositionConfig, RotaryScaling
from minilm.embeddings import interleaved_to_half

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Family:
    """Models of one shape: how their configs and weights become ours, and ours theirs."""

    title: str  # as refusals call it
    model_types: tuple[str, ...]  # as transformers calls them
    config_from: Callable[[Any], ModelConfig]
    config_to: Callable[[ModelConfig], Any]  # of a config without obstacles
    obstacles: Callable[
        [ModelConfig], dict[str, bool]
    ]  # what stands against a config of ours: said how, and whether it does
    weights_from: Callable[[Weights, ModelConfig], Weights]
    weights_to: Callable[[Weights, ModelConfig], Weights]

    def refuse(self, config: ModelConfig) -> None:
        """Raise ValueError with everything that this family cannot express."""
        found = [what for what, stands in self.obstacles(config).items() if stands]
        if found:
            raise ValueError(f"transformers' {self.title} cannot express this model: {'; '.join(found)}")


def transformers_library() -> Any:
    """transformers, or ImportError with the way to have it."""
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise ImportError("this needs Hugging Face's transformers: pip install 'minilm[hf]'") from None


# ---------------------------------------------------------------------------------------------------------------- weights


def renamed(tensors: Weights, names: dict[str, str], direction: int) -> Weights:
    """The tensors by the other side's names: ours to theirs with direction 1, theirs to ours with -1.

    The table has a line for each owner of tensors, or for a tensor itself; {} is the layer.
    """
    table = names if direction == 1 else {theirs: ours for ours, theirs in names.items()}
    result = {}
    for name, tensor in tensors.items():
        layer = re.search(r"\.(\d+)\.", name)
        pattern = re.sub(r"\.\d+\.", ".{}.", name, count=1)
        owner, _, leaf = pattern.rpartition(".")
        if pattern in table:
            new = table[pattern]
        elif owner in table:
            new = f"{table[owner]}.{leaf}"
        else:
            raise ValueError(f"no counterpart for the weight {name!r}")
        result[new.format(layer[1] if layer else "")] = tensor
    return result


def half_split(tensors: Weights, config: ModelConfig) -> Weights:
    """Queries and keys with each head's channels in the order that transformers rotates them in: (i, i + dim/2) are a pair."""
    if not config.positions.interleaved:
        return tensors
    order = interleaved_to_half(config.head_dim)

    def permuted(rows: Float[Tensor, "heads*head_dim ..."]) -> Float[Tensor, "heads*head_dim ..."]:
        by_head = rows.view(-1, config.head_dim, *rows.shape[1:])
        return by_head[:, order.to(rows.device)].reshape(rows.shape)

    turned = ("attention.q_proj", "attention.k_proj", "attention.q_norm", "attention.k_norm")
    return {name: permuted(t) if name.rpartition(".")[0].endswith(turned) else t for name, t in tensors.items()}


# ---------------------------------------------------------------------------------------------------------------- configs

ACTIVATIONS: dict[str, ActivationKind] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "relu": "relu",
    "tanh": "tanh",
}


def activation_from(name: str) -> ActivationKind:
    """Our name for their activation."""
    if name not in ACTIVATIONS:
        raise ValueError(f"no counterpart for the activation {name!r}: {', '.join(ACTIVATIONS)} have one")
    return ACTIVATIONS[name]


def activation_to(config: ModelConfig, gelu_tanh: str = "gelu_pytorch_tanh") -> str:
    """Their name for our activation."""
    kind = config.feed_forward.activation
    return gelu_tanh if kind == "gelu-tanh" else kind


def positions_from(hf: Any) -> PositionConfig:
    """Rotary positions from a config's `rope_parameters`."""
    given = dict(hf.rope_parameters)
    kind = given.pop("rope_type", "default")
    base = float(given.pop("rope_theta"))
    if given.pop("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError("transformers' Llama turns whole heads, and this config asks for a part")
    if kind == "default":
        return PositionConfig("rotary", base, interleaved=False)
    if kind not in ("linear", "dynamic", "yarn", "llama3"):
        raise ValueError(f"no counterpart for rope_type {kind!r}: default, linear, dynamic, yarn and llama3 have one")
    original = given.pop("original_max_position_embeddings", None)
    if kind in ("linear", "dynamic"):  # transformers measures these against max_position_embeddings
        original = hf.max_position_embeddings
    names = {
        "factor": "factor",
        "low_freq_factor": "low_frequency_factor",
        "high_freq_factor": "high_frequency_factor",
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "attention_factor": "attention_factor",
    }
    set_ = {name: value for name, value in given.items() if value is not None and not (name == "truncate" and value)}
    unknown = [name for name in set_ if name not in names]
    if unknown:
        raise ValueError(f"no counterpart for rope parameters {', '.join(map(repr, unknown))}")
    options = {names[name]: float(value) for name, value in set_.items()}
    scaling = RotaryScaling(kind, original_length=original, **options)
    return PositionConfig("rotary", base, interleaved=False, scaling=scaling)


def positions_to(positions: PositionConfig) -> dict[str, Any]:
    """The `rope_parameters` for our rotary positions."""
    scaling = positions.scaling
    if scaling is None:
        return {"rope_type": "default", "rope_theta": positions.base}
    result: dict[str, Any] = {"rope_type": scaling.kind, "rope_theta": positions.base, "factor": scaling.factor}
    if scaling.kind in ("yarn", "llama3"):
        result["original_max_position_embeddings"] = scaling.original_length
    if scaling.kind == "llama3":
        result |= {"low_freq_factor": scaling.low_frequency_factor, "high_freq_factor": scaling.high_frequency_factor}
    if scaling.kind == "yarn":
        result |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
        if scaling.attention_factor is not None:
            result["attention_factor"] = scaling.attention_factor
    return result


def against_all(config: ModelConfig) -> dict[str, bool]:
    """What no family here can express."""
    attention = config.attention
    return {
        f"a {config.head.kind!r} head": config.head.kind != "per_token",
        "a bias in the head": config.head.bias,
        "post-norm": not config.block.norm_first,
        "norms without gain": not config.norm.gain,
        "a shared feed-forward": config.feed_forward.shared,
        "a learned activation": config.feed_forward.activation in ("learned", "none"),
        "attention with causal=False": not attention.causal,
        "a prefix": attention.prefix > 0,
        "attention sinks": attention.sinks > 0,
    }


def against_plain_blocks(config: ModelConfig) -> dict[str, bool]:
    """What only Doge's blocks can express."""
    return {
        "residual scales": config.block.residual_scale,
        f"{config.attention.kind!r} attention": config.attention.kind != "standard",
    }


def against_rotary(config: ModelConfig) -> dict[str, bool]:
    """What the families after GPT-2 cannot express."""
    attention, positions = config.attention, config.positions
    scaling = positions.scaling
    measured = scaling is not None and scaling.kind == "dynamic" and scaling.original_length != config.context_length
    return against_all(config) | {
        f"{positions.kind!r} positions instead of rotary ones": positions.kind != "rotary",
        "a rotary dimension that is part of the head's": positions.partial != 1.0,
        "dynamic scaling measured against another length than context_length": measured,
        f"{config.norm.kind!r} norms instead of RMSNorm": config.norm.kind != "rms",
        f"a {config.feed_forward.kind!r} feed-forward instead of a gated one": config.feed_forward.kind != "gated",
        "biases of q, k, v without one of o, or the reverse": attention.bias != attention.output_bias,
    }


def against_their_qk_norm(config: ModelConfig) -> dict[str, bool]:
    """What the families with QK-norm ask of it: to be there, with the eps of the other norms."""
    attention = config.attention
    return {
        "attention without QK-norm": not attention.qk_norm,
        "QK-norm with another eps than the other norms'": attention.qk_norm
        and attention.qk_norm_eps != config.norm.eps,
    }


def rotary_common(config: ModelConfig) -> dict[str, Any]:
    """The options that configs of all families with rotary positions have by the same names."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.attention.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": activation_to(config),
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm.eps,
        "attention_dropout": config.attention.dropout,
        "initializer_range": config.initialization.std,
        "tie_word_embeddings": config.head.tied,
        "rope_parameters": positions_to(config.positions),
        "bos_token_id": None,
        "eos_token_id": None,
    }
