"""Product-key experts: thousands of experts of a single neuron each, found by two short lists of keys (Doge's CDMoE).

An expert is one vector that reads the token and one that it writes. The experts stand in a square, and the score of one is the sum of
two numbers, one for its row and one for its column, so that sqrt(num_experts) keys an axis rank them all (product keys, Lample
et al. 2019; experts of one neuron, He 2024). A shared SwiGLU serves every token beside them.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from minilm.block import SwiGLU
from minilm.block import activation as activation_named
from minilm.config import ActivationKind, MoEConfig
from minilm.moe.losses import importance_loss, load_balancing_loss
from minilm.moe.routing import Routing

# ------------------------------------------------------------------------------------------------------------- retrieval


def product_key_top_k(
    scores_x: Float[Tensor, "*tokens keys"], scores_y: Float[Tensor, "*tokens keys"], top_k: int
) -> tuple[Float[Tensor, "*tokens top_k"], Int[Tensor, "*tokens top_k"]]:
    """The top_k experts of the square, best first: their scores x[i] + y[j] and their numbers i * keys + j.

    Exact without looking at all keys^2 pairs. Sort both axes: the pair of ranks (a, b), from 1, scores no more than each of the a b
    pairs with ranks up to a and b, itself among them, so only pairs with a b <= top_k can be needed. That is about
    top_k ln top_k sums instead of keys^2. Among experts of equal score any may be given, as with `torch.topk`.

    Raises ValueError if top_k exceeds the number of experts.
    """
    keys = scores_x.shape[-1]
    if not 1 <= top_k <= keys**2:
        raise ValueError(
            f"top_k = {top_k}: with {keys} keys an axis there are {keys**2} experts; choose 1 to {keys**2}"
        )
    kept = min(top_k, keys)
    x, i = scores_x.topk(kept, dim=-1)
    y, j = scores_y.topk(kept, dim=-1)
    a, b = _candidates(kept, top_k, x.device)
    scores, chosen = (x[..., a] + y[..., b]).topk(top_k, dim=-1)
    numbers = i[..., a] * keys + j[..., b]  # *tokens candidates
    return scores, numbers.gather(-1, chosen)


def _candidates(kept: int, top_k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The ranks, from 0, of the pairs that can be among the top_k: those with (a + 1)(b + 1) <= top_k."""
    pairs = [(a, b) for a in range(kept) for b in range(min(kept, top_k // (a + 1)))]
    a, b = zip(*pairs, strict=True)
    return torch.tensor(a, device=device), torch.tensor(b, device=device)


# --------------------------------------------------------------------------------------------------------------- experts


def neuron_experts(
    x: Float[Tensor, "tokens dim"],
    down: Float[Tensor, "experts dim"],
    up: Float[Tensor, "experts dim"],
    chosen: Int[Tensor, "tokens top_k"],
    weights: Float[Tensor, "tokens top_k"],
    activation: Callable[[Tensor], Tensor] = F.silu,
) -> Float[Tensor, "tokens dim"]:
    """The sum over a token's experts of weight * activation(<down, x>) * up.

    The readable form: it copies every chosen row, tokens * top_k * dim numbers twice. `neuron_experts_fast` gives the same.
    """
    read = (down[chosen] * x[:, None]).sum(-1)  # tokens top_k
    return ((weights * activation(read))[..., None] * up[chosen]).sum(1)


def neuron_experts_fast(
    x: Float[Tensor, "tokens dim"],
    down: Float[Tensor, "experts dim"],
    up: Float[Tensor, "experts dim"],
    chosen: Int[Tensor, "tokens top_k"],
    weights: Float[Tensor, "tokens top_k"],
    activation: Callable[[Tensor], Tensor] = F.silu,
) -> Float[Tensor, "tokens dim"]:
    """The same without copying a row, forward or backward: both halves are PyTorch's `embedding_bag` or its gradient."""
    read: Tensor = _ChosenDots.apply(x, down, chosen)  # type: ignore[no-untyped-call]
    return F.embedding_bag(chosen, up, per_sample_weights=weights * activation(read), mode="sum")


class _ChosenDots(torch.autograd.Function):
    """<table[e], x> for each token's chosen e.

    A weighted sum of chosen rows is what `embedding_bag` computes; by each weight, its gradient is the product of that row with the
    gradient of the sum. So these products are the backward pass of a bag whose "gradient" is x, and their own backward passes
    are bags again: over a token's rows for x, and over an expert's tokens for the table.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, chosen: Tensor) -> Tensor:
        ctx.save_for_backward(x, table, chosen)
        with torch.inference_mode(False), torch.enable_grad():  # under inference_mode there is no gradient to be had
            if chosen.is_inference():
                x, chosen = x.clone(), chosen.clone()
            weights = torch.zeros(chosen.shape, dtype=table.dtype, device=x.device, requires_grad=True)
            bag = F.embedding_bag(chosen, table.detach(), per_sample_weights=weights, mode="sum")
            (dots,) = torch.autograd.grad(bag, weights, x.detach())
        return dots

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, table, chosen = ctx.saved_tensors
        for_x = for_table = None
        if ctx.needs_input_grad[0]:
            for_x = F.embedding_bag(chosen, table, per_sample_weights=gradient.contiguous(), mode="sum")
        if ctx.needs_input_grad[1]:
            by_expert, order = chosen.flatten().sort(stable=True)
            starts = torch.searchsorted(by_expert, torch.arange(len(table), device=x.device))
            tokens = order // chosen.shape[1]
            for_table = F.embedding_bag(
                tokens, x, starts, per_sample_weights=gradient.flatten()[order], mode="sum"
            )  # experts dim; an expert that nobody chose is an empty bag: zeros
        return for_x, for_table, None


class CDMoE(nn.Module):
    """A shared SwiGLU plus the weighted sum of a few of many single-neuron experts, each token choosing for itself.

    y = shared(x) + sum over the chosen e of g_e * activation(<down_e, x>) * up_e, where g is the softmax of the chosen scores
    ("softmax-chosen", SmallDoge's "cross-domain mixture of experts"), or their part of the softmax over all ("softmax"; with
    `normalize`, the former again). `hidden` is the width of the shared SwiGLU. `usage` and `auxiliary_loss()` are as
    in `MixtureOfExperts`, without ever making a matrix of tokens by experts: the softmax over all sums x[i] + y[j] is the
    product of two softmaxes over keys, so its mean over tokens is one small matrix product, and its logsumexp is a sum of two.

    Weights: `shared`, `router_gate` (2 * keys, dim), first the keys of x and then those of y, and `down_embed` and `up_embed`
    (num_experts, dim).
    """

    usage: Tensor

    def __init__(
        self,
        dim: int,
        hidden: int,
        *,
        moe: MoEConfig,
        activation: Callable[[Tensor], Tensor] | ActivationKind = "silu",
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.moe, self.num_keys = moe, math.isqrt(moe.num_experts)
        self.activation = activation_named(activation) if isinstance(activation, str) else activation
        self.shared = SwiGLU(dim, hidden, activation=self.activation, bias=bias)
        self.router_gate = nn.Linear(dim, 2 * self.num_keys, bias=False)
        self.down_embed = nn.Embedding(moe.num_experts, dim)
        self.up_embed = nn.Embedding(moe.num_experts, dim)
        for table in (self.down_embed, self.up_embed):  # as nn.Linear would draw a neuron's weights
            nn.init.uniform_(table.weight, -(dim**-0.5), dim**-0.5)
        self.dispatch: Callable[..., Tensor] = neuron_experts_fast
        self.register_buffer("usage", torch.full((moe.num_experts,), 1 / moe.num_experts))
        self._last: tuple[Tensor, Tensor, Tensor, Tensor] | None = None  # scores by axis, chosen experts, their weights

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch seq dim"]:
        """What each position writes back."""
        scores_x, scores_y = self.axis_scores(x)
        scores, chosen = product_key_top_k(scores_x, scores_y, self.moe.chosen)
        if self.moe.scoring == "softmax-chosen":
            weights = scores.softmax(dim=-1)
        else:
            weights = (scores - _logsumexp(scores_x, scores_y)[:, None]).exp()
        if self.moe.normalize:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        self._last = scores_x, scores_y, chosen, weights
        if self.training:
            self.usage.lerp_(self._share(), 1 - self.moe.usage_decay)
        down, up = self.down_embed.weight, self.up_embed.weight
        flat = x.flatten(0, -2).to(down.dtype)
        routed = self.dispatch(flat, down, up, chosen, weights.to(down.dtype), self.activation)
        return self.shared(x) + routed.view(x.shape)  # type: ignore[no-any-return]

    def axis_scores(
        self, x: Float[Tensor, "batch seq dim"]
    ) -> tuple[Float[Tensor, "tokens keys"], Float[Tensor, "tokens keys"]]:
        """How well each token fits the keys of the x axis and those of the y axis, in float32 at least."""
        scores = at_least_float32(self.router_gate(x)).view(-1, 2, self.num_keys)  # tokens 2 keys
        return scores[:, 0], scores[:, 1]

    @property
    def routing(self) -> Routing | None:
        """Who went where in the last forward pass; None before the first. Made when asked for: it is tokens by experts large."""
        if self._last is None:
            return None
        scores_x, scores_y, chosen, weights = (each.detach() for each in self._last)
        logits = (scores_x[:, :, None] + scores_y[:, None]).flatten(1)
        return Routing(chosen, weights, logits.softmax(dim=-1), logits)

    @torch.no_grad()
    def _share(self) -> Float[Tensor, "experts"]:
        """Each expert's part of the last forward pass's choices."""
        assert self._last is not None
        chosen = self._last[2].flatten()
        return torch.zeros_like(self.usage).index_add_(0, chosen, self.usage.new_ones(len(chosen))) / len(chosen)

    def auxiliary_loss(self) -> Tensor:
        """The balance loss and the z-loss of the last forward pass by their weights; 0 where the config wants none."""
        total, moe = self.usage.new_zeros(()), self.moe
        if self._last is None:
            return total
        scores_x, scores_y, chosen, _ = self._last
        if moe.balance != "none":
            mean = (scores_x.softmax(-1).T @ scores_y.softmax(-1) / len(chosen)).view(
                1, -1
            )  # of each expert's probability
            loss = (
                importance_loss(mean)
                if moe.balance == "importance"
                else load_balancing_loss(mean, chosen, moe.num_experts)
            )
            total = total + moe.balance_weight * loss
        return total + moe.z_loss * _logsumexp(scores_x, scores_y).square().mean() if moe.z_loss else total

    def idle_parameters(self) -> int:
        """How many of the parameters have no part in one token's output: the neurons of all experts but the chosen."""
        return 2 * self.down_embed.weight.shape[1] * (self.moe.num_experts - self.moe.chosen)

    def __getstate__(self) -> dict[str, Any]:
        """For copies: without the last forward pass, whose graph cannot be copied."""
        return {**self.__dict__, "_last": None}

    def extra_repr(self) -> str:
        """Experts and how many of them a token uses."""
        return f"num_experts={self.moe.num_experts}, top_k={self.moe.chosen}"


def _logsumexp(
    scores_x: Float[Tensor, "tokens keys"], scores_y: Float[Tensor, "tokens keys"]
) -> Float[Tensor, "tokens"]:
    """Over all sums x[i] + y[j]."""
    return scores_x.logsumexp(dim=-1) + scores_y.logsumexp(dim=-1)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision widened; everything else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
