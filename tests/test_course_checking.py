"""`check`: verdicts, sentences, guards, and what it does not touch."""
# ruff: noqa: NPY002  (numpy's old global generator is what learners use, so `check` seeds it)

import random
import re
import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from minilm.course import check, hint, progress
from minilm.course.calling import MOST_ITEMS, TookTooLong, run, time_limit
from minilm.course.checking import NotPassed
from minilm.course.comparing import difference
from minilm.course.exercise import Exercise, call, cases, exercise, find, holds, wrong
from minilm.course.judging import judge
from tests.course_samples import HINTS, Codec, causal_mask, merge, samples

__all__ = ["samples"]
pytestmark = pytest.mark.usefixtures("samples")


def other_mask(n: int) -> torch.Tensor:
    where = torch.arange(n)
    return where[:, None] >= where[None, :]


def test_a_correct_answer_by_another_method_passes() -> None:
    assert str(check("97.1", other_mask)) == (
        "✓ 97.1 The mask that hides the future: passed.\n"
        "Your function gives what is expected on all 8 inputs, 3 of them drawn at random.\n"
        "`from my import causal_mask` now gives it in every notebook of the course.\n"
        "Next: 97.2 Merge a pair, about 10 minutes."
    )


def test_the_next_exercise_follows_by_number_and_what_it_unlocks_is_said() -> None:
    def half(x: float) -> float:
        if x < 0:
            raise ValueError
        return 0.5 * x

    text = str(check("97.10", half))
    assert "Halves are everywhere." in text
    assert text.endswith("That was the last exercise of lesson 97.")
    text = str(check("97.5", lambda n: (i for i in range(n, 0, -1))))
    assert text.endswith("Next: 97.10 Half, about 5 minutes.")


def test_a_usual_mistake_is_named_and_shown_on_an_input_that_shows_something() -> None:
    def learners(n: int) -> torch.Tensor:
        return torch.tril(torch.ones(n, n, dtype=torch.bool), diagonal=-1)

    assert str(check("97.1", learners)) == (
        "✗ 97.1 The mask that hides the future: not yet.\n"
        "Nobody may look at itself. Include it.\n"
        'n = 3: you returned [[F, F, F], [T, F, F], [T, T, F]]. · `hint("97.1")` has three hints.'
    )


def test_an_unforeseen_mistake_is_shown_on_the_smallest_instructive_input() -> None:
    def learners(n: int) -> torch.Tensor:
        mask = causal_mask(n)
        mask[0, -1] = True
        if n > 2:
            mask[1, 2] = True
        return mask

    assert check("97.1", learners).message == "For n = 3: expected row 0 to be [T, F, F], got [T, F, T]."


