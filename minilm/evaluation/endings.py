"""How likely a model finds the end of a text, given its beginning."""

from collections.abc import Sequence
from dataclasses import dataclass

from minilm.evaluation.likelihood import EvaluationError, token_scores
from minilm.generation import Writer
from minilm.model import LanguageModel


@dataclass(frozen=True)
class Ending:
    """ln p of an ending given what stands before it, in nats, and whether greedy decoding would have written it."""

    log_prob: float
    greedy: bool


def score_endings(
    model: LanguageModel, pairs: Sequence[tuple[Sequence[int], int]], pad_token: int | None = None
) -> list[Ending]:
    """Score the last tokens of each sequence: pairs of all ids, and how many of them are the ending.

    Of a sequence longer than the context the beginning is dropped, as far as the ending lets it: every token of the ending is
    read in one window with as much before it as fits.
    """
    width = model.config.context_length
    sequences: list[Sequence[int]] = []
    for ids, count in pairs:
        if not 1 <= count < len(ids):
            raise EvaluationError(
                f"an ending of {count} of {len(ids)} tokens: at least one token has to stand before it, and one in it. "
                "Give a context, or a tokenizer with an end token to stand there"
            )
        sequences.append(ids[-max(width + 1, count + 1) :])
    scored = token_scores(model, sequences, pad_token=pad_token)
    found = []
    for (_, count), scores in zip(pairs, scored, strict=True):
        if len(scores.log_probs) < count:
            raise EvaluationError(
                f"a {model.config.head.kind!r} head scores a token after {width} others only: give longer contexts"
            )
        found.append(Ending(float(scores.log_probs[-count:].sum()), bool(scores.likeliest[-count:].all())))
    return found


def shared_length(context: Sequence[int], whole: Sequence[int]) -> int:
    """How many tokens both begin with; at least one of the whole is left."""
    count = 0
    while count < min(len(context), len(whole) - 1) and context[count] == whole[count]:
        count += 1
    return count


def context_and_ending(writer: Writer, context: str, ending: str) -> tuple[list[int], int]:
    """The ids of context + ending, and how many of them are the ending.

    Both are encoded together, since tokens may form across the seam; what differs from the tokens of the context alone belongs to
    the ending. White space at the end of the context goes to the ending first: tokens begin with their space.
    """
    kept = context.rstrip()
    whole = writer.encode(context + ending)
    return whole, len(whole) - shared_length(writer.encode(kept), whole)
