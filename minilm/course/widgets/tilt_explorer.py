"""How far may a policy lean towards a reward? One slider, beta: the best policy that exists, on samples of its own reference."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import ipywidgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minilm.course.figures import COLORS
from minilm.course.widgets.base import Sheet, Widget, drawable, shorten, visible, write

BETAS = (
    10.0,
    7.0,
    5.0,
    4.0,
    3.0,
    2.0,
    1.5,
    1.0,
    0.7,
    0.5,
    0.35,
    0.25,
    0.18,
    0.12,
    0.08,
    0.05,
)
BINS = 9
SHOWN = 3
FEW = 30
"""Effective samples below which nothing should be read off (as `minilm.finetuning.frontier`)."""


@dataclass(frozen=True)
class Bin:
    """Texts of about one reward: from where to where, and their share before and after the tilt."""

    low: float
    high: float
    before: float
    after: float


class TiltExplorer(Widget):
    """Samples of a reference with their rewards, and beta: the same samples weighted by exp(r / beta), the best policy there is.

    >>> TiltExplorer(["sad", "glad"], [0.0, 1.0], beta=1.0)
    TiltExplorer: beta 1: reward 0.731 (0.500 before), KL 0.111 nats, carried by 1.6 of 2 samples, too few to trust. Likeliest now: "glad" 0.731, "sad" 0.269.
    """

    def __init__(self, texts: Sequence[str], rewards: Sequence[float], beta: float = 1.0) -> None:
        if len(texts) != len(rewards) or len(texts) < 2:
            raise ValueError(f"{len(texts)} texts and {len(rewards)} rewards: give at least two, and a reward for each")
        if not all(math.isfinite(reward) for reward in rewards):
            raise ValueError("every reward must be a finite number")
        if not beta > 0:
            raise ValueError(f"beta = {beta}: it must be above 0")
        self.texts, self.rewards = list(texts), [float(reward) for reward in rewards]
        steps = sorted({*BETAS, float(beta)}, reverse=True)
        self.beta = ipywidgets.SelectionSlider(
            options=[(f"{step:g}", step) for step in steps],
            value=float(beta),
            description="beta",
            continuous_update=False,
            layout=ipywidgets.Layout(width="480px"),
        )
        self.beta.observe(self.refresh, names="value")
        super().__init__([self.beta])

    def weights(self) -> list[float]:
        """Each sample's share under the best policy for this beta; they sum to 1."""
        top = max(self.rewards)
        raw = [math.exp((reward - top) / self.beta.value) for reward in self.rewards]
        total = math.fsum(raw)
        return [each / total for each in raw]

    def figures(self) -> tuple[float, float, float]:
        """Expected reward, KL from the reference in nats, and the number of samples that carry the weight."""
        weights = self.weights()
        reward = math.fsum(w * r for w, r in zip(weights, self.rewards, strict=True))
        kl = math.fsum(w * math.log(w * len(weights)) for w in weights if w > 0)
        return reward, max(kl, 0.0), 1 / math.fsum(w * w for w in weights)

    def bins(self) -> list[Bin]:
        """The rewards in bins of one width, with the shares of both distributions."""
        low, high = min(self.rewards), max(self.rewards)
        width = (high - low) / BINS or 1.0
        before, after = [0.0] * BINS, [0.0] * BINS
        for reward, weight in zip(self.rewards, self.weights(), strict=True):
            place = min(int((reward - low) / width), BINS - 1)
            before[place] += 1 / len(self.rewards)
            after[place] += weight
        return [Bin(low + i * width, low + (i + 1) * width, before[i], after[i]) for i in range(BINS)]

    def likeliest(self) -> list[tuple[str, float]]:
        """The texts with the largest shares: the same text drawn twice counts twice."""
        shares: dict[str, float] = {}
        for text, weight in zip(self.texts, self.weights(), strict=True):
            shares[text] = shares.get(text, 0.0) + weight
        return sorted(shares.items(), key=lambda each: (-each[1], each[0]))[:SHOWN]

    def facts(self) -> str:
        """The figures in a sentence."""
        reward, kl, carried = self.figures()
        mean = math.fsum(self.rewards) / len(self.rewards)
        trust = "" if carried >= FEW else ", too few to trust"
        return (
            f"beta {self.beta.value:g}: reward {reward:.3f} ({mean:.3f} before), KL {kl:.3f} nats, "
            f"carried by {carried:,.1f} of {len(self.rewards):,} samples{trust}."
        )

    def to_html(self) -> str:
        """The figures, a row for each bin with two bars, and the likeliest texts."""
        bins = self.bins()
        longest = max(max(each.before, each.after) for each in bins)
        rows = ""
        for each in bins:
            cells = "".join(
                f'<td style="width:38%"><span class="bar" style="width:{75 * share / longest:.1f}%;background:{colour}"></span> {share:.3f}</td>'
                for share, colour in (
                    (each.before, COLORS["sky"]),
                    (each.after, COLORS["orange"]),
                )
            )
            rows += f'<tr><th scope="row">{each.low:.2f} to {each.high:.2f}</th>{cells}</tr>'
        texts = "".join(
            f'<li class="text">{share:.3f} {html.escape(visible(text, spaces=False))}</li>'
            for text, share in self.likeliest()
        )
        return (
            f'<p class="facts">{html.escape(self.facts())}</p>'
            f'<table><thead><tr><th scope="col">reward</th><th scope="col">reference</th><th scope="col">best policy</th></tr></thead>'
            f"<tbody>{rows}</tbody></table><p class='facts'>Likeliest now:</p><ul>{texts}</ul>"
        )

    def picture(self) -> Figure:
        """The same on a page."""
        sheet = Sheet()
        sheet.text(self.facts(), bold=True)
        sheet.space(0.4)
        bins = self.bins()
        longest = max(max(each.before, each.after) for each in bins)
        sheet.height += Sheet.LINE
        for x, name in ((0, "reward"), (20, "reference"), (62, "best policy")):
            _write(sheet, x, name)
        for each in bins:
            sheet.height += Sheet.LINE
            _write(sheet, 0, f"{each.low:.2f} to {each.high:.2f}")
            for x, share, colour in (
                (20, each.before, COLORS["sky"]),
                (62, each.after, COLORS["orange"]),
            ):
                wide = max(30 * share / longest, 0.2)
                sheet.drawings.append(partial(_bar, x=x, bottom=sheet.height, wide=wide, colour=colour))
                _write(sheet, x + wide + 0.8, f"{share:.3f}")
        sheet.space(0.4)
        for text, share in self.likeliest():
            sheet.text(f"{share:.3f} {shorten(visible(text, spaces=False), 200)}")
        return sheet.figure()

    def summary(self) -> str:
        """The figures and the likeliest texts in words."""
        texts = ", ".join(f'"{shorten(visible(text, spaces=False))}" {share:.3f}' for text, share in self.likeliest())
        return f"TiltExplorer: {self.facts()} Likeliest now: {texts}."


def _write(sheet: Sheet, x: float, text: str) -> None:
    """A few words on the present line of a sheet."""
    sheet.drawings.append(partial(write, x=x, y=sheet.height - 0.055, text=drawable(text), size=9, ha="left"))


def _bar(axes: Axes, x: float, bottom: float, wide: float, colour: str) -> None:
    """A bar on the line that ends at `bottom`."""
    axes.add_patch(
        Rectangle(
            (x, bottom - 0.18),
            wide,
            0.13,
            facecolor=colour,
            edgecolor="#808080",
            linewidth=0.6,
        )
    )
