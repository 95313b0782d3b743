"""Step through a backward pass over a small graph of Scalars: which number's turn it is, and what has arrived where."""

import base64
import html
from collections import defaultdict
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from minilm.course.figures import COLORS
from minilm.course.widgets.base import INK, PLAIN, TINTS, Widget, step_slider

if TYPE_CHECKING:
    from minilm.gradients import Scalar

MOST_NUMBERS = 24
WIDE, HIGH = 1.9, 1.15  # inches from column to column, and from row to row


class GraphStepper(Widget):
    """Slide through `backward()` on the graph of one result, a number at a time.

    Values run from left to right, gradients from right to left. A number passes its gradient on when its turn comes:
    times the slope that is written on the edge. The gradients stored in the Scalars are neither read nor changed.
    """

    def __init__(self, result: "Scalar", step: int = 0) -> None:
        self.numbers = result.graph()
        if len(self.numbers) > MOST_NUMBERS:
            raise ValueError(
                f"this graph has {len(self.numbers)} numbers, too many to draw; GraphStepper takes up to {MOST_NUMBERS}"
            )
        if not 0 <= step <= len(self.numbers):
            raise ValueError(f"step {step} is not among the steps 0..{len(self.numbers)} of this graph")
        self.history = self._arrivals()
        self.slider, row = step_slider("Step", len(self.numbers), step)
        self.slider.observe(self.refresh, names="value")
        super().__init__([row])

    def _arrivals(self) -> "list[dict[Scalar, float]]":
        """What has arrived at each number after 0, 1, 2, ... numbers have passed theirs on."""
        arriving = {self.numbers[0]: 1.0}
        history = [dict(arriving)]
        for number in self.numbers:
            for source, slope in number.edges:
                arriving[source] = arriving.get(source, 0.0) + arriving[number] * slope
            history.append(dict(arriving))
        return history

    @property
    def step(self) -> int:
        """How many numbers have passed their gradient on."""
        return int(self.slider.value)

    def name(self, number: "Scalar") -> str:
        """A number's name, or its value if it has none."""
        return number.name or f"{number.value:g}"

    def headline(self) -> str:
        """What the last step did."""
        if not self.step:
            return f"Start: the slope of {self.name(self.numbers[0])} with respect to itself is 1."
        number = self.numbers[self.step - 1]
        own = self.history[self.step][number]
        if not number.edges:
            return f"Step {self.step}: {self.name(number)} has no inputs; its gradient, {own:.4g}, is an answer."
        parts = " and ".join(f"{own:.4g} × {slope:.4g} to {self.name(source)}" for source, slope in number.edges)
        return f"Step {self.step}: '{self.name(number)}' passes on {parts}."

    def places(self) -> "dict[Scalar, tuple[float, float]]":
        """Where each number stands: its depth gives the column, and a column is centred."""
        columns: dict[int, list[Scalar]] = defaultdict(list)
        for number in reversed(self.numbers):
            columns[number.depth].append(number)
        return {
            number: (float(depth), (len(column) - 1) / 2 - row)
            for depth, column in columns.items()
            for row, number in enumerate(column)
        }

    def to_html(self) -> str:
        """The drawing; its alternative text says the same."""
        picture = base64.b64encode(self.to_png()).decode("ascii")
        return f'<p><img style="max-width:100%" alt="{html.escape(self.summary())}" src="data:image/png;base64,{picture}"></p>'

    def picture(self) -> Figure:
        """The graph: a box for each number with its value and what has arrived, an arrow for each edge with its slope."""
        places = self.places()
        wide = max(x for x, _ in places.values())
        high = max(abs(y) for _, y in places.values())
        figure = Figure(figsize=(WIDE * (wide + 1.1), HIGH * (2 * high + 1.55)), dpi=100, facecolor="white")
        figure.set_layout_engine("none")  # whatever a lesson's style says: the axes fill the page
        axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.55, wide + 0.55), ylim=(-high - 0.65, high + 0.9))
        axes.axis("off")
        axes.text(-0.5, high + 0.7, self.headline(), size=10, color=INK, parse_math=False, weight="bold")
        turn = self.numbers[self.step - 1] if self.step else None
        for number in self.numbers:
            for which, (source, slope) in enumerate(number.edges):
                bend = self._bend(number, source, which, places)
                self._arrow(axes, places[source], places[number], slope, number is turn, bend)
        for number, (x, y) in places.items():
            self._box(axes, number, x, y, number is turn)
        return figure

    @staticmethod
    def _bend(number: "Scalar", source: "Scalar", which: int, places: "dict[Scalar, tuple[float, float]]") -> float:
        """How far an edge leaves the straight line: two between the same boxes part, a long one in a row goes round."""
        if sum(other is source for other, _ in number.edges) > 1:
            return 0.25 - 0.5 * which
        (x, y), (to_x, to_y) = places[source], places[number]
        return -0.28 if to_x - x > 1 and y == to_y else 0.0

    def _arrow(
        self, axes: object, start: tuple[float, float], end: tuple[float, float], slope: float, busy: bool, bend: float
    ) -> None:
        colour = COLORS["vermillion"] if busy else "#808080"
        arrow = FancyArrowPatch(
            start,
            end,
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="<|-"
            if busy
            else "-|>",  # values flow forward; the number whose turn it is sends gradients back
            mutation_scale=14,
            shrinkA=34,
            shrinkB=34,
            linewidth=2.4 if busy else 1.1,
            color=colour,
        )
        axes.add_patch(arrow)  # type: ignore[attr-defined]
        # In the middle of the arrow; a bent one bulges by half its bend, measured in inches.
        bulge = 0.5 * bend * (end[0] - start[0]) * WIDE / HIGH
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - bulge
        label = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        text = f"×{slope:.3g}"
        axes.text(x, y, text, size=8, color=colour, ha="center", va="center", bbox=label, parse_math=False)  # type: ignore[attr-defined]

    def _box(self, axes: object, number: "Scalar", x: float, y: float, busy: bool) -> None:
        done = number in self.numbers[: self.step]
        arrived = self.history[self.step].get(number)
        gradient = "gradient –" if arrived is None else f"gradient {arrived:.4g}"
        axes.text(  # type: ignore[attr-defined]
            x,
            y,
            f"{self.name(number)}\n{number.value:.4g}\n{gradient}",
            size=8.5,
            color=INK,
            ha="center",
            va="center",
            linespacing=1.35,
            parse_math=False,
            weight="bold" if busy else "normal",
            bbox={
                "boxstyle": "round,pad=0.4",
                "facecolor": TINTS[2] if done else TINTS[1] if arrived is not None else PLAIN,
                "edgecolor": COLORS["vermillion"] if busy else "#808080",
                "linewidth": 2.4 if busy else 0.8,
            },
        )

    def summary(self) -> str:
        """The step and what has arrived at every number that has a name."""
        arrived = self.history[self.step]
        known = ", ".join(f"{self.name(number)} {arrived[number]:.4g}" for number in self.numbers if number in arrived)
        return f"GraphStepper at step {self.step} of {len(self.numbers)}. {self.headline()} Gradients so far, from the result back: {known}."
