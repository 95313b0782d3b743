"""The byte-pair tokenizer: trains and encodes in pure Python, and agrees with Hugging Face tokenizers id for id."""

import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain, repeat
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from minilm.tokenizer import huggingface
from minilm.tokenizer.base import Tokenizer, check_special_tokens, utf8
from minilm.tokenizer.chat import CHATML, CHATML_SPECIAL_TOKENS, Message, render, render_pieces
from minilm.tokenizer.counting import count_words
from minilm.tokenizer.pretokenize import CHUNK, PreTokenizer, splitter, stream_words
from minilm.tokenizer.training import TieBreak, learn_merges

if TYPE_CHECKING:
    import tokenizers

# Words of more bytes are merged by another method, and not kept.
LONG_WORD = 128


class BPETokenizer(Tokenizer):
    """Byte-pair encoding on UTF-8 bytes (Sennrich et al. 2016; Radford et al. 2019), so that no text is ever unknown.

    Attributes: `vocab` (bytes of an ordinary token -> id), `merges` (pairs of bytes, in the order learned), `special_tokens` (name -> id), `pre_tokenizer`,
    and `chat_template` (Jinja; ChatML unless you set another). All are for reading, save the last.

    Make one with `train`, `load`, `from_vocab`, `from_gpt2_files` or `from_huggingface`.
    """

    def __init__(
        self,
        vocab: Mapping[bytes, int],
        merges: Iterable[tuple[bytes, bytes]],
        special_tokens: Mapping[str, int],
        pre_tokenizer: PreTokenizer = "gpt2",
    ) -> None:
        super().__init__(special_tokens)
        self.vocab = dict(vocab)
        self.merges = list(merges)
        self.pre_tokenizer = pre_tokenizer
        self.chat_template = CHATML
        self._split = splitter(pre_tokenizer)
        self._check()
        self._token_of = {token_id: token for token, token_id in self.vocab.items()}
        self._vocab_size = 1 + max(chain(self._token_of, self._special_of))
        # While it is merged a word is a str with one character for each id (see training.py).
        self._byte_table = {byte: chr(self.vocab[bytes([byte])]) for byte in range(256)}
        self._pairs = [chr(self.vocab[left]) + chr(self.vocab[right]) for left, right in self.merges]
        self._merged = [chr(self.vocab[left + right]) for left, right in self.merges]
        self._rank = {pair: rank for rank, pair in enumerate(self._pairs)}
        self._cache = _WordCache(self)

    def _check(self) -> None:
        check_special_tokens(list(self.special_tokens))
        missing = [byte for byte in range(256) if bytes([byte]) not in self.vocab]
        if missing:
            raise ValueError(
                f"the vocabulary lacks {len(missing)} of the 256 single bytes, the first is {bytes(missing[:1])!r}: give every byte an id"
            )
        for left, right in self.merges:
            for token in (left, right, left + right):
                if token not in self.vocab:
                    raise ValueError(
                        f"the merge of {left!r} and {right!r} needs the token {token!r}, which is not in the vocabulary"
                    )
        names = {huggingface.to_unicode(token) for token in self.vocab}
        for special in self.special_tokens:
            if special in names:
                raise ValueError(
                    f"the special token {special!r} is an ordinary token too: choose a name that no text holds, such as '<|{special}|>'"
                )
        by_id = Counter(chain(self.vocab.values(), self.special_tokens.values()))
        shared, times = by_id.most_common(1)[0]
        if times > 1:
            raise ValueError(f"{times} tokens have the id {shared}: give each its own")
        if min(by_id) < 0 or max(by_id) > 0x10FFFF:
            raise ValueError(f"ids go from {min(by_id)} to {max(by_id)}; they must lie between 0 and 1,114,111")

    # Making one

    @classmethod
    def train(
        cls,
        texts_or_path: Iterable[str] | str | os.PathLike[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        pre_tokenizer: PreTokenizer = "gpt2",
        tie_break: TieBreak = "lowest_id",
        special_position: Literal["first", "last"] = "first",
        progress: bool | None = None,
    ) -> Self:
        """Learn a vocabulary of `vocab_size` ids, the 256 bytes and the special tokens included.

        `texts_or_path` is a list or any iterable of texts, each read once, or the path of a UTF-8 file, which may be larger than memory.
        `tie_break` says which of equally frequent pairs goes first: `"lowest_id"` the one with the lowest ids, as Hugging Face's trainer, whose merges and ids this then gives;
        `"lexicographic"` the greatest pair of byte strings, as in Stanford's CS336.
        Ids: special tokens (`special_position="first"`), bytes in GPT-2's order, merges; or, with `"last"`, special tokens after the merges, as in GPT-2 and dlib.
        A special token found in the text is a border and is not learned from, so no ordinary token can ever spell one.
        With `pre_tokenizer=None` each text is one word, which takes about 100 bytes of memory a character.
        `progress` shows a bar on work of over two seconds; None means only on a terminal.

        When no pair is left before the vocabulary is full, it ends there, with a warning that says where. Special tokens at the end then have lower ids than planned
        (in dlib this silently breaks models): build the model with `tokenizer.vocab_size`, and keep the tokenizer's file with it.

        Raises ValueError for an empty corpus, a vocabulary too small, special tokens empty or named twice, and FileNotFoundError for a path that isn't there.
        """
        check_special_tokens(special_tokens)
        least = 256 + len(special_tokens)
        if not isinstance(vocab_size, int):
            raise TypeError(f"vocab_size is {vocab_size!r}; it must be a whole number")
        if vocab_size < least:
            raise ValueError(
                f"vocab_size is {vocab_size}; it must be at least {least}, for 256 bytes and {len(special_tokens)} special tokens"
            )
        if special_position not in ("first", "last"):
            raise ValueError(f"special_position is {special_position!r}; it must be 'first' or 'last'")
        words = count_words(texts_or_path, pre_tokenizer, special_tokens, progress)
        first = special_position == "first"
        # An empty name holds a special token's place: no merge gives it.
        tokens = [b""] * (len(special_tokens) if first else 0) + [bytes([byte]) for byte in huggingface.BYTE_ORDER]
        table = {ord(token): chr(token_id) for token_id, token in enumerate(tokens) if token}
        spelled: Counter[str] = Counter()
        while words:
            word, count = words.popitem()
            spelled[utf8(word).decode("latin-1").translate(table)] = count
        num_tokens = vocab_size if first else vocab_size - len(special_tokens)
        learned = learn_merges(spelled, tokens, num_tokens, tie_break, progress)
        if len(tokens) < num_tokens:
            reached = len(tokens) + (0 if first else len(special_tokens))
            warnings.warn(
                f"the corpus has no pairs left to merge: the vocabulary has {reached} tokens instead of {vocab_size}. "
                "Build your model with tokenizer.vocab_size, or train on more text",
                stacklevel=2,
            )
        merges = [(tokens[ord(pair[0])], tokens[ord(pair[1])]) for pair in learned]
        vocab = {token: token_id for token_id, token in enumerate(tokens) if token}
        offset = 0 if first else len(tokens)
        return cls(vocab, merges, {token: offset + order for order, token in enumerate(special_tokens)}, pre_tokenizer)

    @classmethod
    def from_vocab(
        cls,
        vocab: Mapping[bytes, int],
        merges: Iterable[tuple[bytes, bytes]],
        special_tokens: Sequence[str] = (),
        pre_tokenizer: PreTokenizer = "gpt2",
    ) -> Self:
        """A tokenizer from its parts. Special tokens keep the ids that `vocab` gives them, or get the next free ones.

        Raises ValueError if a byte is missing, two tokens share an id, or a merge names a token that is not in `vocab`.
        """
        check_special_tokens(special_tokens)
        ordinary = dict(vocab)
        ids: dict[str, int] = {}
        for token in special_tokens:
            known = ordinary.pop(utf8(token), None)
            ids[token] = known if known is not None else 1 + max(chain(vocab.values(), ids.values()), default=-1)
        return cls(ordinary, merges, ids, pre_tokenizer)

    @classmethod
    def from_gpt2_files(
        cls,
        vocab_path: str | os.PathLike[str],
        merges_path: str | os.PathLike[str],
        special_tokens: Sequence[str] = ("<|endoftext|>",),
        pre_tokenizer: PreTokenizer = "gpt2",
    ) -> Self:
        """A tokenizer from the two files that GPT-2 came with (encoder.json and vocab.bpe; elsewhere vocab.json and merges.txt)."""
        try:
            names = json.loads(Path(vocab_path).read_text(encoding="utf-8"))
            lines = Path(merges_path).read_text(encoding="utf-8").split("\n")
            pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
            merges = [(huggingface.from_unicode(left), huggingface.from_unicode(right)) for left, right in pairs]
            vocab = {huggingface.from_unicode(name): token_id for name, token_id in names.items()}
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{vocab_path} and {merges_path} are not GPT-2's pair of files (JSON of token: id; a line 'left right' for each merge): {error}"
            ) from None
        return cls.from_vocab(vocab, merges, special_tokens, pre_tokenizer)

    @classmethod
    def from_huggingface(cls, path_or_json: str | os.PathLike[str]) -> Self:
        """A tokenizer from Hugging Face's tokenizer.json: its path, its folder, or its text.

        Raises FileNotFoundError if it isn't there, and ValueError if it is damaged or asks for something that this class does not do.
        """
        parts = huggingface.read(path_or_json)
        return cls(parts.vocab, parts.merges, parts.special_tokens, parts.pre_tokenizer)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The tokenizer that `save` wrote to `path`: a folder or a file."""
        tokenizer = cls.from_huggingface(Path(path))
        template = Path(path) / huggingface.CHAT_TEMPLATE_FILE
        if template.is_file():
            tokenizer.chat_template = template.read_text(encoding="utf-8")
        return tokenizer

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to `path`, in the files that Hugging Face reads too.

        A path that ends in .json gets the tokenizer alone; any other is a folder, which gets tokenizer.json and chat_template.jinja.
        """
        path = Path(path)
        if path.suffix == ".json":
            huggingface.write_whole(path, self._to_json())
        else:
            huggingface.write_whole(path / huggingface.TOKENIZER_FILE, self._to_json())
            huggingface.write_whole(path / huggingface.CHAT_TEMPLATE_FILE, self.chat_template)

    def to_huggingface(self) -> "tokenizers.Tokenizer":
        """The same tokenizer as Hugging Face's class, which runs in Rust.

        Mind that it takes special tokens out of any text; set `.encode_special_tokens = True` on it to treat them as ordinary text, as `encode` does here.
        """
        import tokenizers

        return tokenizers.Tokenizer.from_str(self._to_json())

    def _to_json(self) -> str:
        return huggingface.write(huggingface.Parts(self.vocab, self.merges, self.special_tokens, self.pre_tokenizer))

    # Using it

    @property
    def vocab_size(self) -> int:
        """The number of ids, special tokens included: one more than the highest."""
        return self._vocab_size

    def _encode_plain(self, text: str) -> list[int]:
        if self.pre_tokenizer is None or len(text) <= CHUNK:
            return self._encode_words(self._split(text))
        # A long text would make a list of all its words: take them a piece at a time.
        ids: list[int] = []
        for words, _ in stream_words([text], self.pre_tokenizer):
            ids += self._encode_words(words)
        return ids

    def _encode_words(self, words: Sequence[str]) -> list[int]:
        return list(chain.from_iterable(map(self._cache.__getitem__, words)))

    def _plain_bytes(self, token_id: int) -> bytes:
        return self._token_of[token_id]

    def encode_word(self, word: str) -> list[int]:
        """Ids of one word as `pre_tokenize` gives it: merge the pair learned first, the leftmost of it, until none is left."""
        spelled = utf8(word).decode("latin-1").translate(self._byte_table)
        if len(spelled) > LONG_WORD:
            return self._encode_long_word(spelled)
        never = len(self._merged)
        rank_of = self._rank.get
        ranks = list(map(rank_of, map(add, spelled, spelled[1:]), repeat(never)))  # of each pair of neighbours
        while ranks and (rank := min(ranks)) != never:
            at = ranks.index(rank)
            spelled = spelled[:at] + self._merged[rank] + spelled[at + 2 :]
            del ranks[at]
            if at > 0:
                ranks[at - 1] = rank_of(spelled[at - 1 : at + 1], never)
            if at < len(ranks):
                ranks[at] = rank_of(spelled[at : at + 2], never)
        return list(map(ord, spelled))

    def _encode_long_word(self, spelled: str) -> list[int]:
        """The same in n log n steps: a heap of candidate merges by rank and place, over a linked list of what is left of the word."""
        symbols = [*spelled, ""]
        end = len(spelled)
        following = list(range(1, end + 2))
        previous = list(range(-1, end))
        candidates = [
            (self._rank[pair], at) for at, pair in enumerate(map(add, spelled, spelled[1:])) if pair in self._rank
        ]
        heapify(candidates)
        while candidates:
            rank, at = heappop(candidates)
            after = following[at]
            if symbols[at] + (symbols[after] if after < end else "") != self._pairs[rank]:
                continue  # one of the two has been merged with its other neighbour
            symbols[at] = self._merged[rank]
            symbols[after] = ""
            following[at] = after = following[after]
            if after < end:
                previous[after] = at
            for left in (previous[at], at):
                if left >= 0 and (right := following[left]) < end:
                    new_rank = self._rank.get(symbols[left] + symbols[right])
                    if new_rank is not None:
                        heappush(candidates, (new_rank, left))
        return list(map(ord, "".join(symbols)))

    def apply_chat_template(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> list[int]:
        """Ids of a conversation: [{"role": "user", "content": "Hello"}, ...] as `chat_template` lays it out.

        `add_generation_prompt` ends it with the opening of the assistant's turn, for the model to go on from.
        Only the template writes special tokens: a message that contains "<|im_end|>" is encoded as those letters, and ends nothing
        (unless the template itself takes characters out of the middle of a message and so puts one together: see chat.py).
        Roles name speakers and may be part of a special token's name, so they must be single words.

        Raises ValueError for a message without role or content, for a template that fails, and if ChatML's special tokens are missing here.
        """
        ids: list[int] = []
        for text, special in render_pieces(
            self._known_template(), messages, add_generation_prompt, self.special_tokens
        ):
            ids += self.encode(text)
            if special is not None:
                ids.append(self.special_tokens[special])
        return ids

    def render_chat(self, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
        """The text that `apply_chat_template` encodes, to look at. Don't encode it with `allowed_special`: that obeys special tokens in the messages too."""
        return render(self._known_template(), messages, add_generation_prompt)

    def _known_template(self) -> str:
        if self.chat_template == CHATML:
            for token in CHATML_SPECIAL_TOKENS:
                if token not in self.special_tokens:
                    raise ValueError(
                        f"the chat template writes {token!r}, which is no special token of this tokenizer: "
                        "train with special_tokens=CHATML_SPECIAL_TOKENS, or set chat_template to one that uses yours"
                    )
        return self.chat_template


class _WordCache(dict[str, list[int]]):
    """Words met so far and their ids; emptied when full, which is simpler than forgetting one by one and as good: frequent words come back at once."""

    def __init__(self, tokenizer: BPETokenizer, limit: int = 1 << 16) -> None:
        self.tokenizer = tokenizer
        self.limit = limit

    def __missing__(self, word: str) -> list[int]:
        ids = self.tokenizer.encode_word(word)
        if len(word) <= LONG_WORD:
            if len(self) >= self.limit:
                self.clear()
            self[word] = ids
        return ids
