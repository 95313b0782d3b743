"""Records the bands behind `minilm.course.recorded_band`: each lesson's training cell over sixteen seeds.

python -m experiments.bands                     every band (about half an hour with one thread)
python -m experiments.bands 03-one-head         some of them
python -m experiments.bands --list
"""

import json
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from experiments import definitions
from minilm.course.bands import FOLDER, recorded_band, smoothed_at

Losses = Sequence[float]


@dataclass(frozen=True)
class Recipe:
    """How one run of a band is made, and what is kept of it."""

    lesson: str
    run: Callable[[dict[str, Any], int], Losses]  # the lesson's names and a seed -> the loss of every step
    unit: str
    points: tuple[int, ...]
    smooth: int
    floor: Callable[[dict[str, Any]], float] | None = None
    seeds: int = 16


def welcome(names: dict[str, Any], seed: int) -> Losses:
    """Lesson 00's network."""
    return list(names["fit"](names["new_network"](seed), names["windows"](names["train"]), seed=seed))


def two_numbers(names: dict[str, Any], seed: int) -> Losses:
    """Lesson 00a's two layers, whole text at every step."""
    return names["through_two_numbers"](seed)[1]  # type: ignore[no-any-return]


def table(names: dict[str, Any], seed: int) -> Losses:
    """Lesson 02's table that guesses from one token."""
    return names["fit"](names["Table"], seed=seed).losses  # type: ignore[no-any-return]


def one_head(names: dict[str, Any], seed: int) -> Losses:
    """Lesson 03's one causal head."""
    names["torch"].manual_seed(seed)
    return names["fit"](names["one_model"](names["OneHead"](64)), names["world"].train, seed=seed)  # type: ignore[no-any-return]


def pre_norm(names: dict[str, Any], seed: int) -> Losses:
    """Lesson 04's 24 blocks with pre-norm and GPT-2's start."""
    return names["train"]("GPT-2's", seed=seed)[0]  # type: ignore[no-any-return]


def easy_stories(names: dict[str, Any], seed: int) -> Losses:
    """Lesson 05's small model."""
    names["torch"].manual_seed(seed)
    student = names["LanguageModel"](names["config"])
    return list(names["fit"](student, names["train_rows"], steps=450, seed=seed))


def trained_stories(names: dict[str, Any], seed: int) -> Losses:
    """Lesson 06's run through the library's trainer."""
    return [record.loss for record in names["story_run"](seed).train()]


def generating_stories(names: dict[str, Any], seed: int) -> Losses:
    """The model that writes in lesson 07."""
    return names["train_model"](seed)[1]  # type: ignore[no-any-return]


def evaluated_stories(names: dict[str, Any], seed: int) -> Losses:
    """The model that lesson 08 measures."""
    names["torch"].manual_seed(seed)
    return list(names["learn"](names["LanguageModel"](names["config"]), names["train_texts"], seed=seed))


def balanced_facts(names: dict[str, Any], seed: int) -> Losses:
    """Lesson 09's mixture with Switch's balance loss."""
    return names["try_way"]("Switch loss", seed)[1]  # type: ignore[no-any-return]


def plateau_of_doge(names: dict[str, Any], seed: int) -> Losses:
    """Lesson 10's tiny Doge, up, level and down."""
    return [record.loss for record in names["run"](names["trunk"], seed).train()]


def loops(names: dict[str, Any], seed: int) -> Losses:
    """Lesson 13's plain twin, whose weights then learn to think in loops: the loops' loss. Seeds from 1 on: the lesson's is 0."""
    twin, _ = names["train_plain"](seed + 1)
    return names["train_loops"](names["in_loops"](twin), seed + 1)  # type: ignore[no-any-return]


def unpaid_answers(names: dict[str, Any], seed: int) -> Losses:
    """Lesson 12's run: the share of each step's answers that the verifier did not pay."""
    run = names["trainer"](names["copy"].deepcopy(names["pupil"]), seed=seed)
    return [1 - record.reward for record in run.train()]


def first_answers(names: dict[str, Any], seed: int) -> Losses:
    """Lesson 11's base model learning to answer."""
    return list(names["sft"](names["examples"], 120, seed=seed)[1])


def floor_of_doge(names: dict[str, Any]) -> float:
    """Lesson 10's floor in nats a token, on its first thousand training stories."""
    tokens = sum(len(document) + 1 for document in names["documents"][:1000])
    return sum(map(names["stories"].grammar("easy").bits, names["texts"][:1000])) * math.log(2) / tokens  # type: ignore[no-any-return]


def floor_of_evaluated(names: dict[str, Any]) -> float:
    """Lesson 08's floor in nats a token, on its first thousand training stories."""
    texts = names["train_texts"][:1000]
    tokens = sum(len(names["tokenizer"].encode(text)) + 1 for text in texts)
    return sum(names["grammar"].bits(text) for text in texts) * math.log(2) / tokens  # type: ignore[no-any-return]


