"""The attention explorer: its weights against torch, its masks, a sentence of one's own, and what it shows."""

import base64
import io
import math
import random

import matplotlib.image
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.attention import attend, causal_mask, sliding_window_mask
from minilm.course.widgets import AttentionExplorer
from minilm.course.widgets.attention_explorer import MASKS, MOST_WORDS, WINDOW, softmax

KNOWN = {"Ben's", "boat", "Mia's", "kite", "and", "<b>", "$x$"}
CAUSAL, WINDOWED, STRICT, OPEN = MASKS


def read(text: str) -> tuple[list[str], list[list[list[float]]]]:
    """Two heads whose scores depend on the words alone."""
    words = text.split()
    if unknown := set(words) - KNOWN:
        raise ValueError(f"These words are not in the vocabulary: {', '.join(sorted(unknown))}")
    rng = random.Random(text)
    return words, [[[rng.gauss(0, 2) for _ in words] for _ in words] for _ in range(2)]


def explorer(text: str = "Mia's kite and Ben's boat") -> AttentionExplorer:
    return AttentionExplorer(text, read, ["first", "second"])


def by_torch(text: str, head: int, mask: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    scores = torch.tensor(read(text)[1][head], dtype=torch.float64) / temperature
    return (scores.masked_fill(~mask, -math.inf)).softmax(-1)


@pytest.mark.parametrize("head", [0, 1])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_weights_are_the_softmax_of_the_masked_scores(head, temperature):
    widget = explorer()
    widget.head.value = ["first", "second"][head]
    widget.temperature.value = temperature
    expected = by_torch(widget.text.value, head, causal_mask(5), temperature)
    torch.testing.assert_close(torch.tensor(widget.weights(), dtype=torch.float64), expected)


def test_masks_are_those_of_the_library():
    for name, mask in [
        (CAUSAL, causal_mask(9)),
        (WINDOWED, sliding_window_mask(9, WINDOW)),
        (OPEN, torch.ones(9, 9, dtype=torch.bool)),
        (STRICT, causal_mask(9) & ~torch.eye(9, dtype=torch.bool)),
    ]:
        assert [[MASKS[name](query, key) for key in range(9)] for query in range(9)] == mask.tolist()


def test_a_word_that_may_see_nothing_gets_zeros_as_in_the_library():
    widget = explorer()
    widget.mask.value = STRICT
    widget.place.value = 1
    assert widget.weights()[0] == [0.0] * 5
    q = torch.zeros(1, 1, 5, 2)
    _, weights = attend(q, q, q, causal_mask(5) & ~torch.eye(5, dtype=torch.bool))
    assert weights[0, 0, 0].tolist() == [0.0] * 5
    assert "may look at nothing" in widget.headline()
    assert "may look at nothing" in widget.view.value


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20), st.floats(0.1, 5))
@settings(max_examples=50, deadline=None)
def test_weights_add_up_to_one_however_large_the_scores(scores, temperature):
    assert sum(softmax(scores, [True] * len(scores), temperature)) == pytest.approx(1)


def test_a_high_temperature_spreads_the_look_and_a_low_one_gathers_it():
    widget, largest = explorer(), []
    for temperature in (0.1, 1.0, 5.0):
        widget.temperature.value = temperature
        largest.append(max(widget.weights()[-1]))
    assert largest[0] > largest[1] > largest[2] > 1 / 5


def test_every_control_changes_the_view_the_picture_and_the_words():
    for control, value in [
        ("head", "second"),
        ("mask", OPEN),
        ("temperature", 0.3),
        ("place", 3),
        ("text", "boat and kite"),
    ]:
        widget = explorer()
        widget.place.value = 4  # which has a future that a mask can hide
        before = widget.view.value, widget.to_png(), widget.summary()
        getattr(widget, control).value = value
        after = widget.view.value, widget.to_png(), widget.summary()
        assert all(a != b for a, b in zip(after, before, strict=True)), control


def test_a_sentence_of_ones_own_moves_the_chosen_word_to_its_end():
    widget = explorer()
    widget.text.value = "Ben's boat and"
    assert widget.reading.words == ("Ben's", "boat", "and")
    assert (widget.place.value, widget.place.max) == (3, 3)
    widget.text.value = "Mia's kite and Ben's boat and kite"
    assert (widget.place.value, widget.place.max) == (7, 7)


@pytest.mark.parametrize("text", ["Mia's zebra", "", "and " * (MOST_WORDS + 1)])
def test_a_sentence_it_cannot_read_is_explained_and_the_old_one_stays(text):
    widget = explorer()
    before = widget.summary()
    widget.text.value = text
    assert widget.trouble
    assert 'class="trouble"' in widget.view.value
    assert widget.summary() == before
    widget.text.value = "Ben's boat"
    assert not widget.trouble
    assert 'class="trouble"' not in widget.view.value


def test_it_says_what_it_lacks_when_it_is_made():
    with pytest.raises(ValueError, match="at least one head"):
        AttentionExplorer("Ben's boat", read, [])
    with pytest.raises(ValueError, match="zebra"):
        AttentionExplorer("zebra", read, ["first"])


def test_what_is_typed_is_text_and_neither_markup_nor_formula():
    widget = explorer("<b> and $x$")
    assert "<b>" not in widget.view.value.replace("<bdi>", "")
    assert "&lt;b&gt;" in widget.view.value
    assert widget.to_png().startswith(b"\x89PNG")


def test_the_picture_is_stable_and_not_blank_and_has_the_words_as_alt_text():
    widget = explorer()
    data, metadata = widget._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == data["text/plain"] == widget.summary()
    assert data["image/png"] == explorer()._repr_mimebundle_()[0]["image/png"]
    pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(data["image/png"])))[..., :3]
    assert 0.05 < np.mean(pixels.min(axis=-1) < 0.9) < 0.9


def test_every_control_can_be_named():
    widget = explorer()
    for control in (widget.text, widget.head, widget.mask, widget.temperature, widget.place):
        assert control.description
