"""How likely a model finds a text: log-probabilities of its tokens, perplexity, bits per byte.

The loss of a token depends on what a token is; the bits of a text do not. So losses a token compare models with one tokenizer,
bits per byte compare any two.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from minilm.generation import Writer
from minilm.model import LanguageModel
from minilm.tokenizer import Tokenizer

LOGITS_AT_ONCE = 1 << 24  # how many logits a batch may have: 64 MiB in float32


class EvaluationError(ValueError):
    """Something that cannot be measured: the message says why, and what to do."""


# ------------------------------------------------------------------------------------------------------- tokens of ids


def token_log_probs(
    model: LanguageModel,
    sequences: Sequence[Sequence[int]],
    *,
    stride: int | None = None,
    pad_token: int | None = None,
) -> list[Float[Tensor, "scored"]]:
    """ln p of every token but the first of each sequence, given those before it; in nats, float64.

    A sequence longer than the model's context is read in windows of context_length that move on by `stride`: each token is scored
    once, the first time it is in a window, so from the second window on it has at least context_length - stride tokens before
    it. `stride=1` gives every token all the context the model can use and costs one window a token; `stride=context_length`
    cuts the text into disjoint windows, each of which begins knowing nothing. The default is half the context.

    A model that reads its window as a whole (see `reads_whole_window`) is asked for one token at a time, each
    from the window before it. A flat head reads windows of exactly context_length: tokens with less before them are
    scored only with a `pad_token` on the left, and left out without (then the result is shorter: the last tokens).

    The model is only read: no gradient, no dropout, and its training mode is as before.
    """
    return [scores.log_probs for scores in token_scores(model, sequences, stride=stride, pad_token=pad_token)]


@dataclass(frozen=True)
class TokenScores:
    """ln p of some tokens in nats (float64), and whether each was the one that the model found likeliest."""

    log_probs: Float[Tensor, "scored"]
    likeliest: Bool[Tensor, "scored"]


def token_scores(
    model: LanguageModel,
    sequences: Sequence[Sequence[int]],
    *,
    stride: int | None = None,
    pad_token: int | None = None,
) -> list[TokenScores]:
    """`token_log_probs`, and beside each whether greedy decoding would have written that token."""
    config = model.config
    if not config.attention.causal:
        raise EvaluationError(
            "this model's attention is not causal: it sees the token it is asked for, so its probability means nothing"
        )
    if stride is not None and not 1 <= stride <= config.context_length:
        raise EvaluationError(f"stride = {stride}: windows of {config.context_length} tokens move on by 1 to as many")
    for ids in sequences:
        if len(ids) < 2:
            raise EvaluationError(f"a sequence of {len(ids)} tokens has no token that follows another")
    with only_reading(model):
        if reads_whole_window(model):
            return [_one_by_one(model, list(ids), pad_token) for ids in sequences]
        return _in_windows(model, sequences, stride or max(1, config.context_length // 2))


def reads_whole_window(model: LanguageModel) -> bool:
    """Whether the model's prediction is honest for the token after its window only: all earlier ones have seen what they predict.

    Flat heads, whole-sample norms, dlib's fused block, and a prefix that sees itself.
    """
    config = model.config
    return (
        config.head.kind != "per_token"
        or config.norm.kind == "whole-sample"
        or "dlib-fused" in (config.attention.kind, config.feed_forward.kind)
        or config.attention.prefix > 0
    )


@dataclass(frozen=True)
class _Window:
    """A stretch of a sequence that is read at once, and from where on its targets are scored."""

    sequence: int
    start: int
    end: int  # of the inputs; the last target is ids[end]
    first_target: int


def windows_of(length: int, context_length: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """(start, end, first target) of the windows that score tokens 1 .. length - 1 once each.

    >>> list(windows_of(10, context_length=4, stride=2))
    [(0, 4, 1), (2, 6, 5), (4, 8, 7), (6, 9, 9)]
    """
    start, scored = 0, 1
    while scored < length:
        end = min(start + context_length, length - 1)
        yield start, end, scored
        scored = end + 1
        start += stride


def _in_windows(model: LanguageModel, sequences: Sequence[Sequence[int]], stride: int) -> list[TokenScores]:
    found = [
        TokenScores(torch.zeros(len(ids) - 1, dtype=torch.float64), torch.zeros(len(ids) - 1, dtype=torch.bool))
        for ids in sequences
    ]
    windows = [
        _Window(number, *window)
        for number, ids in enumerate(sequences)
        for window in windows_of(len(ids), model.config.context_length, stride)
    ]
    windows.sort(key=lambda window: window.end - window.start, reverse=True)  # batches of about equal length
    device = next(model.parameters()).device
    place = 0
    while place < len(windows):
        longest = windows[place].end - windows[place].start
        size = max(1, LOGITS_AT_ONCE // (longest * model.config.vocab_size))
        batch, place = windows[place : place + size], place + size
        ids = torch.zeros(len(batch), longest + 1, dtype=torch.long)
        for row, window in enumerate(batch):
            ids[row, : window.end - window.start + 1] = torch.as_tensor(
                sequences[window.sequence][window.start : window.end + 1]
            )
        log_probs, likeliest = _scores(model(ids[:, :-1].to(device)), ids[:, 1:].to(device))
        for row, window in enumerate(
            batch
        ):  # what stands right of a window's end is padding, which no earlier token sees
            into = slice(window.first_target - 1, window.end)
            taken = slice(window.first_target - window.start - 1, window.end - window.start)
            found[window.sequence].log_probs[into] = log_probs[row, taken]
            found[window.sequence].likeliest[into] = likeliest[row, taken]
    return found


def _scores(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits if logits.dtype == torch.float64 else logits.float()
    chosen = logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(dim=-1)
    return chosen.double().cpu(), (logits.argmax(dim=-1) == targets).cpu()


def _one_by_one(model: LanguageModel, ids: list[int], pad_token: int | None) -> TokenScores:
    """Each token from the window that ends before it."""
    width, flat = model.config.context_length, model.config.head.kind != "per_token"
    first = width if flat and pad_token is None else 1
    if first >= len(ids):
        raise EvaluationError(
            f"a {model.config.head.kind!r} head reads windows of exactly {width} tokens and the text has {len(ids)}: "
            "give a longer text, or pad_token= (the id that training put on the left)"
        )
    rows = [ids[max(0, place - width) : place] for place in range(first, len(ids))]
    if flat:
        rows = [[pad_token or 0] * (width - len(row)) + row for row in rows]
    device = next(model.parameters()).device
    log_probs: list[Tensor] = []
    likeliest: list[Tensor] = []
    done = 0
    while done < len(rows):
        length = len(rows[done])
        most = max(1, LOGITS_AT_ONCE // (length * model.config.vocab_size))
        batch = [row for row in rows[done : done + most] if len(row) == length]
        targets = torch.tensor(ids[first + done : first + done + len(batch)], device=device)
        found = _scores(model(torch.tensor(batch, device=device))[:, -1], targets)
        log_probs.append(found[0])
        likeliest.append(found[1])
        done += len(batch)
    return TokenScores(torch.cat(log_probs), torch.cat(likeliest))


@contextmanager
def only_reading(model: LanguageModel) -> Iterator[None]:
    """No gradient, and every module in evaluation mode, for the length of a `with`; afterwards all is as it was."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


