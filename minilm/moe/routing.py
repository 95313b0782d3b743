"""Who goes where: from a router's logits to a choice of experts and their weights, as functions that learn nothing."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minilm.config import OverflowKind, ScoringKind


@dataclass(frozen=True)
class Routing:
    """What a router decided for each row: a token, or a whole sequence of `tokens_per_row` tokens.

    `weights` carry the gradient back to the router. Where `kept` is False the expert had no room and takes no part, whatever
    `experts` and `weights` say there.
    """

    experts: Int[Tensor, "rows k"]  # by number
    weights: Float[Tensor, "rows k"]  # what the outputs of these experts are multiplied with before they are added
    probabilities: Float[Tensor, "rows experts"]  # of all experts, from the logits; each row sums to 1
    logits: Float[Tensor, "rows experts"]
    kept: Bool[Tensor, "rows k"] | None = None  # None: all of them
    wanted: Int[Tensor, "rows k"] | None = None  # the choice had there been room for everyone; None: as `experts`
    capacity: int | None = None  # how many rows an expert may serve; None: as many as come
    tokens_per_row: int = 1

    @property
    def num_experts(self) -> int:
        """How many experts there are to choose from."""
        return self.probabilities.shape[-1]

    @property
    def counts(self) -> Int[Tensor, "experts"]:
        """How many rows each expert serves."""
        return _count(self.experts, self.num_experts, self.kept)

    @property
    def demand(self) -> Int[Tensor, "experts"]:
        """How many rows wanted each expert, room or no room."""
        return self.counts if self.wanted is None else _count(self.wanted, self.num_experts)

    @property
    def dropped(self) -> float:
        """The share of wishes that found no room at all."""
        return 0.0 if self.kept is None else 1 - float(self.kept.float().mean())

    def detach(self) -> "Routing":
        """The same without gradients, to look at."""
        return replace(
            self,
            weights=self.weights.detach(),
            probabilities=self.probabilities.detach(),
            logits=self.logits.detach(),
        )

    def by_token(self) -> "Routing":
        """The same with a row for every token."""
        n = self.tokens_per_row
        if n == 1:
            return self
        return Routing(
            experts=self.experts.repeat_interleave(n, 0),
            weights=self.weights.repeat_interleave(n, 0),
            probabilities=self.probabilities.repeat_interleave(n, 0),
            logits=self.logits.repeat_interleave(n, 0),
            kept=None if self.kept is None else self.kept.repeat_interleave(n, 0),
            wanted=None if self.wanted is None else self.wanted.repeat_interleave(n, 0),
            capacity=self.capacity and self.capacity * n,
        )


def _count(experts: Int[Tensor, "rows k"], num_experts: int, kept: Bool[Tensor, "rows k"] | None = None) -> Tensor:
    ones = torch.ones_like(experts) if kept is None else kept.to(experts.dtype)
    return experts.new_zeros(num_experts).scatter_add_(0, experts.flatten(), ones.flatten())


def top_k_route(
    logits: Float[Tensor, "rows experts"],
    k: int,
    *,
    scoring: ScoringKind = "softmax",
    normalize: bool = False,
    bias: Float[Tensor, "experts"] | None = None,
    capacity: int | None = None,
    overflow: OverflowKind = "next",
) -> Routing:
    """Each row its k best experts, in descending order.

    - "softmax": a score is the expert's probability among all; with `normalize` the chosen k are made to sum to 1. For k = 1
      un-normalised this is Switch (Fedus et al. 2022). Normalised, one expert's weight is 1 whatever the logits are, and the
      router learns nothing from the task.
    - "softmax-chosen": the softmax of the chosen logits alone, which is the same number as "softmax" normalised (Mixtral).
    - "sigmoid": each expert's score is its own, sigmoid(logit) (DeepSeek-V3, with `normalize`).

    `bias` is added to the scores for the choice only, and weighs nothing. `capacity`: see `choose`.
    """
    wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if scoring == "sigmoid":
        scores = wide.sigmoid()
        probabilities = scores / scores.sum(dim=-1, keepdim=True)
    else:
        scores = probabilities = wide.softmax(dim=-1)
    ranked = wide.detach() if bias is None else scores.detach() + bias
    experts, kept, wanted = choose(ranked, k, capacity, overflow)
    if scoring == "softmax-chosen":
        chosen = wide.gather(-1, experts)
        if kept is not None and overflow == "next":
            chosen = chosen.masked_fill(~kept, float("-inf")).masked_fill(~kept.any(dim=-1, keepdim=True), 0.0)
        weights = chosen.softmax(dim=-1)
    else:
        weights = scores.gather(-1, experts)
        if kept is not None and overflow == "next":
            weights = weights.where(kept, 0)
        if normalize:
            weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-20)
    return Routing(experts, weights, probabilities, wide, kept, wanted, capacity)


def choose(
    scores: Float[Tensor, "rows experts"], k: int, capacity: int | None = None, overflow: OverflowKind = "next"
) -> tuple[Int[Tensor, "rows k"], Bool[Tensor, "rows k"] | None, Int[Tensor, "rows k"] | None]:
    """The k best experts of each row; with a `capacity`, no expert serves more rows than that.

    Served first are all first choices, row by row, then all second choices, and so on (GShard, Lepikhin et al. 2021). Whoever
    comes to a full expert goes to the next best of all that are left ("next"), or without ("drop").
    Returns the experts, which of them are kept, and those that an unlimited capacity would have given; the latter two are None
    without a capacity.
    """
    if capacity is None:
        return scores.topk(k, dim=-1).indices, None, None
    num_experts = scores.shape[-1]
    order = scores.argsort(dim=-1, descending=True, stable=True)  # rows experts: every row's ranking, to the last
    wanted = order[:, :k]
    experts, kept = wanted.clone(), torch.zeros_like(wanted, dtype=torch.bool)
    slots = torch.arange(k, device=scores.device)
    held = torch.zeros_like(order[:, 0])
    taken = torch.zeros_like(order[0])
    for rank in range(k if overflow == "drop" else num_experts):
        expert = order[:, rank]
        asks = torch.zeros_like(order).scatter_(1, expert[:, None], (held < k).to(order.dtype)[:, None])
        place = (taken + asks.cumsum(dim=0)).gather(1, expert[:, None])[:, 0]  # 1 for the first in the queue
        accepted = (held < k) & (place <= capacity)
        here = accepted[:, None] & (slots == (rank if overflow == "drop" else held[:, None]))
        experts, kept = torch.where(here, expert[:, None], experts), kept | here
        held = held + accepted
        taken = taken + (asks * accepted[:, None]).sum(dim=0)
    return experts, kept, wanted


def capacity(rows: int, num_experts: int, k: int, factor: float = 1.0) -> int:
    """How many rows an expert may serve: `factor` times its even share, ceil(rows * k * factor / num_experts).

    >>> capacity(64, num_experts=4, k=1, factor=1.5)
    24
    """
    return min(rows, math.ceil(rows * k * factor / num_experts))


def expert_choice_route(logits: Float[Tensor, "rows experts"], capacity: int) -> Routing:
    """Each expert its `capacity` best rows (Zhou et al. 2022): the same load for all, and any number of experts a row.

    A row's weight for an expert is its softmax probability. `experts` names all of them in every row, and `kept` says which took it.
    """
    wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    probabilities = wide.softmax(dim=-1)
    rows = probabilities.detach().topk(capacity, dim=0).indices  # capacity experts
    kept = torch.zeros_like(probabilities, dtype=torch.bool).scatter_(0, rows, True)
    experts = torch.arange(logits.shape[-1], device=logits.device).expand_as(logits)
    return Routing(experts, probabilities, probabilities, wide, kept, capacity=capacity)
