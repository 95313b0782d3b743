"""The learned part of routing: what computes the logits, with noise on them while training, and the bias that evens the load out."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from minilm.config import MoEConfig
from minilm.model.parts import flatten_window
from minilm.moe.routing import Routing, capacity, expert_choice_route, top_k_route


class Router(nn.Module):
    """What all routers share: logits, noise, choice. A subclass says how a logit is computed, in `score`.

    With `moe.balance = "bias"` the choice goes by score + `balance_bias`, which `update_bias` moves and no gradient does
    (DeepSeek-V3; Wang et al. 2024).
    """

    balance_bias: Tensor | None

    def __init__(self, moe: MoEConfig) -> None:
        super().__init__()
        self.moe = moe
        bias = torch.zeros(moe.num_experts) if moe.balance == "bias" else None
        self.register_buffer("balance_bias", bias)

    def score(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "rows experts"]:
        """The logits, before noise."""
        raise NotImplementedError

    def noise_scale(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "rows experts"] | float:
        """The standard deviation of the noise on the logits."""
        return self.moe.noise

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Routing:
        """Who goes where."""
        logits = self.score(x)
        if self.training and self.moe.noise:
            logits = logits + torch.randn_like(logits) * self.noise_scale(x)
        return self.choose(logits)

    def choose(self, logits: Float[Tensor, "rows experts"]) -> Routing:
        """The choice by the config's rules."""
        moe, rows = self.moe, len(logits)
        if moe.route == "expert-choice":
            return expert_choice_route(logits, capacity(rows, moe.num_experts, moe.chosen))
        room = None
        if moe.capacity_factor is not None:
            room = capacity(rows, moe.num_experts, moe.chosen, moe.capacity_factor)
        return top_k_route(
            logits,
            moe.chosen,
            scoring=moe.scoring,
            normalize=moe.normalize,
            bias=self.balance_bias,
            capacity=room,
            overflow=moe.overflow,
        )

    @torch.no_grad()
    def update_bias(self, demand: Int[Tensor, "experts"]) -> None:
        """Up by `balance_rate` for an expert that fewer than average wanted, down for one that more did."""
        if self.balance_bias is not None:
            missing = demand.double().mean() - demand
            self.balance_bias += self.moe.balance_rate * missing.sign().to(self.balance_bias.dtype)


class TokenRouter(Router):
    """Each token's logits from its own vector: a matrix of one row an expert, no bias.

    With `moe.noise_kind = "learned"` the noise's deviation is noise * softplus(x noise_weight), one for each token and expert
    (Shazeer et al. 2017, eq. 4).
    """

    def __init__(self, dim: int, moe: MoEConfig) -> None:
        super().__init__(moe)
        self.weight = nn.Parameter(torch.empty(moe.num_experts, dim))
        self.noise_weight = nn.Parameter(torch.empty_like(self.weight)) if moe.noise_kind == "learned" else None
        for weight in self.parameters():
            nn.init.uniform_(weight, -(dim**-0.5), dim**-0.5)

    def score(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "rows experts"]:
        """x W."""
        return F.linear(x.flatten(0, -2), self.weight)

    def noise_scale(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "rows experts"] | float:
        """The config's number, or a learned one."""
        if self.noise_weight is None:
            return self.moe.noise
        return self.moe.noise * F.softplus(F.linear(x.flatten(0, -2), self.noise_weight))


class SampleRouter(Router):
    """One choice for a whole window, from all its positions at once: output(dropout(leaky_relu(squeeze(window)))) (dlib, 2025).

    The choice for the first position knows the last one. So a model with it predicts what follows the window and can neither be trained
    on every position nor read a text token by token.
    """

    def __init__(self, dim: int, moe: MoEConfig, *, context_length: int) -> None:
        super().__init__(moe)
        self.context_length = context_length
        self.squeeze = nn.Linear(context_length * dim, moe.gate_hidden)
        self.output = nn.Linear(moe.gate_hidden, moe.num_experts)

    def score(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "rows experts"]:
        """A row for each sample."""
        hidden = F.leaky_relu(self.squeeze(flatten_window(x, self.context_length)))
        return self.output(F.dropout(hidden, self.moe.gate_dropout, self.training))  # type: ignore[no-any-return]

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Routing:
        """Who goes where, a row for each sample."""
        routing: Routing = super().forward(x)
        return replace(routing, tokens_per_row=self.context_length)
