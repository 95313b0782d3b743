"""Models by name: those of the systems that the course covers, and two that everyone compares with.

Each is a config and nothing more; `LanguageModel.from_preset(name, **overrides)` makes the model. The numbers in the comments are the
published or derived parameter counts that the tests hold them to.
"""

import difflib
from typing import Any

from minilm.block import gated_width
from minilm.config import (
    AttentionConfig,
    BlockConfig,
    DynamicMaskConfig,
    FeedForwardConfig,
    HeadConfig,
    InitConfig,
    ModelConfig,
    MoEConfig,
    NormConfig,
    PositionConfig,
)

_DLIB_NORM = NormConfig("whole-sample", eps=1e-5)

PRESETS: dict[str, ModelConfig] = {
    # dlib's character model: 5,185,864 by its own count, 98.8 % of them in layers that read the flattened window.
    "dlib-char": ModelConfig(
        vocab_size=257,
        dim=64,
        num_layers=3,
        context_length=50,
        attention=AttentionConfig(num_heads=4, kind="dlib-fused"),
        feed_forward=FeedForwardConfig(hidden=256, kind="dlib-fused", activation="gelu", bias=True),
        positions=PositionConfig("sinusoidal-dlib"),
        norm=_DLIB_NORM,
        block=BlockConfig(dropout=0.1),
        head=HeadConfig("flat", tied=False, bias=True),
        initialization=InitConfig("torch"),
    ),
    # dlib's byte-pair model: 4,002,458 by its own count; 3,301,301 with head={"kind": "per_token"}.
    "dlib-bpe": ModelConfig(
        vocab_size=3500,
        dim=228,
        num_layers=4,
        context_length=100,
        attention=AttentionConfig(num_heads=6),
        feed_forward=FeedForwardConfig(hidden=912, kind="plain", activation="gelu", bias=True),
        norm=_DLIB_NORM,
        block=BlockConfig(dropout=0.1),
        head=HeadConfig("flat_squeeze", tied=False, bias=True),
        initialization=InitConfig("torch"),
    ),
    # dlib's mixture of experts: 5,970,554 by its own count, and 5,432,738 at work: one of four experts, chosen for a whole window by
    # a gate that reads all of it. The gates hold 49 % of that count, all experts together 12 %.
    "dlib-moe": ModelConfig(
        vocab_size=3500,
        dim=228,
        num_layers=4,
        context_length=100,
        attention=AttentionConfig(num_heads=6),
        feed_forward=FeedForwardConfig(
            hidden=gated_width(228, 2 / 7),
            bias=True,
            moe=MoEConfig(
                num_experts=4,
                route="sample",
                normalize=True,
                noise=0.1,
                balance="switch",
                balance_weight=0.01,
                gate_dropout=0.1,
                gate_reads_stream=True,
            ),
        ),
        norm=_DLIB_NORM,
        block=BlockConfig(dropout=0.1),
        head=HeadConfig("flat_squeeze", tied=False, bias=True),
        initialization=InitConfig("torch"),
    ),
    # Mixtral in small (Jiang et al. 2024): 8 experts, 2 a token, of which a dense layer of width 1,024 would be the active part.
    "mixtral-tiny": ModelConfig(
        vocab_size=4096,
        dim=256,
        num_layers=4,
        context_length=256,
        attention=AttentionConfig(num_heads=8, num_kv_heads=2),
        feed_forward=FeedForwardConfig(
            hidden=512, moe=MoEConfig(num_experts=8, top_k=2, normalize=True, balance="switch")
        ),
        positions=PositionConfig(base=1_000_000.0, interleaved=False),
        norm=NormConfig(eps=1e-5),
        head=HeadConfig(tied=False),
    ),
    # Qwen3-MoE in small (Yang et al. 2025): more and finer experts, heads wider than dim / heads, normalised queries and keys.
    "qwen3-moe-tiny": ModelConfig(
        vocab_size=4096,
        dim=256,
        num_layers=4,
        context_length=256,
        attention=AttentionConfig(num_heads=8, num_kv_heads=2, head_dim=64, qk_norm=True),
        feed_forward=FeedForwardConfig(
            hidden=192, moe=MoEConfig(num_experts=32, top_k=4, normalize=True, balance="switch")
        ),
        positions=PositionConfig(base=1_000_000.0, interleaved=False),
        head=HeadConfig(tied=False),
    ),
    # SLiM: 6,294,784 + 256 V. Its documentation gives the shape; vocabulary and context are ours.
    "slim": ModelConfig(
        vocab_size=4096,
        dim=256,
        num_layers=6,
        context_length=256,
        attention=AttentionConfig(num_heads=8),
        feed_forward=FeedForwardConfig(hidden=1024),
    ),
    # Mnemos 0.1.0: 3,701,248, of which 1,024 are the head's biases; 3,438,080 with head={"tied": True, "bias": False}.
    "mnemos": ModelConfig(
        vocab_size=1024,
        dim=256,
        num_layers=4,
        context_length=64,
        attention=AttentionConfig(num_heads=4, bias=True, output_bias=True),
        feed_forward=FeedForwardConfig(hidden=1024, kind="plain", activation="gelu", bias=True),
        positions=PositionConfig("learned"),
        norm=NormConfig("layer", eps=1e-5, bias=True),
        block=BlockConfig(dropout=0.1),
        head=HeadConfig(tied=False, bias=True),
    ),
    # Super Tiny Language Models, the baseline: 47,203,328.
    "stlm": ModelConfig(
        vocab_size=50_257,
        dim=512,
        num_layers=8,
        context_length=512,
        attention=AttentionConfig(num_heads=16, num_kv_heads=4),
        feed_forward=FeedForwardConfig(hidden=1320),
        block=BlockConfig(dropout=0.1),
    ),
    # GPT-2 small: 124,439,808.
    "gpt2": ModelConfig(
        vocab_size=50_257,
        dim=768,
        num_layers=12,
        context_length=1024,
        attention=AttentionConfig(num_heads=12, bias=True, output_bias=True, dropout=0.1),
        feed_forward=FeedForwardConfig(hidden=3072, kind="plain", activation="gelu-tanh", bias=True),
        positions=PositionConfig("learned"),
        norm=NormConfig("layer", eps=1e-5, bias=True),
        block=BlockConfig(dropout=0.1),
    ),
    # A Llama in small, in the layout of transformers: the 15,191,712 parameters of llama2.c's stories15M.
    "llama-tiny": ModelConfig(
        vocab_size=32_000,
        dim=288,
        num_layers=6,
        context_length=256,
        attention=AttentionConfig(num_heads=6),
        feed_forward=FeedForwardConfig(hidden=gated_width(288, 8 / 3, multiple_of=32)),
        positions=PositionConfig(interleaved=False),
        norm=NormConfig(eps=1e-5),
    ),
}
# What dlib's example plans next: 8 experts, 2 of them for each window.
PRESETS["dlib-moe-8"] = PRESETS["dlib-moe"].replace(feed_forward={"moe": {"num_experts": 8, "top_k": 2}})
# STLM with ten layers, 55,888,896, and its twin that has one feed-forward for all of them, 34,655,232.
PRESETS["stlm-10"] = PRESETS["stlm"].replace(num_layers=10, feed_forward={"hidden": 1536})
PRESETS["stlm-shared"] = PRESETS["stlm-10"].replace(feed_forward={"shared": True})

