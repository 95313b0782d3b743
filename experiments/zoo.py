"""What the cards of the zoo state, measured on a run's folder: one command a model.

python -m experiments.zoo story OUT          print the figures of the run in OUT
python -m experiments.zoo story              the same of the model that ships
python -m experiments.zoo story OUT --keep   and store figures, curve and, for models that ship, weights in minilm/zoo/story
python -m experiments.zoo moe-bilingual OUT --twin TWIN --keep     and the curve of its twin, which `minilm pretrain --config
                                             minilm/zoo/moe-bilingual/twin.toml TWIN` trained
"""

import argparse
import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from experiments.moe_shared import count_choices, held_out_batches
from minilm import zoo
from minilm.data import corpora, stories
from minilm.data.instructions import ANY_STORY, KINDS, instructions
from minilm.data.puzzles import Sums, forgetful, problems, shared_keys
from minilm.evaluation import (
    GrammarReport,
    evaluate_texts,
    log_likelihoods,
    off_grammar_share,
    story_report,
    wilson_interval,
)
from minilm.finetuning import answer_log_probs, encode_chat, follow_report, sample_answers
from minilm.generation import ConfidenceStop, Sampling, Writer
from minilm.grpo import greedy_texts, pass_at_k, roll_out
from minilm.model import LanguageModel
from minilm.model.files import CONFIG, TOKENIZER, WEIGHTS
from minilm.moe import coefficient_of_variation, usage_entropy
from minilm.tokenizer import BPETokenizer
from minilm.training import Batch

Figures = dict[str, Any]
SHIPS = ("easy-base", "easy-chat", "moe-bilingual", "pupil", "pupil-3", "story")
SIZES = {
    "easy-base": "easy",
    "story": "medium",
    "story-recall": "easy",
    "moe-bilingual": "easy+french",
    "moe-sample": "easy",
}
EXTRACTS = {
    "dlib-char": 14_640,
    "causal-char": 14_640,
    "dlib-bpe": 3_072,
}  # bytes from the beginning of tinyshakespeare


def main() -> None:
    """Measure, print, and keep if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=MEASURES)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--stories", type=int, default=1000, help="held-out stories to measure on")
    parser.add_argument("--texts", type=int, default=300, help="texts to write")
    parser.add_argument("--twin", type=Path, help="the folder of its twin's run, whose curve is kept")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    if given.keep and given.out is None:
        parser.error("--keep wants the folder of a run")
    folder = given.out or zoo.path(given.name)
    if given.keep and given.name in SHIPS:
        ship(folder, zoo.path(given.name))
        folder = zoo.path(given.name)  # what is measured is what ships: half precision
    if given.keep:
        shutil.copyfile(given.out / "curve.csv", zoo.path(given.name) / zoo.CURVE)
        if given.twin is not None:
            shutil.copyfile(given.twin / "curve.csv", zoo.path(given.name) / zoo.TWIN_CURVE)
    model, tokenizer = LanguageModel.load(folder).float().eval(), BPETokenizer.load(folder / TOKENIZER)
    found = {
        "parameters": model.num_parameters(),
        "vocabulary": tokenizer.vocab_size,
        **MEASURES[given.name](model, tokenizer, given),
    }
    print(json.dumps(found, indent=2))
    if given.keep:
        (zoo.path(given.name) / zoo.FIGURES).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        if given.name == "slim-docs":
            plot_thresholds(zoo.path(given.name) / "threshold.svg")


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


# ------------------------------------------------------------------------------------------------------------- answers


def measure_answers(model: LanguageModel, tokenizer: BPETokenizer, given: argparse.Namespace) -> Figures:
    """Tasks done by kind; what plain stories cost, unasked and as answers, beside the base's bits; answers off the grammar."""
    tasks = instructions("easy", given.stories, split="test")
    report = follow_report(model, tokenizer, tasks, max_new_tokens=110)
    done: Figures = {}
    for kind in ("all", *KINDS):
        right = [r for task, r in zip(tasks, report.right, strict=True) if kind in ("all", task.kind)]
        low, high = wilson_interval(sum(right), len(right))
        share = sum(right) / len(right)
        done[kind] = {"tasks": len(right), "share": round(share, 3), "low": round(low, 3), "high": round(high, 3)}
    base = LanguageModel.load(zoo.path("easy-base")).float().eval()
    asked = {"role": "user", "content": ANY_STORY}
    texts = test_stories("easy", given.texts)
    rows = [encode_chat(tokenizer, [asked, {"role": "assistant", "content": text}]) for text in texts]
    written = sample_answers(model, tokenizer, [asked], given.texts, max_new_tokens=110)
    off = sum(stories.grammar("easy").read(each.text or "") is None for each in written)
    low, high = wilson_interval(off, len(written))
    return {
        "done": done,
        "plain_stories": len(texts),
        "bits_of_the_base": round(mean_bits(base, tokenizer, texts), 1),
        "bits_unasked": round(mean_bits(model, tokenizer, texts), 1),
        "bits_as_answers": round(-float(answer_log_probs(model, rows).mean()) / math.log(2), 1),
        "off_grammar_T1": {
            "texts": len(written),
            "share": round(off / len(written), 3),
            "low": round(low, 3),
            "high": round(high, 3),
        },
    }


