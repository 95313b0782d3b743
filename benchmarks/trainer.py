"""What the trainer costs beside a bare loop: `python -m benchmarks trainer [--rounds 5] [--threads 1]`.

The same model and batches, trained by a loop of six lines with PyTorch's own loss and AdamW (fused, and foreach), by the same loop
with our loss, AdamW and clipping, and by `Trainer` in float32 and with bfloat16 autocast. Rounds are interleaved: each contender some steps,
then all again. A table in Markdown gives medians in tokens a second, with the lowest and the highest, and the ratio to the first.
"""

import argparse
import statistics
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from minilm.model import LanguageModel
from minilm.training import (
    AdamW,
    Trainer,
    TrainingConfig,
    WindowBatches,
    clip_gradients,
    cross_entropy,
    parameter_groups,
)

SHAPES = {
    "slim: 7.3M, 8 x 256, vocabulary 4,096": (8, 256, {}),
    "small: 0.2M, 16 x 64, vocabulary 512": (
        16,
        64,
        {"vocab_size": 512, "dim": 64, "num_layers": 3, "attention": {"num_heads": 4}, "feed_forward": {"hidden": 256}},
    ),
}


def bare_loop(model: LanguageModel, batches: WindowBatches, kind: str) -> Iterator[object]:
    """What a step cannot do without, by PyTorch's functions and its AdamW of this kind."""
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-3, betas=(0.9, 0.95), **{kind: True})
    for batch in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch.ids).flatten(0, 1), batch.targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        optimizer.step()
        yield float(loss.detach())


def our_loop(model: LanguageModel, batches: WindowBatches, _: str) -> Iterator[object]:
    """The same by our functions."""
    optimizer = AdamW(parameter_groups(model, 0.1), lr=1e-3, betas=(0.9, 0.95))
    for batch in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(batch.ids), batch.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(model.parameters(), 1.0)
        optimizer.step()
        yield float(loss.detach())


def trainer_steps(model: LanguageModel, batches: WindowBatches, precision: str) -> Iterator[object]:
    """The same by the trainer."""
    config = TrainingConfig(steps=10**9, learning_rate=1e-3, precision=precision)
    yield from Trainer(model, batches, config).steps()


def main() -> None:
    """Measure both shapes and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each contender works in a round, about")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.rounds} rounds; tokens a second\n")
    for name, (rows, length, overrides) in SHAPES.items():
        contenders: dict[str, Iterator[object]] = {}
        for label, make, option in (
            ("bare loop, torch AdamW fused", bare_loop, "fused"),
            ("bare loop, torch AdamW foreach", bare_loop, "foreach"),
            ("bare loop, our loss, AdamW, clipping", our_loop, ""),
            ("Trainer, float32", trainer_steps, "float32"),
            ("Trainer, bfloat16 autocast", trainer_steps, "bfloat16"),
        ):
            torch.manual_seed(0)
            model = LanguageModel.from_preset("slim", **overrides)
            tokens = torch.randint(model.config.vocab_size, (100_000,))
            contenders[label] = make(model, WindowBatches(tokens, rows, length), option)
        speeds: dict[str, list[float]] = {label: [] for label in contenders}
        for steps in contenders.values():
            next(steps)
        first = time.perf_counter()
        next(contenders["bare loop, torch AdamW fused"])
        count = max(2, round(arguments.seconds / (time.perf_counter() - first)))
        for _ in range(arguments.rounds):
            for label, steps in contenders.items():
                start = time.perf_counter()
                for _ in range(count):
                    next(steps)
                speeds[label].append(count * rows * length / (time.perf_counter() - start))
        base = statistics.median(speeds["bare loop, torch AdamW fused"])
        print(f"| {name} | median | lowest | highest | ratio |\n|---|---|---|---|---|")
        for label, measured in speeds.items():
            middle = statistics.median(measured)
            print(f"| {label} | {middle:,.0f} | {min(measured):,.0f} | {max(measured):,.0f} | {middle / base:.2f} |")
        print()


if __name__ == "__main__":
    main()
