"""Text that leaves the grammar: how much of what a model writes no story says, where it leaves, and what kind of error that is.

On other text, "hallucination" is a matter of judgement. Here it is exact: the grammar can print a text or it can't.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from minilm.data import stories
from minilm.data.stories.engine import Draw, DrawNumber, Grammar, Held, Node, Recall
from minilm.evaluation.likelihood import EvaluationError
from minilm.generation import Sampling, Writer
from minilm.model import LanguageModel
from minilm.tokenizer import Tokenizer

ErrorKind = Literal["recall", "sum", "pronoun", "word", "wording", "ending", "form"]

KINDS: dict[ErrorKind, str] = {
    "recall": "says another name or thing than the story said before",
    "sum": "calculates wrong",
    "pronoun": "the wrong pronoun for a character",
    "word": "a word that can't stand here: unknown, of another list, or already taken in this story",
    "wording": "a fixed turn of phrase broken",
    "ending": "ends before the story does",
    "form": "the wrong form of a word told before (article, plural, agreement)",
}
"""What can go wrong where a text leaves the grammar."""

PRONOUN_FORMS = frozenset({"they", "them", "their", "theirs", "themself", "il", "lui", "le", "son", "mon", "ton"})


@dataclass(frozen=True)
class Departure:
    """Where a text leaves the grammar: text[:place] begins some story, and no story goes on as the text does.

    `expected` is what the grammar would most likely have printed there, from `start` on, and `written` what stands there instead.
    `fact` is the name of the fact that was recalled, where one was.
    """

    place: int
    kind: ErrorKind
    start: int
    expected: str
    written: str
    fact: str | None = None


def departure(grammar: Grammar, text: str, ended: bool = True) -> Departure | None:
    """Where and how a text leaves the grammar, or None if it doesn't.

    `ended`: the text is meant to be whole. Otherwise it may stop anywhere, and only what it says can be wrong.
    The kind is that of what the grammar would most probably have printed at the place.
    """
    after = grammar.next_char_along(text)
    place = next((t for t, c in enumerate(text) if c not in after[t]), None)
    if place is None:
        if not ended or stories.END in after[len(text)]:
            return None
        place = len(text)
    if place < len(text) and set(after[place]) == {stories.END}:
        return Departure(place, "wording", place, "", text[place : place + 20])
    kinds, pieces = _expectations(grammar, text, place)
    if not kinds:  # only the end could come, besides what was written
        return Departure(place, "wording", place, "", text[place : place + 20])
    (kind, fact, start), _ = max(kinds.items(), key=lambda item: item[1])
    expected = max(pieces[kind, fact, start].items(), key=lambda item: item[1])[0]
    if place == len(text):
        kind, fact = "ending", None
    return Departure(place, kind, start, expected, _word_at(text, start, place), fact)


_Where = tuple[ErrorKind, str | None, int]


def _expectations(
    grammar: Grammar, text: str, place: int
) -> tuple[dict[_Where, float], dict[_Where, dict[str, float]]]:
    """What the grammar could print at a place after the text before it: probability by kind, and the pieces."""
    kinds: dict[_Where, float] = {}
    pieces: dict[_Where, dict[str, float]] = {}
    agenda: list[tuple[Node | None, Held, int, float]] = [(grammar.start, {}, 0, 1.0)]
    while agenda:
        node, held, position, probability = agenda.pop()
        if node is None:
            continue
        for branch in node.branches(held):
            p, end = probability * branch.probability, position + len(branch.piece)
            if end <= place:
                if text.startswith(branch.piece, position):
                    agenda.append((branch.next, branch.held, end, p))
            elif text[position:place] == branch.piece[: place - position]:
                kind, fact = _kind(node)
                where = (kind, fact, position)
                kinds[where] = kinds.get(where, 0.0) + p
                likely = pieces.setdefault(where, {})
                likely[branch.piece] = likely.get(branch.piece, 0.0) + p
    return kinds, pieces


def _kind(node: Node) -> tuple[ErrorKind, str | None]:
    if isinstance(node, Recall):
        if node.total is not None:
            return "sum", node.name
        if node.printer.form in PRONOUN_FORMS:
            return "pronoun", node.name
        if node.printer.form or node.printer.agree:
            return "form", node.name
        return "recall", node.name
    if isinstance(node, Draw | DrawNumber):
        return "word", node.name or None
    return "wording", None


def _word_at(text: str, start: int, place: int) -> str:
    """What the text has from `start` to the end of the word at `place`."""
    end = place
    while end < len(text) and (text[end].isalnum() or end == place):
        end += 1
    return text[start:end]


@dataclass(frozen=True)
class Written:
    """One text that a model wrote: whether it came to an end by itself, and where it left the grammar, if it did."""

    text: str
    ended: bool
    departure: Departure | None


@dataclass(frozen=True)
class GrammarReport:
    """How much of what a model writes leaves the grammar. `print` it for a table."""

    size: str
    sampling: Sampling
    written: list[Written]

    @property
    def off(self) -> int:
        """How many texts left the grammar."""
        return sum(each.departure is not None for each in self.written)

    @property
    def unfinished(self) -> int:
        """How many did not come to an end in the tokens they had, and were right so far."""
        return sum(each.departure is None and not each.ended for each in self.written)

    @property
    def share(self) -> float:
        """The share of texts that left the grammar."""
        return self.off / len(self.written)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the share (Wilson)."""
        return wilson_interval(self.off, len(self.written))

    @property
    def kinds(self) -> dict[ErrorKind, int]:
        """How many of each kind of error, the commonest first."""
        return dict(Counter(each.departure.kind for each in self.written if each.departure).most_common())

    @property
    def characters_per_departure(self) -> float:
        """Characters on the grammar for each departure: how far the model gets. Infinite without one."""
        right = sum(each.departure.place if each.departure else len(each.text) for each in self.written)
        return right / self.off if self.off else math.inf

    def __str__(self) -> str:
        low, high = self.interval
        lines = [
            f"{len(self.written)} texts written on {self.size} stories, {_settings(self.sampling)}",
            f"off the grammar: {self.off} of {len(self.written)} = {self.share:.1%}   (95 % interval {low:.1%} to {high:.1%})",
        ]
        if self.unfinished:
            lines.append(f"right so far, but not at an end: {self.unfinished}")
        if self.off:
            lines.append(f"one departure in {self.characters_per_departure:,.0f} characters")
        for kind, count in self.kinds.items():
            example = next(e.departure for e in self.written if e.departure and e.departure.kind == kind)
            lines.append(
                f"  {count:>4} {kind:<8} {KINDS[kind]}: {_short(example.written)} for {_short(example.expected)}"
            )
        return "\n".join(lines)


