"""To and from Hugging Face's transformers: GPT-2, Llama and Mistral, with weights and without loss.

`from_transformers` and `to_transformers` translate config and names; `load_transformers` and `save_transformers` do the same with folders,
which `AutoModelForCausalLM` and `AutoTokenizer` open. What the other side cannot express is refused with the reasons.
"""

import importlib
import re
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from minilm.config import (
    ActivationKind,
    AttentionConfig,
    BlockConfig,
    FeedForwardConfig,
    HeadConfig,
    InitConfig,
    ModelConfig,
    NormConfig,
    PositionConfig,
    RotaryScaling,
)
from minilm.embeddings import interleaved_to_half
from minilm.model import LanguageModel

# Our name -> theirs; {} is the layer. Biases go by the same names.
LLAMA_NAMES = {
    "embedder.tokens": "model.embed_tokens",
    "core.layers.{}.attention_norm": "model.layers.{}.input_layernorm",
    "core.layers.{}.attention.q_proj": "model.layers.{}.self_attn.q_proj",
    "core.layers.{}.attention.k_proj": "model.layers.{}.self_attn.k_proj",
    "core.layers.{}.attention.v_proj": "model.layers.{}.self_attn.v_proj",
    "core.layers.{}.attention.o_proj": "model.layers.{}.self_attn.o_proj",
    "core.layers.{}.feed_forward_norm": "model.layers.{}.post_attention_layernorm",
    "core.layers.{}.feed_forward.gate_proj": "model.layers.{}.mlp.gate_proj",
    "core.layers.{}.feed_forward.up_proj": "model.layers.{}.mlp.up_proj",
    "core.layers.{}.feed_forward.down_proj": "model.layers.{}.mlp.down_proj",
    "core.norm": "model.norm",
    "head": "lm_head",
}
GPT2_NAMES = {
    "embedder.tokens": "transformer.wte",
    "embedder.positions": "transformer.wpe",
    "core.layers.{}.attention_norm": "transformer.h.{}.ln_1",
    "core.layers.{}.attention.o_proj": "transformer.h.{}.attn.c_proj",
    "core.layers.{}.feed_forward_norm": "transformer.h.{}.ln_2",
    "core.layers.{}.feed_forward.up_proj": "transformer.h.{}.mlp.c_fc",
    "core.layers.{}.feed_forward.down_proj": "transformer.h.{}.mlp.c_proj",
    "core.norm": "transformer.ln_f",
    "head": "lm_head",
}
GPT2_MATRICES = ("c_attn", "c_proj", "c_fc")  # GPT-2 keeps these as (inputs, outputs), the transpose of a Linear

ACTIVATIONS: dict[str, ActivationKind] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "relu": "relu",
    "tanh": "tanh",
}


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError:
        raise ImportError("this needs Hugging Face's transformers: pip install 'minilm[hf]'") from None


# ------------------------------------------------------------------------------------------------------------ from theirs


def from_transformers(hf_model: Any) -> LanguageModel:
    """A transformers GPT-2, Llama or Mistral language model as ours, with the same logits.

    Weights are copied in their precision. ValueError names the model type or option that has no counterpart.
    """
    config = config_from_transformers(hf_model.config)
    theirs = {name: tensor.detach().clone() for name, tensor in hf_model.state_dict().items()}
    model = LanguageModel.from_config(config, dtype=hf_model.dtype)
    renamed = _from_gpt2(theirs, config) if hf_model.config.model_type == "gpt2" else _renamed(theirs, LLAMA_NAMES, -1)
    if config.head.tied:
        renamed["head.weight"] = renamed["embedder.tokens.weight"]
    model.load_state_dict(renamed)
    return model.train(hf_model.training)


