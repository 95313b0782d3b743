"""Turn the knobs of sampling on a model's real odds, beside the true ones: what still leaks through, and what is lost?"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import ipywidgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minilm.course.figures import COLORS
from minilm.course.widgets.base import Sheet, Widget, drawable, shorten, visible, write

if TYPE_CHECKING:
    from torch import Tensor

    from minilm.generation import Sampling

SHOWN = 12
"""How many tokens are listed."""


@dataclass(frozen=True)
class Odds:
    """One token: what it is, its probability by the model, after the knobs, and in truth (None where nobody knows)."""

    token: str
    model: float
    drawn: float
    true: float | None


class SamplingExplorer(Widget):
    """Temperature, top-k, top-p and min-p on the odds of a model after a prompt, with the true odds beside where they are known.

    `places` are the prompts to choose from, each with the model's logits and the true odds (or None), one number a token; `tokens` says
    how each token reads. The knobs are applied by `minilm.generation`, in its order.

    >>> SamplingExplorer({"a girl named": ([1.0, 0.0, -1.0], [0.5, 0.5, 0.0])}, [" Mia", " Zoe", " ran"], top_k=2)
    SamplingExplorer: after "a girl named" with temperature 1.0, top-k 2: 2 of 3 tokens can be drawn; 0.000 of what is drawn cannot come in truth (0.090 without the knobs); 0.000 of the true odds is refused. ...
    """

    def __init__(
        self,
        places: "Mapping[str, tuple[Tensor | Sequence[float], Tensor | Sequence[float] | None]]",
        tokens: Sequence[str],
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
    ) -> None:
        if not places:
            raise ValueError("SamplingExplorer needs at least one prompt with its logits")
        self.tokens = list(tokens)
        self.places = {
            prompt: ([float(score) for score in logits], None if true is None else [float(p) for p in true])
            for prompt, (logits, true) in places.items()
        }
        for prompt, (scores, truth) in self.places.items():
            for name, values in (("scores", scores), ("true odds", truth)):
                if values is not None and len(values) != len(self.tokens):
                    raise ValueError(
                        f"{len(values)} {name} after {prompt!r}, and {len(self.tokens)} tokens: give one for each"
                    )
        wide, count = ipywidgets.Layout(width="360px"), len(self.tokens)
        self.prompt = ipywidgets.Dropdown(
            options=list(self.places), description="After", layout=ipywidgets.Layout(width="95%", max_width="640px")
        )
        self.temperature = ipywidgets.FloatSlider(
            temperature,
            min=0.0,
            max=3.0,
            step=0.05,
            description="Temperature",
            style={"description_width": "95px"},
            layout=wide,
        )
        steps = sorted({k for k in (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100, 200, top_k or 1) if k < count})
        self.top_k = ipywidgets.SelectionSlider(
            options=[*((str(k), k) for k in steps), ("all", 0)],
            value=top_k if top_k in steps else 0,
            description="Top-k",
            layout=wide,
        )
        self.top_p = ipywidgets.FloatSlider(
            1.0 if top_p is None else top_p, min=0.0, max=1.0, step=0.01, description="Top-p", layout=wide
        )
        self.min_p = ipywidgets.FloatSlider(min_p or 0.0, min=0.0, max=1.0, step=0.01, description="Min-p", layout=wide)
        knobs = (self.temperature, self.top_k, self.top_p, self.min_p)
        for control in (self.prompt, *knobs):
            control.observe(self.refresh, names="value")
        rows = [
            ipywidgets.HBox(pair, layout=ipywidgets.Layout(flex_flow="row wrap")) for pair in (knobs[:2], knobs[2:])
        ]
        super().__init__([self.prompt, *rows])

    def sampling(self) -> "Sampling":
        """The present knobs as the library's configuration."""
        from minilm.generation import Sampling

        return Sampling(
            temperature=round(self.temperature.value, 2),
            top_k=self.top_k.value or None,
            top_p=round(self.top_p.value, 2) if self.top_p.value < 1 else None,
            min_p=round(self.min_p.value, 2) if self.min_p.value > 0 else None,
        )

    def odds(self) -> list[Odds]:
        """All tokens, by the model's odds or the true ones, whichever are larger, likeliest first."""
        import torch

        from minilm.generation import token_probabilities

        scores, truth = self.places[self.prompt.value]
        logits = torch.tensor(scores, dtype=torch.float64)
        model, drawn = logits.softmax(dim=-1).tolist(), token_probabilities(logits, self.sampling()).tolist()
        found = [
            Odds(token, p, q, None if truth is None else truth[i])
            for i, (token, p, q) in enumerate(zip(self.tokens, model, drawn, strict=True))
        ]
        return sorted(found, key=lambda each: -max(each.model, each.true or 0.0))

    def leak(self, knobs: bool = True) -> float | None:
        """The probability of drawing what cannot come, with the knobs or without; None where the truth is not known."""
        found = self.odds()
        if found[0].true is None:
            return None
        return sum((each.drawn if knobs else each.model) for each in found if not each.true)

    def loss(self) -> float | None:
        """The true probability of all tokens that can't be drawn any more."""
        found = self.odds()
        if found[0].true is None:
            return None
        return sum(each.true or 0.0 for each in found if each.drawn == 0)

    def settings(self) -> str:
        """The knobs that are turned."""
        chosen = self.sampling()
        named = {"top-k": chosen.top_k, "top-p": chosen.top_p, "min-p": chosen.min_p}
        return ", ".join(
            [
                f"temperature {chosen.temperature}",
                *(f"{name} {value}" for name, value in named.items() if value is not None),
            ]
        )

    def facts(self) -> str:
        """What the knobs do here, in numbers."""
        found = self.odds()
        kept = sum(each.drawn > 0 for each in found)
        entropy = -sum(each.drawn * math.log2(each.drawn) for each in found if each.drawn > 0)
        said = f"{kept:,} of {len(found):,} tokens can be drawn"
        if found[0].true is not None:
            said += (
                f"; {self.leak():.3f} of what is drawn cannot come in truth ({self.leak(knobs=False):.3f} without the knobs); "
                f"{self.loss():.3f} of the true odds is refused"
            )
        return f"{said}. {entropy + 0.0:.2f} bits to choose."

    def columns(self) -> list[tuple[str, str]]:
        """The kinds of odds shown, with their colours."""
        shown = [("model", COLORS["sky"]), ("with the knobs", COLORS["blue"])]
        return shown if self.odds()[0].true is None else [*shown, ("true", COLORS["orange"])]

    @staticmethod
    def values(each: Odds) -> list[float]:
        """A token's odds, in the order of the columns."""
        return [each.model, each.drawn, *([] if each.true is None else [each.true])]

    def to_html(self) -> str:
        """A row for each of the likeliest tokens, a bar for each kind of odds."""
        found = self.odds()[:SHOWN]
        longest = max(max(self.values(each)) for each in found)
        heads = "".join(f'<th scope="col">{name}</th>' for name, _ in self.columns())
        rows = ""
        for each in found:
            cells = "".join(
                f'<td style="width:27%"><span class="bar" style="width:{60 * value / longest:.1f}%;background:{colour}"></span> {self.number(value)}</td>'
                for value, (_, colour) in zip(self.values(each), self.columns(), strict=True)
            )
            rows += f'<tr><th scope="row" class="text">{html.escape(visible(each.token))}</th>{cells}</tr>'
        return (
            f'<p class="facts">{html.escape(self.facts())}</p>'
            f'<table><thead><tr><th scope="col">token</th>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        )

    @staticmethod
    def number(value: float) -> str:
        """A probability; one that is exactly 0 is said in another way than a small one."""
        return "–" if value == 0 else f"{value:.3f}" if value >= 0.0005 else "0.000…"

    def picture(self) -> Figure:
        """The same table."""
        sheet = Sheet()
        sheet.text(f"After “{visible(self.prompt.value, spaces=False)}”: {self.settings()}", bold=True)
        sheet.text(self.facts())
        sheet.space(0.4)
        found = self.odds()[:SHOWN]
        longest = max(max(self.values(each)) for each in found)
        sheet.height += Sheet.LINE
        for column, (name, _) in enumerate(self.columns()):
            _write(sheet, 22 + 29 * column, name)
        for each in found:
            sheet.height += Sheet.LINE
            _write(sheet, 0, drawable(shorten(visible(each.token), 20)))
            for column, (value, (_, colour)) in enumerate(zip(self.values(each), self.columns(), strict=True)):
                start, wide = 22 + 29 * column, max(18 * value / longest, 0.2)
                sheet.drawings.append(partial(_bar, x=start, bottom=sheet.height, wide=wide, colour=colour))
                _write(sheet, start + wide + 0.8, self.number(value))
        return sheet.figure()

    def summary(self) -> str:
        """Prompt, knobs, what they do, and the likeliest tokens."""
        names = [name for name, _ in self.columns()]
        first = "; ".join(
            f"{visible(each.token)} {', '.join(f'{name} {value:.3f}' for name, value in zip(names, self.values(each), strict=True))}"
            for each in self.odds()[:3]
        )
        return f'SamplingExplorer: after "{visible(self.prompt.value, spaces=False)}" with {self.settings()}: {self.facts()} Likeliest: {first}.'


def _write(sheet: Sheet, x: float, text: str) -> None:
    """A few words on the present line of a sheet."""
    sheet.drawings.append(partial(write, x=x, y=sheet.height - 0.055, text=text, size=9, ha="left"))


def _bar(axes: Axes, x: float, bottom: float, wide: float, colour: str) -> None:
    """A bar on the line that ends at `bottom`."""
    axes.add_patch(Rectangle((x, bottom - 0.18), wide, 0.13, facecolor=colour, edgecolor="#808080", linewidth=0.6))
