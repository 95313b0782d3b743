"""Exercises of lesson 00: warm-ups, to meet `check` and `hint` before anything is difficult."""

import itertools
import math
import random
from collections import Counter, defaultdict

from minilm.course.exercise import cases, exercise, wrong

Table = dict[str, dict[str, float]]


def _share(counts: Counter[str]) -> dict[str, float]:
    total = counts.total()
    return {character: count / total for character, count in counts.items()}


def _few_letters(rng: random.Random) -> str:
    return "".join(rng.choice("aaab B ") for _ in range(rng.randint(3, 12)))


# 00.1 ----------------------------------------------------------------------------------------------------------------


def letter_frequencies(text: str) -> dict[str, float]:
    """The share of each character in a text."""
    return _share(Counter(text))


def _by_alphabet(text: str) -> dict[str, float]:
    return {character: count / len(set(text)) for character, count in Counter(text).items()}


exercise(
    id="00.1",
    title="Count into probabilities",
    objective="Turn a text into the probability of each of its characters.",
    difficulty=1,
    minutes=5,
    reference=letter_frequencies,
    inputs=cases("aab", "a", "a bc", "Aa", "Mia had a kite.", draw=_few_letters),
    hints=[
        "In `aab`, two characters of three are an *a*. What are the two probabilities, and what is their sum?",
        "Count each character, then divide every count by how many characters there are in all.",
        "`{character: count / len(text) for character, count in Counter(text).items()}`",
    ],
    wrong_answers=[
        wrong(
            lambda text: dict(Counter(text)),
            "You return counts. Probabilities of everything that can happen add up to 1, and yours add up to the length of the text: divide each count by it.",
        ),
        wrong(
            _by_alphabet,
            "You divide by the number of *different* characters. In `aab` that gives *a* a probability of 2/2, and *b* still has 1/2: together more than 1. Divide by the length of the whole text.",
        ),
        wrong(
            lambda text: _share(Counter(text.replace(" ", ""))) if text.strip() else {},
            "You leave the spaces out. A space is a character like any other, and in English the most frequent one: a model that never expects it writeslikethis.",
        ),
        wrong(
            lambda text: _share(Counter(text.lower())),
            "You turn capitals into small letters first. For a model *A* and *a* are two characters, as different as *a* and *q*; that they are related it has to learn. Count the text as it is.",
        ),
        wrong(
            lambda text: {character: 100 * share for character, share in _share(Counter(text)).items()},
            "Yours are percentages: they add up to 100. Everything that follows (logarithms, products) needs probabilities that add up to 1.",
        ),
        wrong(
            lambda text: {character: 1 / len(set(text)) for character in text},
            "You give every character that occurs the same probability, however often it occurs. That is the guess of somebody who only knows the alphabet. Use the counts.",
        ),
    ],
    unlocks="That is already a language model, the smallest there is: it knows how often, and nothing about what comes after what.",
)


# 00.2 ----------------------------------------------------------------------------------------------------------------


def average_surprise(probabilities: list[float]) -> float:
    """The mean of -log2 p."""
    return math.fsum(-math.log2(p) for p in probabilities) / len(probabilities)


def _some_probabilities(rng: random.Random) -> list[float]:
    return [rng.choice([0.5, 0.25, 0.1, 0.9, 0.7]) for _ in range(rng.randint(2, 8))]


exercise(
    id="00.2",
    title="Average surprise",
    objective="Given the probabilities that a model gave to what then happened, compute its average surprise in bits.",
    difficulty=1,
    minutes=5,
    reference=average_surprise,
    inputs=cases([0.5, 0.25], [0.5], [1.0], [0.125, 0.5, 0.5], [0.9, 0.01], draw=_some_probabilities),
    hints=[
        "A probability of 1/2 costs one bit, 1/4 two bits, 1/8 three. Which function of 1/8 is 3?",
        "The surprise of one event is -log2(p). Compute it for each, then take the mean.",
        "`sum(-math.log2(p) for p in probabilities) / len(probabilities)`",
    ],
    wrong_answers=[
        wrong(
            lambda probabilities: sum(-math.log(p) for p in probabilities) / len(probabilities),
            "The idea is right and the unit is not: `math.log` is the natural logarithm, so yours are nats, and 1/2 costs 0.693 of them. Bits need `math.log2`. (The course trains in nats, as everybody does; 1 bit = 0.693 nats.)",
        ),
        wrong(
            lambda probabilities: sum(math.log2(p) for p in probabilities) / len(probabilities),
            "The sign is missing: the logarithm of a probability is negative, and yours says that a surprise is less than nothing. Take -log2(p).",
        ),
        wrong(
            lambda probabilities: sum(-math.log2(p) for p in probabilities),
            "You add up the surprises and stop there: that is the cost of the whole text, and it grows with its length. For an average, divide by how many there are.",
        ),
        wrong(
            lambda probabilities: -math.log2(sum(probabilities) / len(probabilities)),
            "You average the probabilities first and take the logarithm afterwards. So a sure thing makes up for a disaster: 0.9 and 0.01 come out as 1.1 bits, where the one disaster alone costs 6.6. Take the logarithm of each, then the mean.",
        ),
        wrong(
            lambda probabilities: sum(-p * math.log2(p) for p in probabilities),
            "You weight each surprise by its probability. That is the entropy of a distribution whose every outcome you list. Here the list holds what *did* happen, once each: a plain mean.",
        ),
        wrong(
            lambda probabilities: sum(1 - p for p in probabilities) / len(probabilities),
            "You measure surprise as 1 - p. Then being wrong with 0.01 costs hardly more than with 0.1, and a text's surprise is not the sum of its characters'. Probabilities multiply; only a logarithm turns that into a sum: -log2(p).",
        ),
    ],
    unlocks="You have written the number that every language model is trained to make small: the cross-entropy.",
)


