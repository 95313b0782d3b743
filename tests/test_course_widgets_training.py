"""The widgets of lesson 06: the dashboard as a logger of a real run, and the schedule designer against the library's schedules."""

import base64
import io
import math
import re

import matplotlib.image
import numpy as np
import pytest
import torch

from minilm.config import AttentionConfig, FeedForwardConfig, ModelConfig
from minilm.course.widgets import ScheduleDesigner, TrainingDashboard
from minilm.course.widgets.schedule_designer import KINDS
from minilm.model import LanguageModel
from minilm.training import DocumentBatches, Record, Trainer, TrainingConfig, warmup_cosine, warmup_stable_decay


def not_blank(picture: bytes) -> bool:
    pixels = matplotlib.image.imread(io.BytesIO(picture))[..., :3]
    return bool(0.02 < np.mean(pixels.min(axis=-1) < 0.9) < 0.9)


def record(step: int, loss: float, **more: object) -> Record:
    return Record(step, loss, 0.01, 0.5, 100 * step, 0.1 * step, **more)  # type: ignore[arg-type]


class Run:
    """As much of a trainer as the dashboard asks for."""

    config = TrainingConfig(steps=100)
    step_number = 0


# --- the dashboard -----------------------------------------------------------------------------------------------------


def test_a_real_run_tells_the_dashboard_everything():
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(20, 8, 1, 16, attention=AttentionConfig(2), feed_forward=FeedForwardConfig(16)))
    batches = DocumentBatches([[1, 2, 3], [4, 5, 6, 7], [2, 2]], batch_size=2, end_id=0)
    config = TrainingConfig(steps=6, log_every=1, evaluate_every=3, sample_every=6)
    dashboard = TrainingDashboard(floor=0.5, start=math.log(20))
    trainer = Trainer(
        model,
        batches,
        config,
        evaluate=lambda model: {"held_out": 1.25},
        sample=lambda model: "Once <b>upon</b> a time",
        loggers=[dashboard],
    )
    records = trainer.train()
    assert dashboard.records == records
    assert dashboard.metrics() == {"held_out": [(3, 1.25), (6, 1.25)]}
    assert not dashboard.running
    said = repr(dashboard)
    assert "step 6 of 6" in said
    assert f"loss {records[-1].loss:.3f}" in said
    assert "Once <b>upon</b>" in said
    assert "<b>upon" not in dashboard.view.value
    assert "&lt;b&gt;upon" in dashboard.view.value
    assert "<svg" in dashboard.view.value
    assert not_blank(dashboard.to_png())


def test_it_is_a_picture_before_the_first_step_too():
    dashboard = TrainingDashboard()
    assert repr(dashboard) == "TrainingDashboard: no steps yet."
    assert dashboard.to_png().startswith(b"\x89PNG")


def test_a_run_that_goes_on_forgets_what_lies_after_its_step():
    dashboard = TrainingDashboard()
    dashboard.start(Run())
    for step in range(1, 11):
        dashboard.log(record(step, 1.0))
    later = Run()
    later.step_number = 4
    dashboard.start(later)
    assert [entry.step for entry in dashboard.records] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("losses", "alarm"), [([0.20] * 5 + [0.21] * 5, True), ([0.23] * 10, False), ([0.1] * 5, False)]
)
def test_a_loss_below_the_floor_is_an_alarm(losses, alarm):
    dashboard = TrainingDashboard(floor=0.22)
    dashboard.start(Run())
    for step, loss in enumerate(losses, start=1):
        dashboard.log(record(step, loss))
    dashboard.finish()
    assert dashboard.below_the_floor() is alarm
    assert ("below the floor" in dashboard.view.value) is alarm
    assert ("leaks" in repr(dashboard)) is alarm


def test_noise_around_the_floor_is_no_alarm():
    dashboard = TrainingDashboard(floor=0.22)
    generator = torch.Generator().manual_seed(0)
    dashboard.start(Run())
    for step in range(1, 11):
        dashboard.log(record(step, 0.215 + 0.02 * torch.randn((), generator=generator).item()))
    assert not dashboard.below_the_floor()


@pytest.mark.parametrize("loss", [math.nan, math.inf, 0.0, -1.0, 1e30])
def test_it_survives_every_number(loss):
    dashboard = TrainingDashboard(floor=0.2, start=6.0)
    dashboard.start(Run())
    for step in range(1, 4):
        dashboard.log(Record(step, loss, 0.0, loss, step, 0.0))
    dashboard.finish()
    lines = re.findall(r'points="([^"]*)"', dashboard.view.value)
    assert len(lines) == 3
    assert all(math.isfinite(float(number)) for line in lines for number in re.findall(r"[^ ,]+", line))
    assert dashboard.to_png().startswith(b"\x89PNG")


