"""Half precision where it pays: matrix products in bfloat16, weights and sums in float32."""

import contextlib

import torch


def autocast(device: torch.device | str, precision: str) -> contextlib.AbstractContextManager[None]:
    """A context in which matrix products run in bfloat16, if `precision` says so; weights and gradients stay float32.

    On a CPU attention itself is computed in float32 even so (`minilm.attention.attend_fast`): the backward pass of PyTorch's kernel is
    several times slower in bfloat16.
    """
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
