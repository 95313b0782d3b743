"""Doge: dynamic masks, residual scales, and in some sizes product-key experts, whose router transformers keeps as published."""

import warnings
from typing import Any

from minilm.config import BlockConfig, DynamicMaskConfig, FeedForwardConfig, ModelConfig, MoEConfig
from minilm.exhibits import UpstreamCDMoE
from minilm.interop.family import (
    Family,
    Weights,
    activation_from,
    against_rotary,
    against_their_qk_norm,
    half_split,
    renamed,
    rotary_common,
    transformers_library,
)
from minilm.interop.llama import FEED_FORWARD, OUTSIDE_FEED_FORWARD, attention_from, config_from
from minilm.model import LanguageModel

NAMES = OUTSIDE_FEED_FORWARD | {
    "core.layers.{}.attention.A": "model.layers.{}.self_attn.A",
    "core.layers.{}.attention.dt_proj": "model.layers.{}.self_attn.dt_proj",
    "core.layers.{}.attention_residual": "model.layers.{}.input_residual",
    "core.layers.{}.feed_forward_residual": "model.layers.{}.post_attention_residual",
}
EXPERTS = {
    **{ours.replace("feed_forward.", "feed_forward.shared."): theirs for ours, theirs in FEED_FORWARD.items()},
    "core.layers.{}.feed_forward.router_gate": "model.layers.{}.mlp.router_gate",
    "core.layers.{}.feed_forward.down_embed": "model.layers.{}.mlp.down_embed",
    "core.layers.{}.feed_forward.up_embed": "model.layers.{}.mlp.up_embed",
}
NOT_CAUSAL = (
    "transformers' Doge cuts its router's scores so that a token's experts are chosen by other tokens, later ones and those of "
    "other sequences among them"
)


def _config_from(hf: Any) -> ModelConfig:
    if hf.hidden_dropout:
        raise ValueError(f"hidden_dropout = {hf.hidden_dropout}: ours acts on the embeddings too; set it to 0")
    moe = None
    if hf.is_moe:
        moe = MoEConfig(
            hf.num_experts,
            hf.num_experts_per_tok,
            route="product-key",
            scoring="softmax-chosen",
            normalize=hf.norm_topk_prob,
        )
    attention = attention_from(
        hf,
        kind="dynamic-mask",
        dynamic_mask=DynamicMaskConfig(hf.keep_window_size, per="kv-head"),
        window=hf.sliding_window,
        qk_norm=True,
        qk_norm_eps=hf.rms_norm_eps,
    )
    feed_forward = FeedForwardConfig(
        hf.intermediate_size, activation=activation_from(hf.hidden_act), bias=hf.mlp_bias, moe=moe
    )
    return config_from(hf, attention, feed_forward).replace(block=BlockConfig(residual_scale=True))


def _config_to(config: ModelConfig) -> Any:
    attention, moe = config.attention, config.feed_forward.moe
    assert attention.dynamic_mask is not None
    experts: dict[str, Any] = {"is_moe": moe is not None}
    if moe is not None:
        experts |= {
            "num_experts": moe.num_experts,
            "num_experts_per_tok": moe.chosen,
            "norm_topk_prob": moe.normalize,
        }
    return transformers_library().DogeConfig(
        **rotary_common(config),
        intermediate_size=config.feed_forward.hidden,
        attention_bias=attention.bias,
        mlp_bias=config.feed_forward.bias,
        sliding_window=attention.window,
        keep_window_size=attention.dynamic_mask.keep_window,
        **experts,
    )


def _obstacles(config: ModelConfig) -> dict[str, bool]:
    attention, moe = config.attention, config.feed_forward.moe
    mask = attention.dynamic_mask
    return (
        against_rotary(config)
        | against_their_qk_norm(config)
        | {
            "no dynamic mask": mask is None,
            "a dynamic mask for each head instead of each key-value head": mask is not None and mask.per == "head",
            "no residual scales": not config.block.residual_scale,
            "experts other than product-key ones": moe is not None and moe.route != "product-key",
            "weights of experts that don't sum to 1": moe is not None
            and not (moe.normalize or moe.scoring == "softmax-chosen"),
        }
    )


def _names(config: ModelConfig) -> dict[str, str]:
    return NAMES | (FEED_FORWARD if config.feed_forward.moe is None else EXPERTS)


def _weights_from(theirs: Weights, config: ModelConfig) -> Weights:
    return renamed(theirs, _names(config), -1)


def _weights_to(ours: Weights, config: ModelConfig) -> Weights:
    return renamed(half_split(ours, config), _names(config), 1)


DOGE = Family("Doge", ("doge",), _config_from, _config_to, _obstacles, _weights_from, _weights_to)


def has_product_keys(config: ModelConfig) -> bool:
    """Whether it matters which router the model has."""
    moe = config.feed_forward.moe
    return moe is not None and moe.route == "product-key"


def own_parts_from(config: ModelConfig, legacy_router_view: bool | None) -> dict[str, Any]:
    """The class of feed-forward that the caller's choice of router asks for. ValueError where there is a choice and none was made."""
    if not has_product_keys(config):
        return {}
    if legacy_router_view is None:
        raise ValueError(
            f"{NOT_CAUSAL}. Choose legacy_router_view=True for the same logits as transformers, or False for a causal model, "
            "where each token chooses for itself (the same for one token at a time)"
        )
    if not legacy_router_view:
        return {}
    warnings.warn(f"{NOT_CAUSAL}: with legacy_router_view=True this model does so too", UserWarning, stacklevel=3)
    return {"feed_forward": UpstreamCDMoE}


def check_router_to(model: LanguageModel, legacy_router_view: bool | None) -> None:
    """Refuse, or warn, where transformers would route otherwise than the model."""
    if not has_product_keys(model.config) or model.own_parts["feed_forward"] is UpstreamCDMoE:
        return
    if not legacy_router_view:
        raise ValueError(
            f"{NOT_CAUSAL}; in this model each chooses for itself, so transformers would give other logits for more than one token "
            "at a time. Pass legacy_router_view=True to have its weights there all the same"
        )
    warnings.warn(f"{NOT_CAUSAL}: its logits there are not this model's", UserWarning, stacklevel=3)
