"""The runs behind lesson 08's scaling laws: models of 5 thousand to 400 thousand parameters on easy stories, trained on
stories drawn afresh, so that nothing is read twice on purpose.

python -m experiments.scaling            the runs that are not recorded yet (about ten minutes with one thread), then the fits
python -m experiments.scaling fit        the fits of the recorded runs

A run is recorded in minilm/evaluation/runs/scaling-easy.csv as soon as it is done; remove a row to make it again.
"""

import csv
import sys
import time
from collections.abc import Sequence

import torch

from minilm.config import AttentionConfig, FeedForwardConfig, InitConfig, ModelConfig
from minilm.data import stories
from minilm.evaluation import RECORDED, PowerLaw, compute_frontier, fit_power_law, recorded_runs, story_report
from minilm.model import LanguageModel
from minilm.tokenizer import BPETokenizer
from minilm.training import DocumentBatches, OptimizerConfig, ScheduleConfig, Trainer, TrainingConfig

NAME, SIZE, VOCABULARY, HELD_OUT = "scaling-easy", "easy", 512, 400
SHAPES = {"XXS": (8, 1, 1), "XS": (16, 2, 2), "S": (32, 2, 2), "M": (48, 3, 3), "L": (64, 4, 4), "XL": (80, 5, 5)}
"""Width, layers and heads."""

RUNS = [(tokens, shape) for tokens in (100_000, 300_000, 1_000_000) for shape in SHAPES]
RUNS += [(3_000_000, shape) for shape in ("XXS", "XS", "S")]
RATE, BATCH = 0.4, 8  # the peak rate is RATE / width: of 0.32 and 0.64 the lower did a little better on S and L
COLUMNS = ("shape", "seed", "parameters", "body_parameters", "tokens", "compute", "loss", "floor", "error", "seconds")


def model_of(shape: str, vocabulary: int) -> LanguageModel:
    """A fresh model of that shape."""
    dim, layers, heads = SHAPES[shape]
    config = ModelConfig(
        vocab_size=vocabulary,
        dim=dim,
        num_layers=layers,
        context_length=128,
        attention=AttentionConfig(num_heads=heads),
        feed_forward=FeedForwardConfig(hidden=8 * round(dim * 8 / 3 / 8)),
        initialization=InitConfig(std=dim**-0.5),
    )
    return LanguageModel(config)


def run(shape: str, tokens: int, texts: Sequence[str], tokenizer: BPETokenizer, seed: int = 0) -> dict[str, object]:
    """Train one model on about so many tokens, drawn afresh, and measure it: a row of the record.

    `compute` are the operations of all training steps, forward and backward, at the mean length of a story. `floor` is the
    entropy of the held-out stories a token, exactly; `error` the standard error of the loss above it.
    """
    end = tokenizer.special_tokens["<end>"]
    documents, count = [], 0
    for text in texts:
        documents.append(tokenizer.encode(text))
        count += len(documents[-1]) + 1
        if count >= tokens:
            break
    if count < tokens:
        raise ValueError(f"{len(texts)} stories hold {count} tokens, not {tokens}: pass more stories")
    torch.manual_seed(seed)
    model = model_of(shape, tokenizer.vocab_size)
    batches = DocumentBatches(documents, BATCH, end, seed)
    config = TrainingConfig(
        steps=len(batches),
        learning_rate=RATE / model.config.dim,
        schedule=ScheduleConfig(warmup=0.1, final=0.0),
        optimizer=OptimizerConfig(beta2=0.98),
        seed=seed,
    )
    start = time.perf_counter()
    Trainer(model, batches, config).train()
    seconds = time.perf_counter() - start
    report = story_report(model, tokenizer, stories.generate(SIZE, HELD_OUT, split="validation"), SIZE)
    parameters = model.num_parameters()
    return {
        "shape": shape,
        "seed": seed,
        "parameters": parameters,
        "body_parameters": parameters - model.embedder.tokens.weight.numel(),  # type: ignore[union-attr]
        "tokens": count,
        "compute": model.summary(length=count // len(documents)).training_flops * count,
        "loss": round(report.loss, 6),
        "floor": round(report.floor_per_token, 6),
        "error": round(report.error * report.stories / report.tokens, 6),
        "seconds": round(seconds, 1),
    }


def record() -> None:
    """Make the runs that are not recorded yet."""
    texts = stories.generate(SIZE, 70_000)
    tokenizer = BPETokenizer.train(texts[:3000], vocab_size=VOCABULARY, special_tokens=["<end>"])
    path = RECORDED / f"{NAME}.csv"
    path.parent.mkdir(exist_ok=True)
    rows: list[dict[str, object]] = list(recorded_runs(NAME)) if path.exists() else []
    done = {(row["shape"], row["target"]) for row in rows}
    for tokens, shape in RUNS:
        if (shape, tokens) in done:
            continue
        rows.append({"target": tokens, **run(shape, tokens, texts, tokenizer)})
        print(*rows[-1].values(), flush=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ("target", *COLUMNS), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def fits(bootstrap: int = 400) -> dict[str, PowerLaw]:
    """The laws of the recorded runs: of parameters and tokens, and of compute along the frontier."""
    rows = recorded_runs(NAME)
    loss = [row["loss"] for row in rows]
    by = {name: [row[name] for row in rows] for name in ("parameters", "body_parameters", "tokens", "compute")}
    best = compute_frontier(by["compute"], loss)
    return {
        "parameters and tokens": fit_power_law(
            loss, parameters=by["parameters"], tokens=by["tokens"], bootstrap=bootstrap
        ),
        "without the embedding": fit_power_law(
            loss, parameters=by["body_parameters"], tokens=by["tokens"], bootstrap=bootstrap
        ),
        "compute, on the frontier": fit_power_law(
            [loss[run] for run in best], compute=[by["compute"][run] for run in best], bootstrap=bootstrap
        ),
    }


def main() -> None:
    """Record what is missing, and print the fits beside the truth."""
    torch.set_num_threads(1)
    if sys.argv[1:] != ["fit"]:
        record()
    floor = recorded_runs(NAME)[0]["floor"]
    for name, law in fits().items():
        low, high = law.interval()
        print(f"{name}: {law}")
        print(f"  irreducible {law.irreducible:.3f}, 95 % interval {low:.3f} to {high:.3f}; the truth is {floor:.3f}")
        print(f"  the runs lie {law.residual:.1%} from it")


if __name__ == "__main__":
    main()
