"""A model and its tokenizer as one thing that writes: text in, text out."""

from collections.abc import Sequence
from typing import Any

from minilm.generation.decoding import Generation, Stream, generate, stream
from minilm.generation.sampling import Sampling
from minilm.generation.stopping import ConfidenceStop
from minilm.model import LanguageModel
from minilm.tokenizer import Tokenizer

END_TOKENS = ("<end>", "<|endoftext|>")  # what stands between texts: this course's name for it, and GPT-2's
PAD_TOKENS = ("<pad>", "<|pad|>")


class Writer:
    """Writes on from text.

    A tokenizer with an `<end>` (or GPT-2's `<|endoftext|>`) was trained with it before and after each text: so the writer puts
    it before the prompt, and stops where the model writes it. `end` names another special token, or None for no such thing.
    Models with a flat head read bare windows of text and get none unless named.
    """

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, *, end: str | None = "auto") -> None:
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"the tokenizer knows {tokenizer.vocab_size} ids and the model only {model.config.vocab_size}: "
                "they were not trained together; load both from the same folder"
            )
        self.model, self.tokenizer = model, tokenizer
        flat = model.config.head.kind != "per_token"
        if end == "auto":
            end = None if flat else next((name for name in END_TOKENS if name in tokenizer.special_tokens), None)
        if end is not None and end not in tokenizer.special_tokens:
            known = ", ".join(map(repr, tokenizer.special_tokens)) or "none"
            raise ValueError(f"end = {end!r} is no special token of this tokenizer, which has {known}")
        self.end_id = None if end is None else tokenizer.special_tokens[end]
        self.pad_id = next(
            (tokenizer.special_tokens[name] for name in PAD_TOKENS if name in tokenizer.special_tokens), None
        )

    def encode(self, prompt: str) -> list[int]:
        """The ids of a prompt as the model saw texts begin. Names of special tokens in it are ordinary text."""
        return ([] if self.end_id is None else [self.end_id]) + self.tokenizer.encode(prompt)

    def write(
        self,
        prompt: str,
        max_new_tokens: int,
        sampling: Sampling | None = None,
        *,
        stop_strings: Sequence[str] = (),
        confidence: ConfidenceStop | None = None,
        seed: int = 0,
        use_cache: bool | None = None,
    ) -> Generation:
        """Go on from the prompt; see `generate`."""
        return self.write_batch(
            [prompt],
            max_new_tokens,
            sampling,
            stop_strings=stop_strings,
            confidence=confidence,
            seed=seed,
            use_cache=use_cache,
        )[0]

    def write_batch(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        sampling: Sampling | None = None,
        *,
        stop_strings: Sequence[str] = (),
        confidence: ConfidenceStop | None = None,
        seed: int = 0,
        use_cache: bool | None = None,
    ) -> list[Generation]:
        """Go on from several prompts at once; see `generate`."""
        if isinstance(prompts, str):
            raise TypeError("write_batch wants several prompts, and got one: use write, or put it in a list")
        return generate(
            self.model,
            [self.encode(prompt) for prompt in prompts],
            max_new_tokens,
            sampling,
            stop_strings=stop_strings,
            confidence=confidence,
            seed=seed,
            use_cache=use_cache,
            **self._tokens(),
        )

    def stream(
        self,
        prompt: str,
        max_new_tokens: int,
        sampling: Sampling | None = None,
        *,
        stop_strings: Sequence[str] = (),
        confidence: ConfidenceStop | None = None,
        seed: int = 0,
        use_cache: bool | None = None,
    ) -> Stream:
        """The same, piece by piece; see `stream`."""
        return stream(
            self.model,
            self.encode(prompt),
            max_new_tokens,
            sampling,
            stop_strings=stop_strings,
            confidence=confidence,
            seed=seed,
            use_cache=use_cache,
            **self._tokens(),
        )

    def _tokens(self) -> dict[str, Any]:
        stop_tokens = () if self.end_id is None else (self.end_id,)
        return {"tokenizer": self.tokenizer, "stop_tokens": stop_tokens, "pad_token": self.pad_id}
