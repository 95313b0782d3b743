"""`check("03.2", causal_mask)`: what the learner calls. Judges the answer, remembers it, keeps it, and raises only for nbgrader."""

from dataclasses import replace
from typing import Any

from minilm import paths
from minilm.course import my, records
from minilm.course.exercise import Exercise, find, of_lesson
from minilm.course.judging import judge
from minilm.course.results import Result

_NOTHING = object()


class NotPassed(AssertionError):
    """Raised by `check` under nbgrader, where a cell that raises gets no points. Its text is what the learner would have read."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.text())
        self.result = result

    def _render_traceback_(self) -> list[str]:
        # What IPython prints in place of a traceback, in which the learner would find only our own lines.
        return str(self).splitlines()


def check(id: str, answer: Any = _NOTHING) -> Result:
    """Check an answer to an exercise and say how it went.

    Give the function or class itself: `check("03.2", causal_mask)`. A passing answer is counted in `progress()`, and kept
    under `work/my/`, so that `from my import causal_mask` works in the other notebooks.

    End the cell with `check`: a notebook shows the value of a cell's last line only (elsewhere, `print(check(...))`).
    Nothing is raised, except under nbgrader, where an answer that does not pass raises NotPassed and nothing is written.
    """
    exercise = find(id)
    if not isinstance(exercise, str) and answer is _NOTHING:
        exercise = f'Give your answer too: `check("{exercise.id}", {exercise.name or "your_function"})`.'
    result = Result("unknown", exercise) if isinstance(exercise, str) else judge(exercise, answer)
    if paths.under_nbgrader():
        if not result.passed:
            raise NotPassed(result)
        return result
    if isinstance(exercise, str) or result.status == "not started":
        return result
    note = records.remember(exercise.id, result.passed)
    if result.passed:
        result = replace(result, sentences=[*result.sentences, *_unlocked(exercise, answer)])
    return replace(result, notes=[note] if note else [])


def _unlocked(exercise: Exercise, answer: Any) -> list[str]:
    """What passing opens: the answer to import, what the author says, the next exercise."""
    said = [exercise.unlocks] if exercise.unlocks else []
    name = exercise.name or getattr(answer, "__name__", "")
    problem = my.save(exercise, answer)
    if problem is None:
        said.append(f"`from my import {name}` now gives it in every notebook of the course.")
    else:
        said.append(f"It could not be kept for `from my import {name}`: {problem}")
    ids = [item.id for item in of_lesson(exercise.lesson)]
    following = ids.index(exercise.id) + 1
    if following < len(ids):
        upcoming = of_lesson(exercise.lesson)[following]
        said.append(f"Next: **{upcoming.heading}**, about {upcoming.minutes} minutes.")
    else:
        said.append(f"That was the last exercise of lesson {exercise.lesson}.")
    return said
