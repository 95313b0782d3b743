"""Everything that a run is made from but its model and its data: `TrainingConfig`, and what it says about the rate at each step."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from minilm.config import Config
from minilm.training.losses import Smoothing
from minilm.training.schedules import DecayShape, WarmupShape, constant, warmup_cosine, warmup_stable_decay


@dataclass(frozen=True)
class ScheduleConfig(Config):
    """How the rate moves. `warmup` and `decay` are steps, or below 1 a share of all steps."""

    kind: Literal["constant", "cosine", "wsd", "plateau"] = "cosine"  # "constant" and "plateau" warm up too
    warmup: float = 0.05
    final: float = 0.1  # the factor at the end; for "plateau" the smallest
    decay: float = 0.2  # wsd: how long the way down is
    warmup_shape: WarmupShape = "linear"
    decay_shape: DecayShape = "linear"
    patience: int = 1000  # plateau: steps without progress before the rate shrinks
    shrink: float = 0.1  # plateau: by how much

    def validate(self) -> None:
        """Check ranges."""
        for name in ("warmup", "decay"):
            value = getattr(self, name)
            if value < 0 or (value > 1 and value != int(value)):
                raise ValueError(
                    f"ScheduleConfig.{name} = {value}: a whole number of steps, or a share of them below 1"
                )
        if not 0 <= self.final <= 1:
            raise ValueError(f"ScheduleConfig.final = {self.final}: a factor of the peak rate, from 0 to 1")


@dataclass(frozen=True)
class OptimizerConfig(Config):
    """What turns gradients into steps; weight decay is for matrices only."""

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    momentum: float = 0.9  # sgd


@dataclass(frozen=True)
class DropoutConfig(Config):
    """Dropout that changes with the step: `start` to `end` in a line, or up to `end` halfway and back (triangle)."""

    kind: Literal["constant", "linear", "triangle"] = "linear"
    start: float = 0.0
    end: float = 0.1

    def validate(self) -> None:
        """Check the rates."""
        for name in ("start", "end"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"DropoutConfig.{name} = {getattr(self, name)}: at least 0 and below 1")


@dataclass(frozen=True)
class TrainingConfig(Config):
    """One training run. `steps` is the number of updates; everything else has a default that trains a small model well."""

    steps: int
    learning_rate: float = 3e-3  # the peak
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    clip: float | None = 1.0  # the largest norm of all gradients together
    accumulate: int = 1  # batches whose gradients make one update
    label_smoothing: float = 0.0
    smoothing: Smoothing = "uniform"
    z_loss: float = 0.0
    ema: float | None = None  # keep an average of the weights with this decay; it is what is evaluated and saved
    dropout: DropoutConfig | None = None  # None: what the model has
    # float32-medium: products by oneDNN, which may round their factors; bfloat16: products in bfloat16 (autocast);
    # bfloat16-weights: all of the forward and backward pass, with weights kept in float32 beside
    precision: Literal["float32", "float32-medium", "bfloat16", "bfloat16-weights"] = "float32"
    compile: bool = False  # pays for runs of several minutes with batches of one shape
    loss_chunk: int | None = (
        None  # positions whose logits exist at a time; saves memory with many tokens in the vocabulary
    )
    evaluate_every: int | None = None
    sample_every: int | None = None
    log_every: int = 10
    checkpoint_every: int | None = None  # steps
    checkpoint_seconds: float | None = 300.0
    keep: int | None = 2  # checkpoints; None: all
    seed: int = 0

    def validate(self) -> None:
        """Check ranges."""
        for name in (
            "steps",
            "accumulate",
            "evaluate_every",
            "sample_every",
            "log_every",
            "checkpoint_every",
            "keep",
            "loss_chunk",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"TrainingConfig.{name} = {value}: it must be at least 1")
        for name in ("learning_rate", "clip", "checkpoint_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"TrainingConfig.{name} = {value}: it must be above 0")
        for name in ("label_smoothing", "ema"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"TrainingConfig.{name} = {value}: it must be at least 0 and below 1")
        warmup, decay = self.warmup_steps, self.decay_steps
        if self.schedule.kind == "wsd" and warmup + decay > self.steps:
            raise ValueError(f"a warm-up of {warmup} and a decay of {decay} do not fit into {self.steps} steps")
        if warmup > self.steps:
            raise ValueError(f"a warm-up of {warmup} steps does not fit into {self.steps}")

    @property
    def warmup_steps(self) -> int:
        """The warm-up in steps."""
        return _steps(self.schedule.warmup, self.steps)

    @property
    def decay_steps(self) -> int:
        """The decay of "wsd" in steps; 0 with other schedules."""
        return _steps(self.schedule.decay, self.steps) if self.schedule.kind == "wsd" else 0

    @property
    def last_stable_step(self) -> int | None:
        """With "wsd", the step before the way down: its checkpoint is kept, because other runs can start from it."""
        return self.steps - self.decay_steps if self.schedule.kind == "wsd" else None

    def factor(self) -> Callable[[int], float]:
        """The schedule as a function of the step ("plateau": its warm-up alone)."""
        schedule, warmup = self.schedule, self.warmup_steps
        if schedule.kind == "cosine":
            return functools.partial(warmup_cosine, warmup=warmup, total=self.steps, final=schedule.final)
        if schedule.kind == "wsd":
            return functools.partial(
                warmup_stable_decay,
                warmup=warmup,
                stable=self.steps - warmup - self.decay_steps,
                decay=self.decay_steps,
                final=schedule.final,
                warmup_shape=schedule.warmup_shape,
                decay_shape=schedule.decay_shape,
            )
        return lambda step: step / warmup if step < warmup else constant(step)


def decay_branch(config: TrainingConfig, step: int, decay: int) -> TrainingConfig:
    """The config that brings a "wsd" run down from its stable-phase checkpoint of `step`, in `decay` steps.

    The warm-up is fixed in steps, so that the rates up to `step` are those of the run it branches from.
    """
    if config.schedule.kind != "wsd":
        raise ValueError(
            f"only a 'wsd' run has a plateau to branch from; this one's schedule is {config.schedule.kind!r}"
        )
    last = config.last_stable_step
    if not config.warmup_steps <= step <= (last or 0):
        raise ValueError(f"step {step} is not on the plateau, which goes from {config.warmup_steps} to {last}")
    return config.replace(steps=step + decay, schedule={"warmup": config.warmup_steps, "decay": decay})


def _steps(value: float, total: int) -> int:
    return round(value * total) if value < 1 else int(value)
