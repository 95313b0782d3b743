"""How cost grows: `python -m benchmarks growth [--mode full]`.

Time and memory of one training step (forward, backward; for parameters also AdamW) against the length of the text, the
parameters, the experts and the vocabulary, and of writing one token against the length behind it. An exponent is the slope of a
straight line through log cost over log size. Beside it stands what theory says: not a bare power, but the same line through the
counted operations (or numbers) at the same sizes. Memory is the peak of the numbers held at once by PyTorch, counted as they are
taken and given back, so it does not depend on the machine.
"""

import math
import statistics
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks._report import Plain, Table, finish, now, number, options
from minilm.attention import Attention
from minilm.config import MoEConfig
from minilm.embeddings import RotaryEmbedding
from minilm.model import LanguageModel
from minilm.moe import MixtureOfExperts
from minilm.training import AdamW, cross_entropy, linear_cross_entropy, parameter_groups

Job = Callable[[], Any]
Series = dict[int, Job]  # size -> what to measure


class Held(TorchDispatchMode):
    """Counts the bytes of all storages that are alive at once, and remembers the most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and note what it made."""
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._seen:
                    self._take(storage._cdata, storage.nbytes(), storage)
        return result

    def _take(self, key: int, size: int, storage: Any) -> None:
        self._seen.add(key)
        self.now += size
        self.most = max(self.most, self.now)

        def give_back() -> None:
            self._seen.discard(key)
            self.now -= size

        weakref.finalize(storage, give_back)


def slope(sizes: list[int], costs: list[float]) -> float:
    """Of the straight line through the logarithms."""
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    return statistics.linear_regression(x, y).slope


def attention_jobs(lengths: list[int]) -> Series:
    """One attention layer, forward and backward."""
    torch.manual_seed(0)
    layer = Attention(256, 4, rotary=RotaryEmbedding(64))

    def job(length: int) -> Job:
        x = torch.randn(1, length, 256)
        return lambda: layer(x.requires_grad_(), torch.arange(length)).sum().backward()

    return {length: job(length) for length in lengths}


def attention_operations(length: int) -> float:
    """Forward and backward: projections 3 * 2 * 4 d^2 a position; scores and sums 3 * 2 * 2 * d a pair, of which half are needed."""
    return 3 * (2 * 4 * 256**2 * length + 2 * 2 * 256 * length**2 / 2)


