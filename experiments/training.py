"""The ledger of lesson 06: its experiments over five seeds, run from the lesson's own cells.

python -m experiments.training            everything (about five minutes with one thread)
python -m experiments.training warmup     one experiment: optimizers, gains, warmup, accident, remedies, stories
"""

import math
import sys
from typing import Any

from experiments import definitions
from experiments.model import line

SEEDS = range(5)


def last(losses: list[float], steps: int = 10) -> float:
    """The mean of the last losses."""
    return sum(losses[-steps:]) / steps


def optimizers(names: dict[str, Any]) -> None:
    """The loss after 100 steps of plain descent at several rates, and of AdamW."""
    torch, obvious_try = names["torch"], names["obvious_try"]
    for rate in (0.03, 0.1, 0.3, 1.0, 3.0):
        line(f"plain descent, rate {rate}", [last(obvious_try(torch.optim.SGD, rate, seed)) for seed in SEEDS])
    line("AdamW, rate 0.01", [last(obvious_try(torch.optim.AdamW, 0.01, seed)) for seed in SEEDS])


def gains(names: dict[str, Any]) -> None:
    """Mean gain and exam loss at weight decay 1, with and without groups."""
    for grouped in (True, False):
        found = [names["gains_after"](grouped, seed=seed) for seed in SEEDS]
        line(f"groups {grouped}: mean gain", [sum(gains) / len(gains) for gains, _ in found])
        line(f"groups {grouped}: exam", [loss for _, loss in found])


def warmup(names: dict[str, Any]) -> None:
    """The loss of 12 layers after 100 steps."""
    for name, settings in {"post-norm": (0, False), "post-norm, warm-up": (40, False), "pre-norm": (0, True)}.items():
        runs = [names["deep_trial"](*settings, seed=seed) for seed in SEEDS]
        line(name, [last(losses) for losses, _ in runs])
        line(f"{name}: likeness", [alike for _, alike in runs])


def accident(names: dict[str, Any]) -> None:
    """The mean loss of the 20 steps after a broken batch, above that of the 20 before."""
    for clip in (None, 1.0):
        runs = [names["accident"](clip, seed)[0] for seed in SEEDS]
        line(f"clip {clip}: rise", [(sum(run[121:141]) - sum(run[100:120])) / 20 for run in runs])


def remedies(names: dict[str, Any]) -> None:
    """Nats above the floor of pairs after 600 noisy steps, by how the rate ends."""
    walk, new_run, torch, training = (names[name] for name in ("walk", "new_run", "torch", "training"))
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        table, optimizer = new_run()
        average, constant = torch.zeros_like(table), []
        for excess in walk(table, optimizer, 600, seed=seed):
            average.lerp_(table.detach(), 0.02)
            constant.append(excess)
        rule = training.Plateau(patience=80, shrink=0.1)
        dropped = []
        for excess in walk(*new_run(), 600, lambda step, rule=rule: rule.factor, seed=seed):
            dropped.append(excess)
            rule.update(excess)
        rows = {
            "constant": last(constant, 50),
            "average": names["loss_and_gradient"](average)[0] - names["pair_floor"],
            "plateau": dropped[-1],
            "cosine": list(walk(*new_run(), 600, lambda s: 0.5 * (1 + math.cos(math.pi * s / 600)), seed=seed))[-1],
            "WSD": list(walk(*new_run(), 600, lambda s: min(1.0, 1 - (s - 480) / 121), seed=seed))[-1],
        }
        for name, value in rows.items():
            found.setdefault(name, []).append(value)
    for name, values in found.items():
        line(name, values, digits=4)


def stories(names: dict[str, Any]) -> None:
    """Bits a story above the floor after the lesson's run; then leaks and over-fitting, each from the trained model."""
    held_rows, floor = names["held_rows"], names["floor"]
    bits = (held_rows[:, 1:] != names["IGNORE"]).sum().item() / len(held_rows) / math.log(2)
    own_floor = names["floor_of"](names["train"][:200], names["train_rows"][:200])
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        run = names["story_run"](seed)
        run.train()
        student = run.model.eval()
        curve = list(names["overfit"](student, seed))
        rows = {
            "bits above the floor": (curve[0][2] - floor) * bits,
            "200 stories: times their floor": curve[-1][1] / own_floor,
            "200 stories: held-out loss, rise": curve[-1][2] - curve[0][2],
        }
        for accident in ("no accident", "not shifted", "future visible"):
            rows[f"{accident}: times the floor"] = last(names["leaky"](accident, student, seed)[0]) / floor
        for name, value in rows.items():
            found.setdefault(name, []).append(value)
    for name, values in found.items():
        line(name, values, digits=3)


def main() -> None:
    """Run the experiments that are named, or all of them."""
    experiments = {
        "optimizers": optimizers,
        "gains": gains,
        "warmup": warmup,
        "accident": accident,
        "remedies": remedies,
        "stories": stories,
    }
    names = definitions("06_training")
    for name in sys.argv[1:] or experiments:
        experiments[name](names)


if __name__ == "__main__":
    main()
