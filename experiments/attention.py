"""The ledger of lesson 03: its experiments over several seeds, run from the lesson's own cells.

python -m experiments.attention            everything (about 20 minutes with one thread)
python -m experiments.attention ladder     one experiment: ladder, curves, leak, positions, fused, stories
"""

import sys
from collections.abc import Callable
from typing import Any

from experiments import definitions

SEEDS = range(5)


def excess(names: dict[str, Any], model: Any) -> dict[str, float]:
    """Nats above the floor on the three questions."""
    with names["torch"].no_grad():
        found = names["excess_of"](names["world"], names["losses_of"](model, names["world"].held))
    return {kind: found[kind, True] for kind in ("what", "when", "whose")}


def line(name: str, values: list[float]) -> None:
    """All runs, lowest to highest."""
    print(f"{name:<28}", " ".join(f"{value:.3f}" for value in sorted(values)), flush=True)


def ladder(names: dict[str, Any]) -> None:
    """What each kind of layer achieves on what, when and whose."""
    heads, one = names["ManyHeads"], names["OneHead"]
    makers: dict[str, Callable[[], list[Any]]] = {
        "average": lambda: [names["Average"](64)],
        "one head": lambda: [one(64)],
        "four heads": lambda: [heads(64, 4)],
        "two layers, one head": lambda: [one(64), one(64)],
        "two layers, four heads": lambda: [heads(64, 4), heads(64, 4)],
    }
    for name, make in makers.items():
        runs = []
        for seed in SEEDS:
            names["torch"].manual_seed(seed)
            model = names["one_model"](*make())
            names["fit"](model, names["world"].train, seed=seed)
            runs.append(excess(names, model))
        for kind in ("what", "when", "whose"):
            line(f"{name}: {kind}", [run[kind] for run in runs])


def curves(names: dict[str, Any]) -> None:
    """When two layers learn whose: the excess every 50 steps, for ten seeds."""
    for seed in range(10):
        names["torch"].manual_seed(seed)
        model = names["one_model"](names["ManyHeads"](64, 4), names["ManyHeads"](64, 4))
        values: list[float] = []

        def note(model: Any = model, values: list[float] = values) -> None:
            values.append(round(excess(names, model)["whose"], 2))

        watched = Watched(model, note, every=50)
        names["fit"](watched, names["world"].train, seed=seed)
        note()
        print(seed, values, flush=True)


class Watched:
    """A model that calls `note` on every so many training passes."""

    def __init__(self, model: Any, note: Any, every: int) -> None:
        self.model, self.note, self.every, self.calls = model, note, every, 0

    def parameters(self) -> Any:
        """The model's."""
        return self.model.parameters()

    def __call__(self, ids: Any) -> Any:
        """The model's scores."""
        if self.calls % self.every == 0:
            self.note()
        self.calls += 1
        return self.model(ids)


def leak(names: dict[str, Any]) -> None:
    """Training without the causal mask: the loss it shows, and the loss when every word is predicted from what precedes it."""
    trained, honest = [], []
    for seed in SEEDS:
        names["torch"].manual_seed(seed)
        model = names["one_model"](names["OneHead"](64, causal=False))
        curve = names["fit"](model, names["world"].train, steps=300, seed=seed)
        trained.append(sum(curve[-20:]) / 20)
        honest.append(names["honest_loss"](model, names["world"].held[:100]))
    line("no mask: training loss", trained)
    line("no mask: word by word", honest)


def positions(names: dict[str, Any]) -> None:
    """Two layers of the library's attention with rotary positions, ALiBi, and none."""
    from minilm.attention import Attention
    from minilm.embeddings import RotaryEmbedding

    for name, options in {
        "rotary": lambda: {"rotary": RotaryEmbedding(16)},
        "ALiBi": lambda: {"alibi": True},
        "none": dict,
    }.items():
        runs = []
        for seed in SEEDS:
            names["torch"].manual_seed(seed)
            model = names["one_model"](*(Attention(64, 4, **options()) for _ in range(2)))
            names["fit"](model, names["world"].train, seed=seed)
            runs.append(excess(names, model))
        for kind in ("what", "when", "whose"):
            line(f"{name}: {kind}", [run[kind] for run in runs])


def fused(names: dict[str, Any]) -> None:
    """How often dlib's fused block and attention find a word at places where training never put it."""
    for name in ("FusedAttention", "Attention"):
        line(name, [names["find_the_toy"](name, seed) for seed in SEEDS])


def told(names: dict[str, Any]) -> None:
    """Two layers on the course's easy stories: mean loss above the floor."""
    values = []
    for seed in SEEDS:
        names["torch"].manual_seed(seed)
        easy = names["easy"]
        model = names["Reader"](len(easy.words), 64, [names["ManyHeads"](64, 4), names["ManyHeads"](64, 4)])
        names["fit"](model, easy.train, steps=400, seed=seed)
        with names["torch"].no_grad():
            losses = names["losses_of"](model, easy.held)
        values.append(float(losses.sum() / (easy.held[:, 1:] != 0).sum()))
    line("easy stories: nats a word", values)


EXPERIMENTS = {
    "ladder": ladder,
    "curves": curves,
    "leak": leak,
    "positions": positions,
    "fused": fused,
    "stories": told,
}

if __name__ == "__main__":
    lesson_names = definitions("03_attention")
    for wanted in sys.argv[1:] or EXPERIMENTS:
        print(f"-- {wanted}")
        EXPERIMENTS[wanted](lesson_names)
