"""Models of one shape as points in one space: their average, the direction that a fine-tuning took, the arc between two.

Works where the models come from the same base: two networks trained from different random starts have their neurons in different
orders, and the point between them is no network at all.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from minilm.model import LanguageModel
from minilm.model.files import saved_tensors

Method = Literal["linear", "task-arithmetic", "slerp"]
Weights = Mapping[str, Tensor]


def merge_models(
    models: Sequence[LanguageModel],
    weights: Sequence[float] | None = None,
    method: Method = "linear",
    base: LanguageModel | None = None,
) -> LanguageModel:
    """A new model from several of one config; those given stay as they are.

    - "linear": the average by `weights`, which are made to sum to 1; equal ones if not given (model soups, Wortsman et al. 2022);
    - "task-arithmetic": base + sum of weight * (model - base), weights 1 if not given; a negative one unlearns (Ilharco et al. 2023);
    - "slerp": for two models, the point at share weights[1] of the arc between them, tensor by tensor (0.5 if not given).

    Raises ValueError for models that differ in shape (naming each tensor that does), for weights that do not fit, and for a `base`
    that is missing or not needed.
    """
    if len(models) < 1 or (method == "slerp" and len(models) != 2):
        raise ValueError(f"{method!r} of {len(models)} models: slerp takes two, the others one or more")
    if (base is not None) != (method == "task-arithmetic"):
        raise ValueError(
            "task-arithmetic needs a base, from which the models were trained, and the other methods have none"
        )
    if weights is not None and len(weights) != len(models):
        raise ValueError(f"{len(weights)} weights for {len(models)} models: each model has one")
    states = [_weights(model) for model in models]
    check_same_shapes([*([] if base is None else [_weights(base)]), *states])
    if method == "linear":
        merged = average_weights(states, weights)
    elif method == "slerp":
        merged = slerp_weights(states[0], states[1], 0.5 if weights is None else _share(weights))
    else:
        assert base is not None
        merged = add_tasks(_weights(base), states, weights)
    with torch.random.fork_rng(devices=[]):
        made = LanguageModel.from_config(models[0].config)
    for name, tensor in saved_tensors(made).items():
        tensor.data = merged[name]
    return made.train(models[0].training)


def average_weights(states: Sequence[Weights], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """The average of each tensor by `weights`, which are made to sum to 1."""
    chosen = [1.0] * len(states) if weights is None else list(weights)
    if not sum(chosen) > 0 or min(chosen) < 0:
        raise ValueError(f"weights = {chosen}: an average needs weights of at least 0, not all of them 0")
    shares = [weight / sum(chosen) for weight in chosen]
    return {name: sum_of([state[name] for state in states], shares) for name in states[0]}


def add_tasks(base: Weights, states: Sequence[Weights], weights: Sequence[float] | None = None) -> dict[str, Tensor]:
    """base + sum of weight * (state - base): what each model learned, added up."""
    chosen = [1.0] * len(states) if weights is None else list(weights)
    return {
        name: sum_of([tensor, *(state[name] for state in states)], [1 - sum(chosen), *chosen])
        for name, tensor in base.items()
    }


def slerp_weights(first: Weights, second: Weights, share: float) -> dict[str, Tensor]:
    """The point at a share of the arc from the first to the second, each tensor taken as one long vector."""
    if not 0 <= share <= 1:
        raise ValueError(f"share = {share}: it goes from 0 (the first model) to 1 (the second)")
    return {name: slerp(tensor, second[name], share) for name, tensor in first.items()}


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, where w is the angle between a and b (Shoemake 1985).

    Between vectors of one length every point has that length, while the straight line passes closer to zero. Vectors that point
    almost the same or the opposite way have no well-defined arc: the straight line is taken.
    """
    wide_a, wide_b = a.double(), b.double()
    lengths = torch.linalg.vector_norm(wide_a) * torch.linalg.vector_norm(wide_b)
    cosine = float((wide_a * wide_b).sum() / lengths) if lengths > 0 else 1.0
    if abs(cosine) > 1 - 1e-9:
        return ((1 - share) * wide_a + share * wide_b).to(a.dtype)
    angle = torch.tensor(cosine, dtype=torch.float64).acos()
    left, right = ((1 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin()
    return (left * wide_a + right * wide_b).to(a.dtype)


def sum_of(tensors: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
    """The sum of tensors times factors, summed in float64 so that averaging equals gives the same."""
    total = sum(tensor.double() * factor for tensor, factor in zip(tensors, factors, strict=True))
    assert isinstance(total, Tensor)
    return total.to(tensors[0].dtype)


def check_same_shapes(states: Sequence[Weights]) -> None:
    """ValueError that names every tensor which is not in all models, or not of one shape."""
    first = states[0]
    differences = []
    for number, state in enumerate(states[1:], start=2):
        differences += [f"{name}: not in model {number}" for name in first if name not in state]
        differences += [f"{name}: only in model {number}" for name in state if name not in first]
        differences += [
            f"{name}: {list(first[name].shape)} and, in model {number}, {list(state[name].shape)}"
            for name in first
            if name in state and state[name].shape != first[name].shape
        ]
    if differences:
        shown = "\n  ".join(differences[:10]) + (
            f"\n  and {len(differences) - 10} more" if len(differences) > 10 else ""
        )
        raise ValueError(f"only models of one shape can be merged, and these differ:\n  {shown}")


def _weights(model: LanguageModel) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in saved_tensors(model).items()}


def _share(weights: Sequence[float]) -> float:
    total = sum(weights)
    if not total > 0:
        raise ValueError(f"weights = {list(weights)}: they are shares of the two models, not both 0")
    return weights[1] / total
