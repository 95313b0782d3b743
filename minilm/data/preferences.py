"""Preferences whose best possible judge is known: pairs of stories, compared by a noisy judge with a known reward.

The judge is Bradley and Terry's (1952): of two stories it prefers the first with probability sigmoid(r1 - r2). Since the reward r is
ours, we know what no data set of human preferences can tell: how often the best judge of all agrees with these labels (it can't
foresee the coin), and how often a model agrees with the true order, which can reach 1.

    pairs = preferences("easy", 1000)
    best_accuracy(pairs), log_loss_floor(pairs)
"""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from minilm.data import instructions, stories

PROMPT = instructions.ANY_STORY


@dataclass(frozen=True)
class StoryReward:
    """A reward for any text, in closed form: the values of the phrases that occur in it, and of its length.

    r(text) = sum of value over phrases found (in small letters, each counted once) + per_character * (length - typical_length),

    where the part for length is cut off at +-`most_for_length`: a reward without bound would be earned by saying nothing.
    """

    phrases: tuple[tuple[str, float], ...]
    per_character: float
    typical_length: int
    most_for_length: float

    def __call__(self, text: str) -> float:
        """The reward of a text."""
        small = text.lower()
        found = math.fsum(value for phrase, value in self.phrases if phrase in small)
        length = self.per_character * (len(text) - self.typical_length)
        return found + max(-self.most_for_length, min(self.most_for_length, length))


# Friendly and short: thanks, friends and laughter are liked, sadness isn't.
FRIENDLY = (("thank", 1.0), ("loved", 1.0), ("laughed", 1.0), ("happy", 0.5), ("sad", -1.0))
REWARDS = {
    "easy": StoryReward(FRIENDLY, -0.02, 196, 0.5),
    "medium": StoryReward(FRIENDLY, -0.004, 810, 1.0),
    "hard": StoryReward(FRIENDLY, -0.004, 911, 1.0),
}
"""The reward of each size of stories."""


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt, as the judge labelled them, and what it knew: the reward of each."""

    prompt: str
    chosen: str
    rejected: str
    chosen_reward: float
    rejected_reward: float

    @property
    def record(self) -> dict[str, str]:
        """The pair in the field's format, which doesn't know the rewards."""
        return {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected}

    @property
    def margin(self) -> float:
        """By how much the chosen one is better; below 0 where the judge was wrong."""
        return self.chosen_reward - self.rejected_reward


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), for any x."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def preferences(
    size: str = "easy", n: int = 1000, seed: int = 0, split: stories.Split | None = "train", temperature: float = 1.0
) -> list[Preference]:
    """`n` pairs of stories from the grammar, each pair compared once. The same arguments give the same pairs everywhere.

    Both stories are of the split, so no story that is tested was trained on. `temperature` is how noisy the judge is.
    """
    if n < 0:
        raise ValueError(f"Cannot make {n} pairs: n must be 0 or more.")
    if size not in REWARDS:
        stories.grammar(size)  # complains of a name that does not exist
        raise ValueError(f"There is no reward for stories of size {size!r}; there is for {', '.join(REWARDS)}.")
    drawn = stories.sample(size, seed, split)
    texts = [next(drawn).text for _ in range(2 * n)]
    return compare(texts, REWARDS[size], PROMPT, seed, temperature)


def compare(
    texts: Sequence[str], reward: StoryReward, prompt: str = PROMPT, seed: int = 0, temperature: float = 1.0
) -> list[Preference]:
    """Have the judge compare texts two by two: the first with the second, the third with the fourth, and so on.

    Equal texts are no comparison and are left out. Texts may be anybody's: those of the model that is to be trained, say.
    """
    if not temperature > 0:
        raise ValueError(f"temperature = {temperature}: it must be above 0 (a tiny one makes the judge exact)")
    if len(texts) % 2:
        raise ValueError(f"{len(texts)} texts don't make pairs: give an even number")
    rng = random.Random(f"minilm preferences {seed}")
    pairs = []
    for first, second in zip(texts[::2], texts[1::2], strict=True):
        one, other = reward(first), reward(second)
        chance = sigmoid((one - other) / temperature)
        first_wins = rng.random() < chance  # drawn for equal texts too, so that the others' labels stay the same
        if first == second:
            continue
        if first_wins:
            pairs.append(Preference(prompt, first, second, one, other))
        else:
            pairs.append(Preference(prompt, second, first, other, one))
    return pairs


def best_accuracy(pairs: Iterable[Preference], temperature: float = 1.0) -> float:
    """How often the best judge of all agrees with labels such as these, in the mean over the coin: mean of max(p, 1 - p)."""
    return _mean(sigmoid(abs(pair.margin) / temperature) for pair in pairs)


def log_loss_floor(pairs: Iterable[Preference], temperature: float = 1.0) -> float:
    """The lowest loss a judge can have on labels such as these, in nats a pair: the mean entropy of the coin."""
    return _mean(_entropy(sigmoid(pair.margin / temperature)) for pair in pairs)


def true_order_share(pairs: Iterable[Preference]) -> float:
    """How many labels agree with the reward: the best accuracy again, but of this very draw of the coin."""
    return _mean(float(pair.margin > 0) + 0.5 * float(pair.margin == 0) for pair in pairs)


def _entropy(p: float) -> float:
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    if not listed:
        raise ValueError("there are no pairs")
    return math.fsum(listed) / len(listed)


def records(pairs: Iterable[Preference]) -> list[dict[str, Any]]:
    """The pairs in the field's format."""
    return [pair.record for pair in pairs]
