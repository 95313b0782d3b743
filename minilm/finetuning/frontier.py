"""How good a policy could be for how far it went: the frontier of reward against KL from the reference, and where a policy stands.

Of all policies that are at most so many nats from pi_ref, the one with the highest expected reward is pi_ref tilted by the reward,

    pi_beta(y) = pi_ref(y) exp(r(y) / beta) / Z,

for some beta (Rafailov et al. 2023, equation 4). Its expectations are weighted averages over samples of pi_ref, so the whole frontier
can be drawn without training anything, as long as enough samples carry the weight: `effective_samples` says how many do.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from minilm.evaluation import EvaluationError
from minilm.finetuning.chat import Example, encode_chat
from minilm.finetuning.preference_training import answer_log_probs
from minilm.generation import Generation, generate
from minilm.model import LanguageModel
from minilm.tokenizer import BPETokenizer
from minilm.tokenizer.chat import Message

Reward = Callable[[str], float]
Z95 = 1.959964
FEW = 30  # effective samples below which a point of the frontier is not to be trusted


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class FrontierPoint:
    """The best policy for one beta: its reward, its KL from the reference in nats, and on how many samples that rests."""

    beta: float
    reward: Estimate
    kl: Estimate
    effective_samples: float

    @property
    def reliable(self) -> bool:
        """Whether enough samples carry the weight."""
        return self.effective_samples >= FEW


def reward_frontier(
    rewards: Sequence[float], betas: Sequence[float] = (4, 2, 1, 0.5, 0.25, 0.1), *, resamples: int = 200, seed: int = 0
) -> list[FrontierPoint]:
    """The frontier of a reference from the rewards of its own samples, for several beta, with bootstrap intervals.

    With weights w = exp(r / beta): Z = mean w, the reward is sum w r / sum w, KL = reward / beta - ln Z, and the effective number of
    samples is (sum w)^2 / sum w^2 (Kong 1992). Where few samples carry all the weight, both are too low and so are their intervals.
    """
    r = np.asarray(rewards, dtype=np.float64)
    if r.size < 2 or not np.isfinite(r).all():
        raise EvaluationError(f"{r.size} rewards, all of which must be finite: a frontier needs at least two samples")
    random = np.random.default_rng(seed)
    draws = random.integers(r.size, size=(resamples, r.size))
    return [_point(r, beta, draws) for beta in betas]


def _point(r: npt.NDArray[np.float64], beta: float, draws: npt.NDArray[np.int64]) -> FrontierPoint:
    if not beta > 0:
        raise EvaluationError(f"beta = {beta}: it must be above 0")
    reward, kl, effective = tilt(r, beta)
    again = np.array([tilt(r[draw], beta)[:2] for draw in draws])
    low, high = np.quantile(again, (0.025, 0.975), axis=0) if len(again) else ((reward, kl), (reward, kl))
    return FrontierPoint(
        beta,
        Estimate(reward, float(low[0]), float(high[0])),
        Estimate(kl, float(low[1]), float(high[1])),
        effective,
    )


def tilt(rewards: npt.NDArray[np.float64], beta: float) -> tuple[float, float, float]:
    """Expected reward, KL in nats and effective number of samples of the reference tilted by exp(r / beta)."""
    exponents = rewards / beta
    top = exponents.max()
    weights = np.exp(exponents - top)  # the largest is 1: nothing overflows
    reward = float((weights * rewards).sum() / weights.sum())
    log_z = float(top + math.log(weights.mean()))
    return reward, max(0.0, reward / beta - log_z), float(weights.sum() ** 2 / (weights**2).sum())


def best_reward_at(points: Sequence[FrontierPoint], kl: float) -> float:
    """The frontier's reward at a KL, on the straight line between its points (the frontier lies on it or above)."""
    ordered = sorted((point.kl.value, point.reward.value) for point in points)
    return float(np.interp(kl, [each[0] for each in ordered], [each[1] for each in ordered]))


# ------------------------------------------------------------------------------------------------- where a policy stands


