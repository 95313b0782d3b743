"""Design how the learning rate moves: warm-up, cosine, WSD or plateau, and where it ends; and see how much learning that is."""

import base64
import html
import math
from collections.abc import Callable

import ipywidgets
from matplotlib.figure import Figure

from minilm.course.figures import COLORS
from minilm.course.widgets.base import Widget

KINDS = {"constant": "constant", "cosine": "cosine", "WSD: up, level, down": "wsd", "plateau: drops": "plateau"}
PLACES = 400  # points of the drawn curve


class ScheduleDesigner(Widget):
    """Sliders for a schedule's shares of the run, its curve, and the area under it in full-rate steps.

    `warmup` and `decay` are shares of the run, `final` the factor at its end. The real plateau rule watches the loss; here
    it drops to a tenth at one half and at three quarters of the time after the warm-up, down to `final`.

    >>> ScheduleDesigner("cosine", steps=1000, warmup=0.1).factor(1000)
    0.0
    """

    def __init__(
        self, kind: str = "cosine", steps: int = 1000, warmup: float = 0.05, decay: float = 0.2, final: float = 0.0
    ) -> None:
        if kind not in KINDS.values():
            raise ValueError(
                f"ScheduleDesigner knows no {kind!r}: choose one of {', '.join(map(repr, KINDS.values()))}"
            )
        if steps < 2:
            raise ValueError(f"steps = {steps}: a schedule needs at least 2")
        for name, value, most in (("warmup", warmup, 0.5), ("decay", decay, 1.0), ("final", final, 1.0)):
            if not 0 <= value <= most:
                raise ValueError(f"{name} = {value}: a share from 0 to {most}")
        self.steps = steps
        self.kind = ipywidgets.Dropdown(options=KINDS, value=kind, description="Shape")
        self.warmup = _slider("Warm-up", warmup, 0.5)
        self.decay = _slider("Decay", decay, 1.0)
        self.final = _slider("Final", final, 1.0)
        for control in (self.kind, self.warmup, self.decay, self.final):
            control.observe(self.refresh, names="value")
        row = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__(
            [
                ipywidgets.HBox([self.kind, self.warmup], layout=row),
                ipywidgets.HBox([self.decay, self.final], layout=row),
            ]
        )

    @property
    def warmup_steps(self) -> int:
        """The steps on the way up."""
        return round(float(self.warmup.value) * self.steps)

    @property
    def decay_steps(self) -> int:
        """The steps on WSD's way down: what is left of the run at most."""
        return min(round(float(self.decay.value) * self.steps), self.steps - self.warmup_steps)

    def schedule(self) -> Callable[[int], float]:
        """The present design as a function of the step: `minilm.training`'s own."""
        from minilm.training import schedules

        kind, warmup, final = self.kind.value, self.warmup_steps, self.final.value
        if kind == "cosine":
            return lambda step: schedules.warmup_cosine(step, warmup=warmup, total=self.steps, final=final)
        if kind == "wsd":
            stable, decay = self.steps - warmup - self.decay_steps, self.decay_steps
            return lambda step: schedules.warmup_stable_decay(
                step, warmup=warmup, stable=stable, decay=decay, final=final
            )
        drops = (0.5, 0.75) if kind == "plateau" else ()

        def level(step: int) -> float:
            if step < warmup:
                return step / warmup
            passed = (step - warmup) / max(self.steps - warmup, 1)
            return max(0.1 ** sum(passed >= drop for drop in drops), final if drops else 1.0)

        return level

    def factor(self, step: int) -> float:
        """The factor of the peak rate at a step from 1 to `steps`."""
        return self.schedule()(step)

    def area(self) -> float:
        """The sum of the factors of all steps: as much learning as this many steps at the full rate."""
        factor = self.schedule()
        return math.fsum(factor(step) for step in range(1, self.steps + 1))

    def settings(self) -> str:
        """The present settings in words."""
        words = [f"{self.kind.value} over {self.steps:,} steps, warm-up {self.warmup_steps:,}"]
        if self.kind.value == "wsd":
            words.append(f"level {self.steps - self.warmup_steps - self.decay_steps:,}, decay {self.decay_steps:,}")
        return ", ".join(words)

    def advice(self) -> str:
        """What this design means, the most important first."""
        kind, last = self.kind.value, self.factor(self.steps)
        if kind == "plateau":
            return "A real plateau rule decides by the loss when to drop; these places are only an example."
        if last > 0.3:
            return f"It ends at {last:.0%} of the peak: the noise of the last batches stays in the weights. Average them, or decay."
        if not self.warmup_steps:
            return "No warm-up: the first steps, made from one batch each, have full length."
        if kind == "wsd":
            return "Every step of the level part is a place from which another run can go on, or be brought down."
        return f"Stopped halfway, it would stop at {self.factor(self.steps // 2):.0%} of the peak: the length must be known in advance."

    def to_html(self) -> str:
        """The advice and the curve."""
        picture = base64.b64encode(self.to_png()).decode("ascii")
        return (
            f'<p class="title">{html.escape(self.advice())}</p>'
            f'<p><img style="max-width:100%" alt="{html.escape(self.summary())}" src="data:image/png;base64,{picture}"></p>'
        )

    def picture(self) -> Figure:
        """The curve with its area, and beside it, thin, a cosine down to 0 for comparison."""
        from minilm.training.schedules import warmup_cosine

        figure = Figure(figsize=(8.4, 2.9), dpi=100, facecolor="white", layout="constrained")
        axes = figure.subplots()
        places = sorted({1 + round(i * (self.steps - 1) / PLACES) for i in range(PLACES + 1)})
        factor, warmup = self.schedule(), self.warmup_steps
        values = [factor(step) for step in places]
        axes.fill_between(places, values, color=COLORS["sky"], alpha=0.35, linewidth=0)
        axes.plot(places, values, color=COLORS["blue"])
        plain = [warmup_cosine(step, warmup=warmup, total=self.steps) for step in places]
        axes.plot(places, plain, color="#777777", linewidth=0.9, linestyle=":")
        axes.set_title(
            f"{self.settings()}: {self.area() / self.steps:.1%} of the full area", size=10, loc="left", parse_math=False
        )
        axes.set(xlabel="step (dotted: a cosine down to 0)", ylabel="factor of the peak rate", ylim=(0, 1.05))
        axes.grid(color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        return figure

    def summary(self) -> str:
        """The settings, the end, the area and the advice."""
        return (
            f"ScheduleDesigner: {self.settings()}. It ends at {self.factor(self.steps):.2f} of the peak; the area is that of "
            f"{self.area():,.0f} steps at full rate ({self.area() / self.steps:.1%}). {self.advice()}"
        )


def _slider(name: str, value: float, most: float) -> ipywidgets.FloatSlider:
    layout = ipywidgets.Layout(width="360px")
    return ipywidgets.FloatSlider(
        value,
        min=0,
        max=most,
        step=0.01,
        description=name,
        readout_format=".0%",
        continuous_update=False,
        layout=layout,
    )
