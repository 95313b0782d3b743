"""4x4 sudoku in words: a grid as a sentence, for a model that reads and writes text."""

import functools
import random
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from minilm.data.puzzles import sudoku, symmetry
from minilm.data.puzzles.solver import candidates_of
from minilm.data.puzzles.tasks import CORRECT, MALFORMED, WRONG, Problem, Verdict, answer_in

WORDS = ("blank", "one", "two", "three", "four")
Grid = tuple[int, ...]


def in_words(grid: Grid) -> str:
    """Rows of words: "one blank three blank / ..."."""
    return " / ".join(" ".join(WORDS[digit] for digit in grid[i : i + 4]) for i in range(0, 16, 4))


def read_words(text: str) -> Grid | None:
    """The full grid that a text names; None unless it is exactly four rows of four digits, as `in_words` writes them."""
    rows = [row.split(" ") for row in text.split(" / ")]
    if len(rows) != 4 or any(len(row) != 4 or not set(row) <= set(WORDS[1:]) for row in rows):
        return None
    return tuple(WORDS.index(word) for row in rows for word in row)


@dataclass(frozen=True)
class SudokuWords:
    """A minimal 4x4 sudoku, to be written out in full. Puzzles of one symmetry class have one key (there are 36 such classes)."""

    @property
    def name(self) -> str:
        """Its name."""
        return "sudoku-words"

    def draw(self, rng: random.Random) -> Problem:
        """A random minimal puzzle."""
        puzzles, solutions, keys = _pool()
        i = rng.randrange(len(puzzles))
        moves = symmetry.random_symmetries(4, 1, np.random.default_rng(rng.getrandbits(64)))
        givens = tuple(symmetry.move(puzzles[i : i + 1], *moves)[0].tolist())
        full = tuple(symmetry.move(solutions[i : i + 1], *moves)[0].tolist())
        return Problem(f"sudoku {in_words(givens)} =", in_words(full), keys[i], givens)

    def verify(self, problem: Problem, text: str) -> Verdict:
        """By the rules and the givens, in words and in four rows; the stored answer is not looked at."""
        answer = answer_in(text)
        grid = None if answer is None else read_words(answer)
        if grid is None:
            return MALFORMED
        given, full = np.array([problem.facts]), np.array([grid])
        return CORRECT if sudoku.is_solved(full)[0] and sudoku.keeps_givens(full, given)[0] else WRONG

    def trace(self, problem: Problem) -> str:
        """One cell after the other, in an order in which each follows from those before: "row one column two four"."""
        shape = sudoku.sudoku_shape(4)
        solution = sudoku.solve(np.array([problem.facts]))[1][0]
        grid, steps = np.array(problem.facts), []
        while (grid == 0).any():
            cell = _next_cell(grid, shape)
            grid[cell] = solution[cell]
            row, column = divmod(cell, 4)
            steps.append(f"row {WORDS[row + 1]} column {WORDS[column + 1]} {WORDS[solution[cell]]}")
        return " / ".join(steps)


@functools.cache
def _pool() -> tuple[sudoku.Grids, sudoku.Grids, list[str]]:
    """Random minimal puzzles, their solutions and classes; `draw` gives them in disguise, which is every other one."""
    solutions = sudoku.random_grids(4, 400)
    puzzles = sudoku.minimal_puzzles(solutions)
    return puzzles, solutions, ["".join(map(str, form)) for form in symmetry.canonical_puzzles(puzzles).tolist()]


def _next_cell(grid: Int[np.ndarray, "cells"], shape: sudoku.SudokuShape) -> int:
    """A blank cell with one digit left, or one that alone can hold a digit in some unit; else the one with fewest left."""
    left = candidates_of(grid[None], 4)[0].astype(int)
    for cell in np.flatnonzero(grid == 0):
        seen = grid[np.unique(shape.units[shape.units_of[cell]])]
        left[cell] = 15 & ~sum({1 << int(digit) - 1 for digit in seen if digit})
    blanks = np.flatnonzero(grid == 0)
    for cell in blanks:
        if left[cell].bit_count() == 1:
            return int(cell)
    for cell in blanks:
        for unit in shape.units[shape.units_of[cell]]:
            others = [left[other] for other in unit if other != cell]
            if any(left[cell] & bit and not any(other & bit for other in others) for bit in (1, 2, 4, 8)):
                return int(cell)
    return int(min(blanks, key=lambda cell: left[cell].bit_count()))
