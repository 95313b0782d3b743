"""Exercises of lesson 12: pass@k, a verifier, advantages, a clipped loss, and a GRPO of one's own that drives a real run."""

import math
import random
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minilm.course.exercise import cases, exercise, wrong
from minilm.grpo import group_advantages, pass_at_k

# 12.1 ----------------------------------------------------------------------------------------------------------------


def _draw_counts(rng: random.Random) -> tuple[int, int, int]:
    samples = rng.randint(2, 40)
    return samples, rng.randint(0, samples), rng.randint(1, samples)


exercise(
    id="12.1",
    title="At least one of k",
    objective="From n answers of which c are right, estimate the chance that k answers hold a right one, without bias.",
    difficulty=1,
    minutes=10,
    reference=pass_at_k,
    inputs=cases((16, 1, 1), (16, 1, 16), (16, 0, 4), (10, 5, 2), (4, 3, 2), (200, 7, 10), draw=_draw_counts, count=8),
    hints=[
        "Which is easier to count: the ways to choose k answers with at least one right, or those with none?",
        "None right: all k come from the n - c wrong ones, C(n - c, k) ways out of C(n, k). `math.comb` is 0 where there are too few.",
        "`1 - math.comb(samples - correct, k) / math.comb(samples, k)`",
    ],
    wrong_answers=[
        wrong(
            lambda samples, correct, k: 1 - (1 - correct / samples) ** k,
            "You treat c/n as the true chance and draw with replacement. That is biased: of 10 answers with 5 right, two *different* ones miss with 5/10 · 4/9, and not (1/2)². Count choices without replacement.",
        ),
        wrong(
            lambda samples, correct, k: correct / samples,
            "That is pass@1 whatever k is. More tries must help: one minus the chance that all k are wrong.",
        ),
        wrong(
            lambda samples, correct, k: math.comb(correct, k) / math.comb(samples, k),
            "You count the choices in which *all* k answers are right. One right answer is enough: count those with none and take them off 1.",
        ),
        wrong(
            lambda samples, correct, k: math.comb(samples - correct, k) / math.comb(samples, k),
            "That is the chance that none of the k is right. Take it off 1.",
        ),
        wrong(
            lambda samples, correct, k: min(1.0, k * correct / samples),
            "You add up the chances of k tries, and two right answers are counted twice. Only the chances of *failing* multiply.",
        ),
    ],
)


# 12.2 ----------------------------------------------------------------------------------------------------------------


def is_sum(a: int, b: int, text: str) -> bool:
    """Whether the text is the sum, or one closed thought and then the sum; spaces and line ends around it don't matter."""
    if text.startswith("<think>"):
        thought, end, text = text.removeprefix("<think>").partition("</think>")
        if not end or "<think>" in thought:
            return False
    return text.strip(" \n") == str(a + b)


def _after_thought(text: str) -> str:
    return text.split("</think>")[-1]


def _numbers(text: str) -> list[str]:
    return re.findall(r"[0-9]+", text)


