"""Mixtral and Qwen3-MoE: a bank of SwiGLU experts in the place of each feed-forward, each token to its best few."""

from typing import Any

from minilm.config import FeedForwardConfig, ModelConfig, MoEConfig
from minilm.interop.family import (
    Family,
    Weights,
    activation_from,
    against_plain_blocks,
    against_rotary,
    against_their_qk_norm,
    half_split,
    renamed,
    rotary_common,
    transformers_library,
)
from minilm.interop.llama import OUTSIDE_FEED_FORWARD, attention_from, config_from

NAMES = OUTSIDE_FEED_FORWARD | {
    "core.layers.{}.feed_forward.gate": "model.layers.{}.mlp.gate",
    "core.layers.{}.feed_forward.experts": "model.layers.{}.mlp.experts",
}
NOISE = "feed_forward.gate.noise_weight"  # of learned noise, which acts in training alone


def _config_from_mixtral(hf: Any) -> ModelConfig:
    if hf.router_jitter_noise:
        raise ValueError(
            f"router_jitter_noise = {hf.router_jitter_noise}: ours has no noise that multiplies; set it to 0"
        )
    moe = MoEConfig(hf.num_local_experts, hf.num_experts_per_tok, normalize=True)
    feed_forward = FeedForwardConfig(hf.intermediate_size, activation=activation_from(hf.hidden_act), moe=moe)
    return config_from(hf, attention_from(hf, window=hf.sliding_window), feed_forward)


def _config_from_qwen3_moe(hf: Any) -> ModelConfig:
    if hf.decoder_sparse_step != 1 or hf.mlp_only_layers:
        raise ValueError("Qwen3-MoE with dense layers among those of experts has no counterpart: ours are all alike")
    moe = MoEConfig(hf.num_experts, hf.num_experts_per_tok, normalize=hf.norm_topk_prob)
    feed_forward = FeedForwardConfig(hf.moe_intermediate_size, activation=activation_from(hf.hidden_act), moe=moe)
    attention = attention_from(hf, window=hf.sliding_window, qk_norm=True, qk_norm_eps=hf.rms_norm_eps)
    return config_from(hf, attention, feed_forward)


def _sums_to_one(moe: MoEConfig) -> bool:
    return moe.normalize or moe.scoring == "softmax-chosen"


def _config_to_mixtral(config: ModelConfig) -> Any:
    moe = config.feed_forward.moe
    assert moe is not None
    return transformers_library().MixtralConfig(
        **rotary_common(config),
        intermediate_size=config.feed_forward.hidden,
        num_local_experts=moe.num_experts,
        num_experts_per_tok=moe.chosen,
        sliding_window=config.attention.window,
    )


def _config_to_qwen3_moe(config: ModelConfig) -> Any:
    moe, window = config.feed_forward.moe, config.attention.window
    assert moe is not None
    return transformers_library().Qwen3MoeConfig(
        **rotary_common(config),
        moe_intermediate_size=config.feed_forward.hidden,
        attention_bias=config.attention.bias,
        num_experts=moe.num_experts,
        num_experts_per_tok=moe.chosen,
        norm_topk_prob=_sums_to_one(moe),
        use_sliding_window=window is not None,
        sliding_window=window,
    )


def _against_mixture(config: ModelConfig) -> dict[str, bool]:
    moe = config.feed_forward.moe
    assert moe is not None
    return (
        against_rotary(config)
        | against_plain_blocks(config)
        | {
            f"{moe.route!r} routing": moe.route != "token",
            "an expert that all tokens share": moe.shared_hidden is not None,
            "a capacity": moe.capacity_factor is not None,
            "experts chosen by a balancing bias": moe.balance == "bias",
            "sigmoid scores": moe.scoring == "sigmoid",
            "a router that reads the stream": moe.gate_reads_stream,
            "biases in the experts": config.feed_forward.bias,
        }
    )


def _against_mixtral(config: ModelConfig) -> dict[str, bool]:
    moe = config.feed_forward.moe
    return _against_mixture(config) | {
        "QK-norm": config.attention.qk_norm,
        "biases in attention": config.attention.bias,
        "weights of experts that don't sum to 1": moe is not None and not _sums_to_one(moe),
    }


def _against_qwen3_moe(config: ModelConfig) -> dict[str, bool]:
    return _against_mixture(config) | against_their_qk_norm(config)


def _weights_from(theirs: Weights, config: ModelConfig) -> Weights:
    return renamed(theirs, NAMES, -1)


def _weights_to(ours: Weights, config: ModelConfig) -> Weights:
    ours = {name: tensor for name, tensor in ours.items() if not name.endswith(NOISE)}
    return renamed(half_split(ours, config), NAMES, 1)


MIXTRAL = Family(
    "Mixtral",
    ("mixtral",),
    _config_from_mixtral,
    _config_to_mixtral,
    _against_mixtral,
    _weights_from,
    _weights_to,
)
QWEN3_MOE = Family(
    "Qwen3-MoE",
    ("qwen3_moe",),
    _config_from_qwen3_moe,
    _config_to_qwen3_moe,
    _against_qwen3_moe,
    _weights_from,
    _weights_to,
)
