"""The zoo: small models that were trained for real, each by one command, with the card that says how and how well.

    from minilm import zoo

    model, tokenizer = zoo.load("story")
    print(zoo.card("story"))

Each model is a folder here:

- `recipe.toml`, which `minilm pretrain --config zoo:NAME OUT` trains from;
- `card.md`: data, command, seconds, figures with their seeds, limits;
- `figures.json`: the card's figures, which `python -m experiments.zoo NAME` measures;
- `curve.csv`: what the run logged;
- `twin.toml` and `twin.csv`, where a model is shown beside one that lacks one thing: the recipe and curve of the other;
- `model.safetensors` in half precision, `config.json` and `tokenizer.json`, if it ships: a model of text that is not ours to
  spread doesn't, and its recipe, curve and figures are the record.

Solvers of puzzles stand here too. `zoo.load_solver("sudoku-6")` loads one; its recipe is `run.json`, from which
`minilm puzzle zoo:sudoku-6 OUT` trains.
"""

import csv
import difflib
import json
from pathlib import Path
from typing import Any

from minilm.model import LanguageModel
from minilm.model.files import TOKENIZER, WEIGHTS
from minilm.recursion import RecursiveModel
from minilm.recursion.run import RUN
from minilm.tokenizer import BPETokenizer

__all__ = [
    "card",
    "curve",
    "figures",
    "load",
    "load_solver",
    "names",
    "path",
    "recipe",
    "shipped",
    "solvers",
    "twins",
]

FOLDER = Path(__file__).parent
RECIPE, CARD, FIGURES, CURVE = "recipe.toml", "card.md", "figures.json", "curve.csv"
TWIN, TWIN_CURVE = "twin.toml", "twin.csv"


def names() -> tuple[str, ...]:
    """Every language model of the zoo, those that ship and those that are recorded only."""
    return tuple(sorted(each.parent.name for each in FOLDER.glob(f"*/{RECIPE}")))


def shipped() -> tuple[str, ...]:
    """The models that `load` can load."""
    return tuple(name for name in names() if (FOLDER / name / WEIGHTS).is_file())


def solvers() -> tuple[str, ...]:
    """The solvers of puzzles, all of which ship."""
    return tuple(sorted(each.parent.name for each in FOLDER.glob(f"*/{RUN}")))


def twins() -> tuple[str, ...]:
    """The models that are shown beside a twin."""
    return tuple(name for name in names() if (FOLDER / name / TWIN).is_file())


def path(name: str) -> Path:
    """The folder of a model. ValueError names the nearest one for a name that isn't in the zoo."""
    known = (*names(), *solvers())
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}."
        raise ValueError(f"the zoo has no {name!r}: {advice}")
    return FOLDER / name


def recipe(name: str) -> Path:
    """The file that trains the model: `minilm pretrain --config zoo:NAME OUT` reads it, or `minilm puzzle zoo:NAME OUT`."""
    return path(name) / (RUN if name in solvers() else RECIPE)


def load(name: str = "story") -> tuple[LanguageModel, BPETokenizer]:
    """A model in float32, ready to use (dropout off), and its tokenizer.

    ValueError for a model that is recorded only, with the command that makes it, and for a solver of puzzles.
    """
    folder = path(name)
    if name in solvers():
        raise ValueError(f"{name!r} solves puzzles and writes no text: zoo.load_solver({name!r}) loads it")
    if name not in shipped():
        raise ValueError(
            f"{name!r} doesn't ship: its training text isn't ours to spread, or it is too large. Make it with "
            f"`minilm pretrain --config zoo:{name} OUT`, then LanguageModel.load('OUT'); zoo.card({name!r}) says more"
        )
    model = LanguageModel.load(folder).float().eval()
    return model, BPETokenizer.load(folder / TOKENIZER)


def load_solver(name: str) -> RecursiveModel:
    """A solver of puzzles in float32, ready to use. ValueError for a model that is none."""
    folder = path(name)
    if name not in solvers():
        raise ValueError(
            f"{name!r} solves no puzzles: the solvers are {', '.join(solvers())}; zoo.load loads the others"
        )
    return RecursiveModel.load(folder).eval()


def card(name: str) -> str:
    """What the model is, how it was made, what was measured and what it can't do, in Markdown."""
    return (path(name) / CARD).read_text(encoding="utf-8")


def figures(name: str) -> dict[str, Any]:
    """The card's figures, as `python -m experiments.zoo NAME` measured them."""
    found: dict[str, Any] = json.loads((path(name) / FIGURES).read_text(encoding="utf-8"))
    return found


def curve(name: str, twin: bool = False) -> list[dict[str, float]]:
    """What the run logged, a dictionary a row: step, tokens, loss and whatever else was measured there and then.

    With `twin`, what its twin's run logged; ValueError for a model without one.
    """
    file = path(name) / (TWIN_CURVE if twin else CURVE)
    if not file.exists():
        raise ValueError(f"{name!r} has no twin: those that have are {', '.join(twins())}")
    with file.open(encoding="utf-8", newline="") as rows:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(rows)]
