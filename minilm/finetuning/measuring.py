"""What fine-tuning brought and what it cost: the share of instructions followed, checked exactly, and the text that got less likely."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from minilm.data.instructions import Task
from minilm.evaluation import EvaluationError, log_likelihoods, standard_error, wilson_interval
from minilm.finetuning.frontier import closing_token
from minilm.generation import Sampling, generate
from minilm.model import LanguageModel
from minilm.tokenizer import BPETokenizer


@dataclass(frozen=True)
class FollowReport:
    """The answers to some tasks and which of them are right. `print` it for shares by kind, with 95 % intervals."""

    tasks: Sequence[Task]
    answers: list[str]
    right: list[bool]

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return sum(self.right) / len(self.right)

    def __str__(self) -> str:
        lines = [_share("all", sum(self.right), len(self.right))]
        by_kind = Counter(task.kind for task in self.tasks)
        for kind, count in sorted(by_kind.items()) if len(by_kind) > 1 else ():
            lines.append(
                _share(kind, sum(r for t, r in zip(self.tasks, self.right, strict=True) if t.kind == kind), count)
            )
        return "\n".join(lines)


def _share(name: str, right: int, count: int) -> str:
    low, high = wilson_interval(right, count)
    return f"{name:<10}{right:>6} of {count:<6}{right / count:>7.1%}   ({low:.1%} to {high:.1%})"


def follow_report(
    model: LanguageModel,
    tokenizer: BPETokenizer,
    tasks: Sequence[Task],
    *,
    sampling: Sampling | None = None,
    max_new_tokens: int | None = None,
    seed: int = 0,
) -> FollowReport:
    """Let the model answer each task and check the answers; without `sampling` it takes the likeliest token each time.

    An answer that has not ended by `max_new_tokens`, or when prompt and answer fill the model's context, is wrong. A task whose
    prompt alone does is an EvaluationError: it can't be answered at all.
    """
    if not tasks:
        raise EvaluationError("there is no task to follow")
    prompts = [tokenizer.apply_chat_template(task.messages[:1], add_generation_prompt=True) for task in tasks]
    rooms = [model.config.context_length - len(prompt) for prompt in prompts]
    if min(rooms) < 1:
        raise EvaluationError(
            f"a prompt has {max(map(len, prompts))} tokens, and the model sees {model.config.context_length}: leave it out"
        )
    written = generate(
        model,
        prompts,
        max(rooms) if max_new_tokens is None else min(max(rooms), max_new_tokens),
        sampling or Sampling(temperature=0),
        stop_tokens={closing_token(tokenizer)},
        tokenizer=tokenizer,
        seed=seed,
    )
    answers = [each.text or "" for each in written]
    right = [
        each.stop_reason == "eos" and len(each.ids) <= room and task.check(answer)
        for task, each, room, answer in zip(tasks, written, rooms, answers, strict=True)
    ]
    return FollowReport(tasks, answers, right)


@dataclass(frozen=True)
class Forgetting:
    """By how much texts became less likely from one model to another, text by text. `print` it."""

    texts: int
    before: float  # bits a text, in the mean
    after: float
    change: float  # their difference: above 0 is forgetting
    error: float  # its standard error, from the differences of each text

    @property
    def forgot(self) -> bool:
        """Whether the change is above 0 by more than chance explains (two standard errors)."""
        return self.change > 2 * self.error

    def __str__(self) -> str:
        return (
            f"{self.before:.1f} bits a text before, {self.after:.1f} after: "
            f"{self.change:+.1f} ± {self.error:.1f} over {self.texts} texts"
        )


def forgetting(
    before: LanguageModel,
    after: LanguageModel,
    tokenizer: BPETokenizer,
    texts: Sequence[str],
    tokenizer_after: BPETokenizer | None = None,
) -> Forgetting:
    """Compare two models on the same texts, which neither was trained on: stories of the test split, say.

    Bits a text compare whatever the tokens are. `tokenizer_after` is the other model's where the two differ (chat tokens added).
    """
    if len(texts) < 2:
        raise EvaluationError(f"{len(texts)} texts: a standard error needs at least two")
    scores = [
        [-score.log_likelihood / math.log(2) for score in log_likelihoods(model, its, texts)]
        for model, its in ((before, tokenizer), (after, tokenizer_after or tokenizer))
    ]
    changes = [later - earlier for earlier, later in zip(*scores, strict=True)]
    mean = sum(changes) / len(changes)
    return Forgetting(
        texts=len(texts),
        before=sum(scores[0]) / len(texts),
        after=sum(scores[1]) / len(texts),
        change=mean,
        error=standard_error(changes),
    )
