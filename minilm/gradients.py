"""Lesson 00a: gradients. A scalar autograd engine, and back-propagation by hand for the last two steps of every model.

`Scalar` is a number that remembers how it was made; `backward()` then gives the slope of the result with respect to
every number that went into it. Below it stand softmax, cross-entropy and the linear layer on tensors, each with its
backward pass written out, and finite differences to check any of them.

Losses are in nats. Shapes: `batch` examples, `classes` scores each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Scalar:
    """A number that remembers its inputs and how steeply it depends on each of them.

    `edges` holds one pair (input, slope) for each input; slope is the local derivative d self / d input, fixed when the
    number is made. `gradient` is filled by calling `backward()` on the final result; it adds up over calls until it
    is set to 0 again, as in PyTorch. Reverse-mode differentiation: Linnainmaa 1970; Rumelhart, Hinton, Williams 1986.
    """

    def __init__(self, value: float, edges: Iterable[tuple[Scalar, float]] = (), name: str = "") -> None:
        self.value = float(value)
        self.gradient = 0.0
        self.edges = tuple(edges)
        self.depth: int = 1 + max((source.depth for source, _ in self.edges), default=-1)
        self.name = name

    def __add__(self, other: Scalar | float) -> Scalar:
        other = _as_scalar(other)
        return Scalar(self.value + other.value, [(self, 1.0), (other, 1.0)], "+")

    def __mul__(self, other: Scalar | float) -> Scalar:
        other = _as_scalar(other)
        return Scalar(self.value * other.value, [(self, other.value), (other, self.value)], "×")

    def __pow__(self, exponent: float) -> Scalar:
        if not isinstance(exponent, int | float):
            raise TypeError(
                f"the exponent must be a plain number, not {type(exponent).__name__}; use (x.log() * y).exp()"
            )
        if (self.value == 0 and exponent < 1) or (self.value < 0 and exponent != int(exponent)):
            raise ValueError(f"{self.value:g} ** {exponent:g} has no finite value and slope; keep the base above 0")
        return Scalar(self.value**exponent, [(self, exponent * self.value ** (exponent - 1))], f"**{exponent:g}")

    def exp(self) -> Scalar:
        if self.value > 709:
            raise OverflowError(f"exp({self.value:g}) is beyond the largest float; subtract the largest score first")
        result = math.exp(self.value)
        return Scalar(result, [(self, result)], "exp")

    def log(self) -> Scalar:
        if self.value <= 0:
            raise ValueError(f"log({self.value:g}) does not exist; the logarithm needs a number above 0")
        return Scalar(math.log(self.value), [(self, 1 / self.value)], "log")

    def tanh(self) -> Scalar:
        result = math.tanh(self.value)
        return Scalar(result, [(self, 1 - result**2)], "tanh")

    def relu(self) -> Scalar:
        return Scalar(max(self.value, 0.0), [(self, float(self.value > 0))], "relu")

    def __neg__(self) -> Scalar:
        return self * -1

    def __sub__(self, other: Scalar | float) -> Scalar:
        return self + -_as_scalar(other)

    def __truediv__(self, other: Scalar | float) -> Scalar:
        return self * _as_scalar(other) ** -1

    def __rsub__(self, other: float) -> Scalar:
        return _as_scalar(other) - self

    def __rtruediv__(self, other: float) -> Scalar:
        return _as_scalar(other) / self

    __radd__ = __add__
    __rmul__ = __mul__

    def graph(self) -> list[Scalar]:
        """Return this number and all it was made from, each before its own inputs."""
        found, waiting = {self: True}, [self]  # a dict, because it keeps its order from run to run and a set does not
        while waiting:
            for source, _ in waiting.pop().edges:
                if source not in found:
                    found[source] = True
                    waiting.append(source)
        return sorted(found, key=lambda number: -number.depth)  # an input is always less deep than what it makes

    def backward(self) -> None:
        """Add d self / d number to the `gradient` of every number that this one was made from, itself included."""
        arriving = {self: 1.0}
        for number in self.graph():  # all that flows into a number has arrived when its turn comes
            number.gradient += arriving[number]
            for source, slope in number.edges:
                arriving[source] = arriving.get(source, 0.0) + arriving[number] * slope

    def __repr__(self) -> str:
        return f"Scalar({self.value:.4g}, gradient={self.gradient:.4g})"


def _as_scalar(number: Scalar | float) -> Scalar:
    if isinstance(number, Scalar):
        return number
    if isinstance(number, int | float):
        return Scalar(number, name=f"{number:g}")
    raise TypeError(
        f"a Scalar meets only numbers and other Scalars, not {type(number).__name__}; take one entry at a time"
    )


# --- Softmax and cross-entropy -----------------------------------------------------------------------------------------


def log_softmax(logits: Float[Tensor, "... classes"]) -> Float[Tensor, "... classes"]:
    """Return log p with p = exp(logits) / sum(exp(logits)) along the last axis, for logits of any size.

    The largest logit is subtracted first: it cancels in the fraction, and no exponential can overflow any more. A logit
    of -inf gets probability 0; a row of nothing but -inf has no distribution and gives nan, as in PyTorch.
    """
    _require_scores(logits)
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def softmax(logits: Float[Tensor, "... classes"]) -> Float[Tensor, "... classes"]:
    """Turn scores into probabilities along the last axis: exp(logits) / sum(exp(logits)), for logits of any size."""
    _require_scores(logits)
    weights = (logits - logits.amax(dim=-1, keepdim=True)).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


def softmax_backward(
    probabilities: Float[Tensor, "... classes"], grad_output: Float[Tensor, "... classes"]
) -> Float[Tensor, "... classes"]:
    """Return the gradient for the logits, given softmax's output and the gradient that arrives at that output.

    d p_i / d z_j = p_i (1[i = j] - p_j), so the gradient is p * (g - sum(p * g)): what arrives, minus its mean under p.
    """
    if probabilities.shape != grad_output.shape:
        raise ValueError(
            f"grad_output has shape {tuple(grad_output.shape)}, but a gradient has the shape of what it belongs to, "
            f"here {tuple(probabilities.shape)}"
        )
    mean = (probabilities * grad_output).sum(dim=-1, keepdim=True)
    return probabilities * (grad_output - mean)


def cross_entropy(logits: Float[Tensor, "batch classes"], targets: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Return the mean surprise in nats: -log p[target], averaged over the batch.

    Raises ValueError when shapes do not fit, the batch is empty or a target is not one of the classes.
    """
    _require_targets(logits, targets)
    rows = torch.arange(len(targets), device=logits.device)
    return -log_softmax(logits)[rows, targets].mean()


