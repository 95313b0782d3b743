"""How the learning rate moves: pure functions of the step, each a factor of the peak rate; and one rule that watches the loss.

The run's updates are numbered 1 .. total, and update number `step` is made with peak * factor(step).
"""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

WarmupShape = Literal["linear", "cosine", "1-sqrt"]
DecayShape = Literal["linear", "cosine", "1-sqrt"]

# From p = 0 .. 1 of the phase to 0 .. 1 of the way up, and to 1 .. 0 of the way down.
WARMUP: dict[str, Callable[[float], float]] = {
    "linear": lambda p: p,
    "cosine": lambda p: 0.5 * (1 - math.cos(math.pi * p)),
    "1-sqrt": lambda p: 1 - math.sqrt(1 - p),
}
DECAY: dict[str, Callable[[float], float]] = {
    "linear": lambda p: 1 - p,
    "cosine": lambda p: 0.5 * (1 + math.cos(math.pi * p)),
    "1-sqrt": lambda p: 1 - math.sqrt(p),
}


def constant(step: int) -> float:
    """The peak rate throughout."""
    return 1.0


def warmup_cosine(step: int, *, warmup: int, total: int, final: float = 0.0) -> float:
    """Up in a line over `warmup` steps, then down half a cosine to `final` of the peak, reached at `total` exactly.

    >>> [round(warmup_cosine(step, warmup=2, total=6, final=0.1), 3) for step in range(8)]
    [0.0, 0.5, 1.0, 0.868, 0.55, 0.232, 0.1, 0.1]
    """
    if step < warmup:
        return step / warmup
    progress = 1.0 if step >= total else (step - warmup) / (total - warmup)
    return final + (1 - final) * DECAY["cosine"](progress)


def misplaced_cosine(step: int, *, warmup: int, total: int, final: float = 0.0) -> float:
    """A counter-example: the same with a cosine that lasts `total` steps from the end of the warm-up on, so it never gets down.

    Super Tiny Language Models divides by the whole run's length: planned to end at 6e-5, its baseline ends at 9.6e-5.
    """
    if step < warmup:
        return step / warmup
    return final + (1 - final) * DECAY["cosine"]((step - warmup) / total)


def warmup_stable_decay(
    step: int,
    *,
    warmup: int,
    stable: int,
    decay: int,
    final: float = 0.0,
    warmup_shape: WarmupShape = "linear",
    decay_shape: DecayShape = "linear",
) -> float:
    """Up, a long plateau at the peak, and a short way down (WSD; Hu et al. 2024), between `final` and 1.

    The plateau does not know how long the run will be: any of its checkpoints can be trained on, or brought down by a decay of
    its own. With `decay=0` the rate falls to `final` at once after the plateau. The formula and its shapes are those of
    transformers' `get_wsd_schedule`.
    """
    if step < warmup:
        return final + (1 - final) * WARMUP[warmup_shape](step / warmup)
    if step < warmup + stable:
        return 1.0
    if step < warmup + stable + decay:
        return final + (1 - final) * DECAY[decay_shape]((step - warmup - stable) / decay)
    return final


class Plateau:
    """Shrink the rate when the loss has stopped falling (dlib): by `shrink` after `patience` steps without progress.

    Without progress means: over the last `patience` losses and any shorter stretch that ends now, there is one at least that
    long for which a line fitted to the losses falls with a probability under `confidence`. Then counting begins anew.
    The factor does not go below `smallest`; `exhausted` says that it would have, where dlib ends the run.
    """

    def __init__(self, patience: int, shrink: float = 0.1, smallest: float = 0.0, confidence: float = 0.51) -> None:
        if patience < 3:
            raise ValueError(f"patience = {patience}: a trend takes at least 3 losses")
        if not 0 < shrink < 1:
            raise ValueError(f"shrink = {shrink}: a factor between 0 and 1")
        self.patience, self.shrink, self.smallest, self.confidence = patience, shrink, smallest, confidence
        self.factor, self.exhausted = 1.0, False
        self.losses: list[float] = []

    def update(self, loss: float) -> float:
        """Take note of a step's loss; returns the factor for the next step."""
        self.losses.append(loss)
        del self.losses[: -self.patience]
        if len(self.losses) >= self.patience and steps_without_decrease(self.losses, self.confidence) >= self.patience:
            lower = self.factor * self.shrink
            if lower < self.smallest * (1 - 1e-9):  # 1.0 shrunk twice by 0.1 is not below 0.01
                self.exhausted = True
            else:
                self.factor = lower
            self.losses = []
        return self.factor

    def state_dict(self) -> dict[str, Any]:
        """What it has seen."""
        return {"factor": self.factor, "exhausted": self.exhausted, "losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what it had seen."""
        self.factor, self.exhausted, self.losses = state["factor"], state["exhausted"], list(state["losses"])


def steps_without_decrease(losses: Sequence[float], confidence: float = 0.51) -> int:
    """The longest stretch at the end of `losses` that is not falling: P(slope < 0) < confidence for a fitted line.

    The slope of a least-squares line over n points is taken as normal around its estimate with its standard error.
    """
    y = np.asarray(losses, dtype=np.float64)[::-1]  # the newest first: in this order the line of a falling loss rises
    y = y - y.mean() if len(y) else y
    n = np.arange(1, len(y) + 1, dtype=np.float64)  # every stretch at once, by running sums
    x = n - 1
    sum_y, sum_xy, sum_yy = np.cumsum(y), np.cumsum(x * y), np.cumsum(y * y)
    spread = n * (n * n - 1) / 12  # the sum of (x - mean)^2
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (sum_xy - sum_y * x / 2) / spread
        residual = np.maximum(sum_yy - sum_y**2 / n - slope**2 * spread, 0)
        score = slope / np.sqrt(residual / (n - 2) / spread)  # NaN where all losses are equal: not falling
    falling = score >= NormalDist().inv_cdf(confidence)
    stretches = np.flatnonzero((n > 2) & ~falling)
    return int(stretches[-1]) + 1 if len(stretches) else 0
