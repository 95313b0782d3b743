"""Exercises of lesson 07: cut with min-p, draw a token, penalize repetition, hold back a stop string, stop when unsure, search with beams."""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from minilm.course.comparing import wrong_kind
from minilm.course.exercise import call, cases, exercise, holds, wrong
from minilm.generation import (
    ConfidenceStop,
    ConfidenceWatch,
    Sampling,
    apply_repetition_penalty,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    sample_token,
)


def _logits(rng: random.Random, *shape: int, spread: float = 2.0) -> Tensor:
    """Scores of a few tokens, with two digits, so that they can be read."""
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    return (spread * torch.randn(*shape, generator=generator)).mul(100).round().div(100)


# --- 07.1 --------------------------------------------------------------------------------------------------------------


def _min_p_wrong(logits: Tensor, refused: Tensor) -> Tensor:
    return logits.masked_fill(refused, -math.inf)


exercise(
    id="07.1",
    title="A bar that moves",
    objective="Refuse every token whose probability is below p times the likeliest one's.",
    difficulty=2,
    minutes=10,
    reference=keep_min_p,
    inputs=cases(
        (torch.tensor([2.0, 1.0, 0.0, -1.0]), 0.2),
        (torch.tensor([-3.0, -1.0, -2.0]), 0.5),
        (torch.tensor([[4.0, 1.0, 0.0], [1.0, 1.1, 0.9]]), 0.3),
        (torch.tensor([1.0, 3.0, 3.0]), 1.0),
        draw=lambda rng: (_logits(rng, 2, 5), rng.choice([0.02, 0.1, 0.4])),
        count=8,
    ),
    hints=[
        "Which token sets the bar, and in which row?",
        "With probabilities: keep where `probs >= p * largest`, the largest of each row. What should a refused token's score be, so that a softmax gives it exactly 0?",
        "`probs = logits.softmax(dim=-1)`, then `logits.masked_fill(probs < p * probs.amax(dim=-1, keepdim=True), -math.inf)`. (Without a softmax: `logits < logits.amax(dim=-1, keepdim=True) + math.log(p)`.)",
    ],
    wrong_answers=[
        wrong(
            lambda logits, p: _min_p_wrong(logits, logits.softmax(-1) < p),
            """You refuse everything below p itself. That bar does not move: where sixty names are right, none reaches it, and nothing
            is left to draw. Min-p measures against the likeliest token: below p *times its probability*.""",
        ),
        wrong(
            lambda logits, p: _min_p_wrong(logits, logits < p * logits.amax(-1, keepdim=True)),
            """You compare scores where probabilities are meant. A score of half the largest is not half as likely (and a negative
            largest one turns the bar upside down): take a softmax first, or add math.log(p) to the largest score.""",
        ),
        wrong(
            lambda logits, p: logits.masked_fill(
                logits.softmax(-1) < p * logits.softmax(-1).amax(-1, keepdim=True), 0.0
            ),
            """Right tokens, wrong mark: you set refused scores to 0, and exp(0) = 1 is a fine weight to be drawn with. Only -inf has
            probability 0.""",
        ),
        wrong(
            lambda logits, p: logits.softmax(-1).masked_fill(
                logits.softmax(-1) < p * logits.softmax(-1).amax(-1, keepdim=True), 0.0
            ),
            """You return probabilities. The next step expects scores, and would take a softmax of your softmax: return the logits,
            with -inf where a token is refused.""",
        ),
        wrong(
            lambda logits, p: _min_p_wrong(logits, logits.softmax(-1) < p * logits.softmax(-1).max()),
            """You take one largest probability for the whole batch. Each row is a text of its own: a sure one would empty an unsure
            one. Take the largest along the last axis, with `keepdim=True`.""",
        ),
        wrong(
            lambda logits, p: _min_p_wrong(logits, logits.softmax(-1) <= p * logits.softmax(-1).amax(-1, keepdim=True)),
            """At p = 1 you refuse the likeliest token too, and a softmax over nothing is NaN. *Below* the bar is refused; on it, a
            token stays.""",
        ),
        wrong(
            lambda logits, p: _min_p_wrong(logits, logits.softmax(-1) > p * logits.softmax(-1).amax(-1, keepdim=True)),
            """You keep the unlikely tokens and refuse the likely ones: the comparison is the wrong way round.""",
        ),
    ],
)


