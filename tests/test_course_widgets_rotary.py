"""The rotary explorer: its turning against the library, what its controls change, and what it refuses."""

import base64
import io
import re

import matplotlib.image
import numpy as np
import pytest
import torch

from minilm.course.widgets import RotaryExplorer
from minilm.course.widgets.rotary_explorer import BASES, DIMS, FARTHEST, LAYOUTS, turned
from minilm.embeddings import apply_rotary

INTERLEAVED, HALF_SPLIT = LAYOUTS


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("dim", DIMS)
def test_it_turns_as_the_library_does(dim, base, interleaved):
    vector = torch.randn(dim, generator=torch.Generator().manual_seed(dim), dtype=torch.float64)
    expected = apply_rotary(vector[None], torch.tensor([17]), base, interleaved)[0]
    torch.testing.assert_close(
        torch.tensor(turned(vector.tolist(), 17, base, interleaved), dtype=torch.float64), expected, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("vectors", ["ones", "random"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_dot_product_depends_on_the_distance_alone(layout, vectors):
    widget = RotaryExplorer(dim=16, base=100.0)
    widget.layout.value, widget.vectors.value = layout, vectors
    scores = [widget.score(key, 7) for key in range(0, FARTHEST, 9)]
    assert max(scores) - min(scores) < 1e-9
    assert abs(widget.score(0, 7) - widget.score(0, 8)) > 0.05


def test_the_two_layouts_agree_on_ones_and_differ_on_random_vectors():
    widget = RotaryExplorer(dim=16, key=3, distance=5)
    found = {}
    for vectors in ("ones", "random"):
        for layout in LAYOUTS:
            widget.vectors.value, widget.layout.value = vectors, layout
            found[vectors, layout] = widget.score(3, 5)
    assert found["ones", INTERLEAVED] == pytest.approx(found["ones", HALF_SPLIT])
    assert found["random", INTERLEAVED] != pytest.approx(found["random", HALF_SPLIT], abs=0.1)


def test_without_distance_nothing_is_lost():
    widget = RotaryExplorer(dim=32, key=FARTHEST, distance=0)
    assert "32.00 of 32.00" in widget.headline()
    assert "turned 0.0 degrees" in widget.turns()


def test_moving_the_key_moves_the_pair_and_not_the_score():
    widget = RotaryExplorer(dim=32, key=0, distance=12)
    headline, picture = widget.headline(), widget.to_png()
    widget.key.value = 40
    assert widget.headline() == headline
    assert widget.to_png() != picture
    assert "key at 40, query at 52" in widget.view.value


def test_every_control_changes_the_view_the_picture_and_the_words():
    for control, value in [
        ("distance", 20),
        ("pair", 3),
        ("base", 100.0),
        ("dim", 64),
        ("layout", HALF_SPLIT),
        ("vectors", "random"),
    ]:
        widget = RotaryExplorer(dim=32, key=40, distance=12)
        widget.pair.value = 1
        before = widget.view.value, widget.to_png(), widget.summary()
        getattr(widget, control).value = value
        after = widget.view.value, widget.to_png(), widget.summary()
        assert all(a != b for a, b in zip(after, before, strict=True)), control


def test_a_narrower_head_has_fewer_pairs():
    widget = RotaryExplorer(dim=32)
    widget.pair.value = 15
    widget.dim.value = 8
    assert (widget.pair.value, widget.pair.max) == (3, 3)
    assert "channels 6 and 7" in widget.view.value
    widget.layout.value = HALF_SPLIT
    assert "channels 3 and 7" in widget.view.value


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"dim": 7}, "not 7"), ({"base": 3.0}, "not 3"), ({"key": 999}, "999"), ({"distance": -999}, "-999")],
)
def test_it_refuses_what_it_cannot_show(settings, word):
    with pytest.raises(ValueError, match=word):
        RotaryExplorer(**settings)


def test_the_picture_is_stable_and_not_blank_and_has_the_words_as_alt_text():
    data, metadata = RotaryExplorer()._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == data["text/plain"] == repr(RotaryExplorer())
    assert data["image/png"] == RotaryExplorer()._repr_mimebundle_()[0]["image/png"]
    pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(data["image/png"])))[..., :3]
    assert 0.02 < np.mean(pixels.min(axis=-1) < 0.9) < 0.9
    assert re.search(r'<img [^>]*alt="RotaryExplorer: dim 32', RotaryExplorer().view.value)


def test_every_control_can_be_named():
    widget = RotaryExplorer()
    for control in (widget.key, widget.distance, widget.pair, widget.base, widget.dim, widget.layout, widget.vectors):
        assert control.description
