"""What every benchmark does alike: options, interleaved rounds, tables, and a file of results from which README.md is made."""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "tokenizers", "litgpt", "numpy")


def options(name: str, description: str | None, **more: dict[str, Any]) -> argparse.Namespace:
    """The options that all benchmarks share, and those of one; sets the number of threads."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=description)
    parser.add_argument("--mode", choices=["short", "full"], default="short", help="all short ones together: 5 minutes")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default: by the mode)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock",
        choices=["wall", "processor"],
        default="wall",
        help="processor: seconds of processor time, which other work on the machine disturbs less; only with one thread",
    )
    parser.add_argument("--keep", action="store_true", help="store the result, and write benchmarks/README.md anew")
    for option, settings in more.items():
        parser.add_argument(f"--{option.replace('_', '-')}", **settings)
    found = parser.parse_args()
    if found.clock == "processor" and found.threads != 1:
        parser.error("--clock processor adds up the time of all threads: use it with --threads 1")
    if found.rounds is None:
        found.rounds = 3 if found.mode == "short" else 9
    import torch

    torch.set_num_threads(found.threads)
    return found


def now(clock: str) -> float:
    """Seconds on a clock."""
    return time.perf_counter() if clock == "wall" else time.process_time()


@dataclass
class Table:
    """Contenders measured side by side: for each, one figure a round. The first is what the others are compared with."""

    title: str
    unit: str  # of the figures
    rounds: dict[str, list[float]]
    more: dict[str, dict[str, str]] = field(default_factory=dict)  # column -> contender -> what stands there
    higher_is_better: bool = True
    note: str = ""

    def median(self, name: str) -> float:
        """The middle figure of a contender."""
        return statistics.median(self.rounds[name])

    def ratio(self, name: str, base: str) -> float:
        """How many times as fast as another: the middle one of the ratios within each round."""
        pairs = zip(self.rounds[name], self.rounds[base], strict=True)
        return statistics.median((one / other) if self.higher_is_better else (other / one) for one, other in pairs)

    def markdown(self) -> str:
        """The table as it is shown."""
        base = next(iter(self.rounds))
        columns = [self.title, f"median {self.unit}", "lowest", "highest", "times as fast as the first", *self.more]
        lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
        for name, figures in self.rounds.items():
            cells = [name, *(number(x) for x in (self.median(name), min(figures), max(figures)))]
            cells += [f"{self.ratio(name, base):.2f}", *(column.get(name, "") for column in self.more.values())]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + (f"\n\n{self.note}" if self.note else "")


@dataclass
class Plain:
    """A table of text and numbers."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""

    def markdown(self) -> str:
        """The table as it is shown."""
        lines = ["| " + " | ".join(self.columns) + " |", "|---" * len(self.columns) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines) + (f"\n\n{self.note}" if self.note else "")


def interleave(
    jobs: dict[str, Callable[[], float]], rounds: int, seconds: float, clock: str = "wall"
) -> dict[str, list[float]]:
    """Work a second of each job, round by round: every job for about so many seconds, then all of them again.

    A job does a piece of work and returns how much it was (tokens, stories). Each is done once before anything is measured.
    """
    counts, found = {}, {name: [] for name in jobs}
    for name, job in jobs.items():
        job()
        start = now(clock)
        job()
        counts[name] = max(1, round(seconds / max(now(clock) - start, 1e-9)))
    for round_ in range(rounds):
        order = list(jobs) if round_ % 2 == 0 else list(jobs)[::-1]  # nobody is always first
        for name in order:
            start, done = now(clock), 0.0
            for _ in range(counts[name]):
                done += jobs[name]()
            found[name].append(done / (now(clock) - start))
    return found


def finish(name: str, question: str, settings: argparse.Namespace, tables: list[Table | Plain], began: float) -> None:
    """Print the tables, and store them where asked."""
    about = {
        "machine": f"{processor()}, {os.cpu_count()} processors, {memory()} GB",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {package: found for package in PACKAGES if (found := installed(package))},
        "settings": f"{settings.mode} mode, {settings.threads} thread{'s' * (settings.threads > 1)}, "
        f"{settings.rounds} rounds, {'processor' if settings.clock == 'processor' else 'wall-clock'} time",
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }
    print(f"## {question}\n\n{describe(about)}\n")
    for table in tables:
        print(table.markdown(), flush=True)
        print()
    if settings.keep:
        RESULTS.mkdir(exist_ok=True)
        stored = [{"kind": type(table).__name__, **asdict(table)} for table in tables]
        content = {"question": question, "about": about, "tables": stored}
        (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        from benchmarks._readme import write_readme

        write_readme()


def load(name: str) -> tuple[str, dict[str, Any], list[Table | Plain]] | None:
    """Question, circumstances and tables of a stored result; None where there is none."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    kinds: dict[str, type[Table | Plain]] = {"Table": Table, "Plain": Plain}
    return content["question"], content["about"], [kinds[table.pop("kind")](**table) for table in content["tables"]]


def describe(about: dict[str, Any]) -> str:
    """The circumstances in two lines."""
    versions = ", ".join(f"{package} {found}" for package, found in about["versions"].items())
    return (
        f"{about['machine']}; {about['system']}; {versions}.\n"
        f"{about['settings']}; load of the machine at the end {about['load']}; {about['minutes']} minutes."
    )


def number(x: float) -> str:
    """Three digits, or all that stand before the point."""
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def installed(package: str) -> str | None:
    """The version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """The name of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def memory() -> int:
    """Of the machine, in GB."""
    import psutil

    return round(psutil.virtual_memory().total / 1e9)


def reset_peak() -> float:
    """Forget the peak of memory so far where the system can (Linux), and give the memory in use, in MB."""
    import psutil

    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return float(psutil.Process().memory_info().rss) / 1e6


def peak() -> float:
    """The peak of memory of this process, in MB."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