def step_jobs(dims: list[int]) -> tuple[Series, list[float], list[float]]:
    """A training step of models of several widths; their operations, and the numbers that a step holds."""
    jobs: Series = {}
    operations, held = [], []
    tokens = 256
    for dim in dims:
        torch.manual_seed(0)
        hidden = 4 * dim
        model = LanguageModel.from_preset(
            "slim",
            vocab_size=512,
            dim=dim,
            num_layers=4,
            attention={"num_heads": dim // 32},
            feed_forward={"hidden": hidden},
        )
        ids = torch.randint(512, (2, tokens // 2))
        jobs[model.num_parameters()] = training_step(model, ids)
        count = model.num_parameters()
        operations.append(6.0 * count * tokens + 12 * 4 * dim * tokens * tokens / 2)
        held.append(
            count + 4 * 30.0 * dim * tokens + 3 * 512 * tokens
        )  # gradients; 30 widths a layer; logits three times
    return jobs, operations, held


def training_step(model: nn.Module, ids: Tensor) -> Job:
    """Forward, backward, AdamW."""
    optimizer = AdamW(parameter_groups(model, 0.1))

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(ids), ids).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def expert_jobs(counts: list[int]) -> Series:
    """A mixture of which each token passes through two experts, whatever their number."""

    def job(count: int) -> Job:
        torch.manual_seed(0)
        layer = MixtureOfExperts(256, 256, moe=MoEConfig(count, top_k=2, normalize=True))
        x = torch.randn(1, 2048, 256)
        return lambda: layer(x.requires_grad_()).sum().backward()

    return {count: job(count) for count in counts}


def expert_operations(count: int) -> float:
    """Two experts of three matrices a token, and the router's row for each expert."""
    return 3 * 2 * 2048 * (2 * 3 * 256 * 256 + 256 * count)


def vocabulary_jobs(sizes: list[int], chunk: int | None) -> Series:
    """Head and loss of 1,024 positions, forward and backward."""

    def job(vocab: int) -> Job:
        torch.manual_seed(0)
        hidden, weight = torch.randn(1024, 128, requires_grad=True), torch.randn(vocab, 128, requires_grad=True)
        targets = torch.randint(vocab, (1024,))
        if chunk:
            return lambda: linear_cross_entropy(hidden, weight, targets, chunk=chunk).backward()  # type: ignore[no-untyped-call]
        return lambda: cross_entropy(hidden @ weight.T, targets).backward()  # type: ignore[no-untyped-call]

    return {size: job(size) for size in sizes}


def writing_jobs(lengths: list[int]) -> Series:
    """One token more behind so many, with a cache."""
    torch.manual_seed(0)
    model = LanguageModel.from_preset("slim", vocab_size=512, context_length=lengths[-1] + 64).eval()

    def job(length: int) -> Job:
        cache = model.new_cache()
        with torch.inference_mode():
            model(torch.randint(512, (1, length)), cache)

        def write() -> None:
            with torch.inference_mode():
                model(torch.zeros(1, 1, dtype=torch.long), cache)
                cache.crop(length)

        return write

    return {length: job(length) for length in lengths}


def seconds(series: Series, rounds: int, clock: str) -> dict[int, float]:
    """The lowest time of each size over interleaved rounds: what disturbs only ever adds."""
    found = dict.fromkeys(series, math.inf)
    for round_ in range(rounds + 1):
        for size, job in series.items():
            start = now(clock)
            job()
            if round_:
                found[size] = min(found[size], now(clock) - start)
    return found


def most_held(job: Job) -> float:
    """The most bytes that a piece of work holds at once beyond what was there."""
    job()  # optimizer states and gradients are there from now on
    with Held() as held:
        job()
    return float(held.most)


def main() -> None:
    """Measure all series and print one table of exponents, and one of what they were fitted to."""
    began = time.perf_counter()
    settings = options("growth", __doc__)
    full = settings.mode == "full"
    lengths = [512, 1024, 2048, 4096, 8192] if full else [512, 1024, 2048, 4096]
    vocabularies = [2048, 4096, 8192, 16_384, 32_768] if full else [2048, 8192, 32_768]
    experts = [4, 8, 16, 32, 64] if full else [4, 16, 64]
    steps, step_operations, step_numbers = step_jobs([64, 128, 256, 384, 512] if full else [64, 128, 256])
    head = [3.0 * 2 * 1024 * 128 * size for size in vocabularies]
    writing = [256, 512, 1024, 2048, 4096] if full else [256, 1024, 4096]
    parameters = sum(p.numel() for p in LanguageModel.from_preset("slim", vocab_size=512).parameters())
    series: list[tuple[str, Series, list[float], list[float] | None]] = [
        (
            "attention: length",
            attention_jobs(lengths),
            [attention_operations(n) for n in lengths],
            [4 * 256**2 + 10.0 * 256 * n for n in lengths],  # gradients of the weights; 10 widths a position
        ),
        ("training step: parameters", steps, step_operations, step_numbers),
        (
            "mixture, two experts a token: experts",
            expert_jobs(experts),
            [expert_operations(n) for n in experts],
            [1.0 * 3 * 256 * 256 * n + 2048 * 256 * 17 for n in experts],
        ),
        ("head and loss: vocabulary", vocabulary_jobs(vocabularies, None), head, [float(n) for n in vocabularies]),
        (
            "the same, 128 positions at a time: vocabulary",
            vocabulary_jobs(vocabularies, 128),
            head,
            [float(n) for n in vocabularies],
        ),
        (
            "writing one token with a cache: length",
            writing_jobs(writing),
            [2.0 * parameters + 2 * 2 * 6 * 256 * n for n in writing],
            None,
        ),
    ]
    summary, details = [], []
    for name, jobs, operations, numbers in series:
        sizes = list(jobs)
        times = seconds(jobs, settings.rounds, settings.clock)
        memory = {size: most_held(job) for size, job in jobs.items()} if numbers else {}
        row = [name, f"{slope(sizes, list(times.values())):.2f}", f"{slope(sizes, operations):.2f}"]
        if numbers:
            row += [f"{slope(sizes, list(memory.values())):.2f}", f"{slope(sizes, numbers):.2f}"]
        summary.append(row + [""] * (5 - len(row)))
        for size in sizes:
            held = f"{memory[size] / 1e6:,.1f}" if numbers else ""
            details.append([name, f"{size:,}", number(1e3 * times[size]), held])
        del jobs
    tables: list[Table | Plain] = [
        Plain("exponents", ["cost of what: against what", "time", "its operations", "memory", "its numbers"], summary),
        Plain("measured", ["cost of what: against what", "size", "lowest ms", "peak MB"], details),
    ]
    finish("growth", "How does cost grow with length, parameters, experts and vocabulary?", settings, tables, began)


if __name__ == "__main__":
    main()
