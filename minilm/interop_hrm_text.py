"""HRM-Text to and from Hugging Face's transformers (`HrmTextForCausalLM`): config and names, with the same logits.

Their model takes `token_type_ids`, 1 for the tokens of the prompt that see each other both ways; ours takes their number, `prefix`.
"""

import importlib
import re
from typing import Any

from minilm.config import ActivationKind
from minilm.recursion.hrm_text import HrmText, HrmTextConfig

NAMES = {
    "embedding": "model.embed_tokens",
    "low_stack.layers.{}.attention": "model.L_module.layers.{}.self_attn",
    "low_stack.layers.{}.feed_forward": "model.L_module.layers.{}.mlp",
    "high_stack.layers.{}.attention": "model.H_module.layers.{}.self_attn",
    "high_stack.layers.{}.feed_forward": "model.H_module.layers.{}.mlp",
    "head": "lm_head",
}
START = "model.z_L_init"  # where their low state begins: zeros that are never trained
ACTIVATIONS: dict[str, ActivationKind] = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu-tanh",
    "relu": "relu",
}


def hrm_text_from_transformers(hf_model: Any) -> HrmText:
    """A transformers HRM-Text model as ours. ValueError names an option that has no counterpart."""
    hf = hf_model.config
    if hf.model_type != "hrm_text":
        raise ValueError(f"this is a {hf.model_type!r} model, not 'hrm_text': see minilm.interop.from_transformers")
    theirs = hf_model.state_dict()
    if theirs.pop(START).any():
        raise ValueError(f"{START} is not zero: our low state begins at zero")
    config = hrm_text_config_from_transformers(hf)
    model = HrmText(config).to(hf_model.dtype)
    renamed = {_renamed(name, {b: a for a, b in NAMES.items()}): value for name, value in theirs.items()}
    model.load_state_dict(renamed)
    return model.train(hf_model.training)


def hrm_text_config_from_transformers(hf: Any) -> HrmTextConfig:
    """Our config for theirs."""
    rope = hf.rope_parameters or {}
    if rope.get("rope_type", "default") != "default":
        raise ValueError(f"rotary scaling {rope['rope_type']!r} has no counterpart in HrmText")
    if hf.attention_dropout:
        raise ValueError(f"attention_dropout = {hf.attention_dropout} has no counterpart in HrmText: set it to 0")
    if hf.hidden_act not in ACTIVATIONS:
        raise ValueError(f"hidden_act = {hf.hidden_act!r} has no counterpart: {', '.join(ACTIVATIONS)} have one")
    return HrmTextConfig(
        vocab_size=hf.vocab_size,
        dim=hf.hidden_size,
        num_layers=hf.num_layers_per_stack,
        num_heads=hf.num_attention_heads,
        hidden=hf.intermediate_size,
        context_length=hf.max_position_embeddings,
        head_dim=hf.head_dim,
        high_cycles=hf.H_cycles,
        low_cycles=hf.L_cycles,
        gradient_steps=tuple(hf.L_bp_cycles),
        embedding_scale=hf.embedding_scale,
        init_std=hf.initializer_range,
        base=float(rope.get("rope_theta", 10_000.0)),
        activation=ACTIVATIONS[hf.hidden_act],
        bias=bool(hf.attention_bias),
        feed_forward_bias=bool(hf.mlp_bias),
        eps=hf.rms_norm_eps,
        tied=bool(hf.tie_word_embeddings),
    )


def hrm_text_to_transformers(model: HrmText) -> Any:
    """Our model as a transformers HRM-Text model with the same logits."""
    try:
        transformers = importlib.import_module("transformers")
        theirs, config_class = transformers.HrmTextForCausalLM, transformers.HrmTextConfig
    except ImportError:
        raise ImportError("this needs Hugging Face's transformers: pip install 'minilm[hf]'") from None
    except AttributeError:
        raise ImportError("the installed transformers has no HrmText: upgrade it") from None
    c = model.config
    hf = config_class(
        vocab_size=c.vocab_size,
        hidden_size=c.dim,
        num_hidden_layers=c.num_layers,
        num_attention_heads=c.num_heads,
        intermediate_size=c.hidden,
        max_position_embeddings=c.context_length,
        head_dim=c.head_dim or c.dim // c.num_heads,
        H_cycles=c.high_cycles,
        L_cycles=c.low_cycles,
        L_bp_cycles=list(c.gradient_steps),
        embedding_scale=c.embedding_scale,
        initializer_range=c.init_std,
        rope_parameters={"rope_type": "default", "rope_theta": c.base},
        hidden_act=next(name for name, ours in ACTIVATIONS.items() if ours == c.activation),
        attention_bias=c.bias,
        mlp_bias=c.feed_forward_bias,
        rms_norm_eps=c.eps,
        tie_word_embeddings=c.tied,
    )
    result = theirs(hf).to(next(model.parameters()).dtype)
    renamed = {_renamed(name, NAMES): value for name, value in model.state_dict().items()}
    result.load_state_dict(renamed | {START: result.state_dict()[START]})
    return result.train(model.training)


def _renamed(name: str, names: dict[str, str]) -> str:
    """A weight's name in the other's words."""
    for ours, theirs in names.items():
        match = re.fullmatch(re.escape(ours).replace(r"\{\}", r"(\d+)") + r"\.(.+)", name)
        if match:
            return f"{theirs.format(*match.groups()[:-1])}.{match.groups()[-1]}"
    raise ValueError(f"the weight {name!r} has no counterpart")
