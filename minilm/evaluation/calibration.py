"""Is a model as sure as it is right? Of all it gives 70 %, do 70 % come true?

On stories there is more to ask: the true probability of the next token is known, so that a model's 0.3 can be held against it
directly, without waiting for what comes true.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from minilm.data import stories
from minilm.data.stories.engine import Grammar, Held, Node
from minilm.evaluation.floor import FORCED
from minilm.evaluation.likelihood import EvaluationError, as_sequence, only_reading
from minilm.generation.writer import END_TOKENS
from minilm.model import LanguageModel
from minilm.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer, pre_tokenize


@dataclass(frozen=True)
class Bin:
    """The predictions of one stretch of probability: how many, what they said on average, and what was true on average."""

    count: int
    said: float
    true: float


@dataclass(frozen=True)
class Calibration:
    """A reliability curve and its error; `print` it for a table.

    `error` (ECE) is the mean distance of `said` and `true` over the bins, each weighted with its count; `bias` the mean of
    said - true: above 0, the model is surer than it should be.
    """

    bins: list[Bin]

    @property
    def count(self) -> int:
        """All predictions."""
        return sum(each.count for each in self.bins)

    @property
    def error(self) -> float:
        """The expected calibration error."""
        return sum(each.count * abs(each.said - each.true) for each in self.bins) / self.count

    @property
    def bias(self) -> float:
        """Mean of said - true."""
        return sum(each.count * (each.said - each.true) for each in self.bins) / self.count

    def __str__(self) -> str:
        lines = [f"{'said':>8}{'true':>8}{'predictions':>14}"]
        lines += [f"{each.said:>8.3f}{each.true:>8.3f}{each.count:>14,}" for each in self.bins]
        lines.append(f"calibration error {self.error:.4f}, bias {self.bias:+.4f}")
        return "\n".join(lines)


def calibrate(
    said: Float[Tensor, "predictions"],
    true: Float[Tensor, "predictions"] | Bool[Tensor, "predictions"],
    bins: int = 10,
    *,
    equal_counts: bool = False,
) -> Calibration:
    """Put predictions into bins by what they said, and compare with what was true: 0 or 1 for what happened, or a true probability.

    The bins are equally wide from 0 to 1, or with `equal_counts` hold about equally many predictions. Empty ones are left out.
    """
    said, true = said.double().flatten(), true.double().flatten()
    if len(said) != len(true) or not len(said):
        raise EvaluationError(f"{len(said)} predictions and {len(true)} outcomes: one of each, and at least one")
    if bins < 1:
        raise EvaluationError(f"bins = {bins}: at least one")
    for name, values in (("said", said), ("true", true)):
        if not bool(((values >= 0) & (values <= 1 + 1e-6)).all()):
            raise EvaluationError(f"{name} holds something that is no probability: between 0 and 1")
    if equal_counts:
        order = said.argsort()
        groups = [part for part in order.tensor_split(bins) if len(part)]
    else:
        numbers = (said * bins).long().clamp(0, bins - 1)
        groups = [part for b in range(bins) if len(part := (numbers == b).nonzero().flatten())]
    return Calibration([Bin(len(g), float(said[g].mean()), float(true[g].mean())) for g in groups])


def token_calibration(
    model: LanguageModel, tokenizer: Tokenizer, texts: Iterable[str], bins: int = 10, *, max_tokens: int | None = None
) -> Calibration:
    """How sure the model is of its likeliest next token, beside how often that token comes: every position of some texts.

    Texts longer than the context are cut at it.
    """
    said: list[Tensor] = []
    true: list[Tensor] = []
    for text in texts:
        ids = as_sequence(model, tokenizer, text)[: model.config.context_length + 1]
        if len(ids) < 2:
            continue
        probabilities = next_token_probabilities(model, ids[:-1])
        best = probabilities.max(dim=-1)
        said.append(best.values)
        true.append(best.indices == torch.tensor(ids[1:]))
        if max_tokens is not None and sum(map(len, said)) >= max_tokens:
            break
    if not said:
        raise EvaluationError("there is no text to measure on")
    return calibrate(torch.cat(said), torch.cat(true), bins)


def next_token_probabilities(model: LanguageModel, ids: Sequence[int]) -> Float[Tensor, "seq vocab"]:
    """The model's distribution after each token of a sequence no longer than its context."""
    if len(ids) > model.config.context_length:
        raise EvaluationError(f"{len(ids)} tokens are more than the model's context of {model.config.context_length}")
    if model.config.head.kind != "per_token":
        raise EvaluationError("a flat head predicts after a whole window only: ask it with minilm.generation.Reader")
    with only_reading(model):
        device = next(model.parameters()).device
        return model(torch.tensor([list(ids)], device=device))[0].float().softmax(-1).cpu()  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------------ against the known truth


