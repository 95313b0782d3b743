"""What experts know about: the information between the expert that is chosen and a label, and how much of it chance would give.

Information counted on a sample is never 0, even where there is none: with E experts and L labels it is about (E - 1)(L - 1) / (2 n ln 2)
bits of n independent choices too high, and more where neighbours are alike. So the same labels are dealt out anew, at random, and
what is left above those is what the experts know.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


def mutual_information(experts: Int[Tensor, "tokens k"], labels: Int[Tensor, "tokens"]) -> float:
    """I(expert; label) in bits, as counted: how much the number of one of a token's k experts, drawn evenly, tells of its label.

    0 where they have nothing to do with each other, and the entropy of the labels where the expert says it all.
    """
    return _information(_table(experts, labels, int(experts.max()) + 1, int(labels.max()) + 1))


def expert_entropy(experts: Int[Tensor, "tokens k"]) -> float:
    """The entropy of one of a token's k experts, drawn evenly, in bits: the most that it can say of anything."""
    return _entropy(torch.bincount(experts.flatten()).double())


@dataclass(frozen=True)
class Information:
    """What experts know about a label, in bits a choice."""

    bits: float  # as counted
    chance: float  # the mean with labels dealt out anew
    high: float  # and what 19 of 20 of those stay below

    @property
    def above_chance(self) -> float:
        """The bits that chance doesn't explain; may come out a little below 0."""
        return self.bits - self.chance

    @property
    def found(self) -> bool:
        """Whether it is more than labels dealt out at random give but for 1 in 20."""
        return self.bits > self.high


def label_information(
    experts: Int[Tensor, "tokens k"],
    labels: Sequence[int] | Int[Tensor, "tokens"],
    *,
    owner: Sequence[int] | Int[Tensor, "tokens"] | None = None,
    given: Sequence[int] | Int[Tensor, "tokens"] | None = None,
    permutations: int = 100,
    seed: int = 0,
) -> Information:
    """I(expert; label | given) in bits, beside what it comes to with the labels dealt out anew.

    `owner` says which text a token belongs to, for a label that all tokens of a text share: then texts swap labels, and not tokens,
    because tokens of a text are alike in other things too. `given` is what the reader is told beforehand (the language, say): the
    information is averaged over its values, and labels are swapped within each.
    """
    label: Tensor = torch.as_tensor(labels)
    told: Tensor = torch.zeros_like(label) if given is None else torch.as_tensor(given)
    text = torch.arange(len(label))
    label_of, told_of = label, told
    if owner is not None:
        text = torch.as_tensor(owner).unique(return_inverse=True)[1]  # type: ignore[no-untyped-call]
        label_of = label.new_zeros(int(text.max()) + 1).scatter_(0, text, label)
        told_of = told.new_zeros(len(label_of)).scatter_(0, text, told)
        if not (torch.equal(label_of[text], label) and torch.equal(told_of[text], told)):
            raise ValueError("with `owner`, all tokens of a text must have the same label, and the same `given`")
    sizes = int(experts.max()) + 1, int(label.max()) + 1
    parts = [(told == value, (told_of == value).nonzero()[:, 0]) for value in sorted(set(told.tolist()))]
    weights = [float(tokens.double().mean()) for tokens, _ in parts]

    def counted(dealt: Int[Tensor, "owners"]) -> float:
        values = [
            weight * _information(_table(experts[tokens], dealt[text[tokens]], *sizes))
            for weight, (tokens, _) in zip(weights, parts, strict=True)
        ]
        return sum(values)

    generator = torch.Generator().manual_seed(seed)
    random = []
    for _ in range(permutations):
        dealt = label_of.clone()
        for _, members in parts:
            dealt[members] = label_of[members[torch.randperm(len(members), generator=generator)]]
        random.append(counted(dealt))
    chance = torch.tensor(random)
    return Information(counted(label_of), float(chance.mean()), float(chance.quantile(0.95)))


def _table(
    experts: Int[Tensor, "tokens k"], labels: Int[Tensor, "tokens"], num_experts: int, num_labels: int
) -> Float[Tensor, "experts labels"]:
    """How often each expert met each label."""
    pairs = experts * num_labels + labels[:, None]
    return torch.bincount(pairs.flatten(), minlength=num_experts * num_labels).view(num_experts, num_labels).double()


def _entropy(counts: Float[Tensor, "*any"]) -> float:
    share = counts / counts.sum()
    return -float(torch.special.xlogy(share, share).sum()) / 0.6931471805599453


def _information(table: Float[Tensor, "experts labels"]) -> float:
    """H(expert) + H(label) - H(both), which rounding may not take below 0."""
    return max(0.0, _entropy(table.sum(dim=1)) + _entropy(table.sum(dim=0)) - _entropy(table))
