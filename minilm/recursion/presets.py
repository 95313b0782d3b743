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
SMALL: dict[str, dict[str, Any]] = {
    "hrm": {"layers": 2},
    "trm": {},
    "trm-mlp": {"mixer": "mlp", "positions": "learned"},
}


def small(name: str, family: PuzzleFamily, **changes: Any) -> RecursionConfig:
    """A member for two processor cores and a family of puzzles: "trm", "hrm", "trm-mlp", or "plain" with TRM's parameters.

    They differ from each other as the published ones do. Cells know their row, column and box; there is no prefix.
    """
    rows, columns = family.box if family.box[0] > 1 else (1, 1)
    shape: dict[str, Any] = {"vocab_size": family.vocab_size, "side": family.side}
    shape |= {"box_rows": rows, "box_columns": columns, "positions": "grid", "multiple_of": 32}
    size: dict[str, Any] = {"dim": 64 if family.side <= 4 else 96, "num_heads": 4, "segments": 8}
    if name == "plain":
        return plain_twin(small("trm", family), "parameters").replace(**changes)
    if name not in PUBLISHED:
        raise ValueError(f"no model {name!r}: choose trm, hrm, trm-mlp or plain")
    published = PUBLISHED[name]()
    idea = {
        key: getattr(published, key)
        for key in ("shared", "gradient", "mixer", "loss", "halting", "layers", "high_cycles")
    }
    idea |= {"low_cycles": 2 if name == "hrm" else 3, "high_cycles": 2, "loss": "softmax"}
    return RecursionConfig(**{**shape, **size, **idea, **SMALL[name], **changes})


def plain_twin(config: RecursionConfig, equal: Literal["parameters", "compute"]) -> RecursionConfig:
    """The plain transformer to compare with: the same blocks, passed through once, from the puzzle straight to the answer.

    Of equal parameters: as many blocks as the recursive model has of its own. Of equal compute: as many as it passes through in
    one segment, which is `config.high_cycles * (low_cycles + 1)` (with two networks half of that) times the parameters.
    """
    own = config.layers * (1 if config.shared else 2)
    layers = own if equal == "parameters" else config.depth
    return config.replace(kind="plain", layers=layers, shared=True, halting="none", segments=1)
