"""Run one benchmark by name, `python -m benchmarks tokenizer --mode full`, or the seven of README.md in turn without a name.

Options are the same for all of these: `--mode short|full`, `--rounds`, `--threads`, `--clock wall|processor`, `--keep`.
"""

import pkgutil
import subprocess
import sys

import benchmarks

SEVEN = ("training", "generation", "tokenizer", "moe", "data", "growth", "course")


def main() -> int:
    """Run `benchmarks.NAME` with the rest of the arguments, each in a process of its own; return the exit status."""
    names = sorted(
        module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")
    )
    named = sys.argv[1:2] if sys.argv[1:2] and not sys.argv[1].startswith("-") else []
    if not set(named) <= set(names):
        sys.exit(f"There is no benchmark {named[0]!r}. usage: python -m benchmarks [{' | '.join(names)}] [options]")
    rest = sys.argv[1 + len(named) :]
    codes = [subprocess.call([sys.executable, "-m", f"benchmarks.{name}", *rest]) for name in named or SEVEN]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
