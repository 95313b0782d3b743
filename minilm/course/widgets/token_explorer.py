"""Type a text and see how tokenizers cut it, side by side."""

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import ipywidgets
from matplotlib.figure import Figure

from minilm.course.widgets.base import TINTS, Chip, Sheet, Widget, chips_to_html, shorten, show_bytes, visible


class Tokenizer(Protocol):
    """What the explorer needs of a tokenizer: any object with these two methods will do."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens."""

    def token_bytes(self, id: int, /) -> bytes:
        """The bytes that an id stands for."""


@dataclass(frozen=True)
class Tokenization:
    """What one tokenizer makes of a text: its tokens, or in `trouble` why it makes nothing of it."""

    name: str
    text: str
    ids: tuple[int, ...] = ()
    tokens: tuple[bytes, ...] = ()
    trouble: str = ""

    @classmethod
    def of(cls, name: str, tokenizer: Tokenizer, text: str) -> "Tokenization":
        """Tokenize `text`. A tokenizer may refuse a text; the reason it gives is then a part of what is shown."""
        try:
            ids = tuple(tokenizer.encode(text))
            return cls(name, text, ids, tuple(tokenizer.token_bytes(id) for id in ids))
        except (ValueError, KeyError, IndexError) as error:
            return cls(name, text, trouble=str(error))

    @property
    def facts(self) -> str:
        """How many tokens, and how much text a token carries."""
        if self.trouble:
            return "cannot encode this text"
        if not self.ids:
            return "no tokens"
        count, size = len(self.ids), len(self.text.encode("utf-8", "surrogatepass"))
        return (
            f"{count:,} token{'s' * (count != 1)} · {len(self.text) / count:.2f} characters "
            f"and {size / count:.2f} bytes a token"
        )

    def chips(self, below: str) -> list[Chip]:
        """The tokens as chips, with each one's id or bytes `below` it."""
        under = {
            "ids": [str(id) for id in self.ids],
            "bytes": [token.hex(" ").upper() for token in self.tokens],
            "nothing": [""] * len(self.ids),
        }[below]
        return [
            Chip(show_bytes(token) or "‹empty›", under[number], TINTS[number % len(TINTS)])
            for number, token in enumerate(self.tokens)
        ]


class TokenExplorer(Widget):
    """Type text; see each tokenizer's tokens in colour, with their ids or bytes, and how many characters one carries.

    `tokenizers` maps a name to any object with `encode(text) -> ids` and `token_bytes(id) -> bytes`.
    A space is shown as '·', a newline as '↵', and bytes that are only part of a character in hexadecimal.

    >>> TokenExplorer("héllo", {"bytes": ByteTokenizer()})  # doctest: +SKIP
    TokenExplorer of 'héllo' (5 characters). bytes: 6 tokens · 0.83 characters and 1.00 bytes a token.
    """

    def __init__(self, text: str, tokenizers: Mapping[str, Tokenizer]) -> None:
        if not tokenizers:
            raise ValueError("TokenExplorer needs at least one tokenizer: tokenizers={'bytes': ByteTokenizer()}")
        self.tokenizers = dict(tokenizers)
        self.text = ipywidgets.Textarea(
            value=text, description="Text", rows=3, layout=ipywidgets.Layout(width="99%", max_width="1100px")
        )
        self.below = ipywidgets.ToggleButtons(options=["ids", "bytes", "nothing"], description="Below:")
        # A radio-like row of buttons: Tab reaches it, Space or Enter presses.
        self.below.style.button_width = "80px"
        self.text.observe(self.refresh, names="value")
        self.below.observe(self.refresh, names="value")
        super().__init__([self.text, self.below])

    def tokenizations(self) -> list[Tokenization]:
        """What each tokenizer makes of the present text."""
        return [Tokenization.of(name, tokenizer, self.text.value) for name, tokenizer in self.tokenizers.items()]

    def to_html(self) -> str:
        """A panel for each tokenizer."""
        panels = []
        for each in self.tokenizations():
            name, facts = html.escape(each.name), html.escape(each.facts)
            inside = (
                f'<p class="trouble">{html.escape(visible(each.trouble, spaces=False))}</p>'
                if each.trouble
                else chips_to_html(each.chips(self.below.value), f"tokens of {each.name}")
            )
            panels.append(
                f'<section class="panel" aria-label="{name}"><p class="title">{name}</p><p class="facts">{facts}</p>{inside}</section>'
            )
        return f'<div class="panels">{"".join(panels)}</div>'

    def picture(self) -> Figure:
        """The panels, one below the other."""
        sheet = Sheet()
        for number, each in enumerate(self.tokenizations()):
            if number:
                sheet.space()
            sheet.text(each.name, bold=True)
            sheet.text(each.facts, size=9)
            if each.trouble:
                sheet.text(visible(each.trouble, spaces=False), size=9)
            elif each.ids:
                sheet.chips(each.chips(self.below.value))
        return sheet.figure()

    def summary(self) -> str:
        """The text, and each tokenizer's figures."""
        text = self.text.value
        each = " ".join(f"{one.name}: {one.facts}." for one in self.tokenizations())
        return f"TokenExplorer of '{shorten(visible(text, spaces=False))}' ({len(text):,} characters). {each}"
