"""Experiments of lesson 09 that are too long for it, recorded with the command that makes them again.

- "capacity": random facts and stories, dense models against mixtures of the same active and of the same total size;
- "balance": how evenly experts are used in the course of training, by ways to balance them;
- "specialization": what the experts of a model of two languages know about language, plot and kind of word.
"""

import json
from pathlib import Path
from typing import Any

RUNS = Path(__file__).parent / "runs"


def recorded_experiment(name: str) -> dict[str, Any]:
    """What an experiment gave: "command" says how to make it again, "settings" what was the same in all its runs, "runs" is a
    list of dictionaries, one a run. ValueError names what is recorded for a name that isn't.
    """
    path = RUNS / f"{name}.json"
    if not path.exists():
        known = ", ".join(sorted(each.stem for each in RUNS.glob("*.json"))) or "nothing"
        raise ValueError(f"there is no recorded experiment {name!r}: recorded is {known}")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
