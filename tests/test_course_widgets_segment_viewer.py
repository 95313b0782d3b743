"""The segment viewer counts what is wrong and what changed, in words and marks as well as colours."""

import numpy as np
import pytest

from minilm.course.widgets import SegmentViewer

PUZZLE = [1, 0, 0, 4, 0, 4, 1, 0, 2, 0, 0, 3, 0, 3, 2, 0]
TARGET = [1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1]
FIRST = [1, 2, 3, 4, 3, 4, 1, 2, 2, 4, 1, 3, 4, 3, 2, 1]  # two cells exchanged
ODD = [1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 1, 3, 4, 3, 2, 1]


def viewer(**options):
    return SegmentViewer([PUZZLE], [[FIRST, ODD, TARGET]], [TARGET], (2, 2), **options)


def test_it_counts_wrong_and_changed_cells():
    widget = viewer()
    assert [widget.wrong(at) for at in range(4)] == [[], [9, 10], [10], []]
    assert [widget.changed(at) for at in range(4)] == [[], [], [9], [10]]
    assert repr(widget) == (
        "SegmentViewer of 1 puzzle. Puzzle 1 after segment 3: all 8 blanks right, 1 changed. "
        "Wrong cells by segment: 2, 1, 0."
    )


def test_the_slider_moves_the_grid():
    widget = viewer(stops=[[False, True, False]])
    last = widget.view.value
    assert "✗" not in last.replace("orange with ✗", "")
    widget.segment.value = 1
    assert widget.view.value != last
    assert widget.view.value.count("<small>✗</small>") == 2
    assert widget.headline() == "Puzzle 1 after segment 1: 2 of 16 cells wrong."
    widget.segment.value = 2
    assert widget.headline() == "Puzzle 1 after segment 2: 1 of 16 cells wrong, 1 changed; it would stop here."
    widget.segment.value = 0
    assert widget.headline() == "Puzzle 1 as it is given: 8 blanks of 16 cells."
    assert widget.view.value.count("&nbsp;") == 8


def test_a_given_that_was_overwritten_is_wrong():
    grid = [2, *TARGET[1:]]
    widget = SegmentViewer([PUZZLE], [[grid]], [TARGET], (2, 2))
    assert widget.wrong(1) == [0]


def test_arrays_and_long_thoughts_are_drawn_the_same_each_time():
    answers = np.array([[FIRST] * 15 + [TARGET]])
    widget = SegmentViewer(np.array([PUZZLE]), answers, np.array([TARGET]), (2, 2))
    assert widget.to_png() == widget.to_png()
    assert widget.to_png().startswith(b"\x89PNG")
    assert len(widget.picture().axes) == 8
    assert widget.picture().axes[-1].get_title() == "segment 16: 0 wrong"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([], [], []), "got 0 puzzles"),
        (([PUZZLE], [[FIRST], [FIRST]], [TARGET]), "answers to 2"),
        (([PUZZLE], [[FIRST[:-1]]], [TARGET]), "square, of one size"),
        (([PUZZLE], [[]], [TARGET]), "one or more"),
        (([PUZZLE], [[FIRST]], [TARGET], (3, 2)), "do not tile"),
        (([PUZZLE], [[FIRST]], [TARGET], (2, 2), [[True, True]]), "stops need"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        SegmentViewer(*arguments)
