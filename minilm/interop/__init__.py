"""To and from Hugging Face's transformers, with weights and without loss: GPT-2, Llama, Mistral, Qwen3, Mixtral, Qwen3-MoE and Doge.

`from_transformers` and `to_transformers` translate config and names; `load_transformers` and `save_transformers` do the same with folders,
which `AutoModelForCausalLM` and `AutoTokenizer` open. What the other side cannot express is refused with the reasons. Dropout, noise
and balance losses act in training alone and stay behind where the other side has none of the same kind.

- `conversion`: these functions;
- `family`: what a family of models is to them, and what all families share;
- `gpt2`, `llama`, `mixture`, `doge`: the families.
"""

from minilm.interop.conversion import (
    config_from_transformers,
    config_to_transformers,
    from_transformers,
    load_transformers,
    save_transformers,
    to_transformers,
)

__all__ = [
    "config_from_transformers",
    "config_to_transformers",
    "from_transformers",
    "load_transformers",
    "save_transformers",
    "to_transformers",
]
