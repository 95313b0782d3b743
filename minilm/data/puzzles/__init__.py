"""Puzzles with exact checkers, made here: text tasks for lesson 12, grids for lesson 13.

- `tasks`: problems in text, their verifiers and solvers' traces, and the splits; `arithmetic` (sums, countdown), `letters`
  (sorting, reversal) and `sudoku_words` are the tasks themselves; `classroom` is a text of careless sums to learn from;
- `sudoku` and its batched `solver`: random grids and minimal puzzles of 4x4, 6x6 and 9x9;
- `symmetry`: when two sudokus are the same in disguise, and random disguises;
- `mazes`: mazes with one shortest path;
- `families`: grid puzzles by name, with splits, overlap tests and the look-up baseline.

Everything is seeded and pure: the same arguments give the same puzzles on every platform.
"""

from minilm.data.puzzles.arithmetic import Countdown, Sums
from minilm.data.puzzles.classroom import forgetful, hear
from minilm.data.puzzles.families import (
    GridPuzzles,
    Maze,
    PuzzleFamily,
    Sudoku,
    nearest_solutions,
    overlap,
    puzzle_family,
)
from minilm.data.puzzles.letters import Reversal, Sorting
from minilm.data.puzzles.sudoku_words import SudokuWords
from minilm.data.puzzles.tasks import (
    Problem,
    Task,
    Verdict,
    answer_in,
    problems,
    shared_keys,
    solution_text,
)

__all__ = [
    "Countdown",
    "GridPuzzles",
    "Maze",
    "Problem",
    "PuzzleFamily",
    "Reversal",
    "Sorting",
    "Sudoku",
    "SudokuWords",
    "Sums",
    "Task",
    "Verdict",
    "answer_in",
    "forgetful",
    "hear",
    "nearest_solutions",
    "overlap",
    "problems",
    "puzzle_family",
    "shared_keys",
    "solution_text",
]