def _int(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _once(text: str) -> str | None:
    found = re.fullmatch(r"(?:<think>(.*?)</think>)?(.*)", text)
    return found[2] if found else None


def _draw_text(rng: random.Random) -> tuple[int, int, str]:
    a, b = rng.randrange(100), rng.randrange(100)
    total = a + b
    shapes = ["{}", " {}\n", "<think>carry</think>{}", "0{}", "{}.", "<think>{}", "+{}", "{} {}", "{}</think>"]
    return a, b, rng.choice(shapes).replace("{}", str(total + rng.choice([0, 0, 10])))


exercise(
    id="12.2",
    title="A verifier that form can't fool",
    objective="Say whether a text is a right answer to a + b, in the asked form and with nothing beside it.",
    difficulty=2,
    minutes=20,
    reference=is_sum,
    inputs=cases(
        (37, 58, "95"),
        (37, 58, " 95\n"),
        (37, 58, "85"),
        (37, 58, "85 95"),
        (37, 58, "it is 95"),
        (37, 58, "+95"),
        (37, 58, "095"),
        (37, 58, "9_5"),
        (37, 58, "٩٥"),
        (37, 58, "95.0"),
        (37, 58, ""),
        (37, 58, "<think>7+8=15, so 95"),
        (37, 58, "<think>7+8+0=15 3+5+1=9</think>95"),
        (37, 58, "<think>\n95\n</think>\n95"),
        (37, 58, "<think>95</think>85"),
        (37, 58, "<think>a</think><think>b</think>95"),
        (37, 58, "</think>95"),
        (37, 58, "<think>a<think>b</think>95"),
        (37, 58, " <think>a</think>95"),
        draw=_draw_text,
        count=12,
    ),
    hints=[
        "Don't look for the number in the text. Ask what is left of the text once an allowed thought is taken away, and whether that *is* the number.",
        "If it starts with `<think>`, cut at the first `</think>` (none: False; another `<think>` inside: False). Strip spaces and line ends. Then compare texts, not numbers.",
        '`thought, end, text = text.removeprefix("<think>").partition("</think>")`, then `return text.strip(" \\n") == str(a + b)`',
    ],
    wrong_answers=[
        wrong(
            lambda a, b, text: str(a + b) in text,
            "You look for the right number anywhere in the text: the lesson's tired colleague. '85 95' passes, and a policy learns to write more digits.",
        ),
        wrong(
            lambda a, b, text: str(a + b) in _after_thought(text),
            "You cut the thought off and then still look for the number anywhere in what is left: '85 95' passes.",
        ),
        wrong(
            lambda a, b, text: _numbers(text)[-1:] == [str(a + b)],
            "You take the last number of the text, as many published verifiers do. Then 'it is 95', a thought that never ends, and '85 95' are all paid.",
        ),
        wrong(
            lambda a, b, text: _int(_after_thought(text)) == a + b,
            "You let Python's int() read the answer, and it is generous: '+95', '095', '9_5' and even digits of other scripts are all 95 to it. Compare texts.",
        ),
        wrong(
            lambda a, b, text: _after_thought(text).strip(" \n") == str(a + b),
            "You cut at the last </think> wherever it stands: a text with two thoughts, or one that closes a thought it never opened, is paid.",
        ),
        wrong(
            lambda a, b, text: text.strip(" \n") == str(a + b),
            "You refuse every thought. `<think>...</think>95` is a right answer in the asked form.",
        ),
        wrong(
            lambda a, b, text: (_once(text) or "").strip(" \n") == str(a + b),
            "Your pattern's dot stops at a line end (and swallows a second <think>): thoughts of several lines are refused. Cut with `partition`, or use re.DOTALL and forbid tags inside.",
        ),
    ],
)


# 12.3 ----------------------------------------------------------------------------------------------------------------


def _draw_rewards(rng: random.Random) -> tuple[Tensor, bool]:
    prompts, group = rng.randint(1, 4), rng.randint(2, 6)
    rows = [[float(rng.random() < 0.5) for _ in range(group)] for _ in range(prompts)]
    return torch.tensor(rows), rng.random() < 0.5


def _advantages(
    mean: Callable[[Tensor], Tensor], std: Callable[[Tensor], Tensor], eps: float = 1e-4
) -> Callable[..., Tensor]:
    def answer(rewards: Tensor, divide_by_std: bool) -> Tensor:
        centred = rewards - mean(rewards)
        return centred / (std(rewards) + eps) if divide_by_std else centred

    return answer


def _row_mean(rewards: Tensor) -> Tensor:
    return rewards.mean(dim=1, keepdim=True)


def _row_std(rewards: Tensor) -> Tensor:
    return rewards.std(dim=1, keepdim=True)


def _advantages_of_group(rewards: Tensor, divide_by_std: bool) -> Tensor:
    return group_advantages(rewards, divide_by_std=divide_by_std)


def _others(rewards: Tensor, divide_by_std: bool) -> Tensor:
    return group_advantages(rewards, baseline="leave-one-out", divide_by_std=divide_by_std)


exercise(
    id="12.3",
    title="Better than its group",
    objective="Turn rewards into advantages within each group, with and without the division.",
    difficulty=2,
    minutes=10,
    reference=_advantages_of_group,
    name="advantages",
    inputs=cases(
        (torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]), False),
        (torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]]), True),
        (torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]), True),
        (torch.tensor([[2.0, 5.0], [0.5, 0.25]]), False),
        draw=_draw_rewards,
        count=8,
    ),
    hints=[
        "A row is a prompt, a column an answer. What is compared with what?",
        "`mean(dim=1, keepdim=True)` and `std(dim=1, keepdim=True)`; a group of equal rewards has std 0, so add 1e-4 below the line.",
        "`centred = rewards - rewards.mean(dim=1, keepdim=True)`; `centred / (rewards.std(dim=1, keepdim=True) + 1e-4) if divide_by_std else centred`",
    ],
    wrong_answers=[
        wrong(
            _advantages(lambda r: r.mean(dim=0, keepdim=True), _row_std),
            "You take the mean over prompts, so answers to *different* questions are compared: an answer to an easy question looks good, one to a hard question bad. The group is dim=1.",
        ),
        wrong(
            _advantages(lambda r: r.mean(), _row_std),
            "You take one mean over all rewards. Right answers to easy questions are then pushed as hard as those to hard ones. Each group has its own mean.",
        ),
        wrong(
            _advantages(_row_mean, lambda r: r.std(dim=1, keepdim=True, unbiased=False)),
            "Your standard deviation divides by n; TRL's GRPO (torch's default) divides by n - 1.",
        ),
        wrong(
            _advantages(_row_mean, _row_std, 0.0),
            "A group of equal rewards has standard deviation 0, and you divide by it: NaN, and one step later all weights are NaN. Add 1e-4.",
        ),
        wrong(
            lambda rewards, divide_by_std: rewards / (_row_std(rewards) + 1e-4) if divide_by_std else rewards,
            "You never take the mean off. With rewards of 0 and 1 no answer is ever pushed down, and a bonus for everybody would drown the signal.",
        ),
        wrong(
            lambda rewards, divide_by_std: (rewards - _row_mean(rewards)) / (_row_std(rewards) + 1e-4),
            "You always divide by the standard deviation. Without the division (Dr. GRPO) a group's push is in proportion to what can be won from it.",
        ),
        wrong(
            _others,
            "You take the mean of the *other* answers off (leave-one-out, RLOO). It is unbiased and n/(n - 1) times as large; here the mean of the whole group is asked for.",
        ),
    ],
)


