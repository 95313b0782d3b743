"""The inputs on which an exercise is checked: fixed ones, in the author's order, and some drawn at random from a fixed seed."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from minilm.course.calling import seeded


@dataclass(frozen=True)
class Case:
    """The arguments of one call."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """Fixed cases, and `count` more from `draw(rng)`, which returns what `cases` takes: a tuple of arguments, or one argument."""

    fixed: tuple[Case, ...]
    draw: Callable[[random.Random], Any] | None = None
    count: int = 0

    def all(self, seed: str) -> list[Case]:
        """The cases for this seed, always the same ones."""
        rng = random.Random(seed)
        if self.draw is None:
            return list(self.fixed)
        with seeded(rng.randrange(2**31)):  # for a `draw` that uses torch's or numpy's own generator
            return [*self.fixed, *(as_case(self.draw(rng)) for _ in range(self.count))]


def call(*args: Any, **kwargs: Any) -> Case:
    """One case with exactly these arguments: `call((1, 2))` passes one tuple, `call(x, causal=True)` a keyword."""
    return Case(args, kwargs)


def cases(*fixed: Any, draw: Callable[[random.Random], Any] | None = None, count: int = 20) -> Inputs:
    """Inputs from what each call gets: a tuple is its arguments, anything else its only argument (see also `call`).

    `draw(rng)` makes one more such input; `count` of them are drawn, the same ones at every check.

    >>> cases(([1, 2], (1, 2)), ([], (0, 0))).fixed[0].args
    ([1, 2], (1, 2))
    """
    return Inputs(tuple(as_case(item) for item in fixed), draw, count if draw else 0)


def sizes(*fixed: int) -> Inputs:
    """Inputs for a function of one whole number: these, three more between the smallest and the largest, and 3 if it lies there.

    (3 is the smallest size that shows a pattern: below it, upside down and inside out look alike.)
    """
    if not fixed:
        raise ValueError("sizes() needs at least one size, such as sizes(1, 2, 5, 16)")
    low, high = min(fixed), max(fixed)
    pattern = [3] if low <= 3 <= high and 3 not in fixed else []
    return cases(*fixed, *pattern, draw=lambda rng: rng.randint(low, high), count=3)


def as_case(item: Any) -> Case:
    """What an author wrote for one call, as a Case."""
    if isinstance(item, Case):
        return item
    return Case(item if isinstance(item, tuple) else (item,))
