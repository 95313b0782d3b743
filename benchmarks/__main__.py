"""Run one benchmark by name, `python -m benchmarks tokenizer --rounds 5`, or all of them in turn without a name."""

import pkgutil
import subprocess
import sys

import benchmarks


def main() -> int:
    """Run `benchmarks.NAME` with the rest of the arguments, each in a process of its own; return the exit status."""
    names = sorted(
        module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")
    )
    chosen = sys.argv[1:2] or names
    if not set(chosen) <= set(names):
        sys.exit(f"There is no benchmark {chosen[0]!r}. usage: python -m benchmarks [{' | '.join(names)}] [options]")
    codes = [subprocess.call([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[2:]]) for name in chosen]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
