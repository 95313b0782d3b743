"""The loss of a head with many tokens, without ever holding all of its logits.

With 2,048 positions and 32,768 tokens the logits take 256 MB, their log-probabilities and their gradient as much again, and all three
outweigh the rest of a small model. But the gradient of the loss is known as soon as the logits are (p - wanted): so a few positions
at a time are taken through head, loss and gradient, and what stays is as large as the hidden states and the head's matrix.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from minilm.data.windows import IGNORE
from minilm.training.losses import Smoothing, check_loss, check_targets, wanted_shares


def linear_cross_entropy(
    hidden: Float[Tensor, "*shape dim"],
    weight: Float[Tensor, "vocab dim"],
    targets: Int[Tensor, "*shape"],
    bias: Float[Tensor, "vocab"] | None = None,
    *,
    chunk: int = 256,
    label_smoothing: float = 0.0,
    smoothing: Smoothing = "uniform",
    z_loss: float = 0.0,
) -> Float[Tensor, ""]:
    """`cross_entropy(F.linear(hidden, weight, bias), targets, ...)`, computed for `chunk` positions at a time.

    Value and gradients are the same to rounding; there is no second derivative. The memory that it needs beyond its inputs and their
    gradients grows with chunk * vocab instead of positions * vocab. Under autocast the products are computed in its precision; the
    loss, and the sum of the head's gradients over chunks, in float32 at least.

    Raises ValueError as `cross_entropy` does, and for a chunk below 1.
    """
    if chunk < 1:
        raise ValueError(
            f"chunk = {chunk}: positions are taken at least one at a time (256 suits a vocabulary of 32,768)"
        )
    check_loss((*hidden.shape[:-1], len(weight)), targets, label_smoothing, smoothing)
    targets = targets.flatten()
    kept = targets != IGNORE
    places = targets.where(kept, 0)
    check_targets(places, len(weight))
    own, elsewhere = wanted_shares(len(weight), label_smoothing, smoothing)
    device = hidden.device.type
    product = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    with torch.autocast(device, enabled=False):
        total: Tensor = _ChunkedLoss.apply(  # type: ignore[no-untyped-call]
            hidden.flatten(0, -2), weight, bias, places, kept, chunk, own, elsewhere, z_loss, product
        )
    return total / kept.sum()


class _ChunkedLoss(torch.autograd.Function):
    """The sum of the losses of all kept positions. Gradients are computed along with it, and only scaled on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        places: Tensor,
        kept: Tensor,
        chunk: int,
        own: float,
        elsewhere: float,
        z_loss: float,
        product: torch.dtype | None,
    ) -> Tensor:
        product = product or weight.dtype
        wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
        matrix, offset = weight.to(product), None if bias is None else bias.to(product)
        wants = ctx.needs_input_grad
        hidden_gradient = torch.empty_like(hidden) if wants[0] else None
        weight_gradient = torch.zeros_like(weight, dtype=wide) if wants[1] else None
        bias_gradient = torch.zeros_like(bias, dtype=wide) if wants[2] and bias is not None else None
        total = hidden.new_zeros((), dtype=wide)
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            read = hidden[rows].to(product)
            logits = F.linear(read, matrix, offset).to(wide)  # chunk vocab
            log_p = logits.log_softmax(dim=-1)
            losses = -own * log_p.gather(-1, places[rows, None])[:, 0]
            if elsewhere:
                losses -= elsewhere * log_p.sum(dim=-1)
            pull = kept[rows].to(wide)
            gradient_scale = pull
            if z_loss:
                lse = logits.logsumexp(dim=-1)
                losses += z_loss * lse.square()
                gradient_scale = pull * (1 + 2 * z_loss * lse)
            total += losses.where(kept[rows], 0).sum()
            if not any(wants[:3]):
                continue
            gradient = log_p.exp_().mul_(
                gradient_scale[:, None]
            )  # (1 + 2 z_loss lse) p - wanted, as in `cross_entropy`
            if elsewhere:
                gradient -= (pull * elsewhere)[:, None]
            gradient.scatter_add_(-1, places[rows, None], -(pull * own)[:, None])
            if bias_gradient is not None:
                bias_gradient += gradient.sum(dim=0)
            gradient = gradient.to(product)
            if hidden_gradient is not None:
                hidden_gradient[rows] = gradient @ matrix
            if weight_gradient is not None and product == wide:
                weight_gradient.addmm_(gradient.T, read)
            elif weight_gradient is not None:
                weight_gradient += gradient.T @ read
        ctx.save_for_backward(hidden_gradient, weight_gradient, bias_gradient)
        ctx.dtypes = weight.dtype, None if bias is None else bias.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        return (
            None if hidden is None else hidden * gradient.to(hidden.dtype),
            None if weight is None else (weight * gradient).to(ctx.dtypes[0]),
            None if bias is None else (bias * gradient).to(ctx.dtypes[1]),
            *[None] * 7,
        )
