"""The depth explorer: its figures against the course's own blocks, its verdicts, and what it shows."""

import base64
import io
import math

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import nn

from minilm.attention import Attention
from minilm.block import Block, FeedForward, RMSNorm
from minilm.course.widgets import DepthExplorer
from minilm.course.widgets.depth_explorer import DEEPEST, DIM, HEADS, INITS, NORMS, TEXTS, WORDS, measure

PLAIN, SCALED, WRITERS_ZERO, LARGE, SMALL, ZERO = INITS
PRE, POST, NONE = NORMS


def by_blocks(depth: int, init: str, norm_first: bool) -> tuple[list[float], list[float]]:
    """The same measurement with `minilm.block.Block`: the stream's spread, and each block's gradient norm."""
    torch.manual_seed(0)
    blocks = nn.ModuleList(
        Block(
            Attention(DIM, HEADS),
            FeedForward(DIM, 4 * DIM, bias=False),
            RMSNorm(DIM, gain=False),
            RMSNorm(DIM, gain=False),
            norm_first=norm_first,
        )
        for _ in range(depth)
    ).double()
    for name, weight in blocks.named_parameters():
        writes = "o_proj" in name or "down_proj" in name
        nn.init.normal_(weight, std=INITS[init](weight.shape[1], depth, writes))
    x = torch.randn(TEXTS, WORDS, DIM, dtype=torch.float64)
    spreads = [float(x.std())]
    for block in blocks:
        x = block(x, torch.arange(WORDS))
        spreads.append(float(x.detach().std()))
    x = RMSNorm(DIM, gain=False)(x) if norm_first else x
    logits = x @ (torch.randn(DIM, DIM, dtype=torch.float64) * DIM**-0.5)
    targets = torch.randint(DIM, (TEXTS * WORDS,))
    nn.functional.cross_entropy(logits.flatten(0, 1), targets).backward()
    norms = [math.sqrt(sum(float(p.grad.square().sum()) for p in block.parameters())) for block in blocks]
    return spreads, norms


@pytest.mark.parametrize("norm", [PRE, POST])
@pytest.mark.parametrize("init", [PLAIN, SCALED, SMALL])
def test_it_measures_the_blocks_of_the_library(norm, init):
    found = measure(3, init, NORMS[norm], True)
    spreads, gradients = by_blocks(3, init, norm == PRE)
    assert found.spreads == pytest.approx(spreads, rel=1e-6)
    assert found.gradients == pytest.approx(gradients, rel=1e-6)


def test_likeness_is_the_mean_cosine_of_different_words():
    from minilm.course.widgets.depth_explorer import _likeness

    x = torch.randn(TEXTS, WORDS, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
    cosines = [
        float(torch.cosine_similarity(text[a], text[b], dim=0)) for text in x for a in range(WORDS) for b in range(a)
    ]
    assert _likeness(nn.functional.normalize(x, dim=-1)) == pytest.approx(sum(cosines) / len(cosines))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((24, SCALED, PRE, True), "Healthy"),
        ((24, PLAIN, POST, True), "all words have become the same"),
        ((24, PLAIN, PRE, False), "all words have become the same"),
        ((24, PLAIN, NONE, True), "explodes"),
        ((24, LARGE, NONE, True), "beyond what 32 bits"),
        ((48, LARGE, NONE, True), "beyond what 32 bits"),
        ((24, PLAIN, NONE, False), "dies out"),
        ((24, LARGE, PRE, True), "times the gradient"),
        ((24, ZERO, PRE, True), "nothing here will ever learn"),
        ((24, WRITERS_ZERO, PRE, True), "Healthy"),
        ((1, PLAIN, PRE, True), "Healthy"),
    ],
)
def test_the_verdict_names_what_is_wrong(settings, words):
    widget = DepthExplorer(*settings)
    assert words in widget.verdict()
    assert words in widget.view.value
    assert words in widget.summary()
    assert widget.to_png().startswith(b"\x89PNG")


def test_measuring_leaves_the_random_numbers_of_the_notebook_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    measure.cache_clear()
    measure(2, PLAIN, "pre", True)
    assert torch.equal(torch.rand(2), expected)


def test_it_measures_also_where_gradients_are_switched_off():
    measure.cache_clear()
    with torch.no_grad():
        assert measure(2, PLAIN, "pre", True).gradients[0] > 0


def test_every_control_changes_the_view_the_picture_and_the_words():
    for control, value in [("depth", 5), ("init", SMALL), ("norm", POST), ("residual", False)]:
        widget = DepthExplorer(depth=4)
        before = widget.view.value, widget.to_png(), widget.summary()
        getattr(widget, control).value = value
        after = widget.view.value, widget.to_png(), widget.summary()
        assert all(a != b for a, b in zip(after, before, strict=True)), control


def test_it_says_what_it_does_not_know():
    with pytest.raises(ValueError, match=f"1 to {DEEPEST} blocks, not 0"):
        DepthExplorer(0)
    with pytest.raises(ValueError, match="no 'xavier'"):
        DepthExplorer(init="xavier")
    with pytest.raises(ValueError, match="pre-norm"):
        DepthExplorer(norm="sideways")


def test_the_picture_is_stable_and_not_blank_and_has_the_words_as_alt_text():
    widget = DepthExplorer(depth=4)
    data, metadata = widget._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == data["text/plain"] == widget.summary()
    measure.cache_clear()
    assert data["image/png"] == DepthExplorer(depth=4)._repr_mimebundle_()[0]["image/png"]
    pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(data["image/png"])))[..., :3]
    assert 0.02 < np.mean(pixels.min(axis=-1) < 0.9) < 0.9


def test_every_control_can_be_named():
    widget = DepthExplorer(depth=2)
    for control in (widget.depth, widget.init, widget.norm, widget.residual):
        assert control.description
