"""The ledger of lesson 13: what is recorded is whole and says what the lesson says, and its runs still run."""

import statistics

import numpy as np
import pytest
import torch

from experiments import definitions, recursion_ledger
from experiments.recursion_ledger import LOOKS, SEEDS, SETTINGS, in_loops, look, setting
from minilm.data.puzzles import puzzle_family
from minilm.recorded import recorded_experiment
from minilm.recursion import RecursiveModel, small
from minilm.recursion.presets import count_parameters, hrm, trm, trm_mlp

RUNS = recorded_experiment(recursion_ledger.NAME)["runs"]


def runs_of(name: str) -> list:
    return [run for run in RUNS if run["name"] == name]


def test_every_run_is_recorded_once():
    wanted = [(kind, name, seed) for kind, seed, name in recursion_ledger.every()]
    assert sorted((run["kind"], run["name"], run["seed"]) for run in RUNS) == sorted(wanted)
    for run in RUNS:
        shares = run["exact"] if run["kind"] == "settings" else list(run["cells_by_round"].values())
        assert all(0 <= share <= 1 for share in shares)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plain_network_learns_the_first_round_and_longer_training_the_second(seed):
    quick, longer = (runs_of(f"2 blocks, {steps} updates")[seed]["cells_by_round"] for steps in ("300", "1,000"))
    assert quick["1"] > 0.97
    assert quick["2"] < 0.7
    assert longer["2"] > quick["2"] + 0.15
    assert longer["3"] < 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_later_segments_repair_where_they_were_practised_and_spoil_where_they_were_not(seed):
    trm_run, alone = runs_of("TRM")[seed], runs_of("one segment")[seed]
    assert trm_run["exact"][-1] > trm_run["exact"][0] + 0.1
    assert alone["exact"][-1] < alone["exact"][0] - 0.3
    assert runs_of("one-step gradient")[seed]["exact"][-1] < trm_run["exact"][-1]


def test_published_figures_stand_beside_published_sizes():
    runs = {run["name"]: run for run in recorded_experiment("recursion_published")["runs"]}
    sizes = {"HRM": hrm(), "TRM, attention": trm(), "TRM, MLP mixer": trm_mlp()}
    assert {name: run["parameters"] for name, run in runs.items()} == {n: count_parameters(c) for n, c in sizes.items()}
    assert all(run["source"] and run["compute"] for run in runs.values())


def test_two_networks_begin_with_the_twins_weights_in_both():
    family = puzzle_family("sudoku-4")
    twin = RecursiveModel(small("plain", family))
    model = in_loops(twin, small("trm", family, shared=False))
    own = twin.weights()
    for name, value in model.weights().items():
        if "network" in name:
            assert torch.equal(value, own[name.replace("high_network", "low_network")]), name
    assert not model.high_start.any()


@pytest.mark.slow
def test_the_ledger_runs_on_the_lessons_own_cells():
    names = definitions("13_recursion")
    names["QUICK"], names["LIVE"] = (names[each].replace(steps=2) for each in ("QUICK", "LIVE"))
    names["exam"] = names["exam"][np.arange(8)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LOOKS, "2 blocks, 300 updates", (2, 2))
        patch.setattr(recursion_ledger, "RIVALS", dict.fromkeys(recursion_ledger.RIVALS, (2, 1e-3)))
        found = [setting(names, name, 0) for name in SETTINGS]
        seen = look(names, "2 blocks, 300 updates", 0)
    assert [row["name"] for row in found] == list(SETTINGS)
    assert statistics.median(row["parameters"] for row in found) == found[0]["parameters"]
    assert set(seen["cells_by_round"]) == {"1", "2", "3"}
