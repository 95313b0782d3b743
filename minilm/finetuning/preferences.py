"""Learning from preferences without a reward model: DPO, IPO and KTO, as functions of the log-probabilities of whole answers.

All of them compare the policy with the reference it started from by the implicit reward of an answer y to x,

    r(x, y) = beta * (ln pi(y | x) - ln pi_ref(y | x)),

which is, up to a number that depends on x alone, the reward that pi would be the best answer to if leaving pi_ref cost beta a
nat (Rafailov et al. 2023, equation 5). DPO makes Bradley and Terry's judge of that reward agree with the labels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from minilm.config import Config
from minilm.data.windows import IGNORE

LossKind = Literal["dpo", "ipo", "kto"]


@dataclass(frozen=True)
class PreferenceConfig(Config):
    """How a policy learns from preferences."""

    loss: LossKind = "dpo"
    beta: float = 0.1  # what leaving the reference costs, in units of reward a nat
    label_smoothing: float = 0.0  # dpo: the share of labels that are taken to be wrong (conservative DPO)
    average: bool = False  # log-probabilities a token instead of an answer (TRL's IPO)
    chosen_weight: float = 1.0  # kto: how much answers that are liked count
    rejected_weight: float = 1.0  # kto: how much those that are not count

    def validate(self) -> None:
        """Check ranges."""
        if not self.beta > 0:
            raise ValueError(f"PreferenceConfig.beta = {self.beta}: it must be above 0")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(
                f"PreferenceConfig.label_smoothing = {self.label_smoothing}: from 0 to below 0.5, where labels mean nothing"
            )
        if self.label_smoothing and self.loss != "dpo":
            raise ValueError(f"PreferenceConfig.label_smoothing is dpo's, not {self.loss}'s: leave it 0")
        for name in ("chosen_weight", "rejected_weight"):
            if not getattr(self, name) > 0:
                raise ValueError(f"PreferenceConfig.{name} = {getattr(self, name)}: it must be above 0")


def sequence_log_probs(
    logits: Float[Tensor, "batch seq vocab"], targets: Int[Tensor, "batch seq"], average: bool = False
) -> Float[Tensor, "batch"]:
    """ln p of each row's targets that are not `IGNORE`, in nats: their sum, or with `average` their mean. In float32 at least."""
    if logits.shape[:-1] != targets.shape:
        raise ValueError(f"logits {list(logits.shape)} and targets {list(targets.shape)} do not fit")
    kept = targets != IGNORE
    wide = logits if logits.dtype == torch.float64 else logits.float()
    places = targets.where(kept, 0)[..., None]
    each = (wide.gather(-1, places)[..., 0] - wide.logsumexp(dim=-1)).where(kept, 0.0)
    return each.sum(dim=-1) / kept.sum(dim=-1) if average else each.sum(dim=-1)


def implicit_reward(
    policy: Float[Tensor, "*shape"], reference: Float[Tensor, "*shape"], beta: float
) -> Float[Tensor, "*shape"]:
    """beta * (ln pi - ln pi_ref) of answers: what DPO takes for their reward."""
    return beta * (policy - reference)


def dpo_loss(
    policy_chosen: Float[Tensor, "pairs"],
    policy_rejected: Float[Tensor, "pairs"],
    reference_chosen: Float[Tensor, "pairs"],
    reference_rejected: Float[Tensor, "pairs"],
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Float[Tensor, "pairs"]:
    """-ln sigmoid of the difference of implicit rewards, of each pair (Rafailov et al. 2023, equation 7).

    At the reference itself it is ln 2, and its gradient to ln pi(chosen) is -beta / 2. With label_smoothing = e it is
    (1 - e) of that and e of the loss of the swapped pair (Mitchell 2023): then certainty costs, too.
    """
    difference = beta * ((policy_chosen - reference_chosen) - (policy_rejected - reference_rejected))
    return -(1 - label_smoothing) * F.logsigmoid(difference) - label_smoothing * F.logsigmoid(-difference)


def ipo_loss(
    policy_chosen: Float[Tensor, "pairs"],
    policy_rejected: Float[Tensor, "pairs"],
    reference_chosen: Float[Tensor, "pairs"],
    reference_rejected: Float[Tensor, "pairs"],
    beta: float = 0.1,
) -> Float[Tensor, "pairs"]:
    """(difference of log-ratios - 1 / (2 beta))^2, of each pair (Azar et al. 2023, equation 17; their tau is beta).

    Where DPO always wants more difference, this wants so much and no more: it can't run away where all labels agree.
    """
    difference = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)
    return (difference - 1 / (2 * beta)) ** 2


