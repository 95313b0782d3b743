"""The ledger of lesson 13 on 4x4 sudoku, from the lesson's own cells: what one look learns, and which settings of the family matter.

python -m experiments.recursion_ledger                     record all runs that are missing (about eight minutes with one thread)
python -m experiments.recursion_ledger settings 0 "TRM"    one of them: "settings" or "looks", a seed, a name
python -m experiments.recursion_ledger table               what is recorded

Settings: as in the lesson, a plain twin of the setting learns for 300 updates, its weights move into the loops (both networks get
them where there are two), and the loops learn for 250 more. Averaged weights are tested, the last ones where there is no average.
The plain rival of sixteen blocks has as many seconds in all; that of two is among the looks, with 1,000 updates (four fifths).
Looks: the plain twin alone, by the round in which a simple solver fills a cell.
"""

import sys
import time
from typing import Any

import numpy as np
import torch

from experiments import definitions
from experiments.moe_shared import keep
from minilm.data.puzzles import puzzle_family
from minilm.recorded import RECORDED, recorded_experiment
from minilm.recursion import PuzzleTrainer, RecursionConfig, RecursiveModel, answers, evaluate, plain_twin, small

NAME, COMMAND = "recursion_ledger", "python -m experiments.recursion_ledger"
SEEDS = range(3)
SEGMENTS = 32  # four times those of training
# What differs from TRM: settings of the model, and of its training with "training." before them; or a plain rival.
SETTINGS: dict[str, dict[str, Any] | str] = {
    "TRM": {},
    "one-step gradient": {"gradient": "one-step"},
    "full gradient": {"gradient": "full"},
    "one segment": {"segments": 1},
    "no average": {"training.ema": None},
    "two networks": {"shared": False},
    "stablemax": {"loss": "stablemax"},
    "plain, 16 blocks": "compute",
}
# Updates and learning rate of a plain rival.
RIVALS = {"compute": (200, 1e-3)}
# Blocks and updates of the plain twin.
LOOKS = {
    "2 blocks, 300 updates": (2, 300),
    "2 blocks, 1,000 updates": (2, 1000),
    "4 blocks, 300 updates": (4, 300),
}


def trained(names: dict[str, Any], model: RecursiveModel, config: Any) -> RecursiveModel:
    """The model after a run, with its averaged weights."""
    trainer = PuzzleTrainer(model, names["easy"], names["practice"], config)
    for _ in trainer.run():
        pass
    if trainer.average is not None:
        model.load_weights(model.weights() | trainer.average.averages)
    return model.eval()


def in_loops(twin: RecursiveModel, config: RecursionConfig) -> RecursiveModel:
    """The recursive model that begins with a plain twin's weights, and its states at zero."""
    model, own = RecursiveModel(config), twin.weights()
    if not config.shared:
        low = {name: value for name, value in own.items() if "low_network" in name}
        own |= {name.replace("low_network", "high_network"): value for name, value in low.items()}
    zero = torch.zeros(config.dim)
    model.load_weights(own | {"high_start": zero, "low_start": zero})
    return model


def setting(names: dict[str, Any], name: str, seed: int) -> dict[str, Any]:
    """A setting's run and its exam."""
    changes, began = SETTINGS[name], time.process_time()
    family = puzzle_family("sudoku-4")
    trm, quick = small("trm", family), names["QUICK"].replace(seed=seed)
    torch.manual_seed(seed)
    if isinstance(changes, str):
        steps, rate = RIVALS[changes]
        rival = RecursiveModel(plain_twin(trm, changes))  # type: ignore[arg-type]
        model = trained(names, rival, quick.replace(steps=steps, learning_rate=rate))
    else:
        training = {key.split(".")[1]: value for key, value in changes.items() if "." in key}
        config = trm.replace(**{key: value for key, value in changes.items() if "." not in key})
        twin = trained(names, RecursiveModel(plain_twin(config.replace(shared=True), "parameters")), quick)
        model = trained(names, in_loops(twin, config), names["LIVE"].replace(seed=seed, **training))
    seconds = time.process_time() - began
    found = evaluate(model, names["easy"], names["exam"], SEGMENTS)
    return {
        "kind": "settings",
        "name": name,
        "seed": seed,
        "parameters": model.num_parameters(),
        "cpu_seconds": round(seconds, 1),
        "exact": [round(value, 4) for value in found.exact[:8]],
        "cells": round(found.cells[7], 4),
        "exact32": round(found.exact[-1], 4),
        "lost32": round(found.lost, 4),
        "halted_exact": round(found.halted_exact, 4),
        "halted_segments": round(found.halted_segments, 3),
    }


