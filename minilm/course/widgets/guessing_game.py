"""Guess the next character of a text, with a stake, against a player who knows every probability."""

import html
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ipywidgets
from matplotlib.figure import Figure

from minilm.course.widgets.base import TINTS, Bar, Chip, Sheet, Widget, bars_to_html, visible

BARS_SHOWN = 6
GAP = "▢"


@dataclass(frozen=True)
class Turn:
    """One guess: at which place, what was guessed and how surely, what stood there, and the bits it cost."""

    place: int
    guess: str
    confidence: float
    truth: str
    bits: float
    best_bits: float


class GuessingGame(Widget):
    """Guess the character at each of some places of `text` and pay in bits of surprise: -log2 of your stake on the truth.

    Your stake is a confidence in one character; what is left of it is shared equally by the rest of the alphabet.
    Beside you plays `next_char(prefix) -> {character: probability}`, the true distribution: no strategy is better on
    average. Claude Shannon measured the entropy of English with such a game in 1951.

    `places` are indices into `text`; by default `rounds` of them, spread over the beginnings of words.
    """

    def __init__(
        self,
        text: str,
        next_char: Callable[[str], Mapping[str, float]],
        rounds: int = 8,
        places: tuple[int, ...] | None = None,
        alphabet: str | None = None,
    ) -> None:
        starts = [i + 1 for i, character in enumerate(text[:-1]) if character == " "]
        if places is None:
            rounds = min(rounds, len(starts))
            places = tuple(starts[round((i + 0.5) * len(starts) / rounds - 0.5)] for i in range(rounds))
        if not places or not all(0 <= place < len(text) for place in places):
            raise ValueError(f"GuessingGame needs places inside its text of {len(text)} characters, not {places}")
        self.text, self.next_char, self.places = text, next_char, tuple(sorted(places))
        self.alphabet = "".join(sorted(set(alphabet or text) | set(text)))
        self.turns: list[Turn] = []
        self.trouble = ""
        self.guess = ipywidgets.Text(description="Next:", placeholder="one character", layout={"width": "220px"})
        self.confidence = ipywidgets.ToggleButtons(
            options=[("no idea", 1 / len(self.alphabet)), ("50 %", 0.5), ("80 %", 0.8), ("98 %", 0.98)],
            index=1,
            description="How sure?",
        )
        self.confidence.style.button_width = "72px"
        narrow = ipywidgets.Layout(width="120px")
        self.button = ipywidgets.Button(description="Guess", button_style="primary", layout=narrow)
        self.again = ipywidgets.Button(description="Start again", layout=narrow)
        self.button.on_click(self._press)
        self.again.on_click(self._restart)
        row = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__(
            [ipywidgets.HBox([self.guess, self.confidence], layout=row), ipywidgets.HBox([self.button, self.again])]
        )

    def _press(self, _: object = None) -> None:
        self.play(self.guess.value, float(self.confidence.value))

    def _restart(self, _: object = None) -> None:
        self.turns, self.trouble, self.guess.value = [], "", ""
        self.refresh()

    @property
    def over(self) -> bool:
        """Whether every place has been guessed."""
        return len(self.turns) == len(self.places)

    @property
    def place(self) -> int:
        """Where the next guess is to be made (the last place, when the game is over)."""
        return self.places[min(len(self.turns), len(self.places) - 1)]

    def play(self, guess: str, confidence: float) -> None:
        """Stake `confidence` on `guess` for the next character, see the truth, and go on to the next place."""
        self.trouble = ""
        if self.over:
            self.trouble = "The game is over: press Start again for another."
        elif len(guess) != 1:
            self.trouble = "Type exactly one character (a space counts)."
        elif not 0 < confidence < 1:
            self.trouble = f"A confidence lies strictly between 0 and 1, and {confidence:g} does not."
        else:
            place = self.place
            truth = self.text[place]
            stake = confidence if guess == truth else (1 - confidence) / (len(self.alphabet) - 1)
            best = self.next_char(self.text[:place])[truth]
            self.turns.append(Turn(place, guess, confidence, truth, -math.log2(stake), abs(math.log2(best))))
            self.guess.value = ""
        self.refresh()

    def distribution(self, place: int) -> list[Bar]:
        """The most likely characters at `place`, with their true probabilities."""
        likely = sorted(self.next_char(self.text[:place]).items(), key=lambda item: (-item[1], item[0]))[:BARS_SHOWN]
        return [
            Bar((Chip(visible(character), colour=TINTS[0], strong=character == self.text[place]),), f"{p:.1%}", p)
            for character, p in likely
        ]

    def scores(self) -> str:
        """Bits a character so far: yours, the perfect player's, and those of one who knows only the alphabet."""
        count = len(self.turns)
        mine, best = sum(turn.bits for turn in self.turns) / count, sum(turn.best_bits for turn in self.turns) / count
        return f"you {mine:.2f} · perfect knowledge {best:.2f} · no knowledge {math.log2(len(self.alphabet)):.2f}"

    def verdict(self, turn: Turn) -> str:
        """What one guess cost."""
        hit = "Right" if turn.guess == turn.truth else f"It was '{visible(turn.truth)}'"
        return (
            f"{hit}: you put {turn.confidence:.0%} on '{visible(turn.guess)}' and paid {turn.bits:.2f} bits; "
            f"perfect knowledge paid {turn.best_bits:.2f}."
        )

    def to_html(self) -> str:
        """The last guess with the true distribution, then the text up to the next place."""
        parts = []
        if self.trouble:
            parts.append(f'<p class="trouble" role="status">{html.escape(self.trouble)}</p>')
        if self.turns:
            last = self.turns[-1]
            parts.append(
                f'<section class="panel" aria-label="the last guess"><p class="title" role="status">{html.escape(self.verdict(last))}</p>'
                f"{bars_to_html(self.distribution(last.place), ('character', 'true probability'))}"
                f'<p class="facts">Bits a character so far: {self.scores()}</p></section>'
            )
        if self.over:
            parts.append(
                '<p class="title">The game is over. Luck can beat perfect knowledge on a few characters, '
                "never on many.</p>"
            )
        else:
            before = html.escape(self.text[: self.place])
            parts.append(
                f'<p class="facts">Place {len(self.turns) + 1} of {len(self.places)}. What comes next?</p><p class="text">{before}<strong>{GAP}</strong></p>'
            )
        return "".join(parts)

    def picture(self) -> Figure:
        """The text up to the present place, and below it what the live view tells after the guess."""
        sheet = Sheet()
        sheet.text(
            f"Place {min(len(self.turns) + 1, len(self.places))} of {len(self.places)}. What comes next?", bold=True
        )
        sheet.text(self.text[: self.place] + GAP)
        sheet.space()
        sheet.text(
            "The true probabilities (the live game shows them after your guess; framed: what stood there)", size=9
        )
        sheet.bars(self.distribution(self.place), chips_wide=4)
        if self.turns:
            sheet.space()
            sheet.text(f"Bits a character so far: {self.scores()}", bold=True)
        return sheet.figure()

    def summary(self) -> str:
        """Where the game stands."""
        start = f"GuessingGame on {len(self.text):,} characters, {len(self.turns)} of {len(self.places)} guesses made"
        return f"{start}; bits a character: {self.scores()}." if self.turns else f"{start}."
