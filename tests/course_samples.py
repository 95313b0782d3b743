"""Exercises of every sort, for the tests of `minilm.course` (fixture `samples` makes them known for one test)."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from minilm.course import exercise as registry
from minilm.course.exercise import Exercise, cases, exercise, holds, sizes, wrong

HINTS = ["a nudge", "the idea", "`the_line()`"]


def causal_mask(n: int) -> torch.Tensor:
    return torch.tril(torch.ones(n, n, dtype=torch.bool))


def count_pairs(ids: list[int]) -> Counter[tuple[int, int]]:
    return Counter(itertools.pairwise(ids))


def merge(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    merged, i = [], 0
    while i < len(ids):
        step = 2 if tuple(ids[i : i + 2]) == pair else 1
        merged.append(new if step == 2 else ids[i])
        i += step
    return merged


def countdown(n: int) -> Iterator[int]:
    yield from range(n, 0, -1)


def half(x: float) -> float:
    if x < 0:
        raise ValueError("x must not be negative: take its absolute value first")
    return x / 2


class Codec:
    def __init__(self, shift: int) -> None:
        self.shift = shift

    def encode(self, text: str) -> list[int]:
        return [ord(char) + self.shift for char in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(i - self.shift) for i in ids)


class NoShift(Codec):
    def encode(self, text: str) -> list[int]:
        return [ord(char) for char in text]


class Backwards(Codec):
    def encode(self, text: str) -> list[int]:
        return super().encode(text)[::-1]


class Upper(Codec):
    def encode(self, text: str) -> list[int]:
        return super().encode(text.upper())


def use_codec(codec: Callable[..., Any], text: str, shift: int) -> tuple[list[int], str]:
    made = codec(shift)
    ids = made.encode(text)
    return ids, made.decode(ids)


def make_samples() -> dict[str, Exercise]:
    mask = exercise(
        id="97.1",
        title="The mask that hides the future",
        objective="Write the mask under which position t sees 0..t.",
        difficulty=1,
        minutes=5,
        reference=causal_mask,
        inputs=sizes(1, 2, 5, 16),
        hints=HINTS,
        wrong_answers=[
            wrong(lambda n: torch.triu(torch.ones(n, n, dtype=torch.bool)), "Your mask is upside down."),
            wrong(lambda n: causal_mask(n) & ~torch.eye(n, dtype=torch.bool), "Nobody may look at itself. Include it."),
            wrong(lambda n: torch.ones(n, n, dtype=torch.bool), "Your mask hides nothing."),
            wrong(lambda n: torch.tril(torch.ones(n, n)), "The pattern is right, but the entries are *floats*."),
        ],
    )
    merging = exercise(
        id="97.2",
        title="Merge a pair",
        objective="Replace each occurrence of a pair.",
        difficulty=2,
        minutes=10,
        reference=merge,
        inputs=cases(
            ([], (1, 2), 9),
            ([1, 2], (1, 2), 9),
            ([1, 1, 1], (1, 1), 9),
            ([3, 1, 2, 1, 2], (1, 2), 9),
            draw=lambda rng: ([rng.randint(1, 2) for _ in range(10)], (1, 2), 9),
            count=5,
        ),
        hints=HINTS,
        wrong_answers=[
            wrong(_merge_in_place, "It changes the caller's list."),
            wrong(lambda ids, pair, new: [new if i in pair else i for i in ids], "It replaces single ids."),
            wrong(lambda ids, pair, new: merge(ids, (pair[1], pair[0]), new), "It takes the pair backwards."),
            wrong(lambda ids, pair, new: merge(ids, pair, new) if ids[0] else [], "It stops at an empty list."),
        ],
    )
    codec = exercise(
        id="97.3",
        title="A class",
        objective="Encode and decode.",
        difficulty=3,
        minutes=15,
        reference=Codec,
        methods=("encode", "decode"),
        driver=use_codec,
        inputs=cases(("", 1), ("a", 1), ("abc", 2), ("été", 3)),
        hints=HINTS,
        wrong_answers=[
            wrong(NoShift, "It forgets the shift."),
            wrong(Backwards, "It encodes backwards."),
            wrong(Upper, "It loses the case."),
        ],
    )
    open_one = exercise(
        id="97.4",
        title="A sort of your own",
        objective="Sort a list, however you like.",
        difficulty=4,
        minutes=20,
        name="my_sort",
        properties=[
            holds(
                "it keeps every item", lambda sort: Counter(sort([3, 1, 3])) == Counter([1, 3, 3]), "Items are lost."
            ),
            holds("the result ascends", _ascends, "The result is not in order."),
            holds("the argument stays", _stays, "Your caller's list was changed."),
        ],
        hints=HINTS,
        wrong_answers=[
            wrong(lambda items: sorted(set(items))),
            wrong(lambda items: sorted(items, reverse=True)),
            wrong(lambda items: items.sort() or items),
        ],
    )
    generator = exercise(
        id="97.5",
        title="Count down",
        objective="Yield n, n - 1, ..., 1.",
        difficulty=1,
        minutes=5,
        reference=countdown,
        inputs=sizes(0, 1, 6),
        hints=HINTS,
        wrong_answers=[
            wrong(lambda n: iter(range(n)), "It counts up from 0."),
            wrong(lambda n: iter(range(n, -1, -1)), "It goes on to 0."),
            wrong(lambda n: iter(range(1, n + 1)), "It counts up."),
        ],
    )
    raising = exercise(
        id="97.10",
        title="Half",
        objective="Halve, and refuse what is negative.",
        difficulty=1,
        minutes=5,
        reference=half,
        inputs=cases(1.0, 3.0, -1.0),
        hints=HINTS,
        wrong_answers=[
            wrong(lambda x: x // 2, "It rounds."),
            wrong(lambda x: x / 2, "It takes negative numbers without a word."),
            wrong(lambda x: 2 * x, "It doubles."),
        ],
        unlocks="Halves are everywhere.",
    )
    made = [mask, merging, codec, open_one, generator, raising]
    return {item.title.split()[-1]: item for item in made}


def _merge_in_place(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    result = merge(ids, pair, new)
    ids[:] = result
    return result


def _ascends(sort: Callable[[list[int]], list[int]]) -> str | None:
    result = sort([2, 3, 1])
    return None if result == [1, 2, 3] else f"[2, 3, 1] became {result}."


def _stays(sort: Callable[[list[int]], list[int]]) -> bool:
    given = [2, 1]
    sort(given)
    return given == [2, 1]


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exercise]:
    """The sample exercises, known to `check` while the test runs."""
    registry.everything()  # the course's own are made known once, when their files are imported
    monkeypatch.setattr(registry, "_exercises", dict(registry._exercises))
    return make_samples()