def test_a_mistake_that_stops_with_an_error_is_matched_by_its_error() -> None:
    def learners(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
        return merge(ids, pair, new) if ids[-1] else []

    def others(ids: list[int], pair: tuple[int, int], new: int) -> list[int] | None:
        return merge(ids, pair, new) or None

    assert check("97.2", learners).sentences[0] == "It stops at an empty list."
    assert check("97.2", learners).detail.startswith(
        "ids = [], pair = (1, 2), new = 9: your function stopped at your line"
    )
    assert "returned nothing" in check("97.2", others).message


def test_an_input_without_content_is_shown_if_no_other_fails() -> None:
    def learners(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
        return merge(ids, pair, new) or [new]

    assert check("97.2", learners).message == "For ids = [], pair = (1, 2), new = 9: expected [], got [9]."


def raise_here(n: int) -> torch.Tensor:
    sizes = [1, 2]
    return torch.ones(sizes[n])


def stop_at_two(n: int) -> Any:
    return causal_mask(n) if n < 3 else torch.nn.Linear(n, 2)(torch.ones(n + 1))


def odd_words(n: int) -> None:
    raise ValueError(f"no {object()}\nat all")


def leave(n: int) -> None:
    raise SystemExit


def again(n: int) -> Any:
    return again(n)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (raise_here, "stopped at your line `return torch.ones(sizes[n])` with IndexError (list index out of range)"),
        (stop_at_two, "at your line `return causal_mask(n) if n < 3 else torch.nn.Linear(n, 2)(torch.ones(n + 1))`"),
        (leave, "SystemExit (without a word)"),
        (odd_words, "with ValueError (no <object object> at all)"),
        (again, "calls itself without end"),
        (lambda n: print(causal_mask(n)), "prints something and returns nothing. Write `return`"),
        (lambda n: None, "returned nothing (None). Is a `return` missing"),
        (lambda n: causal_mask(n).tolist(), "you returned a list where a tensor is expected; `torch.tensor(...)`"),
        (lambda n: causal_mask(n).numpy(), "you returned a numpy array where a tensor is expected"),
        (lambda n: causal_mask(n)[None], "the shape should be [3, 3], yours is [1, 3, 3]"),
        (lambda n: causal_mask(n).int(), "the dtype should be bool, yours is int32"),
        (lambda n: causal_mask(max(n, 6))[:n], "yours is [3, 6]"),
    ],
)
def test_guards_speak_as_a_tutor(answer: Any, words: str) -> None:
    result = check("97.1", answer)
    assert result.status == "not yet"
    assert words in result.message
    assert "Traceback" not in str(result)
    assert not re.search(r"0x[0-9a-f]{5,}|/tmp|\.py", str(result))


def test_changed_arguments_are_noticed_even_if_the_result_is_right() -> None:
    def learners(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
        result = merge(ids, pair, new)
        ids.append(0)
        return result

    assert "the result is right, but your function changes its argument `ids`" in check("97.2", learners).message


def test_changing_in_place_and_returning_nothing() -> None:
    def learners(ids: list[int], pair: tuple[int, int], new: int) -> None:
        ids[:] = [*merge(ids, pair, new), 0]

    assert "changes its argument `ids` and returns nothing" in check("97.2", learners).message


def test_a_changed_tensor_is_noticed() -> None:
    exercise(
        id="97.6", title="Double", objective="Double it.", difficulty=1, minutes=1, hints=HINTS,
        reference=lambda x: 2 * x, inputs=cases(torch.tensor([1.0, 2.0]), torch.tensor([3.0, float("nan")])),
        wrong_answers=[], name="double",
    )  # fmt: skip
    assert check("97.6", lambda x: x + x).passed
    assert "changes its argument `x`" in check("97.6", lambda x: x.mul_(2)).message
    assert "NaN (not a number) at [0], where 2 is expected" in check("97.6", lambda x: 2 * x / 0 * 0).message
    assert "expected [2, 4], got [2, 4.002]" in check("97.6", lambda x: 2 * x * torch.tensor([1, 1.0005])).message
    assert check("97.6", lambda x: 2 * x * (1 + 1e-6)).passed


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [
        (True, np.True_, None),
        (2, np.int64(2), None),
        (0.5, np.float32(0.5), None),
        (np.float64(0.5), 0.5, None),
        (1.0, 1, None),
        (1, 1.0, "you returned a float (1) where an int is expected (1)"),
        (1, True, "you returned a bool where an int is expected"),
        (0.5, float("nan"), "you returned NaN"),
        (float("nan"), float("nan"), None),
        (1.0, 1.00001, "expected 1.0, got 1.00001"),
        (0.5, torch.tensor(0.5), "you returned a tensor where a float is expected; `.item()` gives"),
        ("a", b"a", 'you returned bytes where a string is expected; `.decode("utf-8")` gives the string'),
        ([1, 2], (1, 2), "you returned a tuple where a list is expected"),
        ([1, 2], [1, 3], "expected [1, 2], got [1, 3]"),
        (list(range(99)), list(range(98)), "expected 99 items, got 98"),
        (list(range(99)), [*range(98), 5], "at item 98 expected 98, got 5"),
        (Counter("aab"), {"a": 2, "b": 1}, None),
        ({"a": 1}, {}, "the key 'a' is missing: expected 1 for it"),
        ({"a": 1}, {"a": 2}, "for the key 'a', expected 1, got 2"),
        ({}, {"b": 2}, "the key 'b' (with 2) should not be there"),
        ({1, 2}, {2, 1}, None),
        ({1, 2}, [1, 2], "you returned a list where a set is expected"),
        (torch.zeros(2, 3), torch.zeros(3, 2), "the shape should be [2, 3], yours is [3, 2]: are two axes swapped?"),
        (torch.zeros(2), torch.zeros(2).bfloat16(), "the dtype should be float32, yours is bfloat16"),
        (torch.ones(2).bfloat16(), torch.full((2,), 1.01).bfloat16(), None),
        (torch.tensor([1 + 1j]), torch.tensor([1 + 1j]), None),
        (torch.tensor([1 + 1j]), torch.tensor([1 + 2j]), "expected [(1+1j)], got [(1+2j)]"),
        (torch.zeros(40, 40), torch.eye(40), "40 of 1600 entries differ, the first at [0, 0]: expected 0, got 1"),
        (torch.tensor(1), torch.tensor(2), "expected 1, got 2"),
        (torch.zeros(0), torch.zeros(0), None),
        (np.zeros(3), np.zeros(3, dtype=np.float32), "the dtype should be float64, yours is float32"),
        (None, 3, "you returned an int where None is expected"),
    ],
)
def test_differences_are_said(expected: Any, got: Any, words: str | None) -> None:
    said = difference(expected, got)
    assert said == words if words is None or said is None else said.startswith(words)


