"""Judge an answer: run it beside the reference, and on failure find the sentence that helps most. Nothing is stored here."""

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from minilm.course.calling import Outcome, run
from minilm.course.complaints import breach, complaint, deed, objection, parameter_names, same_deed, untouched
from minilm.course.describing import describe, describe_call, is_array, is_tensor
from minilm.course.exercise import Exercise
from minilm.course.inputs import Case
from minilm.course.results import Result, verbatim

# Seconds for the reference, which ends: a slow machine must not make it look wrong.
_PATIENCE = 600.0


@dataclass(frozen=True)
class Trial:
    """One input, what the answer did with it, and what is wrong with that (None: nothing)."""

    number: int
    case: Case
    got: Outcome
    complaint: str | None


def judge(exercise: Exercise, answer: Any) -> Result:
    """The verdict on an answer.

    Can it be called as the exercise calls it? Is it still the stub? Does it behave like one of the usual wrong answers on
    every input? If not, what does it do on the smallest failing input that shows something? And do the properties hold?
    """
    objected = objection(exercise, answer)
    if objected:
        return _not_yet(exercise, [objected])
    trials = try_all(exercise, answer)
    if trials and untouched(trials[0].got, answer):
        return _not_started(exercise)
    failed = [trial for trial in trials if trial.complaint is not None]
    if failed:
        shown = most_instructive(failed)
        inputs = describe_call(shown.case, parameter_names(exercise))
        said = usual_mistake(exercise, trials, shown)
        if said:
            return _not_yet(exercise, [said], f"{inputs}: {deed(shown.got, answer)}.")
        said = remembering(exercise, answer, shown)
        return _not_yet(exercise, [f"For {inputs}: {said or shown.complaint}", *_printed(shown.got)])
    for required in exercise.properties:
        got = run(required.test, (answer,), {}, exercise.seconds * 4)
        if not trials and untouched(got, answer):
            return _not_started(exercise)
        broken = breach(required, got, answer)
        if broken:
            said = usual_mistake(exercise, trials, trials[0]) if trials else None
            return _not_yet(exercise, [said] if said else [broken, *_printed(got)])
    return Result("passed", exercise.heading, [_praise(exercise, trials)])


def try_all(exercise: Exercise, answer: Any) -> list[Trial]:
    """Run the answer on every input beside the reference (if there is one), until it takes too long."""
    if exercise.inputs is None:
        return []
    names = parameter_names(exercise)
    trials: list[Trial] = []
    deadline = time.monotonic() + 4 * exercise.seconds
    for number, case in enumerate(exercise.inputs.all(exercise.id)):
        seconds = max(0.01, min(exercise.seconds, deadline - time.monotonic()))
        got = call(exercise, answer, case, seconds, number)
        wrong = None
        if exercise.reference is not None:
            expected = call(exercise, exercise.reference, case, _PATIENCE, number)
            wrong = complaint(exercise, answer, case, expected, got, names)
        trials.append(Trial(number, case, got, wrong))
        if got.late:
            break
    return trials


def call(exercise: Exercise, answer: Callable[..., Any], case: Case, seconds: float, number: int) -> Outcome:
    """Run the answer, or the exercise's driver with it, on one input, with the seed that belongs to the input."""
    function = answer if exercise.driver is None else partial(exercise.driver, answer)
    return run(function, case.args, case.kwargs, seconds, seed=number)


def usual_mistake(exercise: Exercise, trials: list[Trial], first: Trial) -> str | None:
    """The message of the wrong answer that does on every input what the learner's did; `first` is the one to begin with."""
    ordered = [first, *(trial for trial in trials if trial is not first)]
    for wrong in exercise.wrong_answers:
        if wrong.message and all(_does_the_same(exercise, wrong.answer, trial) for trial in ordered):
            return wrong.message
    return None


def remembering(exercise: Exercise, answer: Callable[..., Any], trial: Trial) -> str | None:
    """What to say if the answer does not do the same again on the same input: then it remembers earlier calls."""
    if trial.got.stuck:
        return None
    first = describe(trial.got.value)  # in words, for the next call may change this very object
    again = call(exercise, answer, trial.case, exercise.seconds / 2, trial.number)
    second = describe(again.value)
    if again.stuck or first == second:
        return None
    return (
        f"called twice, your function gives {first} and then {second}. Does it keep something from one call to the next, "
        "in a variable outside of it or in a default argument?"
    )


def _does_the_same(exercise: Exercise, answer: Callable[..., Any], trial: Trial) -> bool:
    theirs = call(exercise, answer, trial.case, exercise.seconds / 2, trial.number)
    return same_deed(exercise, trial.case, theirs, trial.got)


def most_instructive(failed: list[Trial]) -> Trial:
    """The smallest failing input that shows something: an empty list, a single item, or a size below 3 only if no other fails."""
    return min(failed, key=lambda trial: (_degenerate(trial.case), _size(trial.case), trial.number))


def _degenerate(case: Case) -> bool:
    if not case.args:
        return False
    first = case.args[0]
    if isinstance(first, int):
        return len(case.args) == 1 and first < 3
    return _size(Case((first,))) < 2


def _size(case: Case) -> int:
    """How much there is to read in an input: its numbers, characters and entries; for a single whole number, the number."""
    values = [*case.args, *case.kwargs.values()]
    if len(values) == 1 and isinstance(values[0], int):
        return abs(values[0])
    return sum(_leaves(value) for value in values)


def _leaves(value: Any) -> int:
    if is_tensor(value) or is_array(value):
        count = 1
        for size in value.shape:
            count *= int(size)
        return count
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(_leaves(key) + _leaves(item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return sum(_leaves(item) for item in value)
    return 1


def _not_started(exercise: Exercise) -> Result:
    todo = "Replace `raise NotImplementedError` by your code, run that cell, then this one."
    return Result("not started", exercise.heading, [todo, exercise.objective], _offer(exercise))


def _not_yet(exercise: Exercise, sentences: list[str], detail: str = "") -> Result:
    return Result("not yet", exercise.heading, sentences, f"{detail} · {_offer(exercise)}".removeprefix(" · "))


def _offer(exercise: Exercise) -> str:
    return f'`hint("{exercise.id}")` has three hints.'


def _printed(got: Outcome) -> list[str]:
    """What the learner's own prints said on the input that is shown: they were caught, and they may be debugging."""
    lines = got.printed.strip().splitlines()
    if not lines:
        return []
    more = " ..." if len(lines) > 3 or any(len(line) > 200 for line in lines) else ""
    return [f"It printed: {verbatim(' / '.join(line[:200] for line in lines[:3]))}{more}"]


def _praise(exercise: Exercise, trials: list[Trial]) -> str:
    if not trials or exercise.reference is None:
        count = len(exercise.properties)
        return f"All {count} properties hold." if count > 1 else "It holds."
    assert exercise.inputs is not None
    drawn = f", {exercise.inputs.count} of them drawn at random" if exercise.inputs.count else ""
    thing = "class" if inspect.isclass(exercise.reference) else "function"
    count = len(trials)
    inputs = f"all {count} inputs{drawn}" if count > 1 else "the input"
    return f"Your {thing} gives what is expected on {inputs}."
