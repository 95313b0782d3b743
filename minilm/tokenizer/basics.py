"""Byte-pair encoding in its plainest form: small functions on lists of ids, slow and readable.

The idea (Gage 1994; for language models Sennrich et al. 2016; on bytes Radford et al. 2019): count which two neighbours occur most often, give the pair a new id, replace it everywhere, repeat.
`minilm.tokenizer.training` and `minilm.tokenizer.bpe` do the same much faster; the tests prove them equal to these.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from minilm.tokenizer.pretokenize import PreTokenizer, pre_tokenize

Pair = tuple[int, int]


def count_pairs(ids: Sequence[int]) -> Counter[Pair]:
    """Count the neighbouring pairs of `ids`; overlapping ones count too.

    >>> count_pairs([1, 2, 3, 1, 2])
    Counter({(1, 2): 2, (2, 3): 1, (3, 1): 1})
    """
    return Counter(pairwise(ids))


def merge_pair(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """Replace every `pair` in `ids` by `new_id`, from left to right, without overlap.

    >>> merge_pair([1, 1, 1, 2], (1, 1), 9)
    [9, 1, 2]
    """
    merged: list[int] = []
    position = 0
    while position < len(ids):
        if tuple(ids[position : position + 2]) == pair:
            merged.append(new_id)
            position += 2
        else:
            merged.append(ids[position])
            position += 1
    return merged


def encode_by_rank(ids: Sequence[int], merges: Mapping[Pair, int]) -> list[int]:
    """Apply learned `merges` (pair -> new id, in the order learned) to `ids`: always the pair that was learned first.

    This repeats what training did to the corpus, and in the same order; that is why a word is cut in the same way in training and afterwards.

    >>> encode_by_rank(list(b"aab"), {(97, 97): 256, (256, 98): 257})
    [257]
    """
    rank = {pair: order for order, pair in enumerate(merges)}
    merged = list(ids)
    while len(merged) > 1:
        pair = min(pairwise(merged), key=lambda pair: rank.get(pair, len(rank)))
        if pair not in merges:
            break
        merged = merge_pair(merged, pair, merges[pair])
    return merged


def train_by_recounting(text: str, num_merges: int, pre_tokenizer: PreTokenizer = None) -> dict[Pair, int]:
    """Learn `num_merges` merges from `text`, counting every pair anew before each: clear, and far too slow for more than a page or ten.

    Ids 0..255 are the bytes by value; merges get 256, 257, ... in the order learned. Of equally frequent pairs the one with the lowest ids wins.
    Returns pair -> new id in the order learned; fewer than asked for when no pair is left.

    >>> train_by_recounting("aab aab", 2)
    {(97, 97): 256, (256, 98): 257}
    """
    words = [list(word.encode("utf-8")) for word in pre_tokenize(text, pre_tokenizer)]
    merges: dict[Pair, int] = {}
    for new_id in range(256, 256 + num_merges):
        counts: Counter[Pair] = Counter()
        for word in words:
            counts.update(count_pairs(word))
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges[best] = new_id
        words = [merge_pair(word, best, new_id) for word in words]
    return merges
