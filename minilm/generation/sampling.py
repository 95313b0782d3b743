"""From logits to the next token: small pure functions on logits, and the order in which they are applied.

Each function takes logits of any leading shape and gives logits of the same shape, in which a refused token is -inf. The order is

    repetition penalty, temperature, top-k, top-p, min-p

and matters: a temperature before top-p changes which tokens make up the share p. It is the order of transformers' `generate`,
whose processors these functions equal, ties included. A row that is -inf throughout stays so.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minilm.config import Config


def apply_repetition_penalty(
    logits: Float[Tensor, "*batch vocab"], previous_ids: Int[Tensor, "*batch seen"], penalty: float
) -> Float[Tensor, "*batch vocab"]:
    """Make tokens that were there less likely: positive logits are divided by the penalty, negative ones multiplied (Keskar et al. 2019).

    A token counts once, however often it was there. Negative ids in `previous_ids` are padding and count for nothing.
    1 changes nothing; below 1 repetition is rewarded. The result depends on where zero lies, although softmax does not: the
    penalty is a habit of the field, not a law.
    """
    if not (penalty > 0 and math.isfinite(penalty)):
        raise ValueError(f"repetition penalty = {penalty}: it must be above 0 (1 changes nothing, 1.2 is usual)")
    vocab = logits.shape[-1]
    if previous_ids.numel() and int(previous_ids.max()) >= vocab:
        raise ValueError(f"previous_ids hold {int(previous_ids.max())}, and there are logits for 0 .. {vocab - 1} only")
    seen = torch.zeros(*logits.shape[:-1], vocab + 1, dtype=torch.bool, device=logits.device)  # the last is for padding
    places = torch.where(previous_ids < 0, vocab, previous_ids).long()
    seen = seen.scatter_(-1, places, True)[..., :vocab]
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def apply_temperature(logits: Float[Tensor, "*batch vocab"], temperature: float) -> Float[Tensor, "*batch vocab"]:
    """Divide by the temperature: below 1 the likely become likelier, above 1 all become more alike."""
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(
            f"temperature = {temperature}: logits can be divided by a number above 0 only; "
            "towards 0 sampling becomes greedy, for which there is Sampling(temperature=0)"
        )
    return logits / temperature


def keep_top_k(logits: Float[Tensor, "*batch vocab"], k: int) -> Float[Tensor, "*batch vocab"]:
    """Refuse every token whose logit is below the k-th largest. Equals of the k-th stay too; a k above the vocabulary keeps all."""
    check_top_k(k)
    smallest = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < smallest, -math.inf)


def keep_top_p(logits: Float[Tensor, "*batch vocab"], p: float) -> Float[Tensor, "*batch vocab"]:
    """Keep the fewest likeliest tokens that together have at least the probability p (nucleus sampling, Holtzman et al. 2020).

    In other words: from the unlikely end, refuse tokens as long as their probabilities add up to no more than 1 - p. The
    likeliest always stays, so p = 0 leaves one token; p = 1 keeps all. Which of equal tokens at the border stay is up to the
    sort, as in transformers.
    """
    check_share("top_p", p)
    if p == 1:
        return logits
    ascending, order = logits.sort(dim=-1)
    refused = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    refused[..., -1] = False
    return logits.masked_fill(refused.scatter(-1, order, refused), -math.inf)


def keep_min_p(logits: Float[Tensor, "*batch vocab"], p: float) -> Float[Tensor, "*batch vocab"]:
    """Refuse every token whose probability is below p times the likeliest one's (Nguyen et al. 2024).

    Where the model is sure, few are left; where it is not, many. p = 0 keeps all, p = 1 only the likeliest and its equals.
    """
    check_share("min_p", p)
    if p == 0:
        return logits
    # p_i < p * p_max, said in logits: their difference is the logarithm of the ratio of probabilities.
    return logits.masked_fill(logits < logits.amax(dim=-1, keepdim=True) + math.log(p), -math.inf)


def check_top_k(k: int) -> None:
    """Refuse a k that is no whole number from 1 on."""
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise ValueError(f"top_k = {k!r}: it must be a whole number from 1 on (1 is greedy; None keeps all)")


def check_share(name: str, p: float) -> None:
    """Refuse what is no share."""
    if not 0 <= p <= 1:
        raise ValueError(f"{name} = {p}: it is a share, from 0 to 1")


@dataclass(frozen=True)
class Sampling(Config):
    """How the next token is chosen. The default draws from the model's own distribution."""

    temperature: float = 1.0  # 0: greedy, always the likeliest (of equals the lowest id), whatever the other values are
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0  # acts on greedy choice too

    def validate(self) -> None:
        """Check ranges."""
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise ValueError(
                f"temperature = {self.temperature}: it must be at least 0 (0 is greedy, 1 the model's own distribution)"
            )
        if self.top_k is not None:
            check_top_k(self.top_k)
        for name in ("top_p", "min_p"):
            if (share := getattr(self, name)) is not None:
                check_share(name, share)
        if not (self.repetition_penalty > 0 and math.isfinite(self.repetition_penalty)):
            raise ValueError(
                f"repetition_penalty = {self.repetition_penalty}: it must be above 0 (1 changes nothing, 1.2 is usual)"
            )


