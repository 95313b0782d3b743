"""Move a query and a key along a text and see their channel pairs turn, and what is left of it in their dot product."""

import base64
import html
import math
import random
from collections.abc import Sequence

import ipywidgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minilm.course.figures import COLORS
from minilm.course.widgets.base import Widget

DIMS = (4, 8, 16, 32, 64, 128)
BASES = (10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 500_000.0, 1_000_000.0)
LAYOUTS = {"interleaved: (0, 1), (2, 3), ...": True, "half-split: (0, dim/2), (1, dim/2 + 1), ...": False}
FARTHEST = 128
SEED = 3


def frequency(pair: int, dim: int, base: float) -> float:
    """Radians by which the pair turns from one position to the next."""
    return float(base ** (-2 * pair / dim))


def channels(pair: int, dim: int, interleaved: bool) -> tuple[int, int]:
    """The two channels that turn together."""
    return (2 * pair, 2 * pair + 1) if interleaved else (pair, pair + dim // 2)


def turned(vector: Sequence[float], position: float, base: float, interleaved: bool) -> list[float]:
    """The vector with all its pairs turned to a position."""
    dim, result = len(vector), list(vector)
    for pair in range(dim // 2):
        a, b = channels(pair, dim, interleaved)
        angle = position * frequency(pair, dim, base)
        result[a] = vector[a] * math.cos(angle) - vector[b] * math.sin(angle)
        result[b] = vector[a] * math.sin(angle) + vector[b] * math.cos(angle)
    return result


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    """The dot product of two vectors."""
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


class RotaryExplorer(Widget):
    """What rotary positions do to a query and a key, by position, distance, base, width, layout and pair.

    The vectors are either all ones, which shows the bare effect of distance, or drawn at random once (the same at every run).

    >>> RotaryExplorer(dim=16, key=10, distance=5)
    RotaryExplorer: dim 16, base 10,000, interleaved, vectors of ones; key at 10, query at 15. Pair 0 (channels 0 and 1) turns 1 rad a position, a full turn in 6.28 positions; between key and query it turned 286.5 degrees. The dot product is 12.27 of 16.00 at distance 0.
    """

    def __init__(self, dim: int = 32, base: float = 10_000.0, key: int = 0, distance: int = 0) -> None:
        if dim not in DIMS:
            raise ValueError(f"RotaryExplorer shows dim = {', '.join(map(str, DIMS))}, not {dim}")
        if base not in BASES:
            raise ValueError(f"RotaryExplorer shows base = {', '.join(f'{b:g}' for b in BASES)}, not {base:g}")
        if not (0 <= key <= FARTHEST and -FARTHEST <= distance <= FARTHEST):
            raise ValueError(f"key = {key} must lie in 0..{FARTHEST}, distance = {distance} in +-{FARTHEST}")
        wide = ipywidgets.Layout(width="99%", max_width="640px")
        style = {"description_width": "130px"}
        self.key = ipywidgets.IntSlider(
            value=key, min=0, max=FARTHEST, description="Position of the key", layout=wide, style=style
        )
        self.distance = ipywidgets.IntSlider(
            value=distance, min=-FARTHEST, max=FARTHEST, description="Query minus key", layout=wide, style=style
        )
        self.pair = ipywidgets.IntSlider(value=0, min=0, max=dim // 2 - 1, description="Pair", layout=wide, style=style)
        self.base = ipywidgets.Dropdown(
            options=[(f"{b:,.0f}", b) for b in BASES], value=base, description="Base", style=style
        )
        self.dim = ipywidgets.Dropdown(options=DIMS, value=dim, description="Width (dim)", style=style)
        self.layout = ipywidgets.Dropdown(options=list(LAYOUTS), description="Layout", style=style)
        self.vectors = ipywidgets.Dropdown(options=["ones", "random"], description="Vectors", style=style)
        self.dim.observe(self._change_dim, names="value")
        for control in (self.key, self.distance, self.pair, self.base, self.layout, self.vectors):
            control.observe(self.refresh, names="value")
        row = ipywidgets.Layout(flex_flow="row wrap")
        choices = ipywidgets.HBox([self.base, self.dim, self.vectors, self.layout], layout=row)
        super().__init__([self.key, self.distance, self.pair, choices])

    def _change_dim(self, _: object = None) -> None:
        self.pair.max = self.dim.value // 2 - 1  # the slider keeps its value inside by itself
        self.refresh()

    @property
    def interleaved(self) -> bool:
        """Whether neighbouring channels are paired."""
        return LAYOUTS[self.layout.value]

    @property
    def query(self) -> int:
        """The position of the query."""
        return int(self.key.value + self.distance.value)

    def query_and_key(self) -> tuple[list[float], list[float]]:
        """The two vectors before they are turned."""
        dim = self.dim.value
        if self.vectors.value == "ones":
            return [1.0] * dim, [1.0] * dim
        rng = random.Random(SEED)
        drawn = [(rng.gauss(0, 1), rng.gauss(0, 1)) for _ in range(dim)]
        return [q for q, _ in drawn], [k for _, k in drawn]

    def score(self, key_position: int, distance: int) -> float:
        """The dot product of the key turned to its position and the query turned to a position `distance` later."""
        q, k = self.query_and_key()
        how = (self.base.value, self.interleaved)
        return dot(turned(q, key_position + distance, *how), turned(k, key_position, *how))

    def turns(self) -> str:
        """How fast the chosen pair is, and how far it turned between key and query."""
        speed = frequency(self.pair.value, self.dim.value, self.base.value)
        a, b = channels(self.pair.value, self.dim.value, self.interleaved)
        return (
            f"Pair {self.pair.value} (channels {a} and {b}) turns {speed:.3g} rad a position, a full turn in "
            f"{2 * math.pi / speed:,.3g} positions; between key and query it turned "
            f"{math.degrees(speed * self.distance.value):,.1f} degrees."
        ).replace("e+", "e")

    def headline(self) -> str:
        """The dot product, beside the one without a distance."""
        here, together = self.score(self.key.value, self.distance.value), self.score(self.key.value, 0)
        return f"The dot product is {here:.2f} of {together:.2f} at distance 0."

    def to_html(self) -> str:
        """Both sentences and the picture."""
        picture = base64.b64encode(self.to_png()).decode("ascii")
        return (
            f'<p class="title">{html.escape(self.headline())}</p><p class="facts">{html.escape(self.turns())}</p>'
            f'<img style="max-width:100%" src="data:image/png;base64,{picture}" alt="{html.escape(self.summary())}">'
        )

    def picture(self) -> Figure:
        """On the left the chosen pair of query and key as arrows; on the right the dot product against the distance."""
        figure = Figure(figsize=(9.4, 3.5), dpi=100, facecolor="white", layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 2))
        self._draw_pair(left)
        self._draw_scores(right)
        return figure

    def _draw_pair(self, axes: Axes) -> None:
        a, b = channels(self.pair.value, self.dim.value, self.interleaved)
        q, k = self.query_and_key()
        reach = 1.15 * max(math.hypot(q[a], q[b]), math.hypot(k[a], k[b]), 1e-6)
        how = (self.base.value, self.interleaved)
        arrows = [("query", q, self.query, "blue", "-"), ("key", k, self.key.value, "vermillion", "--")]
        for name, vector, position, colour, line in arrows:
            end = turned(vector, position, *how)
            axes.plot([0, vector[a]], [0, vector[b]], color=COLORS[colour], linewidth=1, alpha=0.35)
            axes.plot(
                [0, end[a]], [0, end[b]], line, color=COLORS[colour], linewidth=2.5, label=f"{name} at {position}"
            )
            axes.plot(end[a], end[b], "o" if name == "query" else "s", color=COLORS[colour])
            axes.plot(
                *zip(*(_on_circle(math.hypot(vector[a], vector[b]), i) for i in range(61)), strict=True),
                color="#BBBBBB",
                linewidth=0.7,
                zorder=0,
            )
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel=f"channel {a}", ylabel=f"channel {b}")
        axes.set_aspect("equal")
        axes.set_title(f"pair {self.pair.value} (faint: before turning)", size=10, loc="left")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=8, frameon=False)

    def _draw_scores(self, axes: Axes) -> None:
        distances = range(-FARTHEST, FARTHEST + 1)
        axes.plot(
            distances,
            [self.score(0, d) for d in distances],
            color=COLORS["sky"],
            linewidth=4,
            label="key at 0",
        )
        axes.plot(
            distances,
            [self.score(self.key.value, d) for d in distances],
            color=COLORS["black"],
            linewidth=1,
            label=f"key at {self.key.value}",
        )
        axes.plot(
            self.distance.value, self.score(self.key.value, self.distance.value), "o", color=COLORS["vermillion"], ms=9
        )
        axes.set(xlabel="query minus key", ylabel="dot product")
        axes.set_title("all pairs together: the place of the key does not matter", size=10, loc="left")
        axes.legend(fontsize=8, frameon=False, loc="upper right")

    def summary(self) -> str:
        """The settings, the pair and the dot product."""
        kind = "ones" if self.vectors.value == "ones" else "random numbers"
        return (
            f"RotaryExplorer: dim {self.dim.value}, base {self.base.value:,.0f}, "
            f"{'interleaved' if self.interleaved else 'half-split'}, vectors of {kind}; key at {self.key.value}, "
            f"query at {self.query}. {self.turns()} {self.headline()}"
        )


def _on_circle(radius: float, step: int) -> tuple[float, float]:
    return radius * math.cos(step * math.pi / 30), radius * math.sin(step * math.pi / 30)
