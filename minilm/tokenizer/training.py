"""Learning merges fast: the same result as recounting all pairs before every merge, without the recounting.

Four ideas, each of them lesson 01's:
1. A corpus of millions of words has only some ten thousand different ones: work on those, with their counts.
2. Keep the pair counts, and after a merge correct them only where it changed something.
3. Keep for each pair a list of the words that hold it, so that a merge visits only those.
4. Keep the pairs in a heap. Counts only fall once a pair is in it, so an entry found out of date on top is put back with its true count ("lazy deletion").

And one of Python's: a word is a `str` with one character for each id, chr(id). Then "replace the pair everywhere" is `str.replace`, which runs in C, a pair is a string of two characters, and comparing pairs compares ids.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Literal, NoReturn, get_args

from tqdm.auto import tqdm

TieBreak = Literal["lowest_id", "lexicographic"]


def learn_merges(
    words: Mapping[str, int],
    tokens: list[bytes],
    num_tokens: int,
    tie_break: TieBreak = "lowest_id",
    progress: bool | None = False,
) -> dict[str, int]:
    """Learn merges from `words` until there are `num_tokens` tokens or no pair is left.

    `words` maps a word, one character chr(id) for each id, to how often it occurs; `tokens[id]` are the bytes of an id, and each new token is appended.
    Of equally frequent pairs, `"lowest_id"` takes the one with the lowest ids (Hugging Face tokenizers), `"lexicographic"` the greatest pair of byte strings (Stanford's CS336).
    Returns pair -> new id in the order learned.
    """
    trainer = _Trainer(words, _sort_key(tie_break, tokens))
    merges: dict[str, int] = {}
    with progress_bar(num_tokens - len(tokens), "merging", progress) as bar:
        while len(tokens) < num_tokens and (pair := trainer.pop_most_frequent()) is not None:
            # No token has these bytes yet: a stretch of text whose ends no merge has crossed is cut the same way wherever it stands, so two different pairs never spell the same.
            merges[pair] = new_id = len(tokens)
            tokens.append(tokens[ord(pair[0])] + tokens[ord(pair[1])])
            trainer.merge(pair, chr(new_id))
            bar.update()
    return merges


class _Trainer:
    """The words, the counts of their pairs, where each pair is, and which is the most frequent."""

    def __init__(self, words: Mapping[str, int], sort_key: Callable[[str], object]) -> None:
        self.words = list(words)
        self.frequency = list(words.values())
        self.counts: Counter[str] = Counter()
        self.places: defaultdict[str, list[int]] = defaultdict(list)  # pair -> the words that hold it, or once did
        self.heap: list[tuple[int, object, str]] = []
        self.sort_key = sort_key
        for place, (word, frequency) in enumerate(zip(self.words, self.frequency, strict=True)):
            for left, right in pairwise(word):
                pair = left + right
                self.counts[pair] += frequency
                self.places[pair].append(place)
        self.heap = [(-count, sort_key(pair), pair) for pair, count in self.counts.items()]
        heapq.heapify(self.heap)

    def pop_most_frequent(self) -> str | None:
        """Take the most frequent pair out of the heap; None if no pair is left."""
        while self.heap:
            negative_count, key, pair = self.heap[0]
            count = self.counts[pair]
            if count == -negative_count:
                heapq.heappop(self.heap)
                return pair
            if count > 0:
                heapq.heapreplace(self.heap, (-count, key, pair))
            else:
                heapq.heappop(self.heap)
        return None

    def merge(self, pair: str, token: str) -> None:
        """Replace `pair` by `token`, which no word holds yet, and correct the counts around it."""
        left, right = pair[0], pair[1]
        counts, places, words = self.counts, self.places, self.words
        changed = set()
        for place in set(places.pop(pair)):
            word = words[place]
            merged = word.replace(pair, token)
            if merged == word:
                continue  # a neighbour's merge has taken the pair away since
            words[place] = merged
            frequency = self.frequency[place]
            last = len(merged) - 1
            at = merged.find(token)
            while at >= 0:
                if at > 0:
                    before = merged[at - 1]
                    formed = before + token
                    # Two merges side by side (ab ab): what was lost between them is right + left.
                    counts[(right if before == token else before) + left] -= frequency
                    counts[formed] += frequency
                    places[formed].append(place)
                    changed.add(formed)
                if at < last and (after := merged[at + 1]) != token:
                    formed = token + after
                    counts[right + after] -= frequency
                    counts[formed] += frequency
                    places[formed].append(place)
                    changed.add(formed)
                at = merged.find(token, at + 1)
        del counts[pair]
        for formed in changed:
            # A pair with the new token is formed now or never, so it enters the heap once.
            heapq.heappush(self.heap, (-counts[formed], self.sort_key(formed), formed))


def _sort_key(tie_break: str, tokens: list[bytes]) -> Callable[[str], object]:
    """What equally frequent pairs are sorted by, the one to merge first."""
    if tie_break == "lowest_id":
        return lambda pair: pair
    if tie_break == "lexicographic":
        # The greatest first: complement every byte, and end with something greater than all, so that a prefix comes after what it begins.
        complement = bytes(range(255, -1, -1))

        def descending(token: str) -> str:
            return tokens[ord(token)].translate(complement).decode("latin-1") + "\u0100"

        return lambda pair: (descending(pair[0]), descending(pair[1]))
    names = " or ".join(map(repr, get_args(TieBreak)))
    raise ValueError(f"tie_break is {tie_break!r}; it must be {names}")


def progress_bar(total: int, name: str, shown: bool | None) -> "tqdm[NoReturn]":
    """A bar for work of over two seconds; `shown=None` hides it unless the output is a terminal."""
    return tqdm(total=total, desc=name, unit_scale=True, delay=2, disable=None if shown is None else not shown)
