"""From messages to what a model learns: ids, and at every place the next id if it is part of an answer, `IGNORE` if not.

A base model learns from every token. A model that is to answer must not learn to ask: only what the assistant says is a target,
and with it the token that ends its turn, without which it would never stop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from minilm.data.windows import IGNORE
from minilm.model import LanguageModel
from minilm.model.files import saved_tensors
from minilm.tokenizer import CHATML_SPECIAL_TOKENS, BPETokenizer
from minilm.tokenizer.chat import Message

Learn = Literal["answers", "last", "all"]


@dataclass(frozen=True)
class Example:
    """A conversation as ids, and which of them are learned: `learned[i]` says whether ids[i] is a target."""

    ids: tuple[int, ...]
    learned: tuple[bool, ...]

    @property
    def targets(self) -> list[int]:
        """For every id but the last, the one after it if it is learned, else `IGNORE`."""
        return [token if learned else IGNORE for token, learned in zip(self.ids[1:], self.learned[1:], strict=True)]

    def __len__(self) -> int:
        """How many positions the model reads: all but the last."""
        return len(self.ids) - 1


def encode_chat(tokenizer: BPETokenizer, messages: Sequence[Message], learn: Learn = "answers") -> Example:
    """The conversation as the tokenizer's chat template lays it out, with the assistant's turns to be learned.

    Learned is what stands behind the opening of an assistant's turn, up to the special token that closes it; the line break that
    ChatML puts behind is the template's. `learn="last"` takes the last answer only, `"all"` every token but the first, as a base
    model would. Names of special tokens in a message are letters like others.

    Raises ValueError where no message is the assistant's, for what `apply_chat_template` refuses, and for a template that rewrites
    earlier turns when later ones come, so that no turn has a place of its own.
    """
    ids = tokenizer.apply_chat_template(messages)
    learned = [learn == "all"] * len(ids)
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise ValueError("no message is of the role 'assistant', so there is nothing to learn")
    for i in () if learn == "all" else answers[-1:] if learn == "last" else answers:
        start, end = _turn(tokenizer, messages, i, ids)
        learned[start:end] = [True] * (end - start)
    learned[0] = False  # nothing stands before it
    return Example(tuple(ids), tuple(learned))


def _turn(tokenizer: BPETokenizer, messages: Sequence[Message], i: int, ids: Sequence[int]) -> tuple[int, int]:
    """Where in the ids the assistant's message i begins and, behind its closing token, ends."""
    opened = tokenizer.apply_chat_template(messages[:i], add_generation_prompt=True) if i else []
    closed = ids if i + 1 == len(messages) else tokenizer.apply_chat_template(messages[: i + 1])
    start = _shared(opened, closed)
    # At the seam of opening and answer other tokens may form ("\n" and "\n"); anything more is another text.
    if len(opened) - start > 1 or list(ids[: len(closed)]) != list(closed):
        raise ValueError(
            "the chat template changes a conversation's beginning as it goes on, so it is not known which tokens are answers: "
            "use learn='all', or a template that only adds to what stands there"
        )
    special = set(tokenizer.special_tokens.values())
    last = max((place for place in range(start, len(closed)) if closed[place] in special), default=len(closed) - 1)
    return start, last + 1


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids both begin with."""
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return count


def knows_turns(tokenizer: BPETokenizer) -> bool:
    """Whether the tokenizer can lay out a conversation: it has the special tokens of its chat template."""
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "a"}])
    except ValueError:
        return False
    return True


def with_chat_tokens(model: LanguageModel, tokenizer: BPETokenizer) -> tuple[LanguageModel, BPETokenizer]:
    """The model and its tokenizer with ChatML's special tokens, behind all ids they had; what they had keeps its ids and weights.

    A new row of a table is the mean of the old ones (Hewitt 2021): then a new token's score is at first an average score, while a
    row of small random numbers can be likelier than every token the model has learned. Both are returned as they are where
    the tokens are there already; otherwise the model is a new one, and the one given is left as it was.

    Raises ValueError for a model with a flat head or parts of its own, whose tables are not known.
    """
    missing = [token for token in CHATML_SPECIAL_TOKENS if token not in tokenizer.special_tokens]
    if not missing:
        return model, tokenizer
    if model.config.head.kind != "per_token" or model.own_part_names():
        raise ValueError(
            "only a model of the library's own parts, with a head at every position, can be given chat tokens"
        )
    old = max(tokenizer.vocab_size, model.config.vocab_size)
    special = tokenizer.special_tokens | {token: old + i for i, token in enumerate(missing)}
    wider = BPETokenizer(tokenizer.vocab, tokenizer.merges, special, tokenizer.pre_tokenizer)
    wider.chat_template = tokenizer.chat_template
    with torch.random.fork_rng(devices=[]):
        larger = LanguageModel.from_config(model.config.replace(vocab_size=wider.vocab_size))
    weights = saved_tensors(model)
    for name, tensor in saved_tensors(larger).items():
        tensor.data = _grown(weights[name].detach(), tensor.shape)
    larger.to(next(model.parameters()).device).train(model.training)
    return larger, wider


def _grown(weight: Tensor, shape: torch.Size) -> Tensor:
    """The weights, with rows of their mean up to the new shape."""
    missing = shape[0] - weight.shape[0] if shape else 0
    if not missing:
        return weight.clone()
    return torch.cat([weight, weight.mean(dim=0, keepdim=True).expand(missing, *weight.shape[1:])])
