"""The mask explorer keeps what the library keeps, says so in words, and survives odd tokens."""

import pytest
import torch

from minilm.attention import causal_mask, sliding_window_mask
from minilm.course.widgets import MaskExplorer
from minilm.course.widgets.mask_explorer import DENSE, DYNAMIC, SINK, SINKS, WINDOW
from minilm.dynamic_mask import keep_top

BIAS = [0.5, 0.9, 0.1, 0.8, 0.2, 0.9, 0.3, 0.1]


def explorer(keep=4, **options):
    return MaskExplorer([f"w{i}" for i in range(8)], BIAS, keep=keep, **options)


def table(widget, pattern):
    return torch.tensor(widget.table(pattern)) > 0


@pytest.mark.parametrize("keep", [1, 2, 4, 5, 6, 8])
def test_each_pattern_is_the_librarys(keep):
    widget = explorer(keep)
    assert torch.equal(table(widget, DENSE), causal_mask(8))
    assert torch.equal(table(widget, WINDOW), sliding_window_mask(8, keep))
    sinks = min(SINKS, keep - 1)
    assert torch.equal(table(widget, SINK), sliding_window_mask(8, keep - sinks, sinks))
    assert torch.equal(table(widget, DYNAMIC), keep_top(torch.tensor(BIAS), causal_mask(8), keep))


def test_of_equal_biases_the_newer_is_kept():
    widget = MaskExplorer(list("abcdef"), [1.0] * 6, keep=2)
    assert torch.equal(table(widget, DYNAMIC), sliding_window_mask(6, 2))


def test_the_words_say_what_the_controls_ask():
    widget = explorer(marked=[False, True, False, True, False, False, False, False])
    assert widget.headline() == "Query 8, 'w7', keeps 4 keys, and not itself."
    assert widget.facts() == "Of 2 marked tokens so far it keeps 2."
    assert repr(widget) == (
        "MaskExplorer of 8 tokens, keeps 4: the largest bias. Query 8, 'w7', keeps 4 keys, and not itself. "
        "Of 2 marked tokens so far it keeps 2. Kept: 'w0', 'w1', 'w3', 'w5'."
    )
    before = widget.view.value
    widget.pattern.value = WINDOW
    assert widget.view.value != before
    assert widget.headline() == "Query 8, 'w7', keeps 4 keys, itself among them."
    assert "keeps 0" in widget.facts()
    widget.keep.value, widget.place.value = 1, 4
    assert widget.headline() == "Query 4, 'w3', keeps 1 key, itself among them."
    assert "keeps 1" in widget.facts()


def test_without_marks_nothing_is_said_of_them():
    assert explorer().facts() == ""


def test_tokens_are_text_and_never_markup():
    widget = MaskExplorer(["<b>", "$x$", "\u202e"], [0.1, 0.2, 0.3], keep=2)
    assert "<b>" not in widget.view.value
    assert "&lt;b&gt;" in widget.view.value
    assert "\u202e" not in widget.view.value
    assert widget.to_png().startswith(b"\x89PNG")
    assert widget.to_png() == widget.to_png()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"3 tokens need 3 biases and marks: got 2$"):
        MaskExplorer(list("abc"), [0.1, 0.2])
    with pytest.raises(ValueError, match=r"got 3 and 1$"):
        MaskExplorer(list("abc"), [0.1, 0.2, 0.3], marked=[True])
    with pytest.raises(ValueError, match="room for 1 to 128 tokens, and there are 0"):
        MaskExplorer([], [])
