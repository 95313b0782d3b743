"""A conversation, and what of it the model sees: as many of the last turns as its context holds."""

from dataclasses import dataclass

from minilm.generation.decoding import Generation
from minilm.generation.writer import Writer
from minilm.tokenizer import BPETokenizer
from minilm.tokenizer.chat import Message


class TooLong(ValueError):
    """A message for which the context has no room, even alone."""


@dataclass
class Turn:
    """What a person said and the model answered."""

    said: str
    answer: Generation


class Conversation:
    """Keeps the turns, and lays the last of them out for the model within its context.

    With a chat template whose special tokens the tokenizer has, turns are laid out by it, after the system message. Other
    models know nothing of turns: they go on with text, the person's and their own, until they end it; the next message then
    begins a new text (`chats` tells which of the two it is).

    A quarter of the context is left for the answer. Turns that don't fit into the rest are forgotten whole, oldest first; the
    system message stays.
    """

    def __init__(self, writer: Writer, system: str | None = None) -> None:
        self.writer = writer
        self.turns: list[Turn] = []
        self.forgotten = 0  # turns that no longer fit, in this conversation
        self.stop_tokens: set[int] = set() if writer.end_id is None else {writer.end_id}
        closing = self._closing_token()
        self.chats = closing is not None
        if closing is not None:
            self.stop_tokens.add(closing)
        if system is not None and not self.chats:
            raise ValueError(
                "this model was not taught to chat (its tokenizer lacks the chat template's special tokens), "
                "and a system message would be text like any other: leave it out"
            )
        self.system = system
        self.context_length = writer.model.config.context_length
        self.room = self.context_length - max(1, self.context_length // 4)  # for what is read before the answer
        ids = range(writer.tokenizer.vocab_size)
        self._longest_token = max(len(_bytes_or_none(writer, token)) for token in ids)

    def ask(self, said: str) -> list[int]:
        """The prompt for the answer to a message; turns that no longer fit are forgotten.

        Raises TooLong if the message does not fit even alone.
        """
        if len(said) > self.room * self._longest_token:  # then there is no need to count
            raise TooLong(self._too_long(f"at least {len(said) // self._longest_token:,}"))
        alone = self._lay_out(said, [])
        if len(alone) > self.room:  # found out before anything is forgotten for it
            raise TooLong(self._too_long(f"{len(alone):,}"))
        while len(ids := self._lay_out(said, self.turns)) > self.room:
            del self.turns[0]
            self.forgotten += 1
        return ids

    def most_new_tokens(self, prompt: list[int], asked: int) -> int:
        """How long an answer to this prompt may be so that the model still sees all of the prompt when it ends."""
        return min(asked, self.context_length - len(prompt))

    def record(self, said: str, answer: Generation) -> None:
        """Add a turn, be its answer whole or broken off."""
        self.turns.append(Turn(said, answer))
        if not self.chats and answer.stop_reason == "eos":
            self.turns.clear()  # the text is at its end; the next message begins another

    def reset(self) -> None:
        """Forget all turns; the system message stays."""
        self.turns.clear()
        self.forgotten = 0

    def _lay_out(self, said: str, turns: list[Turn]) -> list[int]:
        tokenizer = self.writer.tokenizer
        if self.chats:
            assert isinstance(tokenizer, BPETokenizer)
            return tokenizer.apply_chat_template(self._messages(said, turns), add_generation_prompt=True)
        ids = self.writer.encode("")
        before = ""
        for text in [*(part for turn in turns for part in (turn.said, turn.answer.text or "")), said]:
            # A person who goes on after the model's last word seldom types the space between.
            needs_space = bool(before) and bool(text) and not (before[-1].isspace() or text[0].isspace())
            joined = " " + text if needs_space and text is said else text
            ids += tokenizer.encode(joined)
            before = text or before
        return ids

    def _messages(self, said: str, turns: list[Turn]) -> list[Message]:
        messages: list[Message] = [] if self.system is None else [{"role": "system", "content": self.system}]
        for turn in turns:
            messages.append({"role": "user", "content": turn.said})
            messages.append({"role": "assistant", "content": turn.answer.text or ""})
        return [*messages, {"role": "user", "content": said}]

    def _closing_token(self) -> int | None:
        """The special token that ends the assistant's turn in the chat template, or None if there is no usable template."""
        tokenizer = self.writer.tokenizer
        if not isinstance(tokenizer, BPETokenizer):
            return None
        user: Message = {"role": "user", "content": "a"}
        try:
            opened = tokenizer.apply_chat_template([user], add_generation_prompt=True)
            closed = tokenizer.apply_chat_template([user, {"role": "assistant", "content": "b"}])
        except ValueError:
            return None
        special = set(tokenizer.special_tokens.values())
        return next((token for token in closed[len(opened) :] if token in special), None)

    def _too_long(self, tokens: str) -> str:
        others = " with the system message" if self.system else ""
        return (
            f"That is {tokens} tokens{others}, and there is room for {self.room}: the model sees {self.context_length} at once, "
            "a quarter of which is for its answer. Say it shorter, or in parts."
        )


def _bytes_or_none(writer: Writer, token: int) -> bytes:
    """A token's bytes; none for an id between ids that is not used."""
    try:
        return writer.tokenizer.token_bytes(token)
    except ValueError:
        return b""