# 12.4 ----------------------------------------------------------------------------------------------------------------


def token_objective(log_probs: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """min(ratio A, clamp(ratio) A) of each token."""
    ratio = (log_probs - old).exp()
    return torch.minimum(ratio * advantages[:, None], ratio.clamp(1 - clip, 1 + clip) * advantages[:, None])


def _objective(formula: Callable[[Tensor, Tensor, float], Tensor]) -> Callable[..., Tensor]:
    return lambda log_probs, old, advantages, clip: formula((log_probs - old).exp(), advantages[:, None], clip)


def _draw_tokens(rng: random.Random) -> tuple[Tensor, Tensor, Tensor, float]:
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    answers, seq = rng.randint(1, 4), rng.randint(1, 5)
    old = -torch.rand(answers, seq, generator=generator) * 3
    new = old + 0.5 * torch.randn(answers, seq, generator=generator)
    return new, old, torch.randn(answers, generator=generator), rng.choice([0.1, 0.2, 0.3])


_STEPS = torch.tensor([[0.5, 0.9, 1.0, 1.1, 1.6]]).log()

exercise(
    id="12.4",
    title="Far enough",
    objective="Write the clipped objective of each token: the smaller of ratio · A and clamped ratio · A.",
    difficulty=2,
    minutes=15,
    reference=token_objective,
    inputs=cases(
        (_STEPS, torch.zeros(1, 5), torch.tensor([1.0]), 0.2),
        (_STEPS, torch.zeros(1, 5), torch.tensor([-1.0]), 0.2),
        (_STEPS - 2, torch.full((1, 5), -2.0), torch.tensor([0.5]), 0.3),
        draw=_draw_tokens,
        count=8,
    ),
    hints=[
        "You have logarithms. How does a ratio of two probabilities look in logarithms?",
        "ratio = exp(new - old); A stands for a whole answer, so give it an axis for the tokens; then the smaller of two products.",
        "`torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)` with `a = advantages[:, None]`",
    ],
    wrong_answers=[
        wrong(
            _objective(lambda ratio, a, clip: ratio.clamp(1 - clip, 1 + clip) * a),
            "You always use the clamped ratio. A good token that has become *less* likely by accident then has no slope and is never brought back: the minimum keeps the slope on that side.",
        ),
        wrong(
            _objective(lambda ratio, a, clip: torch.maximum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)),
            "You take the larger of the two. That is the optimist's bound: pushes go on without end where they should stop, and stop where a mistake should be undone.",
        ),
        wrong(
            _objective(lambda ratio, a, clip: torch.minimum(ratio, ratio.clamp(1 - clip, 1 + clip)) * a),
            "You take the minimum before multiplying. For a negative advantage the order turns round, so bad answers are clipped on the wrong side.",
        ),
        wrong(
            _objective(lambda ratio, a, clip: torch.minimum(ratio.log() * a, ratio.log().clamp(-clip, clip) * a)),
            "You forgot the exp: log_probs - old is the *logarithm* of the ratio.",
        ),
        wrong(
            _objective(lambda ratio, a, clip: torch.minimum(a / ratio, (1 / ratio).clamp(1 - clip, 1 + clip) * a)),
            "Your ratio is upside down: it is the new probability over the old one, exp(log_probs - old).",
        ),
        wrong(
            _objective(lambda ratio, a, clip: -torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a)),
            "The sign: here the *objective* is asked for, to be made large. The loss is minus its average.",
        ),
        wrong(
            _objective(lambda ratio, a, clip: ratio * a),
            "Nothing is clipped: with several updates on the same answers a few tokens run away.",
        ),
    ],
)


