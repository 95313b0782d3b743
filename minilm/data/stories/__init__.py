"""Stories whose entropy is known exactly: the text that every lesson trains on, made here, without a download.

A story is told by a grammar, a small program in which every random choice has a known probability. So every story
comes with its exact number of bits, the true distribution of the next character is known after every prefix, and a
model's loss can be compared with the lowest loss that is possible at all. Four sizes: `easy`, `medium`, `hard` and
`french`; `easy+french` tells stories of both, each as likely as the other. The same seed gives the same stories on every platform.

    from minilm.data import stories

    texts = stories.generate("medium", n=1000, seed=0)
    grammar = stories.grammar("medium")
    grammar.bits(texts[0]), grammar.next_char("Once upon a")
"""

import difflib
import functools
import hashlib
import importlib
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from minilm.data.stories.analysis import find_ambiguity, find_words
from minilm.data.stories.engine import END, Choice, Grammar, Mention, Mixture, Story

__all__ = [
    "END",
    "SIZES",
    "SPLITS",
    "Choice",
    "Grammar",
    "Mention",
    "Split",
    "Statistics",
    "Story",
    "find_ambiguity",
    "find_words",
    "generate",
    "grammar",
    "sample",
    "split_of",
    "statistics",
]

SIZES = ("easy", "medium", "hard", "french")
"""The grammars by name."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
"""Nine stories of ten train; the other one is for validation or for the final test."""


@functools.cache
def grammar(size: str = "medium") -> Grammar:
    """The grammar of that size, compiled on first use; of several, each as likely as the others, for sizes joined by "+".

    ValueError names the nearest size for an unknown one.
    """
    parts = str(size).split("+")
    if len(parts) > 1:
        if len(set(parts)) < len(parts):
            raise ValueError(f"{size!r} names a size twice: then a story would have two origins.")
        return Mixture(str(size), [grammar(part) for part in parts])
    if size not in SIZES:
        near = difflib.get_close_matches(str(size), SIZES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There are no stories of size {size!r}; there are {', '.join(SIZES)}.{hint}")
    content = importlib.import_module(f"minilm.data.stories.{size}")
    compiled: Grammar = content.build()
    return compiled


def split_of(text: str) -> Split:
    """The split that a text belongs to by its own hash: equal texts never fall on two sides, whatever the seeds."""
    bucket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100
    return "train" if bucket < 90 else "validation" if bucket < 95 else "test"


def sample(size: str = "medium", seed: int = 0, split: Split | None = "train") -> Iterator[Story]:
    """Endless stories of a size with their bits and facts, those of one split, or all with `split=None`.

    The same size, seed and split give the same stories everywhere. Stories are drawn independently: a small grammar
    repeats itself.
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; there are {', '.join(SPLITS)}, and None for all stories.")
    source = grammar(size)
    rng = random.Random(f"minilm stories {size} {seed}")
    while True:
        story = source.sample(rng)
        if split is None or split_of(story.text) == split:
            yield story


def generate(size: str = "medium", n: int = 1000, seed: int = 0, split: Split | None = "train") -> list[str]:
    """`n` story texts of a size: see `sample`."""
    if n < 0:
        raise ValueError(f"Cannot generate {n} stories: n must be 0 or more.")
    stories = sample(size, seed, split)
    return [next(stories).text for _ in range(n)]


@dataclass(frozen=True)
class Statistics:
    """What a grammar's stories are like, estimated on a sample. The bits of each story are exact, their mean is not.

    `bits` is the mean of bits a story with its standard error `bits_error`: the entropy of the grammar, below which
    no model can come. `words` counts all words that the grammar can print, `distinct` how many stories of the sample
    differ.
    """

    size: str
    stories: int
    bits: float
    bits_error: float
    characters: float
    bits_per_character: float
    bits_per_byte: float
    words: int
    plots: int
    distinct: int


def statistics(size: str = "medium", n: int = 2000, seed: int = 0) -> Statistics:
    """Mean bits and length of `n` stories of all splits, how many are distinct, and the grammar's words and plots.

    The end of a story counts as one more character, since a model has to predict it too.
    """
    if n < 2:
        raise ValueError(f"A standard error needs at least 2 stories, not {n}.")
    source = sample(size, seed, split=None)
    stories = [next(source) for _ in range(n)]
    bits = sum(story.bits for story in stories) / n
    spread = math.sqrt(sum((story.bits - bits) ** 2 for story in stories) / (n - 1))
    characters = sum(len(story.text) + 1 for story in stories) / n
    size_in_bytes = sum(len(story.text.encode()) + 1 for story in stories) / n
    return Statistics(
        size=size,
        stories=n,
        bits=bits,
        bits_error=spread / math.sqrt(n),
        characters=characters,
        bits_per_character=bits / characters,
        bits_per_byte=bits / size_in_bytes,
        words=len(grammar(size).words),
        plots=len({story.facts.get("plot") for story in stories}),
        distinct=len({story.text for story in stories}),
    )
