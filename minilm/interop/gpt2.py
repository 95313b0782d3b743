"""GPT-2: learned positions, LayerNorm, biases everywhere, and one matrix for queries, keys and values."""

import re
from typing import Any

import torch

from minilm.config import (
    AttentionConfig,
    BlockConfig,
    FeedForwardConfig,
    HeadConfig,
    InitConfig,
    ModelConfig,
    NormConfig,
    PositionConfig,
)
from minilm.interop.family import (
    Family,
    Weights,
    activation_from,
    activation_to,
    against_all,
    against_plain_blocks,
    renamed,
    transformers_library,
)

# Our name -> theirs; {} is the layer. Biases go by the same names.
NAMES = {
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
MATRICES = ("c_attn", "c_proj", "c_fc")  # GPT-2 keeps these as (inputs, outputs), the transpose of a Linear


def _config_from(hf: Any) -> ModelConfig:
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
            hf.n_inner or 4 * hf.n_embd, kind="plain", activation=activation_from(hf.activation_function), bias=True
        ),
        positions=PositionConfig("learned"),
        norm=NormConfig("layer", eps=hf.layer_norm_epsilon, bias=True),
        block=BlockConfig(dropout=float(hf.resid_pdrop)),
        head=HeadConfig(tied=hf.tie_word_embeddings),
        initialization=InitConfig("scaled", std=hf.initializer_range),
    )


def _config_to(config: ModelConfig) -> Any:
    return transformers_library().GPT2Config(
        vocab_size=config.vocab_size,
        n_embd=config.dim,
        n_layer=config.num_layers,
        n_head=config.attention.num_heads,
        n_positions=config.context_length,
        n_inner=config.feed_forward.hidden,
        activation_function=activation_to(config, gelu_tanh="gelu_new"),
        layer_norm_epsilon=config.norm.eps,
        attn_pdrop=config.attention.dropout,
        resid_pdrop=config.block.dropout,
        embd_pdrop=config.block.dropout,
        initializer_range=config.initialization.std,
        tie_word_embeddings=config.head.tied,
        bos_token_id=None,
        eos_token_id=None,
    )


def _obstacles(config: ModelConfig) -> dict[str, bool]:
    attention = config.attention
    plain_norm = config.norm.kind == "layer" and config.norm.bias
    return (
        against_all(config)
        | against_plain_blocks(config)
        | {
            "QK-norm": attention.qk_norm,
            "experts": config.feed_forward.moe is not None,
            f"{config.norm.kind!r} norms instead of LayerNorm with bias": not plain_norm,
            f"a {config.feed_forward.kind!r} feed-forward instead of a plain one": config.feed_forward.kind != "plain",
            "layers without bias": not (attention.bias and attention.output_bias and config.feed_forward.bias),
            "grouped key-value heads": config.num_kv_heads != attention.num_heads,
            "a window": attention.window is not None,
            "a head_dim of its own": config.head_dim * attention.num_heads != config.dim,
        }
    )


def _weights_from(theirs: Weights, config: ModelConfig) -> Weights:
    tensors: Weights = {}
    ours: Weights = {}
    for name, tensor in theirs.items():
        matrix = tensor.T.contiguous() if name.split(".")[-2] in MATRICES and tensor.dim() == 2 else tensor
        joint = re.fullmatch(r"transformer\.h\.(\d+)\.attn\.c_attn\.(\w+)", name)
        if joint:  # one matrix for queries, keys and values, in this order
            for which, part in zip("qkv", matrix.chunk(3), strict=True):
                ours[f"core.layers.{joint[1]}.attention.{which}_proj.{joint[2]}"] = part.clone()
        else:
            tensors[name] = matrix
    return ours | renamed(tensors, NAMES, -1)


def _weights_to(ours: Weights, config: ModelConfig) -> Weights:
    joint = re.compile(r"core\.layers\.\d+\.attention\.[qkv]_proj\.\w+")
    theirs = renamed({name: tensor for name, tensor in ours.items() if not joint.fullmatch(name)}, NAMES, 1)
    for layer in range(config.num_layers):
        for leaf in ("weight", "bias"):
            parts = [ours[f"core.layers.{layer}.attention.{which}_proj.{leaf}"] for which in "qkv"]
            theirs[f"transformer.h.{layer}.attn.c_attn.{leaf}"] = torch.cat(parts)
    return {
        name: tensor.T.contiguous() if name.split(".")[-2] in MATRICES and tensor.dim() == 2 else tensor
        for name, tensor in theirs.items()
    }


GPT2 = Family("GPT-2", ("gpt2",), _config_from, _config_to, _obstacles, _weights_from, _weights_to)
