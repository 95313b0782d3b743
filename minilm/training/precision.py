"""What numbers a step computes with. Half precision where it pays: `autocast` for the products alone, `HalfPrecisionCopy` for weights, activations and gradients too."""

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from minilm.model import LanguageModel


def autocast(device: torch.device | str, precision: str) -> contextlib.AbstractContextManager[None]:
    """A context in which matrix products run in bfloat16, if `precision` is "bfloat16"; weights and gradients stay float32.

    On a CPU attention itself is computed in float32 even so (`minilm.attention.attend_fast`): the backward pass of PyTorch's kernel is
    several times slower in bfloat16.
    """
    if precision != "bfloat16":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)


@contextlib.contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """A context in which float32 products are left to oneDNN, if `precision` is "float32-medium"; afterwards all is as it was.

    It is what `torch.set_float32_matmul_precision("medium")` says: a library may round the factors to bfloat16. On processors with
    bfloat16 matrix units (AMX) it does. On others it does not, and may still be more than twice as fast as what PyTorch takes by itself
    (MKL, on AMD's processors); products of small matrices become slower. So it is for models from about a million parameters.
    """
    if precision != "float32-medium":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class HalfPrecisionCopy:
    """A bfloat16 copy of a model that computes in its place: forward and backward run in `network`, the optimizer on the model.

    bfloat16 has 8 bits of precision, so a weight of 1 cannot take a step below 1/256: most steps of training would be lost. The model's
    own float32 weights (the "master copy") take every step, and the copy is rounded from them anew after each (Micikevicius et al. 2018).
    Unlike autocast nothing is converted during the forward and backward pass, and activations take half the memory.
    """

    def __init__(self, model: LanguageModel) -> None:
        wrong = {name: p.dtype for name, p in model.named_parameters() if p.dtype != torch.float32}
        if wrong:
            name, dtype = next(iter(wrong.items()))
            raise ValueError(
                f"precision 'bfloat16-weights' rounds from float32 weights, and {name} is {dtype}: use model.float()"
            )
        stateful = [name for name, part in model.named_modules() if hasattr(part, "after_step")]
        if [name for name in stateful if name] or next(model.buffers(), None) is not None:
            raise ValueError(
                "precision 'bfloat16-weights' computes in a copy of the model, and this one keeps a state of its own beside its "
                "weights (a mixture's balance, say): use precision='bfloat16'"
            )
        self.network = copy.deepcopy(model).to(torch.bfloat16)
        self._weights: list[Tensor] = list(model.parameters())
        self._halves: list[Tensor] = list(self.network.parameters())

    @torch.no_grad()
    def collect_gradients(self) -> None:
        """Add the copy's gradients to those of the model, in float32, and forget them."""
        for weight, half in zip(self._weights, self._halves, strict=True):
            if half.grad is not None:
                weight.grad = half.grad.float() if weight.grad is None else weight.grad.add_(half.grad)
                half.grad = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the copy anew from the model's weights."""
        torch._foreach_copy_(self._halves, self._weights)
