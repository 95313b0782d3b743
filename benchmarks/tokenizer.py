"""The tokenizer beside Hugging Face tokenizers (Rust) and a trainer that recounts: `python -m benchmarks tokenizer`.

Every measurement is a fresh process, so caches are cold and its peak memory is its own. Rounds are interleaved: each contender once, then all again.
The 1.1 MB text is MINILM_TEST_DATA/tinyshakespeare.txt, or else Python's documentation as pydoc holds it. Full mode adds 67 MB of the sources and documents of this Python installation.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator

from benchmarks._report import Plain, Table, finish, options, peak, reset_peak

FULL_BYTES = 67_000_000
# Task -> (what it is, corpus, size of the vocabulary, contenders; the first is what the others are compared with).
TASKS = {
    "recount": ("train on 100 KB, 500 ids", "page", 500, ("minilm", "recounting")),
    "train": ("train on the text, 3,500 ids", "text", 3500, ("tokenizers", "minilm")),
    "encode": ("encode the text, one call", "text", 3500, ("tokenizers", "minilm", "minilm, again")),
    "encode-many": ("encode its paragraphs, one by one", "text", 3500, ("tokenizers", "minilm", "tokenizers, batch")),
    "train-full": ("train on 67 MB, 8,192 ids", "full", 8192, ("tokenizers", "minilm")),
}


def corpus(name: str) -> list[str]:
    """The texts of a corpus."""
    if name == "full":
        return list(installed_texts(FULL_BYTES))
    folder = os.environ.get("MINILM_TEST_DATA")
    if folder:
        text = (pathlib.Path(folder) / "tinyshakespeare.txt").read_text(encoding="utf-8")
    else:
        from pydoc_data.topics import topics

        text = "\n\n".join(topics[key] for key in sorted(topics))
    return [text[:100_000]] if name == "page" else [text]


def installed_texts(limit: int) -> Iterator[str]:
    """Sources and documents of this Python installation, in the order of their paths, up to `limit` bytes."""
    paths = sysconfig.get_paths()
    for folder in dict.fromkeys((paths["stdlib"], paths["purelib"])):
        root = pathlib.Path(folder)
        for path in sorted(path for path in root.rglob("*") if path.suffix in {".py", ".pyi", ".md", ".rst", ".txt"}):
            if "site-packages" in path.relative_to(root).parts:
                continue
            with contextlib.suppress(OSError, UnicodeDecodeError):
                text = path.read_text(encoding="utf-8")[:limit]
                limit -= len(text.encode())
                yield text
            if limit <= 0:
                return


def measure(task: str, contender: str, pre_tokenizer: str, trained: str) -> dict[str, float]:
    """Do the work of one contender once, in this process; seconds on both clocks, and the peak of memory in MB above what the process had before."""
    _, source, vocab_size, _ = TASKS[task]
    texts = corpus(source)
    if task == "encode-many":
        texts = [text + "\n\n" for text in texts[0].split("\n\n")]
    work = (
        encode(contender, texts, trained)
        if task.startswith("encode")
        else train(contender, texts, vocab_size, pre_tokenizer)
    )
    before = reset_peak()
    start, start_processor = time.perf_counter(), time.process_time()
    work()
    seconds, processor = time.perf_counter() - start, time.process_time() - start_processor
    return {"seconds": seconds, "processor": processor, "memory": peak() - before}


def train(contender: str, texts: list[str], vocab_size: int, pre_tokenizer: str) -> Callable[[], object]:
    """The training of a contender, ready to run."""
    from minilm.tokenizer import BPETokenizer, train_by_recounting

    if contender == "minilm":
        return lambda: BPETokenizer.train(texts, vocab_size, pre_tokenizer=pre_tokenizer, progress=False)  # type: ignore[arg-type]
    if contender == "recounting":
        return lambda: train_by_recounting(texts[0], vocab_size - 256, pre_tokenizer)  # type: ignore[arg-type]
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    cutter = BPETokenizer.train(["a"], 256, pre_tokenizer=pre_tokenizer).to_huggingface()  # type: ignore[arg-type]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = cutter.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    return lambda: tokenizer.train_from_iterator(texts, trainer)


def encode(contender: str, texts: list[str], trained: str) -> Callable[[], object]:
    """The encoding of a contender, ready to run with an empty cache; `trained` is the path of a tokenizer.json."""
    import tokenizers

    from minilm.tokenizer import BPETokenizer

    ours = BPETokenizer.load(trained)
    theirs = tokenizers.Tokenizer.from_file(trained)
    if contender == "tokenizers":
        return lambda: [theirs.encode(text).ids for text in texts]
    if contender == "tokenizers, batch":
        return lambda: [encoding.ids for encoding in theirs.encode_batch(texts)]
    if contender == "minilm, again":
        ours.encode_batch(texts)
    return lambda: ours.encode_batch(texts)


def in_fresh_process(task: str, contender: str, pre_tokenizer: str, trained: str) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "tokenizer",
        "--pre-tokenizer",
        pre_tokenizer,
        "--one",
        task,
        contender,
        trained,
    ]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(result.stdout)
    return measured


def describe(texts: list[str]) -> str:
    """Size and fingerprint of a corpus."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode())
    return f"{len(texts):,} texts, {sum(len(text.encode()) for text in texts) / 1e6:.1f} MB, sha256 {digest.hexdigest()[:12]}"


def main() -> None:
    """Run the rounds and print the tables."""
    began = time.perf_counter()
    settings = options(
        "tokenizer",
        __doc__,
        pre_tokenizer={"default": "gpt2", "choices": ["gpt2", "gpt4"]},
        one={"nargs": 3, "metavar": ("TASK", "CONTENDER", "TOKENIZER"), "help": argparse.SUPPRESS},
    )
    if settings.one:
        task, contender, trained = settings.one
        print(json.dumps(measure(task, contender, settings.pre_tokenizer, trained)))
        return
    from minilm.tokenizer import BPETokenizer

    tasks = [task for task in TASKS if settings.mode == "full" or not task.endswith("full")]
    measured: dict[tuple[str, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        trained = str(pathlib.Path(folder) / "tokenizer.json")
        BPETokenizer.train(corpus("text"), 3500, pre_tokenizer=settings.pre_tokenizer).save(trained)
        for round_ in range(settings.rounds):
            for task in tasks:
                for contender in TASKS[task][3]:
                    if task.endswith("full") and round_ >= 3:
                        continue
                    measured.setdefault((task, contender), []).append(
                        in_fresh_process(task, contender, settings.pre_tokenizer, trained)
                    )
    tables: list[Table | Plain] = []
    for task in tasks:
        title, source, _, names = TASKS[task]
        clock = "processor" if settings.clock == "processor" else "seconds"
        seconds = {name: [run[clock] for run in measured[task, name]] for name in names}
        table = Table(title, "s", seconds, higher_is_better=False)
        table.more["peak memory, MB"] = {
            name: f"{statistics.median(run['memory'] for run in measured[task, name]):.0f}" for name in names
        }
        table.note = f"{describe(corpus(source))}; pre-tokenizer {settings.pre_tokenizer}; memory above the loaded text and library."
        tables.append(table)
    finish("tokenizer", "How fast is a byte-pair tokenizer in pure Python?", settings, tables, began)


if __name__ == "__main__":
    main()
