"""The grid puzzles of lesson 13 by name, in one form: tokens in, tokens out, and everything that a fair test needs.

family = puzzle_family("sudoku-6")
train, test = family.generate(3000, "train"), family.generate(200, "test")
assert not overlap(family, train, test)
"""

import re
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Bool, Int

from minilm.data.puzzles import mazes, sudoku, symmetry

Grids = Int[np.ndarray, "batch cells"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class GridPuzzles:
    """Puzzles and their solutions, row by row: int8 tokens, 0 for a cell that is to be filled."""

    inputs: Grids
    targets: Grids

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: "slice | Int[np.ndarray, 'chosen']") -> "GridPuzzles":
        """Some of the puzzles."""
        return GridPuzzles(self.inputs[rows], self.targets[rows])


class PuzzleFamily(Protocol):
    """What a trainer and an evaluation need to know of a kind of puzzle."""

    @property
    def name(self) -> str:
        """As `puzzle_family` takes it."""
        ...

    @property
    def side(self) -> int:
        """Rows of the grid, and columns."""
        ...

    @property
    def box(self) -> tuple[int, int]:
        """Rows and columns of a box; (1, side) where rows say it all."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the blank included."""
        ...

    def generate(self, n: int, split: Split | None = "train", seed: int = 0) -> GridPuzzles:
        """`n` different puzzles of a split (None: of all)."""
        ...

    def augment(self, puzzles: GridPuzzles, rng: np.random.Generator) -> GridPuzzles:
        """Each puzzle in a random disguise."""
        ...

    def keys(self, puzzles: GridPuzzles) -> list[bytes]:
        """What makes two puzzles count as the same for a split: equal keys are never on two sides."""
        ...

    def is_correct(self, puzzles: GridPuzzles, answers: Grids) -> Bool[np.ndarray, "batch"]:
        """Which answers solve their puzzle, by its rules."""
        ...


@dataclass(frozen=True)
class Sudoku:
    """Minimal sudokus (or with so many `givens`, where digging gets that far).

    6x6 and 9x9 are split by whole symmetry classes of the solution. 4x4 has only two of them, so its puzzles are split by the
    class of the puzzle (minimal ones have 36): a demonstration, from which nothing follows about unseen solutions.
    """

    size: int
    givens: int | None = None

    def __post_init__(self) -> None:
        sudoku.sudoku_shape(self.size)

    @property
    def name(self) -> str:
        """As `puzzle_family` takes it."""
        return f"sudoku-{self.size}" + (f"-{self.givens}" if self.givens else "")

    @property
    def side(self) -> int:
        """Rows of the grid."""
        return self.size

    @property
    def box(self) -> tuple[int, int]:
        """Rows and columns of a box."""
        return sudoku.BOXES[self.size]

    @property
    def vocab_size(self) -> int:
        """The blank and the digits."""
        return self.size + 1

    def generate(self, n: int, split: Split | None = "train", seed: int = 0) -> GridPuzzles:
        """`n` different puzzles of a split. The same seed gives the same puzzles everywhere."""
        return _collect(self, n, split, seed, self._draw)

    def _draw(self, n: int, split: Split | None, seed: int) -> GridPuzzles:
        solutions = sudoku.random_grids(self.size, n, seed)
        if split is not None and self.size > 4:
            solutions = solutions[split_rows(symmetry.canonical_grids(solutions)) == SPLITS.index(split)]
        puzzles = GridPuzzles(sudoku.minimal_puzzles(solutions, seed, self.givens), solutions)
        return puzzles if split is None or self.size > 4 else _of_split(self, puzzles, split)

    def augment(self, puzzles: GridPuzzles, rng: np.random.Generator) -> GridPuzzles:
        """Each puzzle with its digits renamed, rows, columns, bands and stacks moved, and turned over where boxes are square."""
        cells, names = symmetry.random_symmetries(self.size, len(puzzles), rng)
        return GridPuzzles(symmetry.move(puzzles.inputs, cells, names), symmetry.move(puzzles.targets, cells, names))

    def keys(self, puzzles: GridPuzzles) -> list[bytes]:
        """The class of the solution (4x4: of the puzzle)."""
        if self.size == 4:
            return [row.tobytes() for row in symmetry.canonical_puzzles(puzzles.inputs)]
        return [row.tobytes() for row in symmetry.canonical_grids(puzzles.targets)]

    def is_correct(self, puzzles: GridPuzzles, answers: Grids) -> Bool[np.ndarray, "batch"]:
        """Complete, by the rules, and with every given in its place."""
        return sudoku.is_solved(answers) & sudoku.keeps_givens(answers, puzzles.inputs)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Maze:
    """Mazes of an odd size with one shortest path; split by the maze in any of its sixteen disguises."""

    size: int

    def __post_init__(self) -> None:
        mazes.random_mazes(self.size, 0)

    @property
    def name(self) -> str:
        """As `puzzle_family` takes it."""
        return f"maze-{self.size}"

    @property
    def side(self) -> int:
        """Rows of the grid."""
        return self.size

    @property
    def box(self) -> tuple[int, int]:
        """A maze has no boxes."""
        return (1, self.size)

    @property
    def vocab_size(self) -> int:
        """Wall, open, start, goal and path; 0 is not used."""
        return 6

    def generate(self, n: int, split: Split | None = "train", seed: int = 0) -> GridPuzzles:
        """`n` different mazes of a split. The same seed gives the same mazes everywhere."""
        return _collect(self, n, split, seed, self._draw)

    def _draw(self, n: int, split: Split | None, seed: int) -> GridPuzzles:
        drawn = GridPuzzles(*mazes.random_mazes(self.size, n, seed))
        return drawn if split is None else _of_split(self, drawn, split)

    def augment(self, puzzles: GridPuzzles, rng: np.random.Generator) -> GridPuzzles:
        """Each maze turned or mirrored, and walked either way."""
        moves = mazes.maze_symmetries(self.size)[rng.integers(0, 8, len(puzzles))]
        swapped = rng.random((len(puzzles), 1)) < 0.5
        both = (np.take_along_axis(grids, moves, axis=1) for grids in (puzzles.inputs, puzzles.targets))
        return GridPuzzles(*(np.where(swapped, mazes.swap_ends(grids), grids) for grids in both))

    def keys(self, puzzles: GridPuzzles) -> list[bytes]:
        """The maze's smallest disguise."""
        return [row.tobytes() for row in mazes.canonical_mazes(puzzles.inputs)]

    def is_correct(self, puzzles: GridPuzzles, answers: Grids) -> Bool[np.ndarray, "batch"]:
        """The maze as it was, with a shortest path marked."""
        return mazes.are_shortest_paths(puzzles.inputs, answers)


