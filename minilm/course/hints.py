"""`hint("03.2")`: three hints, folded; each opens in place when clicked."""

from dataclasses import dataclass

from minilm.course.exercise import Exercise, find
from minilm.course.results import Result, Shown, markup, plain

_NAMES = ("a nudge", "the idea", "the line")


@dataclass(frozen=True, repr=False)
class Hints(Shown):
    """The three hints of one exercise, the same at every run."""

    exercise: Exercise

    def text(self) -> str:
        """The hints one below the other: a terminal can't fold."""
        lines = [self.exercise.heading]
        lines += [f"{i}. {plain(hint)}" for i, hint in enumerate(self.exercise.hints, start=1)]
        return "\n".join(lines)

    def html(self) -> str:
        """Three folded lines that open with a click, or with Enter when reached by Tab."""
        folded = "".join(
            f"<details><summary>Hint {i}: {name}</summary><p>{markup(hint)}</p></details>"
            for i, (name, hint) in enumerate(zip(_NAMES, self.exercise.hints, strict=True), start=1)
        )
        return f"<div><p><strong>{markup(self.exercise.heading)}</strong></p>{folded}</div>"


def hint(id: str) -> Hints | Result:
    """The hints of an exercise: a nudge, the idea, the line. Open only as many as you need."""
    exercise = find(id)
    if isinstance(exercise, str):
        return Result("unknown", exercise)
    return Hints(exercise)
