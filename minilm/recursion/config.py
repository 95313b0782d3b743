"""One family, many members: HRM, TRM and everything between them as values of `RecursionConfig`."""

from dataclasses import dataclass
from typing import Literal

from minilm.block import gated_width
from minilm.config import Config, divisors

Gradient = Literal["one-step", "last-cycle", "full"]
Mixer = Literal["attention", "mlp"]
GridPositions = Literal["rotary", "learned", "grid"]
Halting = Literal["none", "simple", "q-learning"]
PuzzleLoss = Literal["softmax", "stablemax"]


@dataclass(frozen=True)
class RecursionConfig(Config):
    """A puzzle solver that thinks in loops. With two states, high (the answer) and low (the scratchpad), one segment is

        high_cycles times: low_cycles times low <- network(low, high + puzzle), then high <- network(high, low)

    and a puzzle is thought about for several segments, each going on from the states that the last one left. An ablation is
    another value here; `minilm.recursion.presets` has the published ones. Cycles and segments change no weight, so a trained
    model can think longer: `RecursiveModel(config.replace(low_cycles=9)).load_weights(model.weights())`.
    """

    vocab_size: int  # tokens of a cell, the blank included
    side: int  # rows of the grid, and columns
    box_rows: int = 1  # of a box, for "grid" positions; 1 x 1: there are no boxes
    box_columns: int = 1
    dim: int = 128
    num_heads: int = 4
    layers: int = 2  # blocks of one network
    kind: Literal["recursive", "plain"] = "recursive"  # plain: the blocks once, from the puzzle straight to the answer
    shared: bool = True  # one network for both states (TRM); False: one for each (HRM)
    high_cycles: int = 3
    low_cycles: int = 6
    # How far back the gradient goes in a segment: through the last call for each state (HRM), through the last of the
    # high_cycles (TRM), or through all of them.
    gradient: Gradient = "last-cycle"
    mixer: Mixer = "attention"  # how cells exchange: attention, or a gated feed-forward across the cells
    positions: GridPositions = "rotary"  # "grid": a vector for each row, column and box
    prefix: int = (
        0  # positions before the grid; the first holds the puzzle's own embedding, and the halting head reads it
    )
    num_puzzles: int = 0  # rows of the table of puzzle embeddings
    expansion: float = 8 / 3  # hidden width of the feed-forwards, as a multiple of what they read,
    multiple_of: int = 256  # rounded up to a multiple of this
    eps: float = 1e-5
    loss: PuzzleLoss = "softmax"
    halting: Halting = "simple"
    segments: int = 16  # the most that a puzzle gets in training
    exploration: float = (
        0.1  # how often a puzzle has to stay for a random number of segments, whatever the halting head says
    )
    halt_weight: float = 0.5
    # Every segment is corrected and makes an update of its own; False: only the last of them is.
    deep_supervision: bool = True

    def validate(self) -> None:
        """Check that the parts fit one another."""
        for name in ("vocab_size", "side", "box_rows", "box_columns", "dim", "num_heads", "layers", "high_cycles"):
            self._require_at_least(name, 1)
        for name in ("low_cycles", "segments", "multiple_of"):
            self._require_at_least(name, 1)
        for name in ("prefix", "num_puzzles"):
            self._require_at_least(name, 0)
        if self.dim % self.num_heads:
            raise ValueError(
                f"dim = {self.dim} is not divisible by num_heads = {self.num_heads}: choose one of {divisors(self.dim)}"
            )
        if self.positions == "rotary" and self.dim // self.num_heads % 2:
            raise ValueError(f"rotary positions turn pairs of channels, and a head has {self.dim // self.num_heads}")
        if self.num_puzzles and not self.prefix:
            raise ValueError("puzzle embeddings stand in front of the grid: set prefix to 1 or more")
        if not 0 <= self.exploration <= 1:
            raise ValueError(f"exploration = {self.exploration}: a probability")
        if self.side % self.box_rows or self.side % self.box_columns:
            raise ValueError(f"boxes of {self.box_rows} x {self.box_columns} do not tile a grid of side {self.side}")

    def _require_at_least(self, name: str, least: int) -> None:
        if getattr(self, name) < least:
            raise ValueError(f"RecursionConfig.{name} = {getattr(self, name)}: it must be at least {least}")

    @property
    def cells(self) -> int:
        """Cells of the grid."""
        return self.side**2

    @property
    def length(self) -> int:
        """Positions: the prefix and the cells."""
        return self.prefix + self.cells

    @property
    def hidden(self) -> int:
        """Width of the feed-forward over channels."""
        return gated_width(self.dim, self.expansion, self.multiple_of)

    @property
    def mixer_hidden(self) -> int:
        """Width of the feed-forward over positions, for the "mlp" mixer."""
        return gated_width(self.length, self.expansion, self.multiple_of)

    @property
    def depth(self) -> int:
        """Blocks passed through in one segment: 42 for TRM (3 x (6 + 1) calls of 2), 24 for HRM (6 calls of 4)."""
        if self.kind == "plain":
            return self.layers
        return self.high_cycles * (self.low_cycles + 1) * self.layers