def floor_of_rows(names: dict[str, Any]) -> float:
    """Lesson 07's floor in nats a token, on its first thousand training stories."""
    tokens = int((names["rows"][:1000] >= 0).sum()) - 1000  # the first <end> of each is given
    return sum(map(names["grammar"].bits, names["train"][:1000])) * math.log(2) / tokens  # type: ignore[no-any-return]


def floor_of_stories(names: dict[str, Any]) -> float:
    """Lesson 05's floor in nats a token of its training rows."""
    tokens = int((names["train_rows"] >= 0).sum()) / len(names["train_rows"]) - 1  # the first is given
    return float(names["floor"]) * math.log(2) / tokens


BANDS = {
    "00-network": Recipe(
        "00_welcome", welcome, "bits a character", (500, 1000, 2000), 100, lambda names: float(names["floor"])
    ),
    "00a-two-numbers": Recipe("00a_gradients", two_numbers, "nats a character", (101, 801), smooth=1, seeds=24),
    "02-table": Recipe("02_embeddings", table, "nats a token", (100, 200, 350), smooth=30),
    "03-one-head": Recipe(
        "03_attention", one_head, "nats a word", (150, 600), 50, lambda names: float(names["world"].floor)
    ),
    "04-pre-norm": Recipe("04_block", pre_norm, "nats a character", (50, 100), smooth=10),
    "05-stories": Recipe("05_model", easy_stories, "nats a token", (100, 200, 450), 40, floor_of_stories),
    "06-stories": Recipe(
        "06_training", trained_stories, "nats a token", (100, 250, 500), 40, lambda names: float(names["floor"])
    ),
    # A few runs are slow in the last third, far from the others: the end is drawn and not judged.
    "07-stories": Recipe("07_generation", generating_stories, "nats a token", (102, 221), 30, floor_of_rows, seeds=24),
    "08-stories": Recipe(
        "08_evaluation", evaluated_stories, "nats a token", (150, 400, 625), 40, floor_of_evaluated, seeds=8
    ),
    "09-facts": Recipe("09_moe", balanced_facts, "nats a fact", (100, 200, 400), 20),
    "10-doge": Recipe("10_dynamic_mask", plateau_of_doge, "nats a token", (100, 250, 360), 40, floor_of_doge),
    "11-sft": Recipe("11_finetuning", first_answers, "nats a learned token", (40, 80, 120), 20),
    "12-grpo": Recipe("12_grpo", unpaid_answers, "share of answers unpaid", (20, 40, 60), 10),
    "13-loops": Recipe("13_recursion", loops, "nats a cell", (50, 125, 250), 25, seeds=15),
}


def steps_to_draw(steps: int, points: Sequence[int], smooth: int, most: int = 32) -> list[int]:
    """About `most` steps from the first full window on, closer at the beginning, with the points among them."""
    first = max(smooth, 1)
    spaced = {round(first * (steps / first) ** (i / most)) for i in range(most + 1)}
    return sorted(spaced | set(points) | {steps})


def record(name: str) -> None:
    """Run a recipe over its seeds and write what `recorded_band` reads."""
    recipe = BANDS[name]
    names = definitions(recipe.lesson)
    floor = recipe.floor(names) if recipe.floor else -math.inf
    runs: list[list[float]] = []
    grid: list[int] = []
    for seed in range(recipe.seeds):
        losses = list(recipe.run(names, seed))
        grid = steps_to_draw(len(losses), recipe.points, recipe.smooth)
        runs.append([round(value, 4) for value in smoothed_at(losses, grid, recipe.smooth)])
        if not all(math.isfinite(value) and value > floor for value in runs[-1]):
            raise ValueError(f"{name}: seed {seed} did not stay finite and above the floor")
        print(f"{name}, seed {seed}: {runs[-1][-1]:.3f}", flush=True)
    FOLDER.mkdir(exist_ok=True)
    said = {
        "command": f"python -m experiments.bands {name}",
        "unit": recipe.unit,
        "steps": len(losses),
        "smooth": recipe.smooth,
        "points": recipe.points,
        "floor": round(floor, 4) if recipe.floor else None,
        "grid": grid,
        "runs": runs,
    }
    # One line a run: a change of one seed is a change of one line.
    rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in said.items() if key != "runs")
    lines = ",\n".join(f"    {json.dumps(run)}" for run in runs)
    (FOLDER / f"{name}.json").write_text(f'{{\n{rows},\n  "runs": [\n{lines}\n  ]\n}}\n', encoding="utf-8")
    band = recorded_band(name)
    for step in band.points:
        low, high = band.interval(step)
        print(f"{name}, step {step}: {statistics.fmean((low, high)):.3f}, band {low:.3f} to {high:.3f}")
    print(f"{name}: {band.leave_one_out()} of {len(band.runs)} runs outside the band of the others", flush=True)


def main() -> None:
    """Record the bands that are named, or all of them."""
    asked = sys.argv[1:]
    if asked == ["--list"]:
        print("\n".join(BANDS))
        return
    if unknown := [name for name in asked if name not in BANDS]:
        sys.exit(f"no band {unknown[0]!r}: there are {', '.join(BANDS)}")
    for name in asked or BANDS:
        record(name)


if __name__ == "__main__":
    main()
