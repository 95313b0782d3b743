"""Lesson 00a: our gradients equal PyTorch's and finite differences, on any graph, at any size of the logits."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm import gradients
from minilm.gradients import Scalar

# --- The scalar engine against torch.autograd on random graphs ---------------------------------------------------------

# Every step is written for Scalars and tensors alike, and keeps numbers in a range where neither overflows.
STEPS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a.tanh() * b,
    "divide": lambda a, b: a / (b * b + 1),
    "power": lambda a, b: (a.tanh()) ** 3 + b,
    "root": lambda a, b: (a * a + 0.5) ** 0.5,
    "exp": lambda a, b: a.tanh().exp(),
    "log": lambda a, b: (b * b + 0.1).log(),
    "relu": lambda a, b: a.relu() * 0.5 + b * 0.1,
    "numbers": lambda a, b: 2 - (1.5 + a) * -0.5 + 3 / (b * b + 2),
}


@st.composite
def programs(draw):
    leaves = draw(st.lists(st.floats(-2, 2).map(lambda x: round(x, 3)), min_size=1, max_size=4))
    steps = []
    for count in range(len(leaves), len(leaves) + draw(st.integers(1, 12))):
        earlier = st.integers(0, count - 1)
        steps.append((draw(st.sampled_from(sorted(STEPS))), draw(earlier), draw(earlier)))
    return leaves, steps


def run(leaves, steps):
    numbers = list(leaves)
    for step, i, j in steps:
        numbers.append(STEPS[step](numbers[i], numbers[j]))
    return numbers


@settings(max_examples=200, deadline=None)
@given(programs())
def test_random_graphs_equal_torch(program):
    leaves, steps = program
    ours = run([Scalar(x) for x in leaves], steps)
    theirs = run([torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in leaves], steps)
    for number in theirs[len(leaves) :]:
        number.retain_grad()
    ours[-1].backward()
    theirs[-1].backward()
    for mine, theirs_ in zip(ours, theirs, strict=True):
        assert math.isclose(mine.value, theirs_.item(), rel_tol=1e-9, abs_tol=1e-12)
        expected = 0.0 if theirs_.grad is None else theirs_.grad.item()
        assert math.isclose(mine.gradient, expected, rel_tol=1e-9, abs_tol=1e-12)


def test_diamond_adds_up_over_paths():
    x = Scalar(3.0)
    left, right = x * 2, x * x
    (left + right).backward()
    assert (x.gradient, left.gradient, right.gradient) == (2 + 2 * 3.0, 1.0, 1.0)


def test_same_number_twice_in_one_step():
    x = Scalar(5.0)
    (x + x).backward()
    assert x.gradient == 2.0
    y = Scalar(5.0)
    (y * y).backward()
    assert y.gradient == 10.0


def test_paths_of_unequal_length_wait_for_each_other():
    # b is reached from the result at once, but the longer way round through c and d also leads to it.
    a = Scalar(2.0)
    b = a * 3
    c = b * b
    d = c * 1.5
    (d + b).backward()
    assert b.gradient == 1.5 * 2 * 6 + 1
    assert a.gradient == 3 * b.gradient


def test_a_ladder_of_diamonds_takes_one_visit_each():
    number = start = Scalar(1.0)
    for _ in range(200):  # 2 ** 200 paths
        number = number + number
    number.backward()
    assert start.gradient == 2.0**200


def test_deep_graphs_do_not_exhaust_the_stack():
    number = start = Scalar(0.0)
    for _ in range(20_000):
        number = number + 0.001
    number.backward()
    assert start.gradient == 1.0


def test_every_number_comes_before_its_inputs():
    x = Scalar(1.0)
    result = ((x * 2).exp() + x).tanh() * x
    order = result.graph()
    position = {number: i for i, number in enumerate(order)}
    assert order[0] is result
    assert all(position[number] < position[source] for number in order for source, _ in number.edges)


def test_gradients_add_up_over_calls_as_in_torch():
    x, t = Scalar(3.0), torch.tensor(3.0, requires_grad=True)
    for _ in range(2):
        (x * x).backward()
        (t * t).backward()
    assert x.gradient == t.grad.item() == 12.0
    y = x * x  # twice on one graph: every number in it doubles, none is counted four times
    x.gradient = 0.0
    y.backward()
    y.backward()
    assert (x.gradient, y.gradient) == (12.0, 2.0)


def test_numbers_off_the_path_get_nothing():
    x, unused = Scalar(1.0), Scalar(2.0)
    unused * x
    (x * 3).backward()
    assert unused.gradient == 0.0


def test_scalar_reads_well():
    x = Scalar(2)
    (x * 0.5).backward()
    assert repr(x) == "Scalar(2, gradient=0.5)"


@pytest.mark.parametrize(
    ("mistake", "error", "message"),
    [
        (lambda x: x.log(), ValueError, "log(-2) does not exist"),
        (lambda x: (x + 2).log(), ValueError, "above 0"),
        (lambda x: x**0.5, ValueError, "-2 ** 0.5"),
        (lambda x: 1 / (x + 2), ValueError, "0 ** -1"),
        (lambda x: (x * -500).exp(), OverflowError, "subtract the largest score"),
        (lambda x: x * "3", TypeError, "not str"),
        (lambda x: x * [1.0], TypeError, "not list"),
        (lambda x: x + torch.ones(2), TypeError, "not Tensor"),
        (lambda x: (x * x) ** x, TypeError, "plain number"),
    ],
)
def test_scalar_mistakes_are_named(mistake, error, message):
    with pytest.raises(error) as caught:
        mistake(Scalar(-2.0))
    assert message in str(caught.value)


# --- Softmax and cross-entropy -----------------------------------------------------------------------------------------


def random_batch(seed, rows=7, classes=5, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64) * scale
    return logits, torch.randint(classes, (rows,), generator=generator)


@pytest.mark.parametrize("shape", [(3,), (4, 5), (2, 3, 4), (2, 1), (0, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_softmax_equals_torch(shape, dtype):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul(4).to(dtype)
    tolerance = {"rtol": 2e-2, "atol": 2e-2} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(gradients.softmax(logits), torch.softmax(logits, -1), **tolerance)
    torch.testing.assert_close(gradients.log_softmax(logits), torch.log_softmax(logits, -1), **tolerance)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8), st.floats(-1e4, 1e4))
def test_softmax_is_a_distribution_that_no_shift_changes(logits, shift):
    logits = torch.tensor(logits, dtype=torch.float64)
    probabilities = gradients.softmax(logits)
    assert (probabilities >= 0).all()
    assert abs(probabilities.sum().item() - 1) < 1e-12
    torch.testing.assert_close(gradients.softmax(logits + shift), probabilities, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(gradients.log_softmax(logits).exp(), probabilities)


EXTREME = {
    "huge": [1e4, 0.0, -1e4],
    "largest float": [3e38, -3e38, 3e38],
    "all equal and huge": [1e30, 1e30, 1e30],
    "all very negative": [-1e4, -1e4 - 1, -1e4 - 2],
    "a masked class": [0.0, -math.inf, 1.0],
    "one class left": [-math.inf, -5.0, -math.inf],
}


@pytest.mark.parametrize("logits", EXTREME.values(), ids=EXTREME)
def test_extreme_logits_stay_finite_and_equal_torch(logits):
    row = torch.tensor([logits])
    target = row.argmax(dim=-1)
    torch.testing.assert_close(gradients.softmax(row), torch.softmax(row, -1))
    assert gradients.softmax(row).isfinite().all()
    torch.testing.assert_close(gradients.log_softmax(row), torch.log_softmax(row, -1))
    torch.testing.assert_close(gradients.cross_entropy(row, target), F.cross_entropy(row, target))
    leaf = row.clone().requires_grad_()
    F.cross_entropy(leaf, target).backward()
    torch.testing.assert_close(gradients.cross_entropy_backward(row, target), leaf.grad)


def test_a_sure_mistake_costs_its_whole_distance():
    # -log(softmax) would be inf here: the probability of the target is far below the smallest float.
    loss = gradients.cross_entropy(torch.tensor([[0.0, 1000.0]]), torch.tensor([0]))
    assert loss.item() == 1000.0


@pytest.mark.parametrize("seed", range(5))
def test_cross_entropy_and_gradient_equal_torch(seed):
    logits, targets = random_batch(seed)
    leaf = logits.clone().requires_grad_()
    theirs = F.cross_entropy(leaf, targets)
    theirs.backward()
    before = logits.clone()
    torch.testing.assert_close(gradients.cross_entropy(logits, targets), theirs.detach())
    ours = gradients.cross_entropy_backward(logits, targets)
    torch.testing.assert_close(ours, leaf.grad)
    assert gradients.assert_gradient(lambda z: gradients.cross_entropy(z, targets), logits, ours) < 1e-8
    torch.testing.assert_close(ours.sum(dim=-1), torch.zeros(len(targets), dtype=torch.float64))
    assert torch.equal(logits, before)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 4)])
def test_softmax_backward_equals_torch_and_nudging(shape):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    arriving = torch.randn(shape, generator=generator, dtype=torch.float64)
    leaf = logits.clone().requires_grad_()
    torch.softmax(leaf, -1).backward(arriving)
    ours = gradients.softmax_backward(gradients.softmax(logits), arriving)
    torch.testing.assert_close(ours, leaf.grad)
    gradients.assert_gradient(lambda z: (gradients.softmax(z) * arriving).sum(), logits, ours)


def test_the_two_ways_to_the_logits_agree():
    logits, targets = random_batch(3)
    probabilities = gradients.softmax(logits)
    arriving = torch.zeros_like(logits)  # d mean(-log p[target]) / d p
    rows = torch.arange(len(targets))
    arriving[rows, targets] = -1 / (probabilities[rows, targets] * len(targets))
    torch.testing.assert_close(
        gradients.softmax_backward(probabilities, arriving), gradients.cross_entropy_backward(logits, targets)
    )


def test_the_engine_finds_the_same_gradient_one_number_at_a_time():
    logits, targets = random_batch(4, rows=3, classes=4)
    scalars = [[Scalar(z) for z in row] for row in logits.tolist()]
    losses = [
        sum(z.exp() for z in row).log() - row[target] for row, target in zip(scalars, targets.tolist(), strict=True)
    ]
    loss = sum(losses) / len(losses)
    loss.backward()
    assert math.isclose(loss.value, gradients.cross_entropy(logits, targets).item(), rel_tol=1e-12)
    by_hand = gradients.cross_entropy_backward(logits, targets)
    torch.testing.assert_close(torch.tensor([[z.gradient for z in row] for row in scalars]).double(), by_hand)


# --- The linear layer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leading", [(), (1,), (6,), (2, 3)])
@pytest.mark.parametrize("sizes", [(4, 3), (3, 3), (1, 5)])
def test_linear_equals_torch_and_nudging(leading, sizes):
    inputs, outputs = sizes
    generator = torch.Generator().manual_seed(2)

    def leaf(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)

    x, weight, bias = leaf(*leading, inputs), leaf(outputs, inputs), leaf(outputs)
    arriving = leaf(*leading, outputs).detach()
    theirs = F.linear(x, weight, bias)
    theirs.backward(arriving)
    ours = gradients.linear_backward(x.detach(), weight.detach(), arriving)
    torch.testing.assert_close(gradients.linear(x, weight, bias), theirs)
    torch.testing.assert_close(gradients.linear(x, weight), F.linear(x, weight))
    for leaf_, gradient in zip((x, weight, bias), ours, strict=True):
        assert gradient.shape == leaf_.shape
        torch.testing.assert_close(gradient, leaf_.grad)
    gradients.assert_gradient(lambda w: (F.linear(x.detach(), w) * arriving).sum(), weight.detach(), ours[1])


# --- Finite differences ------------------------------------------------------------------------------------------------


def test_finite_differences_of_known_slopes():
    x = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    before = x.clone()
    slopes = gradients.finite_differences(lambda v: (v**3).sum(), x)
    torch.testing.assert_close(slopes, 3 * x**2, rtol=1e-8, atol=1e-8)
    assert torch.equal(x, before)
    away = gradients.finite_differences(lambda v: (v - x).sum(), x)  # x keeps still while its copy is nudged
    torch.testing.assert_close(away, torch.ones_like(x))
    assert gradients.finite_differences(lambda v: v * 4, torch.tensor(2.0).double()).item() == pytest.approx(4)


def test_assert_gradient_names_the_worst_entry():
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    wrong = 2 * x
    wrong[1] += 0.5
    with pytest.raises(AssertionError, match=r"wrong at \[1\]: it says 4.5, nudging says 4"):
        gradients.assert_gradient(lambda v: (v * v).sum(), x, wrong)
    with pytest.raises(AssertionError, match="must be the same"):
        gradients.assert_gradient(lambda v: (v * v).sum(), x, torch.zeros(3, 1))
    with pytest.raises(AssertionError, match=r"wrong at \[2\]"):
        gradients.assert_gradient(lambda v: (v * v).sum(), x, torch.tensor([2.0, 4.0, math.nan]))
    assert gradients.assert_gradient(lambda v: v.sum(), torch.zeros(0).double(), torch.zeros(0)) == 0


def test_assert_gradient_of_a_flat_function():
    x = torch.ones(3, dtype=torch.float64)
    assert gradients.assert_gradient(lambda v: torch.tensor(1.0), x, torch.zeros(3)) == 0
    with pytest.raises(AssertionError):
        gradients.assert_gradient(lambda v: torch.tensor(1.0), x, torch.full((3,), 0.01))


# --- Bad input ---------------------------------------------------------------------------------------------------------

LOGITS = torch.zeros(2, 3)
MISTAKES = {
    "integer logits": (lambda: gradients.softmax(torch.zeros(2, 3, dtype=torch.long)), TypeError, "logits.float()"),
    "no classes": (lambda: gradients.softmax(torch.zeros(2, 0)), ValueError, "(2, 0)"),
    "a single number": (lambda: gradients.log_softmax(torch.tensor(1.0)), ValueError, "at least one class"),
    "target too large": (
        lambda: gradients.cross_entropy(LOGITS, torch.tensor([0, 3])),
        ValueError,
        "target 3 is not among the 3 classes 0..2",
    ),
    "negative target": (
        lambda: gradients.cross_entropy_backward(LOGITS, torch.tensor([-1, 0])),
        ValueError,
        "target -1",
    ),
    "float targets": (lambda: gradients.cross_entropy(LOGITS, torch.zeros(2)), TypeError, "targets.long()"),
    "unequal batch": (lambda: gradients.cross_entropy(LOGITS, torch.tensor([0])), ValueError, "(2, 3) and (1,)"),
    "three axes": (
        lambda: gradients.cross_entropy(torch.zeros(1, 2, 3), torch.zeros(1, 2).long()),
        ValueError,
        "flatten",
    ),
    "empty batch": (
        lambda: gradients.cross_entropy(torch.zeros(0, 3), torch.zeros(0).long()),
        ValueError,
        "the batch is empty",
    ),
    "softmax shapes": (lambda: gradients.softmax_backward(LOGITS, torch.zeros(3, 2)), ValueError, "(3, 2)"),
    "transposed weight": (lambda: gradients.linear(torch.zeros(5, 3), torch.zeros(3, 4)), ValueError, "transposed"),
    "linear shapes": (
        lambda: gradients.linear_backward(torch.zeros(5, 3), torch.zeros(4, 3), torch.zeros(5, 3)),
        ValueError,
        "(5, 4)",
    ),
    "float32 nudges": (lambda: gradients.finite_differences(torch.sum, torch.zeros(2)), ValueError, "x.double()"),
    "no step": (
        lambda: gradients.finite_differences(torch.sum, torch.zeros(2).double(), step=0),
        ValueError,
        "above 0",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named_with_the_remedy(name):
    mistake, error, message = MISTAKES[name]
    with pytest.raises(error) as caught:
        mistake()
    assert message in str(caught.value)
