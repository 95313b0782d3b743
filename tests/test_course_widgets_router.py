"""The router explorer shows what the routers decide, and leaves the model as it was."""

import pytest
import torch

from minilm.config import AttentionConfig, FeedForwardConfig, ModelConfig, MoEConfig
from minilm.course.widgets import RouterExplorer
from minilm.data import stories
from minilm.model import LanguageModel
from minilm.tokenizer import BPETokenizer

TEXTS = stories.generate("easy", 3)


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(stories.generate("easy", 50), 320, ["<end>"], progress=False)


def a_model(moe: MoEConfig | None = None, **options) -> LanguageModel:
    torch.manual_seed(0)
    moe = MoEConfig(8, 2, normalize=True, **options) if moe is None else moe
    return LanguageModel(
        ModelConfig(
            vocab_size=320,
            dim=32,
            num_layers=2,
            context_length=128,
            attention=AttentionConfig(num_heads=2),
            feed_forward=FeedForwardConfig(hidden=16, moe=moe),
        )
    )


def test_it_shows_what_the_routers_chose(tokenizer):
    model = a_model().eval()
    shown = RouterExplorer(model, tokenizer, TEXTS[0])
    tokens, layers = shown.read()
    ids = [tokenizer.special_tokens["<end>"], *tokenizer.encode(TEXTS[0])]
    assert "".join(tokens) == "<end>" + TEXTS[0]
    model(torch.tensor([ids]))
    for layer, found in zip(model.core.layers, layers, strict=True):
        routing = layer.feed_forward.routing
        assert [list(each) for each in found.experts] == routing.experts.tolist()
        assert found.load == pytest.approx((routing.counts / routing.counts.sum()).tolist())
    assert [chip.below for chip in shown.chips(0)] == [" ".join(map(str, each)) for each in layers[0].experts]


def test_knobs_change_the_view_and_come_back_and_the_model_stays_as_it_was(tokenizer):
    model = a_model().train()
    shown = RouterExplorer(model, tokenizer, TEXTS[0], examples=TEXTS[1:])
    fresh, usage = repr(shown), model.core.layers[0].feed_forward.usage.clone()
    for knob, value in [(shown.k, 1), (shown.noise, 3.0), (shown.text, "Mia ran."), (shown.layer, 1)]:
        before, usual = shown.view.value, knob.value
        knob.value = value
        assert shown.view.value != before
        assert all(layer.feed_forward.gate.moe == MoEConfig(8, 2, normalize=True) for layer in model.core.layers)
        knob.value = usual
        assert repr(shown) == fresh
    assert model.training
    assert model.core.layers[0].feed_forward.gate.training
    assert torch.equal(usage, model.core.layers[0].feed_forward.usage)
    shown.example.value = TEXTS[1]
    assert shown.text.value == TEXTS[1]


def test_all_experts_means_an_even_load_and_noise_is_the_same_each_time(tokenizer):
    shown = RouterExplorer(a_model(), tokenizer, TEXTS[0])
    shown.k.value = 8
    assert all(layer.cv == pytest.approx(0) for layer in shown.read()[1])
    shown.k.value, shown.noise.value = 1, 2.0
    again = RouterExplorer(a_model(), tokenizer, TEXTS[0])
    torch.manual_seed(1)  # whatever else has been drawn
    again.k.value, again.noise.value = 1, 2.0
    assert again.read() == shown.read()


def test_tokens_are_text_and_never_markup_and_no_text_is_no_error(tokenizer):
    shown = RouterExplorer(a_model(), tokenizer, "<b>")
    assert "<b>" not in shown.view.value
    shown.text.value = ""
    assert "RouterExplorer: 1 token" in repr(shown)


def test_a_token_without_a_seat_says_so(tokenizer):
    model = a_model(MoEConfig(8, 1, capacity_factor=0.25, overflow="drop"))
    shown = RouterExplorer(model, tokenizer, TEXTS[0])
    below = [chip.below for chip in shown.chips(0)]
    assert "none" in below
    assert sum(each != "none" for each in below) == sum(len(each) for each in shown.read()[1][0].experts)
    assert shown.to_png()


def test_models_without_a_router_for_each_token_are_refused(tokenizer):
    dense = LanguageModel(ModelConfig(320, 32, 1, 128, AttentionConfig(2), FeedForwardConfig(16)))
    sample = a_model(MoEConfig(4, 1, route="sample"))
    for model in (dense, sample):
        with pytest.raises(ValueError, match="for each token"):
            RouterExplorer(model, tokenizer, "x")
    with pytest.raises(ValueError, match="layers 0 to 1: got 2"):
        RouterExplorer(a_model(), tokenizer, "x", layer=2)


def test_the_same_at_every_run_and_has_an_alt_text(tokenizer):
    data, metadata = RouterExplorer(a_model(), tokenizer, TEXTS[0])._repr_mimebundle_()
    assert data["text/plain"] == metadata["image/png"]["alt"]
    assert data["image/png"] == RouterExplorer(a_model(), tokenizer, TEXTS[0])._repr_mimebundle_()[0]["image/png"]
