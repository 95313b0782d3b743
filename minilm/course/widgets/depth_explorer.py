"""Stack up to 48 blocks and see what depth does to the signal, to its gradient, and to how alike the words become."""

import base64
import html
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import ipywidgets
from matplotlib.figure import Figure

from minilm.course.figures import COLORS
from minilm.course.widgets.base import Widget

if TYPE_CHECKING:
    from torch import Tensor

DIM, HEADS, WORDS, TEXTS = 64, 4, 24, 2
DEEPEST = 48
LARGEST_FLOAT32 = 3.4e38
WRITERS = ("o_proj.weight", "down_proj.weight")

# The standard deviation of a matrix with so many inputs in a stack so deep, which writes to the stream or does not.
INITS: dict[str, Callable[[int, int, bool], float]] = {
    "1/√inputs": lambda inputs, depth, writes: inputs**-0.5,
    "1/√inputs, writers ÷ √(2 depth)": lambda inputs, depth, writes: (inputs * (2 * depth if writes else 1)) ** -0.5,
    "1/√inputs, writers 0": lambda inputs, depth, writes: 0.0 if writes else inputs**-0.5,
    "3/√inputs": lambda inputs, depth, writes: 3 * inputs**-0.5,
    "0.02": lambda inputs, depth, writes: 0.02,
    "0": lambda inputs, depth, writes: 0.0,
}
NORMS = {"before (pre-norm)": "pre", "after (post-norm)": "post", "none": "none"}


@dataclass(frozen=True)
class Profile:
    """What was measured through depth; entry 0 of `spreads` and `likenesses` is the input, then one for each block."""

    spreads: tuple[float, ...]  # standard deviation of all numbers of the stream
    likenesses: tuple[float, ...]  # mean cosine between the vectors of two words of a text
    gradients: tuple[float, ...]  # norm of the loss's gradient with respect to a block's weights


@lru_cache(maxsize=256)
def measure(depth: int, init: str, norm: str, residual: bool, seed: int = 0) -> Profile:
    """Send random words through fresh blocks of causal attention and a GELU feed-forward, and a loss back.

    In 64 bits, so that what would leave the range of a 32-bit float can be seen leaving it. Norms are RMS without gain; the loss
    is the cross-entropy of a random head on random targets. `norm` is "pre", "post" or "none".
    """
    import torch
    from torch import nn
    from torch.nn import functional as F

    from minilm.attention import Attention
    from minilm.block import FeedForward, RMSNorm

    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        blocks = [
            (Attention(DIM, HEADS).double(), FeedForward(DIM, 4 * DIM, bias=False).double()) for _ in range(depth)
        ]
        weights = [[*attention.named_parameters(), *forward.named_parameters()] for attention, forward in blocks]
        for name, weight in (named for block in weights for named in block):
            nn.init.normal_(weight, std=INITS[init](weight.shape[1], depth, name.endswith(WRITERS)))
        normalise, places = RMSNorm(DIM, gain=False), torch.arange(WORDS)
        x = torch.randn(TEXTS, WORDS, DIM, dtype=torch.float64)
        stream = [x]
        for attention, feed_forward in blocks:
            for part in (partial(attention, positions=places), feed_forward):
                update = part(normalise(x) if norm == "pre" else x)
                x = x + update if residual else update
                x = normalise(x) if norm == "post" else x
            stream.append(x)
        head = torch.randn(DIM, DIM, dtype=torch.float64) * DIM**-0.5
        logits = (normalise(x) if norm == "pre" else x) @ head
        loss = F.cross_entropy(logits.flatten(0, 1), torch.randint(DIM, (TEXTS * WORDS,)))
        found = iter(torch.autograd.grad(loss, [weight for block in weights for _, weight in block]))
        grads = [[next(found) for _ in block] for block in weights]
        return Profile(
            tuple(float(x.detach().std()) for x in stream),
            tuple(_likeness(F.normalize(x.detach(), dim=-1, eps=1e-300)) for x in stream),
            tuple(math.sqrt(sum(float(grad.square().sum()) for grad in block)) for block in grads),
        )


def _likeness(directions: "Tensor") -> float:
    """The mean cosine between different words of a text, from vectors of length 1."""
    total = directions.sum(dim=1).square().sum(dim=-1)  # of all pairs, each word with itself included
    selves = directions.square().sum(dim=(1, 2))
    return float(((total - selves) / (WORDS * (WORDS - 1))).mean())


