"""Scaling laws: how the loss falls with parameters, tokens and compute, and where it would end.

    L(N, D) = E + A / N**alpha + B / D**beta          (Hoffmann et al. 2022, "Chinchilla")

E is the loss that no size and no data can remove: the entropy of the text, as far as the fit can tell. Usually nobody can check
that. On stories whose entropy is known, one can.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from minilm.evaluation.likelihood import EvaluationError

Array = npt.NDArray[np.float64]
HUBER = 1e-3  # residuals of log loss beyond this count linearly (Hoffmann et al.'s delta)


@dataclass(frozen=True)
class PowerLaw:
    """A law L = E + sum over x of (scale / x)**exponent, fitted: `terms` gives (coefficient, exponent) by the name of x.

    The coefficient is A of A / x**alpha. `runs` are bootstrap fits of the same law, from runs drawn with replacement.
    """

    irreducible: float
    terms: Mapping[str, tuple[float, float]]
    residual: float  # root mean square of log(L) - log(law), over the runs fitted
    runs: Sequence["PowerLaw"] = field(default=(), repr=False)

    def __call__(self, **x: float | Array) -> Array:
        """The law's loss at some x, one keyword for each term, numbers or arrays."""
        if set(x) != set(self.terms):
            raise EvaluationError(f"this law wants {', '.join(self.terms)}; it got {', '.join(x) or 'nothing'}")
        total = np.asarray(self.irreducible, dtype=float)
        for name, (coefficient, exponent) in self.terms.items():
            total = total + coefficient * np.asarray(x[name], dtype=float) ** -exponent
        return total

    def interval(self, what: str = "irreducible", level: float = 0.95) -> tuple[float, float]:
        """The bootstrap interval of the irreducible loss, or of the exponent of a term by its name."""
        if not self.runs:
            raise EvaluationError("this fit has no bootstrap: pass bootstrap=200 to fit_power_law")
        values = [law.irreducible if what == "irreducible" else law.terms[what][1] for law in self.runs]
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def band(self, level: float = 0.95, **x: float | Array) -> tuple[Array, Array]:
        """The bootstrap interval of the law's own loss at some x: of the fit, not of a new run."""
        if not self.runs:
            raise EvaluationError("this fit has no bootstrap: pass bootstrap=200 to fit_power_law")
        values = np.stack([law(**x) for law in self.runs])
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high

    def __str__(self) -> str:
        parts = [f"{self.irreducible:.4g}"]
        parts += [f"{a:.4g} / {name}^{exponent:.3f}" for name, (a, exponent) in self.terms.items()]
        return "L = " + " + ".join(parts)


def fit_power_law(
    loss: Sequence[float] | Array,
    *,
    irreducible: float | None = None,
    bootstrap: int = 0,
    seed: int = 0,
    delta: float = HUBER,
    **x: Sequence[float] | Array,
) -> PowerLaw:
    """Fit L = E + sum of coefficient / x**exponent to the losses of some runs; one keyword of positive numbers for each x.

        fit_power_law(losses, parameters=N, tokens=D)     E + A / N^alpha + B / D^beta
        fit_power_law(losses, compute=C)                  E + A / C^alpha

    As Hoffmann et al. (2022) do, the sum of Huber losses of the residuals of log L is minimised from a grid of starts, over log E,
    log A and alpha, so that all stay positive and one odd run can't bend the law. The minimiser is Levenberg and Marquardt's on
    reweighted squares.
    `irreducible` fixes E (0 for a bare power law). `bootstrap` refits that many times to runs drawn with replacement.

    Raises EvaluationError for fewer runs than numbers to fit, for an x that takes fewer than two values (three, if E is free and it
    is the only x), and for losses or x that aren't positive.
    """
    target, inputs = _checked(loss, x, irreducible)
    log_x = np.stack([np.log(values) for values in inputs.values()])
    parameters = _best(np.log(target), log_x, irreducible, delta, _starts(target, log_x, irreducible))
    law = _law(parameters, list(inputs), irreducible, np.log(target), log_x)
    if not bootstrap:
        return law
    rng = np.random.default_rng(seed)
    runs: list[PowerLaw] = []
    while len(runs) < bootstrap:
        drawn = rng.integers(len(target), size=len(target))
        try:
            _checked(target[drawn], {name: values[drawn] for name, values in inputs.items()}, irreducible)
        except EvaluationError:  # a draw that holds one value of an x only says nothing about it
            continue
        again = _best(np.log(target[drawn]), log_x[:, drawn], irreducible, delta, [parameters])
        runs.append(_law(again, list(inputs), irreducible, np.log(target[drawn]), log_x[:, drawn]))
    return replace(law, runs=tuple(runs))


def compute_frontier(compute: Sequence[float] | Array, loss: Sequence[float] | Array) -> list[int]:
    """The runs that no cheaper run beats, cheapest first: what a given compute can buy, as far as these runs tell.

    A law of compute alone holds for these; the others are of a size that doesn't fit their budget.
    """
    losses = np.asarray(loss, dtype=float)
    best, found = math.inf, []
    for run in np.lexsort((losses, np.asarray(compute, dtype=float))).tolist():
        if losses[run] < best:
            best = float(losses[run])
            found.append(run)
    return found


