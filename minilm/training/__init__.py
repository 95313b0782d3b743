"""Lesson 06: training. A loss, an optimizer, a schedule, batches, and the loop that puts them together.

Read in this order:

- `losses`: cross-entropy by hand, label smoothing, z-loss; `chunked_loss`: the same without ever holding all logits;
- `optimizers`: SGD, momentum, Adam, AdamW, parameter groups, clipping;
- `schedules`: warm-up and cosine, WSD, plateau; `dropout`: the same idea for dropout;
- `batches`: documents or windows, and where in the data a run stands;
- `config`: everything that a run is made from;
- `trainer`: one update, and the run around it;
- `averages`, `precision`, `diagnosis` (where infinity came from), `stopping` (Ctrl-C), `loggers`;
- `checkpoints`, `run_folder`, `resuming`, `randomness`: what makes a killed run go on to the last bit.

    config = TrainingConfig(steps=1000)
    trainer = Trainer(model, DocumentBatches(documents, 32, end_id), config, out="runs/first", tokenizer=tokenizer)
    for record in trainer.steps():
        print(record.step, record.loss)
"""

from minilm.data.windows import IGNORE
from minilm.training.averages import ExponentialMovingAverage
from minilm.training.batches import Batch, Batches, DocumentBatches, WindowBatches
from minilm.training.chunked_loss import linear_cross_entropy
from minilm.training.config import DropoutConfig, OptimizerConfig, ScheduleConfig, TrainingConfig, decay_branch
from minilm.training.dropout import DropoutSchedule, dropout_rate
from minilm.training.errors import CheckpointError, NotFiniteError, TrainingError
from minilm.training.loggers import ConsoleLogger, CSVLogger, TensorBoardLogger, read_curve
from minilm.training.losses import cross_entropy, smoothing_floor
from minilm.training.optimizers import SGD, Adam, AdamW, clip_gradients, gradient_norm, parameter_groups
from minilm.training.precision import HalfPrecisionCopy, autocast
from minilm.training.schedules import (
    Plateau,
    constant,
    misplaced_cosine,
    steps_without_decrease,
    warmup_cosine,
    warmup_stable_decay,
)
from minilm.training.trainer import Logger, Record, Trainer

__all__ = [
    "IGNORE",
    "SGD",
    "Adam",
    "AdamW",
    "Batch",
    "Batches",
    "CSVLogger",
    "CheckpointError",
    "ConsoleLogger",
    "DocumentBatches",
    "DropoutConfig",
    "DropoutSchedule",
    "ExponentialMovingAverage",
    "HalfPrecisionCopy",
    "Logger",
    "NotFiniteError",
    "OptimizerConfig",
    "Plateau",
    "Record",
    "ScheduleConfig",
    "TensorBoardLogger",
    "Trainer",
    "TrainingConfig",
    "TrainingError",
    "WindowBatches",
    "autocast",
    "clip_gradients",
    "constant",
    "cross_entropy",
    "decay_branch",
    "dropout_rate",
    "gradient_norm",
    "linear_cross_entropy",
    "misplaced_cosine",
    "parameter_groups",
    "read_curve",
    "smoothing_floor",
    "steps_without_decrease",
    "warmup_cosine",
    "warmup_stable_decay",
]
