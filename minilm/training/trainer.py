"""The training loop: `Trainer.step` is one update of the weights, `Trainer.steps` the run around it."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from minilm.data.windows import IGNORE
from minilm.model import LanguageModel
from minilm.model.compiling import compiled
from minilm.model.parts import TokenHead
from minilm.training import resuming
from minilm.training.averages import ExponentialMovingAverage
from minilm.training.batches import Batch, Batches
from minilm.training.chunked_loss import linear_cross_entropy
from minilm.training.config import TrainingConfig
from minilm.training.diagnosis import not_finite
from minilm.training.dropout import DropoutSchedule
from minilm.training.errors import TrainingError
from minilm.training.losses import cross_entropy
from minilm.training.optimizers import clip_gradients, make_optimizer, set_rate
from minilm.training.precision import HalfPrecisionCopy, autocast, float32_products
from minilm.training.randomness import random_state, restore_random_state, seed_everything, untouched_randomness
from minilm.training.run_folder import RunFolder
from minilm.training.schedules import Plateau
from minilm.training.stopping import StopSignals

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Record:
    """What one update did."""

    step: int  # this was update number `step`, from 1 on
    loss: float  # of its batch, in nats a target, before the update; with what parts of the model want added to it
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens: int  # targets learned from since the run began
    seconds: float  # since the run began, interruptions left out
    metrics: dict[str, float] = field(default_factory=dict)  # from `evaluate`, where this step had its turn
    text: str | None = None  # from `sample`
    auxiliary: float = 0.0  # the part of the loss that parts of the model want added: a mixture's balance, say


class Logger(Protocol):
    """Somebody who is told how a run goes."""

    def start(self, trainer: "Trainer") -> None:
        """The run begins, or goes on, after `trainer.step_number` updates."""
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
    called with the model (its averaged weights, where there is an average) in eval mode and without gradients, every so many steps
    and after the last.
    `loss` and `optimizer` replace the config's: a function of (logits, targets) that gives the mean over the targets that are not
    `IGNORE`, and an object with `step` and `zero_grad` (and `state_dict`, `load_state_dict` where there are checkpoints).
    `publish` makes of the weights by name those that others should load from the run's folder (adapters folded in, say).

    A run starts all random number generators from config.seed, and what `evaluate`, `sample` and the loop's reader draw does not
    touch it: the same config gives the same run, interrupted or not.
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
        publish: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        if publish is not None and config.ema is not None:
            raise ValueError("publish and an average of the weights (ema) both say what others should load: choose one")
        self.publish = publish
        self.model, self.batches, self.config, self.tokenizer = model, batches, config, tokenizer
        self.evaluate, self.sample, self.loggers = evaluate, sample, list(loggers)
        self.folder = None if out is None else RunFolder(out, keep=config.keep, pinned=config.last_stable_step)
        self.loss = loss or self._config_loss
        self.optimizer = optimizer or make_optimizer(model, config.optimizer, config.learning_rate)
        self.factor = config.factor()
        schedule, self.plateau = config.schedule, None
        if schedule.kind == "plateau":
            self.plateau = Plateau(schedule.patience, schedule.shrink, smallest=schedule.final)
        self.average = None if config.ema is None else ExponentialMovingAverage(model, config.ema)
        self.device = next(model.parameters()).device
        # What computes: the model, or a copy in half precision that follows it.
        self.half = HalfPrecisionCopy(model) if config.precision == "bfloat16-weights" else None
        self.network = model if self.half is None else self.half.network
        self.dropout = None if config.dropout is None else DropoutSchedule(self.network, config.dropout, config.steps)
        if config.loss_chunk is not None:
            self._check_chunked(loss)
        computed: Callable[..., Tensor] = self.network if config.loss_chunk is None else self.network.hidden
        self.forward = (
            compiled(computed) if config.compile else computed
        )  # to logits, or to what the head reads of them
        self.step_number, self.tokens, self.seconds = 0, 0, 0.0
        self.stopped: str | None = None  # the signal that ended the run early
        self.random_state: tuple[dict[str, Any], dict[str, Tensor]] | None = None  # to go on from; None: config.seed

    # ------------------------------------------------------------------------------------------------------ one update

    def step(self) -> Record:
        """One update: batches, rate, loss and gradients, clipping, weights."""
        number = self.step_number + 1
        batches = [self._next_batch(number) for _ in range(self.config.accumulate)]
        learned = sum(int((batch.targets != IGNORE).sum()) for batch in batches)
        if learned == 0:
            raise TrainingError(
                f"step {number}: every target of the batch is IGNORE, so there is nothing to learn from"
            )
        rate = self.config.learning_rate * self.factor(number) * (self.plateau.factor if self.plateau else 1)
        set_rate(self.optimizer, rate)
        if self.dropout is not None:
            self.dropout.set(number)
        if self.half is not None:
            self.half.refresh()
        self.network.train()
        self.optimizer.zero_grad()
        loss, auxiliary, random_before = 0.0, 0.0, torch.get_rng_state()
        weights = [batch.weight for batch in batches]
        for batch, weight in zip(batches, weights, strict=True):
            # A batch weighs as much as it has targets, so that several small ones give the gradient of one large one.
            with float32_products(self.config.precision):
                share = self.batch_loss(batch) * (weight / sum(weights))
                share.backward()  # type: ignore[no-untyped-call]
            if self.half is not None:
                self.half.collect_gradients()
            loss += float(share.detach())
            auxiliary += float(self.network.auxiliary_loss().detach()) * (weight / sum(weights))
        norm = clip_gradients(self.model.parameters(), self.config.clip)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            torch.set_rng_state(random_before)
            raise not_finite(self, number, loss, norm, batches)
        self.optimizer.step()
        self.model.after_step()
        if self.average is not None:
            self.average.update(self.model)
        if self.plateau is not None:
            self.plateau.update(loss)
        self.step_number, self.tokens = number, self.tokens + learned
        return Record(number, loss, rate, norm, self.tokens, self.seconds, auxiliary=auxiliary)

    def batch_loss(self, batch: Batch) -> Tensor:
        """The mean loss of a batch over its targets, and what parts of the model want added to it."""
        batch = batch.to(self.device)
        with autocast(self.device, self.config.precision):
            read = batch.logits(self.forward)
            if self.config.loss_chunk is not None:
                return self._chunked_loss(read, batch.targets) + self.network.auxiliary_loss()
        return self.loss(read, batch.targets) + self.network.auxiliary_loss()

    def _config_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        c = self.config
        return cross_entropy(logits, targets, label_smoothing=c.label_smoothing, smoothing=c.smoothing, z_loss=c.z_loss)

    def _chunked_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        c, head = self.config, self.network.head
        return linear_cross_entropy(
            hidden,
            head.weight,  # type: ignore[arg-type]
            targets,
            head.bias,  # type: ignore[arg-type]
            chunk=c.loss_chunk or 1,
            label_smoothing=c.label_smoothing,
            smoothing=c.smoothing,
            z_loss=c.z_loss,
        )

    def _check_chunked(self, loss: Loss | None) -> None:
        """Refuse to take a loss apart that is not the config's on a head that is one matrix for every position."""
        if loss is not None or type(self).batch_loss is not Trainer.batch_loss:
            raise ValueError(
                "loss_chunk takes cross-entropy apart, and this run has a loss of its own: set loss_chunk=None"
            )
        if type(self.network.head) is not TokenHead:
            raise ValueError(
                f"loss_chunk takes the usual head apart, and this model's is a {type(self.network.head).__name__}: set loss_chunk=None"
            )

    def _next_batch(self, number: int) -> Batch:
        try:
            batch = next(self.batches)
        except StopIteration:
            raise TrainingError(
                f"step {number} of {self.config.steps}: the batches have come to an end; "
                "train for fewer steps, or on batches that begin anew"
            ) from None
        if self.model.config.head.kind != "per_token":  # it predicts what follows the whole window, and nothing else
            return Batch(batch.ids, batch.targets[:, -1:])
        return batch

    # --------------------------------------------------------------------------------------------------------- the run

    def steps(self) -> Iterator[Record]:
        """Train from where the run stands to its end, giving a record of every update.

        SIGINT (Ctrl-C) and SIGTERM let the step finish, save, and end the iteration; `stopped` then names the signal.
        """
        with contextlib.ExitStack() as run:
            stop = self._begin(run)
            saved_at = clock = time.perf_counter()
            while not self.done and stop.received is None:
                record = self._look(self.step())
                now = time.perf_counter()
                self.seconds, clock = self.seconds + now - clock, now
                record = dataclasses.replace(record, seconds=self.seconds)
                # Logged before it is saved: what a checkpoint has behind it is in every log.
                if record.step % self.config.log_every == 0 or record.metrics or record.text is not None or self.done:
                    for logger in self.loggers:
                        logger.log(record)
                if self.folder is not None and (self._due_to_save(now - saved_at) or stop.received):
                    self.save()
                    saved_at = time.perf_counter()
                with untouched_randomness(only_torch=True):
                    yield record
            if self.folder is not None and self.folder.newest_step != self.step_number:
                self.save()
            self.stopped = stop.received

    def train(self) -> list[Record]:
        """Train to the end; returns the records of all updates."""
        return list(self.steps())

    @property
    def done(self) -> bool:
        """Whether the run has had all its steps, or its plateau rule wants to go below the lowest rate."""
        return self.step_number >= self.config.steps or (self.plateau is not None and self.plateau.exhausted)

    def _begin(self, run: contextlib.ExitStack) -> StopSignals:
        """Set up what must be there before the first step, and what must happen after the last."""
        self.stopped = None
        if self.folder is not None:
            self.folder.prepare(self.model, self.tokenizer, self.config)
        if self.random_state is None:
            seed_everything(self.config.seed)
        else:
            restore_random_state(*self.random_state)
        stop = run.enter_context(StopSignals())
        for logger in self.loggers:
            logger.start(self)
            run.callback(logger.finish)
        if self.dropout is not None:
            run.callback(self.dropout.restore)
        run.callback(lambda: setattr(self, "random_state", random_state()))
        return stop

    def _look(self, record: Record) -> Record:
        """Evaluate and sample where it is their turn."""
        evaluate = self.evaluate if self._has_its_turn(self.config.evaluate_every) else None
        sample = self.sample if self._has_its_turn(self.config.sample_every) else None
        if evaluate is None and sample is None:
            return record
        with untouched_randomness(), torch.no_grad(), self.best_weights():
            self.model.eval()
            metrics = evaluate(self.model) if evaluate else {}
            return dataclasses.replace(record, metrics=metrics, text=sample(self.model) if sample else None)

    def _has_its_turn(self, every: int | None) -> bool:
        return self.done or (every is not None and self.step_number % every == 0)

    def best_weights(self) -> contextlib.AbstractContextManager[None]:
        """Within, the model has its averaged weights, where there is an average."""
        return contextlib.nullcontext() if self.average is None else self.average.applied(self.model)

    # --------------------------------------------------------------------------------------------- saving and going on

    def _due_to_save(self, seconds: float) -> bool:
        c = self.config
        by_step = c.checkpoint_every is not None and self.step_number % c.checkpoint_every == 0
        by_time = c.checkpoint_seconds is not None and seconds >= c.checkpoint_seconds
        return by_step or by_time or self.done or self.step_number == c.last_stable_step

    def save(self) -> Path:
        """Write a checkpoint now, and make the run's folder hold its model; returns the checkpoint's folder."""
        if self.folder is None:
            raise TrainingError("this run has no folder to save to: make it with Trainer(..., out=FOLDER)")
        return self.folder.save(self.step_number, self.model, *resuming.state_of(self))

    def resume(self, checkpoint: str | Path | None = None) -> int:
        """Go on from the newest whole checkpoint of the run's folder, or from one that is named; returns its step.

        Where the folder has no checkpoint yet, the run begins at its beginning, and 0 is returned. A named checkpoint may be another
        run's: a decay of its own branches off a stable phase so (`decay_branch`).
        """
        if checkpoint is None and self.folder is None:
            raise TrainingError(
                "this run has no folder to resume from: name a checkpoint, or give the trainer out=FOLDER"
            )
        found = RunFolder.read(Path(checkpoint)) if checkpoint is not None else self.folder.newest()  # type: ignore[union-attr]
        if found is not None:
            resuming.load_state(self, found)
            if self.folder is not None:
                self.folder.went_on_from(found)
        return self.step_number
