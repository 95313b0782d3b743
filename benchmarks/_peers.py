"""Other people's models in the shape of ours: from their packages where they are packages, or else rebuilt from PyTorch's layers."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilm.config import ModelConfig


class GPTShaped(nn.Module):
    """A GPT-2 as nanoGPT shapes it: one matrix for q, k and v, learned positions, GELU, LayerNorm, tied head, no biases.

    Rebuilt here from PyTorch's own layers, since nanoGPT is no package. No cache, as there.
    """

    def __init__(self, config: ModelConfig, hidden: int | None = None) -> None:
        super().__init__()
        dim = config.dim
        self.heads = config.attention.num_heads
        self.tokens = nn.Embedding(config.vocab_size, dim)
        self.positions = nn.Embedding(config.context_length, dim)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm_1": nn.LayerNorm(dim, bias=False),
                    "qkv": nn.Linear(dim, 3 * dim, bias=False),
                    "out": nn.Linear(dim, dim, bias=False),
                    "norm_2": nn.LayerNorm(dim, bias=False),
                    "up": nn.Linear(dim, hidden or config.feed_forward.hidden, bias=False),
                    "down": nn.Linear(hidden or config.feed_forward.hidden, dim, bias=False),
                }
            )
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(dim, bias=False)
        self.head = nn.Linear(dim, config.vocab_size, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Logits."""
        batch, seq = ids.shape
        x = self.tokens(ids) + self.positions(torch.arange(seq))
        for block in self.blocks:
            q, k, v = (
                part.view(batch, seq, self.heads, -1).transpose(1, 2)
                for part in block["qkv"](block["norm_1"](x)).split(x.shape[-1], dim=2)
            )
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + block["out"](mixed.transpose(1, 2).reshape(batch, seq, -1))
            x = x + block["down"](F.gelu(block["up"](block["norm_2"](x))))
        return self.head(self.norm(x))  # type: ignore[no-any-return]


def litgpt_model(config: ModelConfig) -> Any:
    """litgpt's model in the shape of a Llama, tied as ours is; None where litgpt is not installed."""
    try:
        from litgpt import GPT, Config
    except ImportError:
        return None
    model = GPT(
        Config(
            name="shape",
            block_size=config.context_length,
            vocab_size=config.vocab_size,
            padded_vocab_size=config.vocab_size,
            n_layer=config.num_layers,
            n_head=config.attention.num_heads,
            n_query_groups=config.num_kv_heads,
            n_embd=config.dim,
            rotary_percentage=1.0,
            parallel_residual=False,
            bias=False,
            norm_class_name="RMSNorm",
            norm_eps=config.norm.eps,
            mlp_class_name="LLaMAMLP",
            intermediate_size=config.feed_forward.hidden,
        )
    )
    model.lm_head.weight = model.transformer.wte.weight
    return model


def transformers_model(model: Any) -> Any:
    """Ours as a model of transformers with the same weights; None where it is not installed or has no such model."""
    from minilm import interop

    try:
        return interop.to_transformers(model)
    except (ImportError, ValueError):
        return None
