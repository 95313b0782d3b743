"""Weights of one byte: a copy of a model that writes faster, because writing is bound by how fast weights come out of memory.

A number becomes a whole number from -127 to 127 times a scale. Each row of a matrix (one output) has a scale of its own, found once;
each position that is read has one too, found as it comes: the products and sums between them are those of whole numbers, exact,
and what one text gives does not depend on the texts beside it.
"""

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from minilm.block import WRITERS
from minilm.model import LanguageModel

# The matrices that every token passes through. Tables, of which a token reads one row, and routers, whose choices hang on the
# last digits, stay as they are.
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def quantize_rows(x: Float[Tensor, "*rows columns"]) -> tuple[Int[Tensor, "*rows columns"], Float[Tensor, "*rows 1"]]:
    """Whole numbers from -127 to 127, and each row's scale: x is about whole * scale, off by half a scale at most.

    >>> whole, scale = quantize_rows(torch.tensor([1.0, -0.5, 0.26]))
    >>> whole.tolist()
    [127, -64, 33]
    """
    scale = torch.linalg.vector_norm(x, torch.inf, dim=-1, keepdim=True).clamp_(min=1e-30).div_(127)  # largest size
    return (x / scale).round_().to(torch.int8), scale


def whole_products(a: Int[Tensor, "rows inner"], b: Int[Tensor, "outputs inner"]) -> Tensor:
    """a b^T, the sums exact."""
    if a.device.type == "cpu":
        return torch._int_mm(a, b.T)
    return a.float() @ b.float().T  # float32 holds whole numbers up to 2^24: sums of 1,040 products at least


class Rows:
    """Quantizes what several layers read, once: queries, keys and values all come from the same positions."""

    def __init__(self) -> None:
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`quantize_rows` of the positions, as one row each."""
        if torch.compiler.is_compiling():  # the compiler sees by itself what is computed twice
            return quantize_rows(x.reshape(-1, x.shape[-1]))
        if self._last is None or self._last[0] is not x:
            self._last = (x, *quantize_rows(x.reshape(-1, x.shape[-1])))
        return self._last[1:]


class Int8Linear(nn.Module):
    """`nn.Linear` with its matrix in int8, for models that only write. `rows` may be shared by layers that read the same."""

    weight: Int[Tensor, "outputs inputs"]
    scale: Float[Tensor, "outputs"]

    def __init__(self, linear: nn.Linear, rows: Rows | None = None) -> None:
        super().__init__()
        self.rows = rows or Rows()
        weight, scale = quantize_rows(linear.weight.detach())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale[:, 0])
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone(), requires_grad=False)

    def forward(self, x: Float[Tensor, "*shape inputs"]) -> Float[Tensor, "*shape outputs"]:
        """What the float layer gives, to about a percent."""
        rows, scale = self.rows(x)
        out = whole_products(rows, self.weight) * (scale * self.scale)
        if self.bias is not None:
            out = out + self.bias
        return out.view(*x.shape[:-1], -1)

    def extra_repr(self) -> str:
        """Shape, as `nn.Linear` says it."""
        outputs, inputs = self.weight.shape
        return f"in_features={inputs}, out_features={outputs}, bias={self.bias is not None}"


def to_int8(model: LanguageModel) -> LanguageModel:
    """A copy of the model for writing, with the matrices of its blocks and its head in int8; give it to `generate` as any other.

    The model itself stays as it is: train it, save it, and make a copy anew. Its texts are a little different: the loss of the
    course's story model rises by less than a thousandth of a nat a token.
    """
    if next(model.parameters()).dtype != torch.float32:
        raise ValueError(
            f"int8 is made from float32 weights, and these are {next(model.parameters()).dtype}: use model.float()"
        )
    found = copy.deepcopy(model).eval()
    for part in list(found.modules()):
        readers = Rows()  # of q, k and v, or of gate and up
        for name, child in list(part.named_children()):
            if (name in MATRICES or child is found.head) and isinstance(child, nn.Linear):
                setattr(part, name, Int8Linear(child, readers if name not in WRITERS else None))
    return found
