"""How good a solver is: puzzles solved and cells right, segment by segment, and by how much was given."""

from dataclasses import dataclass

import numpy as np
import torch

from minilm.data.puzzles import GridPuzzles, PuzzleFamily
from minilm.recursion.model import RecursiveModel


@dataclass(frozen=True)
class GivensRow:
    """The puzzles that give so many cells, after the last segment."""

    givens: int
    puzzles: int
    exact: float
    cells: float


@dataclass(frozen=True)
class PuzzleReport:
    """What `evaluate` found. Shares go from 0 to 1; only cells that were blank count (in a maze, all of them)."""

    puzzles: int
    exact: list[float]  # share of puzzles solved, after each segment
    cells: list[float]  # share of cells right
    by_givens: list[GivensRow]
    lost: float  # share of puzzles that were solved after some segment, and not after the last
    halted_exact: float  # share solved where each puzzle is left as soon as the halting head says so
    halted_segments: float  # and the segments that takes on average

    def __str__(self) -> str:
        """A table."""
        lines = [f"{self.puzzles:,} puzzles     solved   cells right"]
        lines += [
            f"segment {i:<10} {100 * exact:6.1f} %  {100 * cells:8.1f} %"
            for i, (exact, cells) in enumerate(zip(self.exact, self.cells, strict=True), 1)
        ]
        lines += [
            f"{f'{row.givens} given: {row.puzzles:,}':<18} {100 * row.exact:6.1f} %  {100 * row.cells:8.1f} %"
            for row in self.by_givens
        ]
        lines.append(f"solved at some segment and lost again: {100 * self.lost:.1f} %")
        lines.append(f"stopping by itself: {100 * self.halted_exact:.1f} % after {self.halted_segments:.1f} segments")
        return "\n".join(lines)


@torch.no_grad()
def answers(
    model: RecursiveModel, puzzles: GridPuzzles, segments: int | None = None, batch_size: int = 256
) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's grid for every puzzle after each segment (puzzles segments cells), and whether it would stop there."""
    model.eval()
    grids, stops = [], []
    for start in range(0, len(puzzles), batch_size):
        tokens = torch.from_numpy(puzzles.inputs[start : start + batch_size].astype(np.int64))
        found = model.solve(tokens, segments)
        grids.append(torch.stack([segment.logits.argmax(dim=-1) for segment in found], dim=1))
        q_learning = model.config.halting == "q-learning"
        stops.append(torch.stack([segment.halt > (segment.go_on if q_learning else 0) for segment in found], dim=1))
    return torch.cat(grids), torch.cat(stops)


def evaluate(
    model: RecursiveModel, family: PuzzleFamily, puzzles: GridPuzzles, segments: int | None = None
) -> PuzzleReport:
    """Let the model solve puzzles and check its answers by the rules; more segments than in training are allowed."""
    grids, stops = answers(model, puzzles, segments)
    count = grids.shape[1]
    right = np.stack(
        [family.is_correct(puzzles, grids[:, i].numpy()) for i in range(count)], axis=1
    )  # puzzles segments
    asked = (puzzles.inputs == 0) if (puzzles.inputs == 0).any() else np.ones_like(puzzles.inputs, bool)
    hits = (grids.numpy() == puzzles.targets[:, None]) & asked[:, None]  # puzzles segments cells
    share = hits.sum(axis=2) / asked.sum(axis=1)[:, None]
    givens = (~asked).sum(axis=1)
    first_stop = np.where(stops.any(dim=1), stops.int().argmax(dim=1), count - 1)
    return PuzzleReport(
        puzzles=len(puzzles),
        exact=right.mean(axis=0).tolist(),
        cells=(hits.sum(axis=(0, 2)) / asked.sum()).tolist(),
        by_givens=[
            GivensRow(int(n), int(rows.sum()), float(right[rows, -1].mean()), float(share[rows, -1].mean()))
            for n in np.unique(givens)
            for rows in [givens == n]
        ],
        lost=float((right.any(axis=1) & ~right[:, -1]).mean()),
        halted_exact=float(right[np.arange(len(puzzles)), first_stop].mean()),
        halted_segments=float(first_stop.mean() + 1),
    )
