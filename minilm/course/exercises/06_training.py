"""Exercises of lesson 06: the loss, two schedules, clipping, AdamW, and accumulation with batches of different sizes."""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minilm import training
from minilm.course.exercise import call, cases, exercise, wrong

IGNORE = training.IGNORE

# --- 06.1 --------------------------------------------------------------------------------------------------------------


def next_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The library's cross-entropy, in nats, over the targets that are not IGNORE."""
    return training.cross_entropy(logits, targets)


def _losses(logits: Tensor, targets: Tensor, dim: int = -1) -> Tensor:
    """-ln p(target) everywhere; where the target is IGNORE, that of token 0."""
    return -logits.log_softmax(dim).gather(-1, targets.where(targets != IGNORE, 0)[..., None])[..., 0]


def _kept_mean(losses: Tensor, targets: Tensor) -> Tensor:
    return losses[targets != IGNORE].mean()


def _unsafe_loss(logits: Tensor, targets: Tensor) -> Tensor:
    p = logits.exp() / logits.exp().sum(-1, keepdim=True)
    own = p.gather(-1, targets.where(targets != IGNORE, 0)[..., None])[..., 0]
    return _kept_mean(-own.log(), targets)


def _log_of_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    own = logits.softmax(-1).gather(-1, targets.where(targets != IGNORE, 0)[..., None])[..., 0]
    return _kept_mean(-own.log(), targets)


def _shifted_again(logits: Tensor, targets: Tensor) -> Tensor:
    return training.cross_entropy(logits[:, :-1], targets[:, 1:])


def _filled(losses: Tensor, targets: Tensor) -> Tensor:
    """Zero where the target is IGNORE."""
    return losses.where(targets != IGNORE, 0.0)


def _draw_loss(rng: random.Random) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    batch, seq, vocab = rng.randint(1, 3), rng.randint(2, 5), rng.randint(3, 7)
    logits = 2 * torch.randn(batch, seq, vocab, generator=generator)
    targets = torch.randint(vocab, (batch, seq), generator=generator)
    targets[0, -1] = IGNORE
    return logits, targets


