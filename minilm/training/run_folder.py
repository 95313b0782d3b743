"""The folder of a run: a model that `LanguageModel.load` reads, its checkpoints in `checkpoints/`, its config in training.json."""

import os
import shutil
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
from minilm.training.errors import TrainingError

TRAINING_CONFIG = "training.json"


class RunFolder:
    """Where a run leaves what it makes. Nothing is written before `prepare`."""

    def __init__(self, out: str | Path, keep: int | None = 2, pinned: int | None = None) -> None:
        self.out = Path(out)
        self.checkpoints = self.out / "checkpoints"
        self.keep, self.pinned = keep, frozenset(() if pinned is None else (pinned,))

    def prepare(self, model: LanguageModel, tokenizer: Any, config: TrainingConfig, fresh: bool) -> None:
        """Make the folder, and refuse at once what would fail after an hour: a place one may not write to, another run's folder."""
        if fresh and checkpoints.list_checkpoints(self.checkpoints):
            newest = checkpoints.list_checkpoints(self.checkpoints)[-1].name
            raise TrainingError(
                f"{self.out} holds a run already (up to {newest}): go on with trainer.resume(), or choose another folder"
            )
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            checkpoints.remove_leftovers(self.checkpoints)
            checkpoints.write_text(self.out / CONFIG, checkpoints.describe_model(model))
            checkpoints.write_text(self.out / TRAINING_CONFIG, config.to_json())
            self._write_tokenizer(tokenizer)
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
        checkpoints.publish(path, self.out)
        checkpoints.prune(self.checkpoints, self.keep, self.pinned)
        return path

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint, with a warning about newer ones that are damaged; None where there is none yet."""
        found = checkpoints.newest_readable(self.checkpoints)
        if found is None:
            return None
        path, checkpoint, problems = found
        for problem in problems:
            warnings.warn(f"{problem}. Going on from {path.name}.", stacklevel=3)
        for damaged in checkpoints.list_checkpoints(self.checkpoints):
            if checkpoints.step_of(damaged) > checkpoints.step_of(path):
                shutil.rmtree(damaged, ignore_errors=True)
        return checkpoint

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
                return found[1]
        return checkpoints.read_checkpoint(path)