def config_from_transformers(hf: Any) -> ModelConfig:
    """Our config for a transformers config of GPT-2, Llama or Mistral."""
    if hf.model_type == "gpt2":
        return _config_from_gpt2(hf)
    if hf.model_type not in ("llama", "mistral"):
        raise ValueError(f"no counterpart for transformers' {hf.model_type!r}: gpt2, llama and mistral have one")
    bias = bool(getattr(hf, "attention_bias", False))
    return ModelConfig(
        vocab_size=hf.vocab_size,
        dim=hf.hidden_size,
        num_layers=hf.num_hidden_layers,
        context_length=hf.max_position_embeddings,
        attention=AttentionConfig(
            num_heads=hf.num_attention_heads,
            num_kv_heads=hf.num_key_value_heads,
            head_dim=hf.head_dim,
            bias=bias,
            output_bias=bias,
            window=getattr(hf, "sliding_window", None),
            dropout=float(hf.attention_dropout or 0.0),
        ),
        feed_forward=FeedForwardConfig(
            hf.intermediate_size, activation=_activation(hf.hidden_act), bias=bool(getattr(hf, "mlp_bias", False))
        ),
        positions=_positions(hf),
        norm=NormConfig("rms", eps=hf.rms_norm_eps),
        head=HeadConfig(tied=hf.tie_word_embeddings),
        initialization=InitConfig("normal", std=hf.initializer_range),
    )


def _config_from_gpt2(hf: Any) -> ModelConfig:
    if hf.scale_attn_by_inverse_layer_idx or not hf.scale_attn_weights or hf.add_cross_attention:
        raise ValueError("GPT-2 with another attention scale or with cross-attention has no counterpart")
    if hf.resid_pdrop != hf.embd_pdrop:
        raise ValueError(f"resid_pdrop = {hf.resid_pdrop} and embd_pdrop = {hf.embd_pdrop}: ours is one rate for both")
    return ModelConfig(
        vocab_size=hf.vocab_size,
        dim=hf.n_embd,
        num_layers=hf.n_layer,
        context_length=hf.n_positions,
        attention=AttentionConfig(hf.n_head, bias=True, output_bias=True, dropout=float(hf.attn_pdrop)),
        feed_forward=FeedForwardConfig(
            hf.n_inner or 4 * hf.n_embd, kind="plain", activation=_activation(hf.activation_function), bias=True
        ),
        positions=PositionConfig("learned"),
        norm=NormConfig("layer", eps=hf.layer_norm_epsilon, bias=True),
        block=BlockConfig(dropout=float(hf.resid_pdrop)),
        head=HeadConfig(tied=hf.tie_word_embeddings),
        initialization=InitConfig("scaled", std=hf.initializer_range),
    )


def _activation(name: str) -> ActivationKind:
    if name not in ACTIVATIONS:
        raise ValueError(f"no counterpart for the activation {name!r}: {', '.join(ACTIVATIONS)} have one")
    return ACTIVATIONS[name]


def _positions(hf: Any) -> PositionConfig:
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


# -------------------------------------------------------------------------------------------------------------- to theirs


def to_transformers(model: LanguageModel) -> Any:
    """Our model as a transformers one with the same logits: GPT-2 where it is built like that, else Llama or Mistral.

    Interleaved rotary pairs become half-split ones by permuting the rows of the query and key projections. Dropout that only ours
    has is left out. ValueError lists everything that neither family can express.
    """
    if model.own_part_names():
        raise ValueError(f"parts of your own have no counterpart in transformers: {model.own_part_names()}")
    hf = _transformers()
    hf_config = config_to_transformers(model.config)
    ours = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if model.config.head.tied:
        del ours["head.weight"]
    if hf_config.model_type == "gpt2":
        renamed = _to_gpt2(ours, model.config)
    else:
        renamed = _renamed(_half_split(ours, model.config), LLAMA_NAMES, 1)
    theirs = hf.AutoModelForCausalLM.from_config(hf_config, dtype=next(model.parameters()).dtype)
    missing, unexpected = theirs.load_state_dict(renamed, strict=False)
    missing = [name for name in missing if not (model.config.head.tied and name == "lm_head.weight")]
    if missing or unexpected:
        raise ValueError(f"the translation is incomplete: missing {missing}, unexpected {unexpected}")
    return theirs.train(model.training)


