"""Hugging Face's tokenizer.json, read and written without their library.

Their byte-level models write each byte as a printable character, as GPT-2 did: "Ġ" is the space, "Ċ" the line end.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilm.tokenizer.pretokenize import PATTERNS, PreTokenizer, PreTokenizerName

TOKENIZER_FILE = "tokenizer.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"

# Bytes that print in Latin-1 stand for themselves; the others, in order, are the characters from U+0100 on.
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS = tuple(byte for byte in range(256) if byte not in _PRINTABLE)
# GPT-2 numbers the bytes in the order of these characters.
BYTE_ORDER = (*_PRINTABLE, *_OTHERS)
_CHARACTER_OF = {
    **{byte: chr(byte) for byte in _PRINTABLE},
    **{byte: chr(0x100 + order) for order, byte in enumerate(_OTHERS)},
}
_BYTE_OF = {character: byte for byte, character in _CHARACTER_OF.items()}

# The same regular expressions as others write them.
_KNOWN_PATTERNS: dict[str, PreTokenizerName] = {
    **{pattern: name for name, pattern in PATTERNS.items()},
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
    # tiktoken's cl100k and Llama 3's
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+": "gpt4",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "gpt4",
}


@dataclass(frozen=True)
class Parts:
    """What a byte-level tokenizer is made of."""

    vocab: Mapping[bytes, int]
    merges: Sequence[tuple[bytes, bytes]]
    special_tokens: Mapping[str, int]
    pre_tokenizer: PreTokenizer


def to_unicode(token: bytes) -> str:
    """`token` as GPT-2's files write it.

    >>> to_unicode(" café".encode())
    'ĠcafÃ©'
    """
    return "".join(map(_CHARACTER_OF.__getitem__, token))


def from_unicode(name: str) -> bytes:
    """The bytes of a token that GPT-2's files write as `name`. Raises ValueError for a character that stands for no byte."""
    try:
        return bytes(map(_BYTE_OF.__getitem__, name))
    except KeyError as error:
        raise ValueError(
            f"the token {name!r} has the character {error}, which stands for no byte: this is no byte-level vocabulary"
        ) from None


def write(parts: Parts) -> str:
    """The text of a tokenizer.json."""
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": dict(
            sorted(
                [*((to_unicode(token), i) for token, i in parts.vocab.items()), *parts.special_tokens.items()],
                key=lambda item: item[1],
            )
        ),
        "merges": [[to_unicode(left), to_unicode(right)] for left, right in parts.merges],
    }
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": token, **flags}
            for token, i in sorted(parts.special_tokens.items(), key=lambda item: item[1])
        ],
        "normalizer": None,
        "pre_tokenizer": _write_pre_tokenizer(parts.pre_tokenizer),
        "post_processor": None,
        "decoder": _byte_level(use_regex=True),
        "model": model,
    }
    return json.dumps(document, ensure_ascii=False, indent=1)


def read(path_or_json: str | os.PathLike[str]) -> Parts:
    """Parts from a tokenizer.json: its path, its folder's, or its text.

    Raises FileNotFoundError if it isn't there, and ValueError if it is damaged or asks for something that a plain byte-level BPE does not do.
    """
    if isinstance(path_or_json, str) and path_or_json.lstrip().startswith("{"):
        name, text = "the text", path_or_json
    else:
        path = Path(path_or_json)
        if path.is_dir():
            path = path / TOKENIZER_FILE
        name = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise FileNotFoundError(
                f"there is no file {name!r}: give the path of a tokenizer.json, or of the folder that holds one"
            ) from None
        except UnicodeDecodeError:
            raise ValueError(f"{name} is damaged: it is not UTF-8 text. Save or download it again") from None
    try:
        return _parts(json.loads(text))
    except _Unsupported as error:
        raise ValueError(
            f"{name} {error}, which BPETokenizer does not do: use the tokenizers library for this one"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{name} is damaged or no tokenizer.json ({type(error).__name__}: {error}). Save or download it again"
        ) from None


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", newline="", dir=path.parent, prefix=path.name, delete=False
    ) as file:
        file.write(text)
    try:
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError:
        Path(file.name).unlink()
        raise


class _Unsupported(Exception):
    """The file asks for something this course's tokenizer does not do."""


def _parts(document: dict[str, Any]) -> Parts:
    model = document["model"]
    if model.get("type", "BPE") != "BPE":
        raise _Unsupported(f"holds a {model['type']} model")
    for option in (
        "dropout",
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "byte_fallback",
        "ignore_merges",
    ):
        if model.get(option):
            raise _Unsupported(f"sets {option} to {model[option]!r}")
    if document.get("normalizer"):
        raise _Unsupported(f"normalizes text ({document['normalizer'].get('type')})")
    if document.get("post_processor") and document["post_processor"].get("type") != "ByteLevel":
        raise _Unsupported(f"adds tokens after encoding ({document['post_processor'].get('type')})")
    special_tokens = {}
    for token in document.get("added_tokens") or []:
        for option in ("single_word", "lstrip", "rstrip"):
            if token.get(option):
                raise _Unsupported(f"sets {option} for the token {token['content']!r}")
        special_tokens[token["content"]] = int(token["id"])
    vocab = {from_unicode(name): int(i) for name, i in model["vocab"].items() if name not in special_tokens}
    pairs = [entry.split(" ") if isinstance(entry, str) else entry for entry in model["merges"]]
    merges = [(from_unicode(left), from_unicode(right)) for left, right in pairs]
    return Parts(vocab, merges, special_tokens, _read_pre_tokenizer(document.get("pre_tokenizer")))


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _write_pre_tokenizer(pre_tokenizer: PreTokenizer) -> dict[str, Any]:
    if pre_tokenizer is None or pre_tokenizer == "gpt2":
        return _byte_level(use_regex=pre_tokenizer == "gpt2")
    split = {"type": "Split", "pattern": {"Regex": PATTERNS[pre_tokenizer]}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _byte_level(use_regex=False)]}


def _read_pre_tokenizer(settings: dict[str, Any] | None) -> PreTokenizer:
    steps = [] if settings is None else settings["pretokenizers"] if settings["type"] == "Sequence" else [settings]
    if not steps or steps[-1]["type"] != "ByteLevel" or steps[-1].get("add_prefix_space"):
        raise _Unsupported("is not byte-level, or adds a space before the text")
    use_regex = steps[-1].get("use_regex", True)
    if len(steps) == 1:
        return "gpt2" if use_regex else None
    pattern = steps[0].get("pattern", {}).get("Regex")
    if (
        len(steps) == 2
        and not use_regex
        and steps[0].get("behavior") == "Isolated"
        and not steps[0].get("invert")
        and pattern in _KNOWN_PATTERNS
    ):
        return _KNOWN_PATTERNS[pattern]
    raise _Unsupported("cuts text into words in another way than 'gpt2', 'gpt4' and 'whitespace'")
