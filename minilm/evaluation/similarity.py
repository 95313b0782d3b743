"""How alike two texts are, in the four ways of dlib's report: edits, precision and recall of tokens, runs of up to four.

All work on any two sequences: characters of strings, bytes, words, token ids. The first is the reference, the second what was
written. They see letters, not meaning: a paraphrase scores low, a copy with the wrong name high.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np


def edit_distance(reference: Sequence[Hashable], written: Sequence[Hashable]) -> int:
    """The fewest insertions, deletions and replacements that turn one into the other (Levenshtein 1966).

    One row of the table at a time, each by three operations on whole rows: an insertion chain, which looks sequential, is a
    running minimum of (cost - place).

    >>> edit_distance("kitten", "sitting")
    3
    """
    ids: dict[Hashable, int] = {}
    a = [ids.setdefault(item, len(ids)) for item in reference]
    b = np.array([ids.setdefault(item, len(ids)) for item in written], dtype=np.int64)
    places = np.arange(len(b) + 1)
    row = places.copy()  # from nothing to the first j: j insertions
    for i, item in enumerate(a, 1):
        next_row = np.empty_like(row)
        next_row[0] = i
        next_row[1:] = np.minimum(row[1:] + 1, row[:-1] + (b != item))  # delete, or replace (free if equal)
        row = np.minimum.accumulate(next_row - places) + places  # insert
    return int(row[-1])


def edit_similarity(reference: Sequence[Hashable], written: Sequence[Hashable]) -> float:
    """1 - edit distance / length of the longer; 1 for two empty ones."""
    longest = max(len(reference), len(written))
    return 1 - edit_distance(reference, written) / longest if longest else 1.0


@dataclass(frozen=True)
class Overlap:
    """Which share of what was written is in the reference (precision), the reverse (recall), and their harmonic mean.

    Items count as often as they occur; their order counts for nothing.
    """

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """2 P R / (P + R)."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def overlap(reference: Sequence[Hashable], written: Sequence[Hashable]) -> Overlap:
    """Precision and recall of the items; of an empty side 1 if the other is empty too, else 0."""
    shared = (Counter(reference) & Counter(written)).total()
    empty = float(not reference and not written)
    return Overlap(shared / len(written) if written else empty, shared / len(reference) if reference else empty)


def ngram_similarity(reference: Sequence[Hashable], written: Sequence[Hashable], longest: int = 4) -> float:
    """The mean over n = 1 .. 4 of the share of the written n-grams that the reference has (each as often as there).

    As in dlib: the arithmetic mean, and nothing is taken off for brevity, both unlike BLEU. Lengths n of which the written has none
    are left out; 0 if nothing was written.
    """
    if longest < 1:
        raise ValueError(f"longest = {longest}: n-grams have at least one item")
    shares = []
    for n in range(1, min(longest, len(written)) + 1):
        ours, theirs = _ngrams(written, n), _ngrams(reference, n)
        shares.append((ours & theirs).total() / ours.total())
    return sum(shares) / len(shares) if shares else float(not reference)


def _ngrams(items: Sequence[Hashable], n: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(zip(*(items[start:] for start in range(n)), strict=False))


@dataclass(frozen=True)
class Similarity:
    """The report of `compare_texts`; `print` it for a table. Everything is from 0 (nothing alike) to 1 (equal)."""

    edit: float
    overlap: Overlap
    ngram: float

    def __str__(self) -> str:
        return "\n".join(
            (
                f"{'edit similarity':<20}{self.edit:>8.1%}",
                f"{'precision':<20}{self.overlap.precision:>8.1%}",
                f"{'recall':<20}{self.overlap.recall:>8.1%}",
                f"{'F1':<20}{self.overlap.f1:>8.1%}",
                f"{'n-grams up to 4':<20}{self.ngram:>8.1%}",
            )
        )


def compare_texts(reference: Sequence[Hashable], written: Sequence[Hashable]) -> Similarity:
    """All of it for two sequences: token ids, as dlib compares, or strings for their characters."""
    return Similarity(
        edit_similarity(reference, written), overlap(reference, written), ngram_similarity(reference, written)
    )
