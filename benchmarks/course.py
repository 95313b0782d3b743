"""What the course asks of a machine: `python -m benchmarks course [--mode full]`.

Every notebook, lessons and solutions, is run from its first cell to its last in a kernel of its own with one thread, from a copy; shown are seconds
of wall-clock and processor time and the peak of the kernel's memory. Full mode also runs `make test` and a set-up from nothing into a
temporary folder (from the package index or pip's cache). Short mode runs the two notebooks that are named first.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks._report import Plain, Table, finish, number, options

ROOT = Path(__file__).resolve().parent.parent
FIRST = ("notebooks/02_embeddings.ipynb", "solutions/02_embeddings/02_embeddings.ipynb")


def notebooks() -> list[str]:
    """All lessons and solutions, by their paths."""
    found = [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "solutions").glob("*/*.ipynb")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


class Watch(threading.Thread):
    """Follows the processes below one, and remembers the processor time of each and the peak of memory of any."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peak, self.ended = root, 0.0, threading.Event()
        self._seconds: dict[int, float] = {}

    def run(self) -> None:
        """Look ten times a second."""
        import psutil

        while not self.ended.wait(0.1):
            try:
                family = [psutil.Process(self.root), *psutil.Process(self.root).children(recursive=True)]
            except psutil.Error:
                continue
            for process in family:
                try:
                    times = process.cpu_times()
                    self._seconds[process.pid] = times.user + times.system
                    self.peak = max(self.peak, process.memory_info().rss / 1e6)
                except psutil.Error:
                    continue

    @property
    def seconds(self) -> float:
        """Processor time of all, as last seen."""
        return sum(self._seconds.values())


def measured(command: list[str], folder: Path, **environment: str) -> list[str]:
    """Run a command; wall-clock seconds, processor seconds and peak MB, or the word failed."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | environment, stdout=output, stderr=subprocess.STDOUT
        )
        watch = Watch(process.pid)
        watch.start()
        code = process.wait()
        watch.ended.set()
        watch.join()
    seconds = time.perf_counter() - started
    return [number(seconds), number(watch.seconds), f"{watch.peak:,.0f}", "" if code == 0 else f"failed ({code})"]


def run_notebook(path: str) -> None:
    """Run a copy of a notebook; nothing is stored."""
    import nbclient
    import nbformat

    notebook = nbformat.read(ROOT / path, as_version=4)
    with tempfile.TemporaryDirectory() as home:
        os.environ["MINILM_HOME"] = home
        nbclient.NotebookClient(
            notebook, timeout=600, resources={"metadata": {"path": str((ROOT / path).parent)}}
        ).execute()


def set_up() -> list[str]:
    """`make develop` on a copy of the repository without its environment."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "minilm"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(copy)], check=True)
        return measured(["make", "develop", f"PYTHON={sys.executable}"], copy)


def main() -> None:
    """Run everything that the mode asks for, and print a table."""
    began = time.perf_counter()
    settings = options(
        "course",
        __doc__,
        one={"help": argparse.SUPPRESS},
        only={"nargs": "+", "help": "these notebooks only"},
        no_tests={"action": "store_true", "help": "leave out make test and the set-up"},
    )
    if settings.one:
        return run_notebook(settings.one)
    full = settings.mode == "full"
    rows = []
    for path in settings.only or (notebooks() if full else FIRST):
        command = [sys.executable, "-m", "benchmarks.course", "--one", path]
        rows.append([path, *measured(command, ROOT, OMP_NUM_THREADS="1")])
        print(*rows[-1], flush=True)
    if full and not settings.no_tests and shutil.which("make"):
        rows.append(["make test", *measured(["make", "test"], ROOT)])
        rows.append(["make develop, from nothing", *set_up()])
    columns = ["what", "seconds", "processor seconds", "peak MB of one process", ""]
    tables: list[Table | Plain] = [Plain("course", columns, rows)]
    finish("course", "What does the course ask of a machine?", settings, tables, began)


if __name__ == "__main__":
    main()
