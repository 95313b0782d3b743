"""The ledger of lesson 07: five trained models, and what each way of choosing makes of them, run from the lesson's own cells.

python -m experiments.generation              everything (about four minutes with one thread)
python -m experiments.generation confidence   one experiment: shares, errors, confidence
"""

import sys
from collections.abc import Iterator
from typing import Any

from experiments import definitions

SEEDS = range(5)
TEXTS = 200


def line(name: str, values: list[float], digits: int = 2) -> None:
    """All runs, lowest to highest."""
    print(f"{name:<44}", " ".join(f"{value:.{digits}f}" for value in sorted(values)), flush=True)


def models(names: dict[str, Any]) -> Iterator[Any]:
    """One model a seed; the lesson's functions use the one that is in its place."""
    for seed in SEEDS:
        if seed not in names.setdefault("trained", {}):
            names["trained"][seed] = names["train_model"](seed)[0]
        names["model"] = names["trained"][seed]
        names["story_odds"].cache_clear()
        yield names["model"]


def settings(Sampling: Any) -> dict[str, Any]:
    """The ways of choosing that are compared."""
    dlib = Sampling(temperature=0.8, top_k=50, top_p=0.9, min_p=0.05, repetition_penalty=1.2)
    found = {f"temperature {t}": Sampling(temperature=t) for t in (0.3, 0.7, 1.0, 1.2, 1.5)}
    found |= {f"top-k {k}": Sampling(top_k=k) for k in (2, 5, 10)}
    found |= {f"top-p {p}": Sampling(top_p=p) for p in (0.5, 0.9, 0.99)}
    found |= {f"min-p {p}": Sampling(min_p=p) for p in (0.05, 0.1, 0.3)}
    found |= {f"penalty {r}": Sampling(repetition_penalty=r) for r in (1.1, 1.2, 1.4)}
    found |= {f"penalty {r}, top-p 0.9": Sampling(repetition_penalty=r, top_p=0.9) for r in (1.1, 1.2, 1.4)}
    return found | {"dlib": dlib, "dlib without penalty": dlib.replace(repetition_penalty=1.0)}


def shares(names: dict[str, Any]) -> None:
    """The share of texts that are stories, and how many heroes those have of the 16 there are."""
    found: dict[str, list[tuple[float, int]]] = {}
    for _ in models(names):
        for name, sampling in settings(names["Sampling"]).items():
            written = names["many"](TEXTS, sampling, seed=1000)
            leaves = names["are_stories"](written)
            good = [each.text for each, at in zip(written, leaves, strict=True) if at is None]
            heroes = {names["grammar"].read(text).facts["hero"] for text in good}
            found.setdefault(name, []).append((len(good) / TEXTS, len(heroes)))
    for name, values in found.items():
        line(f"{name}: stories", [good for good, _ in values])
        line(f"{name}: heroes", [heroes for _, heroes in values], digits=0)


def errors(names: dict[str, Any]) -> None:
    """Leak and loss a story of each rule."""
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in models(names):
        none = names["two_errors"](lambda logits, value: logits, None)
        found.setdefault("no rule", []).append(none)
        for kind, value in (("top-k", 5), ("top-k", 10), ("top-p", 0.9), ("min-p", 0.1), ("min-p", 0.05)):
            found.setdefault(f"{kind} {value}", []).append(names["two_errors"](names["SETTINGS"][kind][0], value))
    for name, values in found.items():
        line(f"{name}: leak a story", [leak for leak, _ in values])
        line(f"{name}: loss a story", [loss for _, loss in values])


def confidence(names: dict[str, Any]) -> None:
    """Whom confidence follows, where the rule cuts, and whether a wrong token can be told by it."""
    torch, found = names["torch"], {}
    for model in models(names):
        sure, top, end = (torch.tensor(values) for values in zip(*names["openness"](), strict=True))
        result = {
            "correlation of confidence and true odds": float(torch.corrcoef(torch.stack([sure, top.float()]))[0, 1]),
            "confidence at the ends": float(sure[end].mean()),
            "confidence elsewhere": float(sure[~end].mean()),
        }
        written = names["many"](TEXTS, seed=1000)
        leaves = names["are_stories"](written)
        for threshold in (0.65, 0.7, 0.75, 0.8):
            cut, finished, off, kept = names["where_it_cuts"](written, leaves, threshold)
            wrong = sum(at is not None for at in leaves)
            result |= {
                f"threshold {threshold}: texts cut": cut,
                f"threshold {threshold}: cut at the end of a story": finished,
                f"threshold {threshold}: cut after going wrong": off,
                f"threshold {threshold}: of all that go wrong": wrong,
                f"threshold {threshold}: tokens kept": kept,
            }
        result["right token surer than the first wrong one"] = surer(names, written, leaves)
        for start in ("", "import torch\n", "qzx vjk wpf"):
            prompt = [names["END"], *names["tokenizer"].encode(start)]
            texts = names["generate"](model, [prompt] * 100, 40, stop_tokens=[names["END"]], seed=1000)
            mean = [sum(each.confidences) / len(each.confidences) for each in texts if each.ids]
            result[f"mean confidence after {start!r}"] = sum(mean) / len(mean)
        for name, value in result.items():
            found.setdefault(name, []).append(float(value))
    for name, values in found.items():
        line(name, values)


def surer(names: dict[str, Any], written: list[Any], leaves: list[int | None]) -> float:
    """The chance that a right token had more confidence than the one with which a text left the grammar."""
    torch, decode = names["torch"], names["tokenizer"].decode
    wrong, right = [], []
    for each, at in zip(written, leaves, strict=True):
        written_so_far = 0
        for token, sure in zip(each.ids, each.confidences, strict=True):
            written_so_far += len(decode([token]))
            if at is not None and written_so_far > at:
                wrong.append(sure)
                break
            right.append(sure)
    low, high = torch.tensor(wrong)[:, None], torch.tensor(right)
    return float((low < high).float().mean() + 0.5 * (low == high).float().mean())


def main() -> None:
    """Run the experiments that are named, or all of them."""
    experiments = {"shares": shares, "errors": errors, "confidence": confidence}
    names = definitions("07_generation")
    for name in sys.argv[1:] or experiments:
        experiments[name](names)


if __name__ == "__main__":
    main()
