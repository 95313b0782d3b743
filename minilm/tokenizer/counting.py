"""A corpus as a tokenizer's trainer sees it: its different words, and how often each occurs."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from minilm.tokenizer.pretokenize import CHUNK, PreTokenizer, split_on_specials, stream_words
from minilm.tokenizer.training import progress_bar


def count_words(
    texts_or_path: Iterable[str] | str | os.PathLike[str],
    pre_tokenizer: PreTokenizer,
    special_tokens: Sequence[str] = (),
    progress: bool | None = False,
) -> Counter[str]:
    """How often each word occurs in a corpus, special tokens left out; memory is that of the different words.

    Raises ValueError if there is none, or if the file is not UTF-8.
    """
    counts: Counter[str] = Counter()
    specials = set(special_tokens)
    if isinstance(texts_or_path, str | os.PathLike):
        for words, _ in stream_words(_read_chunks(texts_or_path, progress), pre_tokenizer, specials):
            counts.update(words)
    elif pre_tokenizer is None:
        for text in _only_texts(texts_or_path):
            counts.update(piece for piece in split_on_specials(text, specials) if piece not in specials)
    else:
        for text in _only_texts(texts_or_path):
            for words, _ in stream_words([text], pre_tokenizer, specials):
                counts.update(words)
    if not counts:
        raise ValueError("the corpus is empty: give at least one text with a character in it")
    return counts


def _only_texts(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(
                f"the corpus holds {text!r:.40}, which is no text: give a list of str, or the path of a file"
            )
        yield text


def _read_chunks(path: str | os.PathLike[str], progress: bool | None) -> Iterator[str]:
    if isinstance(path, str) and ("\n" in path or len(path) > 1000):
        raise ValueError(
            f"a str is taken for the path of a file, and this one looks like a text ({len(path):,} characters): to train on a text, put it in a list, [text]"
        )
    try:
        # newline="" leaves line ends as they are.
        with (
            Path(path).open(encoding="utf-8", newline="") as file,
            progress_bar(Path(path).stat().st_size, "reading", progress) as bar,
        ):
            while chunk := file.read(CHUNK):
                yield chunk
                bar.update(len(chunk))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no file {os.fspath(path)!r}: check the path (from {Path.cwd()}), or, if this is a text to train on, put it in a list"
        ) from None
    except IsADirectoryError:
        raise IsADirectoryError(
            f"{os.fspath(path)!r} is a folder: give the path of one file, or its texts, minilm.data.corpora.read(folder)"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{os.fspath(path)!r} is not UTF-8 text ({error.reason}): convert it, or read it with errors='replace' and pass the texts in a list"
        ) from None
