"""The ledger of lesson 10: waiters with eight lines, taught in three ways, and tiny Doges, run from the lesson's own cells.

python -m experiments.dynamic_mask              everything (about eight minutes with one thread)
python -m experiments.dynamic_mask waiters      one experiment: waiters, crowds, stories, branches, sinks
"""

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from experiments import definitions

SEEDS = range(5)


def line(name: str, values: list[float], digits: int = 2) -> None:
    """All runs, lowest to highest."""
    print(f"{name:<52}", " ".join(f"{value:.{digits}f}" for value in sorted(values)), flush=True)


def taught(names: dict[str, Any], seed: int) -> Any:
    """A waiter who learns first what to keep."""
    student = names["waiter"](names["DynamicMaskAttention"], seed, keep_window=64)
    names["fit"](student, 600, names["keep_first"], seed)
    return student


def waiters(names: dict[str, Any]) -> None:
    """Everything, windows by age, and the three tries at a window by content."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    torch = names["torch"]
    for seed in SEEDS:
        for name, options in names["PLAIN"].items():
            student = names["waiter"](names["Attention"], seed, **options)
            names["fit"](student, 300, seed=seed)
            note(f"{name}: right", names["exam"](student))
        tries = {
            "wide, then cut": (64, 300, None),
            "eight lines from the start": (8, 500, None),
            "first keep, then look": (64, 600, names["keep_first"]),
        }
        shares: dict[str, float] = {}
        for name, (keep, steps, plan) in tries.items():
            student = names["waiter"](names["DynamicMaskAttention"], seed, keep_window=keep)
            names["fit"](student, steps, plan, seed)
            shares[name], right = names["pad"](student)
            note(f"{name}: orders kept", shares[name])
            note(f"{name}: right", right)
            note(f"{name}: right with all remarks kept", names["pad"](student, 64)[1])
        for name in ("wide, then cut", "eight lines from the start"):
            note(f"kept more than {name}", shares["first keep, then look"] - shares[name])
        with torch.no_grad():
            own, order = names["own_places"](student)
        note("orders that keep their own place", float(own[order].float().mean()))
        note("other remarks that keep their own place", float(own[~order].float().mean()))
    for name, values in found.items():
        line(name, values)


def crowds(names: dict[str, Any]) -> None:
    """More orders than lines, for waiters taught on four orders."""
    found: dict[int, list[float]] = {}
    for seed in SEEDS:
        student = taught(names, seed)
        for orders in (4, 6, 8, 10, 12, 14, 16):
            found.setdefault(orders, []).append(names["exam"](student, orders))
    for orders, values in found.items():
        line(f"{orders} orders: right (predicted {names['predicted'](orders):.2f})", values)


def stories(names: dict[str, Any]) -> None:
    """The tiny Doge after its run, keeping 24 of about 60 tokens, beside its twins: dense, and with a window of 24."""
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        for name, attention in names["TWINS"].items():
            trainer = names["run"](names["trunk"], seed, attention=attention)
            trainer.train()
            found.setdefault(name, []).append(names["held_out"](trainer.model))
    for name, values in found.items():
        line(f"{name}: nats a token, held out", values, digits=3)


def branches(names: dict[str, Any]) -> None:
    """What a decay of 60 steps from the checkpoint at 150 wins over 60 steps more of the level part, and the trunk's own decay."""
    trunk = names["trunk"]
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            trainer = names["run"](trunk, seed, folder=f"{folder}/trunk")
            held_out = {f"step {n}": names["held_out"](trainer.model) for n in each_step(trainer, (210, 300, 360))}
            branch = names["run"](names["decay_branch"](trunk, step=150, decay=60), seed, folder=f"{folder}/branch")
            branch.resume(f"{folder}/trunk/checkpoints/step-00000150")
            branch.train()
            held_out["branch"] = names["held_out"](branch.model)
        for name, value in held_out.items():
            found.setdefault(name, []).append(value)
        found.setdefault("won by the branch", []).append(held_out["step 210"] - held_out["branch"])
        found.setdefault("won by the trunk's decay", []).append(held_out["step 300"] - held_out["step 360"])
    for name, values in found.items():
        line(f"{name}: nats a token, held out", values, digits=3)


def each_step(trainer: Any, steps: Iterable[int]) -> Iterator[int]:
    """Train, and stop by at these steps."""
    for record in trainer.steps():
        if record.step in steps:
            yield record.step
            trainer.model.train()


def sinks(names: dict[str, Any]) -> None:
    """Does the shipped story model look at its first token, and does it need it?"""
    model, ids = names["story_rows"]()
    torch = names["torch"]
    for place in (0, 2, 4, 8):
        weights = names["looks_at"](model, ids, place)
        hidden = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool)
        hidden[place + 1 :, place] = False
        losses = names["late_loss"](model, ids), names["late_loss"](model, ids, hidden)
        print(f"token {place}: mean weight {weights.mean():.3f}, highest head {weights.max():.2f};", end=" ")
        print(f"loss {losses[0]:.3f}, with it hidden {losses[1]:.3f}", flush=True)


def main() -> None:
    """Run the experiments that are named, or all of them."""
    experiments: dict[str, Callable[[dict[str, Any]], None]] = {
        "waiters": waiters,
        "crowds": crowds,
        "stories": stories,
        "branches": branches,
        "sinks": sinks,
    }
    names = definitions("10_dynamic_mask")
    for name in sys.argv[1:] or experiments:
        experiments[name](names)


if __name__ == "__main__":
    main()
