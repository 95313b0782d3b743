"""The training loop. `Trainer.step` is one update of the weights; everything around it is for looking, stopping and going on."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from minilm.data.windows import IGNORE
from minilm.model import LanguageModel
from minilm.training.averages import ExponentialMovingAverage
from minilm.training.batches import Batch, Batches
from minilm.training.config import TrainingConfig
from minilm.training.diagnosis import find_not_finite
from minilm.training.dropout import DropoutSchedule
from minilm.training.errors import NotFiniteError, TrainingError
from minilm.training.losses import cross_entropy
from minilm.training.optimizers import SGD, Adam, AdamW, clip_gradients, parameter_groups
from minilm.training.precision import autocast
from minilm.training.randomness import restore_random_state, seed_everything, untouched_randomness
from minilm.training.run_folder import RunFolder
from minilm.training.schedules import Plateau
from minilm.training.stopping import StopSignals

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Record:
    """What one update did."""

    step: int  # this was update number `step`, from 1 on
    loss: float  # of its batch, in nats a target, before the update
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens: int  # targets learned from since the run began
    seconds: float  # since the run began, interruptions left out
    metrics: dict[str, float] = field(default_factory=dict)  # from `evaluate`, where this step had its turn
    text: str | None = None  # from `sample`


class Logger(Protocol):
    """Somebody who is told how a run goes."""

    def start(self, trainer: "Trainer") -> None:
        """The run begins, or goes on, after `trainer.step` updates."""
        ...

    def log(self, record: Record) -> None:
        """Every `log_every` steps, and whenever there are metrics or a text."""
        ...

    def finish(self) -> None:
        """The run is over or interrupted."""
        ...


class Trainer:
    """Trains a model on batches as a config says, and leaves it in the folder `out`, with checkpoints, if one is given.

    `for record in trainer.steps()` trains with the reader in the loop; `trainer.train()` just trains. `evaluate` and `sample` are
    called with the model (its averaged weights, where there is an average) in eval mode and without gradients.
    `loss` and `optimizer` replace the config's: a function of (logits, targets) that gives the mean, and an object with `step` and
    `zero_grad` (and `state_dict`, `load_state_dict` where checkpoints are wanted).
    """

    def __init__(
        self,
        model: LanguageModel,
        batches: Batches,
        config: TrainingConfig,
        *,
        out: str | Path | None = None,
        tokenizer: Any = None,
        evaluate: Callable[[LanguageModel], dict[str, float]] | None = None,
        sample: Callable[[LanguageModel], str] | None = None,
        loggers: Sequence[Logger] = (),
        loss: Loss | None = None,
        optimizer: Any = None,
    ) -> None:
        self.model, self.batches, self.config = model, batches, config
        self.folder = None if out is None else RunFolder(out, keep=config.keep, pinned=config.last_stable_step)
        self.tokenizer, self.loggers = tokenizer, list(loggers)
        self._evaluate, self._sample, self._loss = evaluate, sample, loss
        self.optimizer = make_optimizer(model, config) if optimizer is None else optimizer
        self.factor = config.factor()
        schedule = config.schedule
        self.plateau = None
        if schedule.kind == "plateau":
            self.plateau = Plateau(schedule.patience, schedule.shrink, smallest=schedule.final)
        self.average = None if config.ema is None else ExponentialMovingAverage(model, config.ema)
        self.dropout = None if config.dropout is None else DropoutSchedule(model, config.dropout, config.steps)
        self.device = next(model.parameters()).device
        self.forward: Callable[[Tensor], Tensor] = torch.compile(model) if config.compile else model
        self.step_number, self.tokens, self.seconds = 0, 0, 0.0
        self.stopped: str | None = None  # the signal that ended the run early
        self._random: tuple[dict[str, Any], dict[str, Tensor]] | None = None  # where the run's randomness stands

    # ------------------------------------------------------------------------------------------------------ one update

    def step(self) -> Record:
        """One update: batches, rate, loss and gradients, clipping, weights."""
        number = self.step_number + 1
        batches = [self._next_batch(number) for _ in range(self.config.accumulate)]
        total = sum(int((batch.targets != IGNORE).sum()) for batch in batches)
        if total == 0:
            raise TrainingError(f"step {number}: every target of the batch is IGNORE: there is nothing to learn from")
        rate = self.config.learning_rate * self.factor(number) * (self.plateau.factor if self.plateau else 1.0)
        set_rate(self.optimizer, rate)
        if self.dropout is not None:
            self.dropout.set(number)
        self.model.train()
        self.optimizer.zero_grad()
        before = torch.get_rng_state()
        # Each batch counts by its targets, so that several small batches give the gradient of one large one.
        loss = 0.0
        for batch in batches:
            part = self.batch_loss(batch) * (int((batch.targets != IGNORE).sum()) / total)
            part.backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
        norm = clip_gradients(self.model.parameters(), self.config.clip)
        if not (abs(loss) < float("inf") and norm < float("inf")):
            torch.set_rng_state(before)
            raise self._not_finite(number, loss, norm, rate, batches)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)
        if self.plateau is not None:
            self.plateau.update(loss)
        self.step_number, self.tokens = number, self.tokens + total
        return Record(number, loss, rate, norm, self.tokens, self.seconds)

    def batch_loss(self, batch: Batch) -> Tensor:
        """The mean loss of a batch over its targets, and what parts of the model want added."""
        config = self.config
        with autocast(self.device, config.precision):
            logits = self.forward(batch.ids)
        if self._loss is not None:
            loss = self._loss(logits, batch.targets)
        else:
            loss = cross_entropy(
                logits,
                batch.targets,
                label_smoothing=config.label_smoothing,
                smoothing=config.smoothing,
                z_loss=config.z_loss,
            )
        return loss + self.model.auxiliary_loss()

    def _next_batch(self, number: int) -> Batch:
        try:
            batch = next(self.batches).to(self.device)
        except StopIteration:
            raise TrainingError(
                f"step {number} of {self.config.steps}: the batches have come to an end; give fewer steps, or batches that begin anew"
            ) from None
        if self.model.config.head.kind != "per_token":  # it predicts what follows the whole window, and nothing else
            return Batch(batch.ids, batch.targets[:, -1:])
        return batch

    # --------------------------------------------------------------------------------------------------------- the run

    def steps(self) -> Iterator[Record]:
        """Train from where the run stands to its last step, giving a record of every update.

        SIGINT (Ctrl-C) and SIGTERM let the step finish, save, and end the iteration; `stopped` then names the signal.
        """
        self._begin()
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(StopSignals())
            for logger in self.loggers:
                logger.start(self)
                stack.callback(logger.finish)
            if self.dropout is not None:
                stack.callback(self.dropout.restore)
            last_save = started = time.perf_counter()
            while self.step_number < self.config.steps and stop.received is None:
                record = self.step()
                now = time.perf_counter()
                self.seconds, started = self.seconds + now - started, now
                record = self._look(record)
                if record.step % self.config.log_every == 0 or record.metrics or record.text or self._at_end:
                    for logger in self.loggers:
                        logger.log(record)
                if self.folder is not None and (self._due_to_save(last_save) or stop.received):
                    self.save()
                    last_save = time.perf_counter()
                yield record
            self.stopped = stop.received

    def train(self) -> list[Record]:
        """Train to the last step; returns the records of all updates."""
        return list(self.steps())

    @property
    def _at_end(self) -> bool:
        return self.step_number >= self.config.steps

    def _begin(self) -> None:
        """Set up what must be there before the first step."""
        self.stopped = None
        if self._random is None:
            seed_everything(self.config.seed)
        else:
            restore_random_state(*self._random)
        self._random = None
        if self.folder is not None:
            self.folder.prepare(self.model, self.tokenizer, self.config, fresh=self.step_number == 0)

    def _look(self, record: Record) -> Record:
        """Evaluate and sample where it is their turn; the run's own random numbers are not touched."""
        every = self.config.evaluate_every
        evaluate = self._evaluate if every and (record.step % every == 0 or self._at_end) else None
        every = self.config.sample_every
        sample = self._sample if every and (record.step % every == 0 or self._at_end) else None
        if evaluate is None and sample is None:
            return record
        with untouched_randomness(), torch.no_grad(), self.best_weights():
            self.model.eval()
            metrics = evaluate(self.model) if evaluate else {}
            text = sample(self.model) if sample else None
        self.model.train()
        names = ("step", "loss", "learning_rate", "gradient_norm", "tokens", "seconds")
        return Record(*(getattr(record, name) for name in names), metrics=metrics, text=text)

    def best_weights(self) -> contextlib.AbstractContextManager[None]:
        """Within, the model has its averaged weights, where there is an average."""
        return contextlib.nullcontext() if self.average is None else self.average.applied(self.model)

    def _not_finite(self, number: int, loss: float, norm: float, rate: float, batches: list[Batch]) -> NotFiniteError:
        """Do the step once more under observation, and say where it breaks."""
        layer, what = "no layer", ""
        for batch in batches:
            self.optimizer.zero_grad()
            layer, what = find_not_finite(self.model, lambda batch=batch: self.batch_loss(batch))  # type: ignore[misc]
            if layer != "no layer":
                break
        self.optimizer.zero_grad()
        saved = self.folder.newest_name() if self.folder is not None else None
        return NotFiniteError(
            f"step {number}: the loss is {loss:.4g} and the gradient norm {norm:.4g}. It begins in {layer}: {what}. "
            f"The weights are still those of step {number - 1}. Try a lower learning rate than {rate:.3g}, a longer warm-up, or "
            f"clipping (clip={self.config.clip})" + (f"; {saved} can be resumed." if saved else "."),
            number,
            layer,
        )

    # --------------------------------------------------------------------------------------------- saving and going on

    def _due_to_save(self, last_save: float) -> bool:
        config = self.config
        return (
            self._at_end
            or (config.checkpoint_every is not None and self.step_number % config.checkpoint_every == 0)
            or (config.checkpoint_seconds is not None and time.perf_counter() - last_save >= config.checkpoint_seconds)
            or self.step_number == config.last_stable_step
        )

    def save(self) -> Path:
        """Write a checkpoint now, and make the run's folder hold its model."""
        if self.folder is None:
            raise TrainingError("this run has no folder to save to: make it with Trainer(..., out=FOLDER)")
        from minilm.training.resuming import state_of

        weights, tensors, state = state_of(self)
        return self.folder.save(self.step_number, self.model, weights, tensors, state)

    def resume(self, checkpoint: str | Path | None = None) -> int:
        """Go on from the newest whole checkpoint of the run's folder, or from one that is named; returns its step.

        Without any checkpoint the run begins at its first step (0 is returned). A named checkpoint may be another run's: a decay
        branches off a stable phase so.
        """
        from minilm.training.resuming import load_state

        if checkpoint is None and self.folder is None:
            raise TrainingError("this run has no folder to resume from: name a checkpoint")
        found = RunFolder.read(Path(checkpoint)) if checkpoint is not None else self.folder.newest()  # type: ignore[union-attr]
        if found is not None:
            load_state(self, found)
        return self.step_number


def make_optimizer(model: LanguageModel, config: TrainingConfig) -> torch.optim.Optimizer:
    """The config's optimizer over the model's parameter groups."""
    chosen = config.optimizer
    groups = parameter_groups(model, chosen.weight_decay)
    if chosen.kind == "sgd":
        return SGD(groups, config.learning_rate, momentum=chosen.momentum)
    kind = AdamW if chosen.kind == "adamw" else Adam
    return kind(groups, config.learning_rate, betas=(chosen.beta1, chosen.beta2), eps=chosen.eps)


def set_rate(optimizer: Any, rate: float) -> None:
    """Set the learning rate of all groups, or of an optimizer that has none and keeps its rate in `lr`."""
    groups = getattr(optimizer, "param_groups", None)
    if groups is None:
        optimizer.lr = rate
        return
    for group in groups:
        group["lr"] = rate