# --------------------------------------------------------------------------------------------------------------- texts


@dataclass(frozen=True)
class TextScore:
    """The tokens of one text that were scored, and ln p of each; `size` is how many bytes they stand for, an end token counting as one."""

    ids: list[int]
    log_probs: Float[Tensor, "tokens"]
    size: int

    @property
    def log_likelihood(self) -> float:
        """ln p of all of it, in nats."""
        return float(self.log_probs.sum())


def as_sequence(model: LanguageModel, tokenizer: Tokenizer, text: str) -> list[int]:
    """A text as training saw it: [end, *tokens, end] where the tokenizer has an end token and the head isn't flat, else its bare tokens."""
    writer = Writer(model, tokenizer)
    return [*writer.encode(text), *([] if writer.end_id is None else [writer.end_id])]


def log_likelihoods(
    model: LanguageModel,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    stride: int | None = None,
) -> list[TextScore]:
    """How likely the model finds each text, token by token (see `token_log_probs` for texts longer than the context).

    Where the tokenizer has an end token (`<end>`, GPT-2's `<|endoftext|>`), it stands before the text, as in training, and the
    end after the text has to be predicted too: it counts as one byte more. Where it has none, the first token follows
    nothing and is not scored.
    """
    if isinstance(texts, str):
        raise TypeError("log_likelihoods wants several texts, and got one: put it in a list")
    writer = Writer(model, tokenizer)
    sequences = [as_sequence(model, tokenizer, text) for text in texts]
    if not sequences:
        raise EvaluationError("there is no text to measure on")
    scores = token_log_probs(model, sequences, stride=stride, pad_token=writer.pad_id)
    return [_text_score(tokenizer, ids, scored) for ids, scored in zip(sequences, scores, strict=True)]