def true_next_tokens(grammar: Grammar, tokenizer: Tokenizer, prefix: str) -> dict[int, float]:
    """The exact probability of every next token after the tokens of a story's beginning, the end token included.

    It is that of the tokens seen, not of the letters: after the tokens " made" and " a" the next can't be an "n", where " an" is a
    token of its own. So words are told apart, as the tokenizer cuts them, and each word's probability goes to its next token: the
    last word of the prefix may be whole, or the beginning of a longer one whose tokens begin alike.

    EvaluationError if no story begins with the prefix, or none is cut there, or the tokenizer has no end token.
    """
    end_id = next((tokenizer.special_tokens[name] for name in END_TOKENS if name in tokenizer.special_tokens), None)
    if end_id is None:
        raise EvaluationError("this tokenizer has no end token, so it cannot say that a story ends")
    found: dict[int, float] = {}

    def add(token: int, probability: float) -> None:
        found[token] = found.get(token, 0.0) + probability

    whole = 1.0
    if prefix and _cuts_words(tokenizer):
        last = pre_tokenize(prefix, tokenizer.pre_tokenizer)[-1]
        ids = tokenizer.encode(last)
        candidates = next_words(grammar, tokenizer, prefix[: -len(last)])
        whole = candidates.pop(last, 0.0)
        for word, probability in candidates.items():
            longer = tokenizer.encode(word)
            if word != stories.END and len(longer) > len(ids) and longer[: len(ids)] == ids:
                add(longer[len(ids)], probability)
    if whole:
        for word, probability in next_words(grammar, tokenizer, prefix).items():
            add(end_id if word == stories.END else tokenizer.encode(word)[0], whole * probability)
    total = math.fsum(found.values())
    if not total:
        raise EvaluationError(f"no {grammar.name} story has a token that ends with {prefix[-60:]!r}")
    return {token: p / total for token, p in sorted(found.items(), key=lambda item: -item[1])}


def next_words(grammar: Grammar, tokenizer: Tokenizer, prefix: str) -> dict[str, float]:
    """The exact probability of every next word after whole words of a story; a word is what the tokenizer never merges across.

    That the last word of the prefix is whole is taken as known, so what would make it longer is left out.
    """
    if _cuts_words(tokenizer) and tokenizer.pre_tokenizer is None:
        raise EvaluationError("this tokenizer doesn't cut words, so its tokens may depend on all that follows them")
    found: dict[str, float] = {}
    start = len(prefix)
    agenda: list[tuple[Node | None, Held, str, float]] = [(grammar.start, {}, "", 1.0)]
    while agenda:
        node, held, printed, probability = agenda.pop()
        if len(printed) > start:
            word = _whole_word(tokenizer, printed[start:], node is None)
            if word is not None:
                found[word] = found.get(word, 0.0) + probability
                continue
        if node is None:
            if len(printed) == start:
                found[stories.END] = found.get(stories.END, 0.0) + probability
            continue
        for branch in node.branches(held):
            text = printed + branch.piece
            shared = min(len(text), start)
            if text[len(printed) : shared] == prefix[len(printed) : shared]:
                agenda.append((branch.next, branch.held, text, probability * branch.probability))
    if prefix and _cuts_words(tokenizer):
        last = pre_tokenize(prefix, tokenizer.pre_tokenizer)[-1]
        found = {word: p for word, p in found.items() if word == stories.END or _begins_anew(tokenizer, last, word)}
    total = math.fsum(found.values())
    if not total:
        raise EvaluationError(f"no {grammar.name} story begins with the words {prefix[-60:]!r}")
    return {word: p / total for word, p in sorted(found.items(), key=lambda item: -item[1])}


def _begins_anew(tokenizer: Tokenizer, last: str, word: str) -> bool:
    return pre_tokenize(last + word, tokenizer.pre_tokenizer)[0] == last


