"""The ledger of lesson 08: its experiments over five seeds, run from the lesson's own cells.

python -m experiments.evaluation            everything (about ten minutes with one thread)
python -m experiments.evaluation model      one experiment: model, size, tokenizers

The runs behind the scaling law are `python -m experiments.scaling`.
"""

import math
import sys
from typing import Any

from experiments import definitions
from experiments.model import line

SEEDS = range(5)


def trained(names: dict[str, Any], seed: int, **shape: Any) -> Any:
    """The lesson's model, or one of another shape, from this seed."""
    names["torch"].manual_seed(seed)
    model = names["LanguageModel"](names["config"].replace(**shape))
    for _ in names["learn"](model, names["train_texts"], seed=seed):
        pass
    return model


def split(names: dict[str, Any], model: Any) -> tuple[float, float]:
    """Bits a story above the floor, at choices and where all is forced."""
    torch, texts = names["torch"], names["texts"]
    paid = torch.cat(names["surprises"](model, names["tokenizer"], texts))
    true = torch.cat([names["true_surprises"](names["tokenizer"], text) for text in texts])
    lost, forced = (paid - true) / math.log(2) / len(texts), true < 1e-6
    return float(lost[~forced].sum()), float(lost[forced].sum())


def model(names: dict[str, Any]) -> None:
    """What one model shows in the lesson, for five: the split, calibration, the share off the grammar, the exam, windows, the leak."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    bigram = names["count_bigrams"](names["tokenizer"], names["train_texts"][:2000])
    rows = [[names["END"], *names["tokenizer"].encode(text), names["END"]] for text in names["texts"][:40]]
    for seed in SEEDS:
        one = trained(names, seed)
        for name, bits in zip(("choice", "forced"), split(names, one), strict=True):
            note(f"bits lost a story, {name}", bits)
        logits, came = names["predictions"](one)
        for name, scores in {"model": logits, "temperature 0.5": 2 * logits}.items():
            note(f"ECE, {name}", names["ece"](*names["favourites"](scores, came)))
        note("ECE, bigram", names["ece"](*names["favourites"](*names["predictions"](bigram))))
        for stride in (16, 8, 1):
            runs = [names["windowed"](one, row, 16, stride)[0] for row in rows]
            note(f"bits a story, stride {stride}", sum(float(nats.sum()) for nats in runs) / math.log(2) / len(rows))
        scores = [names["score"](one, context, options)[0] for context, options, _ in names["questions"]]
        spaced = [names["score_with_space"](one, context, options) for context, options, _ in names["questions"]]
        for name, each in {"acc": scores, "acc, misplaced space": spaced}.items():
            answers = [names["best"](values) for values in each]
            hits = [answer == right for answer, (_, _, right) in zip(answers, names["questions"], strict=True)]
            note(name, sum(hits) / len(hits))
        for temperature in (1.0, 0.5, 1.3):
            written = names["write"](200, seed, temperature, writer=one)
            note(f"off the grammar, temperature {temperature}", names["off_grammar"](written))
        note("off the grammar, top-p 0.9", names["off_grammar"](names["write"](200, seed, top_p=0.9, writer=one)))
        for _ in names["learn"](one, names["seen"], epochs=30):
            pass
        for name in ("seen", "fresh"):
            note(f"leak: bits above the floor, {name}", names["excess"](one, names[name])[0])
    for name, values in found.items():
        line(name, values)


def size(names: dict[str, Any]) -> None:
    """The share off the grammar of models of several widths."""
    for dim in (16, 32):
        found = []
        for seed in SEEDS:
            one = trained(names, seed, dim=dim, attention={"num_heads": dim // 16})
            found.append(names["off_grammar"](names["write"](200, seed, writer=one)))
        line(f"off the grammar, width {dim}", found)


def tokenizers(names: dict[str, Any]) -> None:
    """Transformers of one shape, one number of steps, two tokenizers: perplexity and bits a byte."""
    train, texts, usual = names["train_texts"], names["texts"], names["tokenizer"]
    held_bytes = sum(len(text.encode()) + 1 for text in texts)
    for vocabulary in (300, 512):
        names["tokenizer"] = names["BPETokenizer"].train(train[:1000], vocabulary, ["<end>"], progress=False)
        names["END"] = names["tokenizer"].special_tokens["<end>"]
        losses, bits = [], []
        for seed in SEEDS:
            paid = names["surprises"](trained(names, seed, vocab_size=vocabulary), names["tokenizer"], texts)
            nats = names["torch"].cat(paid)
            losses.append(float(nats.mean().exp()))
            bits.append(float(nats.sum()) / math.log(2) / held_bytes)
        line(f"{vocabulary} tokens: perplexity", losses)
        line(f"{vocabulary} tokens: bits a byte", bits, digits=3)
    names["tokenizer"], names["END"] = usual, usual.special_tokens["<end>"]


def main() -> None:
    """Run the experiments that are named, or all of them."""
    experiments = {"model": model, "size": size, "tokenizers": tokenizers}
    names = definitions("08_evaluation")
    for name in sys.argv[1:] or experiments:
        experiments[name](names)


if __name__ == "__main__":
    main()
