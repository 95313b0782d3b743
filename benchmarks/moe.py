"""What a mixture of experts costs beside a dense feed-forward: `python -m benchmarks moe [--mode full] [--tokens 512 2048]`.

One layer, forward and backward, at 512 to 4,096 tokens: a dense SwiGLU as wide as the experts that a token passes through, our fast
dispatch and our loop, all experts on all tokens as three einsums, transformers' Mixtral block (its eager form, and the one that its models
choose by themselves), and the products of our dispatch by `torch._grouped_mm`, which computes in bfloat16. All mixtures
have the same weights and route alike, nearly evenly. "Times as fast as the first" is against the dense one: 0.9 means that a mixture takes
1 / 0.9 of its time.
"""

import contextlib
import io
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._report import Plain, Table, finish, interleave, options
from minilm.block import SwiGLU
from minilm.config import MoEConfig
from minilm.moe import ExpertBank, MixtureOfExperts, Routing, dispatch_loop, dispatch_sorted

SHAPES = {  # dim, width of an expert, experts, chosen
    "top-2 of 8, 256 to 512": (256, 512, 8, 2),
    "top-1 of 4, 228 to 912": (228, 912, 4, 1),
}
DENSE = "dense, as wide as the chosen"


def all_experts(x: Tensor, routing: Routing, bank: ExpertBank) -> Tensor:
    """Every expert on every token, weights of 0 for those not chosen."""
    weights = torch.zeros_like(routing.probabilities).scatter(1, routing.experts, routing.weights)
    gate, up = torch.einsum("td,ehd->teh", x, bank.gate_up_proj).chunk(2, dim=-1)
    return torch.einsum("teh,edh,te->td", F.silu(gate) * up, bank.down_proj, weights)


def grouped_mm(x: Tensor, routing: Routing, bank: ExpertBank) -> Tensor:
    """Tokens sorted by expert as in `dispatch_sorted`, all experts' products in one call, in bfloat16."""
    wishes = routing.experts.flatten()
    order = wishes.argsort(stable=True)
    ends = torch.bincount(wishes, minlength=len(bank)).cumsum(0).to(torch.int32)
    tokens = order // routing.experts.shape[1]
    up = torch._grouped_mm(x[tokens].bfloat16(), bank.gate_up_proj.bfloat16().transpose(1, 2), ends)
    gate, up = up.chunk(2, dim=-1)
    out = torch._grouped_mm(F.silu(gate) * up, bank.down_proj.bfloat16().transpose(1, 2), ends)
    return torch.zeros_like(x).index_add(0, tokens, out.float() * routing.weights.flatten()[order, None])


def mixtral(ours: MixtureOfExperts, implementation: str | None) -> nn.Module:
    """transformers' block with our weights."""
    from transformers.models.mixtral.modeling_mixtral import MixtralConfig, MixtralSparseMoeBlock

    config = MixtralConfig(
        hidden_size=ours.experts.dim,
        intermediate_size=ours.experts.hidden,
        num_local_experts=len(ours.experts),
        num_experts_per_tok=ours.moe.chosen,
    )
    config._experts_implementation = implementation
    block = MixtralSparseMoeBlock(config)
    weights = {name: tensor for name, tensor in ours.state_dict().items() if name != "usage"}
    block.load_state_dict(weights)
    return block


def contenders(dim: int, hidden: int, experts: int, chosen: int) -> dict[str, nn.Module]:
    """All of them, the mixtures with the same weights."""

    def ours(dispatch: Callable[..., Tensor] = dispatch_sorted) -> MixtureOfExperts:
        torch.manual_seed(0)
        layer = MixtureOfExperts(dim, hidden, moe=MoEConfig(experts, top_k=chosen, normalize=chosen > 1))
        layer.dispatch = dispatch
        return layer

    found: dict[str, nn.Module] = {
        DENSE: SwiGLU(dim, hidden * chosen),
        "minilm, sorted by expert": ours(),
        "minilm, loop": ours(dispatch_loop),
        "all experts, einsum": ours(all_experts),
    }
    with contextlib.suppress(ImportError):
        found["transformers Mixtral, eager"] = mixtral(ours(), "eager")
        found["transformers Mixtral, grouped_mm"] = mixtral(ours(), "grouped_mm")
    if dim % 8 == 0 and hidden % 8 == 0:  # its strides are multiples of 16 bytes
        found["torch._grouped_mm, in bfloat16"] = ours(grouped_mm)
    return found


def measure(shape: tuple[int, int, int, int], tokens: int, rounds: int, clock: str) -> dict[str, list[float]]:
    """Passes a second of every contender, round by round; those that cannot run on this machine are left out."""
    torch.manual_seed(1)
    x = torch.randn(1, tokens, shape[0])
    jobs: dict[str, Callable[[], float]] = {}
    for name, layer in contenders(*shape).items():

        def forward_and_backward(layer: nn.Module = layer) -> float:
            layer.zero_grad()
            layer(x.detach().requires_grad_()).sum().backward()
            return 1.0

        with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(RuntimeError):
            forward_and_backward()
            jobs[name] = forward_and_backward
    return interleave(jobs, rounds, 0.15, clock)


def main() -> None:
    """Measure every shape at every number of tokens."""
    began = time.perf_counter()
    settings = options("moe", __doc__, tokens={"type": int, "nargs": "+", "default": None})
    tables: list[Table | Plain] = []
    for name, shape in SHAPES.items():
        for tokens in settings.tokens or ([512, 1024, 2048, 4096] if settings.mode == "full" else [2048]):
            speeds = measure(shape, tokens, settings.rounds, settings.clock)
            note = "float32 unless said; forward and backward of one layer"
            tables.append(Table(f"{name}: {tokens:,} tokens", "layers/s", speeds, note=note))
    finish("moe", "What does a mixture of experts cost beside a dense feed-forward?", settings, tables, began)


if __name__ == "__main__":
    main()
