"""What the cards of the zoo state, measured on a run's folder: one command a model.

python -m experiments.zoo story OUT          print the figures of the run in OUT
python -m experiments.zoo story              the same of the model that ships
python -m experiments.zoo story OUT --keep   and store figures, curve and, for models that ship, weights in minilm/zoo/story
"""

import argparse
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from minilm import zoo
from minilm.data import corpora, stories
from minilm.evaluation import GrammarReport, off_grammar_share, story_report
from minilm.generation import Sampling
from minilm.model import LanguageModel
from minilm.model.files import CONFIG, TOKENIZER, WEIGHTS
from minilm.tokenizer import BPETokenizer

Figures = dict[str, Any]
SHIPS = ("story",)
SIZES = {"story": "medium", "story-recall": "easy"}
EXTRACT = 14_640  # bytes from the beginning of tinyshakespeare


def main() -> None:
    """Measure, print, and keep if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=MEASURES)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--stories", type=int, default=1000, help="held-out stories to measure on")
    parser.add_argument("--texts", type=int, default=300, help="texts to write")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    if given.keep and given.out is None:
        parser.error("--keep wants the folder of a run")
    folder = given.out or zoo.path(given.name)
    if given.keep and given.name in SHIPS:
        ship(folder, zoo.path(given.name))
        folder = zoo.path(given.name)  # what is measured is what ships: half precision
    model, tokenizer = LanguageModel.load(folder).float().eval(), BPETokenizer.load(folder / TOKENIZER)
    found = {
        "parameters": model.num_parameters(),
        "vocabulary": tokenizer.vocab_size,
        **MEASURES[given.name](model, tokenizer, given),
    }
    print(json.dumps(found, indent=2))
    if given.keep:
        (zoo.path(given.name) / zoo.FIGURES).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(given.out / "curve.csv", zoo.path(given.name) / zoo.CURVE)


def ship(run: Path, folder: Path) -> None:
    """The run's weights in half precision, its config and its vocabulary."""
    weights = {name: tensor.half() for name, tensor in load_file(run / WEIGHTS).items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    for name in (CONFIG, TOKENIZER):
        shutil.copyfile(run / name, folder / name)


# ------------------------------------------------------------------------------------------------------------- stories


def measure_story(model: LanguageModel, tokenizer: BPETokenizer, given: argparse.Namespace) -> Figures:
    """Distance to the floor on test stories, and how much of what it writes leaves the grammar."""
    size = SIZES[given.name]
    report = story_report(model, tokenizer, test_stories(size, given.stories), size)
    found: Figures = {
        "stories": report.stories,
        "floor_bits": round(report.floor_bits, 2),
        "bits": round(report.bits, 2),
        "excess_nats": round(report.excess, 2),
        "excess_error": round(report.error, 2),
        "choice_excess_nats": round(report.choice_excess, 2),
        "forced_excess_nats": round(report.forced_excess, 2),
        "excess_nats_per_token": round(report.excess_per_token, 4),
        "tokens_per_story": round(report.tokens / report.stories, 1),
    }
    for temperature in (1.0, 0.8):
        written = off_grammar_share(model, tokenizer, size, given.texts, sampling=Sampling(temperature=temperature))
        found[f"off_grammar_T{temperature:g}"] = share_of(written)
    return found


def share_of(written: GrammarReport) -> Figures:
    """The share of texts that leave the grammar, with its 95 % interval."""
    low, high = written.interval
    return {
        "texts": len(written.written),
        "share": round(written.share, 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "characters_per_departure": round(written.characters_per_departure),
    }


def test_stories(size: str, number: int) -> list[str]:
    """Stories that neither training nor a look during training has seen."""
    return stories.generate(size, number, seed=0, split="test")


# --------------------------------------------------------------------------------------------- learning a text by heart


@torch.inference_mode()
def measure_memory(model: LanguageModel, tokenizer: BPETokenizer, given: argparse.Namespace) -> Figures:
    """Right next tokens over all windows, and how much comes back, greedily, from the first window."""
    text = "".join(corpora.read("tinyshakespeare", EXTRACT))
    ids, width = torch.tensor(tokenizer.encode(text)), model.config.context_length
    windows, targets = ids[:-1].unfold(0, width, 1), ids[width:]
    guesses = torch.cat([model(piece)[:, -1].argmax(dim=-1) for piece in windows.split(256)])
    right = guesses == targets
    # Who guesses every next token right recites: up to the first wrong guess, what is written is what is read.
    first = int((~right).nonzero()[0]) if not bool(right.all()) else len(targets)
    recited = len(tokenizer.decode(ids[: width + first].tolist()).encode())
    return {
        "extract": {
            "offset": 0,
            "bytes": len(text.encode()),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        },
        **({"parameters_by_dlib": model.num_parameters("dlib")} if given.name.startswith("dlib") else {}),
        "tokens": len(ids),
        "windows": len(targets),
        "wrong": int((~right).sum()),
        "accuracy": round(right.double().mean().item(), 5),
        "bytes_regenerated": recited,
        "regenerated_exactly": bool(right.all()),
    }


Measure = Callable[[LanguageModel, BPETokenizer, argparse.Namespace], Figures]
MEASURES: dict[str, Measure] = {
    "story": measure_story,
    "story-recall": measure_story,
    "dlib-char": measure_memory,
    "causal-char": measure_memory,
}


if __name__ == "__main__":
    main()
