"""Are my numbers right? A learner's training curve over the band of recorded runs, with a verdict.

Two runs of the same cell differ: by the seed, and in the last digits by the processor. A band says how much is normal. It is the prediction
interval for one more run, mean ± t s sqrt(1 + 1/n) over the logarithms of n recorded losses, at a few points of the smoothed curve; t is chosen such that all
points together raise a false alarm in fewer than one run of fifty, if the logarithms of losses spread like a normal distribution (slow runs are
slow by a factor). Where the lowest possible loss is known the band ends there.
`python -m experiments.bands` records the runs from the lessons' own cells, and says how often each run falls out of the band of the others.
"""

import difflib
import functools
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parent / "recorded"
FALSE_ALARMS = 0.02
"""How often a run that is right may be called outside, over all points of a band together."""


@dataclass(frozen=True)
class Point:
    """The smoothed loss at one step, beside the interval that is normal there."""

    step: int
    value: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether the value lies in the interval; one that is no number does not."""
        return self.low <= self.value <= self.high


@dataclass(frozen=True)
class Band:
    """Smoothed losses of several seeds of one training cell, at the steps of `grid`."""

    name: str
    unit: str  # of a loss, such as "nats a word"
    steps: int  # how many steps a run has
    smooth: int  # a value is the mean over this many steps, the last of them being its own
    points: tuple[int, ...]  # the steps, counted from 1, where a curve is judged
    grid: tuple[int, ...]  # the steps that are drawn; holds the points
    runs: tuple[tuple[float, ...], ...]  # a row for each seed, a value for each step of the grid
    floor: float | None = None  # the lowest loss that is possible, where it is known

    def interval(self, step: int) -> tuple[float, float]:
        """Lowest and highest value that are normal at a step of the grid."""
        column = self.grid.index(step)
        values = [math.log(run[column]) for run in self.runs]
        n = len(values)
        t = student_quantile(FALSE_ALARMS / len(self.points) / 2, n - 1)
        half = t * statistics.stdev(values) * math.sqrt(1 + 1 / n)
        low, high = (math.exp(statistics.fmean(values) + side) for side in (-half, half))
        return max(low, self.floor or 0.0), high

    def compare(self, losses: Sequence[float]) -> list[Point]:
        """The learner's loss of every step against the band, at its points.

        Raises ValueError for a run of another length: its schedule is another one, so nothing can be said.
        """
        if len(losses) != self.steps:
            raise ValueError(
                f"your curve has {len(losses)} steps and the recorded ones {self.steps}: the rate rises and falls with the length of a run, "
                f"so only runs of {self.steps} steps can be compared"
            )
        smoothed = smoothed_at(losses, self.points, self.smooth)
        return [Point(step, value, *self.interval(step)) for step, value in zip(self.points, smoothed, strict=True)]

    def verdict(self, losses: Sequence[float]) -> str:
        """A line for each point, and what they say together."""
        found = self.compare(losses)
        lines = [
            f"step {p.step:>5}: {p.value:.3f}, {'inside' if p.inside else 'OUTSIDE'} the band {p.low:.3f} to {p.high:.3f}"
            for p in found
        ]
        out = [p for p in found if not p.inside]
        if not out:
            lines.append(f"Your numbers are right: as {len(self.runs)} recorded runs would lead one to expect.")
        elif all(p.value < p.low for p in out):
            lines.append(
                "Lower than other seeds explain. Too good is suspicious: is anything of the answer in the input?"
            )
        else:
            lines.append(
                "Higher than other seeds explain (they would in fewer than one run of fifty). What is different: rate, batch, data, a part of the model?"
            )
        return "\n".join(lines)

    def figure(self, losses: Sequence[float]) -> "Figure":
        """The band, its points, and the learner's smoothed curve."""
        from matplotlib.figure import Figure

        from minilm.course.figures import COLORS

        found = self.compare(losses)
        bounds = [self.interval(step) for step in self.grid]
        figure = Figure(figsize=(7.0, 3.0), layout="constrained")
        axes = figure.subplots()
        low, high = [b[0] for b in bounds], [b[1] for b in bounds]
        axes.fill_between(
            self.grid, low, high, color=COLORS["sky"], alpha=0.35, linewidth=0, label="where a run should lie"
        )
        axes.plot(self.grid, smoothed_at(losses, self.grid, self.smooth), color=COLORS["blue"], label="yours")
        for point in found:
            axes.plot([point.step] * 2, [point.low, point.high], color=COLORS["black"], linewidth=1.2)
            mark, color = ("o", "blue") if point.inside else ("X", "vermillion")
            axes.plot(point.step, point.value, mark, color=COLORS[color])
        if self.floor is not None:
            axes.axhline(self.floor, color=COLORS["vermillion"], linestyle="--", linewidth=1.2, label="the floor")
        axes.set(xlabel="step", ylabel=self.unit)
        axes.legend()
        return figure

    def show(self, losses: Sequence[float]) -> None:
        """Draw the curve over the band and say the verdict."""
        from minilm.course.figures import show

        inside = all(point.inside for point in self.compare(losses))
        where = "runs inside the band" if inside else "leaves the band"
        show(self.figure(losses), alt=f"Your smoothed loss over the steps {where} of {len(self.runs)} recorded runs.")
        print(self.verdict(losses))

    def leave_one_out(self) -> int:
        """How many of the recorded runs fall out of the band that the others make: an honest count of false alarms."""
        alarms = 0
        for i, run in enumerate(self.runs):
            others = Band(**{**self.__dict__, "runs": self.runs[:i] + self.runs[i + 1 :]})
            values = {step: run[self.grid.index(step)] for step in self.points}
            alarms += not all(Point(step, values[step], *others.interval(step)).inside for step in self.points)
        return alarms


def recorded_band(name: str) -> Band:
    """The recorded band of a lesson's training cell, such as "03-one-head"; ValueError names the nearest one there is."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        known = sorted(file.stem for file in FOLDER.glob("*.json"))
        near = difflib.get_close_matches(name, known, n=1)
        raise ValueError(
            f"no recorded band {name!r}: " + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}")
        )
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Band(
        name=name,
        unit=data["unit"],
        steps=data["steps"],
        smooth=data["smooth"],
        points=tuple(data["points"]),
        grid=tuple(data["grid"]),
        runs=tuple(tuple(run) for run in data["runs"]),
        floor=data["floor"],
    )


def smoothed_at(losses: Sequence[float], steps: Sequence[int], smooth: int) -> list[float]:
    """The mean of the last `smooth` losses up to each of the steps, counted from 1 (of fewer at the beginning)."""
    return [statistics.fmean(losses[max(0, step - smooth) : step]) for step in steps]


@functools.cache
def student_quantile(tail: float, degrees: int) -> float:
    """The t that a variable of Student's distribution exceeds with probability `tail` < 1/2, to about six digits.

    By bisection on the integral of the density, by Simpson's rule in x = atan(t / sqrt(degrees)), where it is a power of a cosine.
    """
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)

    def inner(x: float, parts: int = 400) -> float:
        """The probability between 0 and t."""
        h = x / parts
        total = sum((4 if i % 2 else 2) * math.cos(i * h) ** (degrees - 1) for i in range(1, parts))
        return scale * h / 3 * (1 + total + math.cos(x) ** (degrees - 1))

    low, high = 0.0, math.pi / 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if inner(middle) < 0.5 - tail else (low, middle)
    return math.sqrt(degrees) * math.tan(low)
