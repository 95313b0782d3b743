"""Adaptive computation time: every position decides for itself how long to think (Graves 2016)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minilm.block import SwiGLU


class AdaptiveComputation(nn.Module):
    """Apply `transition` again and again, s <- s + transition(s), until each position has halted; return a weighted mean of its states.

    At step n a position halts with probability h_n = sigmoid(w . s_n + b). It goes on while the h's so far add up to less than
    `threshold`; the step that brings them there, or the last of `max_steps`, gets what is left of 1. So the weights
    add up to one, and the mean over states is differentiable in how long was thought.
    The state before the first transition, x itself, has a weight too: who halts at once is passed through unchanged.

    `auxiliary_loss` is the price of time: ponder * mean over positions of (steps + remainder).
    Constants are dlib's (`adaptive_computation_time_`): threshold 0.99, ponder 0.01, w ~ N(0, 2 / dim), b = 1.
    """

    def __init__(
        self,
        dim: int,
        transition: nn.Module,
        max_steps: int = 8,
        threshold: float = 0.99,
        ponder: float = 0.01,
    ) -> None:
        super().__init__()
        if max_steps < 1:
            raise ValueError(f"max_steps = {max_steps}: at least 1")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold = {threshold}: between 0 and 1, near 1")
        self.transition = transition
        self.max_steps, self.threshold, self.ponder = max_steps, threshold, ponder
        self.halting = nn.Linear(dim, 1)
        nn.init.normal_(self.halting.weight, std=(2 / dim) ** 0.5)
        nn.init.ones_(self.halting.bias)
        self.weights: Tensor | None = None  # steps *shape, of the last forward: for looking at
        self._cost: Tensor | None = None

    def forward(self, x: Float[Tensor, "*shape dim"]) -> Float[Tensor, "*shape dim"]:
        """The mean of each position's states, weighted by its halting."""
        state, out = x, torch.zeros_like(x)
        total = x.new_zeros(x.shape[:-1])  # of the h's so far
        remainder, steps = torch.ones_like(total), torch.zeros_like(total)
        active = torch.ones_like(total, dtype=torch.bool)
        weights = []
        for step in range(self.max_steps):
            h = torch.sigmoid(self.halting(state)[..., 0])
            halts = active & ((total + h >= self.threshold) | (step == self.max_steps - 1))
            weight = torch.where(halts, remainder, h) * active
            out = out + weight[..., None] * state
            weights.append(weight)
            steps = steps + active
            goes_on = active & ~halts
            total = torch.where(goes_on, total + h, total)
            remainder = torch.where(goes_on, remainder - h, remainder)
            active = goes_on
            if not active.any():
                break
            state = torch.where(active[..., None], state + self.transition(state), state)
        self.weights = torch.stack(weights).detach()
        # The number of steps has no gradient; the remainder has, and it shrinks as earlier steps take more of the 1.
        self._cost = self.ponder * (steps + remainder).mean()
        return out

    @property
    def steps(self) -> Int[Tensor, "*shape"]:
        """How many states each position of the last forward used."""
        if self.weights is None:
            raise ValueError("nothing has been thought about yet: call the layer first")
        return (self.weights > 0).sum(dim=0)

    def auxiliary_loss(self) -> Tensor:
        """The price of the last forward's time; `LanguageModel.auxiliary_loss` adds it up over layers."""
        return self.halting.weight.new_zeros(()) if self._cost is None else self._cost


class AdaptiveFeedForward(AdaptiveComputation):
    """A feed-forward that is applied as often as each position wants: `LanguageModel(config, feed_forward=AdaptiveFeedForward)`."""

    def __init__(self, dim: int, hidden: int, max_steps: int = 4) -> None:
        super().__init__(dim, SwiGLU(dim, hidden), max_steps)
