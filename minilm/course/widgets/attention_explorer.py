"""Type a sentence and see where each of its words looks: change the head, the mask and the temperature."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ipywidgets
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from minilm.course.figures import SEQUENTIAL
from minilm.course.widgets.base import Bar, Chip, Widget, bars_to_html, chips_to_html, drawable, shorten, visible

MOST_WORDS = 40
BARS_SHOWN = 5
WINDOW = 4

Scores = Sequence[Sequence[Sequence[float]]]
"""scores[head][query][key]: how well the query fits the key, scaled, before any mask and softmax."""

MASKS: dict[str, Callable[[int, int], bool]] = {
    "causal: itself and the past": lambda query, key: key <= query,
    f"window: itself and the {WINDOW - 1} words before": lambda query, key: query - WINDOW < key <= query,
    "strict: only the past, not itself": lambda query, key: key < query,
    "none: the future too": lambda query, key: True,
}


@dataclass(frozen=True)
class Reading:
    """A sentence as the model reads it: its words, and every head's scores."""

    words: tuple[str, ...]
    scores: Scores


def softmax(scores: Sequence[float], allowed: Sequence[bool], temperature: float) -> list[float]:
    """Weights over the allowed scores at a temperature; where nothing is allowed, zeros, as in `minilm.attention`."""
    if not any(allowed):
        return [0.0] * len(scores)
    highest = max(score for score, may in zip(scores, allowed, strict=True) if may)
    powers = [
        math.exp((score - highest) / temperature) if may else 0.0 for score, may in zip(scores, allowed, strict=True)
    ]
    return [power / sum(powers) for power in powers]


