"""What a mixture of experts costs beside a dense feed-forward: `python -m benchmarks moe [--rounds 7] [--tokens 512 2048] [--json FILE]`.

One layer, forward and backward, at 512 to 4,096 tokens: a dense SwiGLU as wide as the experts that a token passes through, our fast
dispatch and our loop, all experts on all tokens as three einsums, transformers' Mixtral block (its eager form, and the one that its models
choose by themselves), and the products of our dispatch by `torch._grouped_mm`, which computes in bfloat16. All mixtures
have the same weights and route alike, nearly evenly. Rounds are interleaved: every contender once, then all again. Tables in
Markdown give medians, with the lowest and the highest, and the ratio to the dense one.
"""

import argparse
import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def step_seconds(layer: nn.Module, x: Tensor, repeats: int) -> float:
    """One forward and backward pass, the mean of several."""
    start = time.perf_counter()
    for _ in range(repeats):
        layer.zero_grad()
        layer(x.detach().requires_grad_()).sum().backward()
    return (time.perf_counter() - start) / repeats


def measure(shape: tuple[int, int, int, int], tokens: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of every contender, round by round; those that cannot run on this machine are left out."""
    torch.manual_seed(1)
    x, layers = torch.randn(1, tokens, shape[0]), contenders(*shape)
    found: dict[str, list[float]] = {}
    for name, layer in layers.items():
        with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(RuntimeError):
            step_seconds(layer, x, 1)
            found[name] = []
    repeats = max(1, round(0.1 / step_seconds(layers[DENSE], x, 1)))
    for _ in range(rounds):
        for name, seconds in found.items():
            seconds.append(step_seconds(layers[name], x, repeats))
    return found


def table(title: str, found: dict[str, list[float]]) -> str:
    """Markdown."""
    base = statistics.median(found[DENSE])
    lines = [f"| {title} | median ms | lowest | highest | ratio |", "|---|---|---|---|---|"]
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        milliseconds = " | ".join(f"{1000 * value:,.1f}" for value in (middle, min(seconds), max(seconds)))
        lines.append(f"| {name} | {milliseconds} | {middle / base:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure every shape at every number of tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="write all times here too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    versions = f"torch {torch.__version__}, {arguments.threads} threads, {arguments.rounds} rounds"
    print(f"{versions}; float32; forward and backward of one layer\n")
    everything: dict[str, Any] = {"setting": versions}
    for name, shape in SHAPES.items():
        for tokens in arguments.tokens:
            found = measure(shape, tokens, arguments.rounds)
            print(table(f"{name}: {tokens:,} tokens", found), flush=True)
            ours = statistics.median(found["minilm, sorted by expert"])
            for peer, seconds in found.items():
                if peer.startswith("transformers"):
                    print(f"\n{statistics.median(seconds) / ours:.2f} times as fast as {peer}", end="")
            print("\n", flush=True)
            everything[f"{name}: {tokens}"] = found
    if arguments.json:
        arguments.json.write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
