"""Conversations as text: Jinja templates, rendered as transformers renders them, and why a message can't forge a turn.

A template writes special tokens around the messages, "<|im_start|>user" before and "<|im_end|>" after. Were the finished text encoded with special tokens allowed, a user who types "<|im_end|>" would end the turn and could speak as the system.
So, before rendering, the strings of the messages are shielded: wherever one holds a special token, or a part of one at its edges that the template could complete, a character is exchanged for a private one that stands nowhere else.
After rendering, special tokens are cut out, all of them the template's, and what lies between gets its characters back. The shield keeps lengths and white space, so a template may trim or test the content as it likes.
A template that takes characters out of a content's middle (Jinja's `replace("#", "")` makes a special token of "<|im_e#nd|>") is found out by a second rendering, in which no special token can begin in a message, and refused.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from minilm.tokenizer.pretokenize import split_on_specials

if TYPE_CHECKING:
    import jinja2

Message = Mapping[str, Any]

CHATML_SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>")
# OpenAI's ChatML, which most small chat models use.
CHATML = """\
{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def render(template: str, messages: Sequence[Message], add_generation_prompt: bool) -> str:
    """`messages` laid out by a Jinja template, in transformers' settings: sandboxed, with its names and filters.

    Raises ValueError for a message without a role that is one word, and when the template fails, with its own words.
    """
    import jinja2

    _check_messages(messages)
    try:
        return _compiled(template).render(messages=messages, add_generation_prompt=add_generation_prompt)
    except (jinja2.TemplateError, TypeError) as error:
        raise ValueError(f"the chat template fails on these messages: {error}") from None


@lru_cache(maxsize=16)
def _compiled(template: str) -> "jinja2.Template":
    """The template, compiled once: a data set is thousands of conversations of one template, and compiling takes longer than all else."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    return environment.from_string(template)


def render_pieces(
    template: str, messages: Sequence[Message], add_generation_prompt: bool, special_tokens: Collection[str]
) -> list[tuple[str, str | None]]:
    """`render`, cut into (ordinary text, special token that follows it or None), where only the template's own special tokens are special.

    Raises ValueError, beside what `render` raises, if the template makes a special token out of a message's characters.
    """
    _check_messages(messages)
    shield = _Shield(special_tokens, taken=template + json.dumps(messages, ensure_ascii=False, default=str))
    shielded = [
        {key: value if key == "role" else shield.apply(value) for key, value in message.items()} for message in messages
    ]
    found = split_on_specials(render(template, shielded, add_generation_prompt), special_tokens)
    shield.thorough = True
    fully = [
        {key: value if key == "role" else shield.apply(value) for key, value in message.items()} for message in messages
    ]
    if fully != shielded:
        templates_own = split_on_specials(render(template, fully, add_generation_prompt), special_tokens)
        if _count_specials(found, special_tokens) > _count_specials(templates_own, special_tokens):
            raise ValueError(
                "the chat template makes a special token out of a message's characters: let it leave out no characters of a content"
            )
    pieces: list[tuple[str, str | None]] = []
    text = ""
    for piece in found:
        if piece in special_tokens:
            pieces.append((text, piece))
            text = ""
        else:
            text = shield.lift(piece)
    pieces.append((text, None))
    return pieces


def _count_specials(pieces: Collection[str], special_tokens: Collection[str]) -> int:
    """How many of the pieces are special tokens."""
    return sum(piece in special_tokens for piece in pieces)


class _Shield:
    """Exchanges characters for private ones where a text could form a special token, and back.

    A `thorough` shield also exchanges every character that a special token begins with, wherever it stands.
    """

    def __init__(self, special_tokens: Collection[str], taken: str) -> None:
        self.special_tokens = special_tokens
        self.thorough = False
        in_use = set(taken)
        self.free = (character for character in map(chr, range(0x10FFFD, 0xFFFFF, -1)) if character not in in_use)
        self.private: dict[str, str] = {}

    def apply(self, value: Any) -> Any:
        """`value` with every string in it shielded."""
        if isinstance(value, str):
            return self._apply_to_text(value)
        if isinstance(value, Mapping):
            return {self.apply(key): self.apply(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.apply(item) for item in value]
        return value

    def lift(self, text: str) -> str:
        """The text before `apply`."""
        return text.translate({ord(private): character for character, private in self.private.items()})

    def _apply_to_text(self, text: str) -> str:
        for special in self.special_tokens:
            while special in text:  # again, because special tokens may overlap themselves
                text = text.replace(special, self._exchange(special, 0))
        start, end = len(text) - len(text.lstrip()), len(text.rstrip())
        if start >= end:
            return text
        exposed = set()
        for special in self.special_tokens:
            exposed |= {end - size for size in range(1, len(special)) if text[start:end].endswith(special[:size])}
            if special.find(text[start:end]) > 0 or any(
                text[start:end].startswith(special[-size:]) for size in range(1, len(special))
            ):
                exposed.add(start)
        if self.thorough:
            begins = {special[0] for special in self.special_tokens}
            exposed |= {at for at, character in enumerate(text) if character in begins}
        for at in exposed:
            text = self._exchange(text, at)
        return text

    def _exchange(self, text: str, at: int) -> str:
        private = self.private.get(text[at])
        if private is None:
            private = self.private[text[at]] = next(self.free)
        return text[:at] + private + text[at + 1 :]


def _check_messages(messages: Sequence[Message]) -> None:
    for message in messages:
        if not isinstance(message, Mapping) or "role" not in message:
            raise ValueError(
                f"a message is {message!r}; it must be a dict such as {{'role': 'user', 'content': 'Hello'}}"
            )
        if not isinstance(message["role"], str) or not re.fullmatch(r"[\w-]+", message["role"]):
            raise ValueError(
                f"a message has the role {message['role']!r}; a role is one word, such as 'system', 'user' or 'assistant'"
            )


def _raise_exception(message: str) -> NoReturn:
    """What templates call to refuse a conversation."""
    import jinja2

    raise jinja2.TemplateError(message)
