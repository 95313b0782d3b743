"""Published members of the family, the course's small ones, and the plain transformers that they are compared with."""

from typing import Any, Literal

from minilm.data.puzzles import PuzzleFamily
from minilm.recursion.config import RecursionConfig


def hrm(vocab_size: int = 11, side: int = 9, **changes: Any) -> RecursionConfig:
    """The Hierarchical Reasoning Model (Wang et al. 2025) as published: 27,275,266 parameters for sudoku.

    Two networks of four blocks, two cycles of two, the gradient through the last call of each, Q-learning to halt, stablemax.
    """
    config = RecursionConfig(
        vocab_size=vocab_size,
        side=side,
        dim=512,
        num_heads=8,
        layers=4,
        shared=False,
        high_cycles=2,
        low_cycles=2,
        gradient="one-step",
        prefix=1,
        num_puzzles=1,
        loss="stablemax",
        halting="q-learning",
    )
    return config.replace(**changes)


def trm(vocab_size: int = 11, side: int = 9, **changes: Any) -> RecursionConfig:
    """The Tiny Recursive Model (Jolicoeur-Martineau 2025) as published: 6,828,034 parameters for sudoku.

    One network of two blocks for both states, three cycles of six, the gradient through all of the last cycle, a simpler halting
    head. Trained with a moving average of the weights, 0.999.
    """
    config = RecursionConfig(
        vocab_size=vocab_size,
        side=side,
        dim=512,
        num_heads=8,
        prefix=16,
        num_puzzles=1,
        loss="stablemax",
    )
    return config.replace(**changes)


def trm_mlp(vocab_size: int = 11, side: int = 9, **changes: Any) -> RecursionConfig:
    """TRM with feed-forwards across the cells in attention's place, its best on sudoku: 5,028,866 parameters."""
    return trm(vocab_size, side, **{"mixer": "mlp", **changes})


PUBLISHED = {"hrm": hrm, "trm": trm, "trm-mlp": trm_mlp}


def small(name: str, family: PuzzleFamily, **changes: Any) -> RecursionConfig:
    """A member for two processor cores and a family of puzzles: "trm", "hrm", "trm-mlp", or "plain" with TRM's parameters.

    They differ from each other as the published ones do; all have two cycles, the usual softmax and no prefix, and cells know their
    row, column and box.
    """
    if name == "plain":
        return plain_twin(small("trm", family), "parameters").replace(**changes)
    if name not in PUBLISHED:
        raise ValueError(f"no model {name!r}: choose {', '.join(PUBLISHED)} or plain")
    published = PUBLISHED[name]()
    rows, columns = family.box if family.box[0] > 1 else (1, 1)  # boxes of one row say no more than the row
    config = RecursionConfig(
        vocab_size=family.vocab_size,
        side=family.side,
        box_rows=rows,
        box_columns=columns,
        dim=64 if family.side <= 4 else 96,
        num_heads=4,
        layers=2,
        shared=published.shared,
        high_cycles=2,
        low_cycles=2 if name == "hrm" else 3,
        gradient=published.gradient,
        mixer=published.mixer,
        positions="grid",
        multiple_of=32,
        halting=published.halting,
        segments=8,
    )
    return config.replace(**changes)


def plain_twin(
    config: RecursionConfig, equal: Literal["parameters", "compute"], layers: int | None = None
) -> RecursionConfig:
    """The plain transformer to compare with: the same kind of blocks, passed through once, from the puzzle straight to the answer.

    Of equal parameters: as many blocks as the recursive model has of its own, or `layers` narrower ones, as wide as they can be
    without having more parameters. Of equal compute: as many blocks as the recursive model passes through in one segment, 8 times as
    many parameters for the small TRM.
    """
    own = config.layers * (1 if config.shared else 2)
    twin = config.replace(kind="plain", shared=True, halting="none", segments=1)
    if equal == "compute":
        return twin.replace(layers=config.depth)
    if layers is None or layers == own:
        return twin.replace(layers=own)
    allowed, step = count_parameters(config), 2 * config.num_heads  # heads of even width, for rotary positions
    widths = range(step, config.dim * own + 1, step)
    fitting = [dim for dim in widths if count_parameters(twin.replace(layers=layers, dim=dim)) <= allowed]
    if not fitting:
        raise ValueError(f"{layers} blocks do not fit into {allowed:,} parameters: choose fewer")
    return twin.replace(layers=layers, dim=max(fitting))


def count_parameters(config: RecursionConfig) -> int:
    """What `RecursiveModel(config).num_parameters()` will be, by arithmetic."""
    dim, side = config.dim, config.side
    mixer = 4 * dim**2 if config.mixer == "attention" else 3 * config.length * config.mixer_hidden
    blocks = config.layers * (1 if config.shared else 2) * (mixer + 3 * dim * config.hidden)
    boxes = side**2 // (config.box_rows * config.box_columns)
    places = {"rotary": 0, "learned": config.cells, "grid": 2 * side + (boxes if boxes < side**2 else 0)}
    tables = config.vocab_size + places[config.positions]
    return blocks + dim * (tables + config.vocab_size) + 2 * (dim + 1)  # the head, and the halting head
