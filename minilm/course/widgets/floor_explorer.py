"""Read a story with a model, token by token: what each cost it, what it had to cost, and what was expected there."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import ipywidgets
from matplotlib.figure import Figure

from minilm.course.widgets.base import (
    PLAIN,
    TINTS,
    Bar,
    Chip,
    Sheet,
    Widget,
    bars_to_html,
    chips_to_html,
    shorten,
    step_slider,
    visible,
)

if TYPE_CHECKING:
    from minilm.model import LanguageModel
    from minilm.tokenizer import Tokenizer

SOME, MUCH = 0.2, 1.0  # bits above the floor from which a token is tinted
SKY, ORANGE, PINK = TINTS[0], TINTS[1], TINTS[3]
SHOWN = 5  # how many expectations are listed on each side


@dataclass(frozen=True)
class Reading:
    """One story as the model and the grammar read it. Bits, token by token; the last token is the end."""

    text: str
    tokens: tuple[str, ...]
    model: tuple[float, ...]
    true: tuple[float, ...]
    expected: tuple[tuple[tuple[str, float], ...], ...]  # the model's likeliest tokens at each place

    def excess(self, place: int) -> float:
        """Bits above what the token had to cost; below 0 where the model was luckily sure."""
        return self.model[place] - self.true[place]


def read(model: "LanguageModel", tokenizer: "Tokenizer", text: str, size: str) -> Reading:
    """Score one story. ValueError if the grammar cannot print it."""
    import torch

    from minilm.evaluation import story_tokens

    scored = story_tokens(model, tokenizer, [text], size)[0]
    end = tokenizer.special_tokens["<end>"]
    with torch.no_grad():
        odds = model(torch.tensor([[end, *tokenizer.encode(text)]]))[0].softmax(dim=-1).topk(SHOWN)
    names = [[tokenizer.decode([token]) for token in row] for row in odds.indices.tolist()]
    expected = [tuple(zip(row, p, strict=True)) for row, p in zip(names, odds.values.tolist(), strict=True)]
    bits = [[nats / math.log(2) for nats in each.tolist()] for each in (scored.model, scored.true)]
    return Reading(text, tuple(scored.tokens), tuple(bits[0]), tuple(bits[1]), tuple(expected))


class FloorExplorer(Widget):
    """A story in the tokens of a model, each with its surprise beside the true one; one token at a time with what was expected.

    `texts` are stories of the grammar of that size; one is read at a time.

    >>> FloorExplorer(model, tokenizer, texts)  # doctest: +SKIP
    FloorExplorer: story 1 of 12, 210 tokens. The model pays 190.1 bits, the floor is 176.2. ...
    """

    def __init__(
        self,
        model: "LanguageModel",
        tokenizer: "Tokenizer",
        texts: Sequence[str],
        size: str = "medium",
        place: int = -1,
    ) -> None:
        if isinstance(texts, str) or not texts:
            raise ValueError("FloorExplorer reads a list of at least one story")
        self.texts, self.size = list(texts), size
        self._read = lru_cache(maxsize=16)(partial(read, model, tokenizer, size=size))
        reading = self._read(self.texts[0])
        last = len(reading.tokens) - 1
        if not -1 <= place <= last:
            raise ValueError(
                f"the first story has tokens 0 to {last}: place {place} is none of them (-1 takes the dearest)"
            )
        self.story = ipywidgets.Dropdown(
            options=[(f"{number}: {shorten(text, 50)}", number - 1) for number, text in enumerate(self.texts, start=1)],
            value=0,
            description="Story",
        )
        self.place, row = step_slider("Token", last, dearest(reading) if place < 0 else place)
        self.story.observe(self._open, names="value")
        self.place.observe(self.refresh, names="value")
        super().__init__([self.story, row])

    def _open(self, _: object = None) -> None:
        """Turn to another story, at its dearest token."""
        reading = self.reading()
        self.place.max = len(reading.tokens) - 1
        self.place.value = dearest(reading)
        self.refresh()

    def reading(self) -> Reading:
        """The story that is open."""
        return self._read(self.texts[self.story.value])

    def chips(self) -> list[Chip]:
        """Every token of the story; below it the bits paid and the bits owed, where either is worth a mention."""
        reading = self.reading()
        return [
            Chip(
                visible(token),
                f"{paid:.1f}|{owed:.1f}" if max(paid, owed) >= 0.05 else "",
                colour(paid - owed, owed),
                strong=place == self.place.value,
            )
            for place, (token, paid, owed) in enumerate(zip(reading.tokens, reading.model, reading.true, strict=True))
        ]

    def model_bars(self) -> list[Bar]:
        """What the model expected at this place."""
        reading, place = self.reading(), self.place.value
        return [
            Bar((Chip(visible(token), "", ORANGE if token == reading.tokens[place] else PLAIN),), f"{p:.3f}", p)
            for token, p in reading.expected[place]
        ]

    def true_bars(self) -> list[Bar]:
        """What the grammar allowed here: the likeliest letters at the first of the token's letters that was not forced, else at its last."""
        from minilm.data import stories

        reading, place = self.reading(), self.place.value
        grammar, before = stories.grammar(self.size), "".join(reading.tokens[:place])
        token = [stories.END] if place == len(reading.tokens) - 1 else [*reading.tokens[place]]
        sure = ""  # what had to come anyway, such as the space before a word
        after = grammar.next_char(before)
        while len(after) == 1 and len(sure) + 1 < len(token):
            sure += token[len(sure)]
            after = grammar.next_char(before + sure)
        came = token[len(sure)]
        bars = [
            Bar((Chip(visible(sure + letter), "", ORANGE if letter == came else PLAIN),), f"{p:.3f}", p)
            for letter, p in list(after.items())[:SHOWN]
        ]
        if len(after) > SHOWN:
            left = sum(list(after.values())[SHOWN:])
            bars.append(Bar((Chip(f"{len(after) - SHOWN} more"),), f"{left:.3f}", left))
        return bars

    def headline(self) -> str:
        """The whole story's account."""
        reading = self.reading()
        paid, owed = sum(reading.model), sum(reading.true)
        return f"The model pays {paid:.1f} bits, the floor is {owed:.1f}: {paid - owed:.1f} lost"

    def account(self) -> str:
        """The token at hand: what it cost, what it had to cost."""
        reading, place = self.reading(), self.place.value
        paid, owed, token = reading.model[place], reading.true[place], visible(reading.tokens[place])
        kind = "a choice of the grammar" if owed > 1e-6 else "forced by what stands before"
        return f"Token {place}, '{token}', {kind}: cost {paid:.2f} bits, had to cost {owed:.2f}"

    def to_html(self) -> str:
        """The story, and what was expected at the framed token."""
        chips = chips_to_html(self.chips(), "tokens with the bits paid and the bits owed")
        return (
            f'<p class="title">{html.escape(self.headline())}</p><p class="facts">{html.escape(KEY)}</p>{chips}'
            f'<p class="title">{html.escape(self.account())}</p><div class="panels">'
            f'<section class="panel" aria-label="model"><p class="title">The model expected</p>{bars_to_html(self.model_bars(), ("token", "p"))}</section>'
            f'<section class="panel" aria-label="truth"><p class="title">The grammar allows</p>{bars_to_html(self.true_bars(), ("beginning", "p"))}</section></div>'
        )

    def picture(self) -> Figure:
        """The same, one below the other."""
        sheet = Sheet()
        sheet.text(self.headline(), bold=True)
        sheet.text(KEY, size=9)
        sheet.chips(self.chips(), most_lines=24)
        sheet.space()
        sheet.text(self.account(), bold=True)
        sheet.space(0.3)
        sheet.text("The model expected")
        sheet.bars(self.model_bars(), chips_wide=18)
        sheet.space(0.3)
        sheet.text("The grammar allows")
        sheet.bars(self.true_bars(), chips_wide=18)
        return sheet.figure()

    def summary(self) -> str:
        """Story, account of it, and of the token at hand."""
        place, reading = self.story.value + 1, self.reading()
        return f"FloorExplorer: story {place} of {len(self.texts)}, {len(reading.tokens)} tokens. {self.headline()}. {self.account()}."


KEY = (
    "Below a token: bits paid | bits owed. Grey: forced and nearly free. Blue: a choice, fairly priced. "
    "Orange: more than 0.2 bits too dear; pink: more than 1."
)


def colour(excess: float, owed: float) -> str:
    """The tint of a token: by how much it was too dear, else by whether it was a choice."""
    if excess >= SOME:
        return PINK if excess >= MUCH else ORANGE
    return SKY if owed > 1e-6 else PLAIN


def dearest(reading: Reading) -> int:
    """The place with the largest excess."""
    return max(range(len(reading.tokens)), key=reading.excess)
