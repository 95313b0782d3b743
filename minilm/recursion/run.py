"""A puzzle run in a folder: what it is made from, its checkpoints, and how it goes on after it was stopped or killed.

The folder holds run.json (all settings), puzzles.safetensors (what is learned from), curve.csv, checkpoints/, and a model that
`RecursiveModel.load` reads: the averaged weights of the newest checkpoint.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from minilm.config import Config
from minilm.data.puzzles import GridPuzzles, PuzzleFamily, puzzle_family
from minilm.model.files import CONFIG, read_weights
from minilm.recursion.config import RecursionConfig
from minilm.recursion.evaluation import evaluate
from minilm.recursion.model import RecursiveModel, State
from minilm.recursion.training import PuzzleTrainer, PuzzleTraining, Slots
from minilm.training import CSVLogger, TrainingError, checkpoints, resuming
from minilm.training.checkpoints import Checkpoint
from minilm.training.stopping import StopSignals
from minilm.training.trainer import Record

RUN, PUZZLES, CURVE, CHECKPOINTS = "run.json", "puzzles.safetensors", "curve.csv", "checkpoints"


@dataclass(frozen=True)
class PuzzleRun(Config):
    """All settings of a run."""

    puzzles: str  # a family's name
    train_puzzles: int
    validation_puzzles: int
    model: RecursionConfig
    training: PuzzleTraining
    data_seed: int = 0

    def family(self) -> PuzzleFamily:
        """The puzzles' family."""
        return puzzle_family(self.puzzles)

    def learned_from(self) -> GridPuzzles:
        """The training puzzles."""
        return self.family().generate(self.train_puzzles, "train", self.data_seed)

    def held_out(self, split: str, count: int | None = None) -> GridPuzzles:
        """Puzzles of "validation" or "test": other ones for other splits, whatever the seed."""
        return self.family().generate(count or self.validation_puzzles, split, self.data_seed)  # type: ignore[arg-type]


class RunningPuzzles:
    """A run at work: `for record in run.steps()`. Made by `begin` or `go_on`."""

    def __init__(self, config: PuzzleRun, out: Path, trainer: PuzzleTrainer, logger: CSVLogger) -> None:
        self.config, self.out, self.trainer, self.logger = config, out, trainer, logger
        self.stopped: str | None = None  # the signal that ended it early

    def steps(self) -> Iterator[Record]:
        """Train to the end, saving on the way. Ctrl-C lets the update finish, saves, and ends the iteration."""
        trainer, training = self.trainer, self.config.training
        saved_at, saved_step = trainer.seconds, trainer.step_number
        with StopSignals() as stop:
            self.logger.start(cast(Any, trainer))
            try:
                for record in trainer.run():
                    if record.step % 10 == 0 or len(record.metrics) > 2 or trainer.done:
                        self.logger.log(record)
                    by_time = training.checkpoint_seconds and record.seconds - saved_at >= training.checkpoint_seconds
                    by_step = training.checkpoint_steps and record.step % training.checkpoint_steps == 0
                    if by_time or by_step or trainer.done or stop.received:
                        self.save()
                        saved_at, saved_step = record.seconds, record.step
                    yield record
                    if stop.received:
                        break
            finally:
                self.logger.finish()
        if saved_step != trainer.step_number:
            self.save()
        self.stopped = stop.received

    def save(self) -> Path:
        """Write a checkpoint, make the folder hold its model, and remove all but the newest two."""
        folder, trainer = self.out / CHECKPOINTS, self.trainer
        weights, tensors, state = _state_of(trainer)
        description = trainer.model.description()
        path = checkpoints.write_checkpoint(folder, trainer.step_number, weights, description, tensors, state)
        checkpoints.publish(path, self.out)
        checkpoints.prune(folder, 2, frozenset())
        return path


