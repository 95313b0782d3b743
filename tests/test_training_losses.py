"""Cross-entropy equals PyTorch's, and what PyTorch does not have equals its formula."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.training import IGNORE, cross_entropy, smoothing_floor


def make(shape, vocab, seed, dtype=torch.float64, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(*shape, vocab, generator=generator, dtype=torch.float64) * scale).to(dtype).requires_grad_()
    return logits, torch.randint(vocab, shape, generator=generator)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    vocab=st.integers(2, 40),
    eps=st.sampled_from([0.0, 0.1, 0.7]),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 1000),
)
def test_it_is_pytorchs_with_its_gradient(shape, vocab, eps, reduction, dtype, seed):
    logits, targets = make(shape, vocab, seed, dtype)
    targets.view(-1)[1::3] = IGNORE
    ours = cross_entropy(logits, targets, label_smoothing=eps, reduction=reduction)
    theirs = F.cross_entropy(logits.view(-1, vocab), targets.view(-1), label_smoothing=eps, reduction=reduction).view(
        ours.shape
    )
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn(ours.shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    ours_gradient = torch.autograd.grad((ours * weights).sum(), logits, retain_graph=True)[0]
    theirs_gradient = torch.autograd.grad((theirs * weights).sum(), logits)[0]
    torch.testing.assert_close(ours_gradient, theirs_gradient)


@pytest.mark.parametrize("smoothing", ["uniform", "others"])
@pytest.mark.parametrize(("eps", "z"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.01), (0.1, 0.01)])
def test_every_option_is_its_formula(smoothing, eps, z):
    logits, targets = make((6,), 7, seed=3)
    log_p = logits.log_softmax(-1)
    if smoothing == "uniform":
        wanted = torch.full((6, 7), eps / 7, dtype=torch.float64)
        wanted[torch.arange(6), targets] += 1 - eps
    else:
        wanted = torch.full((6, 7), eps / 6, dtype=torch.float64)
        wanted[torch.arange(6), targets] = 1 - eps
    expected = (-(wanted * log_p).sum(-1) + z * logits.exp().sum(-1).log() ** 2).mean()
    given_ = cross_entropy(logits, targets, label_smoothing=eps, smoothing=smoothing, z_loss=z)
    torch.testing.assert_close(given_, expected)
    ours, theirs = (torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (given_, expected))
    torch.testing.assert_close(ours, theirs)


def test_several_ids_are_ignored_and_leave_no_gradient():
    logits, targets = make((8,), 5, seed=0)
    targets[:] = torch.tensor([0, 1, 2, 3, 4, -1, 2, 0])
    loss = cross_entropy(logits, targets, ignore_index=(-1, 2, 0))
    torch.testing.assert_close(loss, F.cross_entropy(logits[[1, 3, 4]], targets[[1, 3, 4]]))
    gradient = torch.autograd.grad(loss, logits)[0]
    assert gradient[[0, 2, 5, 6, 7]].abs().max() == 0
    assert gradient[[1, 3, 4]].abs().amin() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_logits_neither_overflow_nor_vanish(dtype):
    logits = torch.tensor([[10_000.0, 0.0], [-10_000.0, 0.0], [0.0, -10_000.0]], dtype=dtype)
    losses = cross_entropy(logits, torch.tensor([0, 1, 1]), reduction="none")
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, logits.new_tensor([0.0, 0.0, 10_000.0]).float(), atol=40, rtol=0)


def test_half_precision_logits_are_summed_in_float32():
    logits, targets = make((64,), 4000, seed=0, dtype=torch.bfloat16)
    expected = F.cross_entropy(logits.detach().double(), targets)
    torch.testing.assert_close(cross_entropy(logits, targets).double(), expected, atol=1e-5, rtol=0)


def test_the_mean_of_nothing_is_nan_as_in_pytorch():
    logits = torch.zeros(2, 3)
    targets = torch.full((2,), IGNORE)
    assert math.isnan(cross_entropy(logits, targets))
    assert cross_entropy(logits, targets, reduction="sum") == 0


@pytest.mark.parametrize("smoothing", ["uniform", "others"])
@pytest.mark.parametrize("vocab", [5, 3500])
def test_the_floor_of_smoothing_is_the_lowest_loss_there_is(vocab, smoothing):
    eps = 0.1
    others = eps / vocab if smoothing == "uniform" else eps / (vocab - 1)
    p = torch.full((vocab,), others, dtype=torch.float64)
    p[1] = 1 - others * (vocab - 1)
    best = cross_entropy(p.log()[None], torch.tensor([1]), label_smoothing=eps, smoothing=smoothing)
    assert float(best) == pytest.approx(smoothing_floor(vocab, eps, smoothing))
    worse = (p.log() + torch.linspace(0, 0.1, vocab, dtype=torch.float64))[None]
    assert cross_entropy(worse, torch.tensor([1]), label_smoothing=eps, smoothing=smoothing) > best
    if (vocab, smoothing) == (3500, "others"):  # what dlib's byte-pair model cannot go below
        assert float(best) == pytest.approx(1.14, abs=0.005)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"targets": torch.tensor([0, 7])}, "target 7 is off the vocabulary of 7"),
        ({"targets": torch.tensor([0, -1])}, "target -1 is off the vocabulary"),
        ({"targets": torch.zeros(3, dtype=torch.long)}, r"targets \[3\] do not fit"),
        ({"label_smoothing": 1.0}, "label_smoothing = 1.0"),
        ({"smoothing": "dlib"}, "choose 'uniform'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, words):
    values = {"logits": torch.zeros(2, 7), "targets": torch.zeros(2, dtype=torch.long)} | change
    with pytest.raises(ValueError, match=words):
        cross_entropy(**values)