def look(names: dict[str, Any], name: str, seed: int) -> dict[str, Any]:
    """A plain twin, and what it gets right by rounds."""
    layers, steps = LOOKS[name]
    torch.manual_seed(seed)
    model = RecursiveModel(small("plain", names["easy"], layers=layers))
    trained(names, model, names["QUICK"].replace(seed=seed, steps=steps))
    exam = names["easy"].generate(400, "test")
    rounds = np.array([names["when"](puzzle, 4) for puzzle in exam.inputs])
    hits = answers(model, exam, 1)[0][:, 0].numpy() == exam.targets
    deepest, known = rounds.max(axis=1), [int(k) for k in np.unique(rounds) if k > 0]
    return {
        "kind": "looks",
        "name": name,
        "seed": seed,
        "parameters": model.num_parameters(),
        "exact": round(float(hits.all(axis=1).mean()), 4),
        "cells_by_round": {str(k): round(float(hits[rounds == k].mean()), 4) for k in known},
        "exact_by_rounds": {
            str(k): round(float(hits[deepest == k].all(axis=1).mean()), 4) for k in known if (deepest == k).any()
        },
    }


def rows() -> list[dict[str, Any]]:
    """What is recorded."""
    known: list[dict[str, Any]] = recorded_experiment(NAME)["runs"] if (RECORDED / f"{NAME}.json").is_file() else []
    return known


def record(wanted: list[tuple[str, int, str]]) -> None:
    """Make the runs that are missing, one after the other."""
    torch.set_num_threads(1)
    names = definitions("13_recursion")
    for kind, seed, name in wanted:
        if any((row["kind"], row["seed"], row["name"]) == (kind, seed, name) for row in rows()):
            continue
        found = (setting if kind == "settings" else look)(names, name, seed)
        print(found, flush=True)
        order = {(kind, name): i for i, (kind, _, name) in enumerate(every())}
        runs = sorted([*rows(), found], key=lambda row: (order[row["kind"], row["name"]], row["seed"]))
        said = {"puzzles": "sudoku-4", "training puzzles": 3000, "exam": 200, "exam of the looks": 400}
        keep(NAME, COMMAND, said, runs)


def every() -> list[tuple[str, int, str]]:
    """All runs: kind, seed, name."""
    kinds = (("settings", SETTINGS), ("looks", LOOKS))
    return [(kind, seed, name) for kind, table in kinds for seed in SEEDS for name in table]


def table() -> None:
    """What is recorded, one line a name with all seeds."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows():
        found.setdefault((row["kind"], row["name"]), []).append(row)
    for (kind, name), runs in found.items():
        if kind == "settings":
            first, last = ([round(100 * run["exact"][i]) for run in runs] for i in (0, -1))
            seconds = sum(run["cpu_seconds"] for run in runs) / len(runs)
            far = [round(100 * run["exact32"]) for run in runs]
            print(f"{name:<24} segment 1 {first}, 8 {last}, 32 {far} % solved; {seconds:.0f} s")
        else:
            cells = ["/".join(f"{100 * share:.0f}" for share in run["cells_by_round"].values()) for run in runs]
            whole = ["/".join(f"{100 * share:.0f}" for share in run["exact_by_rounds"].values()) for run in runs]
            print(
                f"{name:<24} cells by round {cells}, puzzles {whole}, all {[round(100 * r['exact']) for r in runs]} %"
            )


if __name__ == "__main__":
    words = sys.argv[1:]
    if words == ["table"]:
        table()
    elif words:
        record([(words[0], int(words[1]), words[2])])
    else:
        record(every())
