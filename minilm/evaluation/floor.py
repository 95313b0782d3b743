"""How far a model is from the lowest loss that is possible: its distance to the story grammar's exact entropy.

For a story x with true probability p(x) the model's excess is ln p(x) - ln q(x) nats. Its mean over stories drawn from the grammar
estimates the Kullback-Leibler divergence KL(p || q), which is never below 0: a model that comes out below by more than
chance has seen what it should not have.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from minilm.data import stories
from minilm.evaluation.likelihood import EvaluationError, TextScore, log_likelihoods
from minilm.model import LanguageModel
from minilm.tokenizer import Tokenizer

Verdict = Literal["above the floor", "at the floor", "below the floor: a leak"]
FORCED = 1e-9  # a character with fewer bits than this is the only one that could have come


@dataclass(frozen=True)
class StoryTokens:
    """One story token by token: the text of each, the model's nats, the grammar's nats, and whether the grammar had a choice in it.

    The end of the story is the last token. `true` are the nats of the token's characters, which add up to those of the story
    whatever the tokens are.
    """

    tokens: list[str]
    model: Float[Tensor, "tokens"]
    true: Float[Tensor, "tokens"]
    choice: list[bool]

    @property
    def excess(self) -> Float[Tensor, "tokens"]:
        """Nats above the grammar's, token by token. Single ones may be below 0; the mean over stories is not."""
        return self.model - self.true


@dataclass(frozen=True)
class StoryReport:
    """Where a model stands above the floor. Nats a story unless another unit is said; `print` it for a table.

    A token is a choice if the grammar could have gone on otherwise in at least one of its characters; all others are forced: the
    text before decides them (spelling, copying, recall, a sum), and whoever understood it would pay nothing. Where a token straddles
    a choice and what follows from it, all its nats go to the choice, so `forced_excess` is, if anything, too low.
    """

    size: str
    tokenizer: str
    stories: int
    tokens: int
    choice_tokens: int
    characters: int
    text_bytes: int
    longer_than_context: int
    model: float  # -ln q a story
    floor: float  # -ln p a story, of these stories
    excess: float  # their difference
    error: float  # standard error of the excess, over stories, each paired with its own floor
    choice_excess: float
    choice_error: float
    forced_excess: float
    forced_error: float

    @property
    def bits(self) -> float:
        """The model's bits a story."""
        return self.model / math.log(2)

    @property
    def floor_bits(self) -> float:
        """The grammar's bits a story, of these stories."""
        return self.floor / math.log(2)

    @property
    def excess_per_token(self) -> float:
        """Nats above the floor a token: comparable between models with the same tokenizer only."""
        return self.excess * self.stories / self.tokens

    @property
    def loss(self) -> float:
        """The model's nats a token."""
        return self.model * self.stories / self.tokens

    @property
    def floor_per_token(self) -> float:
        """The lowest loss a token that is possible with this tokenizer, on these stories."""
        return self.floor * self.stories / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """The model's bits a byte, the end of a story counting as one."""
        return self.bits * self.stories / self.text_bytes

    @property
    def floor_bits_per_byte(self) -> float:
        """The lowest bits a byte that are possible."""
        return self.floor_bits * self.stories / self.text_bytes

    @property
    def leak(self) -> bool:
        """Whether the model is below the floor by more than 3 standard errors, which an honest one cannot be."""
        return self.excess < -3 * self.error - 1e-6 * self.floor  # the last part is rounding

    @property
    def verdict(self) -> Verdict:
        """Above the floor, at it (within 3 standard errors), or below it, which is impossible without a leak."""
        if self.leak:
            return "below the floor: a leak"
        return "above the floor" if self.excess > 3 * self.error + 1e-6 * self.floor else "at the floor"

    def __str__(self) -> str:
        share = self.choice_tokens / self.tokens
        lines = [
            f"{self.stories:,} {self.size} stories, {self.tokens:,} tokens by {self.tokenizer}",
            f"{'':<24}{'model':>10}{'floor':>10}{'above':>10}",
            f"{'bits a story':<24}{self.bits:>10.2f}{self.floor_bits:>10.2f}{self.bits - self.floor_bits:>10.2f}",
            f"{'nats a story':<24}{self.model:>10.2f}{self.floor:>10.2f}{self.excess:>10.2f} +- {self.error:.2f}",
            f"{'  in choices':<24}{'':>20}{self.choice_excess:>10.2f} +- {self.choice_error:.2f}   {share:.0%} of tokens",
            f"{'  in what is forced':<24}{'':>20}{self.forced_excess:>10.2f} +- {self.forced_error:.2f}   {1 - share:.0%} of tokens",
            f"{'nats a token':<24}{self.loss:>10.4f}{self.floor_per_token:>10.4f}{self.excess_per_token:>10.4f}",
            f"{'bits a byte':<24}{self.bits_per_byte:>10.4f}{self.floor_bits_per_byte:>10.4f}{self.bits_per_byte - self.floor_bits_per_byte:>10.4f}",
            f"verdict: {self.verdict}",
        ]
        if self.longer_than_context:
            lines.append(
                f"{self.longer_than_context} of the stories are longer than the model's context, so part of the excess is forgetting"
            )
        return "\n".join(lines)


