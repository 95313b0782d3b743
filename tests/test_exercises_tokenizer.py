"""The exercises of lesson 01 take every right answer, however it is written, and their references are the library's."""

import importlib
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from minilm.course.exercise import find
from minilm.course.judging import judge
from minilm.tokenizer import ByteTokenizer

exercises = importlib.import_module("minilm.course.exercises.01_tokenizer")


def status(id: str, answer: Callable[..., Any]) -> str:
    exercise = find(id)
    assert not isinstance(exercise, str)
    return judge(exercise, answer).status


def count_with_a_dict(ids: list[int]) -> dict[tuple[int, int], int]:
    counts: dict[tuple[int, int], int] = {}
    for i in range(1, len(ids)):
        counts[ids[i - 1], ids[i]] = counts.get((ids[i - 1], ids[i]), 0) + 1
    return counts


def merge_in_place(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    merged = list(ids)
    i = 0
    while i < len(merged) - 1:
        if (merged[i], merged[i + 1]) == pair:
            merged[i : i + 2] = [new_id]
        i += 1
    return merged


def encode_by_replaying_every_merge(ids: list[int], merges: dict[tuple[int, int], int]) -> list[int]:
    for pair, new_id in merges.items():
        ids = merge_in_place(ids, pair, new_id)
    return ids


def split_by_hand(text: str, special_tokens: list[str]) -> list[str]:
    pieces, start, i = [], 0, 0
    while i < len(text):
        special = max((s for s in special_tokens if text.startswith(s, i)), key=len, default="")
        if special:
            pieces += [text[start:i], special]
            start = i + len(special)
        i += len(special) or 1
    return [piece for piece in [*pieces, text[start:]] if piece]


def decode_a_bytearray(ids: list[int], tokens: dict[int, bytes]) -> str:
    data = bytearray()
    for i in ids:
        data += tokens[i]
    return str(data, "utf-8", "replace")


@pytest.mark.parametrize(
    ("id", "answer"),
    [
        ("01.1", count_with_a_dict),
        ("01.2", merge_in_place),
        ("01.3", encode_by_replaying_every_merge),
        ("01.4", split_by_hand),
        ("01.5", decode_a_bytearray),
    ],
)
def test_another_method_passes(id: str, answer: Callable[..., Any]) -> None:
    assert status(id, answer) == "passed"


class WholeWords:
    """A right answer to 01.6 that merges nothing: whole words of the training text, and bytes for all else."""

    def __init__(self, text: str, vocab_size: int) -> None:
        common = Counter(exercises.pre_tokenize(text, "gpt2")).most_common(vocab_size - 257)
        self.tokens = [bytes([byte]) for byte in range(256)] + [word.encode() for word, _ in common]
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.special_tokens = {"<|end|>": len(self.tokens)}
        self.tokens.append(b"<|end|>")

    def encode(self, text: str) -> list[int]:
        words = [word.encode() for word in exercises.pre_tokenize(text, "gpt2")]
        return [i for word in words for i in ([self.ids[word]] if word in self.ids else list(word))]

    def decode(self, ids: list[int]) -> str:
        return b"".join(self.tokens[i] for i in ids).decode("utf-8", "replace")


def test_a_tokenizer_of_another_kind_passes() -> None:
    assert status("01.6", WholeWords) == "passed"


def test_a_mended_helper_is_seen_although_the_trainer_is_the_same() -> None:
    broken = True

    def train(text: str, vocab_size: int) -> WholeWords:
        made = WholeWords(text, vocab_size)
        if broken:
            made.tokens[ord("b")] = b"?"
        return made

    assert status("01.6", train) == "not yet"
    broken = False
    assert status("01.6", train) == "passed"


@pytest.mark.parametrize(
    ("id", "answer", "words"),
    [
        ("01.1", lambda ids: Counter((ids[i], ids[i + 1]) for i in range(len(ids))), "has no right neighbour"),
        ("01.2", lambda ids, pair, new_id: [*ids] if ids[0:2] == pair else list(ids), "and the two are never equal"),
        ("01.4", lambda text, specials: [p for p in re.split(f"({'|'.join(sorted(map(re.escape, specials), key=len, reverse=True))})", text) if p], "an empty pattern fits"),
    ],
)  # fmt: skip
def test_what_beginners_write_first_is_recognised(id: str, answer: Callable[..., Any], words: str) -> None:
    exercise = find(id)
    assert not isinstance(exercise, str)
    assert words in judge(exercise, answer).message


def test_special_tokens_in_a_list_are_said_to_be_one() -> None:
    class Listed(WholeWords):
        def __init__(self, text: str, vocab_size: int) -> None:
            super().__init__(text, vocab_size)
            self.special_tokens = ["<|end|>"]  # type: ignore[assignment]

    exercise = find("01.6")
    assert not isinstance(exercise, str)
    assert "special_tokens is a list." in judge(exercise, Listed).message


def test_decode_is_the_library_s() -> None:
    rng, library = random.Random(0), ByteTokenizer()
    tokens = {i: bytes([i]) for i in range(256)}
    for _ in range(200):
        ids = rng.choices([*range(256), 0xC3, 0xA9, 0xF0, 0x9F], k=rng.randint(0, 8))
        assert exercises.decode(ids, tokens) == library.decode(ids)
