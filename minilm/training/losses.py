"""How wrong a prediction was: cross-entropy by hand, with what the field hangs on it.

For one position with logits z and target y the loss is -ln p[y], where ln p = z - lse(z), and lse(z) = ln sum exp z is computed as
max(z) + ln sum exp(z - max(z)), so that no exponential overflows. Its gradient is p - wanted, where wanted is 1 at the target and 0
elsewhere; written down here, it takes about a third of the time that differentiating operation by operation does.
"""

from collections.abc import Collection, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from minilm.data.windows import IGNORE

Reduction = Literal["mean", "sum", "none"]
Smoothing = Literal["uniform", "others"]


def cross_entropy(
    logits: Float[Tensor, "*shape vocab"],
    targets: Int[Tensor, "*shape"],
    *,
    ignore_index: int | Collection[int] = IGNORE,
    label_smoothing: float = 0.0,
    smoothing: Smoothing = "uniform",
    z_loss: float = 0.0,
    reduction: Reduction = "mean",
) -> Float[Tensor, "*reduced"]:
    """The mean of -ln p(target), in nats, over the targets that are not `ignore_index` (one id or several).

    `label_smoothing` asks for a little probability elsewhere, and the two conventions differ in where (V: vocabulary):
    "uniform" spreads it over all tokens, so the target keeps 1 - eps + eps / V (Szegedy et al. 2016, PyTorch);
    "others" over the wrong ones, eps / (V - 1) each, so the target keeps 1 - eps (dlib).
    `z_loss` adds z_loss * lse(z)^2, which keeps the logits from drifting upwards together (PaLM, Chowdhery et al. 2022).
    Half-precision logits are taken to float32 first. `reduction="none"` gives 0 where the target is ignored.

    The mean over no target at all is NaN, as in PyTorch. Raises ValueError for a target off the vocabulary and for shapes
    that do not fit.
    """
    check_loss(logits.shape, targets, label_smoothing, smoothing)
    kept = is_kept(targets, ignore_index)
    places = targets.where(kept, 0)
    check_targets(places, logits.shape[-1])
    own, elsewhere = wanted_shares(logits.shape[-1], label_smoothing, smoothing)
    wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    losses: Tensor = _PositionLosses.apply(wide, places, own, elsewhere, z_loss)  # type: ignore[no-untyped-call]
    losses = losses.where(kept, 0)
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / kept.sum()


class _PositionLosses(torch.autograd.Function):
    """At each position -sum_v wanted[v] ln p[v] + z_loss * lse^2, where wanted is `elsewhere` on all tokens and `own` more on the target.

    The gradient to the logits is (1 + 2 z_loss lse) p - wanted.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, places: Tensor, own: float, elsewhere: float, z_loss: float) -> Tensor:
        log_p = logits.log_softmax(dim=-1)
        losses = -own * log_p.gather(-1, places[..., None])[..., 0]
        if elsewhere:
            losses -= elsewhere * log_p.sum(dim=-1)
        pull = None
        if z_loss:
            lse = logits.logsumexp(dim=-1)
            losses += z_loss * lse.square()
            pull = 1 + 2 * z_loss * lse
        ctx.save_for_backward(log_p, places, pull)
        ctx.own, ctx.elsewhere = own, elsewhere
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        log_p, places, pull = ctx.saved_tensors
        result = log_p.exp().mul_((gradient if pull is None else gradient * pull)[..., None])
        if ctx.elsewhere:
            result -= (gradient * ctx.elsewhere)[..., None]
        result.scatter_add_(-1, places[..., None], -(gradient * ctx.own)[..., None])
        return result, None, None, None, None


def is_kept(targets: Int[Tensor, "*shape"], ignore_index: int | Collection[int] = IGNORE) -> Bool[Tensor, "*shape"]:
    """Which targets take part in the loss."""
    if isinstance(ignore_index, int):
        return targets != ignore_index
    ignored = torch.tensor(list(ignore_index), dtype=targets.dtype, device=targets.device)
    return ~torch.isin(targets, ignored)


def smoothing_floor(vocab_size: int, label_smoothing: float, smoothing: Smoothing = "uniform") -> float:
    """The lowest loss that label smoothing leaves, reached by predicting the smoothed distribution itself: its entropy.

    >>> round(smoothing_floor(3500, 0.1, "others"), 2)  # dlib's default on its byte-pair model
    1.14
    """
    spread = vocab_size if smoothing == "uniform" else vocab_size - 1
    elsewhere = torch.tensor(label_smoothing / spread, dtype=torch.float64)
    own = 1 - elsewhere * (vocab_size - 1)
    return float(-torch.special.xlogy(own, own) - (vocab_size - 1) * torch.special.xlogy(elsewhere, elsewhere))


def wanted_shares(vocab_size: int, label_smoothing: float, smoothing: Smoothing) -> tuple[float, float]:
    """What the smoothed distribution asks for: of every token the second number, of the target the first one more."""
    elsewhere = label_smoothing / (vocab_size if smoothing == "uniform" else vocab_size - 1)
    return 1 - label_smoothing - (0.0 if smoothing == "uniform" else elsewhere), elsewhere


def check_loss(logits: Sequence[int], targets: Tensor, label_smoothing: float, smoothing: str) -> None:
    """Refuse targets that do not fit the shape of the logits, and options that mean nothing."""
    if tuple(logits[:-1]) != tuple(targets.shape):
        raise ValueError(
            f"logits {list(logits)} and targets {list(targets.shape)} do not fit: "
            "targets have the shape of the logits without their last dimension, the vocabulary"
        )
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing = {label_smoothing}: it is a share of the probability, from 0 to below 1")
    if smoothing not in ("uniform", "others"):
        raise ValueError(f"smoothing = {smoothing!r}: choose 'uniform' (PyTorch) or 'others' (dlib)")


def check_targets(places: Tensor, vocab_size: int) -> None:
    """Refuse ids off the vocabulary by name; on a GPU asking would hold up the queue, and its own assertion has to do."""
    if places.device.type == "cpu" and places.numel():
        low, high = (int(bound) for bound in places.aminmax())
        if low < 0 or high >= vocab_size:
            raise ValueError(
                f"target {low if low < 0 else high} is off the vocabulary of {vocab_size}: "
                "is the model's vocab_size the tokenizer's, and does ignore_index name what is to be left out?"
            )
