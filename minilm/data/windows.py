"""From a long row of token ids to the windows and batches that a model is trained on.

- `token_windows`: every window of a text with its next tokens, all at once (small texts, lessons, dlib's way of training);
- `write_tokens`, `open_tokens`, `get_batch`: random windows of a file that need not fit into memory;
- `pack`: short documents put one behind the other in full windows, without one seeing the other;
- `shuffle_training_dataset`, `augment_training_dataset`, `build_..._prediction_dataset`, `InferenceContext`: dlib's data
  utilities for language models (its `language_model_data.h`) under their names and with their exact meaning.
"""

import os
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Int
from torch import Tensor

Sample = TypeVar("Sample")
Label = TypeVar("Label")

IGNORE = -100  # a target that takes no part in the loss; the default `ignore_index` of PyTorch's cross-entropy

# ---------------------------------------------------------------------------------------------------- windows of one text


def token_windows(
    ids: Sequence[int] | Int[Tensor, "length"], length: int, stride: int = 1, left_pad: int | None = None
) -> tuple[Int[Tensor, "windows length"], Int[Tensor, "windows length"]]:
    """All windows of `length` tokens, one every `stride`, and for each position the token that comes next.

    Without padding the first window starts at the first token: floor((n - length - 1) / stride) + 1 windows of n tokens.
    With `left_pad` set to an id, windows begin before the text and are filled up with it on the left: the first holds one token
    and its targets elsewhere are `IGNORE`, so a model also learns to continue from a short beginning.

    >>> token_windows([5, 6, 7, 8], length=2)
    (tensor([[5, 6],
            [6, 7]]), tensor([[6, 7],
            [7, 8]]))
    >>> token_windows([5, 6, 7], length=2, left_pad=0)
    (tensor([[0, 5],
            [5, 6]]), tensor([[-100,    6],
            [   6,    7]]))

    Raises ValueError if the text is too short for a single window.
    """
    _at_least_one(length=length, stride=stride)
    row = torch.as_tensor(ids, dtype=torch.long)
    inputs, targets = row[:-1], row[1:]
    if left_pad is not None:
        inputs = torch.cat((row.new_full((length - 1,), left_pad), inputs))
        targets = torch.cat((row.new_full((length - 1,), IGNORE), targets))
    if len(inputs) < length or len(row) < 2:
        raise ValueError(
            f"a text of {len(row)} tokens has no window of {length} with a next token: it takes {length + 1} tokens, "
            "a shorter window, or left_pad"
        )
    return inputs.unfold(0, length, stride).clone(), targets.unfold(0, length, stride).clone()


def _at_least_one(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} = {value}: it must be at least 1")


# -------------------------------------------------------------------------------------------------------- tokens on disk


