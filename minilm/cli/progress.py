"""How a training run shows itself: a moving line in a terminal, plain lines everywhere else."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from minilm.training import Record, Trainer

PLAIN_LINES = 20  # how many lines a run without a terminal has, about
SMOOTHING = 0.7  # of the loss and the rate that are shown


class RunDisplay:
    """Shows loss, tokens a second and the time left; evaluations and samples stay on the screen."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._loss: float | None = None
        self._rate: float | None = None

    def start(self, trainer: Trainer) -> None:
        """The run begins, or goes on."""
        self.total, self.first = trainer.config.steps, trainer.step_number
        self._last = (trainer.tokens, trainer.seconds, trainer.step_number)
        self._next_line = 0.0
        if self.console.is_terminal:
            columns = (
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=20),
                TextColumn("{task.description}"),
            )
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._task = self._bar.add_task("starting", total=self.total, completed=self.first)
            self._bar.start()

    def log(self, record: Record) -> None:
        """Show a record."""
        tokens, seconds, step = self._last
        self._last = (record.tokens, record.seconds, record.step)
        if record.seconds > seconds and record.step > step:
            self._rate = smooth(self._rate, (record.tokens - tokens) / (record.seconds - seconds))
            self._pace = smooth(getattr(self, "_pace", None), (record.seconds - seconds) / (record.step - step))
        self._loss = smooth(self._loss, record.loss)
        left = clock(self._pace * (self.total - record.step)) if self._rate else "?"
        line = f"loss {self._loss:.3f}  {self._rate or 0:,.0f} tokens/s  {left} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=record.step, description=line)
        elif not record.metrics and record.step >= self._next_line:
            self._next_line = record.step + self.total / PLAIN_LINES
            self._say(f"step {record.step:,}/{self.total:,}  {line}")
        if record.metrics:
            self._say(f"step {record.step:,}/{self.total:,}  {line}  {metrics_line(record.metrics)}")
        if record.text is not None:
            self._say(f"  it writes: {' '.join(record.text.split())}", style="dim")

    def finish(self) -> None:
        """Take the moving line away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _say(self, text: str, style: str | None = None) -> None:
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def smooth(old: float | None, new: float) -> float:
    """A running average."""
    return new if old is None else SMOOTHING * old + (1 - SMOOTHING) * new


def metrics_line(metrics: dict[str, float]) -> str:
    """What was measured on text that is not trained on, in words."""
    words = {
        "held_out_loss": "held-out {:.3f} nats a token",
        "bits_per_byte": "{:.3f} bits a byte",
        "bits_per_story": "{:.1f} bits a story",
        "bits_above_floor": "{:.2f} above the floor",
    }
    return ", ".join(
        words[name].format(value) if name in words else f"{name} {value:.3f}" for name, value in metrics.items()
    )


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
