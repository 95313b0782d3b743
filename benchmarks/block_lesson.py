"""The ledger of lesson 04: what 24 blocks learn in 100 steps, over five seeds, run from the lesson's own cells.

python benchmarks/block_lesson.py      about 5 minutes with one thread
"""

import ast
import contextlib
import io
import json
import math
import statistics
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "04_block.ipynb"
SEEDS = range(5)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "pre-norm, GPT-2's start": ("GPT-2's", {}),
    "pre-norm, 1/√inputs": ("1/√inputs", {}),
    "post-norm, 1/√inputs": ("1/√inputs", {"norm": "post"}),
    "the same, rate 0.0003": ("1/√inputs", {"norm": "post", "rate": 3e-4}),
    "pre-norm, rate 0.0003": ("1/√inputs", {"rate": 3e-4}),
    "post-norm, GPT-2's start": ("GPT-2's", {"norm": "post"}),
    "no residual, pre-norm": ("1/√inputs", {"residual": False}),
    "all zero": ("zero", {}),
    "writers zero": ("writers zero", {}),
    "no norm, GPT-2's start": ("GPT-2's", {"norm": "none"}),
    "no norm, 1/√inputs": ("1/√inputs", {"norm": "none"}),
}


def lesson() -> dict[str, Any]:
    """The names that the lesson's cells make: imports, functions and classes of all, everything of those tagged definitions."""
    names: dict[str, Any] = {"__name__": "lesson"}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        if "definitions" not in cell["metadata"].get("tags", []):
            kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
            tree.body = [node for node in tree.body if isinstance(node, kept)]
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(tree, str(NOTEBOOK), "exec"), names)
    return names


def main() -> None:
    """Train every case with every seed, and print the mean of the last ten losses."""
    train = lesson()["train"]
    for name, (init, options) in CASES.items():
        ends = [sum(train(init, seed, **options)[0][-10:]) / 10 for seed in SEEDS]
        if any(map(math.isnan, ends)):
            print(f"{name:26} not a number in {sum(map(math.isnan, ends))} of {len(ends)} seeds", flush=True)
            continue
        mean, spread = statistics.mean(ends), statistics.stdev(ends)
        print(f"{name:26} {mean:.3f} ± {spread:.3f} nats   ({min(ends):.3f} to {max(ends):.3f})", flush=True)


if __name__ == "__main__":
    main()
