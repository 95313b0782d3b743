"""The recorded experiments of lesson 09: what they count is right, what is recorded is whole, and they still run."""

import math
import statistics

import pytest
import torch

from experiments import moe_balance, moe_capacity, moe_specialization
from experiments.moe_shared import EXPERTS, Shape, count_choices, finished, held_out_batches
from minilm.config import MoEConfig
from minilm.data import stories
from minilm.data.facts import Facts
from minilm.model import LanguageModel
from minilm.recorded import recorded_experiment
from minilm.tokenizer import BPETokenizer
from minilm.training import DocumentBatches, OptimizerConfig

SHAPE = Shape(dim=16, layers=2, heads=2, hidden=8, context=32)


def mean(runs: list, figure: str, **where: object) -> float:
    return statistics.mean(run[figure] for run in runs if all(run[key] == value for key, value in where.items()))


# -------------------------------------------------------------------------------------------------------- how they count


def test_the_three_sizes_compared_are_what_they_are_called() -> None:
    torch.manual_seed(0)
    configs = SHAPE.three(50, MoEConfig(num_experts=8, top_k=2))
    models = {name: LanguageModel(config) for name, config in configs.items()}
    router = 2 * 8 * 16
    sizes = {name: model.num_parameters() for name, model in models.items()}
    assert sizes["mixture"] == sizes["dense, total size"] + router
    assert models["mixture"].num_parameters(active=True) == sizes["dense, active size"] + router
    assert models["dense, total size"].num_parameters(active=True) == sizes["dense, total size"]


def test_choices_are_counted_without_padding_and_in_eval_mode() -> None:
    torch.manual_seed(0)
    model = LanguageModel(SHAPE.config(50, MoEConfig(num_experts=4, top_k=2, noise=5.0)))
    model.train()
    documents = [[3, 4, 5], [6, 7, 8, 9, 10, 11], [12]]
    together = count_choices(model, held_out_batches(documents, 0, size=3))
    apart = count_choices(model, held_out_batches(documents, 0, size=1))
    assert torch.equal(together, apart)
    assert together.sum(dim=-1).tolist() == [2 * (3 + 6 + 1 + 3)] * 2  # the end token before each document is read too
    assert model.training


def test_the_kinds_of_words_in_a_story() -> None:
    story = next(each for each in stories.sample("easy", seed=0) if each.facts["plot"] == "share")
    tokenizer = BPETokenizer.train([story.text], vocab_size=330, special_tokens=["<end>"])
    pieces = [tokenizer.token_bytes(token) for token in tokenizer.encode(story.text)]
    kinds = moe_specialization.kinds_of_tokens(story, pieces)
    found: dict[str, set[str]] = {}
    for piece, kind in zip(pieces, kinds, strict=True):
        found.setdefault(kind, set()).add(piece.decode().strip())
    people = {story.facts["hero"], story.facts["friend"]}
    assert {name for name in found["name"] if len(name) > 2} <= people
    assert found["punctuation"] <= set('.,"?!') | {'."', ',"', '?"'}
    joined = {kind: "".join(p.decode() for p, k in zip(pieces, kinds, strict=True) if k == kind) for kind in found}
    for name in people:
        assert str(name) in joined["name"]
    assert str(story.facts["food"]) in joined["drawn word"]
    assert "hungry" in joined["other word"]
    assert "number" in found


def test_the_kinds_of_words_in_french_where_a_character_has_several_bytes() -> None:
    for story in (each for _, each in zip(range(40), stories.sample("french"), strict=False)):
        pieces = [character.encode() for character in story.text]
        kinds = moe_specialization.kinds_of_tokens(story, pieces)
        names = "".join(c for c, kind in zip(story.text, kinds, strict=True) if kind == "name")
        assert str(story.facts["heros"]) in names
        assert all(kind == "punctuation" for c, kind in zip(story.text, kinds, strict=True) if c in ".,«»?!:")


def test_tokens_of_another_story_are_refused() -> None:
    with pytest.raises(ValueError, match="2 bytes and the story has"):
        moe_specialization.kinds_of_tokens(next(stories.sample("easy")), [b"It"])


def test_a_fast_router_learns_at_its_own_rate() -> None:
    torch.manual_seed(0)
    model = LanguageModel(SHAPE.config(50, MoEConfig(num_experts=4, top_k=1)))
    optimizer = moe_balance.TwoRates(model, 10, OptimizerConfig())
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    ids = torch.arange(40).view(2, 20)
    torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()
    optimizer.lr = 1e-4
    optimizer.step()
    moved = {name: float((value.detach() - before[name]).abs().max()) for name, value in model.named_parameters()}
    for name, distance in moved.items():  # Adam's first step is as long as the rate
        assert distance == pytest.approx(1e-3 if "gate.weight" in name else 1e-4, rel=0.1), name