@dataclass(frozen=True)
class PolicyPoint:
    """What a policy earns and how far from the reference it is, estimated on texts that it wrote itself."""

    reward: Estimate
    kl: Estimate  # mean of ln pi - ln pi_ref over the policy's own texts: can't be below 0 but for chance
    samples: int
    unfinished: float  # the share of texts that were cut off by the length
    texts: list[str]

    def __str__(self) -> str:
        return f"reward {self.reward}, KL {self.kl} nats from {self.samples} texts"


def sample_answers(
    model: LanguageModel,
    tokenizer: BPETokenizer,
    prompt: Sequence[Message],
    n: int,
    *,
    max_new_tokens: int | None = None,
    seed: int = 0,
) -> list[Generation]:
    """`n` answers to the prompt, drawn from the model's own distribution (temperature 1), each to the end of its turn."""
    ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)
    room = model.config.context_length - len(ids)
    if room < 1:
        raise EvaluationError(f"the prompt has {len(ids)} tokens, and the model sees {model.config.context_length}")
    limit = room if max_new_tokens is None else min(max_new_tokens, room)
    stops = {closing_token(tokenizer)}
    return generate(model, [ids] * n, limit, stop_tokens=stops, tokenizer=tokenizer, seed=seed)


def policy_point(
    policy: LanguageModel,
    reference: LanguageModel,
    tokenizer: BPETokenizer,
    reward: Reward,
    prompt: Sequence[Message],
    n: int = 200,
    *,
    max_new_tokens: int | None = None,
    seed: int = 0,
) -> PolicyPoint:
    """Let the policy answer the prompt `n` times; the mean reward and KL(policy || reference) of that, with 95 % intervals.

    The reward sees the text of each answer. The KL is that of whole answers, in nats: its estimate is the mean of
    ln pi(y) - ln pi_ref(y) over the policy's own answers, the end of the turn included. Answers that were cut off count as far as they go.
    """
    if n < 2:
        raise EvaluationError(f"n = {n}: an interval needs at least two answers")
    written = sample_answers(policy, tokenizer, prompt, n, max_new_tokens=max_new_tokens, seed=seed)
    texts = [each.text or "" for each in written]
    opened = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)
    examples = [_as_written(opened, each) for each in written]
    kept = [i for i, example in enumerate(examples) if any(example.learned)]
    ratios = np.zeros(n)
    if kept:
        chosen = [examples[i] for i in kept]
        ratios[kept] = (answer_log_probs(policy, chosen) - answer_log_probs(reference, chosen)).double().numpy()
    return PolicyPoint(
        reward=mean_estimate([reward(text) for text in texts]),
        kl=mean_estimate(ratios),
        samples=n,
        unfinished=sum(each.stop_reason == "length" for each in written) / n,
        texts=texts,
    )


def _as_written(opened: Sequence[int], written: Generation) -> Example:
    """The prompt and the very tokens that were written, the end of the turn among them where it came.

    Encoding the text again could cut it into other tokens than the model chose.
    """
    closing = [written.stopped_by] if written.stop_reason == "eos" and isinstance(written.stopped_by, int) else []
    answer = [*written.ids, *closing]
    return Example((*opened, *answer), (False,) * len(opened) + (True,) * len(answer))


def mean_estimate(values: Sequence[float] | npt.NDArray[np.float64]) -> Estimate:
    """The mean of independent values with its 95 % interval, by the normal distribution."""
    array = np.asarray(values, dtype=np.float64)
    mean, error = float(array.mean()), float(array.std(ddof=1) / math.sqrt(array.size))
    return Estimate(mean, mean - Z95 * error, mean + Z95 * error)


def closing_token(tokenizer: BPETokenizer) -> int:
    """The special token that ends an assistant's turn in the tokenizer's chat template."""
    user: Message = {"role": "user", "content": "a"}
    example = encode_chat(tokenizer, [user, {"role": "assistant", "content": "b"}], learn="last")
    last = max(i for i, learned in enumerate(example.learned) if learned)
    if example.ids[last] not in tokenizer.special_tokens.values():
        raise EvaluationError("this chat template ends an answer without a special token, so no answer would ever end")
    return example.ids[last]
