"""What a puzzle looks like to the network: a vector for each cell, and in front of them one for the puzzle itself."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minilm.recursion.config import RecursionConfig
from minilm.recursion.network import draw_lecun_


class PuzzleTable(nn.Module):
    """One vector for each puzzle (each task of ARC, say), learned by the sign of its gradient alone (`SignSGD`).

    A batch holds few of the rows, and they differ in how often they come; so they are no parameters of the model's optimizer.
    `forward` hands out a copy that takes the gradient, and remembers whose it is.
    """

    weight: Float[Tensor, "puzzles dim"]

    def __init__(self, num_puzzles: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(num_puzzles, dim))
        self.rows: Tensor | None = None  # batch
        self.used: Tensor | None = None  # batch dim

    def forward(self, ids: Int[Tensor, "batch"]) -> Float[Tensor, "batch dim"]:
        """The puzzles' vectors."""
        used = self.weight[ids]
        if self.training and torch.is_grad_enabled():
            self.rows, self.used = ids, used.requires_grad_()
        return used


class PuzzleEmbedding(nn.Module):
    """Tokens, where they stand (unless attention turns by it), and the prefix; each channel has variance 1 at first.

    That is the published scale: tables of variance 1 / dim times sqrt(dim), and with tables for positions divided by the square
    root of their number plus one (0.7071 for one of them).
    """

    places: Int[Tensor, "tables cells"]

    def __init__(self, config: RecursionConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.dim)
        side, cells = config.side, torch.arange(config.cells)
        row, column = cells // side, cells % side
        places, sizes = [], []
        if config.positions == "learned":
            places, sizes = [torch.arange(config.cells)], [config.cells]
        elif config.positions == "grid":
            places, sizes = [row, column], [side, side]
            if config.box_rows * config.box_columns > 1:
                boxes_across = side // config.box_columns
                places.append(row // config.box_rows * boxes_across + column // config.box_columns)
                sizes.append(side // config.box_rows * boxes_across)
        self.tables = nn.ModuleList(nn.Embedding(size, config.dim) for size in sizes)
        stacked = torch.stack(places) if places else torch.zeros(0, config.cells, dtype=torch.int64)
        self.register_buffer("places", stacked, persistent=False)
        self.puzzles = PuzzleTable(config.num_puzzles, config.dim) if config.num_puzzles else None
        self.scale = math.sqrt(config.dim / (1 + len(self.tables)))
        for table in (self.tokens, *self.tables):
            draw_lecun_(table.weight, config.dim)

    def forward(
        self, tokens: Int[Tensor, "batch cells"], puzzles: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch length dim"]:
        """The vectors of a batch of puzzles; `puzzles` names their rows in the table (all the first one, unless given)."""
        x = self.tokens(tokens)
        for table, places in zip(self.tables, self.places, strict=True):
            x = x + table(places)
        x = x * self.scale
        if not self.config.prefix:
            return x  # type: ignore[no-any-return]
        front = x.new_zeros(len(x), self.config.prefix, self.config.dim)
        if self.puzzles is not None:
            ids = tokens.new_zeros(len(tokens)) if puzzles is None else puzzles
            own = self.puzzles(ids)[:, None] * math.sqrt(self.config.dim)
            front = torch.cat((own, front[:, 1:]), dim=1)
        return torch.cat((front, x), dim=1)
