"""Sudoku of 4x4, 6x6 and 9x9: random full grids, and minimal puzzles whose solution is proven to be the only one.

A grid is a row of cells, top left to bottom right, with digits 1 .. size and 0 for a blank; a batch of them is an int8 array.
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Int

from minilm.data.puzzles.solver import candidates_of, search

Grids = Int[np.ndarray, "batch cells"]

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}  # size: rows and columns of a box


@dataclass(frozen=True)
class SudokuShape:
    """The rules of one size: which cells must all differ."""

    size: int
    box_rows: int
    box_columns: int

    @property
    def cells(self) -> int:
        """Cells of the grid."""
        return self.size**2

    @property
    def transposes(self) -> bool:
        """Whether rows and columns may change roles: only with square boxes."""
        return self.box_rows == self.box_columns

    @functools.cached_property
    def places(self) -> Int[np.ndarray, "3 cells"]:
        """The row, column and box of every cell."""
        row, column = np.divmod(np.arange(self.cells), self.size)
        box = row // self.box_rows * self.box_rows + column // self.box_columns  # a band has box_rows boxes
        return np.stack((row, column, box))

    @functools.cached_property
    def units(self) -> Int[np.ndarray, "units size"]:
        """The cells of every row, then of every column, then of every box."""
        return np.concatenate([kind.argsort(kind="stable").reshape(self.size, -1) for kind in self.places])

    @functools.cached_property
    def units_of(self) -> Int[np.ndarray, "cells 3"]:
        """The three units that each cell is in, as rows of `units`."""
        return (self.places + np.arange(3)[:, None] * self.size).T


@functools.cache
def sudoku_shape(size: int) -> SudokuShape:
    """The shape of that size; ValueError for a size that is not offered."""
    if size not in BOXES:
        raise ValueError(f"no sudoku of size {size}: choose one of {', '.join(map(str, BOXES))}")
    return SudokuShape(size, *BOXES[size])


def size_of(grids: npt.NDArray[np.integer]) -> int:
    """The size of grids with so many cells; ValueError if no size has as many."""
    for size in BOXES:
        if grids.shape[-1] == size**2:
            return size
    raise ValueError(f"grids of {grids.shape[-1]} cells: a sudoku has {', '.join(str(size**2) for size in BOXES)}")


def is_solved(grids: Grids) -> Bool[np.ndarray, "batch"]:
    """Which grids are complete and keep every rule."""
    shape = sudoku_shape(size_of(grids))
    sorted_units = np.sort(np.asarray(grids)[:, shape.units], axis=-1)  # batch units size
    return (sorted_units == np.arange(1, shape.size + 1)).all(axis=(1, 2))  # type: ignore[no-any-return]


def keeps_givens(grids: Grids, puzzles: Grids) -> Bool[np.ndarray, "batch"]:
    """Which grids have the puzzle's digit wherever it gives one."""
    return ((puzzles == 0) | (grids == puzzles)).all(axis=1)  # type: ignore[no-any-return]


def solve(puzzles: Grids, limit: int = 2) -> tuple[Int[np.ndarray, "batch"], Grids]:
    """How many solutions each puzzle has, counted up to `limit`, and the first of them (blanks where there is none)."""
    puzzles = np.asarray(puzzles)
    shape = sudoku_shape(size_of(puzzles))
    return search(candidates_of(puzzles, shape.size), shape, limit)


def random_grids(size: int, n: int, seed: int = 0) -> Grids:
    """`n` full grids by random back-tracking: the cell with the fewest candidates next, and any of its digits.

    Every grid can come, some a little more often than others. The same seed gives the same grids everywhere.
    """
    shape = sudoku_shape(size)
    empty = np.zeros((n, shape.cells), np.int8)
    rng = np.random.default_rng((size, seed))
    return search(candidates_of(empty, size), shape, 1, rng)[1]


def minimal_puzzles(solutions: Grids, seed: int = 0, givens: int | None = None) -> Grids:
    """One puzzle for each solution: cells are blanked in random order as long as the solution stays the only one.

    The result is minimal: without any of its givens there would be a second solution. One pass proves it, since a cell that
    could not go when more was given cannot go later. With `givens` it stops at that many, where it gets so far down.
    """
    puzzles = np.array(solutions, np.int8)
    shape = sudoku_shape(size_of(puzzles))
    order = np.random.default_rng((shape.size, seed, 1)).random(puzzles.shape).argsort(axis=1)
    for cells in order.T:
        rows = np.flatnonzero((puzzles > 0).sum(axis=1) > (givens or 0))
        cell = cells[rows]
        other = candidates_of(puzzles[rows], shape.size)
        # The solution is the only one if no other digit in this cell leads to any.
        other[np.arange(len(rows)), cell] = (1 << shape.size) - 1 ^ (1 << (puzzles[rows, cell] - 1).astype(np.uint16))
        removable = search(other, shape, 1)[0] == 0
        puzzles[rows[removable], cell[removable]] = 0
    return puzzles


def all_grids(size: int) -> Grids:
    """All full grids whose first row is 1 2 3 ...: 12 of 4x4, 39,168 of 6x6. ValueError for 9x9, which has 1.8e16.

    Renaming digits makes any first row that one, so there are size! times as many grids: 288 and 28,200,960.
    They are grown cell by cell, all of them side by side.
    """
    if size > 6:
        raise ValueError(f"there are too many grids of {size}x{size} to list: choose 4 or 6")
    shape = sudoku_shape(size)
    grids = np.arange(1, size + 1, dtype=np.int8)[None]
    used = np.zeros((1, len(shape.units)), np.uint16)  # in each unit, a bit for each digit
    for cell in range(size):
        used[:, shape.units_of[cell]] |= np.uint16(1 << cell)
    for cell in range(size, shape.cells):
        taken = np.bitwise_or.reduce(used[:, shape.units_of[cell]], axis=1)
        grown = []
        for digit in range(size):
            rows = np.flatnonzero(taken & (1 << digit) == 0)
            marked = used[rows]
            marked[:, shape.units_of[cell]] |= np.uint16(1 << digit)
            grown.append((np.column_stack((grids[rows], np.full(len(rows), digit + 1, np.int8))), marked))
        grids, used = (np.concatenate(parts) for parts in zip(*grown, strict=True))
    return grids
