"""How wrong a segment was: its cells, and its own opinion of whether they are right."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minilm.recursion.config import RecursionConfig
from minilm.recursion.model import Segment
from minilm.training.losses import cross_entropy


def stablemax(logits: Float[Tensor, "*shape vocab"]) -> Float[Tensor, "*shape vocab"]:
    """A softmax without exponentials: s / sum(s) with s(x) = x + 1 for x >= 0 and 1 / (1 - x) below (Prieto et al. 2025).

    Its gradient does not die once an answer is right by a wide margin, nor does float32 round it away.

    >>> stablemax(torch.tensor([-2.0, 0.0, 3.0])).tolist()
    [0.0625, 0.1875, 0.75]
    """
    s = _stable_exp(logits)
    return s / s.sum(dim=-1, keepdim=True)


def stablemax_cross_entropy(
    logits: Float[Tensor, "*shape vocab"], targets: Int[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """-ln stablemax(logits)[target] at every position, computed in float64 as HRM does."""
    s = _stable_exp(logits.double())
    own = s.gather(-1, targets[..., None])[..., 0]
    return (s.sum(dim=-1).log() - own.log()).to(logits.dtype)


def _stable_exp(x: Tensor) -> Tensor:
    # Each branch sees only its own side, so that neither can divide by zero where it is not chosen.
    return torch.where(x >= 0, x.clamp(min=0) + 1, 1 / (1 - x.clamp(max=0)))


@dataclass(frozen=True)
class SegmentLoss:
    """The loss of a segment and what it is made of."""

    total: Float[Tensor, ""]
    cells: Float[Tensor, ""]  # mean over cells, in nats
    halting: Float[Tensor, ""]
    solved: Bool[Tensor, "batch"]  # every cell right


def segment_loss(
    segment: Segment,
    targets: Int[Tensor, "batch cells"],
    config: RecursionConfig,
    going_on: Float[Tensor, "batch"] | None = None,
) -> SegmentLoss:
    """Cross-entropy of the cells plus halt_weight times the error of the halting head, each a mean over puzzles.

    The head learns whether the answer is right. With Q-learning it also learns what going on is worth: `going_on`, the target of
    `value_of_going_on`.
    """
    logits, halt, go_on = (_at_least_float32(x) for x in (segment.logits, segment.halt, segment.go_on))
    solved = (logits.detach().argmax(dim=-1) == targets).all(dim=-1)
    if config.loss == "stablemax":
        cells = stablemax_cross_entropy(logits, targets).mean()
    else:
        cells = cross_entropy(logits, targets)
    halting = cells.new_zeros(())
    if config.halting != "none":
        halting = F.binary_cross_entropy_with_logits(halt, solved.to(halt.dtype))
    if going_on is not None:
        halting = halting + F.binary_cross_entropy_with_logits(go_on, going_on)
    return SegmentLoss(cells + config.halt_weight * halting, cells.detach(), halting.detach(), solved)


def value_of_going_on(following: Segment, last: Bool[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """What going on is worth, by the segment that follows: the better of stopping and going on there.

    For puzzles that have had their `last` segment only stopping counts. This is HRM's Q-learning, without a second network: the
    target comes from the same weights, without a gradient.
    """
    best = torch.where(last, following.halt, torch.maximum(following.halt, following.go_on))
    return _at_least_float32(best).detach().sigmoid()


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
