"""Functions on logits: equal to transformers' processors, and what they draw is drawn as often as it should be."""

import functools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minilm.generation import (
    GREEDY,
    Sampling,
    apply_repetition_penalty,
    apply_temperature,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    process_logits,
    sample_token,
    token_probabilities,
)

process = pytest.importorskip("transformers.generation.logits_process")
many = settings(deadline=None, max_examples=100)
few = settings(deadline=None, max_examples=25)


@st.composite
def some_logits(draw: st.DrawFn) -> Tensor:
    """A batch of logits: spread out, or with many ties, with refused tokens, with a row that is refused throughout."""
    batch, vocab = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    logits = torch.randn(batch, vocab, generator=generator) * draw(st.sampled_from([0.1, 1.0, 10.0]))
    if draw(st.booleans()):
        logits = logits.round()  # ties
    if draw(st.booleans()):
        logits = logits.masked_fill(torch.rand(batch, vocab, generator=generator) < 0.3, -math.inf)
    if draw(st.booleans()):
        logits[0] = -math.inf
    return logits


@functools.cache
def processors_of_generate(**sampling: Any) -> Any:
    """What transformers' `generate` makes of these settings."""
    transformers = pytest.importorskip("transformers")
    shape = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape, num_attention_heads=1))
    config = transformers.GenerationConfig(do_sample=True, **sampling)
    return model._get_logits_processor(generation_config=config, input_ids_seq_length=5)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


class TestEqualToTransformers:
    @many
    @given(some_logits(), st.sampled_from([0.1, 0.7, 1.0, 1.5, 100.0]))
    def test_temperature(self, logits: Tensor, temperature: float) -> None:
        theirs = process.TemperatureLogitsWarper(temperature)(None, logits.clone())
        assert_same(apply_temperature(logits, temperature), theirs)

    @many
    @given(some_logits(), st.integers(1, 60))
    def test_top_k(self, logits: Tensor, k: int) -> None:
        assert_same(keep_top_k(logits, k), process.TopKLogitsWarper(k)(None, logits.clone()))

    @many
    @given(some_logits(), st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.9, 0.99, 1.0]))
    def test_top_p(self, logits: Tensor, p: float) -> None:
        assert_same(keep_top_p(logits, p), process.TopPLogitsWarper(p)(None, logits.clone()))

    @pytest.mark.parametrize(("p", "kept"), [(0.25, 1), (0.26, 2), (0.5, 2), (0.75, 3), (0.76, 4)])
    def test_top_p_at_its_border(self, p: float, kept: int) -> None:
        """Four equal tokens, whose shares add up exactly."""
        ours = keep_top_p(torch.zeros(1, 4), p)
        assert_same(ours, process.TopPLogitsWarper(p)(None, torch.zeros(1, 4)))
        assert int((ours > -math.inf).sum()) == kept

    @many
    @given(some_logits(), st.sampled_from([0.0, 0.01, 0.05, 0.5, 1.0]))
    def test_min_p(self, logits: Tensor, p: float) -> None:
        assert_same(keep_min_p(logits, p), process.MinPLogitsWarper(p)(None, logits.clone()))

    @many
    @given(some_logits(), st.sampled_from([0.5, 1.0, 1.2, 3.0]), st.integers(0, 12), st.integers(0, 1000))
    def test_repetition_penalty(self, logits: Tensor, penalty: float, seen: int, seed: int) -> None:
        ids = torch.randint(logits.shape[1], (len(logits), seen), generator=torch.Generator().manual_seed(seed))
        theirs = process.RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
        assert_same(apply_repetition_penalty(logits, ids, penalty), theirs)

    @few
    @given(some_logits(), st.integers(0, 1000))
    def test_all_in_the_order_of_generate(self, logits: Tensor, seed: int) -> None:
        ids = torch.randint(logits.shape[1], (len(logits), 5), generator=torch.Generator().manual_seed(seed))
        sampling = {"temperature": 0.7, "top_k": 10, "top_p": 0.8, "min_p": 0.1, "repetition_penalty": 1.3}
        chain = processors_of_generate(**sampling)
        assert len(chain) == 5
        assert_same(process_logits(logits, Sampling(**sampling), ids), chain(ids, logits.clone()))


