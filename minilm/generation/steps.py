"""A step of writing whose shapes never change, so that it can be compiled: one token in, the scores of the next one out.

An ordinary cache hands attention as many keys as there are, one more at each step, and a compiler would start anew each time. Here
attention always gets the whole capacity, with a mask over what is not written yet. That is more arithmetic and fewer surprises; it pays
once compiled, in long runs of many texts with the same number of rows.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minilm.attention import Attention, KVCache, LayerCache
from minilm.model import LanguageModel
from minilm.model.compiling import compiled


class StaticLayerCache(LayerCache):
    """Keys and values in memory of fixed size. `append` writes one position, where `place` says, and returns everything."""

    def __init__(
        self, batch: int, kv_heads: int, capacity: int, head_dim: int, place: Tensor, dtype: torch.dtype
    ) -> None:
        super().__init__(capacity)
        self.place = place  # the next position, one number in a tensor: what changes must not be seen by the compiler
        self.keys = torch.zeros(batch, kv_heads, capacity, head_dim, dtype=dtype, device=place.device)
        self.values = torch.zeros_like(self.keys)
        self.length = capacity - 1  # to attention, the newest query is always the last position

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, None]:
        """Write the new position; all keys and values come back, and a mask must hide those that are not there yet."""
        assert self.keys is not None
        assert self.values is not None
        self.keys.index_copy_(2, self.place, keys)
        self.values.index_copy_(2, self.place, values)
        return self.keys, self.values, None

    def fill(self, cache: LayerCache) -> None:
        """Take over what an ordinary cache has read."""
        assert self.keys is not None
        assert self.values is not None
        if cache.keys is not None and cache.values is not None:
            self.keys[:, :, : cache.length] = cache.keys[:, :, : cache.length]
            self.values[:, :, : cache.length] = cache.values[:, :, : cache.length]


class StaticStep:
    """Writes with a model token by token in memory of fixed size: `read` a prompt, then call it with the newest token of each text.

        step = StaticStep(model, batch=1, capacity=256, compile=True)
        logits = step.read(prompts)                    # batch vocab
        logits = step(logits.argmax(dim=-1))           # and again

    The model is put into evaluation mode. The first call compiles, if asked to: half a minute or more. RuntimeError says what is missing where nothing can be compiled.
    ValueError names the part of a model that cannot work so: attention that forgets (windows, dynamic masks), or whose scores hang on
    distances (ALiBi, relative positions).
    """

    def __init__(
        self, model: LanguageModel, batch: int = 1, capacity: int | None = None, *, compile: bool = False
    ) -> None:
        capacity = capacity or model.config.context_length
        self._refuse(model, capacity)
        weight = next(model.parameters())
        self.model, self.batch, self.capacity = model.eval(), batch, capacity
        self.place = torch.zeros(1, dtype=torch.long, device=weight.device)
        self._places = torch.arange(capacity, device=weight.device)
        shape = (batch, model.config.num_kv_heads, capacity, model.config.head_dim)
        self.layers = [StaticLayerCache(*shape, self.place, weight.dtype) for _ in model.core.layers]
        self.cache = KVCache(list(self.layers))
        self.length = 0
        self._step = compiled(self._logits) if compile else self._logits

    @torch.no_grad()
    def read(self, prompts: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch vocab"]:
        """Forget what was there, read prompts of equal length, and give the scores of the next token of each."""
        if len(prompts) != self.batch or prompts.shape[1] > self.capacity:
            raise ValueError(
                f"prompts of shape {list(prompts.shape)}: this step was made for {self.batch} texts of up to {self.capacity} tokens"
            )
        cache = self.model.new_cache(self.capacity)
        logits = self.model.head(self.model.hidden(prompts, cache)[:, -1:])[:, -1]
        for layer, read in zip(self.layers, cache, strict=True):
            layer.fill(read)
        self.length = prompts.shape[1]
        return logits  # type: ignore[no-any-return]

    @torch.no_grad()
    def __call__(self, tokens: Int[Tensor, "batch"]) -> Float[Tensor, "batch vocab"]:
        """Read the newest token of each text; the scores of the next one."""
        if self.length >= self.capacity:
            raise ValueError(f"the {self.capacity} places are full: make the step with a larger capacity, or read anew")
        self.place.fill_(self.length)
        self.length += 1
        return self._step(tokens[:, None], self.place)

    def _logits(self, ids: Tensor, place: Tensor) -> Tensor:
        mask = (self._places <= place)[None, None, None]  # 1 1 1 capacity
        hidden = self.model.hidden(ids, self.cache, positions=place, mask=mask)
        return self.model.head(hidden)[:, -1]  # type: ignore[no-any-return]

    @staticmethod
    def _refuse(model: LanguageModel, capacity: int) -> None:
        cache = model.new_cache(1)  # says by itself why there can be none
        config = model.config
        if config.positions.kind in ("learned", "sinusoidal-dlib") and capacity > config.context_length:
            raise ValueError(
                f"capacity = {capacity} is more than the {config.context_length} positions that the model has learned"
            )
        for layer, own in zip(model.core.layers, cache, strict=True):
            attention = getattr(layer, "attention", None)
            plain = type(attention) is Attention and attention.slopes is None and attention.relative is None
            if not plain or type(own) is not LayerCache or own.window is not None:
                raise ValueError(
                    f"a step of fixed shape needs attention to everything that was read, without ALiBi or relative positions, and this "
                    f"model has {type(attention).__name__}({'' if attention is None else attention.extra_repr()}): use generate"
                )