def _text_score(tokenizer: Tokenizer, ids: list[int], log_probs: Tensor) -> TextScore:
    scored = ids[len(ids) - len(log_probs) :]
    special = set(tokenizer.special_tokens.values())
    size = sum(1 if token in special else len(tokenizer.token_bytes(token)) for token in scored)
    return TextScore(scored, log_probs, size)


@dataclass(frozen=True)
class TextReport:
    """What a model's loss on some texts comes to. `print` it for a table.

    `loss` is the mean over tokens in nats, so `perplexity` holds for this tokenizer only; `bits_per_byte` compares tokenizers.
    """

    texts: int
    tokens: int
    size: int  # bytes that the tokens stand for
    log_likelihood: float  # nats

    @property
    def loss(self) -> float:
        """Nats a token."""
        return -self.log_likelihood / self.tokens

    @property
    def perplexity(self) -> float:
        """exp of the loss: among how many equally likely tokens the model might as well have chosen."""
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        """-log2 p a byte of text."""
        return -self.log_likelihood / math.log(2) / self.size

    @property
    def bytes_per_token(self) -> float:
        """How long a token is."""
        return self.size / self.tokens

    def __str__(self) -> str:
        return "\n".join(
            (
                f"{'texts':<18}{self.texts:>12,}",
                f"{'tokens':<18}{self.tokens:>12,}",
                f"{'bytes':<18}{self.size:>12,}   {self.bytes_per_token:.2f} a token",
                f"{'loss':<18}{self.loss:>12.4f}   nats a token",
                f"{'perplexity':<18}{self.perplexity:>12.4g}   a token",
                f"{'bits per byte':<18}{self.bits_per_byte:>12.4f}",
            )
        )


def summarize(scores: Sequence[TextScore]) -> TextReport:
    """The report of texts that were scored."""
    return TextReport(
        texts=len(scores),
        tokens=sum(len(score.ids) for score in scores),
        size=sum(score.size for score in scores),
        log_likelihood=math.fsum(score.log_likelihood for score in scores),
    )


def evaluate_texts(
    model: LanguageModel, tokenizer: Tokenizer, texts: Iterable[str], *, stride: int | None = None
) -> TextReport:
    """Loss, perplexity and bits per byte of some texts, all tokens together (see `log_likelihoods`)."""
    return summarize(log_likelihoods(model, tokenizer, texts, stride=stride))


def perplexity(model: LanguageModel, tokenizer: Tokenizer, texts: Iterable[str], *, stride: int | None = None) -> float:
    """exp of the mean loss a token. It holds for this tokenizer only."""
    return evaluate_texts(model, tokenizer, texts, stride=stride).perplexity


def bits_per_byte(
    model: LanguageModel, tokenizer: Tokenizer, texts: Iterable[str], *, stride: int | None = None
) -> float:
    """-log2 p(texts) divided by their bytes: the same text is the same whatever the tokens, so models of any tokenizer compare."""
    return evaluate_texts(model, tokenizer, texts, stride=stride).bits_per_byte