class AttentionExplorer(Widget):
    """Where does each word of a sentence look? `read(text)` gives the words and `scores[head][query][key]` for the `heads`.

    The scores are those before mask and softmax, divided by the root of the head's width; the widget masks them, divides by
    the temperature and takes the softmax. It changes this one head's weights only: what later layers would make of them is
    not followed. `read` raises ValueError for a sentence that it cannot read, and the reason is shown.

    >>> AttentionExplorer("a b", lambda text: (text.split(), [[[0.0, 0.0], [0.0, 0.0]]]), ["head 1"])  # doctest: +SKIP
    AttentionExplorer of 'a b', head 1, causal: itself and the past, temperature 1.0. 'b' (2 of 2) looks at 'a' 50 %, 'b' 50 %.
    """

    def __init__(
        self,
        text: str,
        read: Callable[[str], tuple[Sequence[str], Scores]],
        heads: Sequence[str],
        place: int | None = None,
    ) -> None:
        if not heads:
            raise ValueError("AttentionExplorer needs the name of at least one head: heads=['head 1']")
        self._read, self.trouble = read, ""
        self.reading = self._try(text)
        if self.reading is None:
            raise ValueError(f"AttentionExplorer cannot begin with {text!r}: {self.trouble}")
        wide = ipywidgets.Layout(width="99%", max_width="820px")
        self.text = ipywidgets.Text(value=text, description="Sentence", layout=wide, continuous_update=False)
        self.head = ipywidgets.Dropdown(options=list(heads), description="Head")
        self.mask = ipywidgets.Dropdown(
            options=list(MASKS), description="Mask", layout=ipywidgets.Layout(width="420px")
        )
        self.temperature = ipywidgets.FloatSlider(
            value=1.0, min=0.1, max=5.0, step=0.1, description="Temperature", style={"description_width": "90px"}
        )
        count = len(self.reading.words)
        self.place = ipywidgets.IntSlider(
            value=count if place is None else place, min=1, max=count, description="Word", layout=wide
        )
        self.text.observe(self._change_text, names="value")
        for control in (self.head, self.mask, self.temperature, self.place):
            control.observe(self.refresh, names="value")
        row = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__([self.text, ipywidgets.HBox([self.head, self.mask, self.temperature], layout=row), self.place])

    def _try(self, text: str) -> Reading | None:
        """Read the text, or say in `trouble` why that cannot be done."""
        try:
            words, scores = self._read(text)
        except (ValueError, KeyError, IndexError) as error:
            self.trouble = str(error.args[0]) if error.args else type(error).__name__
            return None
        if not 1 <= len(words) <= MOST_WORDS:
            self.trouble = f"This picture has room for 1 to {MOST_WORDS} words, and the sentence has {len(words)}."
            return None
        self.trouble = ""
        return Reading(tuple(words), scores)

    def _change_text(self, _: object = None) -> None:
        reading = self._try(self.text.value)
        if reading is not None:
            self.reading = reading
            self.place.max = len(reading.words)  # the slider keeps its value inside by itself
            self.place.value = len(reading.words)
        self.refresh()

    @property
    def query(self) -> int:
        """The index of the word that looks."""
        return int(self.place.value) - 1

    def weights(self) -> list[list[float]]:
        """The weights of the chosen head under the chosen mask and temperature: a row for each word that looks."""
        assert self.reading is not None
        scores = self.reading.scores[self.head.options.index(self.head.value)]
        may = MASKS[self.mask.value]
        return [
            softmax(row, [may(query, key) for key in range(len(row))], self.temperature.value)
            for query, row in enumerate(scores)
        ]

    def allowed(self) -> list[bool]:
        """Which words the chosen word may look at."""
        assert self.reading is not None
        return [MASKS[self.mask.value](self.query, key) for key in range(len(self.reading.words))]

    def headline(self) -> str:
        """Who looks, and at what most."""
        assert self.reading is not None
        words, row = self.reading.words, self.weights()[self.query]
        looks = f"'{visible(words[self.query])}' ({self.query + 1} of {len(words)})"
        if not any(row):
            return f"{looks} may look at nothing: its weights are zeros, and so is what it gathers."
        ranked = sorted(range(len(row)), key=lambda key: (-row[key], key))[:3]
        seen = ", ".join(
            f"'{visible(words[key])}' {row[key]:.0%}".replace("%", " %") for key in ranked if row[key] > 0.005
        )
        return f"{looks} looks at {seen}."

    def facts(self) -> str:
        """How spread the look is, as a number of words."""
        row = self.weights()[self.query]
        entropy = -sum(weight * math.log(weight) for weight in row if weight > 0)
        return (
            f"spread over {math.exp(entropy):.1f} words (the exponential of the entropy, {entropy:.2f} nats)"
            if any(row)
            else ""
        )

    def chips(self) -> list[Chip]:
        """The sentence, tinted by how much the chosen word looks at each of its words; what it may not see says so."""
        assert self.reading is not None
        row = self.weights()[self.query]
        return [
            Chip(visible(word), f"{weight:.0%}" if may else "hidden", tint(weight), strong=key == self.query)
            for key, (word, weight, may) in enumerate(zip(self.reading.words, row, self.allowed(), strict=True))
        ]

    def bars(self) -> list[Bar]:
        """The words most looked at, those with a weight worth a bar."""
        row, chips = self.weights()[self.query], self.chips()
        ranked = sorted(range(len(row)), key=lambda key: (-row[key], key))[:BARS_SHOWN]
        return [
            Bar((Chip(chips[key].label, "", tint(row[key])),), f"{row[key]:.1%}", row[key])
            for key in ranked
            if row[key] >= 0.0005
        ]

    def to_html(self) -> str:
        """The trouble if there is some, the sentence in tints, the words most looked at."""
        parts = []
        if self.trouble:
            parts.append(f'<p class="trouble" role="status">{html.escape(visible(self.trouble, spaces=False))}</p>')
        parts.append(f'<p class="title">{html.escape(self.headline())}</p><p class="facts">{self.facts()}</p>')
        parts.append(
            f'<section class="panel" aria-label="the sentence">{chips_to_html(self.chips(), "the sentence")}</section>'
        )
        parts.append(
            f'<section class="panel" aria-label="most looked at">{bars_to_html(self.bars(), ("word", "weight"))}</section>'
        )
        return "".join(parts)

    def picture(self) -> Figure:
        """All rows at once: who looks (down) at whom (across), the chosen row framed."""
        assert self.reading is not None
        words = [drawable(shorten(visible(word), 12)) for word in self.reading.words]
        count, weights = len(words), self.weights()
        side = max(3.2, 0.24 * count + 1.2)
        figure = Figure(figsize=(side + 0.6, side), dpi=100, facecolor="white", layout="constrained")
        axes = figure.add_subplot()
        picture = axes.imshow(weights, cmap=SEQUENTIAL, vmin=0, vmax=1)
        axes.grid(False)
        axes.set_xticks(range(count), words, rotation=90, size=8, parse_math=False)
        axes.set_yticks(range(count), words, size=8, parse_math=False)
        axes.set_xlabel("looked at")
        axes.set_ylabel("who looks")
        axes.axhline(self.query - 0.5, color="#D55E00", linewidth=1.5)
        axes.axhline(self.query + 0.5, color="#D55E00", linewidth=1.5)
        axes.set_title(
            f"{self.head.value}, temperature {self.temperature.value:.1f}", size=10, loc="left", parse_math=False
        )
        figure.colorbar(picture, shrink=0.7, label="weight")
        return figure

    def summary(self) -> str:
        """The settings, and where the chosen word looks."""
        assert self.reading is not None
        sentence = shorten(visible(" ".join(self.reading.words), spaces=False))
        settings = f"{self.head.value}, {self.mask.value}, temperature {self.temperature.value:.1f}"
        return f"AttentionExplorer of '{sentence}', {settings}. {self.headline()}"


def tint(weight: float) -> str:
    """White for no weight to a middle blue for all of it: dark letters stay readable on every one."""
    return to_hex(colormaps["Blues"](0.62 * weight))
