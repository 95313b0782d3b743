"""What a step trains on: batches drawn from documents or from one long row of tokens, and where in the data a run stands.

Batch number k is a function of (seed, k), or of (seed, epoch, number) for documents, so the place in the data is a few integers,
and a resumed run draws exactly the batches that the interrupted one would have drawn.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int
from torch import Tensor

from minilm.data.windows import IGNORE


@dataclass(frozen=True)
class Batch:
    """Token ids, and for every position the token that comes next, or `IGNORE` where there is nothing to learn."""

    ids: Int[Tensor, "batch seq"]
    targets: Int[Tensor, "batch seq"]

    def to(self, device: torch.device) -> Self:
        """The batch on a device."""
        moved = {
            each.name: getattr(self, each.name).to(device, non_blocking=True)
            for each in fields(self)
            if isinstance(getattr(self, each.name), Tensor)
        }
        return replace(self, **moved)

    def logits(self, model: Callable[..., Tensor]) -> Tensor:
        """What the model says of this batch; a kind of batch of its own may tell it more than the ids."""
        return model(self.ids)

    @property
    def weight(self) -> int:
        """How much this batch counts among those whose gradients make one update: as much as it has targets."""
        return int((self.targets != IGNORE).sum())


class Batches(Protocol):
    """What a trainer needs: batches without end, and a state that JSON can hold."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch: ...

    def state_dict(self) -> dict[str, Any]:
        """Where in the data it stands."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        ...


class WindowBatches:
    """Windows of `length` tokens from one long row, a tensor or a file of `minilm.data.windows.open_tokens`, read as they are drawn.

    Without `stride`, every start is equally likely, again and again. With it, the windows that start every `stride` tokens are
    each visited once an epoch, in an order of its own. `skip` ignores the first targets of a window: those predicted from little.
    `len()` is the number of batches that make an epoch: without stride, as many as hold the row's tokens once.
    """

    def __init__(
        self,
        tokens: npt.NDArray[np.integer[Any]] | Int[Tensor, "tokens"] | Sequence[int],
        batch_size: int,
        length: int,
        seed: int = 0,
        *,
        stride: int | None = None,
        skip: int = 0,
    ) -> None:
        _check_positive(batch_size=batch_size, length=length)
        self.tokens = tokens.numpy() if isinstance(tokens, Tensor) else np.asanyarray(tokens)
        self.batch_size, self.length, self.seed, self.stride, self.skip = batch_size, length, seed, stride, skip
        if len(self.tokens) <= length:
            raise ValueError(
                f"{len(self.tokens)} tokens hold no window of {length} with a next token: "
                f"use length <= {len(self.tokens) - 1} or more text"
            )
        if not 0 <= skip < length:
            raise ValueError(f"skip = {skip}: of {length} targets at least one must be left")
        if stride is not None:
            _check_positive(stride=stride)
        self.drawn = 0

    def __len__(self) -> int:
        if self.stride is None:
            return max(1, (len(self.tokens) - 1) // (self.batch_size * self.length))
        windows = (len(self.tokens) - self.length - 1) // self.stride + 1
        return -(-windows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        rows = self.tokens[self._starts()[:, None] + np.arange(self.length + 1)]  # batch length+1
        self.drawn += 1
        both = torch.from_numpy(rows.astype(np.int64))
        targets = both[:, 1:]
        if self.skip:
            targets = targets.clone()
            targets[:, : self.skip] = IGNORE
        return Batch(both[:, :-1], targets)

    def _starts(self) -> npt.NDArray[np.int64]:
        if self.stride is None:
            random = np.random.default_rng((self.seed, self.drawn))
            return random.integers(len(self.tokens) - self.length, size=self.batch_size)
        epoch, number = divmod(self.drawn, len(self))
        windows = (len(self.tokens) - self.length - 1) // self.stride + 1
        order = np.random.default_rng((self.seed, epoch)).permutation(windows)
        return order[number * self.batch_size : (number + 1) * self.batch_size] * self.stride

    def state_dict(self) -> dict[str, Any]:
        """How many batches were drawn, and what they were drawn from."""
        return {**self._identity(), "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. ValueError if the data is not the same."""
        _check_same(state, self._identity())
        self.drawn = state["drawn"]

    def _identity(self) -> dict[str, Any]:
        names = ("batch_size", "length", "seed", "stride", "skip")
        ends = np.concatenate((self.tokens[:4096], self.tokens[-4096:])).astype(
            np.int64
        )  # a file need not be read for it
        return {
            "tokens": len(self.tokens),
            "checksum": _checksum(ends),
            **{name: getattr(self, name) for name in names},
        }


