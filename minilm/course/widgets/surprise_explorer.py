"""Move the scores of a few words and see their probabilities, the surprise, and which way the gradient pushes each score."""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass

import ipywidgets
from matplotlib.figure import Figure

from minilm.course.widgets.base import PLAIN, TINTS, Bar, Chip, Sheet, Widget, bars_to_html

LARGEST = 10.0


@dataclass(frozen=True)
class Push:
    """One word's probability, and the gradient of the surprise with respect to its score: p - 1 for the truth, else p."""

    word: str
    probability: float
    gradient: float

    @property
    def step(self) -> str:
        """What a step against the gradient does to the score."""
        if abs(self.gradient) < 0.0005:
            return "· 0"
        return f"{'▲' if self.gradient < 0 else '▼'} {abs(self.gradient):.3f}"


class SurpriseExplorer(Widget):
    """Sliders for the scores of a few words, and what softmax and cross-entropy make of them.

    >>> SurpriseExplorer({"boat": 2, "kite": 1, "moon": 0}, truth="kite")
    SurpriseExplorer: scores boat 2.0, kite 1.0, moon 0.0; the next word is 'kite', which had probability 0.245: a surprise of 1.408 nats = 2.031 bits. A step pushes boat down 0.665, kite up 0.755, moon down 0.090.
    """

    def __init__(self, scores: Mapping[str, float], truth: str) -> None:
        if len(scores) < 2:
            raise ValueError(f"SurpriseExplorer needs at least two words to choose from, not {len(scores)}")
        if truth not in scores:
            raise ValueError(f"the truth {truth!r} is not among the words {', '.join(map(repr, scores))}")
        self.words = list(scores)
        self.sliders = {
            word: ipywidgets.FloatSlider(
                value=score, min=-LARGEST, max=LARGEST, step=0.1, description=word, readout_format=".1f"
            )
            for word, score in scores.items()
        }
        self.truth = ipywidgets.Dropdown(options=self.words, value=truth, description="Next word")
        for control in (*self.sliders.values(), self.truth):
            control.observe(self.refresh, names="value")
        shift = ipywidgets.Button(description="Add 1 to all", layout=ipywidgets.Layout(width="120px"))
        step = ipywidgets.Button(description="One step downhill", layout=ipywidgets.Layout(width="150px"))
        shift.on_click(self._shift)
        step.on_click(self._step)
        row = ipywidgets.HBox([self.truth, step, shift], layout=ipywidgets.Layout(flex_flow="row wrap"))
        super().__init__([*self.sliders.values(), row])

    def _shift(self, _: object = None) -> None:
        for slider in self.sliders.values():
            slider.value += 1.0

    def _step(self, _: object = None) -> None:
        for push in self.pushes():
            self.sliders[push.word].value -= push.gradient

    def pushes(self) -> list[Push]:
        """The words with their probabilities and gradients at the present scores."""
        scores = [float(self.sliders[word].value) for word in self.words]
        weights = [math.exp(score - max(scores)) for score in scores]
        probabilities = [weight / sum(weights) for weight in weights]
        return [
            Push(word, p, p - (word == self.truth.value)) for word, p in zip(self.words, probabilities, strict=True)
        ]

    def surprise(self) -> float:
        """-ln of the probability that the true word had, in nats."""
        return -math.log(next(push.probability for push in self.pushes() if push.word == self.truth.value))

    def _chip(self, word: str) -> Chip:
        truth = word == self.truth.value
        return Chip(word, "", TINTS[1] if truth else PLAIN, strong=truth)

    def probability_bars(self) -> list[Bar]:
        """One bar a word, as long as its probability."""
        return [Bar((self._chip(push.word),), f"{push.probability:.3f}", push.probability) for push in self.pushes()]

    def gradient_bars(self) -> list[Bar]:
        """One bar a word, as long as the push on its score."""
        return [Bar((self._chip(push.word),), push.step, abs(push.gradient)) for push in self.pushes()]

    def headline(self) -> str:
        """The surprise, in nats and in bits."""
        nats = self.surprise()
        return f"The next word is '{self.truth.value}': a surprise of {nats:.3f} nats = {nats / math.log(2):.3f} bits"

    def facts(self) -> str:
        """What the surprise would be without any knowledge."""
        count = len(self.words)
        return f"Equal scores would cost ln {count} = {math.log(count):.3f} nats; a sure and right guess costs 0."

    def to_html(self) -> str:
        """Probabilities and pushes, side by side."""
        return (
            f'<p class="title">{html.escape(self.headline())}</p><p class="facts">{html.escape(self.facts())}</p>'
            '<div class="panels"><section class="panel" aria-label="probabilities"><p class="title">Softmax: probabilities</p>'
            f"{bars_to_html(self.probability_bars(), ('word', 'p'))}</section>"
            '<section class="panel" aria-label="pushes"><p class="title">One step downhill moves each score</p>'
            f"{bars_to_html(self.gradient_bars(), ('word', 'push'))}</section></div>"
        )

    def picture(self) -> Figure:
        """The same, one below the other."""
        sheet = Sheet()
        sheet.text(self.headline(), bold=True)
        sheet.text(self.facts(), size=9)
        sheet.space()
        sheet.text("Softmax: probabilities", bold=True)
        sheet.bars(self.probability_bars(), chips_wide=18)
        sheet.space()
        sheet.text("One step downhill moves each score (the framed word is the one that came)", bold=True)
        sheet.bars(self.gradient_bars(), chips_wide=18)
        return sheet.figure()

    def summary(self) -> str:
        """Scores, truth, surprise and pushes."""
        scores = ", ".join(f"{word} {self.sliders[word].value:.1f}" for word in self.words)
        truth = next(push for push in self.pushes() if push.word == self.truth.value)
        nats = self.surprise()
        pushes = ", ".join(
            f"{push.word} {'up' if push.gradient < 0 else 'down'} {abs(push.gradient):.3f}" for push in self.pushes()
        )
        return (
            f"SurpriseExplorer: scores {scores}; the next word is '{truth.word}', which had probability "
            f"{truth.probability:.3f}: a surprise of {nats:.3f} nats = {nats / math.log(2):.3f} bits. "
            f"A step pushes {pushes}."
        )
