"""The ledger of lesson 05: its experiments over five seeds, run from the lesson's own cells.

python -m experiments.model              everything (about six minutes with one thread)
python -m experiments.model positions    one experiment: first_loss, stories, positions
"""

import sys
from typing import Any

from experiments import definitions

SEEDS = range(5)


def line(name: str, values: list[float], digits: int = 2) -> None:
    """All runs, lowest to highest."""
    print(f"{name:<28}", " ".join(f"{value:.{digits}f}" for value in sorted(values)), flush=True)


def first_loss(names: dict[str, Any]) -> None:
    """The loss of untrained models of width 256, and what they give to the token just read."""
    for name, case in {"untied": (0.02, False), "tied": (0.02, True), "tied, std 1": (1.0, True)}.items():
        found = [names["first_loss"](256, *case, seed) for seed in SEEDS]
        line(f"{name}: first loss", [loss for loss, _ in found])
        line(f"{name}: p(the same again)", [own for _, own in found], digits=4)


def stories(names: dict[str, Any]) -> None:
    """Bits a story above the floor after 450 steps."""
    floor, values = names["floor"], []
    for seed in SEEDS:
        names["torch"].manual_seed(seed)
        student = names["LanguageModel"](names["config"])
        for _ in names["fit"](student, names["train_rows"], steps=450, seed=seed):
            pass
        values.append(names["bits_a_story"](student) - floor)
    line("stories: bits above the floor", values, digits=1)


def positions(names: dict[str, Any]) -> None:
    """Nats above the floor inside the training length, just past it, and at four times it."""
    found: dict[str, list[Any]] = {}
    for seed in SEEDS:
        for kind in ("learned", "sinusoidal", "relative", "alibi", "none", "rotary"):
            model = names["learn_echoes"](kind, seed)
            found.setdefault(kind, []).append(names["excess"](model))
            if kind == "rotary":
                found.setdefault("rotary, window", []).append(names["excess"](names["windowed"](model)))
            for scaling in ("linear", "dynamic", "yarn") if kind == "rotary" else ():
                found.setdefault(f"rotary, {scaling}", []).append(names["excess"](names["rescaled"](model, scaling)))
    for kind, runs in found.items():
        for low, high in ((5, 32), (32, 64), (96, 128)):
            line(f"{kind}: places {low} to {high - 1}", [float(run[low:high].mean()) for run in runs])


def main() -> None:
    """Run the experiments that are named, or all of them."""
    experiments = {"first_loss": first_loss, "stories": stories, "positions": positions}
    names = definitions("05_model")
    for name in sys.argv[1:] or experiments:
        experiments[name](names)


if __name__ == "__main__":
    main()
