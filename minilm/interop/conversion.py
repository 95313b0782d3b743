"""Whole models and folders, to and from transformers."""

from pathlib import Path
from typing import Any

from minilm.config import ModelConfig
from minilm.exhibits import UpstreamCDMoE
from minilm.interop.doge import DOGE, check_router_to, own_parts_from
from minilm.interop.family import Family, transformers_library
from minilm.interop.gpt2 import GPT2
from minilm.interop.llama import LLAMA, QWEN3
from minilm.interop.mixture import MIXTRAL, QWEN3_MOE
from minilm.model import LanguageModel

FAMILIES = (GPT2, LLAMA, QWEN3, MIXTRAL, QWEN3_MOE, DOGE)


def _theirs(hf_config: Any) -> Family:
    for family in FAMILIES:
        if hf_config.model_type in family.model_types:
            return family
    known = [name for family in FAMILIES for name in family.model_types]
    raise ValueError(
        f"no counterpart for transformers' {hf_config.model_type!r}: {', '.join(known[:-1])} and {known[-1]} have one"
    )


def _nearest(config: ModelConfig) -> Family:
    """The family that can express our config if any can."""
    if config.positions.kind == "learned":
        return GPT2
    if config.attention.kind == "dynamic-mask":
        return DOGE
    if config.feed_forward.moe is not None:
        return QWEN3_MOE if config.attention.qk_norm else MIXTRAL
    return QWEN3 if config.attention.qk_norm else LLAMA


def from_transformers(hf_model: Any, *, legacy_router_view: bool | None = None) -> LanguageModel:
    """A transformers language model of one of the families as ours, with the same logits.

    Weights are copied in their precision. ValueError names the model type or option that has no counterpart.
    (Where exactly equal biases compete for the end of Doge's keep window, as those of the same token twice do in the first
    layer, ours keeps the later key and transformers any.)
    `legacy_router_view` is for Doge with experts alone, where it must be chosen: True for transformers' own routing, which lets
    other tokens choose a token's experts and is not causal (with a warning), False for each token choosing for itself.
    """
    config, family = config_from_transformers(hf_model.config), _theirs(hf_model.config)
    theirs = {name: tensor.detach().clone() for name, tensor in hf_model.state_dict().items()}
    parts = own_parts_from(config, legacy_router_view)
    model = LanguageModel.from_config(config, dtype=hf_model.dtype, **parts)
    renamed = family.weights_from(theirs, config)
    if config.head.tied:
        renamed["head.weight"] = renamed["embedder.tokens.weight"]
    buffers = {name for name, _ in model.named_buffers()}  # what ours remembers of training
    missing, unexpected = model.load_state_dict(renamed, strict=False)
    _check_complete([name for name in missing if name not in buffers], unexpected)
    return model.train(hf_model.training)


def config_from_transformers(hf: Any) -> ModelConfig:
    """Our config for a transformers config of one of the families."""
    return _theirs(hf).config_from(hf)


def to_transformers(model: LanguageModel, *, legacy_router_view: bool | None = None) -> Any:
    """Our model as a transformers one with the same logits, of the family that is built like it.

    Interleaved rotary pairs become half-split ones by permuting the rows of the query and key projections. Dropout, noise and
    balance losses that only ours has are left out. ValueError lists everything that the family cannot express.
    Product-key experts go with legacy_router_view=True alone: transformers routes them otherwise (`from_transformers`).
    """
    own = {role: part for role, part in model.own_parts.items() if part not in (None, UpstreamCDMoE)}
    if own:
        raise ValueError(f"parts of your own have no counterpart in transformers: {model.own_part_names()}")
    hf_config = config_to_transformers(model.config)
    check_router_to(model, legacy_router_view)
    buffers = {name for name, _ in model.named_buffers()}
    ours = {name: tensor.detach() for name, tensor in model.state_dict().items() if name not in buffers}
    if model.config.head.tied:
        del ours["head.weight"]
    renamed = _nearest(model.config).weights_to(ours, model.config)
    auto, dtype = transformers_library().AutoModelForCausalLM, next(model.parameters()).dtype
    theirs = auto.from_config(hf_config, dtype=dtype, **_experts_kernel(model.config))
    missing, unexpected = theirs.load_state_dict(renamed, strict=False)
    tied = model.config.head.tied
    _check_complete([name for name in missing if not (tied and name == "lm_head.weight")], unexpected)
    return theirs.train(model.training)


def config_to_transformers(config: ModelConfig) -> Any:
    """The transformers config for ours; ValueError lists what stands against it."""
    family = _nearest(config)
    family.refuse(config)
    return family.config_to(config)


def _experts_kernel(config: ModelConfig) -> dict[str, str]:
    """PyTorch's grouped product, transformers' choice for experts, refuses rows that are no multiple of 16 bytes."""
    bank = config.feed_forward.moe is not None and config.feed_forward.moe.route == "token"
    uneven = config.dim % 8 or config.feed_forward.hidden % 8
    return {"experts_implementation": "eager"} if bank and uneven else {}


def _check_complete(missing: list[str], unexpected: list[str]) -> None:
    if missing or unexpected:
        raise ValueError(f"the translation is incomplete: missing {missing}, unexpected {unexpected}")


def save_transformers(
    model: LanguageModel, path: str | Path, tokenizer: Any = None, *, legacy_router_view: bool | None = None
) -> None:
    """Write a folder that `AutoModelForCausalLM.from_pretrained` opens, and `AutoTokenizer` where a tokenizer is given.

    `tokenizer` is one of ours (with `to_huggingface()`), a `tokenizers.Tokenizer`, or the path of a tokenizer.json.
    """
    hf = transformers_library()
    to_transformers(model, legacy_router_view=legacy_router_view).save_pretrained(path)
    if isinstance(tokenizer, str | Path):
        fast = hf.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer))
    elif tokenizer is not None:
        theirs = tokenizer.to_huggingface() if hasattr(tokenizer, "to_huggingface") else tokenizer
        fast = hf.PreTrainedTokenizerFast(tokenizer_object=theirs)
    else:
        return
    fast.model_max_length = model.config.context_length
    fast.save_pretrained(path)


def load_transformers(path: str | Path, *, legacy_router_view: bool | None = None) -> LanguageModel:
    """The model in a transformers folder as ours. Nothing is unpickled: only safetensors weights are read."""
    theirs = transformers_library().AutoModelForCausalLM.from_pretrained(path, use_safetensors=True)
    return from_transformers(theirs, legacy_router_view=legacy_router_view)
