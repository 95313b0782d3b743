"""From a trained dense model to one with experts, without losing a step: it computes what the dense one did until it is trained on."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from minilm.config import MoEConfig

if TYPE_CHECKING:
    from minilm.model import LanguageModel


def dense_to_sparse(model: "LanguageModel", moe: MoEConfig) -> "LanguageModel":
    """The model with experts in the place of each feed-forward, its weights inherited and its logits unchanged.

    - route "product-key": the shared SwiGLU is the old feed-forward, and the new experts write nothing yet: `up_embed` starts at
      zero. It has a gradient from the first step on; the router and `down_embed` from the second, as soon as an expert writes
      (Doge lets its experts inherit in the same way, but starts them at random).
    - route "token": every expert is a copy of the old feed-forward ("sparse upcycling", Komatsuzaki et al. 2022). Any mixture of
      copies with weights that sum to 1 is the old function; the router, new and random, tells them apart in training.

    The model given is left as it is. ValueError where the function could not be kept.
    """
    old = model.config.feed_forward
    if old.moe is not None or model.own_parts["feed_forward"] is not None:
        raise ValueError("this model's feed-forward is not a dense one of the config's: nothing to inherit")
    if old.kind != "gated":
        raise ValueError(f"experts are gated, and this model's feed-forward is {old.kind!r}: start from a gated model")
    copies = moe.route == "token"
    if moe.route not in ("token", "product-key"):
        raise ValueError(
            f"route = {moe.route!r} cannot start from a dense model unchanged: 'token' and 'product-key' can"
        )
    if copies and not (moe.normalize or moe.scoring == "softmax-chosen"):
        raise ValueError("copies add up to the old function only where weights sum to 1: set normalize=True")
    if copies and (moe.capacity_factor is not None or moe.shared_hidden is not None):
        raise ValueError("capacity_factor and shared_hidden change the function at once: leave them None")
    parts = {role: part for role, part in model.own_parts.items() if part is not None}
    like = next(model.parameters())
    sparse = type(model).from_config(
        model.config.replace(feed_forward={"moe": moe}), device=like.device, dtype=like.dtype, **parts
    )
    inherited: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        place, found, leaf = name.partition(".feed_forward.")
        if not found:
            inherited[name] = tensor
        elif not copies:
            inherited[f"{place}.feed_forward.shared.{leaf}"] = tensor
        else:
            _into_bank(inherited, f"{place}.feed_forward.experts", leaf, tensor, moe.num_experts)
    unknown = sparse.load_state_dict(inherited, strict=False).unexpected_keys
    assert not unknown, unknown
    if not copies:
        for name, parameter in sparse.named_parameters():
            if name.endswith("feed_forward.up_embed.weight"):
                torch.nn.init.zeros_(parameter)
    return sparse.train(model.training)


def _into_bank(bank: dict[str, Tensor], place: str, leaf: str, tensor: Tensor, num_experts: int) -> None:
    """A dense weight or bias as that of every expert; the rows of gate and up are joined."""
    matrix, _, kind = leaf.partition(".")
    name = {"gate_proj": "gate_up", "up_proj": "gate_up", "down_proj": "down"}[matrix]
    key = f"{place}.{name}_{'proj' if kind == 'weight' else 'bias'}"
    every = tensor.expand(num_experts, *tensor.shape)
    if name == "gate_up" and key in bank:  # gate comes before up in a state dict
        every = torch.cat((bank[key], every), dim=1)
    bank[key] = every.clone()
