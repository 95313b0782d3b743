"""Log-probabilities, windows, perplexity and bits per byte: against PyTorch's cross-entropy and against reading each token alone."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from minilm.evaluation import (
    EvaluationError,
    bits_per_byte,
    evaluate_texts,
    log_likelihoods,
    perplexity,
    score_endings,
    token_log_probs,
    token_scores,
    windows_of,
)
from minilm.evaluation import likelihood as module
from minilm.evaluation.endings import context_and_ending
from minilm.generation import Writer
from minilm.tokenizer import BPETokenizer, ByteTokenizer
from tests.oracles import BYTES, END_ID, random_model


def alone(model, ids, place, context):
    """ln p of one token by reading only what it may see."""
    seen = torch.tensor([ids[max(0, place - context) : place]])
    return float(model(seen)[0, -1].log_softmax(-1)[ids[place]].detach())


@given(st.integers(2, 60), st.integers(1, 12), st.integers(1, 12))
def test_windows_score_each_token_once_and_never_with_too_little_context(length, context, stride):
    stride = min(stride, context)
    scored = []
    for start, end, first in windows_of(length, context, stride):
        assert 0 < end - start <= context
        assert end <= length - 1
        assert first > start
        for target in range(first, end + 1):
            assert target - start >= min(target, context - stride + 1)
        scored += range(first, end + 1)
    assert scored == list(range(1, length))


def test_a_text_that_fits_the_context_is_scored_as_by_cross_entropy():
    model = random_model(context_length=32)
    rows = [[END_ID, *range(70, 70 + n), END_ID] for n in (1, 9, 4, 30)]
    for ids, found in zip(rows, token_log_probs(model, rows), strict=True):
        row = torch.tensor(ids)
        expected = -F.cross_entropy(model(row[None, :-1])[0], row[1:], reduction="none")
        torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_longer_texts_are_read_in_windows_that_move_on_by_stride(stride):
    model = random_model(context_length=8)
    ids = torch.randint(0, 256, (29,), generator=torch.Generator().manual_seed(1)).tolist()
    found = token_log_probs(model, [ids], stride=stride)[0].tolist()
    windows = {t: start for start, end, first in windows_of(29, 8, stride) for t in range(first, end + 1)}
    expected = [alone(model, ids, t, t - windows[t]) for t in range(1, 29)]
    assert found == pytest.approx(expected)
    if stride == 1:  # every token has all the context that the model can use
        assert found == pytest.approx([alone(model, ids, t, 8) for t in range(1, 29)])


def test_small_batches_and_neighbours_change_nothing(monkeypatch):
    model = random_model(context_length=8)
    rows = [[END_ID, *range(n, n + 3 * n % 23 + 2)] for n in range(1, 9)]
    together = token_log_probs(model, rows)
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 1)
    for ids, found in zip(rows, together, strict=True):
        torch.testing.assert_close(token_log_probs(model, [ids])[0], found)


def test_the_model_is_only_read():
    model = random_model(block={"dropout": 0.5}).train()
    model.core.eval()
    first, second = (token_log_probs(model, [[1, 2, 3, 4]])[0] for _ in range(2))
    assert torch.equal(first, second)
    assert model.training
    assert not model.core.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_likeliest_says_what_greedy_decoding_would_have_written():
    model = random_model()
    ids = [END_ID, 80]
    for _ in range(6):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    assert token_scores(model, [ids])[0].likeliest[1:].all()
    ids[4] = (ids[4] + 1) % 256
    assert not token_scores(model, [ids])[0].likeliest[3]


# -------------------------------------------------------------------------------------- models that read a whole window


def test_a_flat_head_is_asked_once_a_token_from_full_windows_or_padded_ones():
    model = random_model(context_length=6, head={"kind": "flat", "tied": False})
    ids = list(range(40, 60))
    full = token_log_probs(model, [ids])[0]
    assert len(full) == 14  # the first six have no full window before them
    assert full.tolist() == pytest.approx([alone(model, ids, t, 6) for t in range(6, 20)])
    padded = token_log_probs(model, [ids], pad_token=0)[0]
    assert padded[5:].tolist() == pytest.approx(full.tolist())
    seen = torch.tensor([[0, 0, 0, 0, *ids[:2]]])
    assert float(padded[1]) == pytest.approx(float(model(seen)[0, -1].detach().log_softmax(-1)[ids[2]]))
    with pytest.raises(EvaluationError, match="exactly 6 tokens and the text has 5"):
        token_log_probs(model, [ids[:5]])


@pytest.mark.parametrize("changes", [{"norm": {"kind": "whole-sample"}}, {"attention": {"prefix": 4}}])
def test_a_model_that_would_see_the_future_is_measured_without_it(changes):
    model = random_model(context_length=16, **changes)
    ids, other = [50, 51, 52, 53, 54, 55], [50, 51, 9, 9, 9, 9]
    plain = [model(torch.tensor([row]))[0, 0].log_softmax(-1)[51].detach() for row in (ids, other)]
    assert not torch.allclose(*plain)  # one pass over everything leaks later tokens into earlier predictions
    found = [token_log_probs(model, [row])[0][0] for row in (ids, other)]
    assert found[0] == found[1]
    assert float(found[0]) == pytest.approx(alone(model, ids, 1, 16))


def test_attention_that_sees_everything_is_refused():
    with pytest.raises(EvaluationError, match="not causal"):
        token_log_probs(random_model(attention={"causal": False}), [[1, 2, 3]])


# ---------------------------------------------------------------------------------------------------------------- texts


def test_uniform_models_of_any_tokenizer_cost_what_their_tokens_say():
    text = "the cat and the dog and the cow and the cat sat"
    words = BPETokenizer.train([text], vocab_size=270, special_tokens=["<end>"])
    for tokenizer in (BYTES, words):
        model = random_model(vocab_size=tokenizer.vocab_size)
        for parameter in model.parameters():
            parameter.data.zero_()
        report = evaluate_texts(model, tokenizer, [text])
        assert report.tokens == len(tokenizer.encode(text)) + 1
        assert report.size == len(text) + 1  # the end counts as one byte
        assert report.loss == pytest.approx(math.log(tokenizer.vocab_size))
        assert perplexity(model, tokenizer, [text]) == pytest.approx(tokenizer.vocab_size)
        expected = math.log2(tokenizer.vocab_size) * report.tokens / report.size
        assert bits_per_byte(model, tokenizer, [text]) == pytest.approx(expected)


def test_bits_a_byte_count_bytes_and_not_characters():
    model = random_model()
    assert evaluate_texts(model, BYTES, ["été"]).size == 6
    assert evaluate_texts(model, BYTES, ["été", "ab"]).size == 9


def test_without_an_end_token_the_first_token_is_not_scored():
    model = random_model(vocab_size=256)
    score = log_likelihoods(model, ByteTokenizer(), ["abc"])[0]
    assert score.ids == list(b"bc")
    assert score.size == 2
    with pytest.raises(EvaluationError, match="1 tokens"):
        log_likelihoods(model, ByteTokenizer(), ["a"])


def test_what_cannot_be_measured_is_said():
    model = random_model()
    with pytest.raises(EvaluationError, match="no text"):
        evaluate_texts(model, BYTES, [])
    with pytest.raises(TypeError, match="in a list"):
        evaluate_texts(model, BYTES, "abc")
    with pytest.raises(EvaluationError, match="stride = 401"):
        evaluate_texts(model, BYTES, ["abc"], stride=401)
    with pytest.raises(ValueError, match="not trained together"):
        evaluate_texts(random_model(vocab_size=100), BYTES, ["abc"])


# -------------------------------------------------------------------------------------------------------------- endings


def test_an_ending_is_scored_without_its_context():
    model = random_model()
    ids = [END_ID, *b"hello world"]
    whole = token_log_probs(model, [ids])[0]
    found = score_endings(model, [(ids, 6)])[0]
    assert found.log_prob == pytest.approx(float(whole[-6:].sum()))


def test_of_a_long_context_the_end_is_kept():
    model = random_model(context_length=8)
    ids = [END_ID, *range(60, 90)]
    expected = sum(alone(model, ids, t, t - 22) for t in (28, 29, 30))
    assert score_endings(model, [(ids, 3)])[0].log_prob == pytest.approx(expected)
    long = score_endings(model, [(ids, 20)])[0].log_prob  # an ending longer than the context is read in windows
    assert math.isfinite(long)


def test_the_seam_belongs_to_the_ending():
    tokenizer = BPETokenizer.train(["there is a cat", "the cat", "a cat"] * 5, vocab_size=265, special_tokens=["<end>"])
    writer = Writer(random_model(vocab_size=tokenizer.vocab_size), tokenizer)
    ids, count = context_and_ending(writer, "a c", "at")
    assert ids == writer.encode("a cat")
    assert tokenizer.decode(ids[-count:]) == " cat"  # no token of "a c" but "a" is one of "a cat"
    ids, count = context_and_ending(writer, "a ", "zoo")  # where the space is a token of its own, it goes along too
    assert tokenizer.decode(ids[-count:]) == " zoo"
    ids, count = context_and_ending(writer, "a ", "cat")
    assert tokenizer.decode(ids[-count:]) == " cat"
    with pytest.raises(EvaluationError, match="at least one token"):
        score_endings(writer.model, [([1, 2], 2)])
