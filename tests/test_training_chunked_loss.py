"""A loss computed a few positions at a time is the whole loss, with its gradients, and holds far fewer numbers."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from minilm.training import IGNORE, Trainer, cross_entropy, linear_cross_entropy
from tests.training_samples import VOCAB, tiny_batches, tiny_config, tiny_model


def make(shape, vocab, dim, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    hidden, weight, bias = (
        torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for size in ((*shape, dim), (vocab, dim), (vocab,))
    )
    return hidden, weight, bias, torch.randint(vocab, shape, generator=generator)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    vocab=st.integers(2, 20),
    chunk=st.integers(1, 40),
    eps=st.sampled_from([0.0, 0.1]),
    smoothing=st.sampled_from(["uniform", "others"]),
    z_loss=st.sampled_from([0.0, 0.01]),
    with_bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_it_is_the_whole_loss_with_its_gradients(shape, vocab, chunk, eps, smoothing, z_loss, with_bias, seed):
    hidden, weight, bias, targets = make(shape, vocab, dim=3, seed=seed)
    targets.view(-1)[1::3] = IGNORE
    options = {"label_smoothing": eps, "smoothing": smoothing, "z_loss": z_loss}
    learned = [hidden, weight] + ([bias] if with_bias else [])
    ours = linear_cross_entropy(hidden, weight, targets, bias if with_bias else None, chunk=chunk, **options)
    whole = cross_entropy(F.linear(hidden, weight, bias if with_bias else None), targets, **options)
    torch.testing.assert_close(ours, whole)
    gradients = [torch.autograd.grad(3 * loss, learned) for loss in (ours, whole)]
    torch.testing.assert_close(*gradients)


def test_what_is_frozen_gets_no_gradient():
    hidden, weight, bias, targets = make((4, 5), 7, dim=3)
    loss = linear_cross_entropy(hidden, weight.detach(), targets, bias.detach())
    torch.testing.assert_close(
        torch.autograd.grad(loss, hidden),
        torch.autograd.grad(cross_entropy(F.linear(hidden, weight, bias), targets), hidden),
    )
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy(hidden, weight, targets, bias), loss)


@pytest.mark.parametrize("half", ["autocast", "weights"])
def test_half_precision(half):
    hidden, weight, _, targets = make((64,), 50, dim=16, dtype=torch.float32 if half == "autocast" else torch.bfloat16)
    context = torch.autocast("cpu", torch.bfloat16) if half == "autocast" else contextlib.nullcontext()
    with context:
        ours = linear_cross_entropy(hidden, weight, targets, chunk=10)
        whole = cross_entropy(F.linear(hidden, weight), targets)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, whole)  # the same rounded logits
    for one, other in zip(*(torch.autograd.grad(loss, [hidden, weight]) for loss in (ours, whole)), strict=True):
        assert one.dtype == hidden.dtype
        assert (one - other).float().norm() < 0.01 * other.float().norm()


class Largest(TorchDispatchMode):
    """The most numbers that any operation gave at once."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


def test_all_logits_are_never_there():
    hidden, weight, _, targets = make((100,), 60, dim=4)
    with Largest() as seen:
        linear_cross_entropy(hidden, weight, targets, chunk=7).backward()
    assert seen.numbers == 7 * 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk": 0}, "chunk = 0"),
        ({"label_smoothing": 1.0}, "label_smoothing = 1.0"),
        ({"targets": torch.zeros(3, 5, dtype=torch.long)}, r"logits \[4, 5, 7\] and targets \[3, 5\] do not fit"),
        ({"targets": torch.full((4, 5), 7)}, "target 7 is off the vocabulary of 7"),
    ],
)
def test_bad_input_is_refused(changes, message):
    hidden, weight, _, targets = make((4, 5), 7, dim=3)
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(hidden, weight, **({"targets": targets} | changes))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "bfloat16-weights"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_run_is_the_same(precision, tied):
    curves = []
    for chunk in (None, 5):
        model = tiny_model(head={"tied": tied, "bias": True})
        config = tiny_config(12, loss_chunk=chunk, precision=precision, z_loss=0.01, label_smoothing=0.1)
        curves.append([record.loss for record in Trainer(model, tiny_batches(), config).train()])
    assert curves[1] == pytest.approx(curves[0], rel=1e-5 if precision == "float32" else 0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": cross_entropy}, "a loss of its own"),
        ({"head": {"kind": "flat", "tied": False}}, "FlatHead"),
    ],
)
def test_a_run_whose_loss_cannot_be_taken_apart_is_refused(options, message):
    model = tiny_model(**({"head": options.pop("head")} if "head" in options else {}))
    assert model.config.vocab_size == VOCAB
    with pytest.raises(ValueError, match=message):
        Trainer(model, tiny_batches(), tiny_config(loss_chunk=4), **options)