def test_prints_are_caught_and_shown_with_a_failure_only(capsys: pytest.CaptureFixture[str]) -> None:
    def learners(n: int) -> torch.Tensor:
        print("here", n)
        return causal_mask(n) if n < 3 else causal_mask(n)[:1]

    assert "It printed: here 3" in str(check("97.1", learners))
    assert "printed" not in str(check("97.1", lambda n: print("x") or causal_mask(n)))
    assert capsys.readouterr().out == ""


def endless(n: int) -> None:
    while True:
        pass


def stubborn(n: int) -> None:
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            n += 1
            if n > 3:
                raise


def never_done(n: int) -> Any:
    while True:
        yield n


@pytest.fixture
def quick(samples: dict[str, Exercise], monkeypatch: pytest.MonkeyPatch) -> None:
    for item in samples.values():
        object.__setattr__(item, "seconds", 0.2)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("answer", [endless, stubborn])
@pytest.mark.parametrize("thread", [False, True])
def test_endless_loops_are_stopped(answer: Any, thread: bool) -> None:
    results = []
    work = lambda: results.append(check("97.1", answer))  # noqa: E731
    if thread:
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        worker.join(30)
    else:
        work()
    assert "takes too long and was stopped. Is there a loop" in results[0].message


@pytest.mark.usefixtures("quick")
def test_nothing_more_is_tried_after_a_call_without_end() -> None:
    calls = []

    def learners(n: int) -> None:
        calls.append(n)
        endless(n)

    check("97.1", learners)
    assert calls == [1]


@pytest.mark.usefixtures("quick")
def test_an_endless_generator_is_cut_before_it_fills_the_memory() -> None:
    assert check("97.5", never_done).status == "not yet"
    assert len(run(never_done, (1,), {}, 5).value) == MOST_ITEMS


@pytest.mark.parametrize("thread", [False, True])
def test_the_time_limit_leaves_nothing_behind(thread: bool) -> None:
    caught = []

    def work() -> None:
        for _ in range(20):
            with pytest.raises(TookTooLong), time_limit(0.005):
                endless(0)
            with time_limit(0.05):
                sum(range(1000))
        until = time.monotonic() + 0.4
        try:
            while time.monotonic() < until:
                sum(range(100))
        except BaseException as problem:
            caught.append(problem)
        caught.append(None)

    worker = threading.Thread(target=work) if thread else None
    if worker is None:
        work()
    else:
        worker.start()
        worker.join()
    assert caught == [None]


