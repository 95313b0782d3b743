"""Bringing tokens to their experts and back: a loop to read, and a fast form that equals it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from minilm.moe.experts import Expert, ExpertBank
from minilm.moe.routing import Routing


def dispatch_loop(
    x: Float[Tensor, "tokens dim"], routing: Routing, experts: Sequence[Expert] | ExpertBank
) -> Float[Tensor, "tokens dim"]:
    """y_t = sum over the experts e that token t goes to of weight_te * expert_e(x_t), expert after expert."""
    y = torch.zeros_like(x)
    for e in range(len(experts)):
        chosen = routing.experts == e  # tokens k
        if routing.kept is not None:
            chosen = chosen & routing.kept
        tokens, slots = chosen.nonzero(as_tuple=True)
        if len(tokens):
            update = routing.weights[tokens, slots, None] * experts[e](x[tokens])
            y = y.index_add(0, tokens, update.to(y.dtype))
    return y


def dispatch_sorted(
    x: Float[Tensor, "tokens dim"], routing: Routing, experts: Sequence[Expert] | ExpertBank
) -> Float[Tensor, "tokens dim"]:
    """The same with the tokens laid out in the order of their experts, so that each expert finds its own side by side."""
    k = routing.experts.shape[1]
    wishes = routing.experts.flatten()  # tokens*k
    if routing.kept is not None:
        wishes = wishes.where(routing.kept.flatten(), len(experts))  # whoever had no room comes last, and is left out
    order = wishes.argsort(stable=True)
    sizes = share_out(wishes, len(experts), routing.capacity)
    order = order[: sum(sizes)]
    tokens = order // k
    pieces = torch.split(x[tokens], sizes)
    outputs = [expert(piece) for expert, piece in zip(experts, pieces, strict=True) if len(piece)]
    if not outputs:
        return torch.zeros_like(x)
    update = torch.cat(outputs) * routing.weights.flatten()[order, None]
    return torch.zeros_like(x).index_add(0, tokens, update.to(x.dtype))


def share_out(wishes: Int[Tensor, "wishes"], num_experts: int, capacity: int | None = None) -> list[int]:
    """How many wishes each expert has. Tensors without values (a dry run for the accounts) are taken to be spread evenly."""
    if isinstance(wishes, FakeTensor) or wishes.is_meta:
        share, rest = divmod(len(wishes), num_experts)
        shares = [share + (e < rest) for e in range(num_experts)]
        return shares if capacity is None else [min(each, capacity) for each in shares]
    return torch.bincount(wishes, minlength=num_experts)[:num_experts].tolist()
