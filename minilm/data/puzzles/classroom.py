"""A class that adds aloud, and of which most forget to carry: text for a model that imitates and knows no better.

What the class says is neither right nor wrong at random: forgetting has one answer for each sum, and it is the more frequent one. So
the likeliest answer of a good imitator is wrong wherever a sum carries, and the right one is the second likeliest.
"""

import random
from collections.abc import Iterator

from minilm.data.puzzles.arithmetic import Sums
from minilm.data.puzzles.tasks import Problem, Split, problems

ASKED = 6  # how often a sum is asked, in the mean


def forgetful(problem: Problem) -> str:
    """What a child says who adds column by column and never carries.

    >>> forgetful(Problem("37+58=", "95", "37+58", (37, 58)))
    '85'
    """
    a, b = problem.facts
    columns = len(str(max(a, b)))
    return str(sum((a // 10**i + b // 10**i) % 10 * 10**i for i in range(columns)))


def hear(digits: int, number: int, percent: float, split: Split | None = "train", seed: int = 0) -> Iterator[str]:
    """`number` answers of the class, as "37+58=85": sums of a split, in random order, each about six times.

    `percent` of the answers forget every carry, the others are right. ValueError if the split has not as many sums.
    """
    if not 0 <= percent <= 100:
        raise ValueError(f"percent = {percent}: how many of a hundred answers forget to carry")
    wanted, there = -(-number // ASKED), 10 ** (2 * digits)
    if wanted > there:
        raise ValueError(f"there are {there:,} sums of {digits} digits, and {wanted:,} would be asked")
    asked = problems(Sums(digits), wanted, split, seed)
    rng = random.Random(f"class {digits} {percent:g} {seed}")
    order = rng.choices(asked, k=number)
    return (p.prompt + (forgetful(p) if rng.random() < percent / 100 else p.answer) for p in order)
