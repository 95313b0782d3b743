"""Sentences about what an answer did: the guards that come before, or in place of, a comparison of values."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

from minilm.course.calling import Outcome
from minilm.course.comparing import difference
from minilm.course.describing import describe, filename_of, is_array, is_tensor, kind, source_line
from minilm.course.exercise import Exercise, Property
from minilm.course.inputs import Case
from minilm.course.results import verbatim


def objection(exercise: Exercise, answer: Any) -> str | None:
    """Why the answer can't even be tried: not a function or class, a method missing, arguments missing or too many."""
    wants_class = inspect.isclass(exercise.reference) or bool(exercise.methods)
    asked = "class" if wants_class else "function"
    name = exercise.name or f"your_{asked}"
    if not callable(answer) or (wants_class and not inspect.isclass(answer)):
        given = kind(answer)
        if not inspect.isroutine(answer):
            given += ": perhaps what it returned, or an object made from it"
        return f'`check` wants the {asked} itself, without calling it: `check("{exercise.id}", {name})`. You gave it {given}.'
    if inspect.isclass(answer) and inspect.isfunction(exercise.reference) and exercise.driver is None:
        return f"This exercise asks for a function, and `{answer.__name__}` is a class."
    missing = [method for method in exercise.methods if not callable(getattr(answer, method, None))]
    if missing:
        return f"Your class `{answer.__name__}` has no method `{missing[0]}`, which this exercise asks for."
    if exercise.inputs is None or exercise.driver is not None:
        return None
    return _wrong_signature(exercise, answer, exercise.inputs.fixed[0])


def _wrong_signature(exercise: Exercise, answer: Any, case: Case) -> str | None:
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):  # a built-in that doesn't tell
        return None
    try:
        signature.bind(*case.args, **case.kwargs)
    except TypeError:
        wanted = _listed(parameter_names(exercise)[: len(case.args)] + list(case.kwargs))
        yours = _listed(list(signature.parameters))
        what = f"`{getattr(answer, '__name__', 'your function')}`"
        return f"{what} should take {wanted}, and yours takes {yours}. Keep the `def` line of the exercise as it was."
    return None


def _listed(names: list[str]) -> str:
    count = "no arguments" if not names else "one argument" if len(names) == 1 else f"{len(names)} arguments"
    return f"{count} ({', '.join(f'`{name}`' for name in names)})" if names else count


def parameter_names(exercise: Exercise) -> list[str]:
    """What the inputs are called: the parameters of the driver after the answer, or else of the reference."""
    function = exercise.driver or exercise.reference
    if function is None:
        return []
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []
    return names[1:] if exercise.driver is not None else names


def untouched(got: Outcome, answer: Any) -> bool:
    """Whether the stub itself raised NotImplementedError (a library may raise one too, for its own reasons)."""
    if not isinstance(got.error, NotImplementedError):
        return False
    step = got.error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return step is not None and step.tb_frame.f_code.co_filename == filename_of(answer)


def complaint(
    exercise: Exercise, answer: Any, case: Case, expected: Outcome, got: Outcome, names: list[str]
) -> str | None:
    """What is wrong with what the answer did on this input, as the end of a sentence; None if nothing is."""
    if got.late:
        return "your function takes too long and was stopped. Is there a loop that never ends?"
    if expected.error is not None:
        wanted = kind(expected.error)
        if isinstance(got.error, type(expected.error)):
            return None
        return f"{wanted} should be raised ({_sentence(expected.error)}); yours {_deed(got, answer)}."
    if got.error is not None:
        return f"your function {_deed(got, answer)}."
    touched = changed_arguments(case, got, names)
    if got.value is None and expected.value is not None:
        return _returned_nothing(got, touched)
    said = _compared(exercise, expected.value, got.value)
    if said is not None:
        if inspect.isgeneratorfunction(answer):
            said = said.replace("you returned a list", "your function yields its items one by one (a generator)", 1)
        return said if said.endswith((".", "?", "!")) else f"{said}."
    if touched and not exercise.may_mutate:
        return f"the result is right, but your function changes its argument `{touched[0]}`, which belongs to the caller. Work on a copy."
    return None


