"""The ledger of lesson 11: what is recorded is whole, and the lesson still has what the ledger runs."""

import pytest

from experiments import definitions, finetuning
from minilm.data.preferences import REWARDS
from minilm.finetuning import reward_frontier
from minilm.recorded import recorded_experiment


@pytest.fixture(scope="module")
def record():
    return recorded_experiment("finetuning")


def test_every_way_is_recorded_and_no_run_twice(record):
    assert record["command"] == "python -m experiments.finetuning"
    found = {(run["part"], run["way"], run["seed"]) for run in record["runs"]}
    assert len(found) == len(record["runs"])
    for part, ways in (("sft", finetuning.WAYS), ("preferences", finetuning.LOSSES)):
        for way in ways:
            seeds = {seed for each, name, seed in found if (each, name) == (part, way)}
            assert 0 in seeds
            assert seeds <= ({0} if way in finetuning.ONCE else set(finetuning.SEEDS)), way


def test_the_rewards_are_those_of_the_texts(record):
    assert len(record["rewards"]) == finetuning.TEXTS
    assert [round(REWARDS["easy"](text), 4) for text in record["texts"]] == record["rewards"][: finetuning.SHOWN]
    assert len(record["texts"]) == finetuning.SHOWN


def test_no_policy_is_above_the_frontier_by_more_than_chance(record):
    points = reward_frontier(record["rewards"], (4, 2, 1, 0.5, 0.25), resamples=50)
    assert all(point.reliable for point in points)
    for run in record["runs"]:
        if run["part"] == "preferences" and run["best reward"] is not None:
            assert run["reward"] < run["best reward"] + 3 * run["reward error"], run


@pytest.mark.slow
def test_the_lesson_gives_the_ledger_what_it_needs():
    names = definitions("11_finetuning")
    needed = {"sft", "prefer", "judged", "stand", "part_way", "encoded", "bits_as_answer", "off_grammar", "examples"}
    assert needed | {"plain", "ask", "reward", "chat", "base", "forgetting", "follow_report"} <= set(names)
    names["plain"] = names["plain"][:4]
    model, losses = names["sft"](finetuning.data(names, 0)[:320], 10)
    assert losses[-1] < 0.7 * losses[0]
    found = names["judged"](names["chat"], 1.0)
    assert found["labels"] == found["true order"] == 0.5
    assert names["follow_report"](model, names["tokenizer"], names["exam"][:3], max_new_tokens=5).tasks
