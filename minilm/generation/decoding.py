"""Writing: read what is there, choose a token, add it, and again, until something says stop."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from minilm.generation.reading import Reader
from minilm.generation.sampling import Sampling, draw, likeliest, penalized, process_logits
from minilm.generation.steps import StaticStep
from minilm.generation.stopping import ConfidenceStop, ConfidenceWatch, StopReason, TextOut
from minilm.generation.stopping import confidence as confidence_of
from minilm.model import LanguageModel
from minilm.tokenizer import Tokenizer


@dataclass
class Generation:
    """What was written after one prompt, and how it came to its end.

    `ids` and the lists beside it have one entry a token written; the stop token, where there was one, is not among them.
    `text` is None without a tokenizer. It ends before a stop string; `ids` are all tokens that were chosen, the stop string's too.
    """

    ids: list[int] = field(default_factory=list)
    text: str | None = None
    stop_reason: StopReason = "length"
    stopped_by: int | str | None = None  # the stop token or stop string, where that was the reason
    log_probs: list[float] = field(default_factory=list)  # of each token, by the model's own distribution, in nats
    confidences: list[float] = field(default_factory=list)  # of the model at each token; see `confidence`

    @property
    def log_prob(self) -> float:
        """Of all tokens together, by the model's own distribution, in nats."""
        return sum(self.log_probs)


def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    *,
    stop_tokens: Collection[int] = (),
    stop_strings: Sequence[str] = (),
    tokenizer: Tokenizer | None = None,
    confidence: ConfidenceStop | None = None,
    seed: int = 0,
    use_cache: bool | None = None,
    pad_token: int | None = None,
    step: StaticStep | None = None,
) -> list[Generation]:
    """Go on from each prompt (a list of ids) with up to `max_new_tokens` tokens; prompts may differ in length.

    - `sampling` None draws from the model's own distribution; `Sampling(temperature=0)` is greedy.
    - Prompt i draws from a source of chance of its own, seeded with seed + i: what is written does not depend on the other
      prompts, nor on the random numbers of the caller, which stay as they are.
    - `stop_strings` end a text also where several tokens make them up, and are not part of it; they and `Generation.text` need
      the `tokenizer`. Ids that it does not know are never chosen.
    - `confidence` ends a text where the model becomes unsure. If several things end it at one token, this is the order: stop
      token, stop string, confidence, length.
    - A repetition penalty knows the tokens that the model sees, those of the prompt included.
    - `use_cache` None: wherever the model can be cached; both ways give the same. Past the model's context_length the oldest
      tokens are dropped (see `Context`).
    - `pad_token`: for models with a flat head, what stands before a prompt shorter than the window.
    - `step`: a `StaticStep` of this model reads in place of a cache; compiled, it is several times as fast. As many prompts as it has
      rows, all of one length.

    The model is only read: no gradient, no dropout, and its training mode is as before.
    """
    if len(prompts) and not hasattr(prompts[0], "__len__"):
        raise TypeError("prompts is one list of ids and must be a list of prompts: pass [prompt]")
    texts = [_Text(ids, stop_strings, tokenizer, confidence, seed + i) for i, ids in enumerate(prompts)]
    for batch in _batches(model, texts):
        for _ in _write(model, batch, max_new_tokens, sampling, stop_tokens, tokenizer, use_cache, pad_token, step):
            pass
    return [text.generation for text in texts]


class Stream(Iterator[str]):
    """Pieces of text as they are written; `generation` is what has been written so far, whole once the iteration has ended."""

    def __init__(self, pieces: Iterator[str], generation: Generation) -> None:
        self._pieces, self.generation = pieces, generation

    def __next__(self) -> str:
        return next(self._pieces)


def stream(
    model: LanguageModel,
    prompt: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    *,
    tokenizer: Tokenizer,
    stop_tokens: Collection[int] = (),
    stop_strings: Sequence[str] = (),
    confidence: ConfidenceStop | None = None,
    seed: int = 0,
    use_cache: bool | None = None,
    pad_token: int | None = None,
) -> Stream:
    """`generate` for one prompt, piece by piece as tokens come.

    A piece is never empty, never ends within a character, and never holds a part of a stop string; all pieces joined are
    `Generation.text`. The model may be used, or trained, between two pieces.
    """
    text = _Text(prompt, stop_strings, tokenizer, confidence, seed)
    steps = _write(model, [text], max_new_tokens, sampling, stop_tokens, tokenizer, use_cache, pad_token)
    return Stream((piece for pieces in steps for piece in pieces if piece), text.generation)


