"""The floor explorer: its figures against the model and the grammar, its tints, and what it shows."""

import base64
import io
import math

import matplotlib.image
import numpy as np
import pytest
import torch

from minilm.course.widgets import FloorExplorer
from minilm.course.widgets.base import PLAIN
from minilm.course.widgets.floor_explorer import ORANGE, PINK, SKY, colour, dearest
from minilm.data import stories
from minilm.model import AttentionConfig, FeedForwardConfig, LanguageModel, ModelConfig
from minilm.tokenizer import BPETokenizer

TEXTS = stories.generate("easy", n=3, seed=5)


@pytest.fixture(scope="module")
def reader():
    tokenizer = BPETokenizer.train(stories.generate("easy", n=100), 320, ["<end>"], progress=False)
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        dim=16,
        num_layers=1,
        context_length=256,
        attention=AttentionConfig(num_heads=2),
        feed_forward=FeedForwardConfig(hidden=32),
    )
    return LanguageModel(config), tokenizer


@pytest.fixture
def widget(reader):
    return FloorExplorer(*reader, TEXTS, size="easy")


def test_the_bits_are_the_models_and_the_grammars(reader, widget):
    model, tokenizer = reader
    reading = widget.reading()
    end = tokenizer.special_tokens["<end>"]
    ids = torch.tensor([[end, *tokenizer.encode(TEXTS[0]), end]])
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:], reduction="sum").item()
    assert sum(reading.model) == pytest.approx(loss / math.log(2), rel=1e-5)
    assert sum(reading.true) == pytest.approx(stories.grammar("easy").bits(TEXTS[0]))
    assert "".join(reading.tokens[:-1]) == TEXTS[0]
    assert len(reading.tokens) == len(reading.expected) == ids.shape[1] - 1


def test_what_is_expected_at_a_place_comes_from_what_stands_before_it(reader, widget):
    model, tokenizer = reader
    widget.place.value = 4
    before = [tokenizer.special_tokens["<end>"], *tokenizer.encode(TEXTS[0])[:4]]
    with torch.no_grad():
        odds, tokens = model(torch.tensor([before]))[0, -1].softmax(dim=-1).max(dim=-1)
    bar = widget.model_bars()[0]
    assert bar.share == pytest.approx(odds.item(), rel=1e-4)
    assert bar.chips[0].label.replace("·", " ") == tokenizer.decode([tokens.item()])


def test_what_the_grammar_allows_begins_where_something_was_open(widget):
    """A token that begins with a space shows the letters after it, since every one of them would begin so."""
    grammar, tokens = stories.grammar("easy"), widget.reading().tokens
    for place, token in enumerate(tokens[:-1]):
        widget.place.value = place
        bars = widget.true_bars()
        labels = [bar.chips[0].label.replace("·", " ") for bar in bars if not bar.chips[0].label.endswith("more")]
        shown = labels[0][:-1]
        assert token.startswith(shown)
        assert sum(bar.share for bar in bars) == pytest.approx(1)
        assert len(labels) > 1 or shown + labels[0][-1] == token
        assert bars[0].share == next(iter(grammar.next_char("".join(tokens[:place]) + shown).values()))


def test_the_tint_says_how_much_too_dear():
    assert colour(0.0, 0.0) == PLAIN
    assert colour(0.1, 2.0) == SKY
    assert colour(-3.0, 2.0) == SKY
    assert colour(0.5, 0.0) == colour(0.5, 2.0) == ORANGE
    assert colour(1.5, 0.0) == PINK


def test_it_opens_at_the_dearest_token(widget):
    reading = widget.reading()
    assert widget.place.value == dearest(reading)
    assert reading.excess(dearest(reading)) == max(map(reading.excess, range(len(reading.tokens))))
    assert [chip.strong for chip in widget.chips()].index(True) == widget.place.value


def test_the_end_of_a_story_is_its_last_token(widget):
    widget.place.value = widget.place.max
    assert "<end>" in widget.account()
    assert widget.true_bars()[0].chips[0].label == "<end>"


def test_every_control_changes_the_view_the_picture_and_the_words(reader):
    for control, value in [("place", 2), ("story", 1)]:
        widget = FloorExplorer(*reader, TEXTS, size="easy", place=0)
        before = widget.view.value, widget.to_png(), widget.summary()
        getattr(widget, control).value = value
        after = widget.view.value, widget.to_png(), widget.summary()
        assert all(a != b for a, b in zip(after, before, strict=True)), control


def test_a_shorter_story_is_opened_at_a_place_that_it_has(reader):
    texts = sorted(TEXTS, key=len, reverse=True)
    widget = FloorExplorer(*reader, texts, size="easy")
    widget.place.value = widget.place.max
    widget.story.value = 2
    assert widget.place.value <= widget.place.max == len(widget.reading().tokens) - 1
    assert widget.place.value == dearest(widget.reading())


def test_it_refuses_what_it_cannot_read(reader):
    with pytest.raises(ValueError, match="list of at least one story"):
        FloorExplorer(*reader, [], size="easy")
    with pytest.raises(ValueError, match="list of at least one story"):
        FloorExplorer(*reader, TEXTS[0], size="easy")
    with pytest.raises(ValueError, match="place 999"):
        FloorExplorer(*reader, TEXTS, size="easy", place=999)
    with pytest.raises(ValueError, match=r"text 0|story"):
        FloorExplorer(*reader, ["Once there was a whale."], size="easy")


def test_the_picture_is_stable_and_not_blank_and_has_the_words_as_alt_text(reader, widget):
    data, metadata = widget._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == data["text/plain"] == widget.summary()
    again = FloorExplorer(*reader, TEXTS, size="easy")._repr_mimebundle_()[0]["image/png"]
    assert data["image/png"] == again
    pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(data["image/png"])))[..., :3]
    assert 0.02 < np.mean(pixels.min(axis=-1) < 0.95) < 0.95


def test_every_control_can_be_named(widget):
    assert widget.story.description
    assert widget.place.description
