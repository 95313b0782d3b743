"""Watch a training run while it runs: loss against the floor, rate, gradient norm, and what the model writes."""

import html
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from minilm.course.figures import COLORS, in_notebook
from minilm.course.widgets.base import Widget, drawable, shorten, visible

if TYPE_CHECKING:
    from minilm.training import Record, Trainer

WIDE, TALL, STRIP = 720, 200, 60  # pixels of the live curves
SECONDS = 0.25  # between two live views


class TrainingDashboard(Widget):
    """A logger for `minilm.training.Trainer` that shows the run as it goes, and at its end leaves a still picture.

    `floor` is the lowest possible loss and `start` what knowing nothing costs, in the unit of the loss, where they are known.
    Hand it to a trainer (`loggers=[dashboard]`) and train in the same cell: it shows itself when the run begins.

    >>> TrainingDashboard(floor=0.22)
    TrainingDashboard: no steps yet.
    """

    def __init__(self, floor: float | None = None, start: float | None = None, unit: str = "nats a token") -> None:
        for name, value in (("floor", floor), ("start", start)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} = {value}: a loss above 0, or None")
        self.floor, self.start_loss, self.unit = floor, start, unit
        self.records: list[Record] = []
        self.total = 0
        self.text = ""
        self.running = False
        self._shown: Any = None
        self._last_view = 0.0
        super().__init__([])

    # ------------------------------------------------------------------------------------------- what the trainer calls

    def start(self, trainer: "Trainer") -> None:
        """The run begins, or goes on: forget what lies after its step, and appear."""
        self.total = trainer.config.steps
        self.records = [record for record in self.records if record.step <= trainer.step_number]
        self.running = True
        self.refresh()
        if in_notebook():
            from IPython.display import display

            self._shown = display(self, display_id=True)  # type: ignore[no-untyped-call]

    def log(self, record: "Record") -> None:
        """Take a record, and show it if the last view is old enough."""
        self.records.append(record)
        self.text = record.text or self.text
        if time.perf_counter() - self._last_view > SECONDS:
            self.refresh()
            self._last_view = time.perf_counter()

    def finish(self) -> None:
        """The run is over or interrupted: show its last state, and put the still picture into the notebook."""
        self.running = False
        self.refresh()
        if self._shown is not None:
            self._shown.update(self)

    # ---------------------------------------------------------------------------------------------------- what is shown

    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """(step, value) of every metric that the run evaluated."""
        found: dict[str, list[tuple[int, float]]] = {}
        for record in self.records:
            for name, value in record.metrics.items():
                found.setdefault(name, []).append((record.step, value))
        return found

    def below_the_floor(self) -> bool:
        """Whether the loss of the last records lies under the floor by more than chance: then something leaks."""
        recent = [record.loss for record in self.records[-10:]]
        if self.floor is None or len(recent) < 10:
            return False
        mean = sum(recent) / len(recent)
        spread = math.sqrt(sum((loss - mean) ** 2 for loss in recent) / (len(recent) - 1))
        return mean < self.floor - 3 * spread / math.sqrt(len(recent))

    def facts(self) -> str:
        """Where the run stands, in a line."""
        if not self.records:
            return "no steps yet"
        last = self.records[-1]
        words = [f"step {last.step:,} of {self.total:,}", f"loss {last.loss:.3f}"]
        if self.floor is not None:
            words.append(f"{last.loss / self.floor:.1f} times the floor of {self.floor:.3f}")
        words += [f"{name.replace('_', ' ')} {values[-1][1]:.3f}" for name, values in self.metrics().items()]
        words += [f"rate {last.learning_rate:.2g}", f"gradient norm {last.gradient_norm:.2g}"]
        return ", ".join(words)

    def speed(self) -> str:
        """Tokens a second and what is left; only in the live view, since it is another one at every run."""
        if not self.records or not self.records[-1].seconds:
            return ""
        last = self.records[-1]
        left = (self.total - last.step) * last.seconds / last.step
        rest = f", {left:.0f} s left" if self.running else ""
        return f"{last.tokens / last.seconds:,.0f} tokens/s, {last.seconds:.0f} s{rest}"

    def to_html(self) -> str:
        """The state in words, two drawings, and the latest text."""
        said = f'<p class="facts">{html.escape(self.facts())}. {html.escape(self.speed())}</p>'
        if self.below_the_floor():
            said += (
                '<p class="trouble"><b>The loss is below the floor.</b> Nobody can be that good: something leaks.</p>'
            )
        if self.records:
            said += self._curves()
        if self.text:
            said += f'<p class="text">{html.escape(visible(shorten(self.text, 400), spaces=False))}</p>'
        return said

    def _curves(self) -> str:
        """The live view as SVG, which is far quicker than a picture: loss above, rate and gradient norm below."""
        steps = [record.step for record in self.records]
        last = max(self.total, steps[-1], 2)
        across: Callable[[float], float] = lambda step: 50 + (WIDE - 60) * (step - 1) / (last - 1)  # noqa: E731
        losses = [record.loss for record in self.records]
        known = [value for value in (self.floor, self.start_loss) if value is not None]
        low, high = _limits([*losses, *known])
        up = _scale(low, high, 10, TALL - 10)
        parts = [_line(steps, losses, across, up, COLORS["sky"], 1.2)]
        for points in self.metrics().values():
            where, found = [step for step, _ in points], [value for _, value in points]
            parts.append(_line(where, found, across, up, COLORS["blue"], 2.2, dots=True))
        for value, word, color in (
            (self.floor, "floor", COLORS["vermillion"]),
            (self.start_loss, "knows nothing", "#777"),
        ):
            if value is not None:
                parts.append(
                    f'<path d="M50 {up(value):.1f}H{WIDE - 10}" stroke="{color}" stroke-width="1.5" stroke-dasharray="6 4"/>'
                    f'<text x="{WIDE - 12}" y="{up(value) + 13:.1f}" text-anchor="end" fill="{color}">{word} {value:.2f}</text>'
                )
        for value in (low, math.sqrt(low * high), high):
            parts.append(
                f'<text x="46" y="{up(value) + 4:.1f}" text-anchor="end" fill="currentColor">{value:.2g}</text>'
            )
        strips = (
            ("rate", [record.learning_rate for record in self.records], COLORS["green"]),
            ("gradient norm", [record.gradient_norm for record in self.records], COLORS["purple"]),
        )
        for i, (word, values, color) in enumerate(strips):
            top = TALL + 14 + i * STRIP
            most = max([value for value in values if math.isfinite(value)], default=1.0) or 1.0
            down: Callable[[float], float] = lambda v, top=top, most=most: (  # type: ignore[misc] # noqa: E731
                top + (STRIP - 14) * (1 - min(max(0.0, v / most), 1.0))
            )
            parts.append(_line(steps, values, across, down, color, 1.4))
            parts.append(
                f'<text x="{WIDE - 12}" y="{top + 6}" text-anchor="end" fill="{color}">{word}, up to {most:.2g}</text>'
            )
        height = TALL + 14 + 2 * STRIP
        return (
            f'<svg viewBox="0 0 {WIDE} {height}" style="width:100%;max-width:{WIDE}px" role="img" '
            f'aria-label="{html.escape(self.facts())}" font-size="11" fill="none">{"".join(parts)}</svg>'
        )

    def picture(self) -> Figure:
        """The same as a figure, with the latest text under it."""
        figure = Figure(figsize=(8.4, 4.4), dpi=100, facecolor="white", layout="constrained")
        title = figure.suptitle(drawable(self.facts()), x=0.01, ha="left", size=9)
        title.set_parse_math(False)
        top, bottom = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
        steps = [record.step for record in self.records]
        losses = [record.loss for record in self.records]
        top.plot(steps, losses, color=COLORS["sky"], linewidth=0.9, label="each batch")
        for name, values in self.metrics().items():
            top.plot(*zip(*values, strict=True), "o-", color=COLORS["blue"], markersize=3, label=name.replace("_", " "))
        if self.start_loss is not None:
            top.axhline(self.start_loss, color="#777777", linestyle=":", linewidth=1)
        if self.floor is not None:
            top.axhline(self.floor, color=COLORS["vermillion"], linestyle="--", label="floor")
        top.set(ylabel=self.unit)
        if any(0 < loss < math.inf for loss in losses):
            top.set_yscale("log")
            top.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            top.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            top.minorticks_off()
        if self.records:
            top.legend(fontsize=8, frameon=False)
        bottom.plot(steps, [record.learning_rate for record in self.records], color=COLORS["green"])
        bottom.set_ylabel("rate", color=COLORS["green"])
        right = bottom.twinx()
        right.plot(steps, [record.gradient_norm for record in self.records], color=COLORS["purple"], linewidth=0.8)
        right.set_ylabel("gradient norm", color=COLORS["purple"], size=8)
        bottom.set_xlabel("step")
        for axes in (top, bottom):
            axes.grid(color="#DDDDDD", linewidth=0.6)
            axes.set_axisbelow(True)
        if self.text:
            said = figure.supxlabel(drawable(visible(shorten(self.text, 130), spaces=False)), size=8, x=0.01, ha="left")
            said.set_parse_math(False)
        return figure

    def summary(self) -> str:
        """Where the run stands, whether it can be trusted, and the latest text."""
        words = f"TrainingDashboard: {self.facts()}."
        if self.below_the_floor():
            words += " The loss is below the floor: something leaks."
        return words + (f" The model writes: {shorten(self.text, 120)!r}" if self.text else "")


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The range of a logarithmic axis: what is finite and above 0, with a little room."""
    kept = [value for value in values if 0 < value < math.inf] or [1.0]
    return min(kept) / 1.15, max(kept) * 1.15


def _scale(low: float, high: float, top: float, bottom: float) -> Callable[[float], float]:
    """From a value to a height, logarithmic, the highest at the top; what is off the axis stays at its edge."""

    def height(value: float) -> float:
        if math.isnan(value):
            return top
        clamped = min(max(value, low), high)
        return bottom - (bottom - top) * math.log(clamped / low) / math.log(high / low)

    return height


def _line(
    steps: Sequence[int],
    values: Sequence[float],
    across: Callable[[float], float],
    up: Callable[[float], float],
    color: str,
    width: float,
    dots: bool = False,
) -> str:
    """A curve as SVG, of at most some hundred points."""
    every = max(1, len(steps) // 600)
    chosen = list(zip(steps, values, strict=True))
    chosen = chosen[::every] + chosen[-1:]
    points = " ".join(f"{across(step):.1f},{up(value):.1f}" for step, value in chosen)
    marks = "".join(
        f'<circle cx="{across(step):.1f}" cy="{up(value):.1f}" r="2.5" fill="{color}"/>'
        for step, value in chosen
        if dots
    )
    return f'<polyline points="{points}" stroke="{color}" stroke-width="{width}" fill="none"/>{marks}'