def begin(config: PuzzleRun, out: str | Path, force: bool = False) -> RunningPuzzles:
    """Start a run in a folder that is not there yet or empty; with `force` an earlier run in it is removed.

    The puzzles are made and stored first. TrainingError if the folder holds something else.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        if not (out / RUN).is_file():
            raise TrainingError(f"{out} exists and holds no puzzle run: choose another folder")
        if not force:
            raise TrainingError(f"{out} holds a run already: go on with --resume, replace it with --force")
    puzzles = config.learned_from()
    if out.exists() and any(out.iterdir()):
        shutil.rmtree(out)
    (out / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    tensors = {"inputs": torch.from_numpy(puzzles.inputs), "targets": torch.from_numpy(puzzles.targets)}
    checkpoints.write_tensors(out / PUZZLES, {name: value.to(torch.uint8) for name, value in tensors.items()})
    checkpoints.write_text(out / RUN, config.to_json())
    return _running(config, out, puzzles)


def go_on(out: str | Path) -> RunningPuzzles:
    """The run in a folder, standing at its newest whole checkpoint (or at its beginning, if it was killed before the first)."""
    out = Path(out)
    run = _running(read(out), out, stored_puzzles(out))
    checkpoints.remove_leftovers(out / CHECKPOINTS)
    found = checkpoints.newest_readable(out / CHECKPOINTS)
    if found is not None:
        _load_state(run.trainer, found[0])
        for path, _ in found[1]:
            path.rename(path.with_name(f"{path.name}.damaged"))
        if not (out / CONFIG).is_file():
            checkpoints.publish(found[0].path, out)
    return run


def read(out: str | Path) -> PuzzleRun:
    """The settings of the run in a folder; TrainingError if there is none."""
    path = Path(out) / RUN
    if not path.is_file():
        raise TrainingError(f"there is no puzzle run in {out}: it has no {RUN}")
    return PuzzleRun.from_json(path.read_text(encoding="utf-8"))


def stored_puzzles(out: str | Path) -> GridPuzzles:
    """What the run in a folder learns from; made again where it isn't stored, as in the zoo."""
    path = Path(out) / PUZZLES
    if not path.is_file():
        return read(out).learned_from()
    stored = read_weights(path)
    return GridPuzzles(*(stored[name].numpy().astype(np.int8) for name in ("inputs", "targets")))


def _running(config: PuzzleRun, out: Path, puzzles: GridPuzzles) -> RunningPuzzles:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        model = RecursiveModel(config.model)
    trainer = PuzzleTrainer(model, config.family(), puzzles, config.training, _validation(config))
    return RunningPuzzles(config, out, trainer, CSVLogger(out / CURVE, ("cell_loss", "solved", *METRICS)))


METRICS = ("exact_first", "exact", "cells", "halted_exact", "halted_segments")


def _validation(config: PuzzleRun) -> Callable[[RecursiveModel], dict[str, float]]:
    """A function that measures a model on the run's validation puzzles."""
    family, puzzles = config.family(), config.held_out("validation")

    def measure(model: RecursiveModel) -> dict[str, float]:
        report = evaluate(model, family, puzzles)
        values = (report.exact[0], report.exact[-1], report.cells[-1], report.halted_exact, report.halted_segments)
        return dict(zip(METRICS, values, strict=True))

    return measure


# ----------------------------------------------------------------------------------------- what a run has to remember


def _state_of(trainer: PuzzleTrainer) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The model to publish, all other tensors, and everything else."""
    model, average, slots = trainer.model, trainer.average, trainer.slots
    weights = {name: value.detach() for name, value in model.weights().items()}
    tensors: dict[str, torch.Tensor] = {}
    if average is not None:  # the average is the model that others load
        tensors |= {f"weights.{name}": value for name, value in weights.items()}
        weights = weights | average.averages
    optimizer_tensors, optimizer = resuming.pack_optimizer(trainer.optimizer)
    tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors.items()}
    tensors |= {
        "slots.high": slots.state.high,
        "slots.low": slots.state.low,
        "slots.tokens": slots.tokens,
        "slots.targets": slots.targets,
        "slots.segments": slots.segments,
        "slots.finished": slots.finished,
    }
    state = {
        "optimizer": optimizer,
        "average_updates": None if average is None else average.updates,
        "seconds": trainer.seconds,
        "cells": trainer.cells,
        "random": trainer.rng.bit_generator.state,
    }
    return weights, tensors, state


def _load_state(trainer: PuzzleTrainer, checkpoint: Checkpoint) -> None:
    """Put a trainer where the checkpoint's run stood."""
    tensors, state = checkpoint.tensors, checkpoint.state
    trainer.model.load_weights(resuming.part(tensors, "weights") or checkpoint.weights)
    if trainer.average is not None:
        trainer.average.load(checkpoint.weights, state["average_updates"])
    resuming.unpack_optimizer(trainer.optimizer, resuming.part(tensors, "optimizer"), state["optimizer"])
    slots = resuming.part(tensors, "slots")
    own = {name: value.clone() for name, value in slots.items()}  # not a window onto a file that may go
    thoughts = State(own.pop("high"), own.pop("low"))
    trainer.slots = Slots(thoughts, own["tokens"], own["targets"], own["segments"], own["finished"])
    trainer.step_number, trainer.seconds, trainer.cells = state["step"], state["seconds"], state["cells"]
    trainer.rng.bit_generator.state = state["random"]