def test_not_started() -> None:
    def stub(n: int) -> torch.Tensor:
        raise NotImplementedError

    result = check("97.1", stub)
    assert result.status == "not started"
    assert "Replace `raise NotImplementedError`" in result.message
    assert not result
    assert progress("97").rows[0].attempts == 0


class StubCodec:
    def __init__(self, shift: int) -> None:
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: list[int]) -> str:
        raise NotImplementedError


def test_a_class_and_an_open_exercise_are_not_started_either() -> None:
    def stub(items: list[int]) -> list[int]:
        raise NotImplementedError

    assert check("97.3", StubCodec).status == "not started"
    assert check("97.4", stub).status == "not started"


def test_a_librarys_not_implemented_error_is_an_error() -> None:
    def learners(n: int) -> torch.Tensor:
        return torch.nn.Module()(n)

    result = check("97.1", learners)
    assert result.status == "not yet"
    assert "NotImplementedError" in result.message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (causal_mask(3), 'without calling it: `check("97.1", causal_mask)`. You gave it a tensor'),
        (None, "You gave it None"),
        (Counter, "asks for a function, and `Counter` is a class"),
        (lambda n, m: n, "should take one argument (`n`), and yours takes 2 arguments (`n`, `m`)"),
        (lambda: 0, "yours takes no arguments"),
    ],
)
def test_what_cannot_be_tried_is_said_in_a_sentence(answer: Any, words: str) -> None:
    assert words in check("97.1", answer).message


def test_keywords_count_for_the_signature() -> None:
    exercise(
        id="97.7", title="Keywords", objective="Take one.", difficulty=1, minutes=1, hints=HINTS,
        reference=lambda x, causal=False: x * causal, inputs=cases(call(2, causal=True)), wrong_answers=[], name="k",
    )  # fmt: skip
    assert check("97.7", lambda x, causal: x if causal else 0).passed
    assert "should take 2 arguments (`x`, `causal`)" in check("97.7", lambda x, mask: x).message
    assert check("97.7", lambda x, causal: 0).message == "For x = 2, causal = True: expected 2, got 0."


class Encoder:
    def encode(self, text: str) -> list[int]:
        return []


class Other:
    def __init__(self, shift: int) -> None:
        self.table = {chr(i): i + shift for i in range(300)}
        self.back = {i: char for char, i in self.table.items()}

    def encode(self, text: str) -> list[int]:
        return [self.table[char] for char in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.back[i] for i in ids)


class Broken(Other):
    def decode(self, ids: list[int]) -> str:
        return self.back[ids]  # type: ignore[index]


def test_classes_go_through_their_driver() -> None:
    assert check("97.3", Other).passed
    assert "has no method `decode`" in check("97.3", Encoder).message
    assert "wants the class itself" in check("97.3", Codec(1)).message
    assert "wants the class itself" in check("97.3", merge).message
    assert "at your line `return self.back[ids]" in check("97.3", Broken).message
    assert check("97.3", Broken).message.startswith("For text = 'abc', shift = 2:")


def test_open_exercises_name_the_property_that_does_not_hold() -> None:
    assert check("97.4", lambda items: sorted(items)).passed
    assert check("97.4", lambda items: list(items)).message == "The result is not in order. [2, 3, 1] became [2, 3, 1]."
    assert (
        "While checking that it keeps every item, your answer stopped" in check("97.4", lambda items: items[9]).message
    )