GREEDY = Sampling(temperature=0)


def process_logits(
    logits: Float[Tensor, "*batch vocab"], sampling: Sampling, previous_ids: Int[Tensor, "*batch seen"] | None = None
) -> Float[Tensor, "*batch vocab"]:
    """All that `sampling` asks for, in the fixed order. With temperature 0 all but the (first) likeliest token are refused."""
    logits = penalized(logits, sampling, previous_ids)
    if sampling.temperature == 0:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.full_like(logits, -math.inf).scatter(-1, best, logits.gather(-1, best))
    if sampling.temperature != 1:
        logits = apply_temperature(logits, sampling.temperature)
    if sampling.top_k is not None:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p is not None:
        logits = keep_top_p(logits, sampling.top_p)
    if sampling.min_p is not None:
        logits = keep_min_p(logits, sampling.min_p)
    return logits


def token_probabilities(
    logits: Float[Tensor, "*batch vocab"], sampling: Sampling, previous_ids: Int[Tensor, "*batch seen"] | None = None
) -> Float[Tensor, "*batch vocab"]:
    """The exact probabilities with which `sample_token` draws each token."""
    return process_logits(logits, sampling, previous_ids).softmax(dim=-1)


def sample_token(
    logits: Float[Tensor, "*batch vocab"],
    sampling: Sampling,
    generator: torch.Generator | None = None,
    previous_ids: Int[Tensor, "*batch seen"] | None = None,
) -> Int[Tensor, "*batch"]:
    """Draw the next token of each row, as `sampling` says; `generator` is the source of chance (PyTorch's own if None).

    Raises ValueError if nothing can be drawn: NaN among the logits, or every token refused.
    """
    if sampling.temperature == 0:
        return likeliest(penalized(logits, sampling, previous_ids))
    device = "cpu" if generator is None else generator.device
    chance = torch.rand(logits.shape[:-1], generator=generator, dtype=torch.float64, device=device).to(logits.device)
    return draw(process_logits(logits, sampling, previous_ids), chance)


def penalized(logits: Tensor, sampling: Sampling, previous_ids: Tensor | None) -> Tensor:
    """The first step of the order: the repetition penalty where there is one."""
    if sampling.repetition_penalty == 1:
        return logits
    if previous_ids is None:
        raise ValueError(
            f"repetition_penalty = {sampling.repetition_penalty} needs to know what was written: pass previous_ids"
        )
    return apply_repetition_penalty(logits, previous_ids, sampling.repetition_penalty)


def likeliest(logits: Float[Tensor, "*batch vocab"]) -> Int[Tensor, "*batch"]:
    """The token with the largest logit, of equals the one with the lowest id."""
    best, tokens = logits.max(dim=-1)
    if not bool((best > -math.inf).all()):  # false for NaN too, which max passes on
        raise ValueError(NOTHING_TO_DRAW)
    return tokens


def draw(logits: Float[Tensor, "*batch vocab"], chance: Float[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """The token whose stretch of [0, 1) holds the chance, when tokens get stretches as long as their probabilities, by id.

    One random number a token and row: so what a row draws does not depend on its neighbours in a batch.
    """
    ends = logits.double().softmax(dim=-1).cumsum(dim=-1)
    total = ends[..., -1:]
    if not bool((total > 0).all()):
        raise ValueError(NOTHING_TO_DRAW)
    # A stretch of length 0 can't be hit, nor can what lies past the end: the point is below the total, whatever rounding does.
    point = torch.minimum(chance[..., None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(ends, point, right=True)[..., 0]


NOTHING_TO_DRAW = (
    "no token can be drawn: the logits hold NaN or infinity, or every token is refused (-inf). "
    "NaN comes from the model: look at its weights and loss"
)
