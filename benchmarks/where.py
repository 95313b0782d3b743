"""Where the time of a training step goes: `python -m benchmarks where [--mode full]`.

PyTorch's profiler watches some steps of `Trainer` and adds up each operator's own time by kind. "Between operators" is what is left of
the step: Python, dispatch, and the profiler itself, which makes it look larger than it is. Shares, not times: they say what could be
won at most by making one kind of work free.
"""

import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks._report import Plain, Table, finish, options
from benchmarks.training import SHAPES
from minilm.model import LanguageModel
from minilm.training import Trainer, TrainingConfig, WindowBatches

KINDS: dict[str, Callable[[str], bool]] = {  # the first that fits
    "matrix products": lambda name: name in ("aten::mm", "aten::addmm", "aten::bmm", "aten::addmm_", "aten::baddbmm"),
    "attention": lambda name: "attention" in name,
    "loss": lambda name: (
        name in ("aten::_log_softmax", "aten::gather", "aten::exp", "aten::exp_", "aten::scatter_add_")
    ),
    "optimizer": lambda name: (
        name in ("aten::lerp_", "aten::addcmul_", "aten::addcdiv_", "aten::sqrt", "aten::linalg_vector_norm")
        or name.startswith("aten::_foreach")
    ),
    "copies": lambda name: name in ("aten::copy_", "aten::cat", "aten::clone", "aten::fill_", "aten::zero_"),
    "elementwise: norms, rotary, activations, residuals": lambda name: name.startswith("aten::"),
}


def shares(trainer: Trainer, steps: int) -> dict[str, float]:
    """Of the whole time of some steps, by kind of work."""
    for _ in range(2):
        trainer.step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        begin = time.perf_counter()
        for _ in range(steps):
            trainer.step()
        whole = (time.perf_counter() - begin) * 1e6
    spent = dict.fromkeys(KINDS, 0.0)
    for event in found.key_averages():
        kind = next((kind for kind, fits in KINDS.items() if fits(event.key)), None)
        if kind is not None:
            spent[kind] += event.self_cpu_time_total
    spent["between operators"] = max(0.0, whole - sum(spent.values()))
    return {kind: time_ / whole for kind, time_ in spent.items()}


def main() -> None:
    """Profile every shape in both precisions and print a table for each."""
    began = time.perf_counter()
    settings = options("where", __doc__)
    full = settings.mode == "full"
    tables: list[Table | Plain] = []
    for shape in SHAPES if full else ("slim", "story"):
        config, rows, length = SHAPES[shape]
        columns: dict[str, dict[str, float]] = {}
        for precision in ("float32", "bfloat16", "bfloat16-weights"):
            torch.manual_seed(0)
            model = LanguageModel.from_config(config)
            batches = WindowBatches(torch.randint(config.vocab_size, (100_000,)), rows, length)
            run = TrainingConfig(steps=10**9, precision=precision)  # type: ignore[arg-type]
            columns[precision] = shares(Trainer(model, batches, run), settings.rounds)
        rows_ = [[kind, *(f"{column[kind]:.0%}" for column in columns.values())] for kind in columns["float32"]]
        tables.append(Plain(shape, [f"{shape}: {rows} x {length} tokens", *columns], rows_))
    finish("where", "Where does the time of a training step go?", settings, tables, began)


if __name__ == "__main__":
    main()