def test_open_exercises_with_inputs_still_know_usual_mistakes() -> None:
    exercise(
        id="97.8", title="Even", objective="Find an even number above n.", difficulty=1, minutes=1, hints=HINTS, name="even",
        inputs=cases(1, 4, 7), properties=[holds("it is even", lambda f: f(4) % 2 == 0, "It is odd.")],
        wrong_answers=[wrong(lambda n: n + 1, "You only add one.")],
    )  # fmt: skip
    assert check("97.8", lambda n: 2 * n + 2).passed
    assert check("97.8", lambda n: n + 1).message == "You only add one."
    assert check("97.8", lambda n: n + 3).message == "It is odd."


def test_generators_and_lists_are_the_same_to_a_comparison() -> None:
    assert check("97.5", lambda n: list(range(n, 0, -1))).passed
    assert check("97.5", lambda n: iter(range(n))).message == "It counts up from 0."


def test_a_reference_that_raises_wants_the_same_error() -> None:
    assert check("97.10", lambda x: x / 2).message == "It takes negative numbers without a word."
    assert "a ValueError should be raised (x must not be negative" in check("97.10", lambda x: abs(x) / 2).message


@pytest.mark.parametrize(
    ("id", "words"),
    [
        ("97.11", 'There is no exercise "97.11". Did you mean "97.1'),
        ("7.1", "There is no exercise"),
        ("1.3", 'Did you mean "01.3"?'),
        ("nonsense", "`progress()` lists them all"),
        ("../97.1", "There is no exercise"),
        (1.3, 'An exercise is named by a text such as "03.2": you gave 1.3.'),
        (None, "you gave None"),
        (merge, "you gave merge."),
    ],
)
def test_unknown_ids_name_the_nearest(id: Any, words: str) -> None:
    for result in (check(id, merge), hint(id)):
        assert words in str(result)


def test_randomness_is_seeded_for_the_answer_and_given_back() -> None:
    exercise(
        id="97.9", title="Noise", objective="Add noise.", difficulty=1, minutes=1, hints=HINTS, name="noise",
        reference=lambda n: torch.rand(n) + np.random.rand() + random.random(), inputs=cases(2, 3),
        wrong_answers=[],
    )  # fmt: skip
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = (random.random(), np.random.rand(), torch.rand(1).item())
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    assert check("97.9", lambda n: random.random() + np.random.rand() + torch.rand(n)).passed
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: torch.rand(1).item()])
def test_a_random_mistake_is_told_in_the_same_words_every_time(draw: Any) -> None:
    texts = []
    for seed in (1, 2):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        texts.append(str(check("97.10", lambda x: 5 + draw())))
    assert texts[0] == texts[1]


def test_under_nbgrader_what_does_not_pass_raises_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")

    def stub(n: int) -> torch.Tensor:
        raise NotImplementedError

    for id, answer, words in [
        ("97.1", stub, "not started"),
        ("97.1", lambda n: n, "not yet"),
        ("1.2.3", stub, "no exercise"),
    ]:
        with pytest.raises(NotPassed, match=words) as caught:
            check(id, answer)
        assert caught.value._render_traceback_() == str(caught.value).splitlines()
    assert check("97.1", causal_mask).passed
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "work").exists()


