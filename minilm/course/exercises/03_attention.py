"""Exercises of lesson 03: from an average of the past to a class that runs inside the real model."""

import math
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilm.attention import Attention, LayerCache, causal_mask
from minilm.config import AttentionConfig, FeedForwardConfig, ModelConfig
from minilm.course.exercise import call, cases, exercise, holds, sizes, wrong
from minilm.embeddings import RotaryEmbedding


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# 03.1 ----------------------------------------------------------------------------------------------------------------


def average_past(x: Tensor) -> Tensor:
    """Each position becomes the mean of itself and all before it."""
    n = x.shape[1]
    weights = torch.ones(n, n).tril()
    return weights / weights.sum(dim=-1, keepdim=True) @ x


def _columns_averaged(x: Tensor) -> Tensor:
    weights = torch.ones(x.shape[1], x.shape[1]).tril()
    return weights / weights.sum(dim=0, keepdim=True) @ x


def _strict_average(x: Tensor) -> Tensor:
    n = x.shape[1]
    weights = torch.ones(n, n).tril(-1)
    return weights / weights.sum(dim=-1, keepdim=True) @ x


def _average_future(x: Tensor) -> Tensor:
    weights = torch.ones(x.shape[1], x.shape[1]).triu()
    return weights / weights.sum(dim=-1, keepdim=True) @ x


exercise(
    id="03.1",
    title="The average of the past, without a loop",
    objective="Replace every position's vector by the mean of itself and all before it, as one matrix product.",
    difficulty=1,
    minutes=10,
    reference=average_past,
    inputs=cases(
        torch.tensor([[[1.0], [3.0], [8.0]]]),
        _normal(1, 1, 4),
        _normal(2, 5, 3),
        _normal(3, 12, 8, seed=1),
    ),
    hints=[
        "For three positions, write down how much row 2 takes from positions 0, 1 and 2. Now the same for rows 0 and 1. What shape does the table have?",
        "Start from a lower triangle of ones, n by n. Each row has to add up to 1. The product of this table with `x` (batch n dim) works on the second axis by itself.",
        "`weights = torch.ones(n, n).tril()`, then `weights / weights.sum(dim=-1, keepdim=True) @ x`",
    ],
    wrong_answers=[
        wrong(
            lambda x: x.cumsum(dim=1),
            "You add the past up and don't divide. The sum grows with the position, so late words shout; position t has t + 1 words to divide by.",
        ),
        wrong(
            lambda x: x.cumsum(dim=1) / x.shape[1],
            "You divide every position by the length of the whole row. Position 0 has only itself to average, so it must come out unchanged: each row of weights has its own sum.",
        ),
        wrong(
            lambda x: x.cumsum(dim=1) / torch.arange(x.shape[1])[:, None],
            "Off by one: you divide position t by t. Positions count from 0, so position t has t + 1 words to average, and the first is divided by zero.",
        ),
        wrong(
            lambda x: x.mean(dim=1, keepdim=True).expand_as(x).clone(),
            "Every position gets the mean of the *whole* row, the future included. Position t may use positions 0 ... t only.",
        ),
        wrong(
            _columns_averaged,
            "Your columns add up to 1 instead of your rows. A row says what one position takes, and that is what has to be an average: sum over `dim=-1`.",
        ),
        wrong(
            _strict_average,
            "You leave each position's own vector out. Then position 0 has nothing to average and becomes 0 / 0. The past includes the present: keep the diagonal.",
        ),
        wrong(
            _average_future,
            "You average each position with what comes *after* it: the triangle is upside down. Row t needs ones in columns 0 ... t, `tril` and not `triu`.",
        ),
    ],
)


# 03.2 ----------------------------------------------------------------------------------------------------------------

