"""An average of the weights over the last steps, which is often a better model than any single step's."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """average <- decay * average + (1 - decay) * weights after every step, with a decay that starts low.

    At update t it is min(decay, (1 + t) / (10 + t)), so that the first weights, which know nothing, are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay = {decay}: the share of the past that is kept, at least 0 and below 1")
        self.decay, self.updates = decay, 0
        self.averages = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights of a finished step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [parameter.detach() for _, parameter in model.named_parameters()]
        torch._foreach_lerp_(list(self.averages.values()), weights, 1 - decay)

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Within, the model has the averaged weights; after, its own again."""
        parameters = dict(model.named_parameters())
        own = {name: parameter.data for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data = self.averages[name]
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = own[name]

    def load(self, averages: dict[str, Tensor], updates: int) -> None:
        """Go on from saved averages."""
        for name, average in self.averages.items():
            average.copy_(averages[name])
        self.updates = updates
