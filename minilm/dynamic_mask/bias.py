"""The bias of a key, which keys a query keeps by it, and attention with such a bias."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minilm.attention import attend_fast

ROUNDING = 16  # biases that differ by less than this many units in the last place count as equal


def dynamic_mask_bias(
    values: Float[Tensor, "batch kv_heads keys head_dim"],
    weight: Float[Tensor, "owners kv_heads*head_dim"],
    factors: Float[Tensor, "owners"],
    weight_bias: Float[Tensor, "owners"] | None = None,
) -> Float[Tensor, "batch owners keys"]:
    """What is added to every score of a key: exp(A softplus(W v)), where v is the key's value, all key-value heads in one vector.

    `factors` is A, one number for each owner of a mask: each head, or each key-value head. At A = 0 every bias is 1, which changes
    no weight; A < 0 holds biases between 0 and 1; A > 0 lets them grow without bound. Half precision is computed in float32.
    """
    wide = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
    flat = wide.transpose(1, 2).flatten(2)  # batch keys kv_heads*head_dim
    steps = F.softplus(F.linear(flat, weight.to(wide.dtype), None if weight_bias is None else weight_bias.to(wide)))
    return (factors.to(wide.dtype) * steps).exp().mT


def keep_top(
    bias: Float[Tensor, "*batch keys"], allowed: Bool[Tensor, "*#batch queries keys"], keep: int
) -> Bool[Tensor, "*batch queries keys"]:
    """For each query, the `keep` keys of the largest bias among those it is allowed to see. Of equal biases the later key wins.

    Equal is up to rounding. Ties are common: in a first layer a token has one value, and one bias, wherever it stands, and the
    last digits of a product depend on the shape of the whole. (`torch.topk` leaves open which of equal entries it takes.)

    Nothing flows back through a choice: gradients reach the biases of chosen keys through the scores, and no others.

    >>> keep_top(torch.tensor([0.5, 0.9, 0.1, 0.5]), torch.ones(4, 4, dtype=torch.bool).tril(), keep=2).int().tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 1]]
    """
    if keep < 1:
        raise ValueError(f"keep = {keep}: a query keeps at least 1 key")
    keys = bias.shape[-1]
    # Sort once for all queries; then the keys that a query keeps are the first `keep` of those it is allowed to see.
    best_first = keys - 1 - _levels(bias.detach()).flip(-1).argsort(dim=-1, stable=True)
    shape = (*bias.shape[:-1], allowed.shape[-2], keys)
    order = best_first[..., None, :].expand(shape)
    ranked = allowed.expand(shape).gather(-1, order)
    ranked &= ranked.cumsum(-1, dtype=torch.int32) <= keep
    return torch.zeros_like(ranked).scatter(-1, order, ranked)


def _levels(bias: Float[Tensor, "*batch keys"]) -> Int[Tensor, "*batch keys"]:
    """0 for the largest, 1 for the next, ..., with one number for all that are equal up to rounding."""
    falling, order = bias.sort(dim=-1, descending=True)
    tolerance = ROUNDING * torch.finfo(bias.dtype).eps * falling.abs()
    below = falling[..., 1:] < (falling - tolerance)[..., :-1]
    return torch.zeros_like(order).scatter(-1, order, F.pad(below.long().cumsum(-1), (1, 0)))


def attend_with_bias(
    q: Float[Tensor, "batch heads queries head_dim"],
    k: Float[Tensor, "batch kv_heads keys head_dim"],
    v: Float[Tensor, "batch kv_heads keys head_dim"],
    bias: Float[Tensor, "batch owners keys"],
    mask: Bool[Tensor, "#batch #owners queries keys"] | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads queries head_dim"]:
    """softmax(q k^T / sqrt(head_dim) + bias) v on PyTorch's fused kernel, with a bias that depends on the key alone.

    Such a bias is one more channel: [q, 1] . [k, bias] = q . k + bias. So no number is stored for each pair of query and key, and
    the gradient reaches the bias as it reaches a key. `mask` may have owners (heads, or key-value heads) or heads.
    """
    heads, head_dim = q.shape[1], q.shape[-1]
    k, v = repeat_to(k, bias.shape[1]), repeat_to(v, bias.shape[1])  # the keys of each owner of a bias
    channel = (bias * math.sqrt(head_dim)).to(k.dtype)[..., None]  # the kernel divides it by the root again
    q, k, v = F.pad(q, (0, 1), value=1.0), torch.cat((k, channel), dim=-1), F.pad(v, (0, 1))
    mask = mask if mask is None or mask.shape[1] == 1 else repeat_to(mask, heads)
    return attend_fast(q, k, v, mask, causal, dropout, scale=head_dim**-0.5)[..., :head_dim]


def repeat_to(x: Float[Tensor, "batch few *rest"], many: int) -> Float[Tensor, "batch many *rest"]:
    """Each of the few for its group of consecutive many."""
    return x.repeat_interleave(many // x.shape[1], dim=1) if many != x.shape[1] else x
