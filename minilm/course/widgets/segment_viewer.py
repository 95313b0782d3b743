"""Watch a puzzle solver think: its grid after each segment, with a slider."""

import html
import math
from collections.abc import Sequence

import ipywidgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from minilm.course.figures import COLORS
from minilm.course.widgets.base import PLAIN, TINTS, Widget

MOST_SIDE, MOST_SHOWN = 9, 8
GIVEN, RIGHT, WRONG, BLANK = PLAIN, TINTS[2], TINTS[1], "#ffffff"
Grid = Sequence[int]


class SegmentViewer(Widget):
    """The grids that a solver answers with after each segment: `answers[puzzle][segment]` beside the right ones, `targets`.

    A grid is its cells row by row, 0 a blank; `box` is the rows and columns of a box, (1, 1) for none. `stops[puzzle][segment]`
    says where the solver held its answer to be right. Segment 0 is the puzzle as it is given.

    >>> SegmentViewer([[1, 0, 0, 1]], [[[1, 1, 2, 1], [1, 2, 2, 1]]], [[1, 2, 2, 1]])  # doctest: +SKIP
    SegmentViewer of 1 puzzle. Puzzle 1 after segment 2: all 2 blanks right, 1 changed. Wrong cells by segment: 1, 0.
    """

    def __init__(
        self,
        puzzles: Sequence[Grid],
        answers: Sequence[Sequence[Grid]],
        targets: Sequence[Grid],
        box: tuple[int, int] = (1, 1),
        stops: Sequence[Sequence[bool]] | None = None,
    ) -> None:
        self.puzzles, self.targets = [_whole(grid) for grid in puzzles], [_whole(grid) for grid in targets]
        self.answers = [[_whole(grid) for grid in each] for each in answers]
        self.stops = None if stops is None else [[bool(stop) for stop in each] for each in stops]
        self.side, self.box_shape = self._check(), box
        if self.side % box[0] or self.side % box[1]:
            raise ValueError(f"boxes of {box[0]} x {box[1]} do not tile a grid of side {self.side}")
        segments = len(self.answers[0])
        self.number = ipywidgets.IntSlider(value=1, min=1, max=len(self.puzzles), description="Puzzle")
        self.segment = ipywidgets.IntSlider(value=segments, min=0, max=segments, description="Segment")
        for control in (self.number, self.segment):
            control.observe(self.refresh, names="value")
        super().__init__([self.number, self.segment])

    def _check(self) -> int:
        """The grids' side. ValueError where something does not fit."""
        if not self.puzzles or len(self.puzzles) != len(self.answers) or len(self.puzzles) != len(self.targets):
            raise ValueError(
                f"each puzzle needs its answers and its solution: got {len(self.puzzles)} puzzles, "
                f"answers to {len(self.answers)} and {len(self.targets)} solutions"
            )
        cells, segments = len(self.puzzles[0]), len(self.answers[0])
        side = math.isqrt(cells)
        grids = [*self.puzzles, *self.targets, *(grid for each in self.answers for grid in each)]
        if side**2 != cells or not 1 <= side <= MOST_SIDE or any(len(grid) != cells for grid in grids):
            raise ValueError(f"all grids must be square, of one size, and of side 1 to {MOST_SIDE}")
        if segments < 1 or any(len(each) != segments for each in self.answers):
            raise ValueError("every puzzle needs the same number of segments, one or more")
        if self.stops is not None and [len(each) for each in self.stops] != [segments] * len(self.puzzles):
            raise ValueError("stops need an entry for each puzzle and segment")
        return side

    # ------------------------------------------------------------------------------------------------------ what is there

    @property
    def puzzle(self) -> int:
        """The index of the chosen puzzle."""
        return int(self.number.value) - 1

    def grid(self, segment: int) -> list[int]:
        """The chosen puzzle's grid after a segment; 0: as it is given."""
        return self.answers[self.puzzle][segment - 1] if segment else self.puzzles[self.puzzle]

    def wrong(self, segment: int) -> list[int]:
        """The cells that are filled and not right."""
        pairs = zip(self.grid(segment), self.targets[self.puzzle], strict=True)
        return [cell for cell, (own, right) in enumerate(pairs) if own != right and (segment or own)]

    def changed(self, segment: int) -> list[int]:
        """The cells that are not what they were a segment before (none after the first)."""
        if segment < 2:
            return []
        pairs = zip(self.grid(segment - 1), self.grid(segment), strict=True)
        return [cell for cell, (before, now) in enumerate(pairs) if before != now]

    def headline(self) -> str:
        """How many cells are wrong, and how many have changed."""
        at, blanks = int(self.segment.value), sum(value == 0 for value in self.puzzles[self.puzzle])
        name = f"Puzzle {self.puzzle + 1}"
        if at == 0:
            return f"{name} as it is given: {blanks} blanks of {self.side**2} cells."
        wrong, changed = len(self.wrong(at)), len(self.changed(at))
        state = f"all {blanks} blanks right" if not wrong else f"{wrong} of {self.side**2} cells wrong"
        moved = f", {changed} changed" if at > 1 else ""
        stop = self.stops is not None and self.stops[self.puzzle][at - 1]
        return f"{name} after segment {at}: {state}{moved}{'; it would stop here' if stop else ''}."

    def course(self) -> str:
        """Wrong cells after each segment."""
        counts = [str(len(self.wrong(segment))) for segment in range(1, int(self.segment.max) + 1)]
        return f"Wrong cells by segment: {', '.join(counts)}."

    # ------------------------------------------------------------------------------------------------------------- views

    def to_html(self) -> str:
        """The grid after the chosen segment. Wrong cells carry a ✗ and changed ones a •, so that colour is not all."""
        at = int(self.segment.value)
        wrong, changed, cells = set(self.wrong(at)), set(self.changed(at)), self.grid(at)
        rows = "".join(
            "<tr>"
            + "".join(
                self._cell_to_html(row * self.side + column, cells, wrong, changed) for column in range(self.side)
            )
            + "</tr>"
            for row in range(self.side)
        )
        return (
            f'<p class="title">{html.escape(self.headline())}</p><p class="facts">{html.escape(self.course())} '
            "Grey: given; green: right; orange with ✗: wrong; •: changed by this segment.</p>"
            f'<table style="width:auto;border-collapse:collapse" aria-label="{html.escape(self.headline())}">{rows}</table>'
        )

    def _cell_to_html(self, cell: int, cells: list[int], wrong: set[int], changed: set[int]) -> str:
        row, column = divmod(cell, self.side)
        tall, wide = self.box_shape
        boxed = tall * wide > 1
        top = 3 if boxed and row % tall == 0 else 1
        left = 3 if boxed and column % wide == 0 else 1
        right, bottom = (3 if boxed and at == self.side - 1 else 1 for at in (column, row))
        mark = ("✗" if cell in wrong else "") + ("•" if cell in changed else "")
        weight = 700 if self.puzzles[self.puzzle][cell] else 400
        return (
            f'<td style="width:44px;height:44px;text-align:center;padding:0;color:#1a1a1a;font-size:20px;'
            f"font-weight:{weight};background:{self._colour(cell, cells, wrong)};border:solid #333;"
            f'border-width:{top}px {right}px {bottom}px {left}px">{cells[cell] or "&nbsp;"}<small>{mark}</small></td>'
        )

    def _colour(self, cell: int, cells: list[int], wrong: set[int]) -> str:
        if cell in wrong:
            return WRONG
        if self.puzzles[self.puzzle][cell]:
            return GIVEN
        return RIGHT if cells[cell] else BLANK

    def picture(self) -> Figure:
        """The puzzle and its grids side by side, up to eight of them and always the last."""
        last = int(self.segment.max)
        shown = list(range(last + 1)) if last < MOST_SHOWN else [*range(MOST_SHOWN - 1), last]
        figure = Figure(figsize=(9.6, 1.7), dpi=100, facecolor="white", layout="constrained")
        for axes, at in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            self._draw(axes, at)
        return figure

    def _draw(self, axes: Axes, at: int) -> None:
        wrong, changed, cells = set(self.wrong(at)), set(self.changed(at)), self.grid(at)
        tall, wide = self.box_shape
        for cell, value in enumerate(cells):
            row, column = divmod(cell, self.side)
            axes.axhspan(
                row, row + 1, column / self.side, (column + 1) / self.side, color=self._colour(cell, cells, wrong)
            )
            weight = "bold" if self.puzzles[self.puzzle][cell] else "normal"
            text = f"{value or ''}{'×' if cell in wrong else ''}{'·' if cell in changed else ''}"
            axes.text(column + 0.5, row + 0.53, text, ha="center", va="center", size=28 / self.side, weight=weight)
        for line in range(self.side + 1):
            boxed = tall * wide > 1
            axes.axhline(line, color="#333", linewidth=1.6 if boxed and line % tall == 0 else 0.4)
            axes.axvline(line, color="#333", linewidth=1.6 if boxed and line % wide == 0 else 0.4)
        axes.set(xlim=(0, self.side), ylim=(self.side, 0), aspect="equal", xticks=[], yticks=[])
        axes.grid(False)
        title = f"segment {at}: {len(wrong)} wrong" if at else "the puzzle"
        chosen = at == int(self.segment.value)
        axes.set_title(title, size=7.5, color=COLORS["vermillion"] if chosen and at else "black")

    def summary(self) -> str:
        """Which puzzle, what its grid is like, and how it came about."""
        count = "1 puzzle" if len(self.puzzles) == 1 else f"{len(self.puzzles)} puzzles"
        return f"SegmentViewer of {count}. {self.headline()} {self.course()}"


def _whole(grid: Grid) -> list[int]:
    """Plain integers, from a list, an array or a tensor."""
    return [int(value) for value in grid]
