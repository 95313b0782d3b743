"""Beam search against all texts there are, on tiny vocabularies."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.generation import GREEDY, Beam, beam_search, generate
from minilm.model import LanguageModel
from tests.test_model import CONFIGS, make


def tiny(vocab: int, seed: int) -> LanguageModel:
    torch.manual_seed(seed)
    config = CONFIGS["llama-like"].replace(vocab_size=vocab, context_length=6, initialization={"std": 0.6})
    return LanguageModel(config).double().eval()


def all_texts(model: LanguageModel, prompt: list[int], length: int, stop: int, penalty: float) -> list[Beam]:
    """Every text of up to `length` tokens that ends with the stop token or is as long as allowed, best first."""
    found = []
    vocab = model.config.vocab_size
    for size in range(1, length + 1):
        for text in itertools.product(range(vocab), repeat=size):
            ended = text[-1] == stop
            if stop in text[:-1] or not (ended or size == length):
                continue
            with torch.no_grad():
                log_probs = model(torch.tensor([[*prompt, *text]])).log_softmax(-1)[0]
            total = sum(log_probs[len(prompt) - 1 + i, token].item() for i, token in enumerate(text))
            found.append(Beam(list(text[: size - ended]), total, total / size**penalty, ended))
    return sorted(found, key=lambda beam: -beam.score)


def assert_same(ours: list[Beam], theirs: list[Beam]) -> None:
    assert [(beam.ids, beam.finished) for beam in ours] == [(beam.ids, beam.finished) for beam in theirs]
    assert [beam.log_prob for beam in ours] == pytest.approx([beam.log_prob for beam in theirs])
    assert [beam.score for beam in ours] == pytest.approx([beam.score for beam in theirs])


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_with_enough_beams_the_search_is_exhaustive(penalty: float, seed: int) -> None:
    """Vocabulary 3, up to 4 tokens: 15 texts end before the limit, 16 at it; the order of all of them."""
    model = tiny(3, seed)
    everything = all_texts(model, [1], 4, stop=2, penalty=penalty)
    found = beam_search(model, [1], 4, beams=50, length_penalty=penalty, stop_tokens=[2])
    assert_same(found, everything)


@pytest.mark.parametrize("seed", range(4))
def test_few_beams_find_the_best_of_what_they_saw(seed: int) -> None:
    """What is found is among all texts, with the right score, and never better than the best."""
    model = tiny(4, seed)
    everything = {(tuple(b.ids), b.finished): b for b in all_texts(model, [0, 1], 4, stop=3, penalty=1.0)}
    found = beam_search(model, [0, 1], 4, beams=3, stop_tokens=[3])
    assert len(found) == 3
    assert_same(found, [everything[tuple(b.ids), b.finished] for b in found])
    assert [b.score for b in found] == sorted((b.score for b in found), reverse=True)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_ending_early_loses_nothing(seed: int, beams: int) -> None:
    """The search stops where no live text can still win: an exact bound. Compare with one that never stops early."""
    model = tiny(5, seed)
    kept: list[Beam] = []
    live = [([], 0.0)]
    for size in range(1, 7):  # the plain algorithm, without a bound
        steps = []
        for text, total in live:
            with torch.no_grad():
                log_probs = model(torch.tensor([([1, *text])[-6:]])).log_softmax(-1)[0, -1]
            steps += [([*text, token], total + log_probs[token].item()) for token in range(5)]
        steps = sorted(steps, key=lambda pair: -pair[1])[: 2 * beams]
        kept += [Beam(text[:-1], total, total / size, True) for text, total in steps if text[-1] == 4]
        live = [pair for pair in steps if pair[0][-1] != 4][:beams]
    kept += [Beam(text, total, total / 6, False) for text, total in live]
    expected = sorted(kept, key=lambda beam: -beam.score)[:beams]
    assert_same(beam_search(model, [1], 6, beams=beams, stop_tokens=[4]), expected)


def test_one_beam_is_greedy() -> None:
    model = make("llama-like")
    [beam] = beam_search(model, [1, 2, 3], 10, beams=1)
    written = generate(model, [[1, 2, 3]], 10, GREEDY)[0]
    assert beam.ids == written.ids
    assert beam.log_prob == pytest.approx(written.log_prob)
    assert not beam.finished


@pytest.mark.parametrize("name", ["llama-like", "window", "window and sinks", "gpt-like", "prefix", "relative"])
def test_cached_equals_uncached(name: str) -> None:
    """Beams share a past and part ways: their caches go with them, also past the context."""
    cached, uncached = (
        beam_search(make(name), [1, 2, 3, 4], 14, beams=4, stop_tokens=[5], use_cache=use) for use in (True, False)
    )
    assert_same(cached, uncached)


def test_models_without_a_cache() -> None:
    assert len(beam_search(make("flat"), [1, 2], 3, beams=2, pad_token=0)) == 2


def test_fewer_texts_than_beams() -> None:
    assert len(beam_search(tiny(3, 0), [1], 1, beams=10, stop_tokens=[2])) == 3


def test_the_model_and_the_users_random_numbers_stay() -> None:
    model = make("llama-like").train()
    state = torch.get_rng_state()
    beam_search(model, [1], 3)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beams": 0}, "beams = 0"),
        ({"max_new_tokens": 0}, "max_new_tokens = 0"),
        ({"length_penalty": -1.0}, "length_penalty = -1"),
        ({"length_penalty": math.nan}, "length_penalty = nan"),
        ({"prompt": []}, "the prompt is empty"),
    ],
)
def test_bad_values_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        beam_search(make("llama-like"), **{"prompt": [1], "max_new_tokens": 3, **arguments})
