"""What a training run is measured on: text that it does not train on, and samples that show what it writes by now."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from minilm.cli.corpus import Corpus, validation_stories
from minilm.data import stories
from minilm.generation import Sampling, Writer
from minilm.model import LanguageModel
from minilm.tokenizer import Tokenizer
from minilm.training import Batch, DocumentBatches, cross_entropy

Evaluate = Callable[[LanguageModel], dict[str, float]]

MOST_TOKENS = 40_000  # an evaluation reads no more than this, so that it takes a few per cent of a run
STORIES = 200
BATCH = 16
WRITTEN = 60  # tokens of a sample


def split_tail(
    corpus: Corpus, share: float, length: int
) -> tuple[npt.NDArray[np.unsignedinteger], npt.NDArray[np.unsignedinteger]]:
    """The tokens to train on and the tail to measure on; the tail is empty where the text is too short to spare a window."""
    tail = int(len(corpus.tokens) * share)
    if tail <= length or len(corpus.tokens) - tail <= length:
        return corpus.tokens, corpus.tokens[:0]
    return corpus.tokens[:-tail], corpus.tokens[-tail:]


def measure_stories(corpus: Corpus, tokenizer: Tokenizer, size: str) -> Evaluate:
    """Loss on stories of the validation split, and how many bits a story it lies above what is possible."""
    texts = validation_stories(size, STORIES)
    floor = sum(stories.grammar(size).bits(text) for text in texts) / len(texts)
    documents = [tokenizer.encode(text) for text in texts]

    def evaluate(model: LanguageModel) -> dict[str, float]:
        batches = DocumentBatches(documents, BATCH, corpus.end_id, max_length=model.config.context_length)
        nats, tokens = total_loss(model, (next(batches) for _ in range(len(batches))))
        bits = nats / math.log(2) / len(texts)
        return {"held_out_loss": nats / tokens, "bits_per_story": bits, "bits_above_floor": bits - floor}

    return evaluate


def measure_windows(tail: npt.NDArray[np.unsignedinteger], tokenizer: Tokenizer, length: int) -> Evaluate | None:
    """Loss in nats a token and in bits a byte on windows side by side in the tail; None where it has no window.

    Bits a byte do not depend on how text is cut into tokens, so that runs with different vocabularies compare.
    """
    if len(tail) <= length:
        return None
    starts = range(0, min(len(tail) - length, MOST_TOKENS), length)
    rows = torch.from_numpy(np.stack([tail[start : start + length + 1] for start in starts]).astype(np.int64))
    special = set(tokenizer.special_tokens.values())
    widths = [0 if token in special else len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)]
    table = torch.tensor(widths)

    def evaluate(model: LanguageModel) -> dict[str, float]:
        targets = rows[:, 1:] if model.config.head.kind == "per_token" else rows[:, -1:]
        starts = range(0, len(rows), BATCH)
        batches = (Batch(rows[at : at + BATCH, :-1], targets[at : at + BATCH]) for at in starts)
        nats, tokens = total_loss(model, batches)
        size = int(table[targets].sum())
        return {"held_out_loss": nats / tokens, "bits_per_byte": nats / math.log(2) / max(size, 1)}

    return evaluate


def total_loss(model: LanguageModel, batches: Iterator[Batch]) -> tuple[float, int]:
    """The loss of all targets together, in nats, and how many they are."""
    device = next(model.parameters()).device
    nats, tokens = 0.0, 0
    for batch in batches:
        batch = batch.to(device)
        targets: Tensor = batch.targets
        nats += float(cross_entropy(model(batch.ids), targets, reduction="sum"))
        tokens += int((targets >= 0).sum())
    return nats, tokens


def sampler(tokenizer: Tokenizer, prompt: str, seed: int) -> Callable[[LanguageModel], str]:
    """What the model writes after the prompt."""

    def sample(model: LanguageModel) -> str:
        written = Writer(model, tokenizer).write(prompt, WRITTEN, Sampling(temperature=0.8, top_p=0.95), seed=seed)
        return prompt + (written.text or "")

    return sample
