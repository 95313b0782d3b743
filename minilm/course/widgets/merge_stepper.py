"""Slide through the training of a byte-pair encoding, one merge at a time."""

import html
from collections import Counter
from dataclasses import dataclass

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
    show_bytes,
    step_slider,
)
from minilm.tokenizer import count_pairs, merge_pair, pre_tokenize, train_by_recounting
from minilm.tokenizer.pretokenize import PreTokenizer

PAIRS_SHOWN = 8
MERGES_SHOWN = 24


@dataclass(frozen=True)
class Merge:
    """One step of the training: the pair that was most frequent, how often it stood there, and its new id."""

    pair: tuple[int, int]
    count: int
    new_id: int


def count_in_words(words: list[list[int]]) -> Counter[tuple[int, int]]:
    """How often each pair of neighbours stands in these words; pairs across two words do not count."""
    counts: Counter[tuple[int, int]] = Counter()
    for word in words:
        counts.update(count_pairs(word))
    return counts


class MergeStepper(Widget):
    """Train byte-pair encoding on a short text and look at every step: the text in tokens, the pairs, the merges.

    The merges are those of `minilm.tokenizer.train_by_recounting`; there are fewer than `num_merges` where the pairs
    run out. Without a `pre_tokenizer` the text is one sequence of UTF-8 bytes, and merges may cross spaces.

    >>> MergeStepper("the cat in the hat", 5)  # doctest: +SKIP
    MergeStepper at merge 0 of 5: 18 tokens for 18 bytes. The most frequent pair is 'h' + 'e', 2 times.
    """

    def __init__(self, text: str, num_merges: int = 20, pre_tokenizer: PreTokenizer = None) -> None:
        if not text:
            raise ValueError("MergeStepper needs a text to train on, and this one is empty")
        if num_merges < 1:
            raise ValueError(f"MergeStepper needs at least one merge to step through, not {num_merges}")
        self.num_bytes = len(text.encode("utf-8"))
        self.tokens: dict[int, bytes] = {byte: bytes([byte]) for byte in range(256)}
        self.merges: list[Merge] = []
        self.states: list[list[list[int]]] = [
            [list(word.encode("utf-8")) for word in pre_tokenize(text, pre_tokenizer)]
        ]
        for pair, new_id in train_by_recounting(text, num_merges, pre_tokenizer).items():
            words = self.states[-1]
            self.merges.append(Merge(pair, count_in_words(words)[pair], new_id))
            self.tokens[new_id] = self.tokens[pair[0]] + self.tokens[pair[1]]
            self.states.append([merge_pair(word, pair, new_id) for word in words])
        self.slider, row = step_slider("Merges", len(self.merges))
        self.slider.observe(self.refresh, names="value")
        super().__init__([row])

    @property
    def step(self) -> int:
        """How many merges have been made so far."""
        return int(self.slider.value)

    @property
    def ids(self) -> list[int]:
        """The whole text in its present tokens."""
        return [id for word in self.states[self.step] for id in word]

    def pairs(self) -> Counter[tuple[int, int]]:
        """How often each pair of neighbours stands in the text now."""
        return count_in_words(self.states[self.step])

    def token(self, id: int) -> str:
        """A token as text."""
        return show_bytes(self.tokens[id])

    def _chip(self, id: int, strong: bool = False) -> Chip:
        # One colour for one token at every step; what is still a single byte stays plain.
        return Chip(self.token(id), "", PLAIN if id < 256 else TINTS[id % len(TINTS)], strong)

    def text_chips(self) -> list[Chip]:
        """The text in its present tokens; those made by the last merge stand out."""
        newest = self.merges[self.step - 1].new_id if self.step else None
        return [self._chip(id, strong=id == newest) for id in self.ids]

    def pair_bars(self) -> list[Bar]:
        """The most frequent pairs now; among equals the lowest ids come first, as in training, so the next merge is on top."""
        counts = self.pairs()
        following = self.merges[self.step].pair if self.step < len(self.merges) else None
        ranked = sorted(counts, key=lambda pair: (-counts[pair], pair))[:PAIRS_SHOWN]
        return [
            Bar(
                tuple(self._chip(id, strong=pair == following) for id in pair),
                f"{counts[pair]:,}×",
                counts[pair] / counts[ranked[0]],
            )
            for pair in ranked
        ]

    def merge_chips(self) -> list[Chip]:
        """The tokens learned so far, newest first, each with its id."""
        learned = self.merges[: self.step][::-1]
        return [
            Chip(self.token(one.new_id), str(one.new_id), self._chip(one.new_id).colour, strong=not number)
            for number, one in enumerate(learned)
        ]

    def headline(self) -> str:
        """What the last merge did."""
        if not self.step:
            return "No merge yet: every token is one byte."
        last = self.merges[self.step - 1]
        left, right = (self.token(id) for id in last.pair)
        return (
            f"Merge {self.step}: '{left}' + '{right}' stood there {last.count:,}×; "
            f"it is now one token, '{self.token(last.new_id)}', id {last.new_id}."
        )

    def facts(self) -> str:
        """How long the text is now, in tokens."""
        count = len(self.ids)
        return f"{count:,} tokens for {self.num_bytes:,} bytes · {self.num_bytes / count:.2f} bytes a token · {256 + self.step} tokens in the vocabulary"

    def to_html(self) -> str:
        """The text, the pair table and the tokens learned."""
        learned = self.merge_chips()
        more = f"<p class='facts'>… and {len(learned) - MERGES_SHOWN} before</p>" if len(learned) > MERGES_SHOWN else ""
        return (
            f'<p class="title">{html.escape(self.headline())}</p><p class="facts">{self.facts()}</p><div class="panels">'
            f'<section class="panel" style="flex-basis:100%" aria-label="the text">{chips_to_html(self.text_chips(), "the text in tokens")}</section>'
            f'<section class="panel" aria-label="pairs"><p class="title">Pairs now; the framed one is merged next</p>{bars_to_html(self.pair_bars(), ("pair", "count"))}</section>'
            f'<section class="panel" aria-label="tokens learned"><p class="title">Tokens learned, newest first</p>{chips_to_html(learned[:MERGES_SHOWN], "tokens learned")}{more}</section></div>'
        )

    def picture(self) -> Figure:
        """The same, one below the other."""
        sheet = Sheet()
        sheet.text(self.headline(), bold=True)
        sheet.text(self.facts(), size=9)
        sheet.chips(self.text_chips())
        sheet.space()
        sheet.text("Pairs now; the framed one is merged next", bold=True)
        sheet.bars(self.pair_bars())
        if self.step:
            sheet.space()
            sheet.text("Tokens learned, newest first", bold=True)
            sheet.chips(self.merge_chips(), most_lines=3)
        return sheet.figure()

    def summary(self) -> str:
        """The step, the length of the text in tokens, and the next pair."""
        count = len(self.ids)
        start = (
            f"MergeStepper at merge {self.step} of {len(self.merges)}: {count:,} tokens for {self.num_bytes:,} bytes."
        )
        if self.step == len(self.merges):
            return start
        following = self.merges[self.step].pair
        left, right = (self.token(id) for id in following)
        return f"{start} The most frequent pair is '{left}' + '{right}', {self.pairs()[following]:,} times."
