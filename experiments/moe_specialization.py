"""What experts specialise in: mixtures trained on stories in two languages, and what the choice of experts tells of the language,
the plot, the kind of word and the word itself.

python -m experiments.moe_specialization [FOLDER]   record all runs that are missing in minilm/recorded/moe_specialization.json
python -m experiments.moe_specialization table      what is recorded

The models are zoo:moe-bilingual from several seeds, and its twin without balancing; they stay in the folder (build/moe-bilingual).
"""

import contextlib
import io
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.moe_shared import count_choices, finished, held_out_batches, keep, mixtures
from minilm import zoo
from minilm.cli import run_file, runs
from minilm.data import stories
from minilm.evaluation import story_report
from minilm.model import LanguageModel
from minilm.moe import coefficient_of_variation
from minilm.moe.specialization import expert_entropy, label_information
from minilm.recorded import recorded_experiment
from minilm.tokenizer import BPETokenizer

NAME, COMMAND, MODEL = "moe_specialization", "python -m experiments.moe_specialization", "moe-bilingual"
SIZE, TESTED = "easy+french", 300
SEEDS = (0, 1, 2)
BALANCE = {True: "Switch loss", False: "none"}
KINDS = ("name", "pronoun", "number", "drawn word", "other word", "punctuation")
"""Drawn words are those that the grammar chose from a list (things, places, animals, colours), other words its fixed text."""


# --------------------------------------------------------------------------------------------------------------- the labels


def kinds_of_tokens(story: stories.Story, pieces: Sequence[bytes]) -> list[str]:
    """The kind of each token of a story: that of its first byte that is no space."""
    data = story.text.encode()
    kind_at = ["other word" if chr(byte).isalnum() or byte >= 128 else "punctuation" for byte in data]
    for place, character in enumerate(story.text):
        if not (character.isalnum() or character in "'’-" or character.isspace()):
            start = len(story.text[:place].encode())
            kind_at[start : start + len(character.encode())] = ["punctuation"] * len(character.encode())
    for mention in story.mentions:
        printed = story.text[mention.start : mention.end]
        if len(printed) < 2:
            continue  # an ending that agrees with a word, as the e of a feminine adjective
        fact = story.facts.get(mention.name, 0)  # a sum of numbers is mentioned, and is no fact of its own
        if isinstance(fact, int):
            kind = "number"
        elif fact[:1].isupper():  # a person
            kind = "pronoun" if mention.form else "name"
        else:
            kind = "drawn word"
        start = len(story.text[: mention.start].encode())
        kind_at[start : start + len(printed.encode())] = [kind] * len(printed.encode())
    kinds, place = [], 0
    for piece in pieces:
        ahead = len(piece) - len(piece.lstrip())
        kinds.append(kind_at[place + ahead] if ahead < len(piece) else "punctuation")
        place += len(piece)
    if place != len(data):
        raise ValueError(f"the tokens stand for {place} bytes and the story has {len(data)}")
    return kinds


@dataclass(frozen=True)
class Choices:
    """Which experts the tokens of some stories passed through, and what is known of each token."""

    experts: list[Tensor]  # a layer each: tokens k
    story: Tensor
    language: Tensor
    plot: Tensor
    kind: Tensor
    token: Tensor
    languages: list[str]
    plots: list[str]


@torch.no_grad()
def watch(model: LanguageModel, tokenizer: BPETokenizer, told: Sequence[stories.Story]) -> Choices:
    """Send stories through a model, one by one, and write down the experts of each token (the end token before a story left out)."""
    end, layers = tokenizer.special_tokens["<end>"], mixtures(model.eval())
    experts: list[list[Tensor]] = [[] for _ in layers]
    columns: dict[str, list[int]] = {"story": [], "language": [], "plot": [], "kind": [], "token": []}
    languages = sorted({str(each.facts["grammar"]) for each in told})
    plots = sorted({str(each.facts["plot"]) for each in told})
    for number, each in enumerate(told):
        ids = tokenizer.encode(each.text)
        model(torch.tensor([[end, *ids]]))
        for found, layer in zip(experts, layers, strict=True):
            assert layer.routing is not None
            found.append(layer.routing.experts[1:])
        columns["story"] += [number] * len(ids)
        columns["language"] += [languages.index(str(each.facts["grammar"]))] * len(ids)
        columns["plot"] += [plots.index(str(each.facts["plot"]))] * len(ids)
        columns["kind"] += [
            KINDS.index(kind) for kind in kinds_of_tokens(each, [tokenizer.token_bytes(token) for token in ids])
        ]
        columns["token"] += ids
    rows = {name: torch.tensor(column) for name, column in columns.items()}
    return Choices([torch.cat(each) for each in experts], **rows, languages=languages, plots=plots)


def shares(experts: Tensor, labels: Tensor, num_experts: int, names: Sequence[str]) -> dict[str, list[float]]:
    """For each label, where its tokens' choices fall."""
    found = {}
    for number, name in enumerate(names):
        chosen = experts[labels == number].flatten()
        counts = torch.bincount(chosen, minlength=num_experts).double()
        found[name] = [round(each, 4) for each in (counts / counts.sum().clamp(min=1)).tolist()]
    return found