def _checked(
    loss: Sequence[float] | Array, x: Mapping[str, Sequence[float] | Array], irreducible: float | None
) -> tuple[Array, dict[str, Array]]:
    if not x:
        raise EvaluationError("say what the loss depends on: fit_power_law(losses, parameters=[...], tokens=[...])")
    target = np.asarray(loss, dtype=float)
    inputs = {name: np.asarray(values, dtype=float) for name, values in x.items()}
    for name, values in {"loss": target, **inputs}.items():
        if values.shape != target.shape or target.ndim != 1:
            raise EvaluationError(f"{name} has shape {values.shape} and loss {target.shape}: one number of each a run")
        if not (np.isfinite(values).all() and (values > 0).all()):
            bad = values[~(np.isfinite(values) & (values > 0))][0]
            raise EvaluationError(f"{name} holds {bad}: a power law is about positive numbers")
    if irreducible is not None and not 0 <= irreducible < target.min():
        raise EvaluationError(f"irreducible = {irreducible}: at least 0, and below the lowest loss, {target.min():.4g}")
    free = 2 * len(inputs) + (irreducible is None)
    if len(target) < free:
        raise EvaluationError(f"{len(target)} runs can't determine {free} numbers: make more runs, or fix irreducible")
    least = 3 if irreducible is None and len(inputs) == 1 else 2
    for name, values in inputs.items():
        if len(set(values.tolist())) < least:
            raise EvaluationError(f"{name} takes {len(set(values.tolist()))} values: the fit needs {least} at least")
    return target, inputs


# The parameters are [log E,] then log coefficient and exponent of each term; the coefficient is that at the geometric mean of x,
# which makes it nearly independent of the exponent.


def _terms(parameters: Array, log_x: Array, irreducible: float | None) -> Array:
    """The logarithms of all terms of the law for every run: one row for each, E first unless it is 0."""
    rest = parameters if irreducible is not None else parameters[1:]
    centre = log_x.mean(axis=1, keepdims=True)
    rows: Array = rest[0::2, None] - rest[1::2, None] * (log_x - centre)
    if irreducible is None:
        floor: Array = np.full((1, log_x.shape[1]), parameters[0])
    elif irreducible > 0:
        floor = np.full((1, log_x.shape[1]), math.log(irreducible))
    else:
        return rows
    return np.concatenate([floor, rows])


def _residuals(parameters: Array, target: Array, log_x: Array, irreducible: float | None) -> tuple[Array, Array]:
    """Residuals of log loss, and their derivatives by the parameters."""
    terms = _terms(parameters, log_x, irreducible)
    total = np.logaddexp.reduce(terms, axis=0)
    shares = np.exp(terms - total)  # how much of the loss each term makes up
    centred = log_x - log_x.mean(axis=1, keepdims=True)
    columns: list[Array] = [shares[0]] if irreducible is None else []
    for share, x in zip(shares[len(shares) - len(log_x) :], centred, strict=True):
        columns += [share, -share * x]
    return total - target, np.stack(columns, axis=1)


def _huber(residuals: Array, delta: float) -> float:
    size = np.abs(residuals)
    return float(np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta)).sum())


def _minimise(
    start: Array, target: Array, log_x: Array, irreducible: float | None, delta: float, steps: int = 400
) -> tuple[float, Array]:
    """Levenberg and Marquardt's steps on squares reweighted as Huber's loss says."""
    parameters, damping = start, 1e-2
    residuals, slopes = _residuals(parameters, target, log_x, irreducible)
    loss = _huber(residuals, delta)
    for _ in range(steps):
        weights = 1 / np.maximum(np.abs(residuals) / delta, 1)
        gradient = slopes.T @ (weights * residuals)
        curvature = slopes.T @ (weights[:, None] * slopes)
        step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature) + 1e-12), gradient)
        candidate = parameters - np.clip(step, -2, 2)
        new_residuals, new_slopes = _residuals(candidate, target, log_x, irreducible)
        new_loss = _huber(new_residuals, delta)
        if new_loss < loss:
            small = loss - new_loss < 1e-12 * loss
            parameters, residuals, slopes, loss = candidate, new_residuals, new_slopes, new_loss
            damping = max(damping / 3, 1e-12)
            if small:
                break
        else:
            damping *= 4
            if damping > 1e12:
                break
    return loss, parameters


def _starts(target: Array, log_x: Array, irreducible: float | None) -> list[Array]:
    """A grid: E at several shares of the lowest loss, the terms sharing the rest, several exponents."""
    floors = (0.2, 0.5, 0.8, 0.95) if irreducible is None else (0.0,)
    starts = []
    for floor, exponents in itertools.product(floors, itertools.product((0.2, 0.5, 1.0), repeat=len(log_x))):
        rest = max(float(np.median(target)) - floor * float(target.min()), 1e-3 * float(target.min())) / len(log_x)
        head = [math.log(floor * float(target.min()))] if irreducible is None else []
        starts.append(np.array([*head, *itertools.chain(*((math.log(rest), each) for each in exponents))]))
    return starts


def _best(target: Array, log_x: Array, irreducible: float | None, delta: float, starts: Sequence[Array]) -> Array:
    return min((_minimise(start, target, log_x, irreducible, delta) for start in starts), key=lambda found: found[0])[1]


def _law(parameters: Array, names: Sequence[str], irreducible: float | None, target: Array, log_x: Array) -> PowerLaw:
    rest = parameters if irreducible is not None else parameters[1:]
    terms = {}
    for name, logarithm, exponent, centre in zip(names, rest[0::2], rest[1::2], log_x.mean(axis=1), strict=True):
        terms[name] = (float(np.exp(logarithm + exponent * centre)), float(exponent))
    residuals, _ = _residuals(parameters, target, log_x, irreducible)
    floor = float(np.exp(parameters[0])) if irreducible is None else irreducible
    return PowerLaw(floor, terms, float(np.sqrt((residuals**2).mean())))
