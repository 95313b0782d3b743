"""SGD, Adam and AdamW make PyTorch's steps; decay is for matrices; clipping keeps the direction."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from minilm.model import LanguageModel
from minilm.training import SGD, Adam, AdamW, ExponentialMovingAverage, clip_gradients, gradient_norm, parameter_groups

PAIRS = {
    "sgd": (SGD, torch.optim.SGD, {}),
    "sgd with decay": (SGD, torch.optim.SGD, {"weight_decay": 0.1}),
    "momentum": (SGD, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (Adam, torch.optim.Adam, {"betas": (0.9, 0.95), "eps": 1e-6}),
    "adam with L2": (Adam, torch.optim.Adam, {"weight_decay": 0.1}),
    "adamw": (AdamW, torch.optim.AdamW, {}),
    "adamw of today": (AdamW, torch.optim.AdamW, {"betas": (0.9, 0.95), "weight_decay": 0.1, "eps": 1e-8}),
}


def train(make_optimizer, shapes, dtype, steps, lr, options, seed, skip):
    """Weights after some steps on gradients from a seed; a parameter has no gradient where `skip` says so."""
    generator = torch.Generator().manual_seed(seed)
    weights = [nn.Parameter(torch.randn(tuple(shape), dtype=dtype, generator=generator)) for shape in shapes]
    groups = [{"params": weights[::2]}, {"params": weights[1::2], "lr": lr / 3}] if len(weights) > 1 else weights
    optimizer = make_optimizer(groups, lr=lr, **options)
    for step in range(steps):
        for i, weight in enumerate(weights):
            gradient = torch.randn(weight.shape, dtype=dtype, generator=generator) * 10.0 ** (step % 3 - 1)
            weight.grad = None if (step + i) % skip == 0 else gradient
        optimizer.step()
    return weights


@settings(max_examples=80, deadline=None)
@given(
    name=st.sampled_from(sorted(PAIRS)),
    shapes=st.lists(st.lists(st.integers(1, 6), min_size=0, max_size=3), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    lr=st.sampled_from([1e-4, 3e-3, 0.1]),
    skip=st.sampled_from([3, 1000]),
    seed=st.integers(0, 10_000),
)
def test_the_steps_are_pytorchs(name, shapes, dtype, lr, skip, seed):
    ours, theirs, options = PAIRS[name]
    both = [train(optimizer, shapes, dtype, 12, lr, options, seed, skip) for optimizer in (ours, theirs)]
    tolerance = {"atol": 1e-14, "rtol": 1e-12} if dtype == torch.float64 else {}
    torch.testing.assert_close(*both, **tolerance)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_a_whole_model_trains_alike(name):
    ours, theirs, options = PAIRS[name]
    losses = []
    for optimizer_class in (ours, theirs):
        torch.manual_seed(0)
        model = LanguageModel.from_preset(
            "slim", vocab_size=30, dim=16, num_layers=1, attention={"num_heads": 2}, feed_forward={"hidden": 16}
        ).double()
        optimizer = optimizer_class(parameter_groups(model, options.get("weight_decay", 0.0)), lr=0.01, **options)
        ids = torch.randint(30, (4, 12))
        for _ in range(8):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
            loss.backward()
            optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_a_saved_state_goes_on_as_if_it_had_not_stopped(name):
    optimizer_class, _, options = PAIRS[name]

    def run(stop_at):
        generator = torch.Generator().manual_seed(0)
        weight = nn.Parameter(torch.ones(3, 2))
        optimizer = optimizer_class([weight], lr=0.1, **options)
        for step in range(6):
            if step == stop_at:
                state, optimizer = optimizer.state_dict(), optimizer_class([weight], lr=0.5)
                optimizer.load_state_dict(state)
            weight.grad = torch.randn(3, 2, generator=generator)
            optimizer.step()
        return weight

    assert torch.equal(run(stop_at=3), run(stop_at=None))


def test_adamw_decays_without_a_gradients_help_and_adam_does_not():
    for optimizer_class, expected in ((AdamW, 1 - 0.1 * 0.5), (Adam, 1 - 0.1)):
        weight = nn.Parameter(torch.ones(4))
        weight.grad = torch.zeros(4)
        optimizer_class([weight], lr=0.1, weight_decay=0.5).step()
        torch.testing.assert_close(weight.detach(), torch.full((4,), expected))


def test_a_closure_is_evaluated_with_gradients():
    weight = nn.Parameter(torch.ones(1))
    optimizer = SGD([weight], lr=0.1)

    def closure():
        loss = (weight**2).sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 1.0
    assert float(weight.detach()) == pytest.approx(0.8)


def test_training_does_not_wait_for_pytorchs_compiler():
    """Two seconds at the first optimizer of every process: so long does importing it take."""
    program = (
        "import sys, torch; from minilm.training import AdamW\n"
        "weight = torch.nn.Parameter(torch.ones(2)); optimizer = AdamW([weight]); weight.sum().backward()\n"
        "optimizer.step(); optimizer.zero_grad(); optimizer.load_state_dict(optimizer.state_dict())\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("preset", ["slim", "mnemos", "dlib-bpe", "stlm-shared"])
def test_matrices_decay_and_vectors_do_not(preset):
    with torch.device("meta"):
        model = LanguageModel.from_preset(preset, num_layers=2)
    decayed, spared = parameter_groups(model, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert spared["weight_decay"] == 0.0
    assert all(p.dim() >= 2 for p in decayed["params"])
    assert all(p.dim() < 2 for p in spared["params"])
    grouped = [*decayed["params"], *spared["params"]]
    assert len({id(p) for p in grouped}) == len(grouped) == len(list(model.parameters()))  # tied tables once
    gains = [p for name, p in model.named_parameters() if "norm" in name or name.endswith("bias")]
    assert {id(p) for p in gains} <= {id(p) for p in spared["params"]}


def test_clipping_scales_everything_by_one_factor_and_tells_the_norm_before():
    weights = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1))]
    weights[0].grad, weights[1].grad = torch.tensor([3.0, 0, 0]), torch.full((2, 2), 2.0)
    before = [w.grad.clone() for w in weights[:2]]
    assert clip_gradients(weights, 1.0) == pytest.approx(5.0)
    for weight, gradient in zip(weights, before, strict=False):
        torch.testing.assert_close(weight.grad, gradient / 5)
    assert clip_gradients(weights, 1.5) == pytest.approx(1.0)  # short enough: left alone
    torch.testing.assert_close(weights[0].grad, before[0] / 5)
    assert clip_gradients(weights, None) == pytest.approx(1.0)
    theirs = torch.nn.utils.clip_grad_norm_(weights, 0.25)
    assert float(theirs) == pytest.approx(1.0)
    assert float(gradient_norm(weights)) == pytest.approx(0.25, rel=1e-5)


def test_gradients_that_are_not_finite_are_left_for_the_eye():
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([float("inf"), 1.0])
    assert clip_gradients([weight], 1.0) == float("inf")
    assert weight.grad[1] == 1.0


def test_the_average_follows_its_formula_and_lends_itself():
    model = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    average, expected = ExponentialMovingAverage(model, 0.5), torch.zeros(1, 2)
    for step in range(1, 6):
        nn.init.constant_(model.weight, float(step))
        average.update(model)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    torch.testing.assert_close(average.averages["weight"], expected)
    with average.applied(model):
        torch.testing.assert_close(model.weight.detach(), expected)
    torch.testing.assert_close(model.weight.detach(), torch.full((1, 2), 5.0))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda w: SGD([w], lr=-1.0), "lr = -1.0"),
        (lambda w: SGD([w], nesterov=True), "momentum=0.9"),
        (lambda w: AdamW([w], betas=(0.9, 1.0)), "betas"),
        (lambda w: ExponentialMovingAverage(nn.Linear(1, 1), 1.0), "decay = 1.0"),
    ],
)
def test_impossible_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make(nn.Parameter(torch.ones(1)))