def _settings(sampling: Sampling) -> str:
    parts = [f"temperature {sampling.temperature:g}"]
    parts += [
        f"{name} {value:g}" for name in ("top_k", "top_p", "min_p") if (value := getattr(sampling, name)) is not None
    ]
    return ", ".join(parts)


def _short(text: str, most: int = 40) -> str:
    return repr(text if len(text) <= most else text[: most - 1] + "…")


def off_grammar_share(
    model: LanguageModel,
    tokenizer: Tokenizer,
    size: str = "medium",
    n: int = 100,
    *,
    sampling: Sampling | None = None,
    prompts: Sequence[str] = (),
    max_new_tokens: int | None = None,
    seed: int = 0,
) -> GrammarReport:
    """Let the model write `n` texts, or one after each prompt, and count those that no story of this size says.

    `sampling` None is the model's own distribution (temperature 1). A text has `max_new_tokens` to end in (by default, as many
    as fit the model's context); one that didn't end counts as off only if it had left the grammar by then. With the same
    seed, text i draws the same random numbers under any sampling, so settings compare on the same chances.

    Raises EvaluationError for a tokenizer without an end token, and for a prompt that begins no story of this size.
    """
    writer = Writer(model, tokenizer)
    if writer.end_id is None:
        raise EvaluationError("this tokenizer has no end token, so no text would ever be whole: train one with <end>")
    if n < 1:
        raise EvaluationError(f"n = {n}: at least one text must be written")
    grammar = stories.grammar(size)
    for prompt in prompts:
        if departure(grammar, prompt, ended=False):
            raise EvaluationError(f"no {size} story begins with the prompt {_short(prompt)}")
    sampling = sampling or Sampling()
    starts = list(prompts) or [""] * n
    longest = max(len(writer.encode(start)) for start in starts)
    room = max_new_tokens or max(1, model.config.context_length - longest)
    written = writer.write_batch(starts, room, sampling, seed=seed)
    found = []
    for start, each in zip(starts, written, strict=True):
        text, ended = start + (each.text or ""), each.stop_reason == "eos"
        found.append(Written(text, ended, departure(grammar, text, ended)))
    return GrammarReport(size, sampling, found)


def wilson_interval(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The confidence interval of a share (Wilson 1927): unlike the usual one it makes sense at 0 and at n of n.

    >>> low, high = wilson_interval(0, 20)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.161)
    """
    if not 0 <= successes <= n or n < 1:
        raise EvaluationError(f"{successes} of {n} is no share")
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)