class TestFunctions:
    def test_inputs_stay_as_they_are(self) -> None:
        logits = torch.randn(3, 9)
        before = logits.clone()
        ids = torch.zeros(3, 2, dtype=torch.long)
        process_logits(logits, Sampling(0.5, 4, 0.5, 0.2, 1.5), ids)
        process_logits(logits, GREEDY)
        assert torch.equal(logits, before)

    def test_any_leading_shape(self) -> None:
        logits = torch.randn(2, 3, 4, 7)
        sampling = Sampling(0.5, 4, 0.5, 0.2, 1.5)
        ids = torch.randint(7, (2, 3, 4, 5))
        rows = process_logits(logits.reshape(-1, 7), sampling, ids.reshape(-1, 5))
        assert torch.equal(process_logits(logits, sampling, ids), rows.reshape(logits.shape))
        assert process_logits(logits[0, 0, 0], sampling, ids[0, 0, 0]).shape == (7,)

    def test_padding_is_no_repetition(self) -> None:
        logits = torch.tensor([[1.0, -1.0, 2.0]])
        got = apply_repetition_penalty(logits, torch.tensor([[-1, -1, 1, 1]]), 2.0)
        assert got.tolist() == [[1.0, -2.0, 2.0]]

    def test_temperature_comes_before_top_p(self) -> None:
        """At temperature 4 the second token belongs to the nucleus; at 1 it would not."""
        logits = torch.tensor([3.0, 0.0])
        assert process_logits(logits, Sampling(top_p=0.9))[1] == -math.inf
        assert process_logits(logits, Sampling(temperature=4, top_p=0.9))[1] > -math.inf

    def test_top_p_keeps_the_fewest_that_reach_it(self) -> None:
        probs = torch.tensor([0.1, 0.4, 0.2, 0.3])
        for p, kept in ((0.39, [1]), (0.41, [1, 3]), (0.69, [1, 3]), (0.71, [1, 2, 3]), (0.95, [0, 1, 2, 3])):
            assert (keep_top_p(probs.log(), p) > -math.inf).nonzero()[:, 0].tolist() == kept

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda x: apply_temperature(x, 0), r"temperature = 0.*Sampling\(temperature=0\)"),
            (lambda x: apply_temperature(x, math.nan), "temperature = nan"),
            (lambda x: keep_top_k(x, 0), "top_k = 0"),
            (lambda x: keep_top_k(x, 2.5), "top_k = 2.5"),
            (lambda x: keep_top_p(x, 1.5), "top_p = 1.5.*from 0 to 1"),
            (lambda x: keep_min_p(x, -0.1), "min_p = -0.1"),
            (lambda x: apply_repetition_penalty(x, torch.tensor([[0]]), 0), "penalty = 0"),
            (lambda x: apply_repetition_penalty(x, torch.tensor([[9]]), 2), r"hold 9.*0 \.\. 4"),
            (lambda x: Sampling(temperature=-1), "temperature = -1"),
            (lambda x: Sampling(temperature=math.inf), "temperature = inf"),
            (lambda x: Sampling(top_k=0), "top_k = 0"),
            (lambda x: Sampling(top_p=2.0), "top_p = 2"),
            (lambda x: Sampling(min_p=math.nan), "min_p = nan"),
            (lambda x: Sampling(repetition_penalty=0), "repetition_penalty = 0"),
            (lambda x: Sampling(temperature="hot"), "temperature = 'hot'"),
            (lambda x: process_logits(x, Sampling(repetition_penalty=2.0)), "pass previous_ids"),
        ],
    )
    def test_bad_values_are_named(self, call, message) -> None:
        with pytest.raises(ValueError, match=message):
            call(torch.zeros(1, 5))


