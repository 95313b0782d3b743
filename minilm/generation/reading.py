"""What a model reads while it writes: which of the tokens so far, and through a cache or without."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from minilm.attention import KVCache
from minilm.config import ModelConfig
from minilm.generation.steps import StaticStep
from minilm.model import LanguageModel


class Context:
    """Which tokens of a text a model sees when it chooses the next one: a function of the text's length alone.

    Up to `context_length` tokens are seen whole. Past it the oldest are dropped, a quarter of the context at a time, so that a
    cache must be filled anew once in so many tokens and not at each; the rest is read as if the text began there, so that
    positions stay within those that training saw. What attention always sees (sinks, a prefix) stays in front.

    - A model that can't be cached reads everything again at each token anyway: it sees exactly the last context_length tokens.
    - A model whose attention has a window no longer than context_length, no sinks, and positions that only tell distances
      (rotary, relative, ALiBi, none) forgets by itself: nothing is ever dropped.
    """

    def __init__(self, config: ModelConfig, cacheable: bool) -> None:
        attention = config.attention
        self.limit: int | None = config.context_length
        distances_only = config.positions.kind in ("rotary", "relative", "alibi", "none")
        if attention.window and attention.window <= self.limit and distances_only and not attention.sinks:
            self.limit = None
        self.front = min(max(attention.sinks, attention.prefix), config.context_length // 2)
        self.stride = max(1, (config.context_length - self.front) // 4) if cacheable else 1

    def dropped(self, length: int) -> int:
        """How many tokens of a text of this length are not seen; they stood behind the first `front`."""
        if self.limit is None or length <= self.limit:
            return 0
        return -(-(length - self.limit) // self.stride) * self.stride

    def visible(self, text: Sequence[int]) -> list[int]:
        """The tokens that are seen."""
        dropped = self.dropped(len(text))
        if not dropped:
            return list(text)
        return [*text[: self.front], *text[self.front + dropped :]]


class Reader:
    """Some texts that grow token by token, and the model's logits for the next token of each.

    With a cache, each call reads one new token a text; without one, all that is visible. Both give the same logits.
    """

    def __init__(
        self,
        model: LanguageModel,
        texts: Sequence[Sequence[int]],
        use_cache: bool | None = None,
        pad_token: int | None = None,
        room: int = 0,
        step: StaticStep | None = None,
    ) -> None:
        """`room`: how many tokens will probably be added, so that the cache need not grow. `step`: what reads, in place of a cache."""
        self.model = model
        self.texts = [list(text) for text in texts]
        self.device = next(model.parameters()).device
        self.pad_token = pad_token
        self.room = room
        why_not = no_cache_because(model)
        if use_cache and why_not:
            raise ValueError(f"use_cache=True: {why_not}")
        self.cached = not why_not if use_cache is None else use_cache
        self.context = Context(model.config, cacheable=not why_not)
        self._whole_window = model.config.head.kind != "per_token"
        self._cache: KVCache | None = None
        self._step, self._rows = step, list(range(len(self.texts)))  # the row of the step that each text has
        self._dropped, self._started = [0] * len(self.texts), False
        if self._whole_window:
            self._check_windows()
        if step is not None:
            self._check_step(step)

    def logits(self) -> Float[Tensor, "batch vocab"]:
        """For the next token of each text, in float32 at least. Call it within `torch.inference_mode()`."""
        if self.cached and min(map(len, self.texts)) >= self.model.config.attention.prefix:
            logits = self._cached_logits()
        else:
            logits = self._uncached_logits()
        return logits if logits.dtype == torch.float64 else logits.float()

    def append(self, tokens: Sequence[int]) -> None:
        """Add one token to each text."""
        for text, token in zip(self.texts, tokens, strict=True):
            text.append(token)

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these texts only, in this order; a text may be there more than once."""
        self.texts = [list(self.texts[row]) for row in rows]
        self._dropped = [self._dropped[row] for row in rows]
        self._rows = [self._rows[row] for row in rows]
        if self._cache is not None:
            self._cache.select(torch.tensor(rows, device=self.device))

    def _cached_logits(self) -> Tensor:
        dropped = [self.context.dropped(len(text)) for text in self.texts]
        if self._step is not None:
            return self._step_logits(self._step, dropped)
        if self._cache is None or dropped != self._dropped:
            self._dropped = dropped
            return self._read_anew()
        newest = torch.tensor([[text[-1]] for text in self.texts], device=self.device)
        return self.model(newest, self._cache)[:, -1]  # type: ignore[no-any-return]

    def _step_logits(self, step: StaticStep, dropped: list[int]) -> Tensor:
        """By steps of fixed shape, which keep a row for texts that are done: what it reads then is of no account."""
        rows = torch.tensor(self._rows, device=self.device)
        anew = not self._started or dropped != self._dropped
        seen = [self.context.visible(text) if anew else text[-1:] for text in self.texts]
        ids = torch.zeros(step.batch, len(seen[0]), dtype=torch.long, device=self.device)
        ids[rows] = torch.tensor(seen, device=self.device)
        self._started, self._dropped = True, dropped
        return (step.read(ids) if anew else step(ids[:, 0]))[rows]

    def _read_anew(self) -> Tensor:
        """Fill a new cache with all that is visible, shorter texts padded on the left."""
        rows = [self.context.visible(text) for text in self.texts]
        longest = max(map(len, rows))
        padding = [longest - len(row) for row in rows]
        ids = torch.tensor([[0] * pad + row for pad, row in zip(padding, rows, strict=True)], device=self.device)
        capacity = longest + self.room if self.context.limit is None else min(longest + self.room, self.context.limit)
        self._cache = self.model.new_cache(
            max(capacity, longest), torch.tensor(padding, device=self.device) if any(padding) else None
        )
        return self._last_logits(ids, self._cache)

    def _uncached_logits(self) -> Tensor:
        """Read all that is visible. Texts of equal length go together; padding would change what some models compute."""
        rows = [self.context.visible(text) for text in self.texts]
        if self._whole_window:
            rows = [[self.pad_token or 0] * (self.model.config.context_length - len(row)) + row for row in rows]
        found: dict[int, Tensor] = {}
        for length in sorted(set(map(len, rows))):
            places = [i for i, row in enumerate(rows) if len(row) == length]
            logits = self._last_logits(torch.tensor([rows[i] for i in places], device=self.device), None)
            found.update(zip(places, logits, strict=True))
        return torch.stack([found[i] for i in range(len(rows))])

    def _last_logits(self, ids: Tensor, cache: KVCache | None) -> Tensor:
        if self._whole_window or self.model.own_parts["head"] is not None:
            return self.model(ids, cache)[:, -1]  # type: ignore[no-any-return]
        # Only the last position's scores are wanted: those of a long prompt would fill batch x seq x vocab numbers.
        return self.model.head(self.model.hidden(ids, cache)[:, -1:])[:, -1]  # type: ignore[no-any-return]

    def _check_step(self, step: StaticStep) -> None:
        if step.model is not self.model or not self.cached:
            raise ValueError(
                "the step was made for another model, or use_cache=False rules it out: StaticStep(model, ...)"
            )
        lengths = sorted({len(text) for text in self.texts})
        if len(self.texts) != step.batch or len(lengths) != 1:
            raise ValueError(
                f"the step was made for {step.batch} texts of equal length, and there are {len(self.texts)}, of {lengths} tokens"
            )
        needed = lengths[0] + self.room
        needed = needed if self.context.limit is None else min(needed, self.context.limit)
        if needed > step.capacity:
            raise ValueError(
                f"{needed} tokens will be read, and the step has room for {step.capacity}: make it with capacity={needed}"
            )

    def _check_windows(self) -> None:
        shortest = min(map(len, self.texts), default=0)
        length = self.model.config.context_length
        if shortest < length and self.pad_token is None:
            raise ValueError(
                f"a {self.model.config.head.kind!r} head reads windows of exactly {length} tokens and a prompt has {shortest}: "
                "give a longer prompt, or pass pad_token= (the id that training put on the left)"
            )


def arrange_for_writing(model: LanguageModel) -> LanguageModel:
    """Store each matrix of the model column by column, and return the model: the same numbers, read faster by one token at a time.

    Writing is bound by how fast the weights come out of memory, and PyTorch's product of one row with a matrix streams this
    order better (a fifth to a tenth of the time of a step on the CPU). Shapes, values and what is saved stay as they are.
    Training may become slower: it is for models that only write.
    """
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data = parameter.data.t().contiguous().t()
    return model


def no_cache_because(model: LanguageModel) -> str | None:
    """Why this model can't use a cache, in its own words, or None."""
    try:
        model.new_cache(1)
    except ValueError as error:
        return str(error)
    return None
