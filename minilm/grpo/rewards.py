"""Rewards that a program can give: what is right, and what only looks so.

What is right says the task itself (`minilm.data.puzzles`: `task.verify`), and it is strict about form. The rewards here are the seven
that SmallDoge offers (its `utils/rewards.py`; accuracy and format unless told otherwise), written anew, and one bad verifier: each with
what it pays for, since a policy will find out.
"""

import math
from collections.abc import Sequence

from minilm.data.puzzles.tasks import THINK, answer_in

NAMES = ("Analysis", "First", "Second", "Next", "Reflection", "Finally", "Summarizing", "Solution")
HEADINGS = tuple(f"**{name}:**" for name in NAMES)


def format_reward(text: str) -> float:
    """1 for one closed thought and then an answer, whatever they say. Paid by itself it teaches a form and nothing else.

    SmallDoge's asks for tags of its own around thought and solution; its second one, for DeepSeek's form, is a stub that always pays 1.

    >>> format_reward("<think>5+8=13</think>13"), format_reward("13"), format_reward("<think>13")
    (1.0, 0.0, 0.0)
    """
    return float(text.startswith(THINK) and answer_in(text) is not None)


def reasoning_steps_reward(text: str, headings: Sequence[str] = HEADINGS, each: float = 0.125) -> float:
    """`each` for every heading that occurs, as SmallDoge pays eight of them: a reward for headings without a right answer.

    >>> reasoning_steps_reward(" ".join(HEADINGS))
    1.0
    """
    return each * sum(heading in text for heading in headings)


def accuracy_reward(answer: str, gold: str | None) -> float:
    """1 for the right answer; 1 also where the gold answer cannot be read (None), as SmallDoge's does.

    That constant cannot be hacked, since every answer of the group gets it and the advantages are zero; but it flatters the curve:
    the mean reward rises with the share of unreadable problems, and nothing was learned.
    """
    return 1.0 if gold is None else float(answer.strip() == gold)


def length_rewards(lengths: Sequence[int], right: Sequence[bool]) -> list[float]:
    """Kimi k1.5's: short right answers gain, long ones lose; wrong ones can only lose. All lengths equal: nothing.

    Lengths are characters there. By itself it pays a short wrong answer (0) more than the longest right one (-0.5); and where the gold answer
    can't be read SmallDoge takes all for right, so that the empty text is the best.

    lambda = 0.5 - (length - shortest) / (longest - shortest), and for wrong answers min(0, lambda).
    """
    shortest, longest = min(lengths), max(lengths)
    if shortest == longest:
        return [0.0] * len(lengths)
    found = [0.5 - (length - shortest) / (longest - shortest) for length in lengths]
    return [value if good else min(0.0, value) for value, good in zip(found, right, strict=True)]


def cosine_reward(
    length: int,
    right: bool,
    *,
    longest: int = 1000,
    right_range: tuple[float, float] = (0.5, 1.0),
    wrong_range: tuple[float, float] = (-1.0, -0.5),
) -> float:
    """A right answer is worth 1 and less the longer it is, down to 0.5; a wrong one costs 1, and less the longer it is, down to 0.5.

    r = low + (high - low) (1 + cos(pi length / longest)) / 2, with low and high swapped for wrong answers: who is wrong is paid for
    writing more. Those ranges are the function's defaults; SmallDoge's training script passes 0 and -0.5 for wrong answers, which turns that
    round. Lengths are characters; ours ends at `longest`, where SmallDoge's goes up again.
    """
    low, high = right_range if right else wrong_range[::-1]
    return low + 0.5 * (high - low) * (1 + math.cos(math.pi * min(length, longest) / longest))


def repetition_penalty(text: str, n: int = 3, largest: float = -1.0) -> float:
    """`largest` (at most 0) times the share of word n-grams that are repeated: 0 where all differ or there are too few words."""
    if largest > 0:
        raise ValueError(f"largest = {largest}: a penalty is at most 0")
    words = text.lower().split()
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return largest * (1 - len(set(grams)) / len(grams)) if grams else 0.0


def substring_reward(text: str, gold: str) -> float:
    """A badly written verifier: 1 if the right answer stands anywhere in the text. An exhibit: a policy learns to list numbers."""
    return float(gold in text)
