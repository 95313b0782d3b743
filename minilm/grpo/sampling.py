"""What more answers buy at inference: pass@k, majority votes, best of n."""

import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

Answer = TypeVar("Answer", bound=Hashable)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The probability that at least one of k answers is right, unbiased, from `samples` answers of which `correct` are (Chen et al. 2021).

    1 - C(n - c, k) / C(n, k): of all ways to choose k of the n answers, the share that holds a right one.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 2), pass_at_k(4, 1, 4)
    (0.25, 0.5, 1.0)
    """
    if not 0 <= correct <= samples:
        raise ValueError(f"{correct} of {samples} answers are right: it can't be more than there are, nor below 0")
    if not 1 <= k <= samples:
        raise ValueError(f"k = {k} with {samples} answers: k goes from 1 to as many as were sampled")
    return 1 - math.comb(samples - correct, k) / math.comb(samples, k)


def majority_vote(answers: Sequence[Answer | None]) -> Answer | None:
    """The answer given most often (self-consistency, Wang et al. 2023); of equals the one given first. None (no answer found) has no vote.

    >>> majority_vote(["12", "13", None, "13"])
    '13'
    """
    votes = Counter(answer for answer in answers if answer is not None)
    return votes.most_common(1)[0][0] if votes else None


def best_of_n(answers: Sequence[Answer], score: Callable[[Answer], float]) -> Answer:
    """The answer with the highest score; of equals the first. What it buys is bounded by what the score knows."""
    if not answers:
        raise ValueError("there are no answers to choose from")
    return max(answers, key=score)


def vote_curve(
    answers: Sequence[Sequence[Answer | None]],
    right: Sequence[Callable[[Answer], bool]],
    counts: Sequence[int],
    *,
    draws: int = 20,
    seed: int = 0,
) -> list[float]:
    """The accuracy of a majority of n answers, for each n of `counts`, over random choices of n from each problem's answers."""
    chance = random.Random(seed)
    curve = []
    for n in counts:
        hits = total = 0
        for given, is_right in zip(answers, right, strict=True):
            if n > len(given):
                raise ValueError(f"a vote of {n} needs as many answers a problem, and one has {len(given)}")
            for _ in range(draws if n < len(given) else 1):
                chosen = majority_vote(chance.sample(list(given), n))
                hits += chosen is not None and is_right(chosen)
                total += 1
        curve.append(hits / total)
    return curve