class DocumentBatches:
    """Batches of whole documents (stories): a row is [end, *tokens], its targets [*tokens, end], padded to the longest of its batch.

    An epoch visits every document once. Documents of about the same length share a batch, so little is padded: an epoch's order is
    drawn, `bucket` batches at a time are sorted by length, and the batches are shuffled again. A document longer than
    `max_length` goes on in a row of its own, and none of its targets is lost. Padding is `end_id`, with targets `IGNORE`.
    """

    def __init__(
        self,
        documents: Iterable[Sequence[int]],
        batch_size: int,
        end_id: int,
        seed: int = 0,
        *,
        max_length: int | None = None,
        bucket: int = 20,
    ) -> None:
        _check_positive(batch_size=batch_size, bucket=bucket, max_length=max_length or 1)
        self.batch_size, self.end_id, self.seed = batch_size, end_id, seed
        self.max_length, self.bucket = max_length, bucket
        rows: list[npt.NDArray[np.int32]] = []
        for document in documents:
            whole = np.array([end_id, *document, end_id], dtype=np.int32)
            step = max_length or len(whole)
            rows += [whole[start : start + step + 1] for start in range(0, len(whole) - 1, step)]
        if not rows:
            raise ValueError("there are no documents to train on")
        self._lengths = np.array([len(row) - 1 for row in rows])
        self._bounds = np.concatenate(([0], np.cumsum(self._lengths + 1)))
        self._tokens = np.concatenate(rows)
        self._sum = _checksum(self._tokens)
        self.epoch, self.number = 0, 0
        self._plan: tuple[int, list[npt.NDArray[np.int64]]] | None = None

    def __len__(self) -> int:
        return -(-len(self._lengths) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self.number >= len(self):
            self.epoch, self.number = self.epoch + 1, 0
        if self._plan is None or self._plan[0] != self.epoch:
            self._plan = (self.epoch, self._batches_of(self.epoch))
        chosen = self._plan[1][self.number]
        self.number += 1
        longest = int(self._lengths[chosen].max())
        ids = np.full((len(chosen), longest), self.end_id, dtype=np.int64)
        targets = np.full((len(chosen), longest), IGNORE, dtype=np.int64)
        for place, row in enumerate(chosen):
            tokens = self._tokens[self._bounds[row] : self._bounds[row + 1]]
            ids[place, : len(tokens) - 1] = tokens[:-1]
            targets[place, : len(tokens) - 1] = tokens[1:]
        return Batch(torch.from_numpy(ids), torch.from_numpy(targets))

    def _batches_of(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """Which rows each batch of an epoch holds."""
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(len(self._lengths))
        size = self.batch_size * self.bucket
        sorted_buckets = [
            bucket[np.argsort(self._lengths[bucket], kind="stable")]
            for bucket in (order[start : start + size] for start in range(0, len(order), size))
        ]
        order = np.concatenate(sorted_buckets)
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        return [batches[i] for i in random.permutation(len(batches))]

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batch, and what they were drawn from."""
        return {**self._identity(), "epoch": self.epoch, "number": self.number}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. ValueError if the data is not the same."""
        _check_same(state, self._identity())
        self.epoch, self.number = state["epoch"], state["number"]

    def _identity(self) -> dict[str, Any]:
        names = ("batch_size", "end_id", "seed", "max_length", "bucket")
        return {"tokens": len(self._tokens), "checksum": self._sum, **{name: getattr(self, name) for name in names}}


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} = {value}: it must be at least 1")


def _checksum(tokens: npt.NDArray[np.integer[Any]]) -> int:
    return zlib.crc32(tokens.tobytes())


def _check_same(saved: dict[str, Any], current: dict[str, Any]) -> None:
    """Refuse to go on in other data than the run was interrupted in."""
    different = [
        f"{name} was {saved.get(name)!r} and is {now!r}" for name, now in current.items() if saved.get(name) != now
    ]
    if different:
        raise ValueError(f"the batches are not those of the interrupted run: {'; '.join(different)}")
