"""How fast stories are told and read, on one core: `python -m benchmarks stories [--rounds 5]`.

Told: `generate`, which also hashes every story for its split. Sampled: text, exact bits and facts. Read: `bits` of a
given text. Along: the true distribution of every next character. Medians of interleaved rounds.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from minilm.data import stories


def seconds(job: Callable[[], object]) -> float:
    """How long a job takes, once."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def each(function: Callable[[Any], object], arguments: Iterable[Any]) -> None:
    """Call a function with every argument."""
    for argument in arguments:
        function(argument)


def main() -> None:
    """Measure all sizes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stories", type=int, default=2000)
    arguments = parser.parse_args()
    n = arguments.stories
    print(f"{'stories a second':<18}{'told':>10}{'sampled':>10}{'read':>10}{'along':>10}{'compile s':>11}")
    for size in stories.SIZES:
        stories.grammar.cache_clear()
        compiling = seconds(partial(stories.grammar, size))
        grammar, rng, texts = stories.grammar(size), random.Random(0), stories.generate(size, n // 20)
        jobs: list[tuple[Callable[[], object], int]] = [
            (partial(stories.generate, size, n), n),
            (partial(each, grammar.sample, [rng] * n), n),
            (partial(each, grammar.bits, texts), len(texts)),
            (partial(each, grammar.next_char_along, texts), len(texts)),
        ]
        rounds = [[count / seconds(job) for job, count in jobs] for _ in range(arguments.rounds)]
        speeds = [statistics.median(column) for column in zip(*rounds, strict=True)]
        print(f"{size:<18}" + "".join(f"{speed:>10,.0f}" for speed in speeds) + f"{compiling:>11.3f}")


if __name__ == "__main__":
    main()