def config_to_transformers(config: ModelConfig) -> Any:
    """The transformers config for ours; ValueError lists what stands against it."""
    hf = _transformers()
    if config.positions.kind == "learned":
        _refuse(config, _against_gpt2(config), "GPT-2")
        return hf.GPT2Config(
            vocab_size=config.vocab_size,
            n_embd=config.dim,
            n_layer=config.num_layers,
            n_head=config.attention.num_heads,
            n_positions=config.context_length,
            n_inner=config.feed_forward.hidden,
            activation_function=_their_activation(config, {"gelu-tanh": "gelu_new"}),
            layer_norm_epsilon=config.norm.eps,
            attn_pdrop=config.attention.dropout,
            resid_pdrop=config.block.dropout,
            embd_pdrop=config.block.dropout,
            initializer_range=config.initialization.std,
            tie_word_embeddings=config.head.tied,
            bos_token_id=None,
            eos_token_id=None,
        )
    _refuse(config, _against_llama(config), "Llama or Mistral")
    common: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.attention.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.feed_forward.hidden,
        "hidden_act": _their_activation(config, {"gelu-tanh": "gelu_pytorch_tanh"}),
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm.eps,
        "attention_dropout": config.attention.dropout,
        "initializer_range": config.initialization.std,
        "tie_word_embeddings": config.head.tied,
        "rope_parameters": _rope_parameters(config.positions),
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if config.attention.window is not None:
        return hf.MistralConfig(**common, sliding_window=config.attention.window)
    return hf.LlamaConfig(**common, attention_bias=config.attention.bias, mlp_bias=config.feed_forward.bias)


def _their_activation(config: ModelConfig, names: dict[str, str]) -> str:
    return names.get(config.feed_forward.activation, config.feed_forward.activation)


def _rope_parameters(positions: PositionConfig) -> dict[str, Any]:
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


def _refuse(config: ModelConfig, obstacles: dict[str, bool], family: str) -> None:
    found = [what for what, stands in obstacles.items() if stands]
    if found:
        raise ValueError(f"transformers' {family} cannot express this model: {'; '.join(found)}")


def _against_both(config: ModelConfig) -> dict[str, bool]:
    attention = config.attention
    return {
        f"a {config.head.kind!r} head": config.head.kind != "per_token",
        "a bias in the head": config.head.bias,
        "post-norm": not config.block.norm_first,
        "residual scales": config.block.residual_scale,
        "norms without gain": not config.norm.gain,
        "a shared feed-forward": config.feed_forward.shared,
        "a learned activation": config.feed_forward.activation in ("learned", "none"),
        f"{attention.kind!r} attention": attention.kind != "standard",
        "attention with causal=False": not attention.causal,
        "a prefix": attention.prefix > 0,
        "attention sinks": attention.sinks > 0,
        "QK-norm": attention.qk_norm,
    }


def _against_gpt2(config: ModelConfig) -> dict[str, bool]:
    attention = config.attention
    return _against_both(config) | {
        f"{config.norm.kind!r} norms instead of LayerNorm with bias": not (
            config.norm.kind == "layer" and config.norm.bias
        ),
        f"a {config.feed_forward.kind!r} feed-forward instead of a plain one": config.feed_forward.kind != "plain",
        "layers without bias": not (attention.bias and attention.output_bias and config.feed_forward.bias),
        "grouped key-value heads": config.num_kv_heads != attention.num_heads,
        "a window": attention.window is not None,
        "a head_dim of its own": config.head_dim * attention.num_heads != config.dim,
    }


def _against_llama(config: ModelConfig) -> dict[str, bool]:
    attention, positions = config.attention, config.positions
    scaling = positions.scaling
    measured = scaling is not None and scaling.kind == "dynamic" and scaling.original_length != config.context_length
    return _against_both(config) | {
        f"{positions.kind!r} positions instead of rotary ones": positions.kind != "rotary",
        "a rotary dimension that is part of the head's": positions.partial != 1.0,
        "dynamic scaling measured against another length than context_length": measured,
        f"{config.norm.kind!r} norms instead of RMSNorm": config.norm.kind != "rms",
        f"a {config.feed_forward.kind!r} feed-forward instead of a gated one": config.feed_forward.kind != "gated",
        "biases of q, k, v without one of o, or the reverse": attention.bias != attention.output_bias,
        "a window together with biases": attention.window is not None and (attention.bias or config.feed_forward.bias),
    }