class DepthExplorer(Widget):
    """Depth, initialisation, place of the norm, residual on or off, and what they make of the signal.

    >>> DepthExplorer(depth=12)  # doctest: +SKIP
    DepthExplorer: 12 blocks, weights 1/√inputs, norm before (pre-norm), residual on. ...
    """

    def __init__(
        self, depth: int = 24, init: str = "1/√inputs", norm: str = "before (pre-norm)", residual: bool = True
    ) -> None:
        for value, known in ((init, INITS), (norm, NORMS)):
            if value not in known:
                raise ValueError(f"DepthExplorer knows no {value!r}: choose one of {', '.join(map(repr, known))}")
        if not 1 <= depth <= DEEPEST:
            raise ValueError(f"DepthExplorer stacks 1 to {DEEPEST} blocks, not {depth}")
        self.depth = ipywidgets.IntSlider(
            value=depth, min=1, max=DEEPEST, description="Blocks", continuous_update=False
        )
        self.init = ipywidgets.Dropdown(options=list(INITS), value=init, description="Weights")
        self.norm = ipywidgets.Dropdown(options=list(NORMS), value=norm, description="Norm")
        self.residual = ipywidgets.Checkbox(value=residual, description="Residual (add)")
        for control in (self.depth, self.init, self.norm, self.residual):
            control.observe(self.refresh, names="value")
        row = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__(
            [
                ipywidgets.HBox([self.depth, self.init], layout=row),
                ipywidgets.HBox([self.norm, self.residual], layout=row),
            ]
        )

    def profile(self) -> Profile:
        """What the present settings give."""
        return measure(self.depth.value, self.init.value, NORMS[self.norm.value], self.residual.value)

    def settings(self) -> str:
        """The present settings in words."""
        blocks = "1 block" if self.depth.value == 1 else f"{self.depth.value} blocks"
        residual = "on" if self.residual.value else "off"
        return f"{blocks}, weights {self.init.value}, norm {self.norm.value}, residual {residual}"

    def verdict(self) -> str:
        """What is wrong, the worst first; or that nothing is."""
        found = self.profile()
        spread, gradients = found.spreads[-1], found.gradients
        if not all(map(math.isfinite, (spread, *gradients))) or max(spread, *gradients) > LARGEST_FLOAT32:
            return "The signal or its gradient explodes beyond what 32 bits can hold."
        if not any(gradients):
            return "No block gets any gradient: nothing here will ever learn."
        if spread > 1000:
            return "The signal explodes."
        if spread < 0.001:
            return "The signal dies out."
        if found.likenesses[-1] > 0.9:
            return "The signal has the right size and says nothing: all words have become the same."
        least, most = min(gradients), max(gradients)
        if most > 10 * least:
            return f"One block gets {most / least:.0f} times the gradient of another."
        return "Healthy: signal and gradient pass, and the words stay different."

    def to_html(self) -> str:
        """The verdict and the three curves."""
        picture = base64.b64encode(self.to_png()).decode("ascii")
        return (
            f'<p class="title">{html.escape(self.verdict())}</p>'
            f'<p><img style="max-width:100%" alt="{html.escape(self.summary())}" src="data:image/png;base64,{picture}"></p>'
        )

    def picture(self) -> Figure:
        """Three curves over depth: the spread of the stream, the gradient of each block, the likeness of the words."""
        found, depth = self.profile(), self.depth.value
        figure = Figure(figsize=(9.6, 2.9), dpi=100, facecolor="white", layout="constrained")
        figure.suptitle(self.settings(), x=0.01, ha="left", size=10, parse_math=False)
        panels = (
            ("standard deviation of the stream", range(depth + 1), found.spreads, "blue", True),
            ("gradient norm of each block", range(1, depth + 1), found.gradients, "vermillion", True),
            ("likeness of two words", range(depth + 1), found.likenesses, "green", False),
        )
        for axes, (title, places, values, colour, logarithmic) in zip(figure.subplots(1, 3), panels, strict=True):
            axes.set_title(title, size=9, loc="left")
            axes.set_xlabel("block", size=9)
            axes.tick_params(labelsize=8)
            axes.grid(color="#DDDDDD", linewidth=0.6)
            axes.set_axisbelow(True)
            shown = [value if value > 0 or not logarithmic else math.nan for value in values]
            axes.plot(places, shown, "o-", color=COLORS[colour], markersize=3)
            if not logarithmic:
                axes.set_ylim(-0.15, 1.05)
            elif not any(map(math.isfinite, shown)):
                said = "beyond 64 bits" if any(map(math.isnan, values)) else "exactly 0 everywhere"
                axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", size=9)
                axes.set_yticks([])
            else:
                axes.set_yscale("log")
                axes.set_ylim(*_wide(shown))
        return figure

    def summary(self) -> str:
        """The settings, what was measured at both ends, and the verdict."""
        found = self.profile()
        return (
            f"DepthExplorer: {self.settings()}. Standard deviation {found.spreads[0]:.3g} to {found.spreads[-1]:.3g}; "
            f"gradient norm {found.gradients[0]:.3g} in the first block, {found.gradients[-1]:.3g} in the last; "
            f"likeness of two words {found.likenesses[0]:z.2f} to {found.likenesses[-1]:z.2f}. {self.verdict()}"
        )


def _wide(values: list[float]) -> tuple[float, float]:
    """Limits for a logarithmic axis that do not make a mountain of a molehill: two decades at least."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite), max(finite)
    middle = math.sqrt(low) * math.sqrt(high)
    return min(low / 1.5, middle / 10), max(high * 1.5, middle * 10)
