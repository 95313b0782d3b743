"""Multiple choice by likelihood: the model never answers, it says which continuation it finds likeliest."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from minilm.data import stories
from minilm.data.stories import analysis
from minilm.data.stories.words import Word
from minilm.evaluation.endings import score_endings, shared_length
from minilm.evaluation.grammar import departure
from minilm.evaluation.likelihood import EvaluationError
from minilm.generation import Writer
from minilm.model import LanguageModel
from minilm.tokenizer import Tokenizer


@dataclass(frozen=True)
class Question:
    """A text that breaks off, several ways to go on, and which of them is right. A space belongs to the way on, not to the context."""

    context: str
    choices: tuple[str, ...]
    answer: int
    topic: str = ""

    def __post_init__(self) -> None:
        if len(self.choices) < 2 or not all(map(str.strip, self.choices)):
            raise EvaluationError(f"a question needs at least two choices, none of them empty: got {self.choices!r}")
        if not 0 <= self.answer < len(self.choices):
            raise EvaluationError(f"answer = {self.answer}: it counts the choices from 0 to {len(self.choices) - 1}")


@dataclass(frozen=True)
class ChoiceReport:
    """How often the likeliest choice was the right one; `print` it.

    `scores` are ln p of every choice of every question. `accuracy` takes the largest; `accuracy_norm` the largest per byte, since a long
    choice is less likely for its length alone. `confidence` is the mean of softmax(scores) at the right one.
    """

    questions: Sequence[Question]
    scores: list[list[float]]

    @property
    def right(self) -> list[bool]:
        """Of each question, whether the likeliest choice is right."""
        return [_best(row) == q.answer for q, row in zip(self.questions, self.scores, strict=True)]

    @property
    def right_norm(self) -> list[bool]:
        """The same by likelihood a byte."""
        found = []
        for question, row in zip(self.questions, self.scores, strict=True):
            per_byte = [score / _size(c) for score, c in zip(row, question.choices, strict=True)]
            found.append(_best(per_byte) == question.answer)
        return found

    @property
    def accuracy(self) -> float:
        """The share of questions whose likeliest choice is right."""
        return sum(self.right) / len(self.right)

    @property
    def accuracy_norm(self) -> float:
        """The same by likelihood a byte."""
        return sum(self.right_norm) / len(self.right_norm)

    @property
    def confidence(self) -> float:
        """The mean probability of the right choice, among the choices."""
        shares = [
            float(torch.tensor(row).softmax(0)[q.answer]) for q, row in zip(self.questions, self.scores, strict=True)
        ]
        return math.fsum(shares) / len(shares)

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return sum(1 / len(question.choices) for question in self.questions) / len(self.questions)

    @property
    def error(self) -> float:
        """The standard error of `accuracy`."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / max(1, len(self.questions) - 1))

    def __str__(self) -> str:
        lines = [
            f"{len(self.questions)} questions, by guessing {self.chance:.1%}",
            f"{'acc':<12}{self.accuracy:>8.1%} +- {self.error:.1%}",
            f"{'acc_norm':<12}{self.accuracy_norm:>8.1%}",
            f"{'confidence':<12}{self.confidence:>8.1%}",
        ]
        topics = sorted({question.topic for question in self.questions} - {""})
        for topic in topics:
            right = [r for q, r in zip(self.questions, self.right, strict=True) if q.topic == topic]
            lines.append(f"  {topic:<10}{sum(right) / len(right):>8.1%}   of {len(right)}")
        return "\n".join(lines)


def _size(choice: str) -> int:
    """Bytes, the space before it left out: it is the seam's."""
    return len(choice.strip().encode())


def _best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


