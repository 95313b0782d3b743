"""What a policy is pushed by: advantages of answers within their group, and losses on the log-probabilities of their tokens.

Shapes: an answer is a row of tokens, padded on the right; `mask` is True where a token belongs to the answer, its end token
included. All losses are to be minimised, in nats. The four choices that papers differ in are four arguments, so that each can be
changed alone: the baseline, the division by the standard deviation, what the loss is averaged over, and the clipping.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Baseline = Literal["group", "leave-one-out", "none"]
Average = Literal["answer", "token", "constant"]
KLEstimate = Literal["k1", "k2", "k3"]


def group_advantages(
    rewards: Float[Tensor, "prompts group"],
    *,
    baseline: Baseline = "group",
    divide_by_std: bool = True,
    eps: float = 1e-4,
) -> Float[Tensor, "prompts group"]:
    """How much better each answer is than the others to the same prompt: the baseline that needs no second network.

    - "group": A_i = r_i - mean(r), divided by (std(r) + eps) where asked (Shao et al. 2024, section 4.1; the paper doesn't say which
      standard deviation: TRL's has n - 1 below the root, and so has ours). Without the division this is Dr. GRPO's (Liu et al. 2025): dividing makes a prompt where one answer of
      sixteen differs weigh as much as one where eight do, which favours prompts that are nearly always or nearly never solved.
    - "leave-one-out": r_i minus the mean of the *other* answers (RLOO, Ahmadian et al. 2024): unbiased, n/(n-1) times "group".
    - "none": the rewards themselves, REINFORCE without a baseline (Williams 1992).

    A group whose rewards are all equal has only zeros: no signal (`zero_signal_share` counts them).
    """
    if rewards.dim() != 2:
        raise ValueError(
            f"rewards have shape {list(rewards.shape)}: one row a prompt, one column an answer; reshape them"
        )
    size = rewards.shape[1]
    if baseline != "none" and size < 2:
        raise ValueError(f"groups of {size} have nothing to compare an answer with: sample at least 2 answers a prompt")
    advantages = rewards
    if baseline != "none":
        advantages = rewards - rewards.mean(dim=1, keepdim=True)
    if baseline == "leave-one-out":
        advantages = advantages * (size / (size - 1))
    if divide_by_std:
        if size < 2:
            raise ValueError(f"groups of {size} have no standard deviation: pass divide_by_std=False")
        advantages = advantages / (rewards.std(dim=1, keepdim=True) + eps)
    return advantages


def zero_signal_share(rewards: Float[Tensor, "prompts group"]) -> float:
    """The share of groups whose answers are all equally good or bad: their advantages are zero, and they teach nothing."""
    return (rewards == rewards[:, :1]).all(dim=1).float().mean().item()


def averaged(
    values: Float[Tensor, "answers seq"],
    mask: Bool[Tensor, "answers seq"],
    average: Average = "answer",
    length: int | None = None,
) -> Float[Tensor, ""]:
    """One number of a value a token.

    - "answer": the mean within each answer, then over answers (GRPO): a token of a long answer weighs less than one of a short
      answer, so a wrong answer is punished less, token by token, the longer it is. That is the length bias.
    - "token": over all tokens of all answers alike (DAPO, Yu et al. 2025): long answers weigh more as a whole.
    - "constant": the sum over tokens by a fixed `length`, then the mean over answers (Dr. GRPO): with it the gradient is that of the
      expected reward, up to a factor.
    """
    values = torch.where(mask, values, 0)  # not times: what padding holds may be infinite
    if average == "answer":
        return (values.sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()
    if average == "token":
        return values.sum() / mask.sum().clamp(min=1)
    if length is None or length < 1:
        raise ValueError(f"length = {length}: 'constant' divides by a fixed number of tokens; pass max_new_tokens")
    return values.sum(dim=1).mean() / length


def policy_gradient_loss(
    log_probs: Float[Tensor, "answers seq"],
    advantages: Float[Tensor, "answers"],
    mask: Bool[Tensor, "answers seq"],
    *,
    average: Average = "constant",
    length: int | None = None,
) -> Float[Tensor, ""]:
    """REINFORCE: -A ln p(token), whose gradient is, in expectation, that of minus the expected reward (Williams 1992).

    The loss itself means nothing: only its gradient does, and only for answers that the policy has just written.
    """
    _check(log_probs, advantages, mask)
    return averaged(-advantages[:, None] * log_probs, mask, average, length)


def clipped_policy_loss(
    log_probs: Float[Tensor, "answers seq"],
    old_log_probs: Float[Tensor, "answers seq"],
    advantages: Float[Tensor, "answers"],
    mask: Bool[Tensor, "answers seq"],
    *,
    clip: float = 0.2,
    clip_high: float | None = None,
    average: Average = "answer",
    length: int | None = None,
) -> Float[Tensor, ""]:
    """PPO's clipped objective on tokens: -min(ratio A, clamp(ratio, 1 - clip, 1 + clip_high) A), ratio = p / p_old (Schulman et al. 2017, eq. 7).

    It lets one set of answers serve several updates: once a token's probability has moved by `clip` in the direction that its
    advantage asks for, it is pushed no further. `clip_high` (by default `clip`) is DAPO's wider room upwards. At ratio 1 the
    gradient is that of `policy_gradient_loss`.
    """
    _check(log_probs, advantages, mask)
    if not 0 < clip < 1:
        raise ValueError(f"clip = {clip}: how far a probability ratio may move from 1, between 0 and 1 (0.2 is usual)")
    if clip_high is not None and clip_high < clip:
        raise ValueError(f"clip_high = {clip_high} is below clip = {clip}: it widens the room upwards")
    difference = torch.where(mask, log_probs - old_log_probs, 0)
    ratio = difference.exp()
    signed = advantages[:, None]
    clipped = ratio.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    return averaged(-torch.minimum(ratio * signed, clipped * signed), mask, average, length)


def clipped_share(
    log_probs: Float[Tensor, "answers seq"],
    old_log_probs: Float[Tensor, "answers seq"],
    advantages: Float[Tensor, "answers"],
    mask: Bool[Tensor, "answers seq"],
    clip: float = 0.2,
    clip_high: float | None = None,
) -> float:
    """The share of tokens that the clipping holds back: moved past the bound in the direction of their advantage."""
    ratio = torch.where(mask, log_probs - old_log_probs, 0).exp()
    signed = advantages[:, None]
    high = 1 + (clip if clip_high is None else clip_high)
    held = ((ratio > high) & (signed > 0)) | ((ratio < 1 - clip) & (signed < 0))
    return ((held & mask).sum() / mask.sum().clamp(min=1)).item()


def kl_estimate(
    log_probs: Float[Tensor, "*shape"], reference_log_probs: Float[Tensor, "*shape"], kind: KLEstimate = "k3"
) -> Float[Tensor, "*shape"]:
    """KL(policy || reference) of one token, estimated from the token that the policy drew (Schulman 2020, "Approximating KL divergence").

    With r = p_reference / p: k1 = -ln r is unbiased and often negative; k2 = (ln r)^2 / 2 is biased and calm; k3 = r - 1 - ln r is unbiased,
    never negative, and what GRPO adds to its loss (Shao et al. 2024, eq. 4). As a *loss* they differ from what they estimate: the
    gradient of k1 is zero in expectation, that of k2 is the KL's own, that of k3 the one of KL(reference || policy).
    """
    log_ratio = reference_log_probs - log_probs
    if kind == "k1":
        return -log_ratio
    if kind == "k2":
        return log_ratio.square() / 2
    if kind == "k3":
        return torch.expm1(log_ratio) - log_ratio
    raise ValueError(f"kind = {kind!r}: choose 'k1', 'k2' or 'k3'")


def _check(log_probs: Tensor, advantages: Tensor, mask: Tensor) -> None:
    if log_probs.shape != mask.shape or log_probs.dim() != 2:
        raise ValueError(
            f"log_probs have shape {list(log_probs.shape)} and mask {list(mask.shape)}: both are (answers, seq)"
        )
    if advantages.shape != log_probs.shape[:1]:
        raise ValueError(
            f"advantages have shape {list(advantages.shape)} for {log_probs.shape[0]} answers: one number an answer; "
            "flatten groups with advantages.flatten()"
        )
    if advantages.requires_grad:
        raise ValueError("advantages carry a gradient: they are constants here; pass advantages.detach()")
