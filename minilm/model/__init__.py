"""Lesson 05: the whole model, embedder + core + head, and its accounts.

- `language_model`: `LanguageModel`, put together from a `ModelConfig`, with any part replaced by a class of your own;
- `parts`: the embedder, the core, the heads, and how a config becomes layers;
- `accounts`: what a model costs in parameters, operations and memory;
- `files`: saving and loading.
"""

from minilm.config import (
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
from minilm.model.accounts import Summary, attention_flops, kv_cache_bytes, summarize
from minilm.model.language_model import LanguageModel
from minilm.model.parts import Core, Embedder, FlatHead, SqueezedFlatHead, TokenHead

__all__ = [
    "AttentionConfig",
    "BlockConfig",
    "Core",
    "Embedder",
    "FeedForwardConfig",
    "FlatHead",
    "HeadConfig",
    "InitConfig",
    "LanguageModel",
    "ModelConfig",
    "NormConfig",
    "PositionConfig",
    "RotaryScaling",
    "SqueezedFlatHead",
    "Summary",
    "TokenHead",
    "attention_flops",
    "kv_cache_bytes",
    "summarize",
]