exercise(
    id="06.1",
    title="The price of a batch",
    objective="Write the mean surprise of the next tokens, safe for logits of any size, leaving out what is to be ignored.",
    difficulty=2,
    minutes=12,
    reference=next_token_loss,
    inputs=cases(
        (torch.tensor([[[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), torch.tensor([[0, 2]])),
        (torch.tensor([[[2.0, 0.0, -1.0], [0.0, 1.0, 3.0], [1.0, 1.0, 0.5]]]), torch.tensor([[1, 2, IGNORE]])),
        (torch.tensor([[[300.0, 0.0, -300.0], [0.0, 200.0, 0.0]]]), torch.tensor([[1, 1]])),
        draw=_draw_loss,
        count=8,
    ),
    hints=[
        "For one position: which logit is the target's, and what is ln of the sum of all exponentials? What must not be an exponential of?",
        "-ln p(target) = lse - logits[target], and lse = top + ln(sum(exp(logits - top))) (`torch.logsumexp` does just that). Take the targets that are IGNORE out *before* the mean.",
        "`losses = logits.logsumexp(-1) - logits.gather(-1, targets.clamp(min=0)[..., None])[..., 0]`, then `losses[targets != IGNORE].mean()`",
    ],
    wrong_answers=[
        wrong(
            _unsafe_loss,
            """Right for small logits. At 100 and more, exp leaves the range of 32 bits: inf / inf is no number, and one such batch
            ruins a run. Take the maximum out first, or use `torch.logsumexp`.""",
        ),
        wrong(
            _log_of_softmax,
            """Softmax first, then the logarithm: a probability below about 1e-45 becomes 0, and its logarithm infinite. Never take a
            probability on the way: `log_softmax`, or lse - logit.""",
        ),
        wrong(
            lambda logits, targets: _filled(_losses(logits, targets), targets).mean(),
            """You add up the right losses and divide by *all* positions, ignored ones included. The more filler in a batch, the
            lower your loss, with nothing learned. Divide by the number of targets that count.""",
        ),
        wrong(
            lambda logits, targets: _losses(logits, targets).mean(),
            """You let the ignored places count, as if their target were token 0: the model is taught to write token 0 after every
            short text. Leave out where `targets == IGNORE`.""",
        ),
        wrong(
            _shifted_again,
            """You shift once more. `targets` stand already where they belong: `targets[b, t]` is what comes after position t. Shifted
            twice, the model learns to guess the token after next.""",
        ),
        wrong(
            lambda logits, targets: _kept_mean(_losses(logits, targets), targets) / math.log(2),
            """That is in bits. Losses are in nats here and in PyTorch: use the natural logarithm.""",
        ),
        wrong(
            lambda logits, targets: _filled(_losses(logits, targets), targets).sum(),
            """You return the sum. The gradient would grow with the batch, and with it the right learning rate: take the mean over
            the targets that count.""",
        ),
        wrong(
            lambda logits, targets: training.cross_entropy(logits.softmax(-1), targets),
            """Softmax twice: the loss takes its own. Between probabilities, which differ by at most 1, the second softmax sees hardly
            any difference, so the loss can't go near 0 and learning crawls.""",
        ),
        wrong(
            lambda logits, targets: _kept_mean(_losses(logits, targets, dim=1), targets),
            """Your softmax runs over the positions (dim 1): each token competes with itself at other places. The vocabulary is the
            last dimension, `dim=-1`.""",
        ),
        wrong(
            lambda logits, targets: -training.cross_entropy(logits, targets),
            """The sign. ln p is negative; the surprise is -ln p. Minimising yours would make the right tokens as unlikely as
            possible.""",
        ),
    ],
    unlocks="In lesson 08 this is the loss that trains your own model.",
)


# --- 06.2 --------------------------------------------------------------------------------------------------------------


def cosine_factor(step: int, warmup: int, total: int, final: float) -> float:
    """The library's warm-up and cosine."""
    return training.warmup_cosine(step, warmup=warmup, total=total, final=final)


def _cosine(step: int, warmup: int, total: int, final: float, **slip: Any) -> float:
    """The formula, with the slips that a wrong answer asks for."""
    if step < warmup:
        return float(slip.get("rise", step / max(warmup, 1)))
    progress = (step - slip.get("start", warmup)) / max(slip.get("length", total - warmup), 1)
    if slip.get("stop", True):
        progress = min(progress, 1.0)
    half = 0.5 * (1 + math.cos(slip.get("angle", math.pi) * progress))
    mixed: float = slip.get("mix", lambda final, half: final + (1 - final) * half)(final, half)
    return mixed


exercise(
    id="06.2",
    title="Up, and down half a cosine",
    objective="Write the factor of the peak rate: a line up over the warm-up, then half a cosine that reaches `final` exactly at `total`.",
    difficulty=2,
    minutes=12,
    reference=cosine_factor,
    inputs=cases(
        (0, 4, 10, 0.0),
        (2, 4, 10, 0.0),
        (4, 4, 10, 0.1),
        (7, 4, 10, 0.1),
        (10, 4, 10, 0.1),
        (13, 4, 10, 0.1),
        (3, 0, 10, 0.0),
        (30_000, 5_000, 30_000, 0.1),
        draw=lambda rng: (rng.randint(0, 25), rng.randint(1, 8), rng.randint(10, 20), rng.choice([0.0, 0.1, 0.3])),
    ),
    hints=[
        "Three parts: on the way up, on the way down, and after the end. What is the factor at step 0, at step `warmup`, at step `total`?",
        "On the way down let `progress` go from 0 at `warmup` to 1 at `total`. 0.5 * (1 + cos(pi * progress)) goes from 1 to 0. Squeeze that between 1 and `final`. After the end, progress stays 1.",
        "`progress = min(1, (step - warmup) / (total - warmup))`, then `final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))`",
    ],
    wrong_answers=[
        wrong(
            lambda step, warmup, total, final: _cosine(step, warmup, total, final, length=total, stop=False),
            """Your cosine is as long as the whole run but begins after the warm-up, so at step `total` it isn't down yet. Super Tiny
            Language Models ends 60 % too high by this. The way down has `total - warmup` steps.""",
        ),
        wrong(
            lambda step, warmup, total, final: _cosine(step, warmup, total, final, start=0, length=total),
            """Your cosine runs from step 0, under the warm-up: when the warm-up is over it has already fallen, and the factor jumps.
            Count progress from `warmup`.""",
        ),
        wrong(
            lambda step, warmup, total, final: _cosine(step, warmup, total, final, stop=False),
            """After `total` your cosine goes on and the rate rises again: a run that is continued would be thrown out of its valley.
            Keep progress at most 1.""",
        ),
        wrong(
            lambda step, warmup, total, final: _cosine(step, warmup, total, final, angle=2 * math.pi),
            """A whole cosine goes down and up again, and the run ends at the full rate. You want half of one: pi * progress.""",
        ),
        wrong(
            lambda step, warmup, total, final: _cosine(step, warmup, total, final, mix=lambda final, half: half),
            """Your cosine goes down to 0 whatever `final` says. Squeeze it: final + (1 - final) * cosine.""",
        ),
        wrong(
            lambda step, warmup, total, final: _cosine(
                step, warmup, total, final, mix=lambda final, half: final + half
            ),
            """final + cosine begins above 1: at the end of the warm-up the rate jumps over the peak. Squeeze the cosine between 1 and
            `final`: final + (1 - final) * cosine.""",
        ),
        wrong(
            lambda step, warmup, total, final: _cosine(step, warmup, total, final, mix=max),
            """You cut the cosine off at `final`: it gets there too early and then lies flat, with a corner. Let the curve itself end
            there: final + (1 - final) * cosine.""",
        ),
        wrong(
            lambda step, warmup, total, final: _cosine(step, warmup, total, final, rise=(step + 1) / max(warmup, 1)),
            """Your warm-up is one step ahead: (step + 1) / warmup is for steps counted from 0. Here the first update is step 1, and
            its factor is 1 / warmup.""",
        ),
        wrong(
            lambda step, warmup, total, final: _cosine(step, warmup, total, final, rise=1.0),
            """There is no warm-up: before step `warmup` the factor is step / warmup, in a line from 0.""",
        ),
    ],
)


# --- 06.3 --------------------------------------------------------------------------------------------------------------


def wsd_factor(step: int, warmup: int, stable: int, decay: int, final: float) -> float:
    """The library's warm-up, stable, decay, with lines for both slopes."""
    return training.warmup_stable_decay(step, warmup=warmup, stable=stable, decay=decay, final=final)


def _wsd(step: int, warmup: int, stable: int, decay: int, final: float, **slip: Any) -> float:
    low = slip.get("low", final)
    if step < warmup:
        return float(slip.get("low_start", low) + (1 - slip.get("low_start", low)) * step / warmup)
    if step < warmup + stable - slip.get("early", 0):
        return 1.0
    start = slip.get("start", warmup + stable)
    if step < warmup + stable + decay:
        return float(low + (1 - low) * (1 - (step - start) / slip.get("length", decay)))
    return float(slip.get("after", low))


exercise(
    id="06.3",
    title="Up, level, down",
    objective="Write SmallDoge's schedule: a line up, a plateau at the peak, a line down to `final`, and `final` ever after.",
    difficulty=2,
    minutes=10,
    reference=wsd_factor,
    inputs=cases(
        (0, 4, 10, 5, 0.2),
        (2, 4, 10, 5, 0.2),
        (9, 4, 10, 5, 0.2),
        (14, 4, 10, 5, 0.2),
        (17, 4, 10, 5, 0.2),
        (19, 4, 10, 5, 0.2),
        (40, 4, 10, 5, 0.2),
        (14, 4, 10, 0, 0.0),
        (7_600, 800, 6_400, 800, 0.0),
        draw=lambda rng: (
            rng.randint(0, 25),
            rng.randint(1, 6),
            rng.randint(0, 8),
            rng.randint(1, 8),
            rng.choice([0.0, 0.1]),
        ),
    ),
    hints=[
        "Four parts. Which step is the first of each? And where do the two lines begin and end?",
        "Both lines run between `final` and 1: up over steps 0 to `warmup`, down over the `decay` steps after `warmup + stable`. With `decay = 0` there is no way down: the factor is `final` at once.",
        "`if step < warmup + stable + decay: return final + (1 - final) * (1 - (step - warmup - stable) / decay)`",
    ],
    wrong_answers=[
        wrong(
            lambda *args: _wsd(*args, low=0.0),
            """Your lines end at 0, whatever `final` is. Both run between `final` and 1: final + (1 - final) * line.""",
        ),
        wrong(
            lambda *args: _wsd(*args, low_start=0.0),
            """Nearly: your warm-up starts from 0. In this formula (transformers', which SmallDoge uses) the way up begins at
            `final`, like the way down ends there.""",
        ),
        wrong(
            lambda step, warmup, stable, decay, final: _wsd(
                step, warmup, stable, decay, final, start=0, length=warmup + stable + decay
            ),
            """Your way down counts from step 0, so it begins with a jump from the plateau. Count from its own first step,
            `warmup + stable`.""",
        ),
        wrong(
            lambda step, warmup, stable, decay, final: _wsd(step, warmup, stable, decay, final, after=1.0),
            """After the decay your rate is the peak again: the first further step would undo the whole decay. It stays at `final`.""",
        ),
        wrong(
            lambda step, warmup, stable, decay, final: (
                final + (1 - final) * (1 - (step - warmup - stable) / decay)
                if step >= warmup + stable and decay
                else _wsd(step, warmup, stable, decay, final)
            ),
            """Your line goes on after its end, below `final` and below 0: with a negative rate a run climbs the hill it came down.
            From step warmup + stable + decay on the factor is `final`.""",
        ),
        wrong(
            lambda step, warmup, stable, decay, final: (
                _wsd(step, warmup, stable - warmup, decay, final)
                if step >= warmup
                else _wsd(step, warmup, stable, decay, final)
            ),
            """You end the plateau at step `stable`. It *lasts* `stable` steps, and they begin after the warm-up: it ends at
            `warmup + stable`.""",
        ),
    ],
)


# --- 06.4 --------------------------------------------------------------------------------------------------------------


def clip_by_norm(gradients: Sequence[Tensor], max_norm: float) -> list[Tensor]:
    """The gradients scaled by one factor, if their common norm is above max_norm: `training.clip_gradients` on copies."""
    holders = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for holder, gradient in zip(holders, gradients, strict=True):
        holder.grad = gradient.clone()
    training.clip_gradients(holders, max_norm)
    return [holder.grad for holder in holders if holder.grad is not None]


def _norm(gradients: Iterable[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients]).norm()


def _draw_gradients(rng: random.Random) -> tuple[list[Tensor], float]:
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    gradients = [torch.randn(2, 3, generator=generator), torch.randn(4, generator=generator)]
    return gradients, rng.choice([0.5, 1.0, 10.0])


exercise(
    id="06.4",
    title="Where to, not how far",
    objective="Scale the gradients of all parameters by one factor, so that together they are no longer than `max_norm`.",
    difficulty=2,
    minutes=10,
    reference=clip_by_norm,
    inputs=cases(
        ([torch.tensor([3.0, 4.0])], 1.0),
        ([torch.tensor([0.3, 0.4])], 1.0),
        ([torch.tensor([3.0]), torch.tensor([[0.0, -4.0]])], 1.0),
        ([torch.tensor([6.0, 0.0]), torch.tensor([8.0])], 5.0),
        draw=_draw_gradients,
        count=8,
    ),
    hints=[
        "Think of all gradients as one long arrow. How long is it, and what shortens it without turning it?",
        "The norm of the whole is the root of the sum of *all* squares, over all tensors. If it is above max_norm, multiply every tensor by max_norm / norm; if not, change nothing.",
        "`norm = sum((g**2).sum() for g in gradients) ** 0.5`, `factor = min(1.0, max_norm / norm)`",
    ],
    wrong_answers=[
        wrong(
            lambda gradients, max_norm: [g * min(1.0, float(max_norm / (g.norm() + 1e-12))) for g in gradients],
            """You clip each tensor by its own norm. Large ones shrink, small ones don't, and the step points somewhere else. One norm
            over all of them, one factor for all.""",
        ),
        wrong(
            lambda gradients, max_norm: [g.clamp(-max_norm, max_norm) for g in gradients],
            """You cut off each number by itself. That turns the arrow: the large components shrink, the small ones stay. Scale
            everything by one factor.""",
        ),
        wrong(
            lambda gradients, max_norm: [g * (max_norm / _norm(gradients)) for g in gradients],
            """You always scale, also up: near the end of training, where gradients are small, every step would be blown up to full
            length. Scale only if the norm is *above* max_norm.""",
        ),
        wrong(
            lambda gradients, max_norm: [g * min(1.0, float(max_norm / _norm(gradients) ** 2)) for g in gradients],
            """You divide by the sum of squares. A length is its root: `** 0.5`.""",
        ),
        wrong(
            lambda gradients, max_norm: [
                g * min(1.0, float(max_norm / sum(float(h.norm()) for h in gradients))) for g in gradients
            ],
            """You add up the norms of the tensors. Lengths at right angles don't add: add the *squares*, and take one root at the
            end.""",
        ),
        wrong(
            lambda gradients, max_norm: list(gradients),
            """You return the gradients as they came. If their common norm is above max_norm, they must be scaled down to it.""",
        ),
    ],
)


# --- 06.5 --------------------------------------------------------------------------------------------------------------


class MyAdamW:
    """AdamW with a rate that may be changed between steps. Equal to `minilm.training.AdamW` and PyTorch's."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
    ) -> None:
        self.params, self.lr, self.betas, self.eps, self.weight_decay = list(params), lr, betas, eps, weight_decay
        self.first = [torch.zeros_like(p) for p in self.params]
        self.second = [torch.zeros_like(p) for p in self.params]
        self.t = 0

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change every parameter that has a gradient."""
        self.t += 1
        for p, m, v in zip(self.params, self.first, self.second, strict=True):
            if p.grad is None:
                continue
            self.decay(p)
            gradient = self.gradient(p)
            m.mul_(self.betas[0]).add_((1 - self.betas[0]) * gradient)
            v.mul_(self.betas[1]).add_((1 - self.betas[1]) * self.square(gradient, m))
            p.sub_(self.lr * self.direction(*self.corrected(m, v)))

    def decay(self, p: Tensor) -> None:
        p *= 1 - self.lr * self.weight_decay

    def gradient(self, p: Tensor) -> Tensor:
        assert p.grad is not None
        return p.grad

    def square(self, gradient: Tensor, m: Tensor) -> Tensor:
        return gradient**2

    def corrected(self, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return m / (1 - self.betas[0] ** self.t), v / (1 - self.betas[1] ** self.t)

    def direction(self, m: Tensor, v: Tensor) -> Tensor:
        return m / (v.sqrt() + self.eps)


class _L2(MyAdamW):
    def decay(self, p: Tensor) -> None: ...

    def gradient(self, p: Tensor) -> Tensor:
        return super().gradient(p) + self.weight_decay * p


class _NoDecay(MyAdamW):
    def decay(self, p: Tensor) -> None: ...


class _DecayWithoutRate(MyAdamW):
    def decay(self, p: Tensor) -> None:
        p *= 1 - self.weight_decay


class _NotCorrected(MyAdamW):
    def corrected(self, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return m, v


class _CountStands(MyAdamW):
    def corrected(self, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return m / (1 - self.betas[0]), v / (1 - self.betas[1])


class _EpsInside(MyAdamW):
    def direction(self, m: Tensor, v: Tensor) -> Tensor:
        return m / (v + self.eps).sqrt()


class _NoRoot(MyAdamW):
    def direction(self, m: Tensor, v: Tensor) -> Tensor:
        return m / (v + self.eps)


class _SquareOfTheMean(MyAdamW):
    def square(self, gradient: Tensor, m: Tensor) -> Tensor:
        return m**2


class _BetasSwapped(MyAdamW):
    def __init__(self, params: Iterable[nn.Parameter], **settings: Any) -> None:
        super().__init__(params, **settings)
        self.betas = (self.betas[1], self.betas[0])


class _RateOfTheStart(MyAdamW):
    def __init__(self, params: Iterable[nn.Parameter], **settings: Any) -> None:
        super().__init__(params, **settings)
        self._rate = self.lr

    def step(self) -> None:
        self.lr = self._rate
        super().step()


class _NeverZero(MyAdamW):
    def zero_grad(self) -> None: ...


class _DecaysTheIdle(MyAdamW):
    @torch.no_grad()
    def step(self) -> None:
        for p in self.params:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        super().step()


def _use_optimizer(
    answer: Callable[..., Any], gradients: Tensor, settings: dict[str, Any], slower: bool = False, idle: bool = False
) -> Tensor:
    """Give the optimizer a few steps with known gradients; the weights after each step."""
    start = torch.linspace(-1.0, 2.0, gradients.shape[1])
    half = len(start) // 2
    weights = [nn.Parameter(start[:half].clone()), nn.Parameter(start[half:].clone()[None])]
    unused = [nn.Parameter(torch.ones(2))] if idle else []
    optimizer = answer([*weights, *unused], **settings)
    after = []
    for number, gradient in enumerate(gradients):
        if slower and number == 2:
            optimizer.lr = settings["lr"] / 10
        optimizer.zero_grad()
        (torch.cat([p.flatten() for p in weights]) * gradient).sum().backward()
        try:
            optimizer.step()
        except (TypeError, AttributeError) as error:
            if not idle:
                raise
            raise ValueError("one parameter took no part in the loss, so its grad is None: leave it out") from error
        after.append(torch.cat([p.detach().flatten() for p in [*weights, *unused]]))
    return torch.stack(after)


_ONE = torch.tensor([[0.5, -2.0, 0.001]])
_FOUR = torch.tensor([[0.5, -2.0, 0.001], [0.1, 0.0, -0.3], [-1.0, 0.2, 0.05], [0.3, 0.3, 0.3]])
_ADAM: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0}

exercise(
    id="06.5",
    title="Your own AdamW",
    objective="Write AdamW: two running means, their correction, a step scaled by them, and a decay that stays out of the gradient.",
    difficulty=4,
    minutes=25,
    name="MyAdamW",
    reference=MyAdamW,
    methods=["step", "zero_grad"],
    driver=_use_optimizer,
    inputs=cases(
        call(_ONE, _ADAM),
        call(_FOUR, _ADAM),
        call(_FOUR, {**_ADAM, "eps": 0.01}),
        call(_FOUR, {**_ADAM, "weight_decay": 0.5}),
        call(_FOUR, {**_ADAM, "weight_decay": 0.5}, slower=True),
        call(_FOUR, {**_ADAM, "weight_decay": 0.5}, idle=True),
    ),
    hints=[
        "What does Adam remember of each weight, and from what value does it start? Work out the first step by hand: gradient 0.5, rate 0.1.",
        "t += 1; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g**2; divide m by 1 - b1**t and v by 1 - b2**t; step by lr * m / (sqrt(v) + eps). Before it, w *= 1 - lr * weight_decay. All under `torch.no_grad()`, and a weight without gradient is left alone.",
        "`p -= self.lr * (m / (1 - b1**self.t)) / ((v / (1 - b2**self.t)).sqrt() + self.eps)`",
    ],
    wrong_answers=[
        wrong(
            _L2,
            """You add weight_decay * w to the gradient: that is L2, plain Adam's way. Divided by its own size, it pulls idle weights at
            full rate whatever its strength. Decay the weight itself: w *= 1 - lr * weight_decay.""",
        ),
        wrong(
            _NoDecay,
            """A fine Adam; the W is missing. Beside its step, each weight shrinks: w *= 1 - lr * weight_decay.""",
        ),
        wrong(
            _DecayWithoutRate,
            """You shrink by weight_decay itself: half of every weight gone at each step. The decay goes with the rate, so that it
            warms up and ends with it: w *= 1 - lr * weight_decay.""",
        ),
        wrong(
            _NotCorrected,
            """The running means start at 0 and hold only 1 - b**t of a mean after t steps. Without dividing by that, the first steps
            have the wrong length: with betas 0.9 and 0.95, less than half.""",
        ),
        wrong(
            _CountStands,
            """Your correction is that of step 1 for ever: count the steps, and divide by 1 - b**t.""",
        ),
        wrong(
            _EpsInside,
            """Your eps stands under the root. There it acts like its own root, 10,000 times as much for 1e-8. It is added after:
            sqrt(v) + eps.""",
        ),
        wrong(
            _NoRoot,
            """You divide by v, the mean of *squares*. A gradient of half the size would make a step of twice the size. Take the root.""",
        ),
        wrong(
            _SquareOfTheMean,
            """Your second mean is fed with m**2. It is the mean of the gradients' squares: where gradients swing, m is near 0 and g**2
            is not, and the step must be short.""",
        ),
        wrong(
            _BetasSwapped,
            """The betas are swapped: the first is for the mean of gradients, the second, longer one for that of their squares.""",
        ),
        wrong(
            _RateOfTheStart,
            """Right until the rate changes. A schedule sets `optimizer.lr` before every step: read `self.lr` when you step, and keep no
            copy of the first one.""",
        ),
        wrong(
            _NeverZero,
            """Your zero_grad leaves the gradients, and `backward()` adds to them: every step uses the sum of all gradients so far. Set
            each `p.grad = None`.""",
        ),
        wrong(
            _DecaysTheIdle,
            """A parameter whose grad is None took no part in the loss. PyTorch leaves it alone, without decay: skip it.""",
        ),
    ],
    unlocks="Llama and nearly every language model since were trained by these ten lines. Lesson 08 trains yours with them.",
)


# --- 06.6 --------------------------------------------------------------------------------------------------------------

Pair = tuple[Tensor, Tensor]


def _summed(model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")


def accumulate_gradients(model: nn.Module, batches: Sequence[Pair]) -> float:
    """Leave in .grad the gradient of the mean loss over all targets of all batches; returns that loss."""
    total = sum(int((targets != IGNORE).sum()) for _, targets in batches)
    return _accumulate(model, batches, lambda targets: total)


def _accumulate(
    model: nn.Module, batches: Sequence[Pair], divisor: Callable[[Tensor], float], fresh: bool = False
) -> float:
    loss = 0.0
    for ids, targets in batches:
        if fresh:
            model.zero_grad()
        part = _summed(model, ids, targets) / divisor(targets)
        part.backward()
        loss += part.item()
    return loss


def _count(targets: Tensor) -> int:
    return int((targets != IGNORE).sum())


def _last_only(model: nn.Module, batches: Sequence[Pair]) -> float:
    total = sum(_count(targets) for _, targets in batches)
    return _accumulate(model, batches, lambda targets: total, fresh=True)


def _by_places(model: nn.Module, batches: Sequence[Pair]) -> float:
    places = sum(targets.numel() for _, targets in batches)
    return _accumulate(model, batches, lambda targets: places)


def _loss_alone(model: nn.Module, batches: Sequence[Pair]) -> float:
    total = sum(_count(targets) for _, targets in batches)
    return sum(_summed(model, ids, targets).item() for ids, targets in batches) / total


def _use_accumulation(answer: Callable[..., Any], batches: list[Pair]) -> dict[str, Any]:
    """The loss that was returned, and the gradients that were left."""
    torch.manual_seed(5)
    model = nn.Sequential(nn.Embedding(6, 3), nn.Linear(3, 6))
    loss = answer(model, batches)
    found: dict[str, Any] = {"loss": loss.item() if isinstance(loss, Tensor) else float(loss)}
    for name, parameter in zip(("table", "head", "bias"), model.parameters(), strict=True):
        gradient = parameter.grad
        found[f"gradient of the {name}"] = torch.zeros_like(parameter) if gradient is None else gradient.detach()
    return found


def _pair(*rows: tuple[list[int], list[int]]) -> Pair:
    ids = nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids, _ in rows], batch_first=True)
    targets = [torch.tensor(targets) for _, targets in rows]
    return ids, nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=IGNORE)


_LONG = _pair(([1, 2, 3, 4, 5], [2, 3, 4, 5, 0]))
_SHORT = _pair(([4, 1], [1, 0]))
_MIXED = _pair(([2, 3, 3, 1], [3, 3, 1, 0]), ([5], [0]))

exercise(
    id="06.6",
    title="A large batch in small pieces",
    objective="Accumulate gradients over batches of different sizes, so that every token of all of them counts the same.",
    difficulty=3,
    minutes=15,
    reference=accumulate_gradients,
    driver=_use_accumulation,
    inputs=cases(
        call([_LONG]),
        call([_LONG, _LONG]),
        call([_LONG, _SHORT]),
        call([_MIXED, _LONG, _SHORT]),
    ),
    hints=[
        "With 5 targets in one batch and 2 in the other, what is the mean over all 7, and what do you get from the mean of the two means?",
        "Count the targets of *all* batches first. Then each batch gives the sum of its losses divided by that total; `backward()` on each adds up the gradients.",
        '`total = sum((targets != IGNORE).sum() for _, targets in batches)`, and `loss = F.cross_entropy(..., ignore_index=IGNORE, reduction="sum") / total`',
    ],
    wrong_answers=[
        wrong(
            lambda model, batches: _accumulate(model, batches, lambda targets: _count(targets) * len(batches)),
            """The mean of means: right only if all batches have the same number of targets. Here a token of a short batch counts more
            than one of a long batch. Divide each sum by the targets of *all* batches.""",
        ),
        wrong(
            lambda model, batches: _accumulate(model, batches, _count),
            """You add up the means: with k batches the gradient is k times too long, as if the rate were. Divide each batch's sum by
            the number of targets in all of them.""",
        ),
        wrong(
            lambda model, batches: _accumulate(model, batches, lambda targets: 1),
            """You add up the losses of all targets and never divide: the gradient grows with the batch. Divide by the number of
            targets in all batches together.""",
        ),
        wrong(
            _last_only,
            """Only the last batch's gradient is left: something in your loop sets the gradients to zero. They must add up over the
            batches; zeroing is done once, before all of them.""",
        ),
        wrong(
            _by_places,
            """You divide by all places, filler included. Places whose target is IGNORE have no loss: count
            `(targets != IGNORE).sum()`.""",
        ),
        wrong(
            _loss_alone,
            """The loss is right and there is no gradient: call `backward()` on each batch's part.""",
        ),
    ],
)