# --- 07.2 --------------------------------------------------------------------------------------------------------------

DRAWS = 400


def sample_next(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> int:
    """Return the next token: temperature, then top-k, then top-p, then a draw; temperature 0 is greedy."""
    return int(sample_token(logits, Sampling(temperature=temperature, top_k=top_k, top_p=top_p), generator))


def _many(
    answer: Callable[..., Any], logits: Tensor, temperature: float, top_k: int | None, top_p: float | None
) -> Any:
    """What comes of drawing often; or the first thing that is no token."""
    generator = torch.Generator().manual_seed(7)
    drawn = []
    for _ in range(DRAWS):
        token = answer(logits.clone(), temperature, top_k, top_p, generator)
        if isinstance(token, bool) or not isinstance(token, int):
            return token
        drawn.append(token)
    return drawn


def _frequencies(expected: Any, got: Any) -> str | None:
    """Five standard deviations: of a million right answers, none should be told wrong."""
    if not isinstance(got, list):
        return wrong_kind(0, got)
    mine, theirs = Counter(expected), Counter(got)
    for token in sorted(mine | theirs):
        few, many = sorted((mine[token], theirs[token]))
        if many - few > 5 * math.sqrt(many + few) or (few == 0 and many >= 15):
            return f"in {DRAWS} draws token {token} came {theirs[token]} times; about {mine[token]} are right"
    return None


def _draw(logits: Tensor, generator: torch.Generator | None) -> int:
    return int(torch.multinomial(logits.softmax(dim=-1), 1, generator=generator))


def _pipeline(
    *steps: str,
    times: bool = False,
    drop_crossing: bool = False,
    greedy: bool = True,
    seeded: bool = True,
    best: bool = False,
) -> Callable[..., int]:
    """`sample_next` with the slips that a wrong answer asks for."""

    def answer(
        logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
    ) -> int:
        if temperature == 0:
            if greedy:
                return int(logits.argmax())
            return _draw(logits / temperature, generator)
        for step in steps:
            if step == "temperature":
                logits = logits * temperature if times else logits / temperature
            elif step == "top_k" and top_k is not None:
                logits = keep_top_k(logits, top_k)
            elif step == "top_p" and top_p is not None and drop_crossing:
                sorted_probs, order = logits.softmax(-1).sort(descending=True)
                gone = sorted_probs.cumsum(-1) > top_p
                gone[0] = False
                logits = logits.masked_fill(gone.scatter(-1, order, gone), -math.inf)
            elif step == "top_p" and top_p is not None:
                logits = keep_top_p(logits, top_p)
        return int(logits.argmax()) if best else _draw(logits, generator if seeded else None)

    return answer


def _same_seed(answer: Callable[..., Any]) -> bool:
    """Whether the generator alone decides."""
    found = []
    logits = torch.zeros(50)
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator = torch.Generator().manual_seed(3)
            found.append([answer(logits.clone(), 1.0, None, None, generator) for _ in range(20)])
    return found[0] == found[1]


_STEPS = ("temperature", "top_k", "top_p")
_SIX = torch.tensor([3.0, 2.5, 2.0, 1.5, 1.0, 0.5])

exercise(
    id="07.2",
    title="The next token",
    objective="Draw the next token from logits: temperature, then top-k, then top-p, then a draw with the given generator.",
    difficulty=3,
    minutes=20,
    reference=sample_next,
    inputs=cases(
        (_SIX, 1.0, None, None),
        (_SIX, 0.0, None, None),
        (_SIX, 0.3, None, None),
        (_SIX, 1.0, 3, None),
        (torch.tensor([0.0, 1.0, 2.0, 1.5]), 1.0, None, 0.6),
        (_SIX, 3.0, None, 0.6),
        (_SIX, 2.0, 4, 0.7),
    ),
    compare=_frequencies,
    driver=_many,
    properties=[
        holds(
            "the generator alone decides",
            _same_seed,
            """Two generators with the same seed gave different tokens. Draw with the generator that you are given, so that a text can
            be written again: `torch.multinomial(probs, 1, generator=generator)`.""",
        )
    ],
    hints=[
        "Which temperature cannot be divided by, and what should it mean? Then: each step takes scores and gives scores, with -inf for what is refused.",
        "Top-p: sort, add probabilities up *from the unlikely end*, and refuse as long as the sum is at most 1 - p; the likeliest always stays. The lesson's `keep_top_k` and `keep_top_p` are allowed.",
        "`if temperature == 0: return logits.argmax().item()`; `logits = logits / temperature`; `if top_k is not None: logits = keep_top_k(logits, top_k)`; the same for top_p; `return torch.multinomial(logits.softmax(-1), 1, generator=generator).item()`",
    ],
    wrong_answers=[
        wrong(
            _pipeline(*_STEPS, times=True),
            """You multiply by the temperature. A high temperature should make tokens more alike: divide the scores by it.""",
        ),
        wrong(
            _pipeline(*_STEPS, greedy=False),
            """Your function divides by a temperature of 0. It means greedy here, as everywhere: return the likeliest token before
            anything is divided.""",
        ),
        wrong(
            _pipeline(*_STEPS, best=True),
            """After all the cutting you take the likeliest token, which was the likeliest before, too: this is greedy decoding with
            extra steps. *Draw*, with `torch.multinomial`.""",
        ),
        wrong(
            _pipeline("top_k", "top_p", "temperature"),
            """You cut before you divide by the temperature. Top-p is a sum of probabilities, and those depend on the temperature: in
            the field's order the temperature comes first.""",
        ),
        wrong(
            _pipeline("temperature", "top_p", "top_k"),
            """You cut with top-p before top-k. Then top-p counts tokens that top-k is going to refuse: first top-k, then top-p of what
            is left.""",
        ),
        wrong(
            _pipeline(*_STEPS, drop_crossing=True),
            """Your top-p refuses the token that crosses p. Then what is kept has *less* than p. Keep the fewest tokens that have *at
            least* p, the crossing one included.""",
        ),
        wrong(
            _pipeline("temperature", "top_p"),
            """`top_k` changes nothing in your function: tokens come that are not among the k likeliest.""",
        ),
        wrong(
            _pipeline("temperature", "top_k"),
            """`top_p` changes nothing in your function: tokens come that it should refuse.""",
        ),
        wrong(
            _pipeline("top_k", "top_p"),
            """The temperature changes nothing in your function: divide the scores by it before anything else.""",
        ),
        wrong(
            _pipeline(*_STEPS, seeded=False),
            """Two generators with the same seed gave different tokens. Draw with the generator that you are given, so that a text can
            be written again: `torch.multinomial(probs, 1, generator=generator)`.""",
        ),
    ],
    unlocks="At the end of lesson 08 this function writes the stories of the model that you trained.",
    seconds=10.0,
)


# --- 07.3 --------------------------------------------------------------------------------------------------------------


def _penalize(change: Callable[[Tensor, float], Tensor]) -> Callable[[Tensor, Tensor, float], Tensor]:
    """A wrong penalty that changes the scores of the tokens seen in some other way."""

    def answer(logits: Tensor, previous_ids: Tensor, penalty: float) -> Tensor:
        result = logits.clone()
        result[previous_ids] = change(logits[previous_ids], penalty)
        return result

    return answer


def _by_count(logits: Tensor, previous_ids: Tensor, penalty: float) -> Tensor:
    for token in previous_ids.tolist():
        logits = apply_repetition_penalty(logits, torch.tensor([token]), penalty)
    return logits


def _all_tokens(logits: Tensor, previous_ids: Tensor, penalty: float) -> Tensor:
    return torch.where(logits < 0, logits * penalty, logits / penalty)


def _refuse(logits: Tensor, previous_ids: Tensor, penalty: float) -> Tensor:
    return _penalize(lambda scores, _: torch.full_like(scores, -math.inf))(logits, previous_ids, penalty)


exercise(
    id="07.3",
    title="Not again",
    objective="Push down the scores of tokens that were there before, by the rule of the repetition penalty.",
    difficulty=2,
    minutes=10,
    reference=apply_repetition_penalty,
    inputs=cases(
        (torch.tensor([2.0, -1.0, 0.5, 3.0]), torch.tensor([0, 1]), 2.0),
        (torch.tensor([1.0, -2.0, 4.0]), torch.tensor([2, 2, 1, 2]), 1.5),
        (torch.tensor([1.0, -2.0, 4.0]), torch.tensor([1]), 1.0),
        draw=lambda rng: (
            _logits(rng, 6),
            torch.tensor([rng.randrange(6) for _ in range(5)]),
            rng.choice([1.2, 1.5, 2.0]),
        ),
        count=8,
    ),
    hints=[
        "Dividing by 1.2 makes a positive score smaller. What does it do to a negative one?",
        "Pick out the scores of the tokens seen, divide the positive ones, multiply the negative ones, and put them back *into a copy*. A token that was there three times is penalized once.",
        "`scores = logits[previous_ids]`; `result = logits.clone()`; `result[previous_ids] = torch.where(scores < 0, scores * penalty, scores / penalty)`",
    ],
    wrong_answers=[
        wrong(
            _penalize(lambda scores, penalty: scores / penalty),
            """You divide every score. A negative one comes *nearer* to zero by that: the repeated token becomes likelier. Multiply the
            negative ones.""",
        ),
        wrong(
            _penalize(lambda scores, penalty: scores * penalty),
            """You multiply every score. For a positive one that is a reward for repeating: divide the positive ones.""",
        ),
        wrong(
            _penalize(lambda scores, penalty: scores - penalty),
            """You subtract. That is a *presence penalty* (OpenAI's name), and the sounder idea, since it does not depend on where zero
            lies. The repetition penalty of Keskar et al., which is asked for, divides positive scores and multiplies negative ones.""",
        ),
        wrong(
            _by_count,
            """You penalize a token once for each time it was there. By this rule once is enough, however often it came.""",
        ),
        wrong(
            _all_tokens,
            """You penalize every token, seen or not. Change only the scores at `previous_ids`.""",
        ),
        wrong(
            _refuse,
            """You forbid what was there before. No story survives that: it needs its hero's name again, and its full stops. Divide
            positive scores by the penalty, multiply negative ones.""",
        ),
        wrong(
            _penalize(lambda scores, penalty: torch.where(scores < 0, scores / penalty, scores * penalty)),
            """The two cases are exchanged: positive scores are *divided*, negative ones *multiplied*. Yours rewards repetition.""",
        ),
    ],
)


# --- 07.4 --------------------------------------------------------------------------------------------------------------


def release(text: str, stop_strings: Sequence[str]) -> tuple[str, bool]:
    """Return what may be shown of an unfinished text, and whether a stop string has ended it."""
    found = [text.find(stop) for stop in stop_strings if stop in text]
    if found:
        return text[: min(found)], True
    for start in range(len(text)):
        if any(stop.startswith(text[start:]) for stop in stop_strings):
            return text[:start], False
    return text, False


def _whole_only(text: str, stop_strings: Sequence[str]) -> tuple[str, bool]:
    found = [text.find(stop) for stop in stop_strings if stop in text]
    return (text[: min(found)], True) if found else (text, False)


def _first_listed(text: str, stop_strings: Sequence[str]) -> tuple[str, bool]:
    for stop in stop_strings:
        if stop in text:
            return text[: text.find(stop)], True
    return release(text, stop_strings)


def _last_one(text: str, stop_strings: Sequence[str]) -> tuple[str, bool]:
    found = [text.rfind(stop) for stop in stop_strings if stop in text]
    return (text[: max(found)], True) if found else release(text, stop_strings)


def _with_stop(text: str, stop_strings: Sequence[str]) -> tuple[str, bool]:
    found = [(text.find(stop), stop) for stop in stop_strings if stop in text]
    if not found:
        return release(text, stop_strings)
    at, stop = min(found)
    return text[: at + len(stop)], True


def _always_hold(text: str, stop_strings: Sequence[str]) -> tuple[str, bool]:
    shown, done = _whole_only(text, stop_strings)
    longest = max(map(len, stop_strings))
    return (shown, True) if done else (text[: max(0, len(text) - longest + 1)], False)


def _one_character(text: str, stop_strings: Sequence[str]) -> tuple[str, bool]:
    shown, done = _whole_only(text, stop_strings)
    if not done and text and any(text[-1] == stop[0] for stop in stop_strings):
        return text[:-1], False
    return shown, done


def _shortest_hold(text: str, stop_strings: Sequence[str]) -> tuple[str, bool]:
    shown, done = _whole_only(text, stop_strings)
    if not done:
        for start in reversed(range(len(text))):
            if any(stop.startswith(text[start:]) for stop in stop_strings):
                return text[:start], False
    return shown, done


def _draw_text(rng: random.Random) -> tuple[str, list[str]]:
    letters = "ab#"
    stops = ["".join(rng.choice(letters) for _ in range(rng.randint(2, 4))) for _ in range(rng.randint(1, 2))]
    return "".join(rng.choice(letters) for _ in range(rng.randint(2, 9))), stops


exercise(
    id="07.4",
    title="What may be shown",
    objective="Of a text that is still growing, say what can be shown without ever showing a part of a stop string.",
    difficulty=3,
    minutes=15,
    reference=release,
    inputs=cases(
        ("Mia ran. User: h", ["User:"]),
        ("Mia ran. Us", ["User:"]),
        ("Mia ran.", ["User:"]),
        ("a##b##", ["##"]),
        ("one###two", ["###", "one"]),
        ("look: aab", ["aabaa", "bb"]),
        ("", ["stop"]),
        draw=_draw_text,
        count=20,
    ),
    hints=[
        "The text ends in “Us”. May you show it, if the stop string is “User:”? And if the next token is “ed”?",
        "If a stop string is there: everything before the *earliest*. If not: hold back the *longest* end of the text that is the beginning of some stop string; the rest is safe.",
        "`for start in range(len(text)): if any(stop.startswith(text[start:]) for stop in stop_strings): return text[:start], False`, after you have looked for whole ones.",
    ],
    wrong_answers=[
        wrong(
            _whole_only,
            """You look for whole stop strings only. When the text ends in “Us”, you show it; if “er:” comes next, the reader has
            seen a part of the stop string. Hold back an end that may become one.""",
        ),
        wrong(
            _always_hold,
            """You always hold back as many characters as the longest stop string has, less one. Nothing wrong is shown, but every
            text limps behind by that much. Hold back only what *is* the beginning of a stop string.""",
        ),
        wrong(
            _one_character,
            """You hold back one character at most. A longer end, “Us” of “User:”, may be the beginning of a stop string too: find
            the longest.""",
        ),
        wrong(
            _shortest_hold,
            """You hold back the *shortest* end that may become a stop string. In “aab” the “b” begins “bb”, but all of “aab” begins
            “aabaa”: hold back the longest.""",
        ),
        wrong(
            _first_listed,
            """With two stop strings you take the one that is first in the list. What counts is the one that comes first in the
            *text*.""",
        ),
        wrong(
            _last_one,
            """You cut at the last stop string. Writing ended at the first: `find`, not `rfind`, and the smallest place.""",
        ),
        wrong(
            _with_stop,
            """You show the stop string. It marks the end and is not part of the text: cut before it.""",
        ),
    ],
    unlocks="Every chat server does this between the model and your screen.",
)


# --- 07.5 --------------------------------------------------------------------------------------------------------------


def confident_length(
    confidences: Sequence[float], threshold: float, patience: int, min_new_tokens: int, smoothing: float = 0.8
) -> int | None:
    """Return after how many tokens a model with these confidences is stopped; None if never."""
    watch = ConfidenceWatch(ConfidenceStop(threshold, patience, smoothing, min_new_tokens))
    return next((t for t, value in enumerate(confidences, start=1) if watch.should_stop(value)), None)


def _stopping(
    *,
    start: float | None = None,
    swapped: bool = False,
    in_a_row: bool = True,
    wait: bool = True,
    plain: bool = False,
    early: bool = False,
) -> Callable[..., int | None]:
    """The rule, with the slips that a wrong answer asks for."""

    def answer(
        confidences: Sequence[float], threshold: float, patience: int, min_new_tokens: int, smoothing: float = 0.8
    ) -> int | None:
        smoothed, unsure = start, 0
        keep = 1 - smoothing if swapped else smoothing
        for t, value in enumerate(confidences, start=1):
            smoothed = value if smoothed is None or plain else keep * smoothed + (1 - keep) * value
            if t < min_new_tokens and not early and wait:
                continue
            if smoothed < threshold:
                unsure += 1
            elif in_a_row:
                unsure = 0
            if unsure >= patience and (t >= min_new_tokens or not wait):
                return t
        return None

    return answer


def _from_zero(
    confidences: Sequence[float], threshold: float, patience: int, min_new_tokens: int, smoothing: float = 0.8
) -> int | None:
    found = confident_length(confidences, threshold, patience, min_new_tokens, smoothing)
    return None if found is None else found - 1


def _draw_confidences(rng: random.Random) -> tuple[list[float], float, int, int, float]:
    values = [round(rng.choice([rng.random(), 0.9 + 0.1 * rng.random()]), 2) for _ in range(12)]
    return (
        values,
        rng.choice([0.5, 0.6, 0.7, 0.8]),
        rng.choice([1, 2, 3]),
        rng.choice([1, 3, 5]),
        rng.choice([0.0, 0.5, 0.8]),
    )


exercise(
    id="07.5",
    title="Stop when unsure",
    objective="Find where the rule of confidence-based length stops a text.",
    difficulty=3,
    minutes=15,
    reference=confident_length,
    inputs=cases(
        ([0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1], 0.5, 2, 1, 0.5),
        ([0.2, 0.9, 0.2, 0.2, 0.2], 0.5, 2, 1, 0.0),
        ([0.1, 0.1, 0.1, 0.1, 0.1, 0.1], 0.5, 2, 4, 0.8),
        ([0.2, 0.8, 0.2, 0.8, 0.2], 0.5, 2, 1, 0.0),
        ([0.9, 0.9, 0.9], 0.0, 1, 1, 0.8),
        ([0.5, 0.5], 0.5, 1, 1, 0.8),
        draw=_draw_confidences,
        count=20,
    ),
    hints=[
        "Walk through the confidences once, with two things in hand: the smoothed value, and for how many tokens in a row it has been too low.",
        "The smoothed value begins *at* the first confidence; then `smoothing * old + (1 - smoothing) * new`. From token `min_new_tokens` on, count low ones in a row; a high one sets the count back to 0.",
        "`low = low + 1 if smoothed < threshold else 0`, for `t >= min_new_tokens` only; `if low >= patience: return t`; after the loop `return None`.",
    ],
    wrong_answers=[
        wrong(
            _stopping(plain=True),
            """You do not smooth. One rare name would stop a story: compare the smoothed value, `smoothing * old + (1 - smoothing) *
            new`, with the threshold.""",
        ),
        wrong(
            _stopping(start=0.0),
            """Your smoothed value begins at 0, so every text seems unsure at its beginning. Begin with the first confidence itself.""",
        ),
        wrong(
            _stopping(start=1.0),
            """Your smoothed value begins at 1, so the beginning of a text seems surer than it is. Begin with the first confidence
            itself.""",
        ),
        wrong(
            _stopping(swapped=True),
            """Your two weights are exchanged: with smoothing 0.8, the old value gets 0.8 and the new one 0.2.""",
        ),
        wrong(
            _stopping(in_a_row=False),
            """You count low tokens altogether. Patience means *in a row*: a sure token sets the count back to 0.""",
        ),
        wrong(
            _from_zero,
            """You return the place of the last token counted from 0. How *many* tokens were written is one more:
            `enumerate(confidences, start=1)`.""",
        ),
        wrong(
            _stopping(wait=False),
            """You stop before `min_new_tokens` have been written.""",
        ),
        wrong(
            _stopping(early=True),
            """You count low tokens from the beginning on, so that patience is used up when `min_new_tokens` is reached. Counting begins
            at token `min_new_tokens`.""",
        ),
    ],
)


# --- 07.6 --------------------------------------------------------------------------------------------------------------


def best_text(log_probs: Tensor, beams: int, longest: int) -> list[int]:
    """Return the likeliest ended text that a beam search finds; row and token 0 are begin and end."""
    return _beam(log_probs, beams, longest)


def _beam(table: Tensor, beams: int, longest: int, **slip: Any) -> list[int]:
    """The search, with the slips that a wrong answer asks for."""
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    for _ in range(longest):
        grown = []
        for total, ids in live:
            row = table[ids[-1] if ids else 0].tolist()
            base = 0.0 if slip.get("last_only") else total
            new = [(base + p, [*ids, token]) for token, p in enumerate(row) if p > -math.inf]
            grown += sorted(new, reverse=True)[:1] if slip.get("own_best") and len(live) >= beams else new
        grown.sort(key=lambda item: -item[0])
        if slip.get("ends_take_places"):
            grown = grown[:beams]
        ended += [(total, ids[:-1]) for total, ids in grown if ids[-1] == 0]
        if ended and slip.get("first_end"):
            break
        live = [item for item in grown if item[1][-1] != 0][:beams]
    if not ended:
        return []
    if slip.get("mean"):
        return max(ended, key=lambda item: item[0] / (len(item[1]) + 1))[1]
    return max(ended, key=lambda item: item[0])[1]


def _with_end(table: Tensor, beams: int, longest: int) -> list[int]:
    return [*_beam(table, beams, longest), 0]


def _draw_table(rng: random.Random) -> tuple[Tensor, int, int]:
    logits = _logits(rng, 5, 5, spread=1.5)
    logits[0, 0] = -math.inf  # no empty text
    return logits.log_softmax(dim=-1), rng.choice([1, 2, 3, 4]), rng.choice([3, 4, 5])


# A road that begins well and ends badly, and one the other way round.
_TRAP = torch.tensor(
    [[0.0, 0.55, 0.45, 0.0], [0.3, 0.0, 0.3, 0.4], [0.9, 0.05, 0.05, 0.0], [0.5, 0.2, 0.2, 0.1]]
).log()  # fmt: skip

exercise(
    id="07.6",
    title="Several roads at once",
    objective="Write a beam search: the likeliest text, as far as a few beams can see, instead of the likeliest token at each step.",
    difficulty=4,
    minutes=25,
    reference=best_text,
    inputs=cases((_TRAP, 1, 4), (_TRAP, 2, 4), call(_TRAP, 1, 2), draw=_draw_table, count=24),
    compare=lambda expected, got: None if expected == got else f"expected the text {expected}, got {got!r}",
    hints=[
        "Keep a list of live texts, each with its total log-probability. What happens to it when every text is continued by every token?",
        "In each round: all continuations of all live texts, with totals added; those that end with token 0 go to a list of ended texts; of the others the `beams` likeliest live on. At the end: the likeliest ended text.",
        "`grown = [(total + p, [*ids, token]) for total, ids in live for token, p in enumerate(log_probs[ids[-1] if ids else 0].tolist()) if p > -math.inf]`; then split by `ids[-1] == 0`, sort, cut.",
    ],
    wrong_answers=[
        wrong(
            lambda table, beams, longest: _beam(table, 1, longest),
            """Your search follows one text only, however many beams it has: the first token is decided before anything is known of what
            comes after it. Keep the `beams` likeliest texts alive.""",
        ),
        wrong(
            lambda table, beams, longest: _beam(table, beams, longest, last_only=True),
            """You rank by the last token's log-probability. A text's probability is the product of all its tokens': carry the total
            along and add.""",
        ),
        wrong(
            lambda table, beams, longest: _beam(table, beams, longest, own_best=True),
            """Each of your texts goes on by itself, with its own best token. In a beam search *all* continuations of *all* live texts
            compete for the places.""",
        ),
        wrong(
            lambda table, beams, longest: _beam(table, beams, longest, first_end=True),
            """You return as soon as a text has ended. A longer one that is still alive may be likelier: set ended texts aside and
            compare at the end.""",
        ),
        wrong(
            lambda table, beams, longest: _beam(table, beams, longest, ends_take_places=True),
            """Texts that end take the places of live ones in your search, so it runs dry. Here ended texts are set aside and cost no
            place: `beams` texts that have *not* ended live on.""",
        ),
        wrong(
            lambda table, beams, longest: _beam(table, beams, longest, mean=True),
            """You compare log-probabilities *per token*. That is a common choice (a length penalty of 1), and another question: here the
            likeliest text is asked for, so compare totals.""",
        ),
        wrong(
            _with_end,
            """The text is right, but the end token is not part of it: leave the 0 out.""",
        ),
    ],
)
