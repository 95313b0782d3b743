"""The experts: many SwiGLUs in two tensors."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from minilm.block import activation as activation_named
from minilm.config import ActivationKind

Expert = Callable[[Tensor], Tensor]


class ExpertBank(nn.Module):
    """`num_experts` SwiGLUs, down(silu(gate x) * up x), whose matrices lie in two tensors, as in transformers:

    gate_up_proj: experts 2*hidden dim, the rows of an expert's gate and then those of its up; down_proj: experts dim hidden.

    It is a sequence of functions: `bank[e](x)` is expert e at work, and going through it, `for expert in bank`, takes the tensors
    apart once for all. That is worth having: the gradient of one `tensor[e]` is a whole tensor, zero but for one expert, and of
    `tensor.unbind()` it is one tensor for all experts together.
    """

    def __init__(
        self,
        num_experts: int,
        dim: int,
        hidden: int,
        *,
        activation: Callable[[Tensor], Tensor] | ActivationKind = "silu",
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.num_experts, self.dim, self.hidden = num_experts, dim, hidden
        self.activation = activation_named(activation) if isinstance(activation, str) else activation
        self.gate_up_proj = nn.Parameter(torch.empty(num_experts, 2 * hidden, dim))
        self.down_proj = nn.Parameter(torch.empty(num_experts, dim, hidden))
        self.gate_up_bias = nn.Parameter(torch.empty(num_experts, 2 * hidden)) if bias else None
        self.down_bias = nn.Parameter(torch.empty(num_experts, dim)) if bias else None
        for name, parameter in self.named_parameters(recurse=False):  # as nn.Linear would draw each
            bound = (dim if name.startswith("gate_up") else hidden) ** -0.5
            nn.init.uniform_(parameter, -bound, bound)

    def __len__(self) -> int:
        return self.num_experts

    def __getitem__(self, expert: int) -> Expert:
        up_bias = None if self.gate_up_bias is None else self.gate_up_bias[expert]
        down_bias = None if self.down_bias is None else self.down_bias[expert]
        return self._expert(self.gate_up_proj[expert], self.down_proj[expert], up_bias, down_bias)

    def __iter__(self) -> Iterator[Expert]:
        nothing = (None,) * self.num_experts
        parts = (self.gate_up_proj, self.down_proj, self.gate_up_bias, self.down_bias)
        for weights in zip(*(nothing if part is None else part.unbind() for part in parts), strict=True):
            yield self._expert(*weights)

    def _expert(self, gate_up: Tensor, down: Tensor, gate_up_bias: Tensor | None, down_bias: Tensor | None) -> Expert:
        def expert(x: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
            gate, up = F.linear(x, gate_up, gate_up_bias).chunk(2, dim=-1)
            return F.linear(self.activation(gate) * up, down, down_bias)

        return expert

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.num_experts} experts of {self.dim} -> {self.hidden} -> {self.dim}"
