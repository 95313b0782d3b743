"""The ledger of lesson 04: what 24 blocks learn in 100 steps, over five seeds, run from the lesson's own cells.

python -m experiments.block      about 5 minutes with one thread
"""

import math
import statistics
from typing import Any

from experiments import definitions

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


def main() -> None:
    """Train every case with every seed, and print the mean of the last ten losses."""
    train = definitions("04_block")["train"]
    for name, (init, options) in CASES.items():
        ends = [sum(train(init, seed, **options)[0][-10:]) / 10 for seed in SEEDS]
        if any(map(math.isnan, ends)):
            print(f"{name:26} not a number in {sum(map(math.isnan, ends))} of {len(ends)} seeds", flush=True)
            continue
        mean, spread = statistics.mean(ends), statistics.stdev(ends)
        print(f"{name:26} {mean:.3f} ± {spread:.3f} nats   ({min(ends):.3f} to {max(ends):.3f})", flush=True)


if __name__ == "__main__":
    main()