class TestDrawing:
    def test_greedy_takes_the_lowest_of_equals(self) -> None:
        logits = torch.tensor([[0.0, 2.0, 2.0, 1.0], [5.0, 5.0, 5.0, 5.0]])
        assert sample_token(logits, GREEDY).tolist() == [1, 0]
        assert process_logits(logits, GREEDY).softmax(-1).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]

    def test_greedy_heeds_the_repetition_penalty(self) -> None:
        sampling = Sampling(temperature=0, repetition_penalty=2.0)
        assert sample_token(torch.tensor([1.0, 1.5]), sampling, previous_ids=torch.tensor([1])).item() == 0

    @pytest.mark.parametrize(
        "sampling",
        [
            Sampling(),
            Sampling(temperature=0.5),
            Sampling(temperature=2.0, top_k=6),
            Sampling(top_p=0.8),
            Sampling(min_p=0.15),
            Sampling(temperature=1.5, top_k=9, top_p=0.9, min_p=0.05),
        ],
        ids=str,
    )
    def test_frequencies(self, sampling: Sampling) -> None:
        """40,000 draws against the exact probabilities: chi-square within 4 sigma of its mean (chance about 1 in 10,000, fixed seeds);
        a refused token is never drawn.
        """
        logits = torch.randn(12, generator=torch.Generator().manual_seed(3)) * 1.5
        probs = token_probabilities(logits, sampling).double()
        draws = 40_000
        drawn = sample_token(logits.expand(draws, -1), sampling, torch.Generator().manual_seed(7))
        counts = torch.bincount(drawn, minlength=12).double()
        assert counts[probs == 0].sum() == 0
        possible = probs > 0
        expected = probs[possible] * draws
        chi_square = ((counts[possible] - expected).square() / expected).sum().item()
        freedom = int(possible.sum()) - 1
        assert abs(chi_square - freedom) < 4 * math.sqrt(2 * freedom) + 4

    def test_a_row_draws_the_same_alone_and_in_a_batch(self) -> None:
        logits = torch.randn(5, 50)
        together = sample_token(logits, Sampling(top_p=0.9), torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(1)
        alone = [sample_token(row, Sampling(top_p=0.9), generator).item() for row in logits]
        assert together.tolist() == alone

    @many
    @given(st.integers(0, 10_000))
    def test_nothing_refused_is_drawn(self, seed: int) -> None:
        """Also where chance falls on a border, or rounding moves it there."""
        logits = torch.tensor([-math.inf, -200.0, -math.inf, 0.0, -math.inf, -200.0, -math.inf])
        token = sample_token(logits, Sampling(), torch.Generator().manual_seed(seed))
        assert logits[token] > -math.inf

    def test_chance_at_its_ends(self) -> None:
        from minilm.generation.sampling import draw

        logits = torch.tensor([-math.inf, 0.3, -math.inf, 0.7, -math.inf])
        for chance, token in ((0.0, 1), (1 - 2**-53, 3), (1.0, 3)):
            assert draw(logits, torch.tensor(chance, dtype=torch.float64)).item() == token

    @pytest.mark.parametrize("bad", [[math.nan, 0.0], [-math.inf, -math.inf], [math.inf, 0.0]])
    @pytest.mark.parametrize("sampling", [Sampling(), GREEDY], ids=["drawn", "greedy"])
    def test_nothing_to_draw(self, bad: list[float], sampling: Sampling) -> None:
        if bad[0] == math.inf and sampling is GREEDY:
            assert sample_token(torch.tensor(bad), sampling).item() == 0
            return
        with pytest.raises(ValueError, match=r"no token can be drawn.*NaN"):
            sample_token(torch.tensor(bad), sampling)

    def test_pytorchs_random_numbers_are_used_only_if_none_are_given(self) -> None:
        before = torch.get_rng_state()
        sample_token(torch.zeros(4), Sampling(), torch.Generator().manual_seed(0))
        sample_token(torch.zeros(4), GREEDY)
        assert torch.equal(before, torch.get_rng_state())
        sample_token(torch.zeros(4), Sampling())
        assert not torch.equal(before, torch.get_rng_state())
