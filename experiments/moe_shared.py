"""What the recorded experiments of lesson 09 share: models in three sizes, how experts are used on text, and the record."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minilm.config import AttentionConfig, FeedForwardConfig, InitConfig, ModelConfig, MoEConfig, PositionConfig
from minilm.data.windows import IGNORE
from minilm.model import LanguageModel
from minilm.moe import MixtureOfExperts
from minilm.recorded import RECORDED
from minilm.training import Batch, DocumentBatches, Trainer

EXPERTS, CHOSEN = 8, 2


@dataclass(frozen=True)
class Shape:
    """A small model; `hidden` is the width of one expert."""

    dim: int
    layers: int
    heads: int
    hidden: int
    context: int

    def config(self, vocabulary: int, moe: MoEConfig | None = None, width: int = 1) -> ModelConfig:
        """A mixture of experts, or without `moe` a dense model whose feed-forwards are as wide as `width` experts."""
        return ModelConfig(
            vocab_size=vocabulary,
            dim=self.dim,
            num_layers=self.layers,
            context_length=self.context,
            attention=AttentionConfig(num_heads=self.heads),
            feed_forward=FeedForwardConfig(hidden=self.hidden * width, moe=moe),
            positions=PositionConfig("rotary"),
            initialization=InitConfig(std=self.dim**-0.5),
        )

    def three(self, vocabulary: int, moe: MoEConfig) -> dict[str, ModelConfig]:
        """The mixture, the dense model that computes as much, and the dense model that has as much room."""
        return {
            "dense, active size": self.config(vocabulary, width=moe.chosen),
            "mixture": self.config(vocabulary, moe),
            "dense, total size": self.config(vocabulary, width=moe.num_experts),
        }


def mixtures(model: LanguageModel) -> list[MixtureOfExperts]:
    """The mixture of every layer, first layer first."""
    return [part for part in model.modules() if isinstance(part, MixtureOfExperts)]


@torch.no_grad()
def count_choices(model: LanguageModel, batches: Iterable[Batch]) -> Tensor:
    """How often each expert of each layer is chosen (layers experts), padding left out; the model is in eval mode meanwhile."""
    layers, was_training = mixtures(model), model.training
    counts = torch.zeros(len(layers), layers[0].moe.num_experts, dtype=torch.float64)
    model.eval()
    for batch in batches:
        model(batch.ids)
        real = (batch.targets != IGNORE).flatten()
        for number, layer in enumerate(layers):
            assert layer.routing is not None
            chosen = layer.routing.experts
            chosen = chosen[real] if layer.routing.tokens_per_row == 1 else chosen
            counts[number] += torch.bincount(chosen.flatten(), minlength=counts.shape[1])
    model.train(was_training)
    return counts


def held_out_batches(documents: list[list[int]], end: int, size: int = 32) -> list[Batch]:
    """All of these documents, once."""
    batches = DocumentBatches(documents, size, end)
    return [next(batches) for _ in range(len(batches))]


def finished(trainer: Trainer) -> None:
    """End the program if a signal stopped the run: a trainer then returns as if it were done, and half a run may not be recorded."""
    if trainer.stopped is not None:
        raise SystemExit(f"stopped by {trainer.stopped} after step {trainer.step_number}: this run is not recorded")


def keep(name: str, command: str, settings: dict[str, Any], runs: list[dict[str, Any]], **more: Any) -> None:
    """Write the record, one run a line."""
    head = json.dumps({"command": command, "settings": settings, **more}, indent=1)
    rows = ",\n  ".join(json.dumps(run) for run in runs)
    (RECORDED / f"{name}.json").write_text(f'{head[:-2]},\n "runs": [\n  {rows}\n ]\n}}\n', encoding="utf-8")