def test_thousands_of_records_make_a_short_drawing():
    dashboard = TrainingDashboard()
    dashboard.start(Run())
    for step in range(1, 20_001):
        dashboard.records.append(record(step, 1 + 1 / step))
    dashboard.finish()
    assert len(dashboard.view.value) < 60_000


def test_it_says_what_cannot_be_a_floor():
    with pytest.raises(ValueError, match="floor = 0"):
        TrainingDashboard(floor=0)
    with pytest.raises(ValueError, match="start = -1"):
        TrainingDashboard(start=-1)


# --- the designer ------------------------------------------------------------------------------------------------------


def test_its_curves_are_the_librarys():
    cosine = ScheduleDesigner("cosine", steps=200, warmup=0.1, final=0.2)
    wsd = ScheduleDesigner("wsd", steps=200, warmup=0.1, decay=0.3, final=0.2)
    for step in range(1, 201):
        assert cosine.factor(step) == warmup_cosine(step, warmup=20, total=200, final=0.2)
        assert wsd.factor(step) == warmup_stable_decay(step, warmup=20, stable=120, decay=60, final=0.2)


def test_doge_20m():
    designer = ScheduleDesigner("wsd", steps=8000, warmup=0.1, decay=0.1)
    assert "warm-up 800, level 6,400, decay 800" in repr(designer)
    assert designer.area() == pytest.approx(7200, abs=1)


def test_areas():
    assert ScheduleDesigner("cosine", steps=4, warmup=0).area() == pytest.approx(1.5)  # steps 1 to 4, the last at 0
    assert ScheduleDesigner("constant", steps=1000, warmup=0).area() == 1000
    assert ScheduleDesigner("cosine", steps=1000, warmup=0).area() == pytest.approx(500, abs=1)
    assert ScheduleDesigner("cosine", steps=1000, warmup=0, final=0.5).area() == pytest.approx(750, abs=1)
    plateau = ScheduleDesigner("plateau", steps=1000, warmup=0, final=0.0)
    assert plateau.area() == pytest.approx(500 + 25 + 2.5, abs=2)


def test_a_decay_that_does_not_fit_takes_what_is_left():
    designer = ScheduleDesigner("wsd", steps=100, warmup=0.5, decay=1.0)
    assert designer.decay_steps == 50
    assert designer.factor(100) == 0
    assert designer.to_png().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "constant"}, "noise"),
        ({"kind": "cosine", "final": 0.5}, "noise"),
        ({"kind": "cosine", "warmup": 0.0}, "No warm-up"),
        ({"kind": "wsd"}, "go on"),
        ({"kind": "cosine"}, "must be known"),
        ({"kind": "plateau"}, "example"),
    ],
)
def test_the_advice_names_what_matters(settings, words):
    designer = ScheduleDesigner(**settings)
    assert words in designer.advice()
    assert words in designer.view.value
    assert words in designer.summary()


def test_every_control_changes_the_view_the_picture_and_the_words():
    for control, value in [("kind", "cosine"), ("warmup", 0.3), ("decay", 0.5), ("final", 0.4)]:
        designer = ScheduleDesigner("wsd")
        before = designer.view.value, designer.to_png(), designer.summary()
        getattr(designer, control).value = value
        after = designer.view.value, designer.to_png(), designer.summary()
        assert all(a != b for a, b in zip(after, before, strict=True)), control
        assert getattr(designer, control).description


@pytest.mark.parametrize("kind", sorted(KINDS.values()))
def test_the_picture_is_stable_and_has_the_words_as_alt_text(kind):
    data, metadata = ScheduleDesigner(kind)._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == data["text/plain"] == ScheduleDesigner(kind).summary()
    assert data["image/png"] == ScheduleDesigner(kind)._repr_mimebundle_()[0]["image/png"]
    assert not_blank(base64.b64decode(data["image/png"]))


def test_it_says_what_it_does_not_know():
    with pytest.raises(ValueError, match="no 'linear'"):
        ScheduleDesigner("linear")
    with pytest.raises(ValueError, match="steps = 1"):
        ScheduleDesigner(steps=1)
    with pytest.raises(ValueError, match=r"warmup = 0\.7"):
        ScheduleDesigner(warmup=0.7)
