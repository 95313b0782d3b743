"""The folder of a run: a model that `LanguageModel.load` reads, its checkpoints in `checkpoints/`, its config in training.json."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from minilm.model import LanguageModel
from minilm.model.files import CONFIG, TOKENIZER
from minilm.training import checkpoints
from minilm.training.checkpoints import Checkpoint
from minilm.training.config import TrainingConfig
from minilm.training.errors import CheckpointError, TrainingError

TRAINING_CONFIG = "training.json"


class RunFolder:
    """Where a run leaves what it makes. Nothing is written before `prepare`."""

    def __init__(self, out: str | Path, keep: int | None = 2, pinned: int | None = None) -> None:
        self.out = Path(out)
        self.checkpoints = self.out / "checkpoints"
        self.keep, self.pinned = keep, frozenset(() if pinned is None else (pinned,))
        self.newest_step: int | None = None  # of the checkpoints that this run has written or gone on from

    def prepare(self, model: LanguageModel, tokenizer: Any, config: TrainingConfig) -> None:
        """Make the folder, and refuse at once what would fail after an hour: a place one may not write to, another run's folder."""
        here = checkpoints.list_checkpoints(self.checkpoints)
        if here and checkpoints.step_of(here[-1]) != self.newest_step:
            raise TrainingError(
                f"{self.out} holds a run already, up to {here[-1].name}: go on with it by trainer.resume(), or choose another folder"
            )
        if (self.out / CONFIG).exists() and not (self.out / TRAINING_CONFIG).exists():
            raise TrainingError(f"{self.out} holds a model already, and no run to go on with: choose another folder")
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            checkpoints.remove_leftovers(self.checkpoints)
            checkpoints.write_text(self.out / TRAINING_CONFIG, config.to_json())
            checkpoints.write_text(self.out / CONFIG, checkpoints.describe_model(model))
            self._write_tokenizer(tokenizer)
            if here:  # a run that was killed just after writing a checkpoint has not published its model
                checkpoints.publish(here[-1], self.out)
        except OSError as error:
            raise TrainingError(
                f"the run's folder {self.out} cannot be written to ({error.strerror or error}): choose a folder you may write to"
            ) from error

    def _write_tokenizer(self, tokenizer: Any) -> None:
        if isinstance(tokenizer, str | os.PathLike):
            checkpoints.write_text(self.out / TOKENIZER, Path(tokenizer).read_text(encoding="utf-8"))
        elif tokenizer is not None:
            tokenizer.save(self.out / TOKENIZER)

    def save(
        self,
        step: int,
        model: LanguageModel,
        weights: Mapping[str, Tensor],
        tensors: Mapping[str, Tensor],
        state: dict[str, Any],
    ) -> Path:
        """Write a checkpoint, make the folder hold its model, and remove checkpoints that are no longer kept."""
        description = checkpoints.describe_model(model)
        path = checkpoints.write_checkpoint(self.checkpoints, step, weights, description, tensors, state)
        self.newest_step = step
        try:
            checkpoints.publish(path, self.out)
            checkpoints.prune(self.checkpoints, self.keep, self.pinned)
        except OSError as error:
            raise CheckpointError(
                f"{path} is written, and the run resumes from it, but {self.out} cannot be changed ({error.strerror or error})"
            ) from error
        return path

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint; None where there is none yet. Newer ones that are damaged are put aside, with a warning."""
        found = checkpoints.newest_readable(self.checkpoints)
        if found is None:
            return None
        checkpoint, problems = found
        for path, problem in problems:
            warnings.warn(f"{problem}. Going on from {checkpoint.path.name}.", stacklevel=3)
            path.rename(path.with_name(f"{path.name}.damaged"))
        return checkpoint

    def went_on_from(self, checkpoint: Checkpoint) -> None:
        """Take note that the run goes on from one of its own checkpoints (or from another run's, which is not here)."""
        if checkpoint.path.resolve().parent == self.checkpoints.resolve():
            self.newest_step = checkpoints.step_of(checkpoint.path)

    def newest_name(self) -> str | None:
        """The name of the newest checkpoint."""
        found = checkpoints.list_checkpoints(self.checkpoints)
        return found[-1].name if found else None

    @staticmethod
    def read(path: Path) -> Checkpoint:
        """A checkpoint by its own folder, or the newest whole one of a run's folder."""
        if (path / "checkpoints").is_dir():
            found = checkpoints.newest_readable(path / "checkpoints")
            if found is not None:
                return found[0]
        return checkpoints.read_checkpoint(path)