def puzzle_family(name: str) -> PuzzleFamily:
    """The family of that name: "sudoku-4", "sudoku-6", "sudoku-9", with a number of givens "sudoku-6-14", "maze-11" ..."""
    match = re.fullmatch(r"(?:sudoku-(\d+)(?:-(\d+))?|maze-(\d+))", name)
    if match is None:
        raise ValueError(
            f"no puzzles {name!r}: choose sudoku-4, sudoku-6, sudoku-9 (sudoku-6-14: 14 givens) or maze-11"
        )
    if match[3]:
        return Maze(int(match[3]))
    return Sudoku(int(match[1]), int(match[2]) if match[2] else None)


# ----------------------------------------------------------------------------------------------------- splits and baselines


def split_rows(forms: Grids) -> Int[np.ndarray, "batch"]:
    """The split of each canonical form by its hash, as a place in `SPLITS`: four fifths train, a tenth each is held out."""
    return np.digitize(symmetry.hash_shares(forms), (80, 90))  # type: ignore[no-any-return]


def split_of(family: PuzzleFamily, puzzles: GridPuzzles) -> list[Split]:
    """The split that each puzzle belongs to."""
    forms = np.array([np.frombuffer(key, np.int8) for key in family.keys(puzzles)], np.int8)
    return [SPLITS[i] for i in split_rows(forms)] if len(puzzles) else []


def _collect(family: PuzzleFamily, n: int, split: Split | None, seed: int, draw: "Draw") -> GridPuzzles:
    """Draw batches until there are `n` different puzzles of the split. ValueError if the family has no more."""
    if split is not None and split not in SPLITS:
        raise ValueError(f"no split {split!r}: choose {', '.join(map(repr, SPLITS))}, or None for all puzzles")
    found: dict[bytes, tuple[Grids, Grids]] = {}
    share = {"train": 0.8, "validation": 0.1, "test": 0.1}.get(split or "", 1.0)
    batch, fruitless = min(1024, int(1.1 * n / share) + 32), 0
    for attempt in range(10**6):
        if len(found) >= n:
            break
        drawn, before = draw(batch, split, seed * 10**6 + attempt), len(found)
        for pair in zip(drawn.inputs, drawn.targets, strict=True):
            found.setdefault(pair[0].tobytes(), pair)
        fruitless = fruitless + 1 if len(found) == before else 0
        if fruitless >= 8:
            raise ValueError(
                f"{family.name} seems to have only {len(found)} different puzzles in {split or 'all splits'}"
            )
    rows = list(found.values())[:n]
    cells = family.side**2
    return GridPuzzles(*(np.array([row[i] for row in rows], np.int8).reshape(-1, cells) for i in (0, 1)))


def _of_split(family: PuzzleFamily, drawn: GridPuzzles, split: Split) -> GridPuzzles:
    """Those of the split."""
    return drawn[np.array([each == split for each in split_of(family, drawn)], bool)]


def overlap(family: PuzzleFamily, train: GridPuzzles, held_out: GridPuzzles) -> int:
    """How many held-out puzzles share their key (the class of the solution, say) with a training puzzle: must be 0."""
    known = set(family.keys(train))
    return sum(key in known for key in family.keys(held_out))


def nearest_solutions(train: GridPuzzles, puzzles: GridPuzzles) -> Grids:
    """For each puzzle the training solution that agrees with most of its givens: what mere memory could answer.

    Ties go to the first. A model must beat this before it can be said to have learned the rules.
    """
    tokens = int(max(train.targets.max(), puzzles.inputs.max())) + 1
    one_hot = np.eye(tokens, dtype=np.float32)
    known = one_hot[train.targets].reshape(len(train), -1)
    one_hot[0] = 0  # a blank agrees with nothing
    answers = [
        train.targets[(one_hot[part].reshape(len(part), -1) @ known.T).argmax(axis=1)]
        for part in np.array_split(puzzles.inputs, max(1, len(puzzles) // 256))
    ]
    return np.concatenate(answers)


class Draw(Protocol):
    """What draws puzzles: a number, the split (which may be used to leave some out), and the seed."""

    def __call__(self, n: int, split: Split | None, seed: int) -> GridPuzzles: ...
