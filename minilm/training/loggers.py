"""Who is told how a run goes: a table of numbers (CSV), the terminal, TensorBoard."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from minilm.training.checkpoints import write_text
from minilm.training.errors import TrainingError

if TYPE_CHECKING:
    from minilm.training.trainer import Record, Trainer

COLUMNS = ("step", "loss", "learning_rate", "gradient_norm", "tokens", "seconds")
WHOLE = ("step", "tokens")


class CSVLogger:
    """One row a record, each number with the digits that give back exactly that number.

    `metrics` names the further columns, "auxiliary" (a mixture's balance loss, in the loss) among them if wanted. When a run goes on from a checkpoint, rows after its step are dropped, so the finished
    file is that of a run without interruption (but for its seconds).
    """

    def __init__(self, path: str | Path, metrics: tuple[str, ...] = ()) -> None:
        self.path, self.columns = Path(path), (*COLUMNS, *metrics)
        self._file: Any = None

    def start(self, trainer: "Trainer") -> None:
        """Keep the rows up to the run's step, and open the file."""
        rows = read_curve(self.path) if trainer.step_number else []
        kept = [row for row in rows if row["step"] <= trainer.step_number]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, "".join(map(self._line, [dict(zip(self.columns, self.columns, strict=True)), *kept])))
            self._file = self.path.open("a", encoding="utf-8", newline="")
        except OSError as error:
            raise TrainingError(f"{self.path} cannot be written ({error.strerror}): log to another place") from error

    def _line(self, values: Any) -> str:
        return ",".join(str(values.get(name, "")) for name in self.columns) + "\n"

    def log(self, record: "Record") -> None:
        """Write a row."""
        values = {name: getattr(record, name) for name in COLUMNS} | {"seconds": round(record.seconds, 3)}
        try:
            self._file.write(self._line(values | {"auxiliary": record.auxiliary} | record.metrics))
            self._file.flush()
        except OSError as error:
            raise TrainingError(
                f"step {record.step}: {self.path} cannot be written ({error.strerror}); the run resumes from its last checkpoint"
            ) from error

    def finish(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_curve(path: str | Path) -> list[dict[str, float]]:
    """The rows of a `CSVLogger`'s file, empty cells left out; nothing where there is no file.

    A last row without its end of line was cut short by a kill, and is left out too.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return []
    names = lines[0].split(",") if lines else []
    return [
        {
            name: int(cell) if name in WHOLE else float(cell)
            for name, cell in zip(names, row.split(","), strict=True)
            if cell
        }
        for row in lines[1:]
    ]


class ConsoleLogger:
    """A progress bar with loss, tokens a second and the time left; metrics and samples stay above it.

    Where the output is no terminal (a file, a pipe) there is a line every twentieth of the run instead, and at every metric.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._progress: Progress | None = None

    def start(self, trainer: "Trainer") -> None:
        """Show the bar."""
        self.total, self._first = trainer.config.steps, trainer.step_number
        self._started, self._tokens = time.perf_counter(), trainer.tokens
        self._line_every = max(1, self.total // 20)
        self._next_line = self._first + 1
        if self.console.is_terminal:
            columns = (
                *(BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]}")),
                *(TextColumn("{task.fields[speed]} tokens/s"), TimeRemainingColumn()),
            )
            self._progress = Progress(*columns, console=self.console)
            self._task = self._progress.add_task("", total=self.total, completed=self._first, loss="-", speed="-")
            self._progress.start()

    def log(self, record: "Record") -> None:
        """Move on the bar."""
        passed = time.perf_counter() - self._started
        speed = f"{(record.tokens - self._tokens) / max(passed, 1e-9):,.0f}"
        if self._progress is not None:
            self._progress.update(self._task, completed=record.step, loss=f"{record.loss:.3f}", speed=speed)
            if record.metrics:
                self._say(f"step {record.step:,}: {in_words(record.metrics)}")
        elif record.step >= self._next_line or record.metrics or record.step >= self.total:
            left = (self.total - record.step) * passed / max(record.step - self._first, 1)
            text = f"step {record.step:,}/{self.total:,}  loss {record.loss:.3f}  {speed} tokens/s  {left:,.0f} s left"
            self._say(f"{text}  {in_words(record.metrics)}".rstrip())
            self._next_line = record.step + self._line_every
        if record.text is not None:
            self._say(record.text)

    def _say(self, text: str) -> None:
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def finish(self) -> None:
        """Leave the bar as it stands."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def in_words(metrics: dict[str, float]) -> str:
    """Metrics on one line."""
    return "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())


class TensorBoardLogger:
    """Files that `tensorboard --logdir FOLDER` shows. Needs the extra: pip install "minilm[tensorboard]"."""

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise TrainingError(
                'TensorBoard is not installed: pip install "minilm[tensorboard]", or log to a CSV file'
            ) from None
        self.folder, self._make = Path(folder), SummaryWriter
        self._writer: Any = None

    def start(self, trainer: "Trainer") -> None:
        """Open a file; what an interrupted run wrote after its checkpoint is hidden."""
        purge = trainer.step_number + 1 if trainer.step_number else None
        self._writer = self._make(str(self.folder), purge_step=purge)

    def log(self, record: "Record") -> None:
        """Write the record's numbers and text."""
        values = {name: getattr(record, name) for name in ("loss", "learning_rate", "gradient_norm", "tokens")}
        if record.auxiliary:
            values["auxiliary"] = record.auxiliary
        for name, value in (values | record.metrics).items():
            self._writer.add_scalar(name, value, record.step)
        if record.text is not None:
            self._writer.add_text("sample", record.text, record.step)

    def finish(self) -> None:
        """Close the file."""
        self._writer.close()
