"""Who is told how a run goes: a table of numbers (CSV), the terminal, TensorBoard."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minilm.training.checkpoints import write_text

if TYPE_CHECKING:
    from minilm.training.trainer import Record, Trainer

COLUMNS = ("step", "loss", "learning_rate", "gradient_norm", "tokens", "seconds")


class CSVLogger:
    """One row a record, with the shortest digits that give back exactly the same numbers.

    `metrics` names the further columns. When a run goes on from a checkpoint, rows after its step are dropped, and so the finished
    file is that of a run without interruption (but for its seconds).
    """

    def __init__(self, path: str | Path, metrics: tuple[str, ...] = ()) -> None:
        self.path, self.columns = Path(path), (*COLUMNS, *metrics)
        self._file: Any = None

    def start(self, trainer: "Trainer") -> None:
        """Keep the rows up to the run's step, and open the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = (
            [row for row in read_curve(self.path) if row["step"] <= trainer.step_number] if trainer.step_number else []
        )
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, text.getvalue())
        self._file = self.path.open("a", encoding="utf-8", newline="")

    def log(self, record: "Record") -> None:
        """Write a row."""
        values = (
            {name: getattr(record, name) for name in COLUMNS} | {"seconds": round(record.seconds, 3)} | record.metrics
        )
        self._file.write(",".join(str(values.get(name, "")) for name in self.columns) + "\n")
        self._file.flush()

    def finish(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_curve(path: str | Path) -> list[dict[str, float]]:
    """The rows of a `CSVLogger`'s file, empty cells left out; a last row cut short by a kill is not one."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    rows = csv.DictReader(text[: text.rfind("\n") + 1].splitlines())
    whole = ("step", "tokens")
    return [
        {name: int(value) if name in whole else float(value) for name, value in row.items() if value} for row in rows
    ]