def multiple_choice(model: LanguageModel, tokenizer: Tokenizer, questions: Sequence[Question]) -> ChoiceReport:
    """Score every choice by ln p(choice | context), the context itself left out.

    A choice must not be cut into tokens by itself: joined to the context, other tokens may come out at the seam. So context and
    choice are encoded together, and what all choices of a question share at the front is context. (Scoring context and choice as
    a whole, as some do, gives the same ranking only as long as the context's tokens are the same before every choice.)
    """
    if not questions:
        raise EvaluationError("there is no question to ask")
    writer = Writer(model, tokenizer)
    pairs: list[tuple[list[int], int]] = []
    for question in questions:
        context = writer.encode(question.context)
        rows = [writer.encode(question.context + choice) for choice in question.choices]
        shared = min(shared_length(context, row) for row in rows)
        pairs += [(row, len(row) - shared) for row in rows]
    found = iter(score_endings(model, pairs, pad_token=writer.pad_id))
    return ChoiceReport(questions, [[next(found).log_prob for _ in question.choices] for question in questions])


def story_questions(
    size: str = "medium", n: int = 100, *, choices: int = 4, seed: int = 0, split: stories.Split = "validation"
) -> list[Question]:
    """Questions made from stories: the text up to where it names something told before, and what could be named there.

    The right choice is what the story says, to the end of its sentence; the others are the same sentence with another word of the
    same kind, those that this very story uses for something else first. The grammar goes on with none of them, so whoever reads
    and remembers answers every question. `topic` is the name of the fact (toy, friend, color, had-gave, ...).
    """
    if n < 1 or choices < 2:
        raise EvaluationError(f"n = {n}, choices = {choices}: at least one question with two choices")
    grammar = stories.grammar(size)
    possible = analysis.possible_words(grammar)
    rng = random.Random(f"minilm questions {size} {seed}")
    found: list[Question] = []
    for tried, story in enumerate(stories.sample(size, seed + 1, split)):
        if tried > 50 * n + 1000:
            raise EvaluationError(f"{tried} {size} stories gave only {len(found)} questions: ask for fewer")
        if question := _question(grammar, story, possible, choices, rng):
            found.append(question)
            if len(found) == n:
                break
    return found


def _question(
    grammar: stories.Grammar, story: stories.Story, possible: dict[str, list[Word]], choices: int, rng: random.Random
) -> Question | None:
    text = story.text
    seen: set[str] = set()
    candidates = []
    for mention in story.mentions:
        word = text[mention.start : mention.end]
        recalled = mention.name in seen or mention.name not in possible  # not in possible: a calculation
        seen.add(mention.name)
        if (
            recalled and not mention.form and text[mention.start - 1 : mention.start] == " " and word[:1].islower()
        ) or (recalled and not mention.form and text[mention.start - 1 : mention.start] == " " and _is_name(word)):
            candidates.append(mention)
    rng.shuffle(candidates)
    for mention in candidates:
        word = text[mention.start : mention.end]
        others = _rivals(story, possible, mention.name, word, rng)
        end = text.find(".", mention.end)
        rest = text[mention.end : end + 1 if end >= 0 else len(text)]
        context = text[: mention.start - 1]
        wrong: list[str] = []
        for other in others:
            if len(wrong) == choices - 1:
                break
            left = departure(grammar, f"{context} {other}{rest}", ended=False)
            if left and left.place < mention.start + len(other) + 1:
                wrong.append(f" {other}{rest}")
        if len(wrong) == choices - 1:
            answer = rng.randrange(choices)
            wrong.insert(answer, f" {word}{rest}")
            return Question(context, tuple(wrong), answer, mention.name)
    return None


def _is_name(word: str) -> bool:
    return word[:1].isupper()


def _rivals(
    story: stories.Story, possible: dict[str, list[Word]], name: str, word: str, rng: random.Random
) -> list[str]:
    """Words that could stand there in another story: those of the same list that this story uses elsewhere first."""
    if name in possible:
        words = list(dict.fromkeys(each.text for each in possible[name]))
    else:  # a calculation: the other numbers
        words = list(dict.fromkeys(each.text for each in _numbers(possible)))
    used = [each for each in words if f" {each}" in story.text and each != word]
    unused = [each for each in words if each not in used and each != word]
    rng.shuffle(used)
    rng.shuffle(unused)
    return used + unused


def _numbers(possible: dict[str, list[Word]]) -> list[Word]:
    return [word for words in possible.values() for word in words if word.number is not None]
