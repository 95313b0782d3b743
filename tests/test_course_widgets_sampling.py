"""The sampling explorer shows what the library's functions do; the cache calculator what the library's caches take."""

import pytest
import torch

from minilm import presets
from minilm.course.widgets import CacheCalculator, SamplingExplorer
from minilm.course.widgets.cache_calculator import KNOWN, LLAMA_8B, Shape, shape_of
from minilm.generation import Sampling, token_probabilities
from minilm.model import LanguageModel, kv_cache_bytes

LOGITS = [2.0, 1.0, 0.5, 0.0, -1.0]
TRUE = [0.5, 0.0, 0.25, 0.25, 0.0]
TOKENS = [" Mia", "<b>", " Zoe", "\n", " ran"]


def explorer(**knobs) -> SamplingExplorer:
    return SamplingExplorer(
        {"a girl named": (torch.tensor(LOGITS), torch.tensor(TRUE)), "he": (LOGITS, None)}, TOKENS, **knobs
    )


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 0.0},
        {"top_k": 2},
        {"top_p": 0.6},
        {"min_p": 0.3},
        {"temperature": 2.0, "top_k": 4, "top_p": 0.8, "min_p": 0.1},
    ],
)
def test_the_odds_are_those_of_the_library(knobs):
    shown = explorer(**knobs)
    expected = token_probabilities(torch.tensor(LOGITS, dtype=torch.float64), Sampling(**knobs))
    drawn = {each.token: each.drawn for each in shown.odds()}
    assert drawn == pytest.approx(dict(zip(TOKENS, expected.tolist(), strict=True)))
    impossible = torch.tensor(TRUE) == 0
    assert shown.leak() == pytest.approx(expected[impossible].sum().item())
    assert shown.loss() == pytest.approx(torch.tensor(TRUE)[expected == 0].sum().item())


def test_a_knob_changes_the_view_and_comes_back():
    shown = explorer()
    fresh = repr(shown)
    for knob, value in [(shown.temperature, 0.5), (shown.top_k, 2), (shown.top_p, 0.5), (shown.min_p, 0.4)]:
        before, usual = shown.view.value, knob.value
        knob.value = value
        assert shown.view.value != before
        knob.value = usual
        assert repr(shown) == fresh


def test_where_the_truth_is_not_known_nothing_is_said_of_it():
    shown = explorer()
    shown.prompt.value = "he"
    assert shown.leak() is None
    assert shown.loss() is None
    assert "true" not in repr(shown)
    assert "true" not in shown.view.value


def test_tokens_are_text_and_never_markup():
    shown = explorer()
    assert "<b>" not in shown.view.value
    assert "&lt;b&gt;" in shown.view.value
    assert "↵" in shown.view.value


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match="at least one prompt"):
        SamplingExplorer({}, TOKENS)
    with pytest.raises(ValueError, match="4 scores after 'x', and 5 tokens"):
        SamplingExplorer({"x": (LOGITS[:4], None)}, TOKENS)
    with pytest.raises(ValueError, match="true odds"):
        SamplingExplorer({"x": (LOGITS, [1.0])}, TOKENS)


@pytest.mark.parametrize("make", [explorer, CacheCalculator])
def test_the_same_at_every_run_and_has_an_alt_text(make):
    data, metadata = make()._repr_mimebundle_()
    assert data["text/plain"] == metadata["image/png"]["alt"] == repr(make())
    assert data["image/png"] == make()._repr_mimebundle_()[0]["image/png"]


@pytest.mark.parametrize("name", [name for name in KNOWN if name != LLAMA_8B])
@pytest.mark.parametrize("window", [None, 32])  # the library takes room for a whole window, however short the text
def test_the_calculator_gives_what_the_library_counts_and_a_cache_takes(name, window):
    calculator = CacheCalculator()
    calculator.preset.value = name
    calculator.batch.value, calculator.window.value = 3, window or 0
    calculator.precision.value = "float32 (4 bytes)"
    config = presets.config(name, attention={"window": window})
    length = config.context_length
    assert calculator.shape().size() == kv_cache_bytes(config, 3, length, torch.float32)
    if name == "mnemos":  # small enough to be there
        cache = LanguageModel.from_config(config).eval().new_cache(length)
        with torch.no_grad():
            LanguageModel.from_config(config)(torch.zeros(3, length, dtype=torch.long), cache)
        if window is None or window <= length:
            assert cache.nbytes == calculator.shape().size()


def test_llama_is_a_gibibyte_and_its_alternatives_are_what_they_say():
    calculator = CacheCalculator(LLAMA_8B)
    others = {name: shape.size() / 2**30 for name, shape in calculator.alternatives().items()}
    assert others == {
        "as set": 1.0,
        "a key for each of 32 query heads": 4.0,
        "one key-value head (MQA)": 0.125,
        "a window of 2,048": 0.25,
        "in int8": 0.5,
    }
    assert "= 1 GiB" in repr(calculator)


def test_a_preset_brings_the_shape_back_and_knobs_change_it():
    calculator = CacheCalculator("stlm")
    fresh = repr(calculator)
    for knob, value in [
        (calculator.layers, 3),
        (calculator.kv_heads, 9),
        (calculator.head_size, 10),
        (calculator.length, 64),
    ]:
        before = calculator.view.value
        knob.value = value
        assert calculator.view.value != before
    calculator.preset.value = "gpt2"
    assert shape_of("gpt2")[0] == calculator.shape().layers
    calculator.preset.value = "stlm"
    assert repr(calculator) == fresh


def test_a_window_bounds_the_cache():
    assert Shape(2, 4, 2, 8, 1000, 1, 2, window=100).size() == Shape(2, 4, 2, 8, 100, 1, 2).size()
    with pytest.raises(ValueError, match="no preset 'dlib-char'"):
        CacheCalculator("dlib-char")
