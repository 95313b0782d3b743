"""Training on preferences: pairs as ids, the reference's log-probabilities computed once, batches of pairs, and their trainer.

The reference never changes, so its part of the loss is a number an answer: computed before training, it takes one pass over the
data, and the reference itself need not be kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from minilm.evaluation.likelihood import LOGITS_AT_ONCE, only_reading
from minilm.finetuning.batches import ExampleBatches, checksum, padded
from minilm.finetuning.chat import Example, encode_chat
from minilm.finetuning.preferences import (
    PreferenceConfig,
    PreferenceReport,
    dpo_loss,
    ipo_loss,
    kto_loss,
    sequence_log_probs,
)
from minilm.model import LanguageModel
from minilm.tokenizer import BPETokenizer
from minilm.tokenizer.chat import Message
from minilm.training import Batch, Trainer, TrainingConfig, autocast


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, each with the prompt before it and only the answer learned."""

    chosen: Example
    rejected: Example

    def __len__(self) -> int:
        return max(len(self.chosen), len(self.rejected))


def encode_pair(tokenizer: BPETokenizer, prompt: Sequence[Message], chosen: str, rejected: str) -> Pair:
    """A comparison as ids: each answer as the assistant's turn after the prompt."""
    return Pair(
        *(
            encode_chat(tokenizer, [*prompt, {"role": "assistant", "content": answer}], learn="last")
            for answer in (chosen, rejected)
        )
    )


def answer_log_probs(
    model: LanguageModel, examples: Sequence[Example], average: bool = False
) -> Float[Tensor, "examples"]:
    """ln p of each example's learned tokens in nats, in evaluation mode and without gradient; on the CPU, in float32.

    Examples of about one length share a batch of at most 64 MiB of logits.
    """
    order = sorted(range(len(examples)), key=lambda i: len(examples[i]), reverse=True)
    found = torch.empty(len(examples))
    device, place = next(model.parameters()).device, 0
    with only_reading(model):
        while place < len(order):
            size = max(1, LOGITS_AT_ONCE // (len(examples[order[place]]) * model.config.vocab_size))
            chosen = order[place : place + size]
            ids, targets = (each.to(device) for each in padded([examples[i] for i in chosen]))
            found[chosen] = sequence_log_probs(model(ids), targets, average).float().cpu()
            place += size
    return found


@dataclass(frozen=True)
class PreferenceBatch(Batch):
    """Rows of chosen answers, then of rejected ones, then (for KTO) of answers to other prompts, and the reference's ln p of each."""

    reference: Float[Tensor, "batch"]
    pairs: int

    @property
    def weight(self) -> int:
        """A batch counts as much as it has pairs."""
        return self.pairs


class PreferenceBatches(ExampleBatches):
    """Batches of pairs with the reference's log-probabilities, computed here once, with `reference` as it is now.

    Where they are known already, `reference` may be they themselves: the `reference` of earlier batches of the same pairs.
    With `mismatched`, every pair also brings its prompt with the chosen answer of the pair after it: what KTO measures the distance
    to the reference on.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        batch_size: int,
        reference: LanguageModel | Tensor,
        seed: int = 0,
        *,
        average: bool = False,
        mismatched: bool = False,
    ) -> None:
        columns = [[pair.chosen for pair in pairs], [pair.rejected for pair in pairs]]
        if mismatched:
            longest = max(map(len, pairs), default=0)
            columns.append([_swap(pair, pairs[(i + 1) % len(pairs)], longest) for i, pair in enumerate(pairs)])
        self.columns = columns
        flat = [example for column in columns for example in column]
        super().__init__(pairs, batch_size, seed, checksum(flat))
        measured = reference if isinstance(reference, Tensor) else answer_log_probs(reference, flat, average)
        if measured.numel() != len(flat):
            raise ValueError(
                f"the reference's log-probabilities are {measured.numel()}, and there are {len(flat)} answers"
            )
        self.reference = measured.view(len(columns), len(pairs))

    def log_probs(self, model: LanguageModel, average: bool = False) -> Float[Tensor, "columns pairs"]:
        """ln p of every answer in nats, computed in the same rows and batches as the reference's.

        Other batches round otherwise in the last digits; so the reference itself gets its own numbers, and all its pairs are ties.
        """
        flat = [example for column in self.columns for example in column]
        return answer_log_probs(model, flat, average).view(len(self.columns), -1)

    def batch(self, chosen: Sequence[int]) -> PreferenceBatch:
        """The pairs of these numbers."""
        rows = [column[i] for column in self.columns for i in chosen]
        return PreferenceBatch(*padded(rows), self.reference[:, list(chosen)].flatten(), len(chosen))


def _swap(pair: Pair, other: Pair, longest: int) -> Example:
    """The prompt of one pair with the chosen answer of another, cut where it would be longer than any of the pairs."""
    prompt, answer = pair.chosen.learned.index(True), other.chosen.learned.index(True)
    return Example(
        (pair.chosen.ids[:prompt] + other.chosen.ids[answer:])[: longest + 1],
        (pair.chosen.learned[:prompt] + other.chosen.learned[answer:])[: longest + 1],
    )


class PreferenceTrainer(Trainer):
    """A `Trainer` whose loss is that of a `PreferenceConfig`, on `PreferenceBatches`; `latest` says where its last batch stood."""

    def __init__(
        self,
        model: LanguageModel,
        batches: PreferenceBatches,
        config: TrainingConfig,
        preference: PreferenceConfig | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, batches, config, **options)
        self.preference = preference or PreferenceConfig()
        self.latest: PreferenceReport | None = None
        if self.preference.loss == "kto" and len(batches.columns) < 3:
            raise ValueError("kto compares with answers to other prompts: make PreferenceBatches(..., mismatched=True)")

    def batch_loss(self, batch: Batch) -> Tensor:
        """The mean loss of a batch over its pairs, and what parts of the model want added to it."""
        if not isinstance(batch, PreferenceBatch):
            raise TypeError(f"preferences are learned from a PreferenceBatch, got {type(batch).__name__}")
        batch = batch.to(self.device)
        with autocast(self.device, self.config.precision):
            logits = batch.logits(self.forward)
        policy = sequence_log_probs(logits, batch.targets, self.preference.average).view(-1, batch.pairs)
        reference = batch.reference.view(-1, batch.pairs)
        self.latest = PreferenceReport.of(
            policy[0].detach(), policy[1].detach(), reference[0], reference[1], self.preference.beta
        )
        return preference_loss(policy, reference, self.preference) + self.model.auxiliary_loss()


def preference_loss(
    policy: Float[Tensor, "columns pairs"], reference: Float[Tensor, "columns pairs"], config: PreferenceConfig
) -> Float[Tensor, ""]:
    """The mean loss of pairs: chosen in the first row, rejected in the second, mismatched in the third where there are some."""
    four = policy[0], policy[1], reference[0], reference[1]
    if config.loss == "dpo":
        return dpo_loss(*four, config.beta, config.label_smoothing).mean()
    if config.loss == "ipo":
        return ipo_loss(*four, config.beta).mean()
    weights = config.chosen_weight, config.rejected_weight
    return kto_loss(*four, policy[2], reference[2], config.beta, *weights).mean()


def preference_report(
    policy: LanguageModel, batches: PreferenceBatches, beta: float = 0.1, average: bool = False
) -> PreferenceReport:
    """Where a policy stands on all pairs of some batches, whose reference was measured when they were made.

    The reference itself has accuracy 0.5: every pair is a tie.
    """
    measured = batches.log_probs(policy, average)
    return PreferenceReport.of(measured[0], measured[1], batches.reference[0], batches.reference[1], beta)
