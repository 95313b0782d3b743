"""The layer: a router, a bank of experts, and the memory of how they were used."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minilm.block import SwiGLU
from minilm.config import ActivationKind, MoEConfig
from minilm.moe.dispatch import dispatch_sorted
from minilm.moe.experts import ExpertBank
from minilm.moe.losses import importance_loss, load_balancing_loss, z_loss
from minilm.moe.routers import Router, SampleRouter, TokenRouter
from minilm.moe.routing import Routing


class MixtureOfExperts(nn.Module):
    """A feed-forward of many experts, of which each token passes through a few: y = sum_e weight_e(x) * expert_e(x).

    `hidden` is the width of one expert. After a forward pass `routing` tells who went where, and `auxiliary_loss()` is what the
    config wants added to the loss. While training, `usage` keeps a running average of each expert's share of the choices
    (of what it serves, not of what wanted it).
    A training loop of your own calls `after_step()` once the weights have changed: it moves the bias of balance = "bias".
    """

    usage: Tensor
    demand: Tensor

    def __init__(
        self,
        dim: int,
        hidden: int,
        *,
        moe: MoEConfig,
        activation: Callable[[Tensor], Tensor] | ActivationKind = "silu",
        bias: bool = False,
        context_length: int | None = None,
    ) -> None:
        super().__init__()
        self.moe = moe
        self.reads_stream = moe.gate_reads_stream
        self.gate = make_router(dim, moe, context_length)
        self.experts = ExpertBank(moe.num_experts, dim, hidden, activation=activation, bias=bias)
        self.shared_expert = None
        if moe.shared_hidden is not None:
            self.shared_expert = SwiGLU(dim, moe.shared_hidden, activation=activation, bias=bias)
        self.dispatch = dispatch_sorted
        self.register_buffer("usage", torch.full((moe.num_experts,), 1 / moe.num_experts))
        self.register_buffer("demand", torch.zeros(moe.num_experts, dtype=torch.long), persistent=False)  # since a step
        self._routing: Routing | None = None

    def forward(
        self, x: Float[Tensor, "batch seq dim"], stream: Float[Tensor, "batch seq dim"] | None = None
    ) -> Float[Tensor, "batch seq dim"]:
        """What each position writes back. The router reads x, or the `stream` that it was normalised from."""
        routing: Routing = self.gate(x if stream is None else stream)
        self._routing = routing
        if self.training:
            self._remember(routing)
        y: Tensor = self.dispatch(x.flatten(0, -2), routing.by_token(), self.experts).view_as(x)
        return y if self.shared_expert is None else y + self.shared_expert(x)

    @property
    def routing(self) -> Routing | None:
        """Who went where in the last forward pass; None before the first."""
        return None if self._routing is None else self._routing.detach()

    @torch.no_grad()
    def _remember(self, routing: Routing) -> None:
        counts = routing.counts.to(self.usage)
        self.usage.lerp_(counts / counts.sum().clamp(min=1), 1 - self.moe.usage_decay)
        self.demand += routing.demand

    def auxiliary_loss(self) -> Tensor:
        """The balance loss and the z-loss of the last forward pass by their weights; 0 where the config wants none."""
        routing, moe = self._routing, self.moe
        total = self.usage.new_zeros(())
        if routing is None:
            return total
        if moe.balance == "switch":
            wanted = routing.experts if routing.wanted is None else routing.wanted
            total = total + moe.balance_weight * load_balancing_loss(routing.probabilities, wanted, moe.num_experts)
        elif moe.balance == "importance":
            total = total + moe.balance_weight * importance_loss(routing.probabilities)
        return total + moe.z_loss * z_loss(routing.logits) if moe.z_loss else total

    def after_step(self) -> None:
        """Move the router's bias by what was wanted in all forward passes since the last step, and begin to count anew."""
        if bool(self.demand.any()):
            self.gate.update_bias(self.demand)
            self.demand.zero_()

    def idle_parameters(self) -> int:
        """How many of the parameters have no part in one token's output: those of all experts but the chosen."""
        bank = sum(parameter.numel() for parameter in self.experts.parameters())
        return bank // self.moe.num_experts * (self.moe.num_experts - self.moe.chosen)

    def __getstate__(self) -> dict[str, Any]:
        """For copies: without the last forward pass, whose graph cannot be copied."""
        return {**self.__dict__, "_routing": None}


def make_router(dim: int, moe: MoEConfig, context_length: int | None = None) -> Router:
    """The config's router."""
    if moe.route == "sample":
        if context_length is None:
            raise ValueError("a router by sample reads a whole window: give the layer context_length")
        return SampleRouter(dim, moe, context_length=context_length)
    if moe.route == "product-key":
        raise ValueError("product-key experts are a layer of their own: minilm.moe.CDMoE")
    return TokenRouter(dim, moe)
