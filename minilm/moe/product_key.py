"""Product-key experts: thousands of experts of a single neuron each, found by two short lists of keys (Doge's CDMoE).

An expert is a row that reads the token and a row that it writes. Its score is the sum of two numbers, one for its row and one for its
column in a square of experts, so that sqrt(num_experts) keys an axis rank them all (product keys, Lample et al. 2019; experts of one
neuron, He 2024). A shared SwiGLU serves every token beside them.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from minilm.block import SwiGLU, activation
from minilm.config import ActivationKind

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
        with torch.enable_grad():
            weights = torch.zeros(chosen.shape, dtype=table.dtype, device=x.device, requires_grad=True)
            bag = F.embedding_bag(chosen, table.detach(), per_sample_weights=weights, mode="sum")
            (dots,) = torch.autograd.grad(bag, weights, x.detach())
        return dots

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
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
    """A shared SwiGLU plus the sum of the top_k of many single-neuron experts, each token choosing for itself.

    y = shared(x) + sum over the chosen e of g_e * activation(<down_e, x>) * up_e, g = softmax of the chosen scores
    (SmallDoge's "cross-domain mixture of experts"). `normalize` divides the weights by their sum once more, which after this
    softmax changes nothing beyond rounding; it is there because published configs have it.
    `balance_weight` > 0 adds Switch's loss, balance_weight * num_experts * sum_e f_e mean(p_e), with f_e the share of choices
    that fell on e and p the softmax over all experts (Doge: 0.001).

    Weights: `shared` (SwiGLU), `router_gate` (2 * keys, dim): the keys of the x axis, then those of the y axis; `down_embed` and
    `up_embed` (num_experts, dim). `num_experts` must be a square number.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        *,
        num_experts: int,
        top_k: int,
        activation: Callable[[Tensor], Tensor] | ActivationKind = "silu",
        bias: bool = False,
        normalize: bool = False,
        balance_weight: float = 0.0,
        usage_decay: float = 0.95,
    ) -> None:
        super().__init__()
        self.num_keys = square_root(num_experts)
        if not 1 <= top_k <= num_experts:
            raise ValueError(f"top_k = {top_k}: choose 1 to num_experts = {num_experts}")
        self.num_experts, self.top_k = num_experts, top_k
        self.normalize, self.balance_weight, self.usage_decay = normalize, balance_weight, usage_decay
        self.activation = _activation(activation)
        self.shared = SwiGLU(dim, hidden, activation=self.activation, bias=bias)
        self.router_gate = nn.Linear(dim, 2 * self.num_keys, bias=False)
        self.down_embed = nn.Embedding(num_experts, dim)
        self.up_embed = nn.Embedding(num_experts, dim)
        self.register_buffer("usage", torch.full((num_experts,), 1 / num_experts), persistent=False)
        self.usage: Tensor
        self._balance: Tensor | None = None

    def forward(self, x: Float[Tensor, "batch seq dim"]) -> Float[Tensor, "batch seq dim"]:
        """What each position writes back."""
        scores_x, scores_y = self.axis_scores(x)
        scores, chosen = product_key_top_k(scores_x, scores_y, self.top_k)
        weights = _at_least_float32(scores).softmax(dim=-1).to(self.up_embed.weight.dtype)
        if self.normalize:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        self.routing = (chosen.detach(), weights.detach())
        self._note(scores_x, scores_y, chosen)
        flat = x.flatten(0, -2).to(self.down_embed.weight.dtype)
        out = neuron_experts_fast(flat, self.down_embed.weight, self.up_embed.weight, chosen, weights, self.activation)
        return self.shared(x) + out.view(x.shape)  # type: ignore[no-any-return]

    def axis_scores(
        self, x: Float[Tensor, "batch seq dim"]
    ) -> tuple[Float[Tensor, "tokens keys"], Float[Tensor, "tokens keys"]]:
        """How well each token fits the rows and the columns of the square of experts."""
        scores = self.router_gate(x).view(-1, 2, self.num_keys)  # tokens 2 keys: the token comes first
        return scores[:, 0], scores[:, 1]

    def auxiliary_loss(self) -> Tensor:
        """The balance loss of the last forward; 0 where none was asked for."""
        return self.router_gate.weight.new_zeros(()) if self._balance is None else self._balance

    def _note(self, scores_x: Tensor, scores_y: Tensor, chosen: Tensor) -> None:
        self._balance = None
        if not self.training:
            return
        counts = torch.zeros_like(self.usage).scatter_add_(
            0, chosen.flatten(), torch.ones_like(self.usage[:1]).expand(chosen.numel())
        )
        share = counts / chosen.numel()
        self.usage.lerp_(share, 1 - self.usage_decay)
        if self.balance_weight:
            self._balance = self.balance_weight * product_key_balance(scores_x, scores_y, share)

    def extra_repr(self) -> str:
        """Experts and how many of them a token uses."""
        return f"num_experts={self.num_experts}, top_k={self.top_k}"


def product_key_balance(
    scores_x: Float[Tensor, "tokens keys"], scores_y: Float[Tensor, "tokens keys"], share: Float[Tensor, "experts"]
) -> Float[Tensor, ""]:
    """Switch's balance loss for product keys: num_experts * sum_e share_e * mean over tokens of p_e; 1 when all is even.

    The softmax over all experts of x[i] + y[j] is the product of two softmaxes over keys, so its mean over tokens is one
    small matrix product and no tokens * experts matrix is ever made.
    """
    p_x, p_y = _at_least_float32(scores_x).softmax(-1), _at_least_float32(scores_y).softmax(-1)
    mean = p_x.T @ p_y / len(p_x)  # keys keys
    return len(share) * (share * mean.flatten()).sum()


def square_root(num_experts: int) -> int:
    """The number of keys an axis. ValueError, with the nearest squares, unless num_experts is one."""
    root = math.isqrt(max(num_experts, 0))
    if num_experts < 1 or root**2 != num_experts:
        choice = f"{root**2} or {(root + 1) ** 2}" if root else "1"
        raise ValueError(
            f"num_experts = {num_experts} is no square number, so its experts fill no square: choose {choice}"
        )
    return root


def _at_least_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _activation(given: Callable[[Tensor], Tensor] | ActivationKind) -> Callable[[Tensor], Tensor]:
    return activation(given) if isinstance(given, str) else given
