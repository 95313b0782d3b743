"""Cutting text into words before any merge, and cutting out special tokens.

Merges never cross the border of a word, so a tokenizer learns "dog" and not "dog." "dog," "dog!", and both training and encoding need to look at each distinct word only once.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache, lru_cache
from typing import Literal, get_args

import regex

PreTokenizerName = Literal["gpt2", "gpt4", "whitespace"]
PreTokenizer = PreTokenizerName | None
Split = Callable[[str], list[str]]

PATTERNS: dict[PreTokenizerName, str] = {
    # Radford et al. 2019: English endings, then a run of letters, digits or signs with at most one space before it, then white space,
    # whose last character is left to the next word.
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # OpenAI's cl100k: endings in any case, digits in groups of at most three, line ends apart from other white space.
    "gpt4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?[\p{L}]+|[\p{N}]{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
    # dlib: every space, tab and line end is a word of its own.
    "whitespace": r"[^ \t\r\n]+|[ \t\r\n]",
}

# How many characters past its end can still change a word: "'" and "r" are two words, until an "e" makes them "'re".
LOOKAHEAD = 3
# Streams are worked through in pieces of about this many characters.
CHUNK = 1 << 16


def pre_tokenize(text: str, pre_tokenizer: PreTokenizer) -> list[str]:
    """Cut `text` into words that merges will not cross; joined, the words are the text again.

    `"gpt2"` and `"gpt4"` are those models' regular expressions, `"whitespace"` makes each space, tab and line end a word of its own (dlib), None leaves the text whole.

    >>> pre_tokenize("Hello world, it's 2024!", "gpt2")
    ['Hello', ' world', ',', ' it', "'s", ' 2024', '!']

    Raises ValueError for another name.
    """
    return splitter(pre_tokenizer)(text)


@cache
def splitter(pre_tokenizer: PreTokenizer) -> Split:
    """The function that `pre_tokenize` applies: text -> words."""
    if pre_tokenizer is None:
        return lambda text: [text] if text else []
    if pre_tokenizer not in PATTERNS:
        names = ", ".join(map(repr, get_args(PreTokenizerName)))
        raise ValueError(f"pre_tokenizer is {pre_tokenizer!r}; it must be {names} or None")
    pattern = PATTERNS[pre_tokenizer]
    split_any = regex.compile(pattern).findall
    # The standard library's engine is twice as fast and knows no \p{...}: it serves text that is ASCII throughout.
    split_ascii = re.compile(pattern.replace(r"\p{L}", "a-zA-Z").replace(r"\p{N}", "0-9"), re.ASCII).findall
    return lambda text: split_ascii(text) if text.isascii() else split_any(text)


def split_on_specials(text: str, special_tokens: Collection[str]) -> list[str]:
    """Cut `text` so that each special token in it stands alone; where several fit, the leftmost and then the longest wins.

    >>> split_on_specials("hi<|end|>you", ["<|end|>"])
    ['hi', '<|end|>', 'you']
    """
    if not special_tokens:
        return [text] if text else []
    return [piece for piece in _specials_pattern(frozenset(special_tokens)).split(text) if piece]


@lru_cache(maxsize=64)
def _specials_pattern(special_tokens: frozenset[str]) -> re.Pattern[str]:
    # Alternatives are tried in order, so the longest comes first.
    longest_first = sorted(special_tokens, key=lambda token: (-len(token), token))
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")


def stream_words(
    chunks: Iterable[str], pre_tokenizer: PreTokenizer, special_tokens: Collection[str] = ()
) -> Iterator[tuple[list[str], str | None]]:
    """Cut a text that arrives in pieces exactly as if it had arrived whole, wherever the pieces are cut.

    Yields (words, special): some words, and the special token that follows them, or None.
    Holds back the end of what it has read until nothing that follows can change it, so memory is that of one piece, or of the longest single word.

    Raises ValueError without a pre-tokenizer, because then the whole text is one word.
    """
    # Checked here and not in the generator, whose first line runs only when the first word is asked for.
    if pre_tokenizer is None:
        raise ValueError(
            "pre_tokenizer=None makes the whole text one word, which can't be streamed: give the text as a whole "
            "(training takes about 100 bytes of memory a character), or choose 'gpt2', 'gpt4' or 'whitespace'"
        )
    return _stream_words(chunks, splitter(pre_tokenizer), special_tokens)


def _stream_words(
    chunks: Iterable[str], split: Split, special_tokens: Collection[str]
) -> Iterator[tuple[list[str], str | None]]:
    specials = _specials_pattern(frozenset(special_tokens)) if special_tokens else None
    longest = max(map(len, special_tokens), default=0)
    buffer, enough = "", 0
    for chunk in _even_chunks(chunks):
        buffer += chunk
        if len(buffer) < enough:
            continue
        settled = len(buffer) - longest  # a special token may have begun after this point and not yet ended
        start = 0
        if specials:
            for match in specials.finditer(buffer):
                if match.start() > settled:
                    break
                yield split(buffer[start : match.start()]), match[0]
                start = match.end()
        words = split(buffer[start:])
        # A word is final when the white space after it has ended and LOOKAHEAD more characters are known.
        final = len(buffer[: max(settled, 0)].rstrip()) - LOOKAHEAD
        end = len(buffer)
        while words and end > final:
            end -= len(words.pop())
        buffer = buffer[end:]
        # One word longer than the buffer: read twice as much before looking again, or the time would grow with the square of its length.
        enough = 0 if words or start else 2 * len(buffer)
        if words:
            yield words, None
    pieces = split_on_specials(buffer, special_tokens)
    for piece in pieces:
        yield ([], piece) if piece in special_tokens else (split(piece), None)


def _even_chunks(chunks: Iterable[str]) -> Iterator[str]:
    """The same text in pieces of about CHUNK characters: short ones joined, long ones cut."""
    waiting: list[str] = []
    size = 0
    for chunk in chunks:
        for start in range(0, len(chunk), CHUNK):
            waiting.append(chunk[start : start + CHUNK])
            size += len(waiting[-1])
            if size >= CHUNK:
                yield "".join(waiting)
                waiting, size = [], 0
    yield "".join(waiting)
