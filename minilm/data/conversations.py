"""Conversations and preferences in the field's formats, one JSON object a line, with every bad line named by its number.

    {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello!"}]}
    {"prompt": "Hello", "chosen": "Hello!", "rejected": "What?"}

In a preference each of the three may also be a list of messages; `chosen` and `rejected` may begin with the prompt, which
may then be left out. Data that is made here goes by name: `instructions:easy:2000`, `questions:easy:2000`,
`preferences:easy:2000`, each with a split behind it if it isn't to be train.
"""

import codecs
import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from minilm.data import instructions, preferences, stories

Messages = list[dict[str, str]]
OnError = Literal["refuse", "skip"]
NAMES = ("instructions", "questions", "preferences")
SHOWN = 5  # bad lines that a complaint shows
ROLE = re.compile(r"[\w-]+")


class RecordError(ValueError):
    """Data that can't be used: the message names the file, the lines, and what is wrong with each; `bad` are those lines."""

    def __init__(self, message: str, bad: "Sequence[BadLine]" = ()) -> None:
        super().__init__(message)
        self.bad = list(bad)


@dataclass(frozen=True)
class Chat:
    """A conversation that ends with, or at least holds, an answer."""

    line: int
    messages: Messages

    @property
    def prompt_text(self) -> str:
        """What was said before the first answer: equal prompts fall on one side of a split."""
        said = [each["content"] for each in self.messages[: first_answer(self.messages)]]
        return "\n".join(said)


@dataclass(frozen=True)
class Comparison:
    """Two answers to the same messages, the better one first."""

    line: int
    prompt: Messages
    chosen: str
    rejected: str

    @property
    def prompt_text(self) -> str:
        """What was said before the answers, or one of them where the prompt is everybody's: what splits go by."""
        return "\n".join(each["content"] for each in self.prompt)


Record = TypeVar("Record", Chat, Comparison)


@dataclass(frozen=True)
class BadLine:
    """A line that holds no usable record."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


@dataclass(frozen=True)
class Records(Generic[Record]):
    """What was read from a file or made by name, and which lines were left out."""

    source: str
    records: list[Record]
    bad: list[BadLine] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)


def read_chats(source: str | Path, on_error: OnError = "refuse") -> Records[Chat]:
    """Conversations from a JSONL file, or made by name (`instructions:easy:2000`).

    A bad line (no JSON, no messages, a role or content that is none, no answer) is refused, all of them in one RecordError, or
    with `on_error="skip"` left out and listed. RecordError also where nothing is left, and where the file can't be read.
    """
    return _read(str(source), on_error, _chat, ("instructions", "questions"), '{"messages": [...]}')


def read_comparisons(source: str | Path, on_error: OnError = "refuse") -> Records[Comparison]:
    """Preferences from a JSONL file, or made by name (`preferences:easy:2000`); bad lines as in `read_chats`."""
    shape = '{"prompt": ..., "chosen": ..., "rejected": ...}'
    return _read(str(source), on_error, _comparison, ("preferences",), shape)


def is_generated(source: str) -> bool:
    """Whether the word names data that is made here, and is no file."""
    return source.split(":")[0] in NAMES


def complain(source: str, bad: Sequence[BadLine], whole: int) -> str:
    """The sentence for bad lines: how many, the first ones with their reasons, and what can be done."""
    shown = "; ".join(map(str, bad[:SHOWN]))
    more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return f"{source!r}: {len(bad)} of {whole} lines can't be used: {shown}{more}"


def held_out(record: Chat | Comparison, share: float) -> bool:
    """Whether a record belongs to the share that is measured on, by a hash of its prompt: equal prompts are never on both sides.

    A comparison whose prompt says nothing of its own ("Tell me a story.") goes by its answers.
    """
    text = record.prompt_text
    if isinstance(record, Comparison):
        text += "\n" + "\n".join(sorted((record.chosen, record.rejected)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 10_000 < share * 10_000


# -------------------------------------------------------------------------------------------------------------- reading


def _read(
    source: str, on_error: OnError, parse: Callable[[int, Any], Record], names: tuple[str, ...], shape: str
) -> Records[Record]:
    if on_error not in ("refuse", "skip"):
        raise ValueError(f"on_error = {on_error!r}: choose 'refuse' or 'skip'")
    found: list[Record] = []
    bad: list[BadLine] = []
    for line, value in _generated(source, names) if is_generated(source) else _lines(source, shape):
        try:
            found.append(parse(line, _json(value) if isinstance(value, bytes) else value))
        except RecordError as error:
            bad.append(BadLine(line, str(error)))
    if bad and (on_error == "refuse" or not found):
        raise RecordError(complain(source, bad, len(bad) + len(found)), bad)
    if not found:
        raise RecordError(f"{source!r} holds no records: write one JSON object a line, {shape}")
    return Records(source, found, bad)


def _lines(source: str, shape: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers."""
    path = Path(source).expanduser()
    try:
        data = path.read_bytes()
    except OSError as error:
        near = difflib.get_close_matches(source.split(":")[0], NAMES, n=1)
        hint = f". Did you mean {near[0]}:easy:2000?" if near else ""
        raise RecordError(f"{source!r} can't be read: {error.strerror or error}{hint}") from None
    data = data.removeprefix(codecs.BOM_UTF8)
    if data.lstrip()[:1] == b"[":
        raise RecordError(f"{source!r} is one JSON list: write its objects one a line (JSONL), {shape}")
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            yield number, line


