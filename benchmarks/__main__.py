"""Run one benchmark by name: `python -m benchmarks tokenizer --rounds 5`. Without a name, list them."""

import pkgutil
import runpy
import sys

import benchmarks


def main() -> None:
    """Hand over to `benchmarks.NAME`, with the rest of the arguments."""
    names = sorted(
        module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")
    )
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        sys.exit(f"usage: python -m benchmarks NAME [options]\nNAME is one of: {', '.join(names)}")
    name = sys.argv.pop(1)
    runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
