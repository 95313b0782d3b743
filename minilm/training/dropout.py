"""Dropout that changes while a model trains (Super Tiny Language Models)."""

from torch import nn

from minilm.training.config import DropoutConfig


def dropout_rate(step: int, total: int, config: DropoutConfig) -> float:
    """The rate for update `step` of 1 .. total: constant, a line from start to end, or up to end halfway and back to start."""
    if config.kind == "constant" or total <= 1:
        return config.start
    progress = min(max((step - 1) / (total - 1), 0.0), 1.0)
    if config.kind == "triangle":
        progress = 1 - abs(2 * progress - 1)
    return config.start + (config.end - config.start) * progress


class DropoutSchedule:
    """Sets the rate of every dropout in a model before each step, the first one included, and puts the old rates back at the end.

    A dropout is an `nn.Dropout`, or any layer with a number called `dropout`, as those of `minilm` have.
    """

    def __init__(self, model: nn.Module, config: DropoutConfig, total: int) -> None:
        self.config, self.total = config, total
        self._places = [
            (part, name)
            for part in model.modules()
            for name in ("dropout", "p")
            if isinstance(vars(part).get(name), float | int) and (name == "dropout" or isinstance(part, nn.Dropout))
        ]
        if not self._places:
            raise ValueError("the model has no dropout whose rate could be changed")
        self._own = [getattr(part, name) for part, name in self._places]

    def set(self, step: int) -> float:
        """Set the rate of a step; returns it."""
        rate = dropout_rate(step, self.total, self.config)
        for part, name in self._places:
            setattr(part, name, rate)
        return rate

    def restore(self) -> None:
        """Put the model's own rates back."""
        for (part, name), rate in zip(self._places, self._own, strict=True):
            setattr(part, name, rate)
