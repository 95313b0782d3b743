"""Batches of conversations: one a row with padding behind it, or many packed into a row that can't see each other.

Packed and padded give the same losses and the same gradients, to rounding; packed computes on next to no padding.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from minilm.attention import document_mask
from minilm.config import ModelConfig
from minilm.data.windows import IGNORE
from minilm.finetuning.chat import Example
from minilm.training import Batch


@dataclass(frozen=True)
class PackedBatch(Batch):
    """Rows that hold several conversations each: `documents` numbers them (-1: padding), `positions` starts anew with each."""

    documents: Int[Tensor, "batch seq"]
    positions: Int[Tensor, "batch seq"]

    def logits(self, model: Callable[..., Tensor]) -> Tensor:
        """The model's, with each conversation alone in the world."""
        return model(self.ids, positions=self.positions, mask=document_mask(self.documents))


class ExampleBatches:
    """What batches of examples have in common: epochs, an order of its own for each, and where in them a run stands.

    An epoch visits every example once, in an order drawn from (seed, epoch). A subclass says how examples become a batch, and
    may say which share one. `checksum` changes with the examples, so that a run goes on with no others.
    """

    def __init__(self, examples: Sequence[Any], batch_size: int, seed: int, checksum: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size}: it must be at least 1")
        if not examples:
            raise ValueError("there are no examples to train on")
        self.examples, self.batch_size, self.seed = list(examples), batch_size, seed
        self.epoch, self.number = 0, 0
        self._checksum = checksum
        self._plan: tuple[int, list[list[int]]] | None = None

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.number >= len(self):
            self.epoch, self.number = self.epoch + 1, 0
        if self._plan is None or self._plan[0] != self.epoch:
            self._plan = (self.epoch, self.plan(np.random.default_rng((self.seed, self.epoch))))
        chosen = self._plan[1][self.number]
        self.number += 1
        return self.batch(chosen)

    def plan(self, random: np.random.Generator) -> list[list[int]]:
        """Which examples each batch of an epoch holds."""
        order = random.permutation(len(self.examples)).tolist()
        return [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]

    def batch(self, chosen: Sequence[int]) -> Any:
        """The examples of these numbers as a batch."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batch, and what they were drawn from."""
        return {**self._identity(), "epoch": self.epoch, "number": self.number}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. ValueError if the data is not the same."""
        different = [
            f"{name} was {state.get(name)!r} and is {now!r}"
            for name, now in self._identity().items()
            if state.get(name) != now
        ]
        if different:
            raise ValueError(f"the batches are not those of the interrupted run: {'; '.join(different)}")
        self.epoch, self.number = state["epoch"], state["number"]

    def _identity(self) -> dict[str, Any]:
        return {
            "kind": type(self).__name__,
            "examples": len(self.examples),
            "checksum": self._checksum,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }


class ChatBatches(ExampleBatches):
    """Batches of conversations, one a row, padded behind to the longest of the batch with targets `IGNORE`.

    Conversations of about the same length share a batch: an epoch's order is drawn, `bucket` batches at a time are sorted by
    length, and the batches are shuffled again.
    """

    def __init__(self, examples: Iterable[Example], batch_size: int, seed: int = 0, *, bucket: int = 20) -> None:
        listed = list(examples)
        super().__init__(listed, batch_size, seed, checksum(listed))
        if bucket < 1:
            raise ValueError(f"bucket = {bucket}: it must be at least 1")
        self.bucket = bucket

    def plan(self, random: np.random.Generator) -> list[list[int]]:
        """Which examples each batch of an epoch holds: those of about one length."""
        order = random.permutation(len(self.examples)).tolist()
        size = self.batch_size * self.bucket
        buckets = [
            sorted(order[start : start + size], key=lambda i: len(self.examples[i]))
            for start in range(0, len(order), size)
        ]
        order = [i for bucket in buckets for i in bucket]
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        return [batches[i] for i in random.permutation(len(batches))]

    def batch(self, chosen: Sequence[int]) -> Batch:
        """The conversations as padded rows."""
        return Batch(*padded([self.examples[i] for i in chosen]))

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "bucket": self.bucket}


class PackedChatBatches(ExampleBatches):
    """The same conversations packed into rows of `length` positions, `batch_size` rows a batch; none is cut in two.

    Rows are filled once, each conversation going, longest first, where it leaves the least room (best fit decreasing); an epoch
    shuffles the rows. ValueError for a conversation longer than a row.
    """

    def __init__(self, examples: Iterable[Example], batch_size: int, length: int, seed: int = 0) -> None:
        listed = list(examples)
        self.length = length
        longest = max(map(len, listed), default=0)
        if longest > length:
            raise ValueError(f"a conversation of {longest} tokens does not fit into a row of {length}: leave it out")
        self.rows = pack_whole([len(each) for each in listed], length)
        self.conversations = listed
        super().__init__(self.rows, batch_size, seed, checksum(listed))

    def batch(self, chosen: Sequence[int]) -> PackedBatch:
        """The rows of these numbers."""
        shape = (len(chosen), self.length)
        ids, targets = torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORE)
        documents, positions = torch.full(shape, -1), torch.zeros(shape, dtype=torch.long)
        for row, number in enumerate(chosen):
            start = 0
            for document, place in enumerate(self.rows[number]):
                example = self.conversations[place]
                span = slice(start, start + len(example))
                ids[row, span] = torch.tensor(example.ids[:-1])
                targets[row, span] = torch.tensor(example.targets)
                documents[row, span] = document
                positions[row, span] = torch.arange(len(example))
                start = span.stop
        longest = int((documents >= 0).sum(dim=1).max())  # a batch of rows that are not full is cut to the fullest
        return PackedBatch(ids[:, :longest], targets[:, :longest], documents[:, :longest], positions[:, :longest])

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "length": self.length}


def pack_whole(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Which pieces share a row of `room`, by best fit decreasing: rows of the pieces' numbers.

    >>> pack_whole([5, 4, 3, 2, 2], room=8)
    [[0, 2], [1, 3, 4]]
    """
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(room + 1)]  # the rows that have so much room left
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        left = next((left for left in range(lengths[i], room + 1) if by_room[left]), None)
        if left is None:
            rows.append([])
            row, left = len(rows) - 1, room
        else:
            row = by_room[left].pop()
        rows[row].append(i)
        by_room[left - lengths[i]].append(row)
    return rows


