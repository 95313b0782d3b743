"""Recorded bands: the interval, the verdict, and the recorded runs themselves."""

import math
import random

import pytest

from minilm.course import bands, recorded_band
from minilm.course.bands import Band, smoothed_at, student_quantile

NAMES = sorted(file.stem for file in bands.FOLDER.glob("*.json"))


@pytest.mark.parametrize(
    ("tail", "degrees", "expected"),  # from published tables
    [
        (0.025, 1, 12.706),
        (0.025, 7, 2.365),
        (0.005, 4, 4.604),
        (0.005, 10, 3.169),
        (0.0005, 7, 5.408),
        (0.05, 30, 1.697),
    ],
)
def test_the_quantiles_of_student_are_those_of_the_tables(tail, degrees, expected):
    assert student_quantile(tail, degrees) == pytest.approx(expected, abs=6e-4)


def drawn(rng: random.Random, n: int = 8) -> Band:
    """A band of normal runs whose points are independent."""
    runs = tuple(tuple(rng.gauss(2, 0.1) for _ in range(3)) for _ in range(n))
    return Band("drawn", "nats", 30, 1, (10, 20, 30), (10, 20, 30), runs)


def test_fresh_runs_raise_a_false_alarm_in_about_two_of_a_hundred():
    rng, alarms, trials = random.Random(0), 0, 3000
    for _ in range(trials):
        band = drawn(rng)
        curve = [rng.gauss(2, 0.1) for _ in range(30)]
        alarms += not all(point.inside for point in band.compare(curve))
    share, sigma = alarms / trials, math.sqrt(0.02 * 0.98 / trials)
    assert share < 0.02 + 3 * sigma  # the bound holds ...
    assert share > 0.01  # ... and is not empty caution


def test_a_band_is_as_many_times_below_its_middle_as_above_it_and_never_below_the_floor():
    runs = tuple((0.1 * 1.5**i, 1 + 0.01 * i) for i in range(-4, 5))
    low, high = Band("wide", "nats", 20, 1, (10, 20), (10, 20), runs).interval(10)
    assert low * high == pytest.approx(0.1**2)
    floored = Band("floor", "nats", 20, 1, (10, 20), (10, 20), runs, floor=0.015)
    assert low < 0.015 == floored.interval(10)[0]
    assert floored.interval(10)[1] == high
    assert "Too good is suspicious" in floored.verdict([0.01] * 20)


def test_leaving_one_out_finds_the_run_that_does_not_belong():
    good = tuple((2.0 + 0.01 * i, 1.0 - 0.01 * i) for i in range(7))
    band = Band("odd", "nats", 20, 1, (10, 20), (10, 20), (*good, (9.0, 9.0)))
    assert band.leave_one_out() == 1
    assert Band("even", "nats", 20, 1, (10, 20), (10, 20), good).leave_one_out() == 0


def test_a_curve_is_smoothed_by_the_steps_before_it():
    assert smoothed_at([1.0, 2.0, 3.0, 4.0], (1, 2, 4), smooth=2) == [1.0, 1.5, 3.5]


def test_the_verdict_says_inside_too_high_too_low_and_refuses_another_length():
    band = drawn(random.Random(1))
    assert "Your numbers are right" in band.verdict([2.0] * 30)
    assert "Higher than other seeds" in band.verdict([4.0] * 30)
    assert "Too good is suspicious" in band.verdict([0.5] * 30)
    assert "OUTSIDE" in band.verdict([math.nan] * 30)
    with pytest.raises(ValueError, match="your curve has 12 steps and the recorded ones 30"):
        band.verdict([2.0] * 12)


def test_a_band_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=f"no recorded band '{NAMES[0]}x': did you mean '{NAMES[0]}'"):
        recorded_band(f"{NAMES[0]}x")


@pytest.mark.parametrize("name", NAMES)
def test_recorded_runs_are_whole_and_rarely_outside_each_other(name):
    band = recorded_band(name)
    assert len(band.runs) >= 5
    assert set(band.points) <= set(band.grid)
    assert 2 <= len(band.points) <= 3
    assert band.points[-1] <= band.steps
    assert all(len(run) == len(band.grid) and all(map(math.isfinite, run)) for run in band.runs)
    assert band.leave_one_out() <= 1
    if band.floor is not None:
        assert min(run[-1] for run in band.runs) > band.floor
    assert band.figure([band.runs[0][0]] * band.steps).axes


def test_a_run_of_the_band_is_inside_and_the_picture_says_so(capsys):
    band = drawn(random.Random(2))
    band.show([2.0] * 30)
    said = capsys.readouterr().out
    assert "runs inside the band of 8 recorded runs" in said
    assert "step    10: 2.000, inside the band" in said
