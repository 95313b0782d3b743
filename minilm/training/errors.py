"""What can go wrong in a run, each with the step, the place, the value and what to do."""


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says at which step, why, and what to do."""


class NotFiniteError(TrainingError):
    """A loss or gradient that is infinite or not a number; `step` and `layer` say where it first appeared."""

    def __init__(self, message: str, step: int, layer: str) -> None:
        super().__init__(message)
        self.step, self.layer = step, layer


class CheckpointError(TrainingError):
    """A checkpoint that cannot be written or read."""
