"""Tasks in text whose answers a program can check: what they have in common.

A task draws problems (a prompt, one right answer, a key), verifies what a model wrote, and can think aloud: `trace` is a solver's
way to the answer, to learn from. The text after the prompt is an answer, or `<think>...</think>` and an answer, and nothing else.

    task = Sums(digits=2)
    problem = problems(task, 1, "train")[0]          # prompt "37+58=", answer "95"
    task.verify(problem, "<think>7+8=15</think>95")  # Verdict(correct=True, reason="correct")
"""

import hashlib
import random
import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

THINK, END_THINK = "<think>", "</think>"
LONGEST = 10_000  # characters that a verifier is willing to read

Reason = Literal["correct", "wrong", "malformed"]


@dataclass(frozen=True)
class Problem:
    """Something to solve."""

    prompt: str
    answer: str  # one right answer; a task may accept others
    key: str  # what a split goes by: problems with one key are the same in disguise
    facts: tuple[Any, ...]  # what the verifier needs


@dataclass(frozen=True)
class Verdict:
    """What a verifier says: "malformed" has no answer of the asked form in it, "wrong" has one, and it is not right."""

    correct: bool
    reason: Reason


CORRECT, WRONG, MALFORMED = Verdict(True, "correct"), Verdict(False, "wrong"), Verdict(False, "malformed")


class Task(Protocol):
    """A kind of problem."""

    @property
    def name(self) -> str:
        """A short name with its size, as "sums-2"."""
        ...

    def draw(self, rng: random.Random) -> Problem:
        """A random problem."""
        ...

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Whether the text after the prompt holds a right answer, in the asked form and nothing beside it."""
        ...

    def trace(self, problem: Problem) -> str:
        """A solver's steps to `problem.answer`, without the tags."""
        ...


def answer_in(text: str) -> str | None:
    """The answer in what a model wrote: all of it, or what follows a single closed block of thought at its beginning.

    Spaces and line ends around the answer don't matter. None if there is no answer, if thought never ends, comes later or comes
    twice, or if the text is too long to be honest.

    >>> answer_in("<think>7+8=15, carry 1</think>95")
    '95'
    >>> answer_in("95<think>or 96?</think>") is None
    True
    """
    if len(text) > LONGEST:
        return None
    if text.startswith(THINK):
        thought, end, text = text.removeprefix(THINK).partition(END_THINK)
        if not end or THINK in thought:
            return None
    answer = text.strip(" \n")
    return answer if answer and "<" not in answer and ">" not in answer else None


def solution_text(task: Task, problem: Problem) -> str:
    """The solver's thought and the answer, as a model should learn to write them."""
    return f"{THINK}{task.trace(problem)}{END_THINK}{problem.answer}"


def split_of(problem: Problem) -> Split:
    """The split a problem belongs to, by a hash of its key: four fifths train, a tenth each is for validation and test."""
    share = int.from_bytes(hashlib.sha256(problem.key.encode()).digest()[:8], "big") % 100
    return "train" if share < 80 else "validation" if share < 90 else "test"


def problems(task: Task, n: int, split: Split | None = "train", seed: int = 0) -> list[Problem]:
    """`n` problems of a split (None: of all), no prompt twice. The same seed gives the same problems everywhere.

    ValueError if the split has not as many.
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"no split {split!r}: choose {', '.join(map(repr, SPLITS))}, or None for all problems")
    rng = random.Random(f"minilm {task.name} {seed}")
    found: dict[str, Problem] = {}
    fruitless = 0
    while len(found) < n:
        problem = task.draw(rng)
        if problem.prompt in found or split not in (None, split_of(problem)):
            fruitless += 1
            if fruitless > 1000 + 20 * n:
                raise ValueError(f"{task.name} seems to have only {len(found)} problems in {split or 'all splits'}")
            continue
        found[problem.prompt] = problem
        fruitless = 0
    return list(found.values())


def shared_keys(train: list[Problem], held_out: list[Problem]) -> int:
    """How many held-out problems share their key with a training problem: must be 0."""
    known = {problem.key for problem in train}
    return sum(problem.key in known for problem in held_out)


def is_number(text: str) -> bool:
    """Whether a text is a whole number as we write it: ASCII digits, no sign, no leading zero."""
    return re.fullmatch(r"0|[1-9][0-9]*", text) is not None