def story_tokens(
    model: LanguageModel, tokenizer: Tokenizer, texts: Sequence[str], size: str = "medium", *, stride: int | None = None
) -> list[StoryTokens]:
    """Each story token by token beside the truth. EvaluationError for a text that the grammar cannot print, saying where it leaves."""
    if isinstance(texts, str):
        raise TypeError("texts is one text: put it in a list")
    bits = [_surprisals(size, text, number) for number, text in enumerate(texts)]
    scores = log_likelihoods(model, tokenizer, texts, stride=stride)
    found = []
    for text, surprisals, score in zip(texts, bits, scores, strict=True):
        ends = character_ends(tokenizer, text, score)
        starts = [0, *ends[:-1]]
        parts = [surprisals[start:end] for start, end in zip(starts, ends, strict=True)]
        found.append(
            StoryTokens(
                tokens=[*(text[start:end] for start, end in zip(starts[:-1], ends[:-1], strict=True)), stories.END],
                model=-score.log_probs,
                true=torch.tensor([math.fsum(part) for part in parts], dtype=torch.float64) * math.log(2),
                choice=[any(each > FORCED for each in part) for part in parts],
            )
        )
    return found


def story_report(
    model: LanguageModel, tokenizer: Tokenizer, texts: Sequence[str], size: str = "medium", *, stride: int | None = None
) -> StoryReport:
    """How far a model is above the exact floor on stories of a size, split into choices and what they force.

    `texts` are whole stories that the model was not trained on (`stories.generate(size, n, split="validation")`). The error is
    that of the mean over these stories; of each, the floor is exact.

    Raises EvaluationError for fewer than two stories, for a text that is none of this size (saying where it leaves the grammar),
    and for a tokenizer without an end token: the end of a story is part of it.
    """
    if len(texts) < 2:
        raise EvaluationError(f"a standard error needs at least 2 stories, not {len(texts)}")
    scored = story_tokens(model, tokenizer, texts, size, stride=stride)
    model_nats = [float(each.model.sum()) for each in scored]
    excess = [float(each.excess.sum()) for each in scored]
    choice = [float(each.excess[torch.tensor(each.choice)].sum()) for each in scored]
    forced = [whole - part for whole, part in zip(excess, choice, strict=True)]
    return StoryReport(
        size=size,
        tokenizer=repr(tokenizer),
        stories=len(texts),
        tokens=sum(len(each.tokens) for each in scored),
        choice_tokens=sum(sum(each.choice) for each in scored),
        characters=sum(len(text) + 1 for text in texts),
        text_bytes=sum(len(text.encode()) + 1 for text in texts),
        longer_than_context=sum(len(each.tokens) > model.config.context_length for each in scored),
        model=_mean(model_nats),
        floor=_mean(model_nats) - _mean(excess),
        excess=_mean(excess),
        error=standard_error(excess),
        choice_excess=_mean(choice),
        choice_error=standard_error(choice),
        forced_excess=_mean(forced),
        forced_error=standard_error(forced),
    )


@lru_cache(maxsize=2000)
def _known_surprisals(size: str, text: str) -> tuple[float, ...]:
    """The grammar's bits of every character and of the end: the same stories are measured on again and again."""
    return tuple(stories.grammar(size).surprisals(text))


def _surprisals(size: str, text: str, number: int) -> tuple[float, ...]:
    bits = _known_surprisals(size, text)
    if all(map(math.isfinite, bits)):
        return bits
    place = next(t for t, each in enumerate(bits) if not math.isfinite(each))
    written = repr(text[place : place + 12]) if place < len(text) else "its end"
    raise EvaluationError(
        f"text {number} is no {size} story: after {text[max(0, place - 30) : place]!r} the grammar can't go on with {written}. "
        "The floor is known for whole stories of the named size only"
    )


def character_ends(tokenizer: Tokenizer, text: str, score: TextScore) -> list[int]:
    """Where each scored token ends in the text, in characters; the end token, which must be the last, ends one place after it.

    A character of several bytes belongs to the token that holds its first byte.
    """
    special = set(tokenizer.special_tokens.values())
    if not score.ids or score.ids[-1] not in special:
        raise EvaluationError(
            "the end of a story is part of it, and this tokenizer has no end token: train one with special_tokens=['<end>']"
        )
    starts = list(accumulate((len(character.encode()) for character in text), initial=0))  # in bytes, and the end
    lengths = [len(tokenizer.token_bytes(token)) for token in score.ids[:-1]]
    if sum(lengths) != starts[-1]:
        raise EvaluationError(
            f"the tokens stand for {sum(lengths)} bytes and the text has {starts[-1]}: its first tokens were not scored"
        )
    ends, place, character = [], 0, 0
    for length in lengths:
        place += length
        while starts[character] < place:  # characters whose first byte lies before the token's end
            character += 1
        ends.append(character)
    return [*ends, len(text) + 1]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def standard_error(values: Sequence[float]) -> float:
    """The standard error of the mean of independent values."""
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