def _json(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise RecordError("it is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise RecordError(f"it is not JSON ({reason})") from None


def _generated(source: str, names: tuple[str, ...]) -> Iterator[tuple[int, Any]]:
    """`preferences:easy:2000:train` as records in the field's format."""
    name, *parts = source.split(":")
    if name not in names:
        raise RecordError(
            f"{source!r} is the wrong kind of data here: use {' or '.join(f'{n}:easy:2000' for n in names)}"
        )
    size, count, split = [*parts, *("easy", "1000", "train")[len(parts) :]][:3]
    if len(parts) > 3 or not (count.isascii() and count.isdigit()) or int(count) < 1:
        raise RecordError(f"{source!r} should be {name}:SIZE:NUMBER or {name}:SIZE:NUMBER:SPLIT, as {name}:easy:2000")
    if split not in stories.SPLITS:
        raise RecordError(f"{source!r}: there is no split {split!r}; there are {', '.join(stories.SPLITS)}")
    chosen = next(known for known in stories.SPLITS if known == split)
    try:
        if name == "preferences":
            made: list[Any] = [pair.record for pair in preferences.preferences(size, int(count), split=chosen)]
        else:
            kinds: tuple[instructions.Kind, ...] = ("question",) if name == "questions" else instructions.KINDS
            tasks = instructions.instructions(size, int(count), split=chosen, kinds=kinds)
            made = [{"messages": task.messages} for task in tasks]
    except ValueError as error:
        raise RecordError(f"{source!r}: {error}") from None
    yield from enumerate(made, start=1)


# ----------------------------------------------------------------------------------------------------- one line's record


def _chat(line: int, value: Any) -> Chat:
    if not isinstance(value, dict):
        raise RecordError(f"it is {_kind(value)}, not an object")
    if "messages" not in value:
        others = {"conversations": "ShareGPT's format", "instruction": "Alpaca's format", "chosen": "a preference"}
        looks = next((f"; it looks like {name}" for key, name in others.items() if key in value), "")
        raise RecordError(f"it has no 'messages'{looks}")
    messages = _messages(value["messages"], "messages")
    if not any(message["role"] == "assistant" for message in messages):
        raise RecordError("it holds no message of the role 'assistant', so there is nothing to learn")
    return Chat(line, messages)


def _comparison(line: int, value: Any) -> Comparison:
    if not isinstance(value, dict):
        raise RecordError(f"it is {_kind(value)}, not an object")
    for key in ("chosen", "rejected"):
        if key not in value:
            raise RecordError(f"it has no {key!r}")
    chosen, rejected = (_answer(value[key], key) for key in ("chosen", "rejected"))
    if "prompt" in value:
        given = value["prompt"]
        prompt = _messages(given, "prompt") if isinstance(given, list) else [_user(given)]
    else:
        prompt = chosen[:-1]
        if not prompt:
            raise RecordError("it has no 'prompt'")
    for key, answer in (("chosen", chosen), ("rejected", rejected)):
        if len(answer) > 1 and answer[:-1] != prompt:
            raise RecordError(f"{key!r} does not begin with the prompt: the two may differ in their last message only")
    if chosen[-1] == rejected[-1]:
        raise RecordError("'chosen' and 'rejected' are the same")
    if prompt[-1]["role"] == "assistant":
        raise RecordError("the prompt ends with an answer already")
    return Comparison(line, prompt, chosen[-1]["content"], rejected[-1]["content"])


def _answer(value: Any, key: str) -> Messages:
    """An answer as messages: the answer alone, or with the messages before it."""
    if isinstance(value, list):
        messages = _messages(value, key)
        if messages[-1]["role"] != "assistant":
            raise RecordError(f"{key!r} ends with a message of the role {messages[-1]['role']!r}, not 'assistant'")
        return messages
    return [{"role": "assistant", "content": _text(value, key)}]


def _user(value: Any) -> dict[str, str]:
    return {"role": "user", "content": _text(value, "prompt")}


def _messages(value: Any, key: str) -> Messages:
    if not isinstance(value, list) or not value:
        raise RecordError(f"{key!r} is {_kind(value)}, not a list of messages")
    messages = []
    for number, message in enumerate(value, start=1):
        if not isinstance(message, dict) or "role" not in message or "content" not in message:
            raise RecordError(f"message {number} of {key!r} is not {{'role': ..., 'content': ...}}")
        role = message["role"]
        if not isinstance(role, str) or not ROLE.fullmatch(role):
            raise RecordError(f"message {number} of {key!r} has the role {role!r}; a role is one word, such as 'user'")
        messages.append({"role": role, "content": _text(message["content"], f"content of message {number}")})
    return messages


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RecordError(f"{name!r} is {_kind(value)}, not text")
    if not value.strip():
        raise RecordError(f"{name!r} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RecordError(f"{name!r} holds half of a surrogate pair, which is no character") from None
    return value


def _kind(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    if value == [] and isinstance(value, list):
        return "an empty list"
    return names.get(type(value), "a number")


def first_answer(messages: Messages) -> int:
    """The place of the first message that is the assistant's; behind the last if there is none."""
    return next((i for i, message in enumerate(messages) if message["role"] == "assistant"), len(messages))
