"""How fast there is something to train on: `python -m benchmarks data [--mode full]`.

Told: the grammar's stories, which are also hashed for their split. Sampled: with exact bits and facts. Read: the exact bits of a given
text. Along: the true distribution of every next character. Batches: windows drawn from a file of tokens that is mapped into
memory, beside the same windows cut in a loop as nanoGPT does it, and whole documents. Start-up: seconds of a fresh process.
"""

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._report import Plain, Table, finish, interleave, number, options
from minilm.data import stories
from minilm.training import DocumentBatches, WindowBatches

LENGTH = 256
START_UP = {
    "python": "pass",
    "import torch": "import torch",
    "import minilm": "import minilm",
    "import minilm.model": "from minilm.model import LanguageModel",
    "import minilm.training": "from minilm.training import Trainer",
    "import transformers' Llama": "from transformers import LlamaForCausalLM",
    "first batch of stories": "from minilm.data import stories; from minilm.training import DocumentBatches; "
    "from minilm.tokenizer import ByteTokenizer; t = ByteTokenizer(); "
    "next(DocumentBatches([t.encode(s) for s in stories.generate('medium', 1000)], 32, 0))",
    "first step of training": "from minilm.training import *; from minilm.model import LanguageModel; import torch; "
    "Trainer(LanguageModel.from_preset('slim'), WindowBatches(torch.arange(4096), 8, 64), TrainingConfig(steps=1)).step()",
    "first text of the shipped model": "from minilm import zoo; from minilm.generation import Writer; "
    "Writer(*zoo.load('story')).write('Once', 20)",
}


def counted(work: float, job: Callable[[], object]) -> Callable[[], float]:
    """A job that says how much it does."""

    def run() -> float:
        job()
        return work

    return run


def each(function: Callable[[Any], object], arguments: Iterable[Any]) -> None:
    """Call a function with every argument."""
    for argument in arguments:
        function(argument)


def grammar_jobs(size: str, count: int) -> dict[str, Callable[[], float]]:
    """What is done with stories of a size."""
    grammar, rng, texts = stories.grammar(size), random.Random(0), stories.generate(size, count)  # type: ignore[arg-type]
    return {
        f"{size}: told": counted(count, partial(stories.generate, size, count)),  # type: ignore[arg-type]
        f"{size}: sampled": counted(count, partial(each, grammar.sample, [rng] * count)),
        f"{size}: read": counted(len(texts) // 4, partial(each, grammar.bits, texts[: len(texts) // 4])),
        f"{size}: along": counted(len(texts) // 4, partial(each, grammar.next_char_along, texts[: len(texts) // 4])),
    }


def cut_in_a_loop(tokens: Any, rows: int) -> float:
    """Windows one by one, as nanoGPT's `get_batch` cuts them."""
    starts = torch.randint(len(tokens) - LENGTH, (rows,))
    x = torch.stack([torch.from_numpy(tokens[i : i + LENGTH].astype(np.int64)) for i in starts])
    y = torch.stack([torch.from_numpy(tokens[i + 1 : i + 1 + LENGTH].astype(np.int64)) for i in starts])
    return x.numel() + 0 * y.numel()


def batch_jobs(folder: Path) -> dict[str, Callable[[], float]]:
    """Ways to a batch of 32 rows, in tokens."""
    path = folder / "tokens.bin"
    rng = np.random.default_rng(0)
    rng.integers(50_000, size=20_000_000, dtype=np.uint16).tofile(path)
    tokens = np.memmap(path, dtype=np.uint16, mode="r")
    windows = WindowBatches(tokens, 32, LENGTH)
    documents = DocumentBatches(
        [rng.integers(1000, size=n).tolist() for n in rng.integers(50, 250, size=20_000)], 32, 0
    )
    return {
        "windows, nanoGPT's way": partial(cut_in_a_loop, tokens, 32),
        "windows, minilm": lambda: next(windows).ids.numel(),
        "documents, minilm (padding not counted)": lambda: next(documents).weight,
    }


SAID = """
import time, pathlib, resource
status = pathlib.Path("/proc/self/status")
peak = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")] if status.exists() else []
print(time.process_time(), float(peak[0]) if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def start_up(rounds: int, clock: str) -> Plain:
    """Seconds and peak memory of fresh processes, interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in START_UP}
    memory: dict[str, float] = {}
    for round_ in range(rounds + 1):
        for name, code in START_UP.items():
            start = time.perf_counter()
            result = subprocess.run([sys.executable, "-c", code + "\n" + SAID], capture_output=True, text=True)
            wall = time.perf_counter() - start
            if round_ and result.returncode == 0:  # the first round fills the disk's cache
                processor, peak = map(float, result.stdout.split()[-2:])
                seconds[name].append(processor if clock == "processor" else wall)
                memory[name] = peak * 1024 / 1e6
    rows = [
        [name, number(statistics.median(seconds[name])), number(min(seconds[name])), number(memory[name])]
        for name in memory
    ]
    return Plain("start-up", ["start-up of a fresh process", "median s", "lowest", "peak MB"], rows)


def main() -> None:
    """Measure and print the tables."""
    began = time.perf_counter()
    settings = options("data", __doc__, stories={"type": int, "default": 500, "help": "how many are told at a time"})
    seconds = 0.5 if settings.mode == "full" else 0.1
    sizes = list(stories.SIZES) if settings.mode == "full" else ["medium"]
    tables: list[Table | Plain] = []
    for size in sizes:
        rounds = interleave(grammar_jobs(size, settings.stories), settings.rounds, seconds, settings.clock)
        tables.append(Table(f"stories, {size}", "stories/s", rounds))
    with tempfile.TemporaryDirectory() as folder:
        rounds = interleave(batch_jobs(Path(folder)), settings.rounds, seconds, settings.clock)
        tables.append(Table(f"batches of 32 x {LENGTH} from 20 M tokens", "tokens/s", rounds))
    tables.append(start_up(max(1, settings.rounds // 3), settings.clock))
    finish("data", "How fast is there something to train on?", settings, tables, began)


if __name__ == "__main__":
    main()