def test_a_run_that_was_stopped_is_not_recorded() -> None:
    batches = DocumentBatches([[1, 2, 3]], 1, 0)
    trainer = moe_balance.make_trainer(SHAPE, 50, "none", 1, batches, 3, 1e-2, 0)
    trainer.stopped = "SIGTERM"
    with pytest.raises(SystemExit, match="not recorded"):
        finished(trainer)


# ------------------------------------------------------------------------------------------------------ what is recorded


def test_capacity_is_whole_and_says_what_the_lesson_says() -> None:
    record = recorded_experiment("moe_capacity")
    runs, bits = record["runs"], record["settings"]["facts"]["bits"]
    wanted = {
        (task, model, seed)
        for task, seeds in moe_capacity.SEEDS.items()
        for model in ("dense, active size", "mixture", "dense, total size")
        for seed in seeds
    }
    assert sorted((run["task"], run["model"], run["seed"]) for run in runs) == sorted(wanted)
    for run in (each for each in runs if each["task"] == "facts"):
        assert 0 < run["stored_bits"] < bits
        assert run["stored_bits"] == pytest.approx(moe_capacity.FACTS.stored_bits(run["nats_a_value"]), abs=10)
        assert run["bits_a_parameter"] == pytest.approx(run["stored_bits"] / run["parameters"], abs=1e-3)
    stored = {name: mean(runs, "stored_bits", task="facts", model=name) for _, name, _ in wanted}
    assert 1.4 * stored["dense, active size"] < stored["mixture"] < 0.9 * stored["dense, total size"]


def test_balance_is_whole() -> None:
    record = recorded_experiment("moe_balance")
    wanted = [(task, factor, seed, method) for task, factor, seed in moe_balance.RUNS for method in moe_balance.METHODS]
    assert sorted((r["task"], r["router_rate"], r["seed"], r["method"]) for r in record["runs"]) == sorted(wanted)
    for run in record["runs"]:
        assert len(set(map(len, run["curve"].values()))) == 1
        assert run["curve"]["step"][-1] == {"stories": 240, "facts": 1200}[run["task"]]
        assert all(0 <= cv <= math.sqrt(EXPERTS - 1) for cv in (*run["cv"], *run["curve"]["cv"]))


def test_specialization_is_whole() -> None:
    record = recorded_experiment("moe_specialization")
    wanted = [(seed, balance) for seed in moe_specialization.SEEDS for balance in moe_specialization.BALANCE.values()]
    assert sorted((run["seed"], run["balance"]) for run in record["runs"]) == sorted(wanted)
    for run in record["runs"]:
        for layer in run["layers"]:
            for known in layer["information"].values():
                assert 0 <= known["bits"] <= layer["entropy"]
                assert known["chance"] <= known["high"]


@pytest.mark.parametrize("experiment", [moe_balance, moe_capacity, moe_specialization])
def test_tables_are_made_from_the_record(experiment) -> None:
    assert len(experiment.table().splitlines()) > 5


# ------------------------------------------------------------------------------------------------------- they still run


@pytest.mark.slow
def test_capacity_runs_small() -> None:
    facts = Facts(people=32, attributes=2, values=4)
    shape = Shape(dim=16, layers=1, heads=2, hidden=8, context=facts.length - 1)
    for config in shape.three(facts.vocab_size, moe_capacity.MOE).values():
        found = moe_capacity.learn_facts(config, 0, facts, epochs=150)
        assert 0.5 * facts.bits < found["stored_bits"] <= facts.bits  # few facts: everybody has room
    control = moe_capacity.STORY_SHAPE.config(moe_capacity.VOCABULARY, moe_capacity.MOE)
    assert moe_capacity.learn_stories(control, 0, number=400, held_out=10)["excess_nats"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("method", list(moe_balance.METHODS))
def test_balance_runs_small(method) -> None:
    found = moe_balance.on_facts(method, 1, 0, Facts(people=64, attributes=4, values=8), readings=40)
    assert found["stored_bits"] > 0
    assert len(found["cv"]) == 2
    assert moe_balance.on_stories(method, 100, 0, number=160, held_out=10)["curve"]["step"] == [10]


@pytest.mark.slow
def test_specialization_runs_small(tmp_path) -> None:
    found = moe_specialization.run(tmp_path / "run", 0, True, steps=30, tested=30)
    assert len(found["layers"]) == 3
    language = found["layers"][0]["information"]["language"]
    assert language["bits"] > language["high"]  # the first layer sees the word, and words are of one language
