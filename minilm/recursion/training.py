"""Training a puzzle solver: every update is one segment of thinking, and whoever has finished makes room for a new puzzle."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from minilm.config import Config
from minilm.data.puzzles import GridPuzzles, PuzzleFamily
from minilm.recursion.losses import SegmentLoss, segment_loss, value_of_going_on
from minilm.recursion.model import RecursiveModel, Segment, State
from minilm.recursion.optimizers import AdamATan2, SignSGD
from minilm.training import AdamW, ExponentialMovingAverage, TrainingError, autocast, clip_gradients, parameter_groups
from minilm.training.optimizers import set_rate
from minilm.training.trainer import Record


@dataclass(frozen=True)
class PuzzleTraining(Config):
    """How long and how to train. Give `steps` (the same run every time) or `seconds` (as far as the machine gets)."""

    steps: int | None = None
    seconds: float | None = None
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup: int = 100  # steps
    decay: float = 0.2  # the last share of the run, in which the rate falls to `final` of its peak in a line
    final: float = 0.1
    optimizer: Literal["adamw", "adam-atan2"] = "adamw"
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    puzzle_rate: float = 1e-2  # of the puzzle embeddings' SignSGD
    puzzle_decay: float = 0.1
    clip: float | None = 1.0
    ema: float | None = 0.999  # the average is what is evaluated and saved
    augment: bool = True  # each puzzle comes in a new disguise every time
    precision: Literal["float32", "bfloat16"] = (
        "float32"  # of matrix products; bfloat16 pays where the processor has it
    )
    evaluate_seconds: float | None = 60.0
    checkpoint_steps: int | None = None
    checkpoint_seconds: float | None = 120.0
    seed: int = 0

    def validate(self) -> None:
        """Check ranges."""
        if (self.steps is None) == (self.seconds is None):
            raise ValueError("give either steps or seconds: how long the run shall be")
        for name in (
            "steps",
            "seconds",
            "batch_size",
            "learning_rate",
            "clip",
            "checkpoint_steps",
            "checkpoint_seconds",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"PuzzleTraining.{name} = {value}: it must be above 0")
        for name in ("ema", "decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"PuzzleTraining.{name} = {value}: at least 0 and below 1")

    def rate(self, step: int, progress: float) -> float:
        """The learning rate of an update, `progress` being the share of the run that is over."""
        rate = self.learning_rate * min(1.0, step / max(self.warmup, 1))
        left = (1 - progress) / self.decay if self.decay else 1.0
        return rate * (self.final + (1 - self.final) * min(1.0, max(0.0, left)))


@dataclass
class Slots:
    """The puzzles at work, each with its own states and the segments it has had."""

    state: State
    tokens: Tensor  # batch cells
    targets: Tensor  # batch cells
    segments: Tensor  # batch
    finished: Bool[Tensor, "batch"]

    @classmethod
    def empty(cls, model: RecursiveModel, batch: int) -> "Slots":
        """Slots that wait for their first puzzle."""
        cells = torch.zeros(batch, model.config.cells, dtype=torch.int64)
        state, count = model.begin(batch), torch.zeros(batch, dtype=torch.int64)
        state = State(state.high.clone(), state.low.clone())
        return cls(state, cells, cells.clone(), count, torch.ones(batch, dtype=torch.bool))


class PuzzleTrainer:
    """Trains a model on puzzles. `for record in trainer.run()` gives a record of every update; `step()` makes one.

    With deep supervision an update is one segment: its answer is corrected, the states are cut off from their past and kept, and
    puzzles that are finished (the halting head says so, or they had all their segments) are replaced by new ones in fresh states.
    So every batch holds puzzles at different stages. Without it, all segments are thought through and only the last is corrected.

    What is random (which puzzle, which disguise, who must stay) comes from one generator, whose state is saved: the same run of
    so many steps gives the same weights, interrupted or not.
    """

    def __init__(
        self,
        model: RecursiveModel,
        family: PuzzleFamily,
        puzzles: GridPuzzles,
        config: PuzzleTraining,
        evaluate: Callable[[RecursiveModel], dict[str, float]] | None = None,
    ) -> None:
        if not len(puzzles):
            raise TrainingError("there are no puzzles to learn from")
        self.model, self.family, self.puzzles, self.config, self.evaluate = model, family, puzzles, config, evaluate
        groups = parameter_groups(model, config.weight_decay)
        betas = (config.beta1, config.beta2)
        self.optimizer: Any = (AdamW if config.optimizer == "adamw" else AdamATan2)(groups, config.learning_rate, betas)
        table = model.embedding.puzzles
        self.signs = None if table is None else SignSGD(table, config.puzzle_rate, config.puzzle_decay)
        self.average = None if config.ema is None else ExponentialMovingAverage(model, config.ema)
        self.slots = Slots.empty(model, config.batch_size)
        self.rng = np.random.default_rng((config.seed, 13))
        self.step_number, self.seconds, self.cells = 0, 0.0, 0

    # ------------------------------------------------------------------------------------------------------ one update

    def step(self) -> Record:
        """One update."""
        number, model, slots = self.step_number + 1, self.model.train(), self.slots
        set_rate(self.optimizer, rate := self.config.rate(number, self.progress))
        if not model.config.deep_supervision:
            slots.finished.fill_(True)
        self._refill()
        state = slots.state
        if not model.config.deep_supervision:
            with torch.no_grad():
                for _ in range(model.config.segments - 1):
                    state = self._think(state).state
        segment = self._think(state)
        slots.segments += 1
        slots.state = segment.state.detach()
        must_end = slots.segments >= model.config.segments
        loss = segment_loss(segment, slots.targets, model.config, self._going_on(must_end))
        if not math.isfinite(value := float(loss.total.detach())):
            raise TrainingError(f"step {number}: the loss is {value}: choose a smaller learning rate")
        self.optimizer.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        norm = clip_gradients(model.parameters(), self.config.clip)
        self.optimizer.step()
        if self.signs is not None:
            self.signs.step()
        if self.average is not None:
            self.average.update(model)
        slots.finished = must_end | (self._halts(segment) & ~self._has_to_stay())
        self.step_number, self.cells = number, self.cells + slots.targets.numel()
        return self._record(loss, rate, norm)

    def _think(self, state: State) -> Segment:
        """One segment of the puzzles at work, in the run's precision; states stay float32."""
        with autocast(state.high.device, self.config.precision):
            return self.model.segment(state, self.slots.tokens)

    def _refill(self) -> None:
        """New puzzles, in new disguises, for the slots that are free."""
        free = self.slots.finished.nonzero()[:, 0]
        if not len(free):
            return
        drawn = self.puzzles[self.rng.integers(0, len(self.puzzles), len(free))]
        if self.config.augment:
            drawn = self.family.augment(drawn, self.rng)
        slots, fresh = self.slots, self.model.begin(len(free))
        slots.tokens[free] = torch.from_numpy(drawn.inputs.astype(np.int64))
        slots.targets[free] = torch.from_numpy(drawn.targets.astype(np.int64))
        slots.segments[free] = 0
        slots.state.high[free], slots.state.low[free] = fresh.high, fresh.low

    def _going_on(self, must_end: Tensor) -> Tensor | None:
        """With Q-learning, the target of the value of going on: one more segment is looked at."""
        if self.model.config.halting != "q-learning":
            return None
        with torch.no_grad():
            following = self._think(self.slots.state)
        return value_of_going_on(following, must_end)

    def _halts(self, segment: Segment) -> Tensor:
        """Who wants to stop."""
        kind = self.model.config.halting
        if kind == "none":
            return torch.zeros_like(segment.halt, dtype=torch.bool)
        return (segment.halt > (segment.go_on if kind == "q-learning" else 0)).detach()

    def _has_to_stay(self) -> Tensor:
        """Exploration: a few puzzles stay for a number of segments drawn by lot, so that going on is tried too."""
        config, batch = self.model.config, self.config.batch_size
        chosen = self.rng.random(batch) < config.exploration
        least = self.rng.integers(min(2, config.segments), config.segments + 1, batch)
        return self.slots.segments < torch.from_numpy(np.where(chosen, least, 0))

    def _record(self, loss: SegmentLoss, rate: float, norm: float) -> Record:
        metrics = {"cell_loss": float(loss.cells), "solved": float(loss.solved.float().mean())}
        return Record(self.step_number, float(loss.total.detach()), rate, norm, self.cells, self.seconds, metrics)

    # -------------------------------------------------------------------------------------------------------- the run

    @property
    def progress(self) -> float:
        """The share of the run that is over."""
        if self.config.steps is not None:
            return self.step_number / self.config.steps
        assert self.config.seconds is not None
        return self.seconds / self.config.seconds

    @property
    def done(self) -> bool:
        """Whether the run is over."""
        return self.progress >= 1

    def run(self) -> Iterator[Record]:
        """Train to the end. Seconds are those of training alone: evaluation and what the reader of the records does don't count."""
        looked = self.seconds
        while not self.done:
            began = time.perf_counter()
            record = self.step()
            self.seconds += time.perf_counter() - began
            record = Record(**{**vars(record), "seconds": self.seconds})
            every = self.config.evaluate_seconds
            if self.evaluate is not None and (self.done or (every is not None and self.seconds - looked >= every)):
                looked = self.seconds
                record.metrics.update(self.look())
            yield record

    def look(self) -> dict[str, float]:
        """What `evaluate` says of the averaged weights."""
        if self.evaluate is None:
            return {}
        with torch.no_grad(), self.best_weights():
            return self.evaluate(self.model.eval())

    def best_weights(self) -> contextlib.AbstractContextManager[None]:
        """Within, the model has its averaged weights, where there is an average."""
        return contextlib.nullcontext() if self.average is None else self.average.applied(self.model)
