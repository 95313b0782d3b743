"""Llama, Mistral (Llama with a window) and Qwen3 (Llama with QK-norm)."""

from typing import Any

from minilm.config import AttentionConfig, FeedForwardConfig, HeadConfig, InitConfig, ModelConfig, NormConfig
from minilm.interop.family import (
    Family,
    Weights,
    activation_from,
    against_plain_blocks,
    against_rotary,
    against_their_qk_norm,
    half_split,
    positions_from,
    renamed,
    rotary_common,
    transformers_library,
)

# Our name -> theirs; {} is the layer. Biases go by the same names.
OUTSIDE_FEED_FORWARD = {
    "embedder.tokens": "model.embed_tokens",
    "core.layers.{}.attention_norm": "model.layers.{}.input_layernorm",
    "core.layers.{}.attention.q_proj": "model.layers.{}.self_attn.q_proj",
    "core.layers.{}.attention.k_proj": "model.layers.{}.self_attn.k_proj",
    "core.layers.{}.attention.v_proj": "model.layers.{}.self_attn.v_proj",
    "core.layers.{}.attention.o_proj": "model.layers.{}.self_attn.o_proj",
    "core.layers.{}.attention.q_norm": "model.layers.{}.self_attn.q_norm",
    "core.layers.{}.attention.k_norm": "model.layers.{}.self_attn.k_norm",
    "core.layers.{}.feed_forward_norm": "model.layers.{}.post_attention_layernorm",
    "core.norm": "model.norm",
    "head": "lm_head",
}
FEED_FORWARD = {
    "core.layers.{}.feed_forward.gate_proj": "model.layers.{}.mlp.gate_proj",
    "core.layers.{}.feed_forward.up_proj": "model.layers.{}.mlp.up_proj",
    "core.layers.{}.feed_forward.down_proj": "model.layers.{}.mlp.down_proj",
}
NAMES = OUTSIDE_FEED_FORWARD | FEED_FORWARD


def attention_from(hf: Any, **options: Any) -> AttentionConfig:
    """What the attention of all models after Llama has in common."""
    bias = bool(getattr(hf, "attention_bias", False))
    return AttentionConfig(
        num_heads=hf.num_attention_heads,
        num_kv_heads=hf.num_key_value_heads,
        head_dim=getattr(hf, "head_dim", None) or hf.hidden_size // hf.num_attention_heads,
        bias=bias,
        output_bias=bias,
        dropout=float(hf.attention_dropout or 0.0),
        **options,
    )


def config_from(hf: Any, attention: AttentionConfig, feed_forward: FeedForwardConfig) -> ModelConfig:
    """Our config from theirs, with the parts in which the families differ given."""
    return ModelConfig(
        vocab_size=hf.vocab_size,
        dim=hf.hidden_size,
        num_layers=hf.num_hidden_layers,
        context_length=hf.max_position_embeddings,
        attention=attention,
        feed_forward=feed_forward,
        positions=positions_from(hf),
        norm=NormConfig("rms", eps=hf.rms_norm_eps),
        head=HeadConfig(tied=hf.tie_word_embeddings),
        initialization=InitConfig("normal", std=hf.initializer_range),
    )


def _config_from_llama(hf: Any) -> ModelConfig:
    attention = attention_from(hf, window=getattr(hf, "sliding_window", None))
    bias = bool(getattr(hf, "mlp_bias", False))
    feed_forward = FeedForwardConfig(hf.intermediate_size, activation=activation_from(hf.hidden_act), bias=bias)
    return config_from(hf, attention, feed_forward)


def _config_from_qwen3(hf: Any) -> ModelConfig:
    kinds = set(hf.layer_types)
    if len(kinds) > 1:
        raise ValueError("Qwen3 with a window in some layers only has no counterpart: ours has one in all or none")
    window = hf.sliding_window if kinds == {"sliding_attention"} else None
    attention = attention_from(hf, window=window, qk_norm=True, qk_norm_eps=hf.rms_norm_eps)
    return config_from(
        hf, attention, FeedForwardConfig(hf.intermediate_size, activation=activation_from(hf.hidden_act))
    )


def _config_to_llama(config: ModelConfig) -> Any:
    hf = transformers_library()
    common = rotary_common(config) | {"intermediate_size": config.feed_forward.hidden}
    if config.attention.window is not None:
        return hf.MistralConfig(**common, sliding_window=config.attention.window)
    return hf.LlamaConfig(**common, attention_bias=config.attention.bias, mlp_bias=config.feed_forward.bias)


def _config_to_qwen3(config: ModelConfig) -> Any:
    window = config.attention.window
    return transformers_library().Qwen3Config(
        **rotary_common(config),
        intermediate_size=config.feed_forward.hidden,
        attention_bias=config.attention.bias,
        use_sliding_window=window is not None,
        sliding_window=window,
        max_window_layers=0,
    )


def _against_dense(config: ModelConfig) -> dict[str, bool]:
    return against_rotary(config) | against_plain_blocks(config) | {"experts": config.feed_forward.moe is not None}


def _against_llama(config: ModelConfig) -> dict[str, bool]:
    attention = config.attention
    return _against_dense(config) | {
        "QK-norm": attention.qk_norm,
        "a window together with biases": attention.window is not None and (attention.bias or config.feed_forward.bias),
    }


def _against_qwen3(config: ModelConfig) -> dict[str, bool]:
    return (
        _against_dense(config)
        | against_their_qk_norm(config)
        | {"biases in the feed-forward": config.feed_forward.bias}
    )


def _weights_from(theirs: Weights, config: ModelConfig) -> Weights:
    return renamed(theirs, NAMES, -1)


def _weights_to(ours: Weights, config: ModelConfig) -> Weights:
    return renamed(half_split(ours, config), NAMES, 1)


LLAMA = Family(
    "Llama or Mistral",
    ("llama", "mistral"),
    _config_from_llama,
    _config_to_llama,
    _against_llama,
    _weights_from,
    _weights_to,
)
QWEN3 = Family("Qwen3", ("qwen3",), _config_from_qwen3, _config_to_qwen3, _against_qwen3, _weights_from, _weights_to)
