"""The whole language model in one shell: embedder, core, head."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from minilm.attention import KVCache, LayerCache
from minilm.block import initialize
from minilm.config import ModelConfig
from minilm.model.parts import PartClass, TokenHead, build_core, build_embedder, build_head, part_name

if TYPE_CHECKING:
    from minilm.model.accounts import Summary

PARTS = ("embedder", "attention", "feed_forward", "norm", "block", "head")  # what may be replaced by a class


class LanguageModel(nn.Module):
    """A language model as its config describes it: `model(ids)` gives the logits of the next token at every position.

    Any part may be a class of yours: `LanguageModel(config, attention=MyAttention)`. What such a class must look like is said by
    `minilm.attention.AttentionLayer` and `minilm.block.BlockLayer`; a feed-forward is made with (dim, hidden), a norm with
    (dim), an embedder with (vocab_size, dim), a head with (dim, vocab_size), each plus, by name, the options that the config sets
    to something other than the usual.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        embedder: PartClass | None = None,
        attention: PartClass | None = None,
        feed_forward: PartClass | None = None,
        norm: PartClass | None = None,
        block: PartClass | None = None,
        head: PartClass | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.own_parts: dict[str, PartClass | None] = {
            "embedder": embedder,
            "attention": attention,
            "feed_forward": feed_forward,
            "norm": norm,
            "block": block,
            "head": head,
        }
        self.embedder = build_embedder(config, embedder)
        self.core = build_core(config, self.own_parts)
        self.head = build_head(config, head)
        if not isinstance(self.head, TokenHead) and head is None:  # a flat head draws its own: its inputs are many
            initialize(self.embedder, config.initialization.kind, config.initialization.std, config.num_layers)
            initialize(self.core, config.initialization.kind, config.initialization.std, config.num_layers)
        else:
            initialize(self, config.initialization.kind, config.initialization.std, config.num_layers)
        if config.head.tied:
            self.head.weight = self.embedder.tokens.weight  # type: ignore[union-attr]
        self._no_cache = self._why_no_cache()

    # ----------------------------------------------------------------------------------------------------------- forward

    def forward(
        self,
        ids: Int[Tensor, "batch seq"],
        cache: KVCache | None = None,
        *,
        positions: Int[Tensor, "seq"] | Int[Tensor, "batch seq"] | None = None,
        mask: Bool[Tensor, "#batch 1 #seq keys"] | None = None,
    ) -> Float[Tensor, "batch seq vocab"]:
        """The logits of the next token after each position (after the last only, with a flat head: batch 1 vocab).

        With a `cache` of `new_cache`, `ids` are the tokens that are new. `mask` (True: may look) narrows what attention sees, for
        packed documents say; `positions` count from 0 and on through the cache unless given.

        Raises TypeError or ValueError, naming the value and the fix, for ids that are not integers, off the vocabulary, on another
        device, not two-dimensional, or more than the model can place.
        """
        return self.head(self.hidden(ids, cache, positions=positions, mask=mask))  # type: ignore[no-any-return]

    def hidden(
        self,
        ids: Int[Tensor, "batch seq"],
        cache: KVCache | None = None,
        *,
        positions: Int[Tensor, "seq"] | Int[Tensor, "batch seq"] | None = None,
        mask: Bool[Tensor, "#batch 1 #seq keys"] | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """What the head reads. `model.head` of some of it gives some of the logits, where all would be too many."""
        if ids.dim() != 2 or ids.shape[1] == 0:
            raise ValueError(
                f"ids have shape {list(ids.shape)}: the model wants (batch, seq) with at least one token; "
                "for a single text pass ids[None]"
            )
        start = 0
        if cache is not None:
            if self._no_cache:
                raise ValueError(self._no_cache)
            start = cache.length
        places = torch.arange(start, start + ids.shape[1], device=ids.device)
        if cache is not None and cache.padding is not None:
            padding = cache.padding.to(ids.device)[:, None]  # batch 1
            real = torch.arange(start + ids.shape[1], device=ids.device) >= padding  # batch keys
            mask = real[:, None, None] if mask is None else mask & real[:, None, None]
            places = (places - padding).clamp(min=0)  # batch seq: counted from the first token that is no padding
        places = places if positions is None else positions
        return self.core(self.embedder(ids, places), places, mask, cache)  # type: ignore[no-any-return]

    def auxiliary_loss(self) -> Tensor:
        """The sum of what parts want added to the loss (a balance loss, say) since the last forward; 0 if none does.

        A part has a say by having a method `auxiliary_loss()`.
        """
        total = next(self.parameters()).new_zeros(())
        for part in self.modules():
            own = getattr(part, "auxiliary_loss", None)
            if own is not None and part is not self:
                total = total + own()
        return total

    def after_step(self) -> None:
        """To be called once the weights have changed, as `Trainer` does: for parts that learn by other means than a gradient.

        A part has a say by having a method `after_step()`: a mixture of experts balances its load so.
        """
        for part in self.modules():
            own = getattr(part, "after_step", None)
            if own is not None and part is not self:
                own()

    # ------------------------------------------------------------------------------------------------------------- cache

    def new_cache(self, capacity: int | None = None, padding: Int[Tensor, "batch"] | None = None) -> KVCache:
        """An empty cache that fits this model; ValueError names the part that makes one impossible.

        It has room for `capacity` positions (context_length unless given) and grows when they run out; sliding-window attention
        needs no more than its window. `padding`: how many tokens of each sequence's left end are padding, for prompts of
        unequal length in one batch; they are hidden and do not count as positions.
        """
        if self._no_cache:
            raise ValueError(self._no_cache)
        attention = self.config.attention
        size = capacity or self.config.context_length
        layers = []
        for layer in self.core.layers:  # attention that remembers in its own way has a method `new_cache(capacity)`
            own = getattr(getattr(layer, "attention", None), "new_cache", None)
            layers.append(LayerCache(size, attention.window, attention.sinks) if own is None else own(size))
        return KVCache(layers, padding)

    def _why_no_cache(self) -> str | None:
        """Why cached and uncached logits would differ, or None."""
        config = self.config
        reasons = {
            f"the {config.head.kind!r} head reads the whole window": config.head.kind != "per_token",
            "'whole-sample' norms change earlier positions with every new token": config.norm.kind == "whole-sample",
            "the 'dlib-fused' block reads the whole window": "dlib-fused"
            in (config.attention.kind, config.feed_forward.kind),
            "attention with causal=False sees later tokens": not config.attention.causal,
            "rotary scaling 'dynamic' turns old keys anew as the text grows": config.positions.scaling is not None
            and config.positions.scaling.kind == "dynamic",
        }
        moe = config.feed_forward.moe
        if moe is not None:
            reasons |= {
                "'sample' routing reads the whole window to choose experts": moe.route == "sample",
                "with 'expert-choice' routing the experts choose among all tokens of a batch": moe.route
                == "expert-choice",
                "with a capacity, other tokens of the batch decide whether an expert has room "
                "(generate with moe.capacity_factor=None)": moe.capacity_factor is not None,
            }
        found = [reason for reason, holds in reasons.items() if holds]
        said = (getattr(part, "why_no_cache", None) for part in self.modules())
        found += sorted({reason for reason in said if isinstance(reason, str)})
        return f"this model cannot use a cache: {'; '.join(found)}. Call it on the whole sequence." if found else None

    # ---------------------------------------------------------------------------------------------------------- accounts

    def num_parameters(self, convention: str = "all", *, active: bool = False) -> int:
        """How many parameters: "all" counts each once; "dlib" leaves the embedding tables out, as dlib reports it.

        With `active`, of a mixture of experts only those that one token passes through.
        """
        if convention not in ("all", "dlib"):
            raise ValueError(f"convention {convention!r}: choose 'all' or 'dlib'")
        if convention == "dlib":
            from minilm.exhibits import count_as_dlib

            total = count_as_dlib(self)
        else:
            total = sum(parameter.numel() for parameter in self.parameters())
        for part in self.modules() if active else ():
            idle = getattr(part, "idle_parameters", None)
            total -= 0 if idle is None else idle()
        return total

    def summary(self, batch_size: int = 1, length: int | None = None) -> "Summary":
        """What this model costs: parameters by part, operations a token, memory. Printed as a table."""
        from minilm.model.accounts import summarize

        return summarize(self, batch_size, length)

    # -------------------------------------------------------------------------------------------------- making and saving

    @classmethod
    def from_config(
        cls,
        config: ModelConfig,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        **parts: PartClass | None,
    ) -> Self:
        """A model with fresh weights; on device "meta" it has shapes and no weights, so any size costs nothing."""
        with torch.device(device or torch.get_default_device()):
            model = cls(config, **parts)
        return model if dtype is None else model.to(dtype)

    @classmethod
    def from_preset(
        cls, name: str, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None, **overrides: Any
    ) -> Self:
        """A model by the name of its preset, with parts of the config overridden, or replaced by classes.

        >>> LanguageModel.from_preset("slim", vocab_size=1024, num_layers=2, head={"tied": False}).num_parameters()
        2622720
        """
        from minilm import presets

        parts = {key: value for key, value in overrides.items() if key in PARTS and callable(value)}
        changes = {key: value for key, value in overrides.items() if key not in parts}
        return cls.from_config(presets.config(name, **changes), device=device, dtype=dtype, **parts)

    def save(self, path: str | Path, tokenizer: Any = None) -> None:
        """Write a folder with model.safetensors, config.json and, if given, tokenizer.json (see `minilm.model.files`)."""
        from minilm.model.files import save

        save(self, path, tokenizer)

    @classmethod
    def load(cls, path: str | Path, *, device: str | torch.device = "cpu", **parts: PartClass | None) -> Self:
        """The model that `save` wrote, with its own classes given again where it had any (see `minilm.model.files`)."""
        from minilm.model.files import load

        return load(cls, path, device, parts)

    def own_part_names(self) -> dict[str, str]:
        """The parts that are classes of the user's, by name."""
        return {role: part_name(part) for role, part in self.own_parts.items() if part is not None}