def cross_entropy_backward(
    logits: Float[Tensor, "batch classes"], targets: Int[Tensor, " batch"]
) -> Float[Tensor, "batch classes"]:
    """Return d cross_entropy / d logits = (p - one_hot(target)) / batch. Each row sums to 0."""
    _require_targets(logits, targets)
    gradient = softmax(logits)
    gradient[torch.arange(len(targets), device=logits.device), targets] -= 1
    return gradient / len(targets)


# --- The linear layer --------------------------------------------------------------------------------------------------


def linear(
    x: Float[Tensor, "... inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "... outputs"]:
    """Return x @ weight.T + bias. The weight has a row for each output, as in `torch.nn.Linear`."""
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"x ends in {x.shape[-1]} numbers, but the weight of shape {tuple(weight.shape)} (outputs, inputs) "
            f"takes {weight.shape[1]}; is the weight transposed?"
        )
    output = x @ weight.T
    return output if bias is None else output + bias


def linear_backward(
    x: Float[Tensor, "... inputs"], weight: Float[Tensor, "outputs inputs"], grad_output: Float[Tensor, "... outputs"]
) -> tuple[Float[Tensor, "... inputs"], Float[Tensor, "outputs inputs"], Float[Tensor, " outputs"]]:
    """Return the gradients for x, weight and bias, given the gradient that arrives at the output.

    Each has the shape of what it belongs to. The weight and the bias serve every row of x, so theirs are sums over rows.
    """
    expected = (*x.shape[:-1], weight.shape[0])
    if tuple(grad_output.shape) != expected:
        raise ValueError(f"grad_output has shape {tuple(grad_output.shape)}, but the layer's output has {expected}")
    rows_in = x.reshape(-1, x.shape[-1])  # (rows, inputs)
    rows_out = grad_output.reshape(-1, weight.shape[0])  # (rows, outputs)
    return grad_output @ weight, rows_out.T @ rows_in, rows_out.sum(dim=0)


# --- Checking a gradient -----------------------------------------------------------------------------------------------


def finite_differences(
    function: Callable[[Tensor], Tensor | float], x: Float[Tensor, " ..."], step: float = 1e-5
) -> Float[Tensor, " ..."]:
    """Estimate d function / d x by nudging every entry of x up and down: (f(x + step) - f(x - step)) / (2 step).

    Two calls for each entry, so it is for checking and not for training. The error is about step**2 from the curve and
    1e-16 * |f| / step from rounding, smallest near step 1e-5. x itself is not changed.

    Raises ValueError unless x is float64: in float32 the rounding error alone is a few percent at this step.
    """
    if x.dtype != torch.float64:
        raise ValueError(f"finite differences need float64 to be of any use, got {x.dtype}; pass x.double()")
    if not step > 0:
        raise ValueError(f"step must be above 0, got {step}")
    nudged = x.detach().clone()
    flat, slopes = nudged.view(-1), torch.zeros(x.numel(), dtype=torch.float64)
    with torch.no_grad():
        for index in range(len(flat)):
            centre = flat[index].item()
            flat[index] = centre + step
            above = float(function(nudged))
            flat[index] = centre - step
            below = float(function(nudged))
            flat[index] = centre
            slopes[index] = (above - below) / (2 * step)
    return slopes.view(x.shape)


def assert_gradient(
    function: Callable[[Tensor], Tensor | float],
    x: Float[Tensor, " ..."],
    gradient: Float[Tensor, " ..."],
    tolerance: float = 1e-6,
    step: float = 1e-5,
) -> float:
    """Check a gradient against finite differences and return the largest error, relative to the largest slope.

    Raises AssertionError, with the worst entry and both of its values, when the error is above the tolerance or nan.
    """
    if gradient.shape != x.shape:
        raise AssertionError(
            f"the gradient has shape {tuple(gradient.shape)}, but x has {tuple(x.shape)}: they must be the same"
        )
    measured = finite_differences(function, x, step)
    difference = (gradient.detach().double().cpu() - measured).abs()
    if difference.numel() == 0:
        return 0.0
    error = (difference.max() / measured.abs().max().clamp(min=1e-3)).item()
    if not error <= tolerance:  # written so that nan fails too
        worst = torch.unravel_index(difference.nan_to_num(math.inf).argmax(), x.shape)
        index = tuple(int(i) for i in worst)
        raise AssertionError(
            f"the gradient is wrong at {list(index)}: it says {gradient[index].item():.6g}, nudging says "
            f"{measured[index].item():.6g} (relative error {error:.1e}, allowed {tolerance:.0e})"
        )
    return error


def _require_scores(logits: Tensor) -> None:
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating-point numbers, got {logits.dtype}; use logits.float()")
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(f"logits need at least one class on the last axis, got shape {tuple(logits.shape)}")


def _require_targets(logits: Tensor, targets: Tensor) -> None:
    if logits.ndim != 2 or targets.shape != logits.shape[:1]:
        raise ValueError(
            f"expected logits (batch, classes) and targets (batch,), got {tuple(logits.shape)} and {tuple(targets.shape)}; "
            "flatten longer shapes first: logits.flatten(0, -2), targets.flatten()"
        )
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TypeError(f"targets are class numbers and must be integers, got {targets.dtype}; use targets.long()")
    if len(targets) == 0:
        raise ValueError("the batch is empty, and the mean of nothing is not a number; pass at least one row")
    outside = targets[(targets < 0) | (targets >= logits.shape[1])]
    if len(outside):
        raise ValueError(
            f"target {int(outside[0])} is not among the {logits.shape[1]} classes 0..{logits.shape[1] - 1}"
        )