# 00.3 ----------------------------------------------------------------------------------------------------------------


def _successors(text: str) -> dict[str, Counter[str]]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for left, right in itertools.pairwise(text):
        counts[left][right] += 1
    return counts


def bigram_table(text: str) -> Table:
    """For each character the probabilities of what follows it."""
    return {left: _share(after) for left, after in _successors(text).items()}


def _by_right_neighbour(text: str) -> Table:
    return bigram_table(text[::-1])


def _joint(text: str) -> Table:
    return {
        left: {right: n / (len(text) - 1) for right, n in after.items()} for left, after in _successors(text).items()
    }


def _by_letter_count(text: str) -> Table:
    letters = Counter(text)
    return {left: {right: n / letters[left] for right, n in after.items()} for left, after in _successors(text).items()}


def _only_counts(text: str) -> dict[str, dict[str, int]]:
    return {left: dict(after) for left, after in _successors(text).items()}


def _only_the_best(text: str) -> Table:
    return {left: {max(after, key=lambda c: after[c]): 1.0} for left, after in bigram_table(text).items()}


def _steps_of_two(text: str) -> Table:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for left, right in zip(text[::2], text[1::2], strict=False):
        counts[left][right] += 1
    return {left: _share(after) for left, after in counts.items()}


exercise(
    id="00.3",
    title="What follows what",
    objective="Build the bigram model: for each character, the probability of each character right after it.",
    difficulty=2,
    minutes=10,
    reference=bigram_table,
    inputs=cases("abac", "ab", "aaab", "hello", "a kite. a boat", draw=lambda rng: _few_letters(rng) + "ab"),
    hints=[
        "Do `abac` by hand. After which characters does something follow, and what? What follows the *c* at the end?",
        "Keep one counter for each left character. Go over the neighbours (left, right), count right in left's counter, and at the end divide each counter by its own total.",
        "`counts[left][right] += 1` for `left, right in zip(text, text[1:])`, with `counts = defaultdict(Counter)`; then `letter_frequencies`' division for each row, by `counts[left].total()`.",
    ],
    wrong_answers=[
        wrong(
            _by_right_neighbour,
            "Your rows say what comes *before* a character. A model writes from left to right: it knows the left one and needs the right one. The row's key is the left character.",
        ),
        wrong(
            _joint,
            "You divide by the number of all pairs, so the whole table adds up to 1. The question is: *given* the left character, what comes next? Each row is a distribution of its own and adds up to 1.",
        ),
        wrong(
            _by_letter_count,
            "Nearly: you divide by how often the left character occurs. The text's last character has no successor, so its row falls short of 1. Divide each row by its own total.",
        ),
        wrong(
            _only_counts,
            "The counts are right; they are not probabilities yet. Divide each row by its total.",
        ),
        wrong(
            _only_the_best,
            "You keep only the most frequent successor. A model that is always sure writes the same loop for ever, and its surprise is infinite as soon as something else happens. Keep all of them with their shares.",
        ),
        wrong(
            _steps_of_two,
            "You walk two characters at a time, so of abcd you count ab and cd and never bc. Pair every character with the next: `zip(text, text[1:])`.",
        ),
    ],
    unlocks="Andrey Markov counted pairs of neighbours (vowels and consonants) by hand in 20,000 letters of *Eugene Onegin*, in 1913. Lesson 01 counts the same pairs, for another purpose.",
)