# Doge, by size: 13,117,712; 54,575,680; 152,697,744; 335,807,744 as SmallDoge makes them, one mask for each head. The twins
# "-hf" are built as in transformers, one mask for each key-value head and normalised queries and keys: 13,118,728; 54,571,552;
# 152,676,168; 335,750,272. (SmallDoge's recipe for the largest adds dynamic rotary scaling by 4, which rules a cache out.)
for _size, _dim, _layers, _heads in (
    ("20m", 256, 8, 2),
    ("60m", 512, 16, 4),
    ("160m", 768, 24, 6),
    ("320m", 1024, 32, 8),
):
    PRESETS[f"doge-{_size}"] = ModelConfig(
        vocab_size=32_768,
        dim=_dim,
        num_layers=_layers,
        context_length=2048,
        attention=AttentionConfig(
            _heads, _heads // 2, head_dim=128, kind="dynamic-mask", dynamic_mask=DynamicMaskConfig(keep_window=2048)
        ),
        feed_forward=FeedForwardConfig(hidden=2 * _dim),
        positions=PositionConfig(interleaved=False),
        block=BlockConfig(residual_scale=True),
        initialization=InitConfig("normal"),
    )
    PRESETS[f"doge-{_size}-hf"] = PRESETS[f"doge-{_size}"].replace(
        attention={"dynamic_mask": {"per": "kv-head"}, "qk_norm": True}
    )

# Doge with product-key experts, in SmallDoge's recipes for its larger tokenizer: 43,460,880 (of which a token uses 39,299,344);
# 184,205,888 (117,359,168); 611,777,424 (272,923,536); 1,717,044,480 (645,399,808). The shared expert's width follows from them.
for _size, _dense, _experts, _top_k, _widths in (
    ("40m", "20m", 1024, 8, 3),
    ("180m", "60m", 4096, 16, 3),
    ("600m", "160m", 9216, 24, 3),
    ("1.6b", "320m", 16384, 32, 4),
):
    PRESETS[f"doge-{_size}-moe"] = PRESETS[f"doge-{_dense}"].replace(
        vocab_size=128_256,
        feed_forward={
            "hidden": _widths * PRESETS[f"doge-{_dense}"].dim,
            "moe": MoEConfig(_experts, _top_k, route="product-key", scoring="softmax-chosen"),
        },
    )
PRESETS["doge-1.6b-moe"] = PRESETS["doge-1.6b-moe"].replace(context_length=4096, positions={"base": 40_000.0})


def config(name: str, **overrides: Any) -> ModelConfig:
    """A preset's config, changed where asked; a dictionary changes some values of a part.

    >>> config("dlib-bpe", head={"kind": "per_token"}).head
    HeadConfig(kind='per_token', tied=False, bias=True)
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, PRESETS))}."
        raise ValueError(f"no preset {name!r}: {advice}")
    return PRESETS[name].replace(**overrides)


def doge_parameters(
    dim: int, num_layers: int, num_heads: int, num_kv_heads: int, vocab_size: int = 32_768, head_dim: int = 128
) -> int:
    """The parameters of a Doge model as SmallDoge's own code makes it, by formula: 13,117,712 for Doge-20M.

    Tied table; a block has q, k, v, o, the dynamic mask's projection (kv width to heads) and one factor a head, SwiGLU of width
    2 dim, two norms and two residual scales; one last norm.
    """
    width, kv_width = num_heads * head_dim, num_kv_heads * head_dim
    attention = 2 * dim * width + 2 * dim * kv_width + kv_width * num_heads + num_heads
    block = attention + 3 * dim * (2 * dim) + 4 * dim
    return vocab_size * dim + num_layers * block + dim
