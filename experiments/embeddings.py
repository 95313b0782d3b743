"""The ledger of lesson 02: what longer training changes about averages and places, over three seeds, run from the lesson's own cells.

python -m experiments.embeddings             everything (about five minutes with one thread)
python -m experiments.embeddings average     one model: token, average, places, mixed
"""

import statistics
import sys
from typing import Any

from experiments import definitions

SEEDS = range(3)
STEPS = 3000
MODELS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "token": ("Table", 1, {}),
    "average": ("Bag", 8, {}),
    "places": ("Bag", 8, {"with_positions": True}),
    "mixed": ("Bag", 8, {"with_positions": True, "mixed": True}),
}


def main() -> None:
    """Nats a token on held-out stories after 3,000 steps: the mean of the seeds, and their spread."""
    names = definitions("02_embeddings")
    for chosen in sys.argv[1:] or MODELS:
        kind, window, options = MODELS[chosen]
        made = [names["fit"](lambda: names[kind](**options), window, seed=seed, steps=STEPS) for seed in SEEDS]  # noqa: B023
        losses = [names["surprise"](model, window) for model in made]
        print(f"{chosen:8} {statistics.mean(losses):.2f} nats, spread {max(losses) - min(losses):.2f}", flush=True)


if __name__ == "__main__":
    main()