def _returned_nothing(got: Outcome, touched: list[str]) -> str:
    if got.printed:
        return "your function prints something and returns nothing. Write `return` where it says `print`."
    if touched:
        return f"your function changes its argument `{touched[0]}` and returns nothing. Return the result, and leave the argument alone."
    return "your function returned nothing (None). Is a `return` missing at its end?"


def _compared(exercise: Exercise, expected: Any, got: Any) -> str | None:
    try:
        return exercise.compare(expected, got)
    except Exception:  # an author's own comparison that did not expect such a thing
        return difference(expected, got) or f"you returned {describe(got)}, which could not be compared"


def same_deed(exercise: Exercise, case: Case, one: Outcome, other: Outcome) -> bool:
    """Whether two functions did the same on this input: the same value, or the same error, and the same to their arguments."""
    if one.error is not None or other.error is not None:
        return type(one.error) is type(other.error)
    if (one.value is None) != (other.value is None) or bool(changed(one.arguments, case.args)) != bool(
        changed(other.arguments, case.args)
    ):
        return False
    if one.value is None:
        return bool(one.printed) == bool(other.printed)
    try:
        return exercise.compare(one.value, other.value) is None
    except Exception:
        return False


def deed(got: Outcome, answer: Any) -> str:
    """What the answer did, for the line under a usual mistake: "you returned [[F, F], [T, F]]"."""
    if got.error is not None:
        return f"your function {_deed(got, answer)}"
    return f"you returned {describe(got.value)}" if got.value is not None else "your function returned nothing (None)"


def _deed(got: Outcome, answer: Any) -> str:
    if got.late:
        return "was stopped because it takes too long"
    if got.error is None:
        return f"returned {describe(got.value)}"
    if isinstance(got.error, RecursionError):
        return "calls itself without end"
    line = source_line(got.error, filename_of(answer))
    where = f" at your line `{verbatim(line)}`" if line else ""
    return f"stopped{where} with {type(got.error).__name__} ({_sentence(got.error)})"


def _sentence(error: BaseException) -> str:
    """An error's own words, on one line, without what differs between two runs."""
    words = " ".join(str(error).split()) or "without a word"
    words = re.sub(r" at 0x[0-9A-Fa-f]+", "", words)
    return verbatim(words if len(words) <= 160 else words[:157] + "...")


def breach(required: Property, got: Outcome, answer: Any) -> str | None:
    """What to say if a property of an open exercise doesn't hold; None if it does."""
    if got.late:
        return f"While checking that {required.name}, your answer takes too long and was stopped. Is there a loop that never ends?"
    if isinstance(got.error, AssertionError) and not source_line(got.error, filename_of(answer)):
        return f"{required.message} {_sentence(got.error)}" if str(got.error) else required.message
    if got.error is not None:
        return f"While checking that {required.name}, your answer {_deed(got, answer)}."
    if isinstance(got.value, str):
        return f"{required.message} {got.value}".strip()
    return required.message if got.value is False else None


def changed_arguments(case: Case, got: Outcome, names: list[str]) -> list[str]:
    """The names of the arguments that the function changed."""
    found = []
    for number, (before, after) in enumerate(zip(case.args, got.arguments, strict=True)):
        if changed(before, after):
            found.append(names[number] if number < len(names) else f"number {number + 1}")
    return found + [name for name, after in (got.keywords or {}).items() if changed(case.kwargs[name], after)]


def changed(before: Any, after: Any) -> bool:
    """Whether an argument differs from its copy made before; things that can't be compared count as unchanged."""
    if is_tensor(before) or is_array(before) or isinstance(before, int | float | str | bytes | bytearray | set | None):
        return type(before) is not type(after) or difference(before, after, 0.0) is not None
    if isinstance(before, list | tuple):
        return len(before) != len(after) or any(changed(a, b) for a, b in zip(before, after, strict=True))
    if isinstance(before, Mapping):
        return list(before) != list(after) or any(changed(before[key], after[key]) for key in before)
    return False