def measure(choices: Choices, num_experts: int, permutations: int = 40) -> list[dict[str, Any]]:
    """Per layer: the entropy of the choice, and the information on each label in bits, counted, by chance, and the 95 % of chance.

    Plot and kind of word are given the language, so that what tells languages apart is not counted again; plots and languages are
    swapped between whole stories.
    """
    found = []
    for number, experts in enumerate(choices.experts):
        labels = {
            "language": label_information(experts, choices.language, owner=choices.story, permutations=permutations),
            "plot": label_information(
                experts, choices.plot, owner=choices.story, given=choices.language, permutations=permutations
            ),
            "kind of word": label_information(experts, choices.kind, given=choices.language, permutations=permutations),
            "token": label_information(experts, choices.token, given=choices.language, permutations=permutations),
        }
        found.append(
            {
                "layer": number,
                "entropy": round(expert_entropy(experts), 4),
                "information": {
                    name: {"bits": round(each.bits, 4), "chance": round(each.chance, 4), "high": round(each.high, 4)}
                    for name, each in labels.items()
                },
                "by_language": shares(experts, choices.language, num_experts, choices.languages),
                "by_kind": shares(experts, choices.kind, num_experts, KINDS),
            }
        )
    return found


# ----------------------------------------------------------------------------------------------------------------- the runs


def trained(folder: Path, seed: int, balanced: bool, steps: int | None = None) -> tuple[LanguageModel, BPETokenizer]:
    """The model that the zoo's recipe, or its twin's, makes from a seed in the folder; trained there unless it is there already."""
    if not (folder / "model.safetensors").exists():
        source = zoo.recipe(MODEL) if balanced else zoo.path(MODEL) / zoo.TWIN
        table = run_file.merge(run_file.read_table(source), {"training.seed": seed})
        if steps is not None:  # a trial
            table["training"] = {"steps": steps, "learning_rate": 1e-2, "seed": seed}
        with contextlib.redirect_stdout(io.StringIO()):
            trainer, _ = runs.begin(run_file.build(table), folder, force=True)
            runs.train(trainer, folder)
        finished(trainer)
    return LanguageModel.load(folder).float().eval(), BPETokenizer.load(folder / "tokenizer.json")


def run(folder: Path, seed: int, balanced: bool, steps: int | None = None, tested: int = TESTED) -> dict[str, Any]:
    """Train, and measure on stories of the test split."""
    start = time.process_time()
    model, tokenizer = trained(folder, seed, balanced, steps)
    told = list(islice(stories.sample(SIZE, split="test"), tested))
    texts = [each.text for each in told]
    report = story_report(model, tokenizer, texts, SIZE)
    usage = count_choices(
        model, held_out_batches([tokenizer.encode(text) for text in texts], tokenizer.special_tokens["<end>"])
    )
    layers = measure(watch(model, tokenizer, told), usage.shape[1])
    for layer, counts, cv in zip(layers, usage, coefficient_of_variation(usage).tolist(), strict=True):
        layer["usage"] = [round(each, 4) for each in (counts / counts.sum()).tolist()]
        layer["cv"] = round(cv, 3)
    return {
        "seed": seed,
        "balance": BALANCE[balanced],
        "excess_nats": round(report.excess, 3),
        "excess_error": round(report.error, 3),
        "seconds": round(time.process_time() - start, 1),
        "layers": layers,
    }


def record(folder: Path) -> None:
    """Make the runs that are not recorded yet; a model stays in the folder under its seed's name, the twin's as seed-0-twin."""
    try:
        rows = recorded_experiment(NAME)["runs"]
    except ValueError:
        rows = []
    done = {(each["seed"], each["balance"]) for each in rows}
    for seed in SEEDS:
        for balanced in (True, False):
            if (seed, BALANCE[balanced]) not in done:
                rows.append(run(folder / f"seed-{seed}{'' if balanced else '-twin'}", seed, balanced))
                print(seed, balanced, rows[-1]["excess_nats"], [each["cv"] for each in rows[-1]["layers"]], flush=True)
                settings = {"model": f"zoo:{MODEL}", "stories": SIZE, "tested": TESTED, "kinds": list(KINDS)}
                keep(NAME, COMMAND, settings, rows)


def table() -> str:
    """Bits above chance, means and ranges over seeds."""
    rows = recorded_experiment(NAME)["runs"]
    lines = []
    for balance in BALANCE.values():
        chosen = [each for each in rows if each["balance"] == balance]
        if not chosen:
            continue
        lines.append(
            f"balance: {balance}, {len(chosen)} seeds; bits that the choice tells above chance (lowest to highest)"
        )
        for number in range(len(chosen[0]["layers"])):
            layers = [each["layers"][number] for each in chosen]
            parts = [f"layer {number}: entropy {statistics.mean(each['entropy'] for each in layers):.2f}"]
            for name in layers[0]["information"]:
                above = [each["information"][name]["bits"] - each["information"][name]["chance"] for each in layers]
                parts.append(f"{name} {statistics.mean(above):.3f} ({min(above):.3f} to {max(above):.3f})")
            parts.append(f"CV {statistics.mean(each['cv'] for each in layers):.2f}")
            lines.append("  " + ", ".join(parts))
    return "\n".join(lines)


def main() -> None:
    """Record what is missing, and print the table."""
    torch.set_num_threads(1)
    if sys.argv[1:] != ["table"]:
        record(Path(sys.argv[1] if len(sys.argv) > 1 else "build/moe-bilingual"))
    print(table())


if __name__ == "__main__":
    main()
