"""How fast a model learns, beside its peers: `python -m benchmarks training [--mode full]`.

One step is forward, backward, clipping and AdamW. Ours is `Trainer`; peers get a bare loop with PyTorch's cross-entropy, its fused
AdamW and its clipping. Shapes: `slim`; the width, depth and vocabulary of a small Doge ("doge-like"); `mnemos`; and the course's own
story model. The nanoGPT-shaped peer has two matrices in its feed-forward where the others have three, so it does about a fifth
less work: "at equal parameters" it is made as large as ours by a wider one. Full mode adds compiled models and the peak of memory,
measured in a fresh process for each contender.
"""

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks._peers import GPTShaped, litgpt_model, transformers_model
from benchmarks._report import Plain, Table, finish, interleave, now, number, options, peak, reset_peak
from minilm import presets, zoo
from minilm.config import ModelConfig
from minilm.model import LanguageModel
from minilm.training import Trainer, TrainingConfig, WindowBatches, parameter_groups

HALF_SPLIT = {"interleaved": False}  # the layout of transformers
SHAPES: dict[str, tuple[ModelConfig, int, int]] = {  # config, rows, length
    "slim": (presets.config("slim", positions=HALF_SPLIT), 4, 256),
    "doge-like": (
        presets.config(
            "slim",
            vocab_size=32_768,
            num_layers=8,
            context_length=512,
            attention={"num_heads": 4},
            positions=HALF_SPLIT,
        ),
        2,
        512,
    ),
    "mnemos": (presets.config("mnemos", block={"dropout": 0.0}), 16, 64),
    "story": (zoo.load("story")[0].config, 32, 64),
}
OURS = {  # precision, positions whose logits exist at a time, compiled
    "minilm, float32": ("float32", None, False),
    "minilm, float32-medium": ("float32-medium", None, False),
    "minilm, bfloat16 autocast": ("bfloat16", None, False),
    "minilm, bfloat16 weights": ("bfloat16-weights", None, False),
    "minilm, bfloat16 weights, chunked loss": ("bfloat16-weights", 256, False),
    "minilm, float32, chunked loss": ("float32", 256, False),
}
COMPILED = {
    "minilm, float32, compiled": ("float32", None, True),
    "minilm, bfloat16 autocast, compiled": ("bfloat16", None, True),
    "minilm, bfloat16 weights, compiled": ("bfloat16-weights", None, True),
}
Step = Callable[[], float]


def contenders(shape: str, compiled: bool) -> list[str]:
    """Everyone who can be measured at a shape."""
    config, _, _ = SHAPES[shape]
    names = ["minilm, float32"]
    if transformers_model(LanguageModel.from_config(config)) is not None:
        names += ["transformers, float32", "transformers, bfloat16 autocast"]
    gated = config.feed_forward.kind == "gated" and config.positions.kind == "rotary"
    if gated and litgpt_model(config) is not None:
        names += ["litgpt, float32", "litgpt, bfloat16 autocast"]
    names += ["nanoGPT-shaped, float32", "nanoGPT-shaped, bfloat16 autocast"]
    if gated:
        names += ["nanoGPT-shaped at equal parameters, float32"]
    names += [name for name in OURS if name not in names and ("chunked" not in name or config.vocab_size > 8192)]
    return names + (list(COMPILED) if compiled else [])


def stepper(shape: str, name: str) -> Step:
    """One training step of a contender, ready to be called: it returns the number of tokens."""
    config, rows, length = SHAPES[shape]
    torch.manual_seed(0)
    model = LanguageModel.from_config(config)
    tokens = torch.randint(config.vocab_size, (100_000,))
    batches = WindowBatches(tokens, rows, length)
    if name.startswith("minilm"):
        precision, chunk, compiled = (OURS | COMPILED)[name]
        run = TrainingConfig(steps=10**9, precision=precision, loss_chunk=chunk, compile=compiled)  # type: ignore[arg-type]
        trainer = Trainer(model, batches, run)

        def step() -> float:
            trainer.step()
            return rows * length

        return step
    return bare_step(peer(name, model), batches, "bfloat16" in name)


def peer(name: str, model: LanguageModel) -> nn.Module:
    """The model of a peer, with the weights of ours where its shape is the same."""
    if name.startswith("transformers"):
        found = transformers_model(model)
        return Logits(found)
    if name.startswith("litgpt"):
        return litgpt_model(model.config)  # type: ignore[no-any-return]
    if "equal parameters" in name:
        return GPTShaped(model.config, hidden=model.config.feed_forward.hidden * 3 // 2)
    return GPTShaped(model.config)


class Logits(nn.Module):
    """A model of transformers that gives logits and nothing else."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model.train()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.model(ids, use_cache=False).logits  # type: ignore[no-any-return]


def bare_step(model: nn.Module, batches: WindowBatches, half: bool) -> Step:
    """A step by PyTorch's own parts."""
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-3, betas=(0.9, 0.95), fused=True)

    def step() -> float:
        batch = next(batches)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(batch.ids)
            loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        float(loss.detach())
        return batch.ids.numel()

    return step


