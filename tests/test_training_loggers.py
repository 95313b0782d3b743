"""Loggers write what was recorded, on terminals, in pipes and in files, and go on where a run goes on."""

import io

import pytest
from rich.console import Console

from minilm.training import ConsoleLogger, CSVLogger, Record, TensorBoardLogger, Trainer, TrainingError, read_curve
from tests.training_samples import tiny_batches, tiny_config, tiny_model


def train(*loggers, steps=10, **options):
    options = {"log_every": 4, "evaluate_every": 5, "sample_every": 5, "schedule": {"kind": "cosine"}} | options
    trainer = Trainer(
        tiny_model(), tiny_batches(), tiny_config().replace(steps=steps, **options), loggers=loggers,
        evaluate=lambda model: {"held_out_loss": 1.25}, sample=lambda model: "Once [bold]upon[/bold] a time",
    )  # fmt: skip
    return trainer.train()


def test_the_csv_gives_back_exactly_what_was_recorded(tmp_path):
    records = train(CSVLogger(tmp_path / "deep" / "curve.csv", metrics=("held_out_loss", "absent")))
    rows = read_curve(tmp_path / "deep" / "curve.csv")
    assert [row["step"] for row in rows] == [4, 5, 8, 10]
    for row in rows:
        record = records[row["step"] - 1]
        assert (row["loss"], row["gradient_norm"], row["tokens"]) == (record.loss, record.gradient_norm, record.tokens)
        assert row["learning_rate"] == record.learning_rate
        assert row["seconds"] == pytest.approx(record.seconds, abs=1e-3)
        assert row.get("held_out_loss") == (1.25 if row["step"] in (5, 10) else None)
        assert "absent" not in row


def test_a_row_that_a_kill_cut_short_is_no_row(tmp_path):
    path = tmp_path / "curve.csv"
    train(CSVLogger(path))
    path.write_text(path.read_text()[:-1])
    assert [row["step"] for row in read_curve(path)] == [4, 5, 8]
    assert read_curve(tmp_path / "nothing") == []


def test_a_csv_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"curve\.csv cannot be written"):
        train(CSVLogger(tmp_path / "file" / "curve.csv"))


def test_in_a_pipe_there_are_plain_lines_with_text_as_it_is():
    out = io.StringIO()
    train(ConsoleLogger(Console(file=out, width=200)), steps=40)
    lines = out.getvalue().splitlines()
    assert any(line.startswith("step 40/40  loss ") and line.endswith("held out loss 1.25") for line in lines)
    assert "Once [bold]upon[/bold] a time" in lines
    assert "tokens/s" in lines[0]
    assert "\x1b" not in out.getvalue()


def test_on_a_terminal_there_is_a_bar_and_metrics_above_it():
    out = io.StringIO()
    train(ConsoleLogger(Console(file=out, force_terminal=True, width=120)))
    assert "10/10" in out.getvalue()
    assert "step 5: held out loss 1.25" in out.getvalue()
    assert "Once [bold]upon[/bold] a time" in out.getvalue()


def test_tensorboard_files_hold_the_curve_and_the_text(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    records = train(TensorBoardLogger(tmp_path))
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (step, pytest.approx(records[step - 1].loss)) for step in (4, 5, 8, 10)
    ]
    assert [event.step for event in events.Scalars("held_out_loss")] == [5, 10]
    assert events.Tags()["tensors"] == ["sample/text_summary"]


def test_without_tensorboard_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match=r'pip install "minilm\[tensorboard\]"'):
        TensorBoardLogger("anywhere")


def test_every_logger_is_finished_when_a_run_breaks():
    finished = []

    class Remembers:
        def start(self, trainer):
            self.from_step = trainer.step_number

        def log(self, record: Record):
            raise RuntimeError("the printer is out of paper")

        def finish(self):
            finished.append(self.from_step)

    with pytest.raises(RuntimeError, match="out of paper"):
        train(Remembers(), Remembers())
    assert finished == [0, 0]