def test_the_same_answer_gives_the_same_words() -> None:
    def learners(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
        return ids[:-1] if len(ids) > 5 else merge(ids, pair, new)

    assert str(check("97.2", learners)) == str(check("97.2", learners))
    assert check("97.2", learners)._repr_mimebundle_() == check("97.2", learners)._repr_mimebundle_()


def test_html_says_what_the_text_says_and_escapes() -> None:
    html = check("97.1", lambda n: torch.tril(torch.ones(n, n))).html()
    assert "<strong>97.1 The mask that hides the future</strong>: not yet." in html
    assert "the entries are <em>floats</em>." in html
    assert '<code>hint("97.1")</code>' in html
    assert 'role="status"' in html
    assert "color: " not in html.replace("background", "")  # the page's own colours, light or dark

    def learners(ids: list[int], pair: tuple[int, int], new: int) -> list[str]:
        return ["<script>", "*a*", "`b`"]

    result = check("97.2", learners)
    assert "<script>" not in result.html()
    assert "'*a*', '`b`'" in result.html()
    assert "'*a*', '`b`'" in result.text()


def test_hints_are_folded_and_the_same_every_time() -> None:
    shown = hint("97.1")
    assert shown.html().count("<details>") == 3
    assert "<details open" not in shown.html()
    assert str(shown) == "97.1 The mask that hides the future\n1. a nudge\n2. the idea\n3. `the_line()`"
    assert shown._repr_mimebundle_() == hint("97.1")._repr_mimebundle_()


def test_every_listed_wrong_answer_of_the_samples_is_told_apart(samples: dict[str, Exercise]) -> None:
    for item in samples.values():
        messages = []
        for wrong_answer in item.wrong_answers:
            result = judge(item, wrong_answer.answer)
            assert result.status == "not yet"
            messages.append(result.message)
            if wrong_answer.message and item.inputs:
                assert result.sentences[0] == wrong_answer.message
        assert len(set(messages)) == len(messages) >= 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "x.1"}, "an exercise's id"),
        ({"hints": ["one"]}, "needs three hints"),
        ({"difficulty": 9}, "difficulty goes from 1 to 5"),
        ({"inputs": None}, "needs inputs"),
        ({"reference": None}, "inputs need a reference"),
        ({"reference": None, "inputs": None}, "needs a reference with inputs, or properties"),
        ({"wrong_answers": [wrong(merge)]}, "every wrong answer needs its message"),
    ],
)
def test_an_incomplete_exercise_is_refused(change: dict[str, Any], words: str) -> None:
    complete: dict[str, Any] = {
        "id": "97.20", "title": "t", "objective": "o", "difficulty": 1, "minutes": 1, "hints": HINTS,
        "reference": merge, "inputs": cases(1), "wrong_answers": [],
    }  # fmt: skip
    with pytest.raises(ValueError, match=words):
        exercise(**(complete | change))
    assert isinstance(find("97.20"), str)


def test_an_answer_that_was_left_out_is_asked_for() -> None:
    assert str(check("97.1")) == '? Give your answer too: `check("97.1", causal_mask)`.'


def test_an_object_that_can_be_called_passes_and_is_not_kept() -> None:
    class Masker:
        def __call__(self, n: int) -> torch.Tensor:
            return causal_mask(n)

    result = check("97.1", Masker())
    assert result.passed
    assert "could not be kept for `from my import causal_mask`: it is a Masker, an object." in str(result)


def test_a_function_that_remembers_is_told_so() -> None:
    seen: Counter[int] = Counter()

    def learners(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
        seen.update(ids)
        return sorted(seen.elements())

    assert "then [1, 1, " in check("97.2", learners).message
    assert "keep something from one call to the next" in check("97.2", learners).message

    def the_same_list(ids: list[int], pair: tuple[int, int], new: int, merged: list[int] = []) -> list[int]:  # noqa: B006
        merged += merge(ids, pair, new)
        return merged

    assert "keep something from one call to the next" in check("97.2", the_same_list).message


def test_a_generator_is_called_one() -> None:
    def learners(n: int) -> Any:
        yield from causal_mask(n)

    assert "yields its items one by one (a generator) where a tensor is expected" in check("97.1", learners).message


class _Stop(BaseException):
    pass


def test_whatever_an_answer_raises_is_its_own_affair() -> None:
    def learners(n: int) -> None:
        raise _Stop("so there")

    assert "with _Stop (so there)" in check("97.1", learners).message


def test_a_call_returns_all_that_happened() -> None:
    outcome = run(lambda x: print("said") or x.append(1), ([],), {}, 1)
    assert (outcome.value, outcome.printed, outcome.arguments, outcome.error) == (None, "said\n", ([1],), None)
    with pytest.raises(KeyboardInterrupt):
        run(_interrupted, (), {}, 1)


def _interrupted() -> None:
    raise KeyboardInterrupt
