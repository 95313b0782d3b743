"""When to stop writing: a stop token, a stop string, a model that has become unsure, or the number of tokens asked for."""

import codecs
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from minilm.config import Config
from minilm.tokenizer import Tokenizer

StopReason = Literal["eos", "length", "low_confidence", "stop_string"]
Measure = Literal["top1", "entropy"]


def confidence(logits: Float[Tensor, "*batch vocab"], measure: Measure = "top1") -> Float[Tensor, "*batch"]:
    """How sure a model is of the next token, from 0 to 1, by its own distribution: at temperature 1, before anything is refused.

    "top1" is the largest probability; "entropy" is 1 - H / ln V with the entropy H of the distribution: 0 where all V tokens are
    alike, 1 where one is certain. A low value does not mean wrong: after "a girl named" many names are right.
    """
    log_probs = logits.log_softmax(dim=-1)
    if measure == "top1":
        return log_probs.amax(dim=-1).exp()
    if measure != "entropy":
        raise ValueError(f"measure = {measure!r}: choose 'top1' or 'entropy'")
    if logits.shape[-1] == 1:
        return log_probs.exp()[..., 0]  # one token alone is certain
    probs = log_probs.exp()
    # x log x is 0 at x = 0, where the logarithm alone is -inf
    entropy = -(probs * log_probs.clamp(min=-1e9)).sum(dim=-1)
    return (1 - entropy / math.log(logits.shape[-1])).clamp(0, 1)


@dataclass(frozen=True)
class ConfidenceStop(Config):
    """Stop when the model has become unsure (SLiM's dynamic output length; SLiM states the idea, the rule is ours).

    The confidence c_t of each token (see `confidence`) is smoothed, e_t = smoothing * e_(t-1) + (1 - smoothing) * c_t with e_1
    = c_1. Writing stops after token t when t >= min_new_tokens and e was below the threshold at `patience` tokens in a row,
    counted from token min_new_tokens on.

    Threshold 0 never stops. Threshold 1 stops at min_new_tokens: no confidence is enough then, and there is nothing to be
    patient for. A model that finds all tokens alike is stopped after min_new_tokens + patience - 1.
    """

    threshold: float
    patience: int = 3
    smoothing: float = 0.8
    min_new_tokens: int = 8
    measure: Measure = "top1"

    def validate(self) -> None:
        """Check ranges."""
        if not 0 <= self.threshold <= 1:
            raise ValueError(
                f"confidence threshold = {self.threshold}: it is compared with a confidence, from 0 (never stops) to 1"
            )
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"confidence smoothing = {self.smoothing}: it must be at least 0 (no memory) and below 1")
        for name in ("patience", "min_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"confidence {name} = {getattr(self, name)}: it must be at least 1")


class ConfidenceWatch:
    """A `ConfidenceStop` at work on one text: told each token's confidence, it says when to stop."""

    def __init__(self, rule: ConfidenceStop) -> None:
        self.rule = rule
        self.tokens = 0
        self.smoothed = 0.0
        self.unsure = 0  # tokens in a row, up to the last one, that were below the threshold

    def should_stop(self, confidence: float) -> bool:
        """Whether to stop after this token."""
        rule = self.rule
        self.tokens += 1
        first = self.tokens == 1
        self.smoothed = confidence if first else rule.smoothing * self.smoothed + (1 - rule.smoothing) * confidence
        if self.tokens < rule.min_new_tokens:
            return False
        if rule.threshold == 1:
            return True
        self.unsure = self.unsure + 1 if self.smoothed < rule.threshold else 0
        return self.unsure >= rule.patience


class TextOut:
    """Tokens in, text out, piece by piece: no piece ever ends within a character, or holds a part of a stop string.

    Bytes of an unfinished character wait for the rest; so does text that may turn out to be the beginning of a stop string.
    All pieces joined, with that of `finish`, are `tokenizer.decode(ids)`, cut before the stop string that is the first to be whole.
    """

    def __init__(self, tokenizer: Tokenizer, stop_strings: Sequence[str] = ()) -> None:
        self.tokenizer = tokenizer
        self.stop_strings = tuple(stop_strings)
        self.stopped_by: str | None = None
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._held = ""  # what may be the beginning of a stop string

    def add(self, token: int) -> str:
        """The text that this token makes safe to show; once a stop string is there, `stopped_by` names it."""
        return self._pass_on(self._decode(self.tokenizer.token_bytes(token)))

    def finish(self) -> str:
        """What was still held back; bytes that never became a character are shown as "�"."""
        if self.stopped_by is not None:
            return ""
        piece = self._pass_on(self._decode(b"", True))
        held, self._held = self._held, ""
        return piece if self.stopped_by is not None else piece + held

    def _pass_on(self, text: str) -> str:
        if not self.stop_strings or not text:
            return text
        text = self._held + text
        found = [(at, stop) for stop in self.stop_strings if (at := text.find(stop)) >= 0]
        if found:
            # The one that is whole first, so that it makes no difference how the text is cut into tokens.
            at, self.stopped_by = min(found, key=lambda pair: (pair[0] + len(pair[1]), pair[0]))
            self._held = ""
            return text[:at]
        held = max(_overlap(text, stop) for stop in self.stop_strings)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text are the beginning of the stop string."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