def _whole_word(tokenizer: Tokenizer, text: str, ended: bool) -> str | None:
    """The first word of what was printed, once nothing that follows can change it."""
    if not _cuts_words(tokenizer):
        return text[0]
    words = pre_tokenize(text, tokenizer.pre_tokenizer)
    return words[0] if len(words) > 1 or ended else None


def _cuts_words(tokenizer: Tokenizer) -> bool:
    """Whether tokens may be longer than a character, so that words decide how they are cut."""
    return not isinstance(tokenizer, ByteTokenizer | CharTokenizer)


@dataclass(frozen=True)
class TruthReport:
    """A model beside the true distribution of the next token, where words of stories end and the grammar has a choice; `print` it.

    `calibration` has one prediction for each token that the model or the grammar gives more than `least`, at every place: what the
    model says, and the true probability. `divergence` is the mean KL(p || q) in nats, `distance` the mean total variation;
    `mass_off` the probability that the model gives to tokens that are impossible.
    """

    places: int
    calibration: Calibration
    entropy: float
    divergence: float
    distance: float
    mass_off: float

    def __str__(self) -> str:
        return "\n".join(
            (
                f"{self.places:,} places at which the grammar has a choice",
                str(self.calibration),
                f"true entropy {self.entropy:.3f} nats, KL(p || q) {self.divergence:.3f}, "
                f"total variation {self.distance:.3f}, on impossible tokens {self.mass_off:.3f}",
            )
        )


def truth_report(
    model: LanguageModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    size: str = "medium",
    *,
    places: int = 100,
    bins: int = 10,
    least: float = 1e-3,
) -> TruthReport:
    """Compare the model's distribution of the next token with the grammar's, at the first `places` choices of some stories.

    Places are those where a word ends and the next token is open: the likeliest has less than 0.998.
    """
    grammar = stories.grammar(size)
    said: list[Tensor] = []
    true: list[Tensor] = []
    sums = torch.zeros(4, dtype=torch.float64)
    count = 0
    for text in texts:
        for prefix, q in _open_places(model, tokenizer, grammar, text):
            p = true_next_tokens(grammar, tokenizer, prefix)
            if max(p.values()) > 0.998:
                continue
            truth = torch.zeros_like(q)
            truth[list(p)] = torch.tensor(list(p.values()), dtype=torch.float64)
            kept = (q > least) | (truth > least)
            said.append(q[kept])
            true.append(truth[kept])
            possible = truth > 0
            kl = (truth[possible] * (truth[possible].log() - q[possible].clamp(min=1e-30).log())).sum()
            entropy = -(truth[possible] * truth[possible].log()).sum()
            sums += torch.stack([entropy, kl, (q - truth).abs().sum() / 2, q[~possible].sum()])
            count += 1
            if count == places:
                break
        if count == places:
            break
    if not count:
        raise EvaluationError("these texts have no place at which the next token's true distribution is known")
    entropy, divergence, distance, off = (sums / count).tolist()
    return TruthReport(count, calibrate(torch.cat(said), torch.cat(true), bins), entropy, divergence, distance, off)


def _open_places(
    model: LanguageModel, tokenizer: Tokenizer, grammar: Grammar, text: str
) -> Iterator[tuple[str, Float[Tensor, "vocab"]]]:
    """The beginnings of a text, ending where a word does, that a choice follows; and the model's distribution after each.

    As far as the text fits the model's context.
    """
    words = pre_tokenize(text, tokenizer.pre_tokenizer) if _cuts_words(tokenizer) else list(text)
    lengths = [len(tokenizer.encode(word)) for word in words]
    ids = as_sequence(model, tokenizer, text)[:-1][: model.config.context_length]
    probabilities = next_token_probabilities(model, ids).double()
    bits = grammar.surprisals(text)
    character, token = 0, 0  # where the word starts; the end token before the text is token 0
    for word, length in zip([*words, ""], [*lengths, 1], strict=True):
        if token >= len(ids):
            return
        # The letter after the word counts, too: whether "a" was whole is told by what follows it.
        if any(each > FORCED for each in bits[character : character + len(word) + 1]):
            yield text[:character], probabilities[token]
        character, token = character + len(word), token + length