# 12.5 ----------------------------------------------------------------------------------------------------------------


def grpo_loss(log_probs: Tensor, old: Tensor, rewards: Tensor, mask: Tensor, length: int, clip: float = 0.2) -> Tensor:
    """Dr. GRPO's loss of (prompts group seq) tokens."""
    advantages = (rewards - rewards.mean(dim=1, keepdim=True)).flatten()
    objective = token_objective(log_probs, old, advantages, clip)
    return -torch.where(mask, objective, 0).sum(dim=1).mean() / length


Loss = Callable[..., Tensor]


def drive(loss: Loss, log_probs: Tensor, old: Tensor, rewards: Tensor, mask: Tensor, length: int) -> dict[str, Any]:
    """The loss and its gradient, as a run would use it."""
    leaf = log_probs.clone().requires_grad_()
    value = loss(leaf, old, rewards, mask, length)
    value.backward()
    return {"loss": value.detach(), "gradient": leaf.grad}


def _draw_run(rng: random.Random) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    prompts, group, seq = rng.randint(1, 3), rng.randint(2, 4), rng.randint(2, 6)
    old = -torch.rand(prompts * group, seq, generator=generator) * 3
    new = old + 0.4 * torch.randn(old.shape, generator=generator)
    rewards = (torch.rand(prompts, group, generator=generator) < 0.5).float()
    lengths = torch.randint(1, seq + 1, (prompts * group, 1), generator=generator)
    mask = torch.arange(seq)[None, :] < lengths
    return new, old, rewards, mask, seq + rng.randint(0, 3)