def mean_bits(model: LanguageModel, tokenizer: BPETokenizer, texts: list[str]) -> float:
    """Bits a text, its end included."""
    return -sum(score.log_likelihood for score in log_likelihoods(model, tokenizer, texts)) / len(texts) / math.log(2)


# ---------------------------------------------------------------------------------------------------------------- sums

EXAMS = {"pupil": (2, 400), "pupil-3": (3, 1000)}  # digits, and test problems
SAMPLES = 16


def measure_pupil(model: LanguageModel, tokenizer: BPETokenizer, given: argparse.Namespace) -> Figures:
    """On held-out sums: right and forgetful greedy answers, right ones where a carry is needed, pass@k of the first 200."""
    digits, number = EXAMS[given.name]
    task, end = Sums(digits), tokenizer.special_tokens["<end>"]
    exam = problems(task, number, "test")
    prompts = [[end, *tokenizer.encode(problem.prompt)] for problem in exam]
    said = greedy_texts(model, tokenizer, prompts, max_new_tokens=8, stop_tokens=[end])
    right = [task.verify(problem, text).correct for problem, text in zip(exam, said, strict=True)]
    as_heard = [text == forgetful(problem) for problem, text in zip(exam, said, strict=True)]
    carrying = [good for problem, good in zip(exam, right, strict=True) if forgetful(problem) != problem.answer]
    written = roll_out(
        model,
        tokenizer,
        prompts[:200],
        group=SAMPLES,
        max_new_tokens=8,
        stop_token=end,
        seed=7,
        with_log_probs=False,
    ).texts
    hits = [
        sum(task.verify(problem, text).correct for text in written[SAMPLES * i : SAMPLES * (i + 1)])
        for i, problem in enumerate(exam[:200])
    ]
    return {
        "exam": len(exam),
        "shared_with_training": shared_keys(problems(task, {2: 6_000, 3: 20_000}[digits], "train"), exam),
        "right": round(sum(right) / len(exam), 3),
        "forgetful": round(sum(as_heard) / len(exam), 3),
        "either": round(sum(map(max, right, as_heard)) / len(exam), 3),
        "carrying": len(carrying),
        "right_carrying": round(sum(carrying) / len(carrying), 3),
        "pass_at": {str(k): round(sum(pass_at_k(SAMPLES, c, k) for c in hits) / len(hits), 3) for k in (1, 4, 16)},
    }


# --------------------------------------------------------------------------------------------- learning a text by heart


@torch.inference_mode()
def measure_memory(model: LanguageModel, tokenizer: BPETokenizer, given: argparse.Namespace) -> Figures:
    """Right next tokens over all windows, and how much comes back, greedily, from the first window."""
    text = "".join(corpora.read("tinyshakespeare", EXTRACTS[given.name]))
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


# ------------------------------------------------------------------------------------------------------ French, Python