def token_dtype(vocab_size: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """The narrowest type that holds every id of a vocabulary: uint16 up to 65,536 ids, uint32 above."""
    if not 1 <= vocab_size <= 2**32:
        raise ValueError(f"vocab_size = {vocab_size}: token files hold vocabularies of 1 to 2**32 ids")
    return np.dtype(np.uint16) if vocab_size <= 2**16 else np.dtype(np.uint32)


def write_tokens(path: str | Path, chunks: Iterable[Sequence[int]], vocab_size: int) -> int:
    """Write token ids, chunk after chunk, as a bare row of `token_dtype(vocab_size)`; returns how many.

    The file appears under its name only when it is complete. ValueError for an id outside the vocabulary.
    """
    path = Path(path)
    dtype = token_dtype(vocab_size)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    count = 0
    try:
        with partial.open("wb") as file:
            for chunk in chunks:
                ids = np.asarray(chunk, dtype=np.int64)
                if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
                    bad = ids[(ids < 0) | (ids >= vocab_size)][0]
                    raise ValueError(f"token id {bad} is outside 0 .. {vocab_size - 1}: is vocab_size the tokenizer's?")
                ids.astype(dtype).tofile(file)
                count += ids.size
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def open_tokens(path: str | Path, vocab_size: int) -> npt.NDArray[np.unsignedinteger]:
    """The ids that `write_tokens` wrote, mapped from disk: nothing is read before it is used.

    `vocab_size` is the one it was written with, since it decides the width of an id. ValueError if the size on disk is not a
    whole number of ids or the file is empty.
    """
    dtype, size = token_dtype(vocab_size), Path(path).stat().st_size
    if size == 0:
        raise ValueError(f"{path} is empty: there are no tokens to read")
    if size % dtype.itemsize:
        raise ValueError(
            f"{path} holds {size} bytes, not a multiple of {dtype.itemsize}: cut short, or written for another vocab_size"
        )
    return np.memmap(path, dtype=dtype, mode="r")


def get_batch(
    tokens: npt.NDArray[np.unsignedinteger] | Int[Tensor, "tokens"],
    batch_size: int,
    length: int,
    generator: torch.Generator | None = None,
    device: str | torch.device = "cpu",
) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
    """Random windows of `length` tokens and, for every position, the token that comes next.

    Every start from 0 to n - length - 1 is equally likely. `tokens` may be a file of `open_tokens`: only the windows drawn are
    read. Pass a `generator` to draw the same windows again.
    """
    _at_least_one(batch_size=batch_size, length=length)
    if len(tokens) <= length:
        raise ValueError(
            f"{len(tokens)} tokens hold no window of {length} with a next token: use length <= {len(tokens) - 1} or more text"
        )
    starts = torch.randint(len(tokens) - length, (batch_size,), generator=generator)
    # One token more than a window, so that inputs and targets are two views of it.
    if isinstance(tokens, Tensor):
        rows = tokens[starts[:, None] + torch.arange(length + 1)].long()
    else:
        rows = torch.from_numpy(np.stack([tokens[s : s + length + 1] for s in starts.tolist()]).astype(np.int64))
    rows = rows.to(device)
    return rows[:, :-1], rows[:, 1:]


# ---------------------------------------------------------------------------------------------------------------- packing


@dataclass(frozen=True)
class Packed:
    """Documents laid one behind the other into windows of one length.

    `documents` numbers them within a window from 0 on (-1: padding at the end of the last window): attention between two
    positions is allowed where the numbers are equal (`minilm.attention.document_mask`). `positions` start anew with each document.
    Targets are the next token of the same document, `IGNORE` at its end and on padding.
    """

    inputs: Int[Tensor, "windows length"]
    targets: Int[Tensor, "windows length"]
    documents: Int[Tensor, "windows length"]
    positions: Int[Tensor, "windows length"]

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def boundaries(self) -> Bool[Tensor, "windows length"]:
        """True where a document (or the rest of one cut by a window) begins."""
        return (self.positions == 0) & (self.documents >= 0)


def pack(documents: Iterable[Sequence[int]], length: int, end_id: int | None = None, pad_id: int = 0) -> Packed:
    """Fill windows of `length` with documents in their order; a document that does not fit goes on in the next window.

    With `end_id`, every document is closed by it, and predicting it is part of the task. A window keeps its last token's target
    even where the next window continues the document, so no token but each document's first goes unlearned.
    """
    _at_least_one(length=length)
    inputs: list[int] = []
    targets: list[int] = []
    numbers: list[int] = []
    positions: list[int] = []
    number = -1
    for document in documents:
        ids = [*document, *([] if end_id is None else [end_id])]
        place = 0
        for i, token in enumerate(ids):
            if len(inputs) % length == 0:  # a new window: numbers and positions start again
                number, place = 0, 0
            elif i == 0:
                number += 1
            inputs.append(token)
            targets.append(ids[i + 1] if i + 1 < len(ids) else IGNORE)
            numbers.append(number)
            positions.append(place)
            place += 1
    if not inputs:
        raise ValueError("there is nothing to pack: no document holds a token")
    missing = -len(inputs) % length
    inputs += [pad_id] * missing
    targets += [IGNORE] * missing
    numbers += [-1] * missing
    positions += [0] * missing
    return Packed(*(torch.tensor(column).view(-1, length) for column in (inputs, targets, numbers, positions)))


# -------------------------------------------------------------------------------------------------- dlib's data utilities


def build_single_token_prediction_dataset(
    sequences: Iterable[Sequence[int]], window: int, pad_id: int = 0, left_pad: bool = False
) -> tuple[list[list[int]], list[int]]:
    """Windows and the one token that follows each, as dlib's function of this name makes them.

    Without left padding, a sequence gives len - window samples, and none if it is no longer than the window. With it, the
    window - 1 beginnings of 1 .. window - 1 tokens come first, padded on the left (as far as the sequence has a token to follow).

    >>> build_single_token_prediction_dataset([[1, 2, 3, 4]], window=2, pad_id=0, left_pad=True)
    ([[0, 1], [1, 2], [2, 3]], [2, 3, 4])
    """
    _at_least_one(window=window)
    samples: list[list[int]] = []
    labels: list[int] = []
    for sequence in sequences:
        if left_pad:
            for seen in range(1, min(window, len(sequence))):
                samples.append([pad_id] * (window - seen) + list(sequence[:seen]))
                labels.append(sequence[seen])
        for start in range(len(sequence) - window):
            samples.append(list(sequence[start : start + window]))
            labels.append(sequence[start + window])
    return samples, labels


def build_multi_token_prediction_dataset(
    sequences: Iterable[Sequence[int]], window: int, horizon: int, pad_id: int = 0, left_pad: bool = False
) -> tuple[list[list[int]], list[list[int]]]:
    """The same with the `horizon` tokens that follow; a label is filled up with `pad_id` where the sequence ends before.

    >>> build_multi_token_prediction_dataset([[1, 2, 3, 4]], window=2, horizon=2)
    ([[1, 2], [2, 3]], [[3, 4], [4, 0]])
    """
    _at_least_one(window=window, horizon=horizon)
    samples: list[list[int]] = []
    labels: list[list[int]] = []
    for sequence in sequences:
        found, _ = build_single_token_prediction_dataset([sequence], window, pad_id, left_pad)
        first = len(sequence) - len(found)  # place of the first sample's label: the last sample's is the last token
        for place, sample in enumerate(found, start=first):
            following = list(sequence[place : place + horizon])
            samples.append(sample)
            labels.append(following + [pad_id] * (horizon - len(following)))
    return samples, labels


def shuffle_training_dataset(samples: list[Sample], labels: list[Label], seed: int = 0) -> None:
    """Shuffle both lists in place by the same permutation (Fisher and Yates's). The same seed gives the same order.

    dlib's documentation calls seed 0 time-based; its code starts the default generator, which is the same each time, and so
    does this function. (The permutation is Python's, not dlib's.)
    """
    if len(samples) != len(labels):
        raise ValueError(f"{len(samples)} samples and {len(labels)} labels: each sample needs one label")
    rng = random.Random(seed)
    for i in range(len(samples) - 1, 0, -1):
        j = rng.randint(0, i)
        samples[i], samples[j] = samples[j], samples[i]
        labels[i], labels[j] = labels[j], labels[i]


def augment_training_dataset(
    samples: list[list[int]],
    labels: list[Label],
    unk_id: int,
    pad_id: int,
    ratio: float = 0.2,
    min_noise: int = 1,
    max_noise: int = 3,
    seed: int = 0,
) -> None:
    """Append floor(n * ratio) noisy copies of random samples, in place: a few tokens become `unk_id`, labels stay.

    The number of noised tokens is drawn evenly from min_noise .. max_noise and cut to 30 % of the tokens that are not padding
    (but at least 1). Padding is never replaced; a sample of nothing but padding is copied as it is.
    `ratio` is at most 2 (dlib's mixture-of-experts example uses 0.05).
    """
    if len(samples) != len(labels):
        raise ValueError(f"{len(samples)} samples and {len(labels)} labels: each sample needs one label")
    if not 0 <= ratio <= 2:
        raise ValueError(f"ratio = {ratio}: it is a share of the samples from 0 to 2")
    if not 1 <= min_noise <= max_noise:
        raise ValueError(f"min_noise = {min_noise}, max_noise = {max_noise}: need 1 <= min_noise <= max_noise")
    rng = random.Random(seed)
    originals = len(samples)
    for _ in range(int(originals * ratio)):
        source = rng.randrange(originals)
        copy = list(samples[source])
        places = [i for i, token in enumerate(copy) if token != pad_id]
        if places:
            wanted = min(rng.randint(min_noise, max_noise), max(1, int(len(places) * 0.3)))
            for i in rng.sample(places, wanted):
                copy[i] = unk_id
        samples.append(copy)
        labels.append(labels[source])


class InferenceContext:
    """The tokens written so far, as dlib keeps them: the last `window * multiplier`, of which a model sees the last `window`.

    >>> context = InferenceContext(window=4, multiplier=2, pad_id=0)
    >>> context.add([1, 2, 3])
    >>> context.get_input_window()
    [0, 1, 2, 3]
    """

    def __init__(self, window: int, multiplier: int = 1, pad_id: int = 0) -> None:
        _at_least_one(window=window, multiplier=multiplier)
        self.window, self.pad_id = window, pad_id
        self._tokens: deque[int] = deque(maxlen=window * multiplier)

    def add(self, ids: Iterable[int]) -> None:
        """Append tokens; the oldest leave when the context is full."""
        self._tokens.extend(ids)

    def get_input_window(self) -> list[int]:
        """The last `window` tokens, padded on the left where there are fewer."""
        recent = list(self._tokens)[-self.window :]
        return [self.pad_id] * (self.window - len(recent)) + recent

    def __len__(self) -> int:
        return len(self._tokens)