def _loss(
    formula: Callable[[Tensor, Tensor, int], Tensor], divide: bool = False, axis: int = 1, clip: bool = True
) -> Loss:
    """Another way to average (objective, mask, length), or to make advantages."""

    def answer(log_probs: Tensor, old: Tensor, rewards: Tensor, mask: Tensor, length: int) -> Tensor:
        centred = rewards - rewards.mean(dim=axis, keepdim=True)
        if divide:
            centred = centred / (rewards.std(dim=1, keepdim=True) + 1e-4)
        advantages = centred.flatten()
        ratio = (log_probs - old).exp()
        objective = token_objective(log_probs, old, advantages, 0.2) if clip else ratio * advantages[:, None]
        return formula(objective, mask, length)

    return answer


def _constant(objective: Tensor, mask: Tensor, length: int) -> Tensor:
    return -(objective * mask).sum(dim=1).mean() / length


exercise(
    id="12.5",
    title="Your own GRPO",
    objective="Put it together: from log-probabilities, rewards and a mask to Dr. GRPO's loss, which then drives a real run.",
    difficulty=4,
    minutes=35,
    reference=grpo_loss,
    driver=drive,
    inputs=cases(
        (
            torch.tensor([[-1.0, -1.0], [-1.0, -1.0]]),
            torch.tensor([[-1.0, -1.0], [-1.0, -1.0]]),
            torch.tensor([[1.0, 0.0]]),
            torch.tensor([[True, True], [True, False]]),
            4,
        ),
        draw=_draw_run,
        count=10,
    ),
    hints=[
        "Four steps: centre the rewards within their rows and flatten them; ratios; the clipped objective; an average that treats every token alike.",
        "Padding counts for nothing: `torch.where(mask, objective, 0)`. Sum over tokens, mean over answers, divide by `length`, and turn the sign: a loss is made small.",
        "`advantages = (rewards - rewards.mean(dim=1, keepdim=True)).flatten()`; `-torch.where(mask, objective, 0).sum(dim=1).mean() / length`",
    ],
    wrong_answers=[
        wrong(
            _loss(lambda o, mask, length: -((o * mask).sum(dim=1) / mask.sum(dim=1)).mean()),
            "You average each answer over its own tokens, as GRPO was published: a token of a long wrong answer is punished less than one of a short one. Divide all by the same `length`.",
        ),
        wrong(
            _loss(lambda o, mask, length: -(o * mask).sum() / mask.sum()),
            "You average over all tokens of the batch (DAPO). How hard an answer is pushed then hangs on how long the *others* are. Sum over tokens, mean over answers, divide by `length`.",
        ),
        wrong(
            _loss(lambda o, mask, length: -o.sum(dim=1).mean() / length),
            "Padding is pushed too: places where `mask` is False belong to no answer.",
        ),
        wrong(
            _loss(lambda o, mask, length: (o * mask).sum(dim=1).mean() / length),
            "The sign: minimising your loss makes the worse answers likelier.",
        ),
        wrong(
            _loss(_constant, divide=True),
            "You divide by the standard deviation of the group. Dr. GRPO leaves that out: it favours groups nearly always or nearly never solved.",
        ),
        wrong(
            _loss(_constant, axis=0),
            "Your mean goes over prompts (dim=0): answers to different questions are compared. A group is a row, dim=1.",
        ),
        wrong(
            _loss(_constant, clip=False),
            "Nothing is clipped. At the first update that is the same; at the second, ratios far from 1 run on.",
        ),
        wrong(
            lambda log_probs, old, rewards, mask, length: (
                -torch.where(
                    mask, token_objective(log_probs.detach(), old, (rewards - rewards.mean(1, True)).flatten(), 0.2), 0
                )
                .sum(dim=1)
                .mean()
                / length
                + 0 * log_probs.sum()
            ),
            "The value is right and its gradient is zero: you cut log_probs off (detach). Advantages and old log-probabilities are constants; the new ones are what learns.",
        ),
    ],
    unlocks="Your loss now drives the pupil: run the last cell and watch the exam.",
)
