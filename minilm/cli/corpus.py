"""From the text that a command names to what a trainer reads: a tokenizer learned on it, and its tokens in a file.

Text is streamed: no more than a piece of it is in memory, whatever its size. Stories, and texts with a separator, are documents
with the end token between them.
"""

import itertools
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from minilm.cli.run_file import DataConfig, TokenizerConfig
from minilm.data import corpora
from minilm.data.puzzles.tasks import END_THINK, THINK
from minilm.data.windows import open_tokens, write_tokens
from minilm.tokenizer import CHATML_SPECIAL_TOKENS, DLIB_SPECIAL_TOKENS, BPETokenizer, Tokenizer

END = "<end>"
SPECIAL_TOKENS = {
    "end": (END,),
    "chat": (END, *CHATML_SPECIAL_TOKENS),
    "dlib": DLIB_SPECIAL_TOKENS,
    "think": (END, THINK, END_THINK),
}
WELL_KNOWN_SEPARATOR = "<|endoftext|>"  # stands between the stories of TinyStories, and in many other files
TOKENS, FACTS = "tokens.bin", "corpus.json"
PIECE = 1 << 16  # tokens that are written at once
MOST_SAMPLE = 20_000_000  # bytes that a vocabulary is learned on, unless more are asked for
LONGEST_DOCUMENT = 1 << 24  # characters that are held while a separator is looked for

Progress = Callable[[int], None]
"""Told how many bytes have been read so far."""


@dataclass(frozen=True)
class Facts:
    """What is in a token file, kept beside it."""

    vocab_size: int
    tokens: int
    bytes: int  # of the text in UTF-8
    documents: int  # 0: one running text
    story_size: str | None  # which grammar told the stories, None for other text


@dataclass(frozen=True)
class Corpus:
    """Tokens on disk, and what they are."""

    facts: Facts
    tokens: npt.NDArray[np.unsignedinteger]
    end_id: int

    def documents(self) -> Iterator[list[int]]:
        """The documents' own tokens one after the other, without the end tokens between them."""
        borders = np.flatnonzero(np.asarray(self.tokens) == self.end_id)
        return (self.tokens[start + 1 : stop].tolist() for start, stop in itertools.pairwise(borders))


def end_of(tokenizer: Tokenizer) -> int:
    """The id of the end token; ValueError for a tokenizer without one."""
    if END not in tokenizer.special_tokens:
        raise ValueError(f"The tokenizer has no special token {END!r}, which ends every text that is trained on here.")
    return tokenizer.special_tokens[END]


def story_size(text: str) -> str | None:
    """The grammar's name in `stories:medium:20000`, None for any other text."""
    return (text.split(":")[1:2] or ["medium"])[0] or "medium" if text.split(":")[0] == "stories" else None


def class_size(text: str) -> int | None:
    """The digits in `class:2:36000:70`, None for any other text."""
    return int(text.split(":")[1]) if text.startswith("class:") else None


def learn_tokenizer(config: TokenizerConfig, data: DataConfig, notice: Callable[[str], None]) -> BPETokenizer:
    """Byte pairs learned on the first `sample_bytes` of the text (which may be more than is trained on); `notice` is told if it allows fewer than `vocab_size`."""
    separator = data.separator or WELL_KNOWN_SEPARATOR
    texts = corpora.read(
        config.text or data.text, config.sample_bytes or min(MOST_SAMPLE, data.max_bytes or MOST_SAMPLE)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a vocabulary that ends early is told below, damage when all is read
        tokenizer = BPETokenizer.train(
            (text.replace(separator, "\n") for text in texts),
            vocab_size=config.vocab_size,
            special_tokens=SPECIAL_TOKENS[config.special_tokens],
            pre_tokenizer=config.pre_tokenizer,
            special_position=config.special_position,
            progress=False,
        )
    if tokenizer.vocab_size < config.vocab_size:
        notice(
            f"The text has pairs for a vocabulary of {tokenizer.vocab_size:,} tokens only, not {config.vocab_size:,}: "
            f"the model gets {tokenizer.vocab_size:,}."
        )
    return tokenizer


def write_corpus(
    folder: Path, data: DataConfig, tokenizer: Tokenizer, notice: Callable[[str], None], progress: Progress
) -> Corpus:
    """Read the text once and write its tokens into the folder, which is made. `notice` is told what was damaged or left out."""
    counted = _Counter(progress)
    end = end_of(tokenizer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", corpora.CorpusWarning)
        texts = corpora.read(data.text, data.max_bytes)
        separator, texts = _find_separator(data.separator, texts)
        texts = counted.watch(texts)
        if separator is not None:
            texts = split_documents(texts, separator)
        if separator is not None or corpora.needs_no_fetching(data.text):
            chunks = _documents(texts, tokenizer, end, counted)
        else:
            chunks = _running_text(texts, tokenizer, end)
        folder.mkdir(parents=True, exist_ok=True)
        number = write_tokens(folder / TOKENS, chunks, tokenizer.vocab_size)
    for message in dict.fromkeys(str(each.message) for each in caught):
        notice(message)
    facts = Facts(tokenizer.vocab_size, number, counted.bytes, counted.documents, story_size(data.text))
    (folder / FACTS).write_text(json.dumps(asdict(facts), indent=2) + "\n", encoding="utf-8")
    return open_corpus(folder, tokenizer)


def open_corpus(folder: Path, tokenizer: Tokenizer) -> Corpus:
    """What `write_corpus` wrote. ValueError if it is not whole, or is another tokenizer's."""
    try:
        facts = Facts(**json.loads((folder / FACTS).read_text(encoding="utf-8")))
        tokens = open_tokens(folder / TOKENS, tokenizer.vocab_size)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"The tokens in {folder} can't be read ({error}): start the run anew with --force.") from None
    if (facts.vocab_size, facts.tokens) != (tokenizer.vocab_size, len(tokens)):
        raise ValueError(
            f"The tokens in {folder} are not whole, or another tokenizer's: start the run anew with --force."
        )
    return Corpus(facts, tokens, end_of(tokenizer))


class _Counter:
    """Counts bytes and documents while they pass."""

    def __init__(self, progress: Progress) -> None:
        self.bytes = self.documents = 0
        self._progress = progress

    def watch(self, texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            self.bytes += len(text.encode())
            self._progress(self.bytes)
            yield text


def _find_separator(given: str | None, texts: Iterator[str]) -> tuple[str | None, Iterator[str]]:
    """The separator asked for, or the well-known one if the text begins with a piece that holds it."""
    first = next(texts, "")
    found = WELL_KNOWN_SEPARATOR if given is None and WELL_KNOWN_SEPARATOR in first else given
    return found, itertools.chain([first], texts)


def split_documents(texts: Iterable[str], separator: str) -> Iterator[str]:
    """Documents between separators, without the white space around them."""
    rest = ""
    for text in texts:
        *whole, rest = (rest + text).split(separator)
        yield from filter(None, map(str.strip, whole))
        if len(rest) > LONGEST_DOCUMENT:
            yield rest
            rest = ""
    if rest.strip():
        yield rest.strip()


def _documents(texts: Iterable[str], tokenizer: Tokenizer, end: int, counted: _Counter) -> Iterator[list[int]]:
    for text in texts:
        counted.documents += 1
        yield [end, *tokenizer.encode(text)]
    yield [end]


def _running_text(texts: Iterable[str], tokenizer: Tokenizer, end: int) -> Iterator[list[int]]:
    yield [end]
    ids = iter(tokenizer.encode_iterable(texts))
    while piece := list(itertools.islice(ids, PIECE)):
        yield piece
    yield [end]
