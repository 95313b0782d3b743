"""The two optimizers that HRM and TRM were trained with: Adam without its epsilon, and signs for the puzzle embeddings."""

from collections.abc import Callable

import torch

from minilm.recursion.embedding import PuzzleTable
from minilm.training.optimizers import Adam, Parameters


class AdamATan2(Adam):
    """Adam with atan2(m', sqrt(v')) for m' / (sqrt(v') + eps): no epsilon to choose (Everett et al. 2024, section 4.3).

    Where the two are equal in size atan2 gives pi / 4 and not 1, and no step is longer than lr * pi / 2, however small the
    gradients; `scale` is a factor on all steps (4 / pi makes that first case 1). Weight decay is taken out of the gradient, as
    in AdamW.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.1,
        scale: float = 1.0,
    ) -> None:
        super().__init__(params, lr, betas, 0.0, weight_decay)
        self.scale = scale

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Change the weights by their gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients = [weight.grad for weight in weights]
            first, second, counts = self._moments(weights)
            rate, (beta1, beta2) = group["lr"], group["betas"]
            torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
            torch._foreach_lerp_(first, gradients, 1 - beta1)
            torch._foreach_mul_(second, beta2)
            torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
            mean = torch._foreach_div(first, [1 - beta1**count for count in counts])
            size = torch._foreach_sqrt(torch._foreach_div(second, [1 - beta2**count for count in counts]))
            steps = [torch.atan2(m, s) for m, s in zip(mean, size, strict=True)]
            torch._foreach_add_(weights, steps, alpha=-rate * self.scale)
        return loss


class SignSGD:
    """Puzzle embeddings by signs: p <- p (1 - lr * weight_decay) - lr * sign(g), for the rows of the last batch only.

    g is the sum over the batch's copies of the row. A rare puzzle so moves as far as a frequent one each time it comes.
    """

    def __init__(self, table: PuzzleTable, lr: float = 1e-2, weight_decay: float = 0.1) -> None:
        self.table, self.lr, self.weight_decay = table, lr, weight_decay

    @torch.no_grad()
    def step(self) -> None:
        """Move the rows that took part in the last backward pass."""
        rows, used = self.table.rows, self.table.used
        if rows is None or used is None or used.grad is None:
            return
        touched, place = torch.unique(rows, return_inverse=True)
        gradient = torch.zeros(len(touched), used.shape[1], dtype=used.dtype, device=used.device)
        gradient.index_add_(0, place, used.grad)
        weight = self.table.weight
        weight[touched] = weight[touched] * (1 - self.lr * self.weight_decay) - self.lr * gradient.sign()
        self.table.rows = self.table.used = None
