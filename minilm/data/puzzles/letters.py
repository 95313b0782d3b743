"""Sorting and reversing rows of letters: what a model must do with where things stand, of any length."""

import random
import string
from dataclasses import dataclass

from minilm.data.puzzles.tasks import CORRECT, MALFORMED, WRONG, Problem, Verdict, answer_in


@dataclass(frozen=True)
class _Letters:
    """Rows of `shortest` to `longest` small letters out of the first `alphabet`; every length is as likely."""

    longest: int = 6
    shortest: int = 2
    alphabet: int = 26

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest or not 2 <= self.alphabet <= 26:
            raise ValueError(f"{self}: 1 <= shortest <= longest, and 2 to 26 letters")

    @property
    def name(self) -> str:
        """As "sorting-6"."""
        return f"{type(self).__name__.lower()}-{self.longest}"

    def right(self, letters: str) -> str:
        """The answer."""
        raise NotImplementedError

    def draw(self, rng: random.Random) -> Problem:
        """A random row."""
        length = rng.randint(self.shortest, self.longest)
        letters = "".join(rng.choice(string.ascii_lowercase[: self.alphabet]) for _ in range(length))
        return Problem(f"{self._verb} {letters}=", self.right(letters), self.key(letters), (letters,))

    def key(self, letters: str) -> str:
        """What a split goes by."""
        return letters

    @property
    def _verb(self) -> str:
        return {"Sorting": "sort", "Reversal": "reverse"}[type(self).__name__]

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Exactly the row of letters asked for."""
        answer = answer_in(text)
        if answer is None or not set(answer) <= set(string.ascii_lowercase):
            return MALFORMED
        return CORRECT if answer == self.right(problem.facts[0]) else WRONG


class Sorting(_Letters):
    """The answer to "sort dbca=" is "abcd". Rows of the same letters have one key, whatever their order."""

    def right(self, letters: str) -> str:
        """The letters in the alphabet's order."""
        return "".join(sorted(letters))

    def key(self, letters: str) -> str:
        """The sorted row: the answer itself is new in a held-out problem."""
        return self.right(letters)

    def trace(self, problem: Problem) -> str:
        """The smallest of what is left, again and again: a from dbca, b from dbc, ..."""
        left, steps = list(problem.facts[0]), []
        while left:
            smallest = min(left)
            steps.append(f"{smallest} from {''.join(left)}")
            left.remove(smallest)
        return " ".join(steps)


class Reversal(_Letters):
    """The answer to "reverse dbca=" is "acbd". A row and its reverse have one key."""

    def right(self, letters: str) -> str:
        """The letters from the last to the first."""
        return letters[::-1]

    def key(self, letters: str) -> str:
        """Of the row and its reverse, the one that comes first in a dictionary."""
        return min(letters, letters[::-1])

    def trace(self, problem: Problem) -> str:
        """The row with its places numbered: 1d 2b 3c 4a."""
        return " ".join(f"{i}{letter}" for i, letter in enumerate(problem.facts[0], 1))
