"""What finding and using product-key experts costs: `python -m benchmarks product_key [--rounds 5] [--threads 1] [--tokens 2048]`.

Finding: the top 8 of E experts for each token of width 256, forward, by keys (`product_key_top_k`), by keys with all E sums written out
(as the published code does), and by a plain router with a row for each expert. The exponent is the slope of log time over
log E from the second row of the table to the last: 1 where time grows with the experts, 1/2 where it grows with the keys.

Using: a CDMoE layer, forward and backward, by the readable form (which copies the chosen rows), by the fast one, and by
transformers' DogeCDMoE, beside its shared SwiGLU alone. Rounds are interleaved; tables in Markdown give the medians, whose
differences under 15 % are noise.
"""

import argparse
import functools
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from minilm.config import MoEConfig
from minilm.moe import CDMoE, neuron_experts, neuron_experts_fast, product_key_top_k

DIM, TOP_K = 256, 8
EXPERTS = (256, 1024, 4096, 16_384, 65_536)
LAYERS = {"doge-40m-moe": (256, 768, 1024, 8), "doge-180m-moe": (512, 1536, 4096, 16)}  # dim, hidden, experts, top k


def by_keys(x: Tensor, keys: Tensor) -> Tensor:
    """The way of `minilm`."""
    scores_x, scores_y = (x @ keys.T).view(len(x), 2, -1).unbind(1)
    return product_key_top_k(scores_x, scores_y, TOP_K)[1]


def by_all_sums(x: Tensor, keys: Tensor) -> Tensor:
    """Every sum of two keys, then the best of all."""
    scores_x, scores_y = (x @ keys.T).view(len(x), 2, -1).unbind(1)
    return (scores_x[:, :, None] + scores_y[:, None]).flatten(1).topk(TOP_K, dim=-1).indices


def by_rows(x: Tensor, rows: Tensor) -> Tensor:
    """A router that has a row for each expert."""
    return (x @ rows.T).topk(TOP_K, dim=-1).indices


def medians(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each, all of them once a round."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if round_:  # the first is for warming up
                taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in taken.items()}


def finding(tokens: int, rounds: int) -> None:
    """The first table."""
    x = torch.randn(tokens, DIM)
    names = ("by keys", "by keys, all sums", "a row for each expert")
    table: dict[int, list[float]] = {}
    for experts in EXPERTS:
        keys, rows = torch.randn(2 * math.isqrt(experts), DIM), torch.randn(experts, DIM)
        ways = (
            functools.partial(by_keys, x, keys),
            functools.partial(by_all_sums, x, keys),
            functools.partial(by_rows, x, rows),
        )
        with torch.no_grad():
            table[experts] = list(medians(dict(zip(names, ways, strict=True)), rounds).values())
    print(
        f"| finding {TOP_K} of E experts, milliseconds for {tokens:,} tokens | {' | '.join(names)} |\n|---|---|---|---|"
    )
    for experts, row in table.items():
        print(f"| E = {experts:,} | {' | '.join(f'{each:,.1f}' for each in row)} |")
    growth = math.log(EXPERTS[-1] / EXPERTS[1])
    slopes = [
        math.log(last / first) / growth for first, last in zip(table[EXPERTS[1]], table[EXPERTS[-1]], strict=True)
    ]
    print(f"| exponent | {' | '.join(f'{each:.2f}' for each in slopes)} |\n")


def step(layer: torch.nn.Module, x: Tensor) -> None:
    """Forward and backward."""
    out = layer(x)
    (out[0] if isinstance(out, tuple) else out).sum().backward()
    layer.zero_grad()
    x.grad = None


def with_dispatch(dispatch: Callable[..., Tensor], layer: CDMoE, x: Tensor) -> None:
    """A step of our layer with this form of the experts."""
    layer.dispatch = dispatch
    step(layer, x)


def upstream(dim: int, hidden: int, experts: int, top_k: int) -> torch.nn.Module | None:
    """transformers' layer; None where transformers is not installed."""
    try:
        from transformers import DogeConfig
        from transformers.models.doge.modeling_doge import DogeCDMoE
    except ImportError:
        return None
    options = {"hidden_size": dim, "intermediate_size": hidden, "num_experts": experts, "num_experts_per_tok": top_k}
    layer: torch.nn.Module = DogeCDMoE(DogeConfig(**options))
    return layer


def using(tokens: int, rounds: int) -> None:
    """The second table."""
    for name, (dim, hidden, experts, top_k) in LAYERS.items():
        torch.manual_seed(0)
        x = torch.randn(1, tokens, dim, requires_grad=True)
        layer = CDMoE(dim, hidden, moe=MoEConfig(experts, top_k, route="product-key", scoring="softmax-chosen"))
        contenders: dict[str, Callable[[], object]] = {
            "the shared SwiGLU alone": functools.partial(step, layer.shared, x),
            "CDMoE": functools.partial(with_dispatch, neuron_experts_fast, layer, x),
            "CDMoE, readable form": functools.partial(with_dispatch, neuron_experts, layer, x),
        }
        theirs = upstream(dim, hidden, experts, top_k)
        if theirs is not None:
            contenders["transformers' DogeCDMoE"] = functools.partial(step, theirs, x)
        taken = medians(contenders, rounds)
        base = taken["the shared SwiGLU alone"]
        print(f"| {name}: dim {dim}, {top_k} of {experts:,}, {tokens:,} tokens | milliseconds | ratio |\n|---|---|---|")
        for label, each in taken.items():
            print(f"| {label} | {each:,.1f} | {each / base:.2f} |")
        print()


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tokens", type=int, default=2048)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.rounds} rounds, float32; medians\n")
    finding(arguments.tokens, arguments.rounds)
    using(arguments.tokens, arguments.rounds)


if __name__ == "__main__":
    main()
