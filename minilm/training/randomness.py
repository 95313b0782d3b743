"""The three random number generators that a run may draw from: Python's, NumPy's and PyTorch's."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Start all generators from one seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  the global one is what other people's code draws from
    torch.manual_seed(seed)


def random_state() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The state of all generators: what JSON can hold, and tensors."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    plain = {
        "python": [version, list(numbers), gauss],
        "numpy": [name, keys.tolist(), position, has_gauss, cached],  # type: ignore[union-attr]
    }
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return plain, tensors


def restore_random_state(plain: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Set all generators to a state of `random_state`."""
    version, numbers, gauss = plain["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = plain["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(tensors["torch"])
    cuda = [tensors[f"cuda.{i}"] for i in range(len(tensors) - 1)]
    if cuda and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)


@contextlib.contextmanager
def untouched_randomness(only_torch: bool = False) -> Iterator[None]:
    """What is drawn within leaves no trace: after it, the generators (or PyTorch's alone, which is quick) stand where they stood."""
    if only_torch:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            yield
        return
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(*state)
