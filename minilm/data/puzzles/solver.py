"""Many sudokus solved side by side: propagation and back-tracking on arrays, so that one numpy call serves hundreds of grids.

What may still stand in a cell is a set of digits, kept as bits: bit d - 1 for digit d. Inside, arrays are (cells, batch): the
batch is contiguous, and every operation runs along it.
"""

import functools
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int

if TYPE_CHECKING:
    from minilm.data.puzzles.sudoku import SudokuShape

CHUNK = 512  # grids at a time; what they need stays near the processor


def candidates_of(puzzles: Int[np.ndarray, "batch cells"], size: int) -> Int[np.ndarray, "batch cells"]:
    """The digits each cell may take by itself: the given one, or all."""
    given = 1 << (np.maximum(puzzles, 1) - 1).astype(np.uint16)
    return np.where(puzzles > 0, given, (1 << size) - 1).astype(np.uint16)


def search(
    candidates: Int[np.ndarray, "batch cells"],
    shape: "SudokuShape",
    limit: int,
    rng: np.random.Generator | None = None,
) -> tuple[Int[np.ndarray, "batch"], Int[np.ndarray, "batch cells"]]:
    """For each row of candidates, how many solutions there are (counted up to `limit`), and the first one found, or zeros.

    Depth first, on the cell with the fewest candidates; with `rng` ties and digits are drawn, without it the first is taken.
    """
    counts = np.zeros(len(candidates), np.int64)
    solutions = np.zeros(candidates.shape, np.int8)
    for start in range(0, len(candidates), CHUNK):
        part = slice(start, start + CHUNK)
        counts[part], solutions[part] = _search_chunk(candidates[part], shape, limit, rng)
    return counts, solutions


def _search_chunk(
    candidates: Int[np.ndarray, "batch cells"], shape: "SudokuShape", limit: int, rng: np.random.Generator | None
) -> tuple[Int[np.ndarray, "batch"], Int[np.ndarray, "batch cells"]]:
    batch, cells = candidates.shape
    numbers_of_bits, nth_bit = _tables(shape.size)
    stack = np.zeros((cells + 1, batch, cells), np.uint16)  # what is still to be tried, for each grid its own pile
    stack[0] = candidates
    height = np.ones(batch, np.int64)
    counts = np.zeros(batch, np.int64)
    solutions = np.zeros((batch, cells), np.int8)
    while True:
        owners = np.flatnonzero((height > 0) & (counts < limit))
        if not len(owners):
            return counts, solutions
        height[owners] -= 1
        masks = np.ascontiguousarray(stack[height[owners], owners].T)  # cells active
        alive = propagate(masks, shape)
        owners, masks = owners[alive], masks[:, alive]
        bits = numbers_of_bits[masks]
        solved = (bits == 1).all(axis=0)
        done = owners[solved]
        first = counts[done] == 0
        # A single bit's place is its digit less one: the number of bits below it.
        solutions[done[first]] = (numbers_of_bits[masks[:, solved] - 1] + 1).T[first]
        counts[done] += 1

        owners, masks, bits = owners[~solved], masks[:, ~solved], bits[:, ~solved]
        each = np.arange(len(owners))
        choices = np.where(bits == 1, np.float32(99), bits.astype(np.float32))
        if rng is not None:
            choices += rng.random(choices.shape, dtype=np.float32) * np.float32(0.5)
        cell = choices.argmin(axis=0)
        options, number = masks[cell, each], bits[cell, each]
        draw = 0 if rng is None else (rng.random(len(each)) * number).astype(np.int64)
        chosen = nth_bit[draw, options]
        masks[cell, each] ^= chosen
        stack[height[owners], owners] = masks.T  # this digit is not there: for later
        masks[cell, each] = chosen
        stack[height[owners] + 1, owners] = masks.T  # this digit is there: next
        height[owners] += 2


def propagate(masks: Int[np.ndarray, "cells batch"], shape: "SudokuShape") -> Bool[np.ndarray, "batch"]:
    """Narrow the candidates in place as far as two rules go; returns which grids have not run into a contradiction.

    A digit that is certain in a cell leaves the other cells of its row, column and box; a digit that has one cell left in a
    unit goes there.
    """
    everything = np.uint16((1 << shape.size) - 1)
    row, column, box = shape.units_of.T
    alive = np.ones(masks.shape[1], bool)
    active = np.arange(masks.shape[1])
    while len(active):
        before = masks[:, active]
        certain = np.where(before & (before - 1) == 0, before, np.uint16(0))
        in_units = certain[shape.units]  # units size active
        taken = np.bitwise_or.reduce(in_units, axis=1)
        bad = (in_units.sum(axis=1, dtype=np.uint16) != taken).any(
            axis=0
        )  # a sum of bits exceeds their union: one twice
        now = np.where(certain > 0, before, before & ~(taken[row] | taken[column] | taken[box]))

        in_units = now[shape.units]
        once, twice = np.zeros_like(taken), np.zeros_like(taken)
        for j in range(shape.size):
            twice |= once & in_units[:, j]
            once |= in_units[:, j]
        bad |= (once != everything).any(axis=0)  # a digit with no cell left
        only = once & ~twice
        forced = now & (only[row] | only[column] | only[box])
        now = np.where(forced > 0, forced, now)
        bad |= (now == 0).any(axis=0)

        masks[:, active] = now
        alive[active[bad]] = False
        active = active[(now != before).any(axis=0) & ~bad]
    return alive


@functools.cache
def _tables(size: int) -> tuple[Int[np.ndarray, "sets"], Int[np.ndarray, "size sets"]]:
    """For every set of digits how many it holds, and its n-th one as a bit (0 where it has no n-th)."""
    sets = np.arange(1 << size)
    has = sets[:, None] >> np.arange(size) & 1  # sets size
    nth = np.zeros((size, len(sets)), np.uint16)
    place = has.cumsum(axis=1) - 1
    for digit in range(size):
        holds = has[:, digit] == 1
        nth[place[holds, digit], sets[holds]] = 1 << digit
    return has.sum(axis=1).astype(np.uint8), nth
