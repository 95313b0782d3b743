"""What an exercise is: data. The files in `minilm/course/exercises/` hold them, one file for each lesson; adding one takes no machinery.

```python
exercise(
    id="03.2",
    title="The mask that hides the future",
    objective="Write the boolean mask under which position t sees positions 0..t and nothing later.",
    difficulty=1, minutes=5,
    reference=causal_mask,
    inputs=sizes(1, 2, 5, 16),
    hints=["a nudge", "the idea", "the line"],
    wrong_answers=[wrong(lambda n: ..., "What you did, what it causes, what to do."), ...],
)
```
"""

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilm.course.comparing import Compare, close
from minilm.course.describing import describe
from minilm.course.inputs import Case, Inputs, call, cases, sizes

__all__ = ["Case", "Exercise", "Inputs", "Property", "Wrong", "call", "cases", "exercise", "holds", "sizes", "wrong"]

FOLDER = Path(__file__).parent / "exercises"


@dataclass(frozen=True)
class Wrong:
    """A usual wrong answer, and what a tutor would say to who gives it."""

    answer: Callable[..., Any]
    message: str


@dataclass(frozen=True)
class Property:
    """Something that must hold of any right answer to an open exercise, and what to say when it doesn't."""

    name: str
    test: Callable[[Any], bool | str | None]
    message: str


@dataclass(frozen=True)
class Exercise:
    """One exercise; `exercise(...)` describes the fields."""

    id: str
    title: str
    objective: str
    difficulty: int
    minutes: int
    hints: tuple[str, str, str]
    wrong_answers: tuple[Wrong, ...]
    reference: Callable[..., Any] | None
    inputs: Inputs | None
    properties: tuple[Property, ...]
    compare: Compare
    driver: Callable[..., Any] | None
    methods: tuple[str, ...]
    name: str | None
    unlocks: str
    may_mutate: bool
    seconds: float

    @property
    def lesson(self) -> str:
        """The lesson's number as it stands in the names of its files: "03", "00a"."""
        return self.id.partition(".")[0]

    @property
    def heading(self) -> str:
        """Number and title."""
        return f"{self.id} {self.title}"


_exercises: dict[str, Exercise] = {}


def wrong(answer: Callable[..., Any], message: str = "") -> Wrong:
    """A usual wrong answer with the sentence for it: what you did, what it causes, what to do.

    The message may be left out in an open exercise without inputs only: there the property that the answer breaks speaks.
    """
    return Wrong(answer, _text(message))


def holds(name: str, test: Callable[[Any], bool | str | None], message: str) -> Property:
    """A property of every right answer, for open exercises. `name` completes "while checking that ...".

    `test(answer)` returns True or None if it holds, False if not, or a sentence with the details, which follows `message`.
    """
    return Property(name, test, _text(message))


