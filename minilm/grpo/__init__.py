"""Lesson 12: reasoning in tokens, and reinforcement with rewards that a program can verify.

- `rewards`: what pays and what for: the seven rewards that SmallDoge offers, and a verifier that is easily fooled;
- `sampling`: what more answers buy at inference: pass@k, majority votes, best of n;
- `distillation`: learning from a teacher's whole distribution;
- `losses`: advantages within a group, REINFORCE, the clipped objective, estimates of the KL;
- `rollouts`: answers written by the policy, batched and cached;
- `trainer`: the loop, and expert iteration as its control.
"""

from minilm.grpo.distillation import distillation_loss, soften
from minilm.grpo.losses import (
    averaged,
    clipped_policy_loss,
    clipped_share,
    group_advantages,
    kl_estimate,
    policy_gradient_loss,
    zero_signal_share,
)
from minilm.grpo.rewards import (
    HEADINGS,
    accuracy_reward,
    cosine_reward,
    format_reward,
    length_rewards,
    reasoning_steps_reward,
    repetition_penalty,
    substring_reward,
)
from minilm.grpo.rollouts import Rollouts, answer_log_probs, answer_rows, greedy_texts, roll_out
from minilm.grpo.sampling import best_of_n, majority_vote, pass_at_k, vote_curve
from minilm.grpo.trainer import GroupView, GRPOConfig, GRPOTrainer, Problem, StepRecord

__all__ = [
    "HEADINGS",
    "GRPOConfig",
    "GRPOTrainer",
    "GroupView",
    "Problem",
    "Rollouts",
    "StepRecord",
    "accuracy_reward",
    "answer_log_probs",
    "answer_rows",
    "averaged",
    "best_of_n",
    "clipped_policy_loss",
    "clipped_share",
    "cosine_reward",
    "distillation_loss",
    "format_reward",
    "greedy_texts",
    "group_advantages",
    "kl_estimate",
    "length_rewards",
    "majority_vote",
    "pass_at_k",
    "policy_gradient_loss",
    "reasoning_steps_reward",
    "repetition_penalty",
    "roll_out",
    "soften",
    "substring_reward",
    "vote_curve",
    "zero_signal_share",
]
