"""What the project aims at, and how far it got: worked out from the stored results."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks._report import Plain, Table, load


@dataclass(frozen=True)
class Target:
    """A ratio that we want to reach, and what stands in the way."""

    what: str
    benchmark: str
    table: str  # how the table's title begins
    ours: tuple[str, ...]  # the best of these counts
    peers: tuple[str, ...]  # the best of these is the one to beat
    goal: float
    why: str  # where it is missed


PRODUCTS = (
    "where this was measured, 70 to 75 % of a float32 step are matrix products in the same library (MKL) on all sides, so the rest, "
    "if it cost nothing, would make 1.3x"
)
REST = (
    "with bfloat16 products, more than half of an eager step is attention, norms and other work that takes as long as before, on all "
    "sides; compiled rows stand in the full mode"
)
STREAM = "70 % of a token's time are products of one row with the weights, by the same library on all sides; int8 reads a quarter"
FLOAT32 = ("minilm, float32", "minilm, float32, chunked loss")
HALF = ("minilm, bfloat16 autocast", "minilm, bfloat16 weights", "minilm, bfloat16 weights, chunked loss")
COMPILED = tuple(f"{name}, compiled" for name in (FLOAT32[0], *HALF[:2]))
WRITERS = (
    "minilm",
    "minilm, arranged for writing",
    "minilm, int8",
    "minilm, float32, fixed shape, compiled",
    "minilm, int8, fixed shape, compiled",
)
BEST = (*FLOAT32, "minilm, float32-medium", *HALF, *COMPILED)

TARGETS = (
    *(
        Target(f"training, eager float32, {shape}, against transformers and litgpt", "training", shape, FLOAT32[:1],
               ("transformers, float32", "litgpt, float32"), 1.15, PRODUCTS)
        for shape in ("slim", "doge-like")
    ),
    *(
        Target(f"training, our best, {shape}, against transformers float32", "training", shape, BEST,
               ("transformers, float32",), 2.2, REST)
        for shape in ("slim", "doge-like")
    ),
    *(
        Target(f"training, our best, {shape}, against transformers' best", "training", shape, BEST,
               ("transformers, float32", "transformers, bfloat16 autocast"), 1.5, REST)
        for shape in ("slim", "doge-like")
    ),
    Target("training, our best, slim, against nanoGPT-shaped float32", "training", "slim", BEST,
           ("nanoGPT-shaped, float32",), 1.7, REST),
    Target("training, float32, slim, against nanoGPT-shaped at equal parameters", "training", "slim", FLOAT32[:1],
           ("nanoGPT-shaped at equal parameters, float32",), 1.1, PRODUCTS),
    Target("training, the story model, float32, against nanoGPT-shaped", "training", "story", FLOAT32[:1],
           ("nanoGPT-shaped, float32",), 1.0, "two matrices where ours has three, and one product for q, k and v"),
    *(
        Target(f"generation, batch 1, {shape}, against litgpt", "generation", f"{shape}, batch 1",
               WRITERS,
               ("litgpt generate", "litgpt's model, a bare greedy loop"), goal, STREAM)
        for shape, goal in (("slim", 1.6), ("doge-like", 1.3))
    ),
    *(
        Target(f"generation, batch 1, {shape}, against transformers", "generation", f"{shape}, batch 1",
               WRITERS, ("transformers generate",), goal,
               "transformers 5 writes several times as fast as the version the target was set by; " + STREAM)
        for shape, goal in (("slim", 7.0), ("doge-like", 4.0))
    ),
    Target("tokenizer, training to 3,500 ids on 1.1 MB, against tokenizers (Rust)", "tokenizer", "train on the text",
           ("minilm",), ("tokenizers",), 1 / 1.1, ""),
    Target("tokenizer, encoding with a cold cache, against tokenizers called singly", "tokenizer", "encode the text",
           ("minilm",), ("tokenizers",), 2.0, ""),
    Target("mixture, top-2 of 8, against a dense layer of the active size", "moe", "top-2 of 8, 256 to 512: 2,048",
           ("minilm, sorted by expert",), ("dense, as wide as the chosen",), 1 / 1.15, ""),
    Target("mixture, top-2 of 8, against transformers' eager block", "moe", "top-2 of 8, 256 to 512: 2,048",
           ("minilm, sorted by expert",), ("transformers Mixtral, eager",), 1.4,
           "products weigh more where this was measured than where the target was set, and they are the same"),
)  # fmt: skip


def targets() -> str:
    """A table of every target whose result is stored; empty if none is."""
    rows = [row for target in TARGETS if (row := judged(target))]
    told = absolute("data", "stories, medium", "medium: told", 5000, "grammar stories a second, one core")
    rows += [told] if told else []
    if not rows:
        return ""
    return Plain("targets", ["what", "target", "measured", "", "why, where it is missed"], rows).markdown()


def judged(target: Target) -> list[str] | None:
    """One row; None where nothing is stored."""
    table = find(target.benchmark, target.table)
    if table is None:
        return None
    best = pick(table, target.ours)
    peer = pick(table, target.peers)
    if best is None or peer is None:
        return None
    ratio = table.ratio(best, peer)
    met = ratio >= target.goal
    which = f"{ratio:.2f}x ({best} : {peer})"
    return [target.what, f"{target.goal:.2f}x", which, "met" if met else "missed", "" if met else target.why]


def absolute(benchmark: str, table: str, name: str, goal: float, what: str) -> list[str] | None:
    """A row for a figure that needs no peer."""
    found = find(benchmark, table)
    if found is None:
        return None
    median = found.median(name)
    return [what, f"{goal:,.0f}", f"{median:,.0f}", "met" if median >= goal else "missed", ""]


def find(benchmark: str, title: str) -> Table | None:
    """A stored table by the beginning of its title."""
    stored = load(benchmark)
    tables = [] if stored is None else [each for each in stored[2] if isinstance(each, Table)]
    return next((each for each in tables if each.title.startswith(title)), None)


def pick(table: Table, names: tuple[str, ...]) -> str | None:
    """The fastest of these contenders that was measured."""
    order: Callable[[str], float] = table.median if table.higher_is_better else (lambda name: -table.median(name))
    return max((name for name in names if name in table.rounds), key=order, default=None)
