"""Answers that the policy writes itself: batched, cached, and with the log-probabilities that the update needs."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from minilm.generation import Generation, Sampling, generate
from minilm.model import LanguageModel
from minilm.tokenizer import Tokenizer


@dataclass(frozen=True)
class Rollouts:
    """Groups of answers: `group` rows of each prompt stand one after the other. Rows are [prompt, answer], padded on the right.

    `ids` are the inputs, `targets` what follows each of them, both (answers, seq); `mask` is True where the target is a token of the
    answer, its stop token included; `old_log_probs` are those of the policy that wrote them, under the distribution it drew from (None
    where nobody asked for them).
    """

    ids: Int[Tensor, "answers seq"]
    targets: Int[Tensor, "answers seq"]
    mask: Bool[Tensor, "answers seq"]
    old_log_probs: Float[Tensor, "answers seq"] | None
    texts: list[str]
    finished: Bool[Tensor, "answers"]  # ended by itself, and not cut off at max_new_tokens
    group: int

    @property
    def lengths(self) -> Int[Tensor, "answers"]:
        """Tokens of each answer, its stop token included."""
        return self.mask.sum(dim=1)


def roll_out(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    group: int,
    max_new_tokens: int,
    stop_token: int,
    temperature: float = 1.0,
    seed: int = 0,
    with_log_probs: bool = True,
) -> Rollouts:
    """`group` answers to each prompt (a list of ids), all written side by side with one cache.

    Answer j of prompt i draws from seed + i * group + j: the same answers come whether they are written together or one by one.
    `with_log_probs=False` saves the pass through the model that scores them, for who scores them anyway.
    """
    if group < 1:
        raise ValueError(f"group = {group}: at least one answer a prompt")
    if not temperature > 0:
        raise ValueError(f"temperature = {temperature}: greedy answers are all the same; explore with one above 0")
    repeated = [list(prompt) for prompt in prompts for _ in range(group)]
    written = generate(
        model,
        repeated,
        max_new_tokens,
        Sampling(temperature=temperature),
        stop_tokens=[stop_token],
        tokenizer=tokenizer,
        seed=seed,
    )
    ids, targets, mask = answer_rows(repeated, written, stop_token)
    old = None
    if with_log_probs:
        with torch.no_grad():
            old = answer_log_probs(model, ids, targets, temperature)
    texts = [each.text or "" for each in written]
    finished = torch.tensor([each.stop_reason == "eos" for each in written])
    return Rollouts(ids, targets, mask, old, texts, finished, group)


def answer_rows(
    prompts: Sequence[Sequence[int]], written: Sequence[Generation], stop_token: int
) -> tuple[Int[Tensor, "answers seq"], Int[Tensor, "answers seq"], Bool[Tensor, "answers seq"]]:
    """Inputs, targets and mask of what was written. An answer cut off by its length has no stop token to learn."""
    rows, spans = [], []
    for prompt, answer in zip(prompts, written, strict=True):
        end = [stop_token] if answer.stop_reason == "eos" else []
        rows.append([*prompt, *answer.ids, *end])
        spans.append((len(prompt), len(rows[-1])))
    longest = max(map(len, rows))
    table = torch.full((len(rows), longest), stop_token)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, (row, (start, stop)) in enumerate(zip(rows, spans, strict=True)):
        table[i, : len(row)] = torch.tensor(row)
        mask[i, start:stop] = True
    return table[:, :-1], table[:, 1:], mask[:, 1:]


def answer_log_probs(
    model: LanguageModel,
    ids: Int[Tensor, "answers seq"],
    targets: Int[Tensor, "answers seq"],
    temperature: float = 1.0,
) -> Float[Tensor, "answers seq"]:
    """ln p of each target, in nats, under the distribution at `temperature`: the one that answers are drawn from."""
    logits = model(ids).float() / temperature
    chosen: Tensor = logits.log_softmax(dim=-1).gather(-1, targets[..., None])
    return chosen.squeeze(-1)


def greedy_texts(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_tokens: Collection[int],
    batch_size: int = 512,
) -> list[str]:
    """The likeliest answer, token by token, to each prompt."""
    texts: list[str] = []
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        found = generate(
            model, part, max_new_tokens, Sampling(temperature=0), stop_tokens=stop_tokens, tokenizer=tokenizer
        )
        texts += [each.text or "" for each in found]
    return texts
