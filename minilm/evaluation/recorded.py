"""Runs that are too long for a lesson, recorded: what they gave, one row a run, with the command that makes them again."""

import csv
from pathlib import Path
from typing import Any

from minilm.evaluation.likelihood import EvaluationError

RECORDED = Path(__file__).parent / "runs"


def recorded_runs(name: str = "scaling-easy") -> list[dict[str, Any]]:
    """The rows of a record, numbers as numbers. `python -m experiments.scaling` makes "scaling-easy"."""
    path = RECORDED / f"{name}.csv"
    if not path.exists():
        known = ", ".join(sorted(each.stem for each in RECORDED.glob("*.csv"))) or "nothing"
        raise EvaluationError(f"there is no record {name!r}: recorded is {known}")
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(value: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value