def same_start(shape: str) -> str:
    """Proof that transformers computes the same loss on the same weights; empty where there is no such model."""
    config, rows, length = SHAPES[shape]
    torch.manual_seed(0)
    ours = LanguageModel.from_config(config).eval()
    theirs = transformers_model(copy.deepcopy(ours))
    if theirs is None:
        return ""
    ids = torch.randint(config.vocab_size, (rows, length))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs.eval()(ids).logits, rtol=1e-4, atol=1e-4)
    return "transformers has the same weights and gives the same logits (checked before the first round). "


def flops_a_token(config: ModelConfig, length: int) -> float:
    """Of a training step: 6 a weight that is multiplied with, and 12 * layers * width * length for attention (PaLM, appendix B)."""
    model = LanguageModel.from_config(config, device="meta")
    tables = 0 if config.head.tied else config.vocab_size * config.dim
    positions = config.context_length * config.dim if config.positions.kind == "learned" else 0
    width = config.attention.num_heads * config.head_dim
    return 6 * (model.num_parameters() - tables - positions) + 12 * config.num_layers * width * length


def peak_speed(precision: str, clock: str) -> float:
    """Products of two large matrices on this machine, in GFLOP/s, with the threads that are set."""
    kind = torch.bfloat16 if precision.startswith("bfloat16") else torch.float32
    a, b = torch.randn(1024, 1024).to(kind), torch.randn(1024, 1024).to(kind)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if precision == "float32-medium" else "highest")
    best = 1e9
    for _ in range(20):
        start = now(clock)
        a @ b
        best = min(best, now(clock) - start)
    torch.set_float32_matmul_precision(before)
    return 2 * 1024**3 / best / 1e9


def precision_of(name: str) -> str:
    """The kind of number that a contender multiplies."""
    if "bfloat16" in name:
        return "bfloat16"
    return "float32-medium" if "medium" in name else "float32"


def memory(shape: str, name: str) -> float:
    """Peak of a contender's steps above an empty process, in MB, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training", "--one", json.dumps([shape, name])]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout.splitlines()[-1])


def one(shape: str, name: str) -> None:
    """What `memory` runs."""
    before = reset_peak()
    step = stepper(shape, name)
    for _ in range(3):
        step()
    print(peak() - before)


def main() -> None:
    """Measure all shapes and print a table for each."""
    began = time.perf_counter()
    settings = options(
        "training",
        __doc__,
        shapes={"nargs": "+", "choices": list(SHAPES), "default": None},
        seconds={"type": float, "default": None, "help": "how long each contender works in a round"},
        no_memory={"action": "store_true", "help": "leave the peak of memory out of the full mode"},
        one={"help": "measure the memory of one contender and print it"},
    )
    if settings.one:
        return one(*json.loads(settings.one))
    full = settings.mode == "full"
    shapes = settings.shapes or (list(SHAPES) if full else ["slim", "story"])
    seconds = settings.seconds or (2.0 if full else 0.5)
    speeds = {kind: peak_speed(kind, settings.clock) for kind in ("float32", "float32-medium", "bfloat16")}
    tables: list[Table | Plain] = [
        Plain(
            "peak",
            ["product of two 1,024 x 1,024 matrices", "GFLOP/s"],
            [[kind, number(speed)] for kind, speed in speeds.items()],
        )
    ]
    for shape in shapes:
        config, rows, length = SHAPES[shape]
        names = contenders(shape, compiled=full)
        jobs = {name: stepper(shape, name) for name in names}
        rounds = interleave(jobs, settings.rounds, seconds, settings.clock)
        del jobs
        work = flops_a_token(config, length)
        table = Table(f"{shape}: {rows} x {length} tokens", "tokens/s", rounds)
        table.more["share of the peak"] = {
            name: f"{table.median(name) * work / 1e9 / speeds[precision_of(name)]:.0%}"
            for name in names
            if "nanoGPT" not in name
        }
        if full and not settings.no_memory:
            table.more["peak memory, MB"] = {name: f"{memory(shape, name):,.0f}" for name in names}
        table.note = (
            same_start(shape) + "Share of the peak: model FLOPs by the speed of a large product of the same kind."
        )
        tables.append(table)
    finish("training", "How fast does a model learn, beside its peers?", settings, tables, began)


if __name__ == "__main__":
    main()