# ---------------------------------------------------------------------------------------------------------------- weights


def _renamed(tensors: dict[str, Tensor], names: dict[str, str], direction: int) -> dict[str, Tensor]:
    """The tensors by the other side's names: ours to theirs with direction 1, theirs to ours with -1."""
    table = dict(names.items()) if direction == 1 else {theirs: ours for ours, theirs in names.items()}
    renamed = {}
    for name, tensor in tensors.items():
        owner, _, leaf = name.rpartition(".")
        layer = re.search(r"\.(\d+)\.", owner)
        pattern = re.sub(r"\.\d+\.", ".{}.", owner, count=1)
        if pattern not in table:
            raise ValueError(f"no counterpart for the weight {name!r}")
        renamed[f"{table[pattern].format(layer[1] if layer else '')}.{leaf}"] = tensor
    return renamed


def _half_split(tensors: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Queries and keys with each head's channels in the order that transformers' Llama rotates them in."""
    if not config.positions.interleaved:
        return tensors
    order = interleaved_to_half(config.head_dim)

    def permuted(rows: Float[Tensor, "heads*head_dim ..."]) -> Float[Tensor, "heads*head_dim ..."]:
        by_head = rows.view(-1, config.head_dim, *rows.shape[1:])
        return by_head[:, order.to(rows.device)].reshape(rows.shape)

    turned = ("attention.q_proj", "attention.k_proj")
    return {name: permuted(t) if name.rpartition(".")[0].endswith(turned) else t for name, t in tensors.items()}


def _from_gpt2(theirs: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    ours: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        matrix = tensor.T.contiguous() if name.split(".")[-2] in GPT2_MATRICES and tensor.dim() == 2 else tensor
        joint = re.fullmatch(r"transformer\.h\.(\d+)\.attn\.c_attn\.(\w+)", name)
        if joint:  # one matrix for queries, keys and values, in this order
            for which, part in zip("qkv", matrix.chunk(3), strict=True):
                ours[f"core.layers.{joint[1]}.attention.{which}_proj.{joint[2]}"] = part.clone()
        else:
            tensors[name] = matrix
    return ours | _renamed(tensors, GPT2_NAMES, -1)


def _to_gpt2(ours: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    joint = re.compile(r"core\.layers\.\d+\.attention\.[qkv]_proj\.\w+")
    renamed = _renamed({name: tensor for name, tensor in ours.items() if not joint.fullmatch(name)}, GPT2_NAMES, 1)
    for layer in range(config.num_layers):
        for leaf in ("weight", "bias"):
            parts = [ours[f"core.layers.{layer}.attention.{which}_proj.{leaf}"] for which in "qkv"]
            renamed[f"transformer.h.{layer}.attn.c_attn.{leaf}"] = torch.cat(parts)
    return {
        name: tensor.T.contiguous() if name.split(".")[-2] in GPT2_MATRICES and tensor.dim() == 2 else tensor
        for name, tensor in renamed.items()
    }


# ---------------------------------------------------------------------------------------------------------------- folders


def save_transformers(model: LanguageModel, path: str | Path, tokenizer: Any = None) -> None:
    """Write a folder that `AutoModelForCausalLM.from_pretrained` opens, and `AutoTokenizer` where a tokenizer is given.

    `tokenizer` is one of ours (with `to_huggingface()`), a `tokenizers.Tokenizer`, or the path of a tokenizer.json.
    """
    hf = _transformers()
    to_transformers(model).save_pretrained(path)
    if isinstance(tokenizer, str | Path):
        fast = hf.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer))
    elif tokenizer is not None:
        theirs = tokenizer.to_huggingface() if hasattr(tokenizer, "to_huggingface") else tokenizer
        fast = hf.PreTrainedTokenizerFast(tokenizer_object=theirs)
    else:
        return
    fast.model_max_length = model.config.context_length
    fast.save_pretrained(path)


def load_transformers(path: str | Path) -> LanguageModel:
    """The model in a transformers folder as ours. Nothing is unpickled: only safetensors weights are read."""
    return from_transformers(_transformers().AutoModelForCausalLM.from_pretrained(path, use_safetensors=True))
