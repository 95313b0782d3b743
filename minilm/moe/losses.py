"""What is added to the loss so that all experts find work, and measures of how evenly they did.

The losses are means over the rows (tokens, or samples) of one forward pass; the measures take shares or counts, one for each expert.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def load_balancing_loss(
    probabilities: Float[Tensor, "rows experts"], experts: Int[Tensor, "rows k"], num_experts: int
) -> Float[Tensor, ""]:
    """E * sum_e f_e * P_e, where f_e is the share of choices that fell on e, P_e its mean probability (Fedus et al. 2022, eq. 4).

    It is 1 when both are even and E when one expert has all. f counts and has no gradient; through P the loss takes probability
    from those who are chosen often. With k > 1 the shares are of all rows * k choices, so that they sum to 1.
    """
    counts = probabilities.new_zeros(num_experts).scatter_add_(
        0, experts.flatten(), probabilities.new_ones(experts.numel())
    )
    return num_experts * (counts / experts.numel() * probabilities.mean(dim=0)).sum()


def importance_loss(probabilities: Float[Tensor, "rows experts"]) -> Float[Tensor, ""]:
    """CV(importance)^2, where an expert's importance is the sum of its probabilities over the rows (Shazeer et al. 2017, eq. 7).

    They sum the weights of the chosen alone. Here all probabilities count, so that it also balances where one expert is chosen
    and its weight is 1.
    """
    importance = probabilities.sum(dim=0)
    return importance.var(correction=0) / importance.mean().square()


def z_loss(logits: Float[Tensor, "rows experts"]) -> Float[Tensor, ""]:
    """The mean of logsumexp(logits)^2, which keeps a router's logits small (ST-MoE, Zoph et al. 2022, eq. 5)."""
    return logits.logsumexp(dim=-1).square().mean()


def coefficient_of_variation(usage: Float[Tensor, "*shape experts"]) -> Float[Tensor, "*shape"]:
    """Standard deviation over mean of the experts' shares: 0 when even, sqrt(E - 1) when one expert has all.

    The deviation is the population's (divided by E). 0 where nothing was used at all.
    """
    usage = usage.double() if not usage.is_floating_point() else usage
    mean = usage.mean(dim=-1)
    return torch.where(mean > 0, usage.std(dim=-1, correction=0) / mean.clamp(min=1e-12), 0.0)


def usage_entropy(usage: Float[Tensor, "*shape experts"]) -> Float[Tensor, "*shape"]:
    """The entropy of the experts' shares in nats: ln E when even, 0 when one expert has all."""
    usage = usage.double() if not usage.is_floating_point() else usage
    share = usage / usage.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    entropy: Tensor = torch.special.entr(share).sum(dim=-1)
    return entropy + 0.0  # no -0