exercise(
    id="03.2",
    title="The mask that hides the future",
    objective="Write the boolean mask under which position t sees positions 0 ... t and nothing later.",
    difficulty=1,
    minutes=5,
    reference=causal_mask,
    inputs=sizes(1, 2, 5, 16),
    hints=[
        "Three words, three rows: who may see whom? Fill in the nine squares by hand before you look for a function.",
        "Row t belongs to the word that looks, column s to the one looked at, and the entry is s <= t. All such squares lie on and below the diagonal.",
        "`torch.ones(n, n, dtype=torch.bool).tril()`",
    ],
    wrong_answers=[
        wrong(
            lambda n: torch.ones(n, n, dtype=torch.bool).triu(),
            "Upside down: in your mask each word sees itself and the *future*, and is blind to the past. The row is the one who looks, the column the one looked at, so True belongs on and below the diagonal.",
        ),
        wrong(
            lambda n: torch.ones(n, n, dtype=torch.bool).tril(-1),
            "Off by one: no word sees itself. The first word then sees nothing at all, and the softmax of an empty row is 0 / 0. Keep the diagonal.",
        ),
        wrong(
            lambda n: torch.ones(n, n, dtype=torch.bool).tril(1),
            "Off by one, in the dangerous direction: each word sees the *next* one, which is exactly the answer it is being trained to give. The loss will look wonderful, and the model will know nothing.",
        ),
        wrong(
            lambda n: torch.ones(n, n, dtype=torch.bool),
            "This mask hides nothing. In training every position finds its answer one place to the right; in writing there is no place to the right.",
        ),
        wrong(
            lambda n: torch.ones(n, n).tril(),
            "The pattern is right and the type is not: `scaled_dot_product_attention` *adds* a mask of floats to the scores, and a bonus of 1 for the past hides nothing. Make it `dtype=torch.bool`.",
        ),
        wrong(
            lambda n: torch.ones(n, n, dtype=torch.bool).triu(1),
            "Exactly inverted: yours is True where looking is *forbidden*. PyTorch's `nn.MultiheadAttention` wants it so; `scaled_dot_product_attention` and this course say True for *may look*. Return `~mask`.",
        ),
    ],
    unlocks="In lesson 03 this is the line between a loss of zero and a model that can write.",
)


# 03.3 ----------------------------------------------------------------------------------------------------------------


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Weighted averages of the values: softmax(q k^T / sqrt(d)) v over what the mask allows."""
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1) @ v


def _attend(
    score: Callable[[Tensor, int], Tensor] = lambda s, d: s / math.sqrt(d),
    weigh: Callable[[Tensor, Tensor], Tensor] = lambda s, m: s.masked_fill(~m, -math.inf).softmax(-1),
) -> Callable[..., Tensor]:
    return lambda q, k, v, mask: weigh(score(q @ k.mT, q.shape[-1]), mask) @ v


def _attention_inputs(rng: random.Random) -> tuple[Tensor, ...]:
    n, d = rng.randint(2, 7), rng.choice([4, 9, 16])
    q, k, v = (_normal(2, n, d, seed=rng.randrange(10**6)) * 2 for _ in range(3))
    return q, k, v, causal_mask(n)


_ROW = (torch.tensor([[1.0, 0.0, 2.0, 0.0], [0.0, 3.0, 0.0, 1.0], [2.0, 2.0, 1.0, 0.0]]),) * 2 + (torch.eye(3),)

exercise(
    id="03.3",
    title="One head",
    objective="Average the values with weights from queries and keys, over what the mask allows.",
    difficulty=2,
    minutes=15,
    reference=attend,
    inputs=cases((*_ROW, causal_mask(3)), (*_ROW, torch.ones(3, 3, dtype=torch.bool)), draw=_attention_inputs, count=6),
    hints=[
        "Five steps, and their order matters: products, scale, mask, softmax, average. Which axis of the scores must add up to one?",
        "Scores are `q @ k.mT`, one row a query. Divide by the root of the width, put minus infinity where `mask` is False, softmax over the *keys* (the last axis), then multiply with `v`.",
        "`(q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf).softmax(dim=-1) @ v`",
    ],
    wrong_answers=[
        wrong(
            _attend(score=lambda s, d: s),
            "The scale is missing. Scores of a head of width d have a variance of about d; without dividing by √d a wide head looks at a single word from the start, and hardly any gradient reaches the others.",
        ),
        wrong(
            _attend(score=lambda s, d: s / d),
            "You divide by d; it must be the *root* of d. A sum of d products spreads like √d, so d is too much: the scores shrink to nothing and every word gets nearly the same weight.",
        ),
        wrong(
            _attend(score=lambda s, d: s * math.sqrt(d)),
            "You multiply by √d where it should divide. The softmax becomes a hard choice of one word, which is what the scale is there to prevent.",
        ),
        wrong(
            _attend(weigh=lambda s, m: s.masked_fill(~m, -math.inf).softmax(-2).nan_to_num()),
            "Your softmax runs over the queries. Then it is each *column* that adds up to one, and a word's output is no average any more: it depends on how much others look at the same place. Use `dim=-1`, the keys.",
        ),
        wrong(
            _attend(weigh=lambda s, m: s.softmax(-1) * m),
            "You mask after the softmax. The hidden words have then already taken their share, so what is left does not add up to one, and the future still shows through the denominator. Put minus infinity into the scores first.",
        ),
        wrong(
            _attend(weigh=lambda s, m: s.masked_fill(m, -math.inf).softmax(-1)),
            "You hide what the mask allows and show what it forbids: `masked_fill` fills where it finds True, and True means *may look* here. Use `~mask`.",
        ),
        wrong(
            _attend(weigh=lambda s, m: s.masked_fill(~m, 0.0).softmax(-1)),
            "You set forbidden scores to 0. A score of 0 is an ordinary score, and its weight after the softmax is far from nothing. Only minus infinity becomes a weight of exactly zero.",
        ),
    ],
)


# 03.4 ----------------------------------------------------------------------------------------------------------------


def split_heads(x: Tensor, num_heads: int, copies: int = 1) -> Tensor:
    """batch n dim -> batch heads*copies n width, each head `copies` times in a row."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2).repeat_interleave(copies, dim=1)


