"""What every tokenizer here can do, and the two simplest ones: bytes and characters."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import index
from typing import Literal

from minilm.tokenizer.pretokenize import PreTokenizer, split_on_specials, stream_words

AllowedSpecial = Collection[str] | Literal["all"]

# The special tokens of dlib's byte-pair tokenizer, in its order: after 256 bytes and 3,216 merges they fill a vocabulary of 3,500.
DLIB_SPECIAL_TOKENS = (
    *("<text>", "</text>", "<url>", "</url>", "<image>", "</image>", "<video>", "</video>", "<audio>", "</audio>"),
    *("<file>", "</file>", "<code>", "</code>", "<summary>", "</summary>", "<think>", "</think>"),
    *("<start>", "<end>", "<user>", "<bot>", "<system>", "<question>", "<answer>", "<search>", "<unk>", "<pad>"),
)


class Tokenizer(ABC):
    """Text to ids and back.

    A special token is a string with an id of its own that steers the model (end of text, whose turn it is).
    It is never produced from text unless the caller names it in `allowed_special`: text comes from users, and a user who types "<|end|>" must not end anything.
    """

    # Where a stream of text may be cut.
    pre_tokenizer: PreTokenizer = "whitespace"

    def __init__(self, special_tokens: Mapping[str, int]) -> None:
        self.special_tokens = dict(special_tokens)
        self._special_of = {token_id: token for token, token_id in self.special_tokens.items()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.vocab_size:,} ids, {len(self.special_tokens)} of them special)"

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """How many ids there are, special tokens included; a model's embedding has this many rows."""

    @abstractmethod
    def _encode_plain(self, text: str) -> list[int]:
        """Ids of `text`, in which nothing is special."""

    def _encode_words(self, words: Sequence[str]) -> list[int]:
        """Ids of consecutive words, as `pre_tokenize` cuts them."""
        return self._encode_plain("".join(words))

    @abstractmethod
    def _plain_bytes(self, token_id: int) -> bytes:
        """The bytes of an id that is not special; KeyError or IndexError if there is no such id."""

    def encode(self, text: str, allowed_special: AllowedSpecial = ()) -> list[int]:
        """Ids of `text`.

        Strings of special tokens in it are ordinary text, except those named in `allowed_special` (or all of them, with "all").
        Raises ValueError for a name that is no special token, and for a lone surrogate in `text`, which no UTF-8 text can hold.
        """
        if not isinstance(text, str):
            raise TypeError(
                f"encode wants one text: got {type(text).__name__}; encode_batch takes several, and bytes need .decode('utf-8')"
            )
        if not allowed_special:
            return self._encode_plain(text)
        allowed = self._allowed(allowed_special)
        ids: list[int] = []
        for piece in split_on_specials(text, allowed):
            if piece in allowed:
                ids.append(self.special_tokens[piece])
            else:
                ids.extend(self._encode_plain(piece))
        return ids

    def encode_batch(self, texts: Iterable[str], allowed_special: AllowedSpecial = ()) -> list[list[int]]:
        """Ids of each of `texts`: `encode` for each."""
        if isinstance(texts, str):
            raise TypeError("encode_batch wants several texts, and got one: use encode, or put it in a list")
        return [self.encode(text, allowed_special) for text in texts]

    def encode_iterable(self, chunks: Iterable[str], allowed_special: AllowedSpecial = ()) -> Iterator[int]:
        """Ids of the text whose consecutive pieces are `chunks` (an open file, say): those of `encode` on the pieces joined, lazily and in constant memory.

        No word or special token is torn where two pieces meet: what may go on is held back, so ids come some 65,000 characters behind the text.
        Raises ValueError like `encode`, and for a tokenizer with `pre_tokenizer=None`, to which the whole text is one word.
        """
        allowed = self._allowed(allowed_special)
        return self._encode_stream(stream_words(chunks, self.pre_tokenizer, allowed))

    def _encode_stream(self, stream: Iterable[tuple[list[str], str | None]]) -> Iterator[int]:
        for words, special in stream:
            yield from self._encode_words(words)
            if special is not None:
                yield self.special_tokens[special]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` (ints, or a tensor or array of one dimension), special tokens by name. Bytes that are no valid UTF-8 (an emoji cut in half, say) become "�".

        Raises ValueError for an id that is not in the vocabulary, and TypeError for one that is no whole number.
        """
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that `token_id` stands for; of a special token, its name's.

        Raises ValueError for an id that is not in the vocabulary.
        """
        try:
            token_id = index(token_id)  # an entry of a tensor or array is an int too
        except TypeError:
            raise TypeError(
                f"an id is a whole number: got {token_id!r}; decode takes one sequence of them at a time"
            ) from None
        special = self._special_of.get(token_id)
        if special is not None:
            return special.encode("utf-8")
        try:
            if token_id < 0:
                raise IndexError
            return self._plain_bytes(token_id)
        except (KeyError, IndexError):
            raise ValueError(f"no token has id {token_id}: ids go from 0 to {self.vocab_size - 1}") from None

    def _allowed(self, allowed_special: AllowedSpecial) -> Collection[str]:
        if allowed_special == "all":
            return self.special_tokens.keys()
        if isinstance(allowed_special, str):
            raise ValueError(f"allowed_special is the text {allowed_special!r}: put it in a list, or say 'all'")
        for token in allowed_special:
            if token not in self.special_tokens:
                known = ", ".join(map(repr, self.special_tokens)) or "none"
                raise ValueError(
                    f"allowed_special names {token!r}, which is no special token of this tokenizer: {known}"
                )
        return allowed_special


class ByteTokenizer(Tokenizer):
    """Every byte of the UTF-8 text is a token: nothing is ever unknown, and everything is long.

    Ids 0..255 are the bytes by value; `special_tokens` follow from 256 on.
    """

    def __init__(self, special_tokens: Sequence[str] = ()) -> None:
        check_special_tokens(special_tokens)
        super().__init__({token: 256 + order for order, token in enumerate(special_tokens)})

    @property
    def vocab_size(self) -> int:
        """256 and the special tokens."""
        return 256 + len(self.special_tokens)

    def _encode_plain(self, text: str) -> list[int]:
        return list(utf8(text))

    def _plain_bytes(self, token_id: int) -> bytes:
        return bytes([range(256)[token_id]])


class CharTokenizer(Tokenizer):
    """One token a character: the 256 characters of Latin-1 by code (English, French and most of western Europe), and a pad, id 256.

    This is the vocabulary of dlib's character model, whose code takes min(c, 255) of a signed byte: there an é becomes two negative numbers, and negative ids read memory that is not theirs.
    Here a character outside of Latin-1 raises ValueError that names it and where it stands (`errors="refuse"`), or becomes "?" (`errors="replace"`).
    """

    pad_id = 256

    def __init__(self, errors: Literal["refuse", "replace"] = "refuse") -> None:
        if errors not in ("refuse", "replace"):
            raise ValueError(f"errors is {errors!r}; it must be 'refuse' or 'replace'")
        super().__init__({"<pad>": self.pad_id})
        self.errors = errors

    @property
    def vocab_size(self) -> int:
        """257."""
        return 257

    def _encode_plain(self, text: str) -> list[int]:
        try:
            return list(text.encode("latin-1", errors="strict" if self.errors == "refuse" else "replace"))
        except UnicodeEncodeError as error:
            character = text[error.start]
            raise ValueError(
                f"character {error.start} is {character!r} (U+{ord(character):04X}), and this tokenizer knows only Latin-1 (U+0000 to U+00FF): "
                "use ByteTokenizer or BPETokenizer, or CharTokenizer(errors='replace')"
            ) from None

    def _plain_bytes(self, token_id: int) -> bytes:
        return chr(range(256)[token_id]).encode("utf-8")


def utf8(text: str) -> bytes:
    """`text` in UTF-8; ValueError names a lone surrogate (half of a UTF-16 pair, as broken files and some keyboards produce)."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} is a lone surrogate (U+{ord(text[error.start]):04X}), which is no character and has no UTF-8: "
            "mend the text with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        ) from None


def check_special_tokens(special_tokens: Sequence[str]) -> None:
    """Raise ValueError if one is empty or there twice."""
    if isinstance(special_tokens, str):
        raise ValueError(f"special_tokens is the text {special_tokens!r}: put it in a list")
    for token in special_tokens:
        if not isinstance(token, str) or not token:
            raise ValueError(
                f"special_tokens holds {token!r}: a special token is a text of at least one character, such as '<|end|>'"
            )
        utf8(token)
        if list(special_tokens).count(token) > 1:
            raise ValueError(f"special_tokens holds {token!r} twice: name each once")