def measure_mnemos(model: LanguageModel, tokenizer: BPETokenizer, given: argparse.Namespace) -> Figures:
    """Loss a token as it was trained (windows side by side), with more context, and what a token is worth in characters."""
    texts = test_stories("french", given.stories)
    floor = sum(map(stories.grammar("french").bits, texts)) * math.log(2)
    found: Figures = {"stories": len(texts)}
    for name, stride in (("side_by_side", model.config.context_length), ("half_overlapping", None)):
        report = evaluate_texts(model, tokenizer, texts, stride=stride)
        found[name] = {
            "loss": round(report.loss, 4),
            "perplexity": round(report.perplexity, 3),
            "bits_per_byte": round(report.bits_per_byte, 4),
        }
    characters = sum(len(text) + 1 for text in texts)
    return found | {
        "floor_loss": round(floor / report.tokens, 4),
        "floor_bits_per_byte": round(floor / math.log(2) / report.size, 4),
        "characters_per_token": round(characters / report.tokens, 3),
        "tokens_per_story": round(report.tokens / len(texts), 1),
    }


THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)


def measure_slim(model: LanguageModel, tokenizer: BPETokenizer, given: argparse.Namespace) -> Figures:
    """Stories and documentation, before and after fine-tuning, and what the confidence threshold does to the length of texts."""
    tests = test_stories("easy", given.stories)
    report = story_report(model, tokenizer, tests, "easy")
    docs = corpora.python_docs()
    tail = docs[-int(0.04 * len(docs)) :]  # the run holds out the last 5 %
    pieces = [tail[start : start + 2000] for start in range(0, len(tail) - 2000, 2000)]
    measured = evaluate_texts(model, tokenizer, pieces)
    beginnings = {"slim": [text[:60] for text in tests[:20]], "slim-docs": [tail[900 * i :][:200] for i in range(20)]}
    return {
        "story_bits": round(report.bits, 2),
        "story_floor_bits": round(report.floor_bits, 2),
        "story_excess_nats": round(report.excess, 2),
        "story_excess_error": round(report.error, 2),
        "docs_bits_per_byte": round(measured.bits_per_byte, 3),
        "docs_bytes_per_token": round(measured.bytes_per_token, 3),
        "thresholds": lengths_by_threshold(Writer(model, tokenizer), beginnings[given.name]),
    }


def lengths_by_threshold(writer: Writer, prompts: list[str], most: int = 120) -> list[Figures]:
    """How long texts become, and why they end, for several thresholds of `ConfidenceStop`; drawn at temperature 0.8."""
    found = []
    for threshold in THRESHOLDS:
        rule = ConfidenceStop(threshold) if threshold else None
        written = writer.write_batch(prompts, most, Sampling(temperature=0.8), confidence=rule)
        reasons = [each.stop_reason for each in written]
        found.append(
            {
                "threshold": threshold,
                "texts": len(written),
                "mean_tokens": round(sum(len(each.ids) for each in written) / len(written), 1),
                "unsure": reasons.count("low_confidence"),
                "ended": reasons.count("eos"),
            }
        )
    return found


