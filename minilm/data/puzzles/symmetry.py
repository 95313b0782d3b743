"""What makes two sudokus the same in disguise: renaming digits, moving rows, columns, bands and stacks, turning the grid over.

A solution's class is everything that such moves make of it: 2 classes of 4x4 grids, 49 of 6x6, 5,472,730,538 of 9x9 (Russell and
Jarvis 2006). A model that saw one member has in a sense seen all, so training and testing are kept apart by whole classes.
"""

import functools
import hashlib
import itertools

import numpy as np
import numpy.typing as npt
from jaxtyping import Int

from minilm.data.puzzles.sudoku import Grids, SudokuShape, size_of, sudoku_shape

CHUNK = 256


# ------------------------------------------------------------------------------------------------------- moves of a grid


@functools.cache
def line_orders(lines: int, group: int) -> Int[np.ndarray, "orders lines"]:
    """Every order of rows (or columns) that keeps each band of `group` lines together: 2 * 2^2 for 4 lines in pairs."""
    bands = list(itertools.permutations(range(lines // group)))
    within = list(itertools.product(itertools.permutations(range(group)), repeat=lines // group))
    return np.array(
        [
            [group * band + line for band, inner in zip(order, inners, strict=True) for line in inner]
            for order in bands
            for inners in within
        ]
    )


def symmetry_count(size: int) -> int:
    """How many moves there are, renamings included: 3,072 for 4x4, 2,488,320 for 6x6."""
    shape = sudoku_shape(size)
    rows, columns = line_orders(size, shape.box_rows), line_orders(size, shape.box_columns)
    renamings = int(np.prod(np.arange(1, size + 1)))
    return len(rows) * len(columns) * renamings * (2 if shape.transposes else 1)


def random_symmetries(
    size: int, n: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, "n cells"], Int[np.ndarray, "n digits"]]:
    """`n` random moves: where each cell of the new grid is taken from, and the new name of each digit (a blank's is 0)."""
    shape = sudoku_shape(size)
    rows = _random_lines(n, size, shape.box_rows, rng)
    columns = _random_lines(n, size, shape.box_columns, rng)
    cells = (rows[:, :, None] * size + columns[:, None, :]).reshape(n, -1)
    if shape.transposes:
        turned = rng.random(n) < 0.5
        cells[turned] = cells[turned] % size * size + cells[turned] // size
    names = np.zeros((n, size + 1), np.int8)
    names[:, 1:] = rng.random((n, size)).argsort(axis=1) + 1
    return cells, names


def _random_lines(n: int, lines: int, group: int, rng: np.random.Generator) -> Int[np.ndarray, "n lines"]:
    bands = rng.random((n, lines // group)).argsort(axis=1)
    within = rng.random((n, lines // group, group)).argsort(axis=2)
    return (bands[:, :, None] * group + within).reshape(n, lines)


def move(grids: Grids, cells: Int[np.ndarray, "n cells"], names: Int[np.ndarray, "n digits"]) -> Grids:
    """The grids after moves of `random_symmetries`, one each."""
    return np.take_along_axis(names, np.take_along_axis(grids, cells, axis=1).astype(np.int64), axis=1)


# ------------------------------------------------------------------------------------------------------- canonical forms


def canonical_grids(solutions: Grids) -> Grids:
    """For each full grid the member of its class that reads smallest: two grids are the same in disguise if these are equal.

    The smallest grid begins 1 2 3 ..., so choosing which row comes first and in what order the columns stand names the digits,
    and the names order the other rows (their first digits differ). With h[i, j] the column of the first row that holds the digit
    at (i, j), an order p of the columns turns row h[i] into p^-1 h[i] p: the candidates are compared by their second row first,
    and few are left after it.
    """
    solutions = np.asarray(solutions)
    shape = sudoku_shape(size_of(solutions))
    parts = [_canonical_chunk(solutions[i : i + CHUNK], shape) for i in range(0, len(solutions), CHUNK)]
    return np.concatenate(parts) if parts else solutions.astype(np.int8)


def _canonical_chunk(solutions: Grids, shape: SudokuShape) -> Grids:
    batch, size = len(solutions), shape.size
    orders = line_orders(size, shape.box_columns)  # orders size
    inverse = orders.argsort(axis=1)
    upright = solutions.reshape(batch, size, size).astype(np.int64) - 1
    grids = np.stack((upright, upright.swapaxes(1, 2)) if shape.transposes else (upright,))
    columns_of = grids.argsort(axis=3)  # ways batch row digit: the column of each digit in each row
    # h[way, grid, top, i, j]: the column, in the row `top`, of the digit at (i, j)
    h = columns_of[:, :, :, None, :].repeat(size, 3)
    h = np.take_along_axis(h, grids[:, :, None].repeat(size, 2), axis=4)

    pairs = [
        (top, second)
        for top in range(size)
        for second in range(top // shape.box_rows * shape.box_rows, (top // shape.box_rows + 1) * shape.box_rows)
        if top != second
    ]
    second_rows = np.stack([h[:, :, top, second] for top, second in pairs], axis=1)  # ways pairs batch size
    scores = _smallest_codes(second_rows.reshape(-1, size), shape).reshape(second_rows.shape[:-1])
    ways, tried, owners = np.nonzero(scores == scores.min(axis=(0, 1)))
    codes = _conjugate_codes(second_rows[ways, tried, owners], orders)  # candidates orders
    chosen, order = np.nonzero(codes == codes.min(axis=1, keepdims=True))
    ways, owners, tops = ways[chosen], owners[chosen], np.array([top for top, _ in pairs])[tried[chosen]]

    # The whole grid of every candidate that is left, its columns in order, its rows by their first digit.
    left = h[ways, owners, tops]  # candidates size size
    left = np.take_along_axis(left, orders[order][:, None, :].repeat(size, 1), axis=2)
    left = np.take_along_axis(inverse[order][:, None, :].repeat(size, 1), left, axis=2)
    left = left.reshape(len(left), size // shape.box_rows, shape.box_rows, size)
    left = np.take_along_axis(left, left[..., :1].argsort(axis=2), axis=2)
    left = np.take_along_axis(left, left[:, :, :1, :1].argsort(axis=1), axis=1).reshape(len(left), -1)
    ranked = np.lexsort((*left.T[::-1], owners))
    winners = ranked[np.unique(owners[ranked], return_index=True)[1]]
    return (left[winners] + 1).astype(np.int8)


def _conjugate_codes(
    rows: Int[np.ndarray, "rows size"], orders: Int[np.ndarray, "orders size"]
) -> Int[np.ndarray, "rows orders"]:
    """For every row h and order p, the row p^-1 h p read as a number."""
    size = orders.shape[1]
    renamed = orders.argsort(axis=1)[np.arange(len(orders))[:, None], rows[:, orders]]  # rows orders size
    return renamed @ size ** np.arange(size - 1, -1, -1)  # type: ignore[no-any-return]


def _smallest_codes(rows: Int[np.ndarray, "rows size"], shape: SudokuShape) -> Int[np.ndarray, "rows"]:
    """The smallest of each row's codes. Few rows can stand second (12,096 in 9x9), so each is worked out once and kept."""
    known = _known_codes(shape.size)
    names, first, where = np.unique(rows @ shape.size ** np.arange(shape.size), return_index=True, return_inverse=True)
    new = [i for i, name in enumerate(names.tolist()) if name not in known]
    for start in range(0, len(new), CHUNK):
        part = new[start : start + CHUNK]
        codes = _conjugate_codes(rows[first[part]], line_orders(shape.size, shape.box_columns)).min(axis=1)
        known.update(zip(names[part].tolist(), codes.tolist(), strict=True))
    return np.array([known[name] for name in names.tolist()], np.int64)[where.reshape(-1)]


@functools.cache
def _known_codes(size: int) -> dict[int, int]:
    """What `_smallest_codes` has worked out for a size."""
    return {}


def canonical_puzzles(puzzles: Grids) -> Grids:
    """The same for grids with blanks, by trying every move: quick for 4x4, slow for 6x6, too slow for 9x9 (ValueError)."""
    puzzles = np.asarray(puzzles)
    size = size_of(puzzles)
    if size > 6:
        raise ValueError("puzzles of 9x9 have 3,359,232 moves each: compare their solutions with canonical_grids")
    moves = _cell_moves(size)
    result = np.empty(puzzles.shape, np.int8)
    for i, puzzle in enumerate(puzzles):
        renamed = _renamed(puzzle[moves], size)
        result[i] = renamed[np.lexsort(renamed.T[::-1])[0]]
    return result


@functools.cache
def _cell_moves(size: int) -> Int[np.ndarray, "moves cells"]:
    """Every move of cells: which cell comes to each place."""
    shape = sudoku_shape(size)
    rows, columns = line_orders(size, shape.box_rows), line_orders(size, shape.box_columns)
    moves = (rows[:, None, :, None] * size + columns[None, :, None, :]).reshape(-1, shape.cells)
    return np.concatenate((moves, moves % size * size + moves // size)) if shape.transposes else moves


def _renamed(grids: Grids, size: int) -> Grids:
    """The grids with digits named in the order in which they first appear; blanks stay."""
    names = np.zeros((len(grids), size + 1), np.int8)
    following = np.ones(len(grids), np.int8)
    result = np.zeros_like(grids, np.int8)
    each = np.arange(len(grids))
    for j, digits in enumerate(np.asarray(grids, np.int64).T):
        new = (names[each, digits] == 0) & (digits > 0)
        names[each[new], digits[new]] = following[new]
        following[new] += 1
        result[:, j] = names[each, digits]
    return result


# ---------------------------------------------------------------------------------------------------------------- splits


def hash_shares(forms: npt.NDArray[np.integer]) -> Int[np.ndarray, "batch"]:
    """A number from 0 to 99 for each row, from a hash of its contents: what a split goes by."""
    return np.array(
        [int.from_bytes(hashlib.sha256(bytes(form)).digest()[:8], "big") % 100 for form in forms.astype(np.uint8)],
        np.int64,
    )
