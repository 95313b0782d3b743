"""Beam search: the likeliest text, as far as one cares to look, rather than the likeliest token at each step."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from minilm.generation.decoding import only_reading
from minilm.generation.reading import Reader
from minilm.model import LanguageModel


@dataclass(frozen=True)
class Beam:
    """One text that a beam search found."""

    ids: list[int]  # without the prompt, and without the stop token that ended it
    log_prob: float  # of the ids and the stop token, after the prompt, in nats
    score: float  # log_prob / (number of tokens, the stop token included) ** length_penalty
    finished: bool  # whether a stop token ended it


def beam_search(
    model: LanguageModel,
    prompt: Sequence[int],
    max_new_tokens: int,
    beams: int = 4,
    *,
    length_penalty: float = 1.0,
    stop_tokens: Collection[int] = (),
    use_cache: bool | None = None,
    pad_token: int | None = None,
) -> list[Beam]:
    """The `beams` best texts found after the prompt, best first.

    At each step every live text is continued by every token, and the `beams` likeliest of all these live on; those that a stop
    token ends are set aside. Texts end with a stop token or at `max_new_tokens`, and are ranked by log-probability / length **
    length_penalty: 0 ranks by probability, which favours short texts, since every token costs; 1 ranks by the mean of a token;
    above 1 long texts are favoured.

    With as many beams as there are texts this is exhaustive, and the best text is certain; with 1 it is greedy. (Likeliest is
    not best: a likely text is often a dull one, see Holtzman et al. 2020.)
    """
    if beams < 1:
        raise ValueError(f"beams = {beams}: it must be at least 1 (1 is greedy)")
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens = {max_new_tokens}: it must be at least 1")
    if not (length_penalty >= 0 and math.isfinite(length_penalty)):
        raise ValueError(
            f"length_penalty = {length_penalty}: it must be at least 0 (0 ranks by probability, 1 by its mean)"
        )
    if not len(prompt):
        raise ValueError("the prompt is empty, and a model goes on from at least one token: begin with <end>, say")
    stops = frozenset(stop_tokens)
    reader = Reader(model, [[int(token) for token in prompt]], use_cache, pad_token, room=max_new_tokens)
    modules = list(model.modules())
    live = torch.zeros(1, dtype=torch.float64, device=reader.device)  # the log-probability of each live text
    ended: list[Beam] = []
    for length in range(1, max_new_tokens + 1):
        with only_reading(modules):
            log_probs = live[:, None] + reader.logits().double().log_softmax(dim=-1)  # live vocab
            # Each live text has at most len(stops) continuations that end it, so this many hold `beams` that live on.
            wanted = min(beams * (1 + len(stops)), log_probs.numel())
            best, places = log_probs.flatten().topk(wanted)
        parents: list[int] = []
        tokens: list[int] = []
        survivors: list[float] = []
        for log_prob, place in zip(best.tolist(), places.tolist(), strict=True):
            parent, token = divmod(place, log_probs.shape[-1])
            if log_prob == -math.inf:
                continue
            if token in stops:
                ids = reader.texts[parent][len(prompt) :]
                ended.append(Beam(ids, log_prob, log_prob / length**length_penalty, finished=True))
            elif len(survivors) < beams:
                parents.append(parent)
                tokens.append(token)
                survivors.append(log_prob)
        ended = sorted(ended, key=lambda beam: -beam.score)[:beams]
        if not survivors:
            break
        reader.select(parents)
        reader.append(tokens)
        live = torch.tensor(survivors, dtype=torch.float64, device=reader.device)
        # A text's log-probability only falls, so this is the best that a live one can still reach.
        if len(ended) == beams and survivors[0] / max_new_tokens**length_penalty <= ended[-1].score:
            break
        if length == max_new_tokens:
            ended += [
                Beam(text[len(prompt) :], log_prob, log_prob / length**length_penalty, finished=False)
                for text, log_prob in zip(reader.texts, survivors, strict=True)
            ]
    return sorted(ended, key=lambda beam: -beam.score)[:beams]