def exercise(
    *,
    id: str,
    title: str,
    objective: str,
    difficulty: int,
    minutes: int,
    hints: Sequence[str],
    wrong_answers: Sequence[Wrong],
    reference: Callable[..., Any] | None = None,
    inputs: Inputs | None = None,
    properties: Sequence[Property] = (),
    compare: Compare | None = None,
    driver: Callable[..., Any] | None = None,
    methods: Sequence[str] = (),
    name: str | None = None,
    unlocks: str = "",
    may_mutate: bool = False,
    seconds: float = 5.0,
) -> Exercise:
    """Describe an exercise and make it known to `check`, `hint` and `progress`.

    - `hints`: three, a nudge, the idea, the line. `wrong_answers`: three or more `wrong(function, message)`.
    - `reference` and `inputs` (`sizes(...)`, `cases(...)`): the answer must give what the reference gives on every input.
      Or `properties` (`holds(...)`) for an open exercise; they may also be added to a reference.
    - `compare(expected, got)` returns None, or a sentence that says what differs: `close()` by default, `exact`, or your own.
    - `driver(answer, *inputs)` turns an answer that isn't simply called into something to compare: for a class it builds one and
      uses it. `methods` names the methods that such a class must have.
    - `name` is what `from my import name` gives: the reference's own name by default.
    - `unlocks`: a sentence for who passes. `may_mutate`: the arguments are there to be changed.
    - `seconds`: how long one call may take; all calls together may take four times that.

    Raises ValueError if the description is not complete: it says what is missing.
    """
    if not re.fullmatch(r"[0-9]{2}[a-z]?\.[1-9][0-9]*", id):
        raise ValueError(f"an exercise's id is its lesson's number and its own, such as 03.2 or 00a.1: got {id!r}")
    if len(hints) != 3:
        raise ValueError(f"exercise {id} needs three hints (a nudge, the idea, the line): got {len(hints)}")
    if not 1 <= difficulty <= 5:
        raise ValueError(f"exercise {id}: difficulty goes from 1 to 5: got {difficulty}")
    if (reference is None) != (inputs is None) and not properties:
        raise ValueError(f"exercise {id}: a reference needs inputs, and inputs need a reference")
    if reference is None and not properties:
        raise ValueError(f"exercise {id} needs a reference with inputs, or properties")
    if inputs is not None and not all(item.message for item in wrong_answers):
        raise ValueError(f"exercise {id}: every wrong answer needs its message")
    if name is None and reference is not None and reference.__name__.isidentifier():
        name = reference.__name__
    new = Exercise(
        id=id,
        title=title,
        objective=_text(objective),
        difficulty=difficulty,
        minutes=minutes,
        hints=(_text(hints[0]), _text(hints[1]), _text(hints[2])),
        wrong_answers=tuple(wrong_answers),
        reference=reference,
        inputs=inputs,
        properties=tuple(properties),
        compare=compare or close(),
        driver=driver,
        methods=tuple(methods),
        name=name,
        unlocks=_text(unlocks),
        may_mutate=may_mutate,
        seconds=seconds,
    )
    _exercises[id] = new
    return new


def find(id: object) -> Exercise | str:
    """The exercise with this id, or a sentence that names the nearest one."""
    if not isinstance(id, str):
        return f'An exercise is named by a text such as "03.2": you gave {describe(id)}.'
    load(id.partition(".")[0])
    if id in _exercises:
        return _exercises[id]
    known = [item.id for item in everything()]
    near = difflib.get_close_matches(id if id[1:2].isdigit() else f"0{id}", known, n=1, cutoff=0.5)
    tail = f' Did you mean "{near[0]}"?' if near else " `progress()` lists them all."
    return f'There is no exercise "{id}".{tail}'


def named(name: str) -> Exercise | None:
    """The exercise whose answer is imported by this name, if there is one."""
    return next((item for item in everything() if item.name == name), None)


def everything() -> list[Exercise]:
    """All exercises of the course, in the order of the lessons."""
    for path in sorted(FOLDER.glob("[0-9][0-9]*_*.py")):
        importlib.import_module(f"minilm.course.exercises.{path.stem}")
    return sorted(_exercises.values(), key=order)


def of_lesson(lesson: str) -> list[Exercise]:
    """The exercises of one lesson, in order."""
    load(lesson)
    return sorted((item for item in _exercises.values() if item.lesson == lesson), key=order)


def load(lesson: str) -> None:
    """Import the file with the exercises of this lesson, if there is one; the other lessons' stay unread, and so does torch."""
    if re.fullmatch(r"[0-9]{2}[a-z]?", lesson):
        for path in FOLDER.glob(f"{lesson}_*.py"):
            importlib.import_module(f"minilm.course.exercises.{path.stem}")


def order(item: Exercise) -> tuple[str, int]:
    """What to sort by: 01.10 comes after 01.9, and 00a after 00."""
    return item.lesson, int(item.id.partition(".")[2])


def _text(text: str) -> str:
    """A text written over several indented lines, as one paragraph."""
    return re.sub(r"\s*\n\s*", " ", inspect.cleandoc(text))
