"""What dynamic mask attention costs beside dense, sliding-window and sink attention: `python -m benchmarks dynamic_mask [--keep 256]`.

One layer in the shape of Doge-20M (width 256, 2 heads of 128 channels on 1 key-value head), float32, batch 1, all with the same
projections. Rounds are interleaved and a ratio is taken within a round. Shown by length:

- reading: a forward pass, and forward and backward, in ms; the largest tensor that an operator makes (queries x keys or not?),
  and what is kept for the backward pass, in MiB;
- writing: one token more behind so many, in ms, and the bytes of the cache.

"readable" is the same mathematics with every matrix written out, as eager code does it: it saves nothing, since a key that is dropped
has been scored all the same. "transformers" is its Doge layer on the same kernel as ours.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from minilm.attention import Attention, LayerCache
from minilm.dynamic_mask import DynamicMaskAttention
from minilm.embeddings import RotaryEmbedding

DIM, HEADS, KV_HEADS, HEAD_DIM = 256, 2, 1, 128
MIB = 2**20
Job = Callable[[Tensor], Tensor]


def layers(keep: int) -> dict[str, Attention]:
    """The contenders; the dynamic ones with biases that differ, so that there is something to choose."""
    common: dict[str, Any] = {"head_dim": HEAD_DIM, "rotary": RotaryEmbedding(HEAD_DIM, interleaved=False)}
    made = {
        "dense": Attention(DIM, HEADS, KV_HEADS, **common),
        "sliding window": Attention(DIM, HEADS, KV_HEADS, window=keep, **common),
        "window and 4 sinks": Attention(DIM, HEADS, KV_HEADS, window=keep - 4, sinks=4, **common),
        "dynamic, one mask a head": DynamicMaskAttention(DIM, HEADS, KV_HEADS, keep_window=keep, **common),
        "dynamic, one mask a kv-head": DynamicMaskAttention(
            DIM, HEADS, KV_HEADS, keep_window=keep, per="kv-head", **common
        ),
        "dynamic, nothing to drop": DynamicMaskAttention(DIM, HEADS, KV_HEADS, keep_window=10**6, **common),
    }
    for layer in made.values():
        if isinstance(layer, DynamicMaskAttention):
            torch.nn.init.constant_(layer.A, 1.0)
    return made


def readers(keep: int, length: int) -> dict[str, Job]:
    """What reads a text at once."""
    places = torch.arange(length)

    def reads(layer: Attention) -> Job:
        return lambda x: layer(x, places)

    found = layers(keep)
    jobs = {name: reads(layer) for name, layer in found.items()}
    readable = found["dynamic, one mask a kv-head"]
    jobs["dynamic, readable"] = lambda x: readable.with_weights(x, places)[0]
    theirs = transformers_layer(keep, length)
    return jobs if theirs is None else {**jobs, "dynamic, transformers": theirs}


def transformers_layer(keep: int, length: int) -> Job | None:
    """transformers' layer of the same shape (one mask a kv-head, normalised queries and keys), where it is installed."""
    try:
        from transformers import DogeConfig
        from transformers.models.doge.modeling_doge import DogeAttention, DogeRotaryEmbedding
    except ImportError:
        return None
    config = DogeConfig(
        hidden_size=DIM,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        keep_window_size=keep,
        attn_implementation="sdpa",
    )
    layer = DogeAttention(config, layer_idx=0)
    torch.nn.init.constant_(layer.A, 1.0)
    rotary, places = DogeRotaryEmbedding(config), torch.arange(length)[None]
    causal = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    return lambda x: layer(x, rotary(x, places), causal)[0]


class Largest(TorchDispatchMode):
    """Watches for the largest tensor that an operator gives back."""

    bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return result


def memory(job: Job, x: Tensor) -> tuple[float, float]:
    """MiB of the largest tensor that is made, and of all that is kept for the backward pass."""
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # kept alive, so that no address is used twice
        return tensor

    with Largest() as largest, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        job(x)
    return largest.bytes / MIB, sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / MIB


def milliseconds(job: Callable[[], object]) -> float:
    """How long it takes, once."""
    start = time.perf_counter()
    job()
    return 1000 * (time.perf_counter() - start)


def interleaved(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds, and the median of the ratio to the first job in the same round."""
    for job in jobs.values():
        job()
    first = next(iter(jobs))
    times = [{name: milliseconds(job) for name, job in jobs.items()} for _ in range(rounds)]
    return {
        name: (statistics.median(t[name] for t in times), statistics.median(t[name] / t[first] for t in times))
        for name in jobs
    }


def reading(keep: int, lengths: list[int], rounds: int) -> None:
    """Print the table of reading."""
    print(f"reading, keep window {keep}")
    print(f"{'':<30}{'forward ms':>12}{'ratio':>7}{'both ms':>11}{'ratio':>7}{'largest MiB':>13}{'kept MiB':>10}")
    for length in lengths:
        x = torch.randn(1, length, DIM, generator=torch.Generator().manual_seed(0))
        jobs = readers(keep, length)

        def forward(job: Job, x: Tensor = x) -> Callable[[], object]:
            return torch.no_grad()(lambda: job(x))

        def both(job: Job, x: Tensor = x) -> Callable[[], object]:
            return lambda: job(x).sum().backward()  # type: ignore[no-untyped-call]

        one = interleaved({name: forward(job) for name, job in jobs.items()}, rounds)
        two = interleaved({name: both(job) for name, job in jobs.items()}, rounds)
        print(f"{length:,} tokens")
        for name, job in jobs.items():
            largest, kept = memory(job, x)
            numbers = f"{one[name][0]:>12.1f}{one[name][1]:>7.2f}{two[name][0]:>11.1f}{two[name][1]:>7.2f}"
            print(f"  {name:<28}{numbers}{largest:>13.1f}{kept:>10.1f}")


@torch.inference_mode()
def writing(keep: int, lengths: list[int], rounds: int, tokens: int = 32) -> None:
    """Print the table of writing."""
    print(f"writing, keep window {keep}\n{'':<30}{'ms a token':>12}{'ratio':>7}{'cache MiB':>13}")
    for length in lengths:
        x = torch.randn(1, length, DIM, generator=torch.Generator().manual_seed(0))
        jobs: dict[str, Callable[[], object]] = {}
        caches: dict[str, LayerCache] = {}
        for name, layer in layers(keep).items():
            if isinstance(layer, DynamicMaskAttention):
                caches[name] = layer.new_cache(length + (rounds + 1) * tokens)
            else:
                caches[name] = LayerCache(length + (rounds + 1) * tokens, layer.window, layer.sinks)
            layer(x, torch.arange(length), None, caches[name])

            def write(layer: Attention = layer, cache: LayerCache = caches[name], x: Tensor = x) -> None:
                for i in range(tokens):
                    layer(x[:, i : i + 1], torch.tensor([cache.length]), None, cache)

            jobs[name] = write
        print(f"{length:,} tokens before")
        for name, (time_taken, ratio) in interleaved(jobs, rounds).items():
            print(f"  {name:<28}{time_taken / tokens:>12.3f}{ratio:>7.2f}{caches[name].nbytes / MIB:>13.2f}")


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=int, default=256)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"threads: {arguments.threads}")
    reading(arguments.keep, arguments.lengths, arguments.rounds)
    writing(arguments.keep, [*arguments.lengths, 16 * max(arguments.lengths) // 4], arguments.rounds)


if __name__ == "__main__":
    main()
