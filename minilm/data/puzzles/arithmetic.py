"""Sums of growing length, and countdown: reach a target from three numbers."""

import functools
import itertools
import random
import re
from dataclasses import dataclass
from fractions import Fraction

from minilm.data.puzzles.tasks import CORRECT, MALFORMED, WRONG, Problem, Verdict, answer_in, is_number


@dataclass(frozen=True)
class Sums:
    """a+b= with addends of up to `digits` digits. a+b and b+a have one key: a split by ordered pairs would leak."""

    digits: int = 2

    def __post_init__(self) -> None:
        if self.digits < 1:
            raise ValueError(f"Sums(digits={self.digits}): at least 1")

    @property
    def name(self) -> str:
        """As "sums-2"."""
        return f"sums-{self.digits}"

    def draw(self, rng: random.Random) -> Problem:
        """Two addends, each number of digits as likely as the others."""
        a, b = (rng.randrange(10 ** rng.randint(1, self.digits)) for _ in range(2))
        return Problem(f"{a}+{b}=", str(a + b), f"{min(a, b)}+{max(a, b)}", (a, b))

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Only the sum itself, in plain digits."""
        answer = answer_in(text)
        if answer is None or not is_number(answer):
            return MALFORMED
        return CORRECT if answer == str(sum(problem.facts)) else WRONG

    def trace(self, problem: Problem) -> str:
        """Column by column from the right, with what is carried: 7+8+0=15 3+5+1=9."""
        a, b = problem.facts
        steps, carry = [], 0
        for place in range(max(len(str(a)), len(str(b)))):
            x, y = a // 10**place % 10, b // 10**place % 10
            steps.append(f"{x}+{y}+{carry}={x + y + carry}")
            carry = (x + y + carry) // 10
        return " ".join(steps)


@dataclass(frozen=True)
class Countdown:
    """Reach the target from all of the numbers, each used once, by + - * / and brackets: "3 7 2 -> 13:" has the answer "3*2+7".

    Any right expression is accepted. The key is the numbers in order and the target.
    """

    count: int = 3
    largest: int = 12
    largest_target: int = 99

    @property
    def name(self) -> str:
        """As "countdown-3"."""
        return f"countdown-{self.count}"

    def draw(self, rng: random.Random) -> Problem:
        """Numbers from 1 on, and a target that some expression of them reaches (and that is none of them)."""
        while True:
            numbers = [rng.randint(1, self.largest) for _ in range(self.count)]
            reached = {
                int(value): text
                for value, text in _expressions(tuple(sorted(numbers)))
                if value.denominator == 1 and 0 < value <= self.largest_target and int(value) not in numbers
            }
            if reached:
                target = rng.choice(sorted(reached))
                key = f"{' '.join(map(str, sorted(numbers)))} -> {target}"
                return Problem(
                    f"{' '.join(map(str, numbers))} -> {target}:", reached[target], key, (tuple(numbers), target)
                )

    def verify(self, problem: Problem, text: str) -> Verdict:
        """An expression in the numbers, each exactly once, whose exact value is the target. Nothing is ever evaluated by Python."""
        answer = answer_in(text)
        read = None if answer is None else read_expression(answer)
        if read is None:
            return MALFORMED
        value, used, _ = read
        numbers, target = problem.facts
        return CORRECT if value == target and sorted(used) == sorted(numbers) else WRONG

    def trace(self, problem: Problem) -> str:
        """The expression's steps, inner ones first: 3*2=6 6+7=13."""
        read = read_expression(problem.answer)
        assert read is not None
        return " ".join(read[2])


Read = tuple[Fraction, list[int], list[str]]  # the value, the numbers used, the steps


def read_expression(text: str) -> Read | None:
    """The exact value of an expression, the numbers in it in order, and the steps; None if it is not one.

    Numbers are ASCII digits without leading zeros; there is no sign, no power, no division by zero, and at most 100 characters.
    """
    if len(text) > 100 or not re.fullmatch(r"[0-9+\-*/() ]+", text):
        return None
    tokens = re.findall(r"[0-9]+|[^0-9 ]", text)
    if re.search(r"[0-9] +[0-9]", text) or not all(is_number(t) or t in "+-*/()" for t in tokens):
        return None
    try:
        read, rest = _sum(tokens)
    except (ValueError, ZeroDivisionError, RecursionError):
        return None
    return None if rest else read


def _sum(tokens: list[str]) -> tuple[Read, list[str]]:
    left, tokens = _product(tokens)
    while tokens and tokens[0] in "+-":
        right, rest = _product(tokens[1:])
        left, tokens = _apply(left, tokens[0], right), rest
    return left, tokens


def _product(tokens: list[str]) -> tuple[Read, list[str]]:
    left, tokens = _atom(tokens)
    while tokens and tokens[0] in "*/":
        right, rest = _atom(tokens[1:])
        left, tokens = _apply(left, tokens[0], right), rest
    return left, tokens


def _atom(tokens: list[str]) -> tuple[Read, list[str]]:
    if not tokens:
        raise ValueError("it ends too soon")
    if tokens[0] == "(":
        inner, rest = _sum(tokens[1:])
        if not rest or rest[0] != ")":
            raise ValueError("a bracket is not closed")
        return inner, rest[1:]
    if not is_number(tokens[0]):
        raise ValueError(f"{tokens[0]} where a number should stand")
    return (Fraction(tokens[0]), [int(tokens[0])], []), tokens[1:]


def _apply(left: Read, sign: str, right: Read) -> Read:
    (a, used, steps), (b, more, further) = left, right
    value = {"+": a.__add__, "-": a.__sub__, "*": a.__mul__}[sign](b) if sign != "/" else a / b
    return value, used + more, [*steps, *further, f"{a}{sign}{b}={value}"]


@functools.lru_cache(maxsize=4096)
def _expressions(numbers: tuple[int, ...]) -> tuple[tuple[Fraction, str], ...]:
    """Every value that all the numbers together can reach, with the shortest expression for it."""
    found: dict[Fraction, str] = {}
    for order in sorted(set(itertools.permutations(numbers))):
        for value, text, _ in _ways(order):
            if value not in found or len(text) < len(found[value]):
                found[value] = text
    return tuple(found.items())


def _ways(numbers: tuple[int, ...]) -> list[tuple[Fraction, str, int]]:
    """Values of numbers in this order, as (value, expression, how tightly its outermost sign binds)."""
    if len(numbers) == 1:
        return [(Fraction(numbers[0]), str(numbers[0]), 3)]
    ways = []
    for i in range(1, len(numbers)):
        for (a, left, tight), (b, right, firm) in itertools.product(_ways(numbers[:i]), _ways(numbers[i:])):
            for sign, binds in (("+", 1), ("-", 1), ("*", 2), ("/", 2)):
                if sign == "/" and b == 0:
                    continue
                one = left if tight >= binds else f"({left})"
                other = right if firm > binds or (firm == binds and sign in "+*") else f"({right})"
                value = {"+": a + b, "-": a - b, "*": a * b}[sign] if sign != "/" else a / b
                ways.append((value, f"{one}{sign}{other}", binds))
    return ways
