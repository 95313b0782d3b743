"""Experiments that are too long for a lesson, recorded with the command that makes them again: one file each, named after its command.

    from minilm.recorded import recorded_experiment

    runs = recorded_experiment("moe_capacity")["runs"]

`python -m experiments.moe_capacity` wrote that one; each record says its own.
"""

import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent


def recorded_experiment(name: str) -> dict[str, Any]:
    """What an experiment gave: "command" says how to make it again, "settings" what was the same in all its runs, "runs" is a
    list of dictionaries, one a run. ValueError names what is recorded for a name that isn't.
    """
    path = RECORDED / f"{name}.json"
    if not path.exists():
        known = ", ".join(sorted(each.stem for each in RECORDED.glob("*.json"))) or "nothing"
        raise ValueError(f"there is no recorded experiment {name!r}: recorded is {known}")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
