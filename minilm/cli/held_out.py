"""What a training run is measured on: text that it does not train on, and samples that show what it writes by now."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minilm.cli.corpus import Corpus
from minilm.data import stories
from minilm.data.puzzles import Sums, forgetful, problems
from minilm.evaluation import log_likelihoods, token_log_probs
from minilm.evaluation.likelihood import reads_whole_window
from minilm.generation import Sampling, Writer, generate
from minilm.model import LanguageModel
from minilm.tokenizer import Tokenizer

Tokens = npt.NDArray[np.unsignedinteger]
Evaluate = Callable[[LanguageModel], dict[str, float]]

STORIES = 100
SUMS = 300
MOST_TOKENS = 8_000  # of running text, so that an evaluation takes little of a run's time
MOST_WINDOWS = 500  # the same for models that need a window for each token
WRITTEN = 60  # tokens of a sample
SHOWN = 60  # characters of its prompt


def split_tail(corpus: Corpus, share: float, length: int) -> tuple[Tokens, Tokens]:
    """The tokens to train on, and the tail to measure on: empty where the text is too short to spare a window."""
    tail = int(len(corpus.tokens) * share)
    if tail <= length or len(corpus.tokens) - tail <= length:
        return corpus.tokens, corpus.tokens[:0]
    return corpus.tokens[:-tail], corpus.tokens[-tail:]


def measure_stories(tokenizer: Tokenizer, size: str) -> Evaluate:
    """Loss on stories of the validation split, and how many bits a story it lies above the grammar's entropy."""
    texts = stories.generate(size, STORIES, seed=1, split="validation")
    floor = sum(stories.grammar(size).bits(text) for text in texts) / len(texts)

    def evaluate(model: LanguageModel) -> dict[str, float]:
        scores = log_likelihoods(model, tokenizer, texts)
        nats = -sum(score.log_likelihood for score in scores)
        bits = nats / math.log(2) / len(texts)
        tokens = sum(len(score.ids) for score in scores)
        return {"held_out_loss": nats / tokens, "bits_per_story": bits, "bits_above_floor": bits - floor}

    return evaluate


def measure_class(tokenizer: Tokenizer, digits: int) -> Evaluate:
    """The shares of held-out sums that are answered rightly, and as who forgets to carry; sums where both is one count twice."""
    task, end = Sums(digits), tokenizer.special_tokens["<end>"]
    asked = problems(task, SUMS, "validation")
    prompts = [[end, *tokenizer.encode(problem.prompt)] for problem in asked]

    def evaluate(model: LanguageModel) -> dict[str, float]:
        sampling = Sampling(temperature=0)
        written = generate(model, prompts, digits + 2, sampling, stop_tokens=[end], tokenizer=tokenizer)
        pairs = list(zip(asked, [each.text or "" for each in written], strict=True))
        right = sum(task.verify(problem, text).correct for problem, text in pairs)
        return {
            "right": right / len(pairs),
            "forgetful": sum(text == forgetful(problem) for problem, text in pairs) / len(pairs),
        }

    return evaluate


def measure_tail(tail: Tokens, tokenizer: Tokenizer) -> Evaluate:
    """Loss in nats a token and in bits a byte on the beginning of the tail, each token with half a context before it or more.

    Bits a byte do not depend on how text is cut into tokens, so that runs with different vocabularies compare.
    """
    special = set(tokenizer.special_tokens.values())

    def evaluate(model: LanguageModel) -> dict[str, float]:
        most = MOST_WINDOWS + model.config.context_length if reads_whole_window(model) else MOST_TOKENS
        ids = tail[:most].tolist()
        scores = token_log_probs(model, [ids])[0]
        scored = ids[len(ids) - len(scores) :]
        size = sum(len(tokenizer.token_bytes(token)) for token in scored if token not in special)
        nats = -float(scores.sum())
        return {"held_out_loss": nats / len(scored), "bits_per_byte": nats / math.log(2) / max(size, 1)}

    return evaluate


def watch_experts(evaluate: Evaluate, batches: Sequence[Tensor], padding: int | None = None) -> Evaluate:
    """The same, and how evenly a mixture uses its experts on these batches: `expert_cv`, the mean over layers of their loads' CV."""
    from minilm.moe import moe_report

    def watched(model: LanguageModel) -> dict[str, float]:
        return {**evaluate(model), "expert_cv": moe_report(model, batches, ignore_id=padding).cv}

    return watched


def story_batches(tokenizer: Tokenizer, size: str, end: int) -> list[Tensor]:
    """The stories of `measure_stories` as rows of tokens, filled up with the end token."""
    rows = [
        torch.tensor(tokenizer.encode(text)) for text in stories.generate(size, STORIES, seed=1, split="validation")
    ]
    return [pad_sequence(rows[start : start + 20], True, end) for start in range(0, STORIES, 20)]


def tail_batches(tail: Tokens, model: LanguageModel) -> list[Tensor]:
    """Windows of the tail side by side, or for a model that reads whole windows as many as it is measured on, spread over it."""
    length = model.config.context_length
    windows = torch.from_numpy(tail.astype(np.int64)).unfold(0, length, 1)
    if reads_whole_window(model):
        chosen = windows[:: max(1, len(windows) // MOST_WINDOWS)]
    else:
        chosen = windows[::length][: MOST_TOKENS // length + 1]
    return list(chosen.split(64))  # type: ignore[no-untyped-call]


def sampler(tokenizer: Tokenizer, prompt: str, seed: int) -> Callable[[LanguageModel], str]:
    """What the model writes after the prompt, on one line and without characters that would steer a terminal."""
    start = f"...{prompt[-SHOWN:]}" if len(prompt) > SHOWN else prompt

    def sample(model: LanguageModel) -> str:
        written = Writer(model, tokenizer).write(prompt, WRITTEN, Sampling(temperature=0.8, top_p=0.95), seed=seed)
        line = " ".join(f"{start}{written.text or ''}".split())
        return "  it writes: " + "".join(char if char.isprintable() else "\ufffd" for char in line)

    return sample
