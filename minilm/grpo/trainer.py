"""Reinforcement with verifiable rewards: write answers, have them checked, make the better ones likelier, and again."""

import contextlib
import copy
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from minilm.config import Config
from minilm.grpo.losses import (
    Average,
    Baseline,
    KLEstimate,
    averaged,
    clipped_policy_loss,
    clipped_share,
    group_advantages,
    kl_estimate,
    zero_signal_share,
)
from minilm.grpo.rollouts import Rollouts, answer_log_probs, roll_out
from minilm.model import LanguageModel
from minilm.tokenizer import Tokenizer
from minilm.training import AdamW, clip_gradients
from minilm.training.optimizers import set_rate
from minilm.training.randomness import seed_everything
from minilm.training.stopping import StopSignals


class Problem(Protocol):
    """A task that is asked in words, and whose answer a program can check."""

    @property
    def prompt(self) -> str:
        """What is asked."""
        ...


P = TypeVar("P", bound=Problem)
PolicyLoss = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class GRPOConfig(Config):
    """One run. The defaults are Dr. GRPO's: no division by the standard deviation, a constant length, no KL."""

    steps: int
    prompts: int = 32  # a step asks so many
    group: int = 16  # answers to each
    max_new_tokens: int = 32
    temperature: float = 1.0  # of the answers; the loss is that of the distribution they were drawn from
    updates: int = 2  # of the weights, on the answers of one step
    learning_rate: float = 3e-4
    warmup: int = 0  # steps over which the rate rises from 0
    final: float = 1.0  # the factor of the rate at the last step: it falls to it in a line, from the warm-up on
    clip: float = 0.2
    clip_high: float | None = None  # None: clip
    baseline: Baseline = "group"
    divide_by_std: bool = False  # True: GRPO as first published
    average: Average = "constant"  # "answer": GRPO as first published
    kl: float = 0.0  # the weight of KL(policy || the model at the start)
    kl_estimate: KLEstimate = "k3"
    gradient_clip: float | None = 1.0
    seed: int = 0

    def validate(self) -> None:
        """Check ranges."""
        for name in ("steps", "prompts", "group", "max_new_tokens", "updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"GRPOConfig.{name} = {getattr(self, name)}: it must be at least 1")
        for name in ("temperature", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"GRPOConfig.{name} = {getattr(self, name)}: it must be above 0")
        for name in ("kl", "warmup"):
            if getattr(self, name) < 0:
                raise ValueError(f"GRPOConfig.{name} = {getattr(self, name)}: it can't be below 0")
        if not 0 <= self.final <= 1:
            raise ValueError(f"GRPOConfig.final = {self.final}: a factor of learning_rate, from 0 to 1")
        if self.group < 2 and (self.baseline != "none" or self.divide_by_std):
            raise ValueError(
                f"GRPOConfig.group = {self.group}: an answer is compared with others of its group, so at least 2; "
                "or set baseline='none' and divide_by_std=False"
            )

    def rate(self, step: int) -> float:
        """The learning rate of a step, numbered from 1 on.

        >>> config = GRPOConfig(steps=6, learning_rate=1.0, warmup=2, final=0.2)
        >>> [round(config.rate(step), 2) for step in range(1, 7)]
        [0.5, 1.0, 0.8, 0.6, 0.4, 0.2]
        """
        if step < self.warmup:
            return self.learning_rate * step / self.warmup
        peak = max(self.warmup, 1)
        progress = (step - peak) / (self.steps - peak) if self.steps > peak else 0.0
        return self.learning_rate * (1 + (self.final - 1) * min(1.0, progress))


@dataclass(frozen=True)
class StepRecord:
    """What one step did; everything is of the answers that were written in it."""

    step: int
    reward: float  # mean
    solved: float  # the share of prompts with at least one full reward (the highest reward of all counts as full)
    zero_signal: float  # the share of groups that teach nothing
    length: float  # tokens, mean
    unfinished: float  # the share of answers cut off
    kl: float  # from the model at the start, nats a token, k3; nan where it is not looked at
    clipped: float  # share of tokens held back by the clipping, last update
    gradient_norm: float
    seconds: float
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class GroupView(Generic[P]):
    """One prompt's answers, for looking at: what a lesson's viewer shows."""

    problem: P
    texts: list[str]
    rewards: list[float]
    advantages: list[float]


class GRPOTrainer(Generic[P]):
    """Group-relative policy optimisation (Shao et al. 2024), with the corrections of Dr. GRPO as choices of the config.

    `reward(problem, text)` judges an answer. `encode(problem)` gives the prompt's ids. `evaluate(model)` is called every
    `evaluate_every` steps and after the last. `for record in trainer.steps()` trains with the reader in the loop; `trainer.last_groups` are
    the answers of the last step.

    `loss` replaces the config's: a function of (log_probs, old_log_probs, rewards, mask, length) that gives a number to make small, with
    the rewards as (prompts, group), the others as (answers, seq), an answer a row, and `length` = max_new_tokens.

    `method` "expert" is the control: expert iteration, which takes the answers that got the highest reward of their prompt and
    learns them as if they had been given (rejection sampling and supervised fine-tuning), at the same number of updates.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        problems: Sequence[P],
        reward: Callable[[P, str], float],
        config: GRPOConfig,
        *,
        encode: Callable[[P], Sequence[int]],
        stop_token: int,
        evaluate: Callable[[LanguageModel], dict[str, float]] | None = None,
        evaluate_every: int | None = None,
        method: Literal["grpo", "expert"] = "grpo",
        loss: PolicyLoss | None = None,
    ) -> None:
        if not problems:
            raise ValueError("there are no problems to learn from")
        if method not in ("grpo", "expert"):
            raise ValueError(f"method = {method!r}: choose 'grpo' or 'expert'")
        if loss is not None and method == "expert":
            raise ValueError("method='expert' has its own loss: leave out loss")
        self.model, self.tokenizer, self.problems, self.reward = model, tokenizer, problems, reward
        self.config, self.encode, self.stop_token = config, encode, stop_token
        self.evaluate, self.evaluate_every, self.method = evaluate, evaluate_every, method
        self.loss = loss
        self.reference = copy.deepcopy(model).eval().requires_grad_(False) if config.kl else None
        self.optimizer = AdamW(model.parameters(), config.learning_rate, (0.9, 0.95), 1e-8, 0.0)
        self.chance = random.Random(config.seed)
        self.step_number, self.seconds = 0, 0.0
        self.last_groups: list[GroupView[P]] = []

    def steps(self) -> Iterator[StepRecord]:
        """Train from where the run stands to its end. Ctrl-C lets the step finish."""
        seed_everything(self.config.seed + self.step_number)
        with contextlib.ExitStack() as run:
            stop = run.enter_context(StopSignals())
            while self.step_number < self.config.steps and stop.received is None:
                yield self.step()

    def train(self) -> list[StepRecord]:
        """Train to the end; returns the records of all steps."""
        return list(self.steps())

    def step(self) -> StepRecord:
        """Prompts, answers, rewards, advantages, updates."""
        started, c = time.perf_counter(), self.config
        number = self.step_number + 1
        problems = [self.chance.choice(self.problems) for _ in range(c.prompts)]
        self.model.eval()
        rollouts = roll_out(
            self.model,
            self.tokenizer,
            [self.encode(problem) for problem in problems],
            group=c.group,
            max_new_tokens=c.max_new_tokens,
            stop_token=self.stop_token,
            temperature=c.temperature,
            seed=self.chance.randrange(2**31),
            with_log_probs=False,
        )
        rewards = self._rewards(problems, rollouts)
        advantages = group_advantages(rewards, baseline=c.baseline, divide_by_std=c.divide_by_std)
        self._keep_groups(problems, rollouts, rewards, advantages)
        set_rate(self.optimizer, c.rate(number))
        kl, clipped, norm = self._update(rollouts, rewards, advantages.flatten())
        self.step_number, self.seconds = number, self.seconds + time.perf_counter() - started
        metrics: dict[str, float] = {}
        due = self.evaluate_every is not None and number % self.evaluate_every == 0
        if self.evaluate is not None and (due or number == c.steps):
            self.model.eval()
            with torch.no_grad():
                metrics = self.evaluate(self.model)
        return StepRecord(
            number,
            reward=rewards.mean().item(),
            solved=(rewards == rewards.max()).any(dim=1).float().mean().item() if bool(rewards.max() > 0) else 0.0,
            zero_signal=zero_signal_share(rewards),
            length=rollouts.lengths.float().mean().item(),
            unfinished=1 - rollouts.finished.float().mean().item(),
            kl=kl,
            clipped=clipped,
            gradient_norm=norm,
            seconds=self.seconds,
            metrics=metrics,
        )

    def _rewards(self, problems: Sequence[P], rollouts: Rollouts) -> Tensor:
        group = self.config.group
        owners = [problem for problem in problems for _ in range(group)]
        found = [float(self.reward(problem, text)) for problem, text in zip(owners, rollouts.texts, strict=True)]
        wrong = next((i for i, value in enumerate(found) if not math.isfinite(value)), None)
        if wrong is not None:
            raise ValueError(f"the reward of {rollouts.texts[wrong]!r} is {found[wrong]}: it must be a finite number")
        return torch.tensor(found).view(-1, group)

    def _keep_groups(self, problems: Sequence[P], rollouts: Rollouts, rewards: Tensor, advantages: Tensor) -> None:
        group = self.config.group
        self.last_groups = [
            GroupView(problem, rollouts.texts[i * group : (i + 1) * group], rewards[i].tolist(), advantages[i].tolist())
            for i, problem in enumerate(problems)
        ]

    def _update(self, rollouts: Rollouts, rewards: Tensor, advantages: Tensor) -> tuple[float, float, float]:
        """The updates on one set of answers; (KL from the start, share clipped, norm of the gradients), of the last one."""
        c = self.config
        kl, clipped, norm = math.nan, 0.0, 0.0
        self.model.train()
        reference = None
        if self.reference is not None:
            with torch.no_grad():
                reference = answer_log_probs(self.reference, rollouts.ids, rollouts.targets, c.temperature)
        chosen = (rewards == rewards.max(dim=1, keepdim=True).values) & (
            rewards > rewards.min(dim=1, keepdim=True).values
        )
        old: Tensor | None = None
        for _ in range(c.updates):
            log_probs = answer_log_probs(self.model, rollouts.ids, rollouts.targets, c.temperature)
            if old is None:
                old = log_probs.detach()  # the first update's weights are those that wrote the answers
            if self.method == "expert":
                learned = rollouts.mask & chosen.flatten()[:, None]
                loss = averaged(-log_probs, learned, "token")
            elif self.loss is not None:
                loss = self.loss(log_probs, old, rewards, rollouts.mask, c.max_new_tokens)
            else:
                loss = clipped_policy_loss(
                    log_probs,
                    old,
                    advantages,
                    rollouts.mask,
                    clip=c.clip,
                    clip_high=c.clip_high,
                    average=c.average,
                    length=c.max_new_tokens,
                )
            if self.method != "expert":
                clipped = clipped_share(log_probs.detach(), old, advantages, rollouts.mask, c.clip, c.clip_high)
            if reference is not None:
                estimate = kl_estimate(log_probs, reference, c.kl_estimate)
                loss = loss + c.kl * averaged(estimate, rollouts.mask, c.average, c.max_new_tokens)
                with torch.no_grad():
                    kl = averaged(kl_estimate(log_probs, reference), rollouts.mask, "token").item()
            loss = loss + self.model.auxiliary_loss()
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            norm = clip_gradients(self.model.parameters(), c.gradient_clip)
            if not math.isfinite(norm):
                raise ValueError(
                    f"step {self.step_number + 1}: the gradient is {norm}; lower learning_rate = {c.learning_rate}, or set gradient_clip"
                )
            self.optimizer.step()
        return kl, clipped, norm