def plot_thresholds(file: Path) -> None:
    """How long texts become against the confidence threshold, before and after fine-tuning."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from minilm.course.figures import COLORS

    mpl.rcParams["svg.hashsalt"] = "minilm"  # the same picture is the same file
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = figure.subplots()
    for name, label, color in (
        ("slim", "stories, before fine-tuning", "blue"),
        ("slim-docs", "documentation, after", "orange"),
    ):
        rows = zoo.figures(name)["thresholds"]
        axes.plot(
            [r["threshold"] for r in rows], [r["mean_tokens"] for r in rows], "o-", color=COLORS[color], label=label
        )
    axes.axhline(120, color="#999999", linestyle=":")
    axes.text(0.8, 120, "the most that is allowed", color="#666666", ha="right", va="bottom")
    axes.set(xlabel="confidence threshold", ylabel="tokens written, mean of 20 texts", ylim=(0, 132))
    axes.legend(frameon=False, loc="center right")
    figure.savefig(file, metadata={"Date": None, "Title": "Tokens written against the confidence threshold"})


# -------------------------------------------------------------------------------------------------- mixtures of experts


def measure_bilingual(model: LanguageModel, tokenizer: BPETokenizer, given: argparse.Namespace) -> Figures:
    """Distance to the floor on test stories of both languages, and how evenly the experts are used on them."""
    size = SIZES[given.name]
    texts = test_stories(size, given.stories)
    report = story_report(model, tokenizer, texts, size)
    found: Figures = {
        "active_parameters": model.num_parameters(active=True),
        "stories": report.stories,
        "floor_bits": round(report.floor_bits, 2),
        "bits": round(report.bits, 2),
        "excess_nats": round(report.excess, 2),
        "excess_error": round(report.error, 2),
    }
    documents = [tokenizer.encode(text) for text in texts]
    batches = held_out_batches(documents, tokenizer.special_tokens["<end>"])
    return found | experts_in(model, batches) | twin_of(given.name)


@torch.no_grad()
def measure_sample_routed(model: LanguageModel, tokenizer: BPETokenizer, given: argparse.Namespace) -> Figures:
    """Loss on the token after each window of test stories, and how evenly the experts are used on these windows."""
    size, width, end = SIZES[given.name], model.config.context_length, tokenizer.special_tokens["<end>"]
    texts = test_stories(size, given.stories)
    row = torch.tensor([token for text in texts for token in (*tokenizer.encode(text), end)])
    windows, targets = row[:-1].unfold(0, width, 1), row[width:]
    batches = [Batch(ids, after[:, None]) for ids, after in zip(windows.split(256), targets.split(256), strict=True)]
    logits = torch.cat([model(batch.ids)[:, -1] for batch in batches])
    losses = F.cross_entropy(logits, targets, reduction="none").double()
    floor = sum(map(stories.grammar(size).bits, texts)) * math.log(2) / len(row)
    found: Figures = {
        "active_parameters": model.num_parameters(active=True),
        "parameters_by_dlib": model.num_parameters("dlib"),
        "stories": len(texts),
        "windows": len(targets),
        "loss": round(losses.mean().item(), 3),
        "loss_error": round(losses.std().item() / len(losses) ** 0.5, 3),
        "floor_loss": round(floor, 3),
        "accuracy": round((logits.argmax(dim=-1) == targets).double().mean().item(), 3),
    }
    return found | experts_in(model, batches) | twin_of(given.name)


def experts_in(model: LanguageModel, batches: list[Batch]) -> Figures:
    """Per layer: each expert's share of the choices, their CV, their entropy in nats (ln E where even)."""
    counts = count_choices(model, batches)
    shares = counts / counts.sum(dim=-1, keepdim=True)
    layers = zip(
        shares.tolist(), coefficient_of_variation(counts).tolist(), usage_entropy(counts).tolist(), strict=True
    )
    return {
        "layers": [
            {"usage": [round(each, 3) for each in usage], "cv": round(cv, 3), "entropy": round(entropy, 3)}
            for usage, cv, entropy in layers
        ]
    }


def twin_of(name: str) -> Figures:
    """Where the unbalanced twin's curve ends: the mean CV over layers on held-out text, beside the model's own."""
    last = {kind: zoo.curve(name, twin=twin)[-1]["expert_cv"] for kind, twin in (("balanced", False), ("twin", True))}
    return {"cv_at_the_end": {kind: round(cv, 3) for kind, cv in last.items()}}


Measure = Callable[[LanguageModel, BPETokenizer, argparse.Namespace], Figures]
MEASURES: dict[str, Measure] = {
    "easy-base": measure_story,
    "easy-chat": measure_answers,
    "story": measure_story,
    "story-recall": measure_story,
    "pupil": measure_pupil,
    "pupil-3": measure_pupil,
    "dlib-char": measure_memory,
    "causal-char": measure_memory,
    "dlib-bpe": measure_memory,
    "mnemos": measure_mnemos,
    "slim": measure_slim,
    "slim-docs": measure_slim,
    "moe-bilingual": measure_bilingual,
    "moe-sample": measure_sample_routed,
}


if __name__ == "__main__":
    main()