def kto_loss(
    policy_chosen: Float[Tensor, "chosen"],
    policy_rejected: Float[Tensor, "rejected"],
    reference_chosen: Float[Tensor, "chosen"],
    reference_rejected: Float[Tensor, "rejected"],
    policy_mismatched: Float[Tensor, "mismatched"],
    reference_mismatched: Float[Tensor, "mismatched"],
    beta: float = 0.1,
    chosen_weight: float = 1.0,
    rejected_weight: float = 1.0,
) -> Float[Tensor, "answers"]:
    """1 - sigmoid(reward - z) of answers that are liked, 1 - sigmoid(z - reward) of those that are not (Ethayarajh et al. 2024).

    No pairs are needed: answers are liked or not one by one, and there may be more of one kind. The point of comparison is
    z = beta * KL(pi || pi_ref), estimated on answers to other prompts (`mismatched`), never below 0, and without gradient.
    """
    z = beta * (policy_mismatched - reference_mismatched).mean().clamp(min=0).detach()
    chosen = 1 - torch.sigmoid(implicit_reward(policy_chosen, reference_chosen, beta) - z)
    rejected = 1 - torch.sigmoid(z - implicit_reward(policy_rejected, reference_rejected, beta))
    return torch.cat([chosen_weight * chosen, rejected_weight * rejected])


@dataclass(frozen=True)
class PreferenceReport:
    """Where a policy stands on some pairs. `print` it.

    `accuracy` is the share of pairs whose chosen answer has the larger implicit reward, `margin` the mean difference of the two.
    `chosen` and `rejected` are mean log-probabilities of answers in nats, `chosen_change` and `rejected_change` their differences
    to the reference's: both may fall while the margin grows (likelihood displacement, Razin et al. 2024), since the loss sees the
    difference only.
    """

    pairs: int
    accuracy: float
    margin: float
    chosen: float
    rejected: float
    chosen_change: float
    rejected_change: float

    @classmethod
    def of(
        cls,
        policy_chosen: Tensor,
        policy_rejected: Tensor,
        reference_chosen: Tensor,
        reference_rejected: Tensor,
        beta: float,
    ) -> "PreferenceReport":
        """The report of pairs by the log-probabilities of their answers; equal rewards count as half right."""
        chosen = implicit_reward(policy_chosen, reference_chosen, beta)
        rejected = implicit_reward(policy_rejected, reference_rejected, beta)
        right = (chosen > rejected).double() + 0.5 * (chosen == rejected).double()
        return cls(
            pairs=len(chosen),
            accuracy=float(right.mean()),
            margin=float((chosen - rejected).mean()),
            chosen=float(policy_chosen.mean()),
            rejected=float(policy_rejected.mean()),
            chosen_change=float((policy_chosen - reference_chosen).mean()),
            rejected_change=float((policy_rejected - reference_rejected).mean()),
        )

    @property
    def displaced(self) -> bool:
        """Whether the chosen answers have become less likely than they were: their probability went elsewhere."""
        return self.chosen_change < 0

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by the names that logs use."""
        return {
            "preference_accuracy": self.accuracy,
            "reward_margin": self.margin,
            "chosen_change": self.chosen_change,
            "rejected_change": self.rejected_change,
        }

    def __str__(self) -> str:
        return "\n".join(
            (
                f"{'pairs':<20}{self.pairs:>10,}",
                f"{'accuracy':<20}{self.accuracy:>10.1%}",
                f"{'reward margin':<20}{self.margin:>10.3f}",
                f"{'ln p(chosen)':<20}{self.chosen:>10.2f}   {self.chosen_change:+.2f} since the reference",
                f"{'ln p(rejected)':<20}{self.rejected:>10.2f}   {self.rejected_change:+.2f} since the reference",
            )
        )
