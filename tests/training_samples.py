"""A run that is small and uses everything at once: what tests of the trainer train."""

from pathlib import Path
from typing import Any

import torch

from minilm.model import LanguageModel
from minilm.training import CSVLogger, ScheduleConfig, Trainer, TrainingConfig, WindowBatches

VOCAB = 20


def tiny_model(seed: int = 0, **overrides: Any) -> LanguageModel:
    """About a thousand parameters."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "vocab_size": VOCAB,
        "dim": 8,
        "num_layers": 2,
        "context_length": 12,
        "attention": {"num_heads": 2},
        "feed_forward": {"hidden": 8},
        "block": {"dropout": 0.1},
    }
    return LanguageModel.from_preset("slim", **(options | overrides))


def tiny_batches(seed: int = 0) -> WindowBatches:
    """Windows of a row of tokens in which each follows from the one before."""
    return WindowBatches((torch.arange(400) ** 2 // 3) % VOCAB, 4, 12, seed=seed)


def tiny_config(steps: int = 20, **changes: Any) -> TrainingConfig:
    """Dropout, an average, accumulation and a schedule with three phases: all that a resumed run has to remember."""
    config = TrainingConfig(
        steps=steps,
        schedule=ScheduleConfig("wsd", warmup=3, decay=5),
        accumulate=2,
        ema=0.9,
        evaluate_every=4,
        log_every=1,
        checkpoint_every=3,
        checkpoint_seconds=None,
    )
    return config.replace(**changes)


def measure(model: LanguageModel) -> dict[str, float]:
    """A metric that depends on the weights, and draws random numbers as an evaluation may."""
    batch = next(tiny_batches(seed=torch.randint(100, ()).item()))  # type: ignore[arg-type]
    return {"first_logit": float(model(batch.ids)[0, 0, 0])}


def tiny_trainer(out: Path | None, steps: int = 20, seed: int = 0, **changes: Any) -> Trainer:
    """The run, with a curve in its folder."""
    loggers = [] if out is None else [CSVLogger(out / "curve.csv", metrics=("first_logit",))]
    return Trainer(
        tiny_model(seed), tiny_batches(), tiny_config(steps, **changes), out=out, evaluate=measure, loggers=loggers
    )


def curve(out: Path) -> list[str]:
    """The rows of the run's curve without their seconds."""
    lines = (out / "curve.csv").read_text().splitlines()
    place = lines[0].split(",").index("seconds")
    return [",".join(cells[:place] + cells[place + 1 :]) for cells in (line.split(",") for line in lines)]
