"""HRM-Text to and from Hugging Face's transformers (`HrmTextForCausalLM`): config and names, with the same logits.

Their model takes `token_type_ids`, 1 for the tokens of the prompt that see each other both ways; ours takes their number, `prefix`.
"""

from typing import Any

from minilm.interop.family import ACTIVATIONS, activation_from, renamed, transformers_library
from minilm.recursion.hrm_text import HrmText, HrmTextConfig

PARTS = {
    "attention": ("self_attn", ("q_proj", "k_proj", "v_proj", "gate_proj", "o_proj")),
    "feed_forward": ("mlp", ("gate_proj", "up_proj", "down_proj")),
}
NAMES = {"embedding": "model.embed_tokens", "head": "lm_head"} | {
    f"{stack}.layers.{{}}.{part}.{matrix}": f"model.{their_stack}.layers.{{}}.{their_part}.{matrix}"
    for stack, their_stack in (("low_stack", "L_module"), ("high_stack", "H_module"))
    for part, (their_part, matrices) in PARTS.items()
    for matrix in matrices
}
START = "model.z_L_init"  # where their low state begins: zeros that are never trained


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
    model.load_state_dict(renamed(theirs, NAMES, -1))
    return model.train(hf_model.training)


def hrm_text_config_from_transformers(hf: Any) -> HrmTextConfig:
    """Our config for theirs."""
    rope = hf.rope_parameters or {}
    if rope.get("rope_type", "default") != "default":
        raise ValueError(f"rotary scaling {rope['rope_type']!r} has no counterpart in HrmText")
    if hf.attention_dropout:
        raise ValueError(f"attention_dropout = {hf.attention_dropout} has no counterpart in HrmText: set it to 0")
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
        activation=activation_from(hf.hidden_act),
        bias=bool(hf.attention_bias),
        feed_forward_bias=bool(hf.mlp_bias),
        eps=hf.rms_norm_eps,
        tied=bool(hf.tie_word_embeddings),
    )


def hrm_text_to_transformers(model: HrmText) -> Any:
    """Our model as a transformers HRM-Text model with the same logits."""
    library = transformers_library()
    if not hasattr(library, "HrmTextForCausalLM"):
        raise ImportError("the installed transformers has no HrmText: upgrade it")
    c = model.config
    activations = [name for name, ours in ACTIVATIONS.items() if ours == c.activation]
    if not activations:
        raise ValueError(f"transformers' HrmText cannot express a {c.activation!r} activation")
    hf = library.HrmTextConfig(
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
        hidden_act=activations[0],
        attention_bias=c.bias,
        mlp_bias=c.feed_forward_bias,
        rms_norm_eps=c.eps,
        tie_word_embeddings=c.tied,
    )
    result = library.HrmTextForCausalLM(hf).to(next(model.parameters()).dtype)
    result.load_state_dict(renamed(model.state_dict(), NAMES, 1) | {START: result.state_dict()[START]})
    return result.train(model.training)