def padded(examples: Sequence[Example]) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Ids and targets of examples as rows of one length. What stands behind a row's end no earlier position sees."""
    longest = max(map(len, examples))
    ids, targets = torch.zeros(len(examples), longest, dtype=torch.long), torch.full((len(examples), longest), IGNORE)
    for row, example in enumerate(examples):
        ids[row, : len(example)] = torch.tensor(example.ids[:-1])
        targets[row, : len(example)] = torch.tensor(example.targets)
    return ids, targets


def checksum(examples: Iterable[Example]) -> int:
    """A number that changes with any id, or with what of it is learned."""
    found = 0
    for example in examples:
        found = zlib.crc32(np.array(example.ids, dtype=np.int64).tobytes() + bytes(example.learned), found)
    return found


def why_not_packed(config: ModelConfig) -> str | None:
    """What in a model would let packed conversations see each other, in a sentence, or None."""
    attention = config.attention
    reasons = {
        "its attention keeps sinks, which are the row's first tokens, not each conversation's": attention.sinks > 0,
        "its attention has a prefix, which is the row's, not each conversation's": attention.prefix > 0,
        "its norm goes over the whole row": config.norm.kind == "whole-sample",
        "its block reads the whole row": "dlib-fused" in (attention.kind, config.feed_forward.kind),
        "its head reads the whole row": config.head.kind != "per_token",
        "its mixture chooses experts for a whole row": config.feed_forward.moe is not None
        and config.feed_forward.moe.route in ("sample", "expert-choice"),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    return f"this model can't be trained on packed conversations: {'; '.join(found)}" if found else None