class _Text:
    """One text while it is written."""

    def __init__(
        self,
        prompt: Sequence[int] | str,
        stop_strings: Sequence[str],
        tokenizer: Tokenizer | None,
        confidence: ConfidenceStop | None,
        seed: int,
    ) -> None:
        if isinstance(prompt, str):
            raise TypeError(f"a prompt is a list of ids, got the text {prompt[:20]!r}: use Writer, or tokenizer.encode")
        if isinstance(stop_strings, str):
            raise TypeError(f"stop_strings is the text {stop_strings!r}: put it in a list")
        if "" in stop_strings:
            raise ValueError("stop_strings holds an empty text, which is everywhere: leave it out")
        if stop_strings and tokenizer is None:
            raise ValueError("stop_strings are found in text: pass the tokenizer too, or use stop_tokens")
        self.prompt = [int(token) for token in prompt]
        if not self.prompt:
            raise ValueError(
                "a prompt is empty, and a model goes on from at least one token: "
                "begin with the token that stands before every text in training, such as <end>"
            )
        self.generation = Generation(text=None if tokenizer is None else "")
        self.out = None if tokenizer is None else TextOut(tokenizer, stop_strings)
        self.watch = None if confidence is None else ConfidenceWatch(confidence)
        self.chance = torch.Generator().manual_seed(seed)
        self.done = False

    def add(self, token: int, log_prob: float, confidence: float, stop_tokens: Collection[int], last: bool) -> str:
        """Take the chosen token; returns the text that is now safe to show."""
        done = self.generation
        if token in stop_tokens:
            return self._end("eos", token)
        done.ids.append(token)
        done.log_probs.append(log_prob)
        done.confidences.append(confidence)
        piece = ""
        if self.out is not None:
            piece = self.out.add(token)
            done.text = (done.text or "") + piece
            if self.out.stopped_by is not None:
                return piece + self._end("stop_string", self.out.stopped_by)
        if self.watch is not None and self.watch.should_stop(confidence):
            return piece + self._end("low_confidence")
        return piece + self._end("length") if last else piece

    def _end(self, reason: StopReason, stopped_by: int | str | None = None) -> str:
        self.done = True
        self.generation.stop_reason, self.generation.stopped_by = reason, stopped_by
        rest = ""
        if self.out is not None:
            rest = self.out.finish()
            self.generation.text = (self.generation.text or "") + rest
        return rest


def _batches(model: LanguageModel, texts: list[_Text]) -> list[list[_Text]]:
    """Texts that are written together: all, unless padding on the left would stand where attention always looks."""
    attention = model.config.attention
    if not (attention.sinks or attention.prefix):
        return [texts] if texts else []
    by_length: dict[int, list[_Text]] = {}
    for text in texts:
        by_length.setdefault(len(text.prompt), []).append(text)
    return list(by_length.values())


def _write(
    model: LanguageModel,
    texts: list[_Text],
    max_new_tokens: int,
    sampling: Sampling | None,
    stop_tokens: Collection[int],
    tokenizer: Tokenizer | None,
    use_cache: bool | None,
    pad_token: int | None,
    step: StaticStep | None = None,
) -> Iterator[list[str]]:
    """Write all texts of one batch, one token each at a time; after each token come the pieces of text."""
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens = {max_new_tokens}: it can't be negative")
    for token in stop_tokens:
        if not isinstance(token, int):
            raise TypeError(f"stop_tokens holds {token!r}: give the id, such as tokenizer.special_tokens['<end>']")
    reader = Reader(model, [text.prompt for text in texts], use_cache, pad_token, room=max_new_tokens, step=step)
    limit = None if tokenizer is None else tokenizer.vocab_size
    return _steps(reader, texts, max_new_tokens, sampling or Sampling(), frozenset(stop_tokens), limit)


def _steps(
    reader: Reader,
    active: list[_Text],
    max_new_tokens: int,
    sampling: Sampling,
    stop_tokens: frozenset[int],
    limit: int | None,
) -> Iterator[list[str]]:
    modules = list(reader.model.modules())
    for step in range(max_new_tokens):
        with only_reading(modules):
            logits = reader.logits()[:, :limit]
            tokens = _choose(logits, sampling, active, reader)
            log_probs, confidences = _record(logits, tokens, active)
        chosen = tokens.tolist()
        last = step == max_new_tokens - 1
        yield [
            text.add(token, log_prob, sure, stop_tokens, last)
            for text, token, log_prob, sure in zip(active, chosen, log_probs, confidences, strict=True)
        ]
        reader.append(chosen)
        left = [row for row, text in enumerate(active) if not text.done]
        if not left:
            return
        if len(left) < len(active):  # who is done costs nothing more
            reader.select(left)
            active = [active[row] for row in left]


def _choose(logits: Float[Tensor, "batch vocab"], sampling: Sampling, texts: list[_Text], reader: Reader) -> Tensor:
    """The next token of each text."""
    previous = None
    if sampling.repetition_penalty != 1:
        seen = [reader.context.visible(ids) for ids in reader.texts]
        longest = max(map(len, seen))
        previous = torch.tensor([[-1] * (longest - len(ids)) + ids for ids in seen], device=logits.device)
    if sampling.temperature == 0:
        return likeliest(penalized(logits, sampling, previous))
    chance = torch.stack([torch.rand((), generator=text.chance, dtype=torch.float64) for text in texts])
    return draw(process_logits(logits, sampling, previous), chance.to(logits.device))


def _record(
    logits: Float[Tensor, "batch vocab"], tokens: Tensor, texts: list[_Text]
) -> tuple[list[float], list[float]]:
    """Log-probability of each token and confidence of the model, both before temperature and refusals."""
    model_log_probs = logits.log_softmax(dim=-1)  # one kernel; logsumexp is four times as slow
    log_probs = model_log_probs.gather(-1, tokens[:, None])[:, 0].tolist()
    watch = texts[0].watch
    if watch is not None and watch.rule.measure == "entropy":
        return log_probs, confidence_of(logits, "entropy").tolist()
    return log_probs, model_log_probs.amax(dim=-1).exp().tolist()


@contextmanager
def only_reading(modules: Iterable[nn.Module]) -> Iterator[None]:
    """No gradient, and every module in evaluation mode, for the length of a `with`; afterwards all is as it was."""
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True