def _channels_dealt_out(x: Tensor, num_heads: int, copies: int = 1) -> Tensor:
    return x.unflatten(-1, (-1, num_heads)).permute(0, 3, 1, 2).repeat_interleave(copies, dim=1)


def _viewed(x: Tensor, num_heads: int, copies: int = 1) -> Tensor:
    heads = x.reshape(x.shape[0], num_heads, x.shape[1], x.shape[2] // num_heads)
    return heads.repeat_interleave(copies, dim=1)


exercise(
    id="03.4",
    title="Split into heads, share among groups",
    objective="Cut the channels into heads, and hand each key-value head to a run of consecutive query heads.",
    difficulty=3,
    minutes=15,
    reference=split_heads,
    inputs=cases(
        (torch.arange(8.0).view(1, 2, 4), 2, 1),
        (torch.arange(8.0).view(1, 2, 4), 2, 2),
        (_normal(2, 5, 12), 3, 1),
        (_normal(2, 5, 12), 2, 3),
        (_normal(1, 4, 8), 1, 4),
        (_normal(3, 7, 8), 8, 1),
    ),
    hints=[
        "Take two words of four channels, 0 1 2 3 and 4 5 6 7, and two heads. Which numbers must head 0 hold? It has seen both words.",
        "First cut the last axis into (heads, width), which moves nothing; then swap the axes of words and heads. For the copies, each head is followed by its own repetitions: 0 0 1 1.",
        "`x.unflatten(-1, (num_heads, -1)).transpose(1, 2).repeat_interleave(copies, dim=1)`",
    ],
    wrong_answers=[
        wrong(
            _viewed,
            "You `view` straight to batch, heads, words, width. The sizes fit and the numbers do not: memory runs word by word, so your head 0 holds the first words whole instead of a slice of every word. Cut the last axis first, then `transpose(1, 2)`.",
        ),
        wrong(
            lambda x, num_heads, copies=1: x.unflatten(-1, (num_heads, -1)).repeat_interleave(copies, dim=2),
            "Words and heads are swapped: you return batch, *words*, heads, width. Attention works on the last two axes, so the heads of one word would look at each other. `transpose(1, 2)` is missing.",
        ),
        wrong(
            _channels_dealt_out,
            "You deal the channels out like cards: head 0 gets channels 0, h, 2h ... A head is a *block* of neighbouring channels: cut the last axis into (heads, width), not (width, heads).",
        ),
        wrong(
            lambda x, num_heads, copies=1: x.unflatten(-1, (num_heads, -1)).transpose(1, 2).repeat(1, copies, 1, 1),
            "Your copies come in rounds, 0 1 0 1; they must come in runs, 0 0 1 1, since query heads that stand side by side form a group. `repeat` makes rounds, `repeat_interleave` makes runs. Nothing crashes, and a model with loaded weights talks nonsense.",
        ),
        wrong(
            lambda x, num_heads, copies=1: x.unflatten(-1, (num_heads, -1)).transpose(1, 2),
            "The heads are right, but each must appear `copies` times: with 8 query heads and 2 key-value heads, `copies` is 4, and 8 heads must come out.",
        ),
        wrong(
            lambda x, num_heads, copies=1: (
                x.unflatten(-1, (num_heads, -1)).transpose(1, 2).repeat_interleave(copies, dim=2)
            ),
            "You repeat the *words* and not the heads: after the transpose, axis 1 holds the heads and axis 2 the words.",
        ),
    ],
)


# 03.5 ----------------------------------------------------------------------------------------------------------------

Step = tuple[Tensor, Tensor, Tensor]


def cached_step(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Step:
    """One new word looks at all words so far, itself included; returns the output and both caches, grown by one."""
    keys, values = torch.cat((keys, k), dim=2), torch.cat((values, v), dim=2)
    return F.scaled_dot_product_attention(q, keys, values), keys, values


def _write(step: Callable[..., Any], q: Tensor, k: Tensor, v: Tensor) -> Any:
    """Write a text word by word with the learner's step: all outputs, and the caches at the end."""
    keys, values, outputs = k[:, :, :0], v[:, :, :0], []
    for t in range(q.shape[2]):
        now = slice(t, t + 1)
        answer = step(q[:, :, now], k[:, :, now], v[:, :, now], keys, values)
        if not isinstance(answer, tuple) or len(answer) != 3:
            return answer
        output, keys, values = answer
        outputs.append(output)
    return torch.cat(outputs, dim=2), keys, values


def _append_late(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Step:
    seen = keys if keys.shape[2] else k, values if values.shape[2] else v
    return F.scaled_dot_product_attention(q, *seen), torch.cat((keys, k), 2), torch.cat((values, v), 2)


def _forgets(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Step:
    out, _, _ = cached_step(q, k, v, keys, values)
    return out, keys, values


def _top_left(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Step:
    _, keys, values = cached_step(q, k, v, keys, values)
    return F.scaled_dot_product_attention(q, keys, values, is_causal=True), keys, values


def _in_front(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Step:
    return cached_step(q, keys, values, k, v)


def _keys_twice(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Step:
    return cached_step(q, k, k, keys, values)


def _no_scale(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Step:
    _, keys, values = cached_step(q, k, v, keys, values)
    return (q @ keys.mT).softmax(-1) @ values, keys, values


def _sequence(rng: random.Random) -> tuple[Tensor, ...]:
    n = rng.randint(2, 6)
    q, k, v = (_normal(2, 3, n, 4, seed=rng.randrange(10**6)) for _ in range(3))
    return q, k, v


exercise(
    id="03.5",
    title="A step with a cache",
    objective="Let one new word look at everything so far, and keep its key and value for those who come later.",
    difficulty=3,
    minutes=15,
    reference=cached_step,
    driver=_write,
    inputs=cases(
        (_normal(1, 1, 1, 2), _normal(1, 1, 1, 2, seed=1), _normal(1, 1, 1, 2, seed=2)),
        (_normal(1, 1, 3, 2), _normal(1, 1, 3, 2, seed=1), _normal(1, 1, 3, 2, seed=2)),
        draw=_sequence,
        count=4,
    ),
    hints=[
        "Which words may the new word see? Is it among them? And who will ask for its key tomorrow?",
        "Append the new key and value along the axis of words (2), attend over the grown caches, return all three. One query that may see everything needs no mask.",
        "`keys, values = torch.cat((keys, k), dim=2), torch.cat((values, v), dim=2)`, then `F.scaled_dot_product_attention(q, keys, values)`",
    ],
    wrong_answers=[
        wrong(
            _append_late,
            "You look first and append afterwards, so a word never sees itself. In training the diagonal of the mask was True; now it is missing, and every output is a little off. Append, then attend.",
        ),
        wrong(
            _forgets,
            "The output of this step is right, and you return the *old* caches: the next word will find nothing of this one. Return the grown keys and values.",
        ),
        wrong(
            _top_left,
            "`is_causal=True` with one query and many keys puts the triangle at the top left: your new word is treated as the first and sees key 0 only. It may see all that the cache holds, so it needs no mask.",
        ),
        wrong(
            _in_front,
            "You put the new word at the *front* of the cache. The outputs are right by luck, since an average does not mind the order; but key t is no longer word t, and a window or a mask would cut off the wrong end. Append at the end.",
        ),
        wrong(
            _keys_twice,
            "You append the key to both caches: where values belong, keys are averaged. The weights are perfect, and what they fetch is the wrong thing.",
        ),
        wrong(
            _no_scale,
            "The cache is right, but your weights lack the 1/√d. With and without a cache the numbers must be the same, or the model that writes is not the model that was trained.",
        ),
    ],
)


# 03.6 ----------------------------------------------------------------------------------------------------------------


class MyAttention(Attention):
    """The library's own layer, in the part that the exercise asks for."""

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int, rotary: RotaryEmbedding | None = None) -> None:
        super().__init__(dim, num_heads, num_kv_heads, rotary=rotary)


class _Sketch(nn.Module):
    """An answer cut into steps, so that each wrong one changes one of them."""

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int, rotary: RotaryEmbedding | None = None) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.width, self.rotary = num_heads, num_kv_heads, dim // num_heads, rotary
        self.q_proj, self.o_proj = (nn.Linear(dim, dim, bias=False) for _ in range(2))
        self.k_proj, self.v_proj = (nn.Linear(dim, num_kv_heads * self.width, bias=False) for _ in range(2))

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        q, k, v = (self.split(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = self.turn(q, k, v, positions)
        if cache is not None:
            k, v, _ = cache.append(k, v)
        allowed = self.allow(q.shape[2], k.shape[2], mask)
        k, v = self.share(k), self.share(v)
        scores = (self.score(q @ k.mT)).masked_fill(~allowed, torch.finfo(q.dtype).min)
        return self.finish(self.join(scores.softmax(-1) @ v))

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.width)).transpose(1, 2)

    def turn(self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.rotary is None:
            return q, k, v
        return self.rotary(q, positions), self.rotary(k, positions), v

    def allow(self, new: int, seen: int, mask: Tensor | None) -> Tensor:
        causal = causal_mask(seen)[-new:]
        return causal if mask is None else causal & mask

    def share(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.num_heads // self.num_kv_heads, dim=1)

    def score(self, products: Tensor) -> Tensor:
        return products * self.width**-0.5

    def join(self, found: Tensor) -> Tensor:
        return found.transpose(1, 2).flatten(2)

    def finish(self, joined: Tensor) -> Tensor:
        return self.o_proj(joined)


class _SeesAll(_Sketch):
    def allow(self, new: int, seen: int, mask: Tensor | None) -> Tensor:
        return torch.ones(new, seen, dtype=torch.bool) if mask is None else mask


class _IgnoresMask(_Sketch):
    def allow(self, new: int, seen: int, mask: Tensor | None) -> Tensor:
        return causal_mask(seen)[-new:]


class _OrMask(_Sketch):
    def allow(self, new: int, seen: int, mask: Tensor | None) -> Tensor:
        return causal_mask(seen)[-new:] if mask is None else mask


class _TopLeft(_Sketch):
    def allow(self, new: int, seen: int, mask: Tensor | None) -> Tensor:
        causal = causal_mask(seen)[:new]
        return causal if mask is None else causal & mask


class _Rounds(_Sketch):
    def share(self, x: Tensor) -> Tensor:
        return x.repeat(1, self.num_heads // self.num_kv_heads, 1, 1)


class _Unscaled(_Sketch):
    def score(self, products: Tensor) -> Tensor:
        return products


class _WholeWidth(_Sketch):
    def score(self, products: Tensor) -> Tensor:
        return products * float(self.q_proj.in_features) ** -0.5


class _ScrambledJoin(_Sketch):
    def join(self, found: Tensor) -> Tensor:
        return found.reshape(found.shape[0], found.shape[2], -1)


class _ScrambledSplit(_Sketch):
    def split(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, x.shape[1], self.width)


class _TurnsValues(_Sketch):
    def turn(self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (q, k, v) if self.rotary is None else tuple(self.rotary(each, positions) for each in (q, k, v))


class _TurnsQueriesOnly(_Sketch):
    def turn(self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (q, k, v) if self.rotary is None else (self.rotary(q, positions), k, v)


class _TurnsNothing(_Sketch):
    def turn(self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return q, k, v


class _TurnsFromZero(_Sketch):
    def turn(self, q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return super().turn(q, k, v, torch.arange(q.shape[2]))


class _NoOutput(_Sketch):
    def finish(self, joined: Tensor) -> Tensor:
        return joined


def _use(
    answer: Callable[..., nn.Module],
    dim: int,
    num_heads: int,
    num_kv_heads: int,
    words: int = 5,
    rotary: bool = False,
    mask: Tensor | None = None,
    cached: bool = False,
) -> Tensor:
    """Make the layer, give it weights that everybody gets, and let it read; with a cache, word by word."""
    turn = RotaryEmbedding(dim // num_heads) if rotary else None
    layer = answer(dim, num_heads, num_kv_heads, **({"rotary": turn} if rotary else {}))
    weights = {
        name: _normal(*p.shape, seed=i) * 0.5 for i, (name, p) in enumerate(_expected(dim, num_heads, num_kv_heads))
    }
    layer.load_state_dict(weights)
    x = _normal(2, words, dim, seed=9)
    with torch.no_grad():
        if not cached:
            return layer(x, torch.arange(words), mask=mask)
        cache = LayerCache()
        steps = [layer(x[:, t : t + 1], torch.tensor([t]), cache=cache) for t in range(words)]
    return torch.cat(steps, dim=1)


def _expected(dim: int, num_heads: int, num_kv_heads: int) -> list[tuple[str, nn.Parameter]]:
    return list(Attention(dim, num_heads, num_kv_heads).named_parameters())


def _runs_in_the_model(answer: Any) -> bool | str:
    """Put the class into a model, give both models the same weights, compare the logits."""
    from minilm.model import LanguageModel

    config = ModelConfig(
        vocab_size=50, dim=16, num_layers=2, context_length=32,
        attention=AttentionConfig(num_heads=4, num_kv_heads=2), feed_forward=FeedForwardConfig(hidden=32),
    )  # fmt: skip
    theirs, mine = LanguageModel(config), LanguageModel(config, attention=answer)
    mine.load_state_dict(theirs.state_dict())
    ids = torch.arange(20).view(2, 10)
    with torch.no_grad():
        difference = float((theirs.eval()(ids) - mine.eval()(ids)).abs().max())
    return difference < 1e-4 or f"The logits differ by {difference:.3g}."


_NOT_AT_4 = torch.ones(1, 1, 5, 5, dtype=torch.bool)
_NOT_AT_4[..., 1] = False

exercise(
    id="03.6",
    title="MyAttention: your layer in the real model",
    objective="Join your parts into a class with the course's own constructor and `forward`, so that a language model can be built with it.",
    difficulty=4,
    minutes=30,
    name="MyAttention",
    reference=MyAttention,
    methods=["forward"],
    driver=_use,
    inputs=cases(
        call(4, 1, 1, words=3),
        call(8, 2, 2),
        call(8, 4, 2),
        call(12, 6, 1),
        call(8, 2, 2, rotary=True),
        call(8, 4, 2, mask=_NOT_AT_4),
        call(8, 2, 1, cached=True),
        call(8, 2, 1, rotary=True, cached=True),
    ),
    properties=[
        holds(
            "it runs inside LanguageModel",
            _runs_in_the_model,
            "Alone your layer is right; inside `LanguageModel(config, attention=MyAttention)` it does not give the library's logits.",
        )
    ],
    hints=[
        "You have every piece: projections, `split_heads`, rotation, cache, mask, `attend`. What remains is their order, and the way back from heads to channels.",
        "Project and split; turn q and k (not v) if `rotary` is given; `k, v, _ = cache.append(k, v)` if there is a cache; allow what is causal *and* in the mask; share; attend; heads side by side again (`transpose(1, 2).flatten(2)`); `o_proj`.",
        "The mask, whether or not there is a cache: `seen = causal_mask(k.shape[2])[-x.shape[1]:]`, then `seen if mask is None else seen & mask`",
    ],
    wrong_answers=[
        wrong(
            _SeesAll,
            "Where no mask is given, your layer lets every word see the future. In the model nobody else hides it: the causal pattern belongs to the layer, and `mask` can only hide *more*.",
        ),
        wrong(
            _IgnoresMask,
            "Your layer ignores `mask`. It narrows what may be seen (padding, other documents): combine it with the causal pattern by `&`.",
        ),
        wrong(
            _OrMask,
            "A given mask *replaces* your causal pattern; then a padding mask, which says nothing about time, opens the future. Both must allow a look: `causal & mask`.",
        ),
        wrong(
            _TopLeft,
            "With a cache, your new word gets the *first* row of the causal pattern and sees only word 0. It is the newest of all that is in the cache: take the *last* rows, `causal_mask(k.shape[2])[-x.shape[1]:]`.",
        ),
        wrong(
            _Rounds,
            "Your groups are mixed up: `repeat` gives query heads the key-value heads 0 1 0 1, and they need 0 0 1 1. `repeat_interleave` it is.",
        ),
        wrong(
            _Unscaled,
            "Your scores lack the 1/√width. It is in every trained weight: without it, a loaded model looks at one word where it should look at several.",
        ),
        wrong(
            _WholeWidth,
            "You scale by the root of the *model's* width. A score is a sum over one head's channels: divide by √(dim / num_heads).",
        ),
        wrong(
            _ScrambledJoin,
            "On the way back you reshape without transposing, so a word's output is put together from several words. Bring the words to axis 1 first: `transpose(1, 2).flatten(2)`.",
        ),
        wrong(
            _ScrambledSplit,
            "You `view` into heads without transposing: head 0 gets some words whole, and no head has seen them all. Cut the last axis, then `transpose(1, 2)`, as in 03.4.",
        ),
        wrong(
            _TurnsValues,
            "You rotate the values too. Rotation is there so that a *score* knows the distance; a value that is turned arrives changed by where it stood. Turn q and k only.",
        ),
        wrong(
            _TurnsQueriesOnly,
            "You rotate the queries and not the keys. Only the *difference* of two turns is a distance: with one of them unturned, a score depends on where the query stands and not on how far the key is. Turn both.",
        ),
        wrong(
            _TurnsNothing,
            "`rotary` is given and you don't use it: your layer sees a bag of words. `q, k = rotary(q, positions), rotary(k, positions)`.",
        ),
        wrong(
            _TurnsFromZero,
            "With a cache you rotate each new word as position 0, so every distance is zero. Use the `positions` you are given: they know where the new words stand.",
        ),
        wrong(
            _NoOutput,
            "You return the heads side by side and never apply `o_proj`. It mixes the heads and maps them back to what the model adds to its stream.",
        ),
    ],
    unlocks="`LanguageModel(config, attention=MyAttention)` now runs on your code. Lesson 05 puts it together with the rest of your parts.",
)
