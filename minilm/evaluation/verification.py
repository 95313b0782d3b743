"""Does a model know its text by heart, byte for byte? dlib's check of its memorisers."""

from dataclasses import dataclass

from minilm.evaluation.likelihood import EvaluationError
from minilm.evaluation.similarity import Similarity, compare_texts
from minilm.generation import GREEDY, Writer, stream
from minilm.model import LanguageModel
from minilm.tokenizer import Tokenizer


@dataclass(frozen=True)
class Verification:
    """What came of letting a model write a text from its beginning; `print` it.

    `prompt_bytes` were given, `right_bytes` after them written as they stand in the text; `place` is the first byte that is not,
    counted from the text's start, or None if every byte is right.
    """

    text_bytes: int
    prompt_bytes: int
    right_bytes: int
    place: int | None
    expected: bytes  # from a little before the place on
    written: bytes
    similarity: Similarity | None  # of all that was written, where all was written

    @property
    def exact(self) -> bool:
        """Whether every byte is right."""
        return self.place is None

    @property
    def share(self) -> float:
        """The share of the bytes after the prompt that came right before the first wrong one."""
        return self.right_bytes / (self.text_bytes - self.prompt_bytes)

    def __str__(self) -> str:
        asked = self.text_bytes - self.prompt_bytes
        if self.exact:
            return f"byte for byte: all {asked:,} bytes after a prompt of {self.prompt_bytes:,}"
        lines = [
            f"departs at byte {self.place:,} of {self.text_bytes:,}: {self.right_bytes:,} of {asked:,} bytes "
            f"({self.share:.1%}) after a prompt of {self.prompt_bytes:,} were right",
            f"  the text has  {_shown(self.expected)}",
            f"  it wrote      {_shown(self.written)}",
        ]
        if self.similarity is not None:
            lines.append(str(self.similarity))
        return "\n".join(lines)


def verify(
    model: LanguageModel, tokenizer: Tokenizer, text: str, prompt_tokens: int | None = None, *, whole: bool = False
) -> Verification:
    """Give the model the first tokens of a text, let it write the rest greedily, and compare byte by byte.

    `prompt_tokens` is the context length unless given. The model writes until the first wrong byte, or with `whole` as many
    tokens as the text has, and then a similarity report is made, too. Past the context length it reads on as `minilm.generation`
    does, the oldest tokens dropped.

    Raises EvaluationError for a text that has no token after the prompt.
    """
    writer = Writer(model, tokenizer)
    ids = tokenizer.encode(text)
    count = model.config.context_length if prompt_tokens is None else prompt_tokens
    if count < 1:
        raise EvaluationError(f"prompt_tokens = {count}: the model goes on from at least one token")
    if count >= len(ids):
        raise EvaluationError(
            f"the text has {len(ids)} tokens, and {count} of them are the prompt: nothing is left to write. "
            "Give a longer text, or a shorter prompt"
        )
    text_bytes = text.encode()
    prompt = b"".join(map(tokenizer.token_bytes, ids[:count]))
    ids_before = ([] if writer.end_id is None else [writer.end_id]) + ids[:count]
    pieces = stream(model, ids_before, len(ids) - count, GREEDY, tokenizer=tokenizer, pad_token=writer.pad_id)
    written = bytearray(prompt)
    for _ in pieces:
        written = bytearray(prompt + b"".join(map(tokenizer.token_bytes, pieces.generation.ids)))
        if not whole and not text_bytes.startswith(written):
            break
    else:
        written = bytearray(prompt + b"".join(map(tokenizer.token_bytes, pieces.generation.ids)))
    place = _first_difference(text_bytes, bytes(written))
    start = None if place is None else max(0, place - 20)
    return Verification(
        text_bytes=len(text_bytes),
        prompt_bytes=len(prompt),
        right_bytes=(len(text_bytes) if place is None else place) - len(prompt),
        place=place,
        expected=b"" if start is None else text_bytes[start : start + 60],
        written=b"" if start is None else bytes(written[start : start + 60]),
        similarity=compare_texts(ids[count:], pieces.generation.ids) if whole else None,
    )


def _first_difference(text: bytes, written: bytes) -> int | None:
    for place, (a, b) in enumerate(zip(text, written, strict=False)):
        if a != b:
            return place
    return None if len(text) == len(written) else min(len(text), len(written))


def _shown(data: bytes) -> str:
    return repr(data.decode("utf-8", errors="replace"))
