"""What benchmarks share adds up; their page is the stored results and nothing else. No seconds are measured here."""

from pathlib import Path

import pytest
import torch

from benchmarks import _report, _targets
from benchmarks._readme import readme
from benchmarks._report import Plain, Table
from benchmarks.growth import most_held, slope


def test_the_page_is_what_the_stored_results_say():
    page = Path(_report.__file__).parent / "README.md"
    assert page.read_text(encoding="utf-8") == readme(), "write it anew: python -m benchmarks._readme"


def test_ratios_are_taken_within_rounds():
    rounds = {"first": [100.0, 10.0, 50.0], "second": [200.0, 20.0, 90.0]}  # the machine was slow in the second round
    assert Table("t", "tokens/s", rounds).ratio("second", "first") == 2
    assert Table("t", "s", rounds, higher_is_better=False).ratio("second", "first") == 0.5
    assert Table("t", "tokens/s", rounds).markdown().splitlines()[3] == "| second | 90 | 20 | 200 | 2.00 |"


def test_a_job_does_about_the_asked_seconds_in_each_round(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(_report, "now", lambda _: clock[0])

    def job(seconds):
        def work():
            clock[0] += seconds
            return 10.0

        return work

    found = _report.interleave({"slow": job(0.5), "fast": job(0.01)}, rounds=3, seconds=1.0)
    assert {name: [round(x, 6) for x in speeds] for name, speeds in found.items()} == {
        "slow": [20] * 3,
        "fast": [1000] * 3,
    }
    assert clock[0] == pytest.approx(2 * (0.5 + 0.01) + 3 * 2 * 1.0)


def test_targets_are_judged_by_the_best_of_ours_and_the_best_peer(monkeypatch):
    table = Table("slim: 4", "tokens/s", {"ours": [10.0], "ours, fast": [30.0], "weak": [5.0], "strong": [20.0]})
    monkeypatch.setattr(_targets, "load", lambda name: ("", {}, [Plain("slim", [], []), table]))
    target = _targets.Target(
        "speed", "any", "slim", ("ours", "ours, fast", "not there"), ("weak", "strong"), 1.4, "why"
    )
    assert _targets.judged(target) == ["speed", "1.40x", "1.50x (ours, fast : strong)", "met", ""]
    missed = _targets.Target("speed", "any", "slim", ("ours",), ("strong",), 1.0, "why")
    assert _targets.judged(missed) == ["speed", "1.00x", "0.50x (ours : strong)", "missed", "why"]
    assert _targets.judged(_targets.Target("speed", "any", "other", ("ours",), ("weak",), 1.0, "")) is None


def test_exponents_and_memory_are_counted():
    assert slope([1, 2, 4], [3.0, 12.0, 48.0]) == pytest.approx(2)

    def job():
        kept = torch.zeros(1000)  # 4,000 bytes
        for _ in range(3):
            torch.zeros(500)  # given back each time
        return kept

    assert most_held(job) == 4000 + 2000
