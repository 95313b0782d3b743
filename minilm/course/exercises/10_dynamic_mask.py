"""Exercises of lesson 10: a bias from a value, the best keys, a pad that forgets, Doge's parameters, its block, and a branch of a run."""

import math
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilm.attention import LayerCache, causal_mask
from minilm.block import Block, RMSNorm, SwiGLU
from minilm.course.exercise import call, cases, exercise, holds, wrong
from minilm.dynamic_mask import DynamicMaskAttention, dynamic_mask_bias, keep_top
from minilm.presets import PRESETS, doge_parameters
from minilm.training import warmup_stable_decay


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# 10.1 ----------------------------------------------------------------------------------------------------------------


def _bias(formula: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The bias by another formula of (values batch keys wide, weight, factors), which gives batch keys owners."""
    return lambda values, weight, factors: formula(values.transpose(1, 2).flatten(2), weight, factors).mT


def _draw_bias(rng: random.Random) -> tuple[Tensor, Tensor, Tensor]:
    heads, width, owners, seed = rng.choice([1, 2]), rng.choice([2, 3]), rng.choice([1, 2, 4]), rng.randrange(10**6)
    values = _normal(2, heads, rng.randint(1, 5), width, seed=seed)
    return values, _normal(owners, heads * width, seed=seed + 1), _normal(owners, seed=seed + 2)


exercise(
    id="10.1",
    title="What a key is worth",
    objective="Give every key its bias, exp(A softplus(W v)), from its values.",
    difficulty=2,
    minutes=15,
    reference=dynamic_mask_bias,
    inputs=cases(
        (torch.tensor([[[[0.0], [2.0], [-2.0]]]]), torch.tensor([[1.0]]), torch.tensor([-1.0])),
        (torch.tensor([[[[0.0], [2.0], [-2.0]]]]), torch.tensor([[1.0]]), torch.tensor([0.0])),
        (
            torch.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]]),
            torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
            torch.tensor([0.5, -0.5]),
        ),
        (_normal(2, 2, 4, 3), _normal(4, 6, seed=1), _normal(4, seed=2)),
        draw=_draw_bias,
        count=6,
    ),
    hints=[
        "One key has one value in *each* key-value head. W reads all of them as one long vector: which two axes must stand side by side before you flatten?",
        "`values` are batch kv_heads keys width: swap axes 1 and 2, flatten the last two, multiply with `weight.T`. That gives batch keys owners. Then softplus, times A, exp, and owners before keys.",
        "`(factors * F.softplus(values.transpose(1, 2).flatten(2) @ weight.T)).exp().mT`",
    ],
    wrong_answers=[
        wrong(
            lambda values, weight, factors: (
                (factors * F.softplus(values.reshape(values.shape[0], values.shape[2], -1) @ weight.T)).exp().mT
            ),
            "You reshape before you swap heads and keys, so that a key's vector is put together from the values of *several* keys. Bring keys to axis 1 first: `transpose(1, 2)`, then `flatten(2)`.",
        ),
        wrong(
            _bias(lambda v, w, a: (a * F.relu(v @ w.T)).exp()),
            "You use relu where softplus belongs. All keys that W scores below 0 then tie, and none of them can be told worse than another, nor learn.",
        ),
        wrong(
            _bias(lambda v, w, a: (a * (v @ w.T)).exp()),
            "The softplus is missing. Without it the step may be negative, and A's sign no longer says whether biases are below or above 1.",
        ),
        wrong(
            _bias(lambda v, w, a: a * F.softplus(v @ w.T)),
            "The exp is missing. At A = 0 your bias is 0 and not 1 (harmless by itself), but trained factors mean something else: this is the exponent.",
        ),
        wrong(
            _bias(lambda v, w, a: F.softplus(a * (v @ w.T)).exp()),
            "A stands inside your softplus. It multiplies what comes out: exp(A · softplus(W v)). Inside, A = 0 gives every key the bias 2, and a negative A turns the order of the keys round without bounding it.",
        ),
        wrong(
            _bias(lambda v, w, a: (a.exp() * F.softplus(v @ w.T)).exp()),
            "You take exp(A) as the factor, as state-space models do (Mamba). Here A itself is the factor, and at A = 0 every key must have the same bias.",
        ),
        wrong(
            lambda values, weight, factors: (factors * F.softplus(values.transpose(1, 2).flatten(2) @ weight.T)).exp(),
            "The numbers are right and their axes are not: you return batch keys owners, and scores want owners (heads) before keys. `.mT` swaps the last two.",
        ),
    ],
)


# 10.2 ----------------------------------------------------------------------------------------------------------------


def _ranks(scores: Tensor) -> Tensor:
    """The place of each score among its row, 0 for the largest; of equals the later comes first."""
    return scores.flip(-1).argsort(dim=-1, descending=True, stable=True).argsort(dim=-1).flip(-1)


def _oldest_wins(bias: Tensor, allowed: Tensor, keep: int) -> Tensor:
    scores = bias[..., None, :].masked_fill(~allowed, -math.inf)
    return (scores.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1) < keep) & allowed


def _without_allowed(bias: Tensor, allowed: Tensor, keep: int) -> Tensor:
    scores = bias[..., None, :].masked_fill(~allowed, -math.inf)
    return _ranks(scores) < keep


def _chosen_first(bias: Tensor, allowed: Tensor, keep: int) -> Tensor:
    return (_ranks(bias)[..., None, :] < keep) & allowed


def _smallest(bias: Tensor, allowed: Tensor, keep: int) -> Tensor:
    scores = (-bias)[..., None, :].masked_fill(~allowed, -math.inf)
    return (_ranks(scores) < keep) & allowed


def _one_more(bias: Tensor, allowed: Tensor, keep: int) -> Tensor:
    scores = bias[..., None, :].masked_fill(~allowed, -math.inf)
    return (_ranks(scores) <= keep) & allowed


def _itself_too(bias: Tensor, allowed: Tensor, keep: int) -> Tensor:
    return keep_top(bias, allowed, keep) | torch.eye(allowed.shape[-1], dtype=torch.bool)


def _threshold(bias: Tensor, allowed: Tensor, keep: int) -> Tensor:
    scores = bias[..., None, :].masked_fill(~allowed, -math.inf)
    least = scores.sort(dim=-1, descending=True).values[..., min(keep, scores.shape[-1]) - 1, None]
    return (scores >= least) & allowed


def _newest(bias: Tensor, allowed: Tensor, keep: int) -> Tensor:
    return keep_top(torch.zeros_like(bias), allowed, keep)


def _draw_keep(rng: random.Random) -> tuple[Tensor, Tensor, int]:
    keys = rng.randint(2, 8)
    bias = torch.tensor([[rng.choice([0.1, 0.3, 0.5, 0.7, 0.9]) for _ in range(keys)] for _ in range(2)])
    return bias, causal_mask(keys), rng.randint(1, keys + 1)


exercise(
    id="10.2",
    title="Keep the best",
    objective="For each query, keep the keys of the largest bias among those it may see; of equals the newer.",
    difficulty=3,
    minutes=20,
    reference=keep_top,
    inputs=cases(
        (torch.tensor([0.5, 0.9, 0.1, 0.8]), causal_mask(4), 2),
        (torch.tensor([0.1, 0.2, 0.9, 0.3]), causal_mask(4), 2),
        (torch.tensor([1.0, 1.0, 1.0, 1.0]), causal_mask(4), 2),
        (torch.tensor([0.5, 0.9]), causal_mask(2), 5),
        (torch.rand(2, 3, 6, generator=torch.Generator().manual_seed(0)), causal_mask(6), 3),
        draw=_draw_keep,
        count=10,
    ),
    hints=[
        "Take four keys with biases 0.5, 0.9, 0.1, 0.8 and keep two. Which does query 2 keep, which has not yet seen key 3? And query 0, which sees one key?",
        "Give every query its own copy of the biases, with minus infinity where it may not look, and rank each row. `argsort` twice gives ranks. For ties, flip the row first, sort `stable=True`, and flip back. At the end: what is not allowed is not kept.",
        "`scores = bias[..., None, :].masked_fill(~allowed, -math.inf)`, then `rank = scores.flip(-1).argsort(dim=-1, descending=True, stable=True).argsort(dim=-1).flip(-1)` and `(rank < keep) & allowed`",
    ],
    wrong_answers=[
        wrong(
            _oldest_wins,
            "Of equal biases your *oldest* keys win. Then an untrained mask (all biases 1) keeps the beginning of the text for ever and never sees anything new. The newer must win: flip the keys before a stable sort.",
        ),
        wrong(
            _without_allowed,
            "A query that sees fewer keys than it may keep fills its pad up with *future* ones: minus infinity also has a rank. Combine with `& allowed` at the end.",
        ),
        wrong(
            _chosen_first,
            "You choose the best keys of the whole text and hide the future afterwards. The choice has then seen the future: a late key of great worth pushes an early one out before it has been read, and that query is left with less than it may keep. Mask first, then rank.",
        ),
        wrong(
            _smallest,
            "You keep the keys of the *smallest* bias. The bias is added to the score: large means worth keeping.",
        ),
        wrong(
            _one_more,
            "One too many: ranks begin at 0, so the best `keep` keys have ranks *below* `keep`.",
        ),
        wrong(
            _itself_too,
            "You let every query keep itself, whatever its bias. Reasonable, but not this mask: a query may drop its own position, and yours sometimes keeps one key more than it may.",
        ),
        wrong(
            _threshold,
            "You compare with the bias of the last key that fits, and so keep *all* that tie with it: more than `keep`. An untrained mask, where all tie, would drop nothing. Rank them, the newer first.",
        ),
        wrong(
            _newest,
            "You keep the newest keys and don't look at the bias: a sliding window. It is what the mask is before it has learned anything.",
        ),
    ],
)


# 10.3 ----------------------------------------------------------------------------------------------------------------


def forget_one(bias: list[float], keep: int) -> int | None:
    """Which line of the pad goes: the least bias, of equals the oldest; None while there is room."""
    if len(bias) <= keep:
        return None
    return min(range(len(bias)), key=lambda line: (bias[line], line))


def _draw_pad(rng: random.Random) -> tuple[list[float], int]:
    keep = rng.randint(1, 6)
    return [rng.choice([0.2, 0.4, 0.6, 0.8]) for _ in range(rng.randint(1, keep + 1))], keep


def _drops(choose: Callable[[list[float]], int], full: Callable[[int, int], bool] = lambda n, k: n > k) -> Any:
    return lambda bias, keep: choose(bias) if full(len(bias), keep) else None


exercise(
    id="10.3",
    title="A pad with so many lines",
    objective="Say which key a cache must drop when a new one has come, so that it holds what the newest query keeps.",
    difficulty=2,
    minutes=15,
    reference=forget_one,
    inputs=cases(
        ([0.5, 0.1, 0.9], 2),
        ([0.5, 0.7, 0.1], 2),
        ([0.4, 0.4, 0.4], 2),
        ([0.5, 0.1], 2),
        ([0.5], 2),
        ([0.3, 0.2], 1),
        draw=_draw_pad,
        count=14,
    ),
    hints=[
        "A key that the newest query drops is dropped for good. So among how many keys is the one to drop, and is the newcomer one of them?",
        "While there are no more keys than lines, nothing goes. Otherwise one goes: the least bias. Where two are equal, 10.2 says which of them wins.",
        "`None if len(bias) <= keep else bias.index(min(bias))`: `index` finds the first, which is the oldest",
    ],
    wrong_answers=[
        wrong(
            _drops(lambda bias: 0),
            "You always drop the oldest key: that is the cache of a sliding window. Here worth decides, and age only between equals.",
        ),
        wrong(
            _drops(lambda bias: bias.index(min(bias[:-1]))),
            "Your newcomer is safe. It competes like everybody else: where its bias is the least, it is dropped in the moment it arrives, even though the query is its own.",
        ),
        wrong(
            _drops(lambda bias: bias.index(max(bias))),
            "You drop the key of the *largest* bias, the one most worth keeping.",
        ),
        wrong(
            _drops(lambda bias: len(bias) - 1 - bias[::-1].index(min(bias))),
            "Of equals you drop the newest. In 10.2 the newer wins, and a cache that decides otherwise gives other answers than the same text read at once.",
        ),
        wrong(
            _drops(lambda bias: bias.index(min(bias)), lambda n, k: n >= k),
            "You drop a key as soon as the pad is full. Full is allowed: one goes only when there are *more* keys than lines.",
        ),
        wrong(
            _drops(lambda bias: bias.index(min(bias)), lambda n, k: True),
            "You drop a key every time. While there is room, nothing goes: return None.",
        ),
        wrong(
            lambda bias, keep: None if len(bias) <= keep else min(bias),
            "You return the bias of the key that goes; asked for is its *place* on the pad.",
        ),
    ],
)


# 10.4 ----------------------------------------------------------------------------------------------------------------


def _doge(
    table: int = 1,
    own: Callable[[int, int, int], int] = lambda heads, kv_heads, head_dim: kv_heads * head_dim * heads + heads,
    kv: Callable[[int, int], int] = lambda heads, kv_heads: kv_heads,
    vectors: int = 4,
    ffn: int = 3,
    last: int = 1,
) -> Callable[..., int]:
    def count(
        dim: int, num_layers: int, num_heads: int, num_kv_heads: int, vocab_size: int = 32_768, head_dim: int = 128
    ) -> int:
        shared = kv(num_heads, num_kv_heads)
        attention = 2 * dim * num_heads * head_dim + 2 * dim * shared * head_dim
        block = attention + own(num_heads, num_kv_heads, head_dim) + ffn * dim * 2 * dim + vectors * dim
        return table * vocab_size * dim + num_layers * block + last * dim

    return count


exercise(
    id="10.4",
    title="Count a Doge",
    objective="Give the parameters of SmallDoge's Doge, to the last one, from its shape.",
    difficulty=3,
    minutes=20,
    reference=doge_parameters,
    inputs=cases(
        (256, 8, 2, 1),
        (512, 16, 4, 2),
        (768, 24, 6, 3),
        (1024, 32, 8, 4),
        (8, 1, 2, 1, 10, 4),
        (8, 2, 4, 2, 10, 2),
        (12, 0, 2, 1, 10, 4),
        (256, 8, 2, 1, 128_256, 128),
    ),
    hints=[
        "Go through the picture of the block: which of its boxes have matrices, which have vectors, which a single number? The table is shared with the head.",
        "A block: q and o are dim x (heads · width), k and v dim x (kv heads · width); the mask's W is (kv heads · width) x heads and A one a head; three matrices of dim x 2 dim; two norms and two residual scales of dim. Once: the table, and a last norm.",
        "`attention = 2*dim*width + 2*dim*kv_width + kv_width*num_heads + num_heads` with `width = num_heads*head_dim`, `kv_width = num_kv_heads*head_dim`; `block = attention + 6*dim*dim + 4*dim`; `vocab_size*dim + num_layers*block + dim`",
    ],
    wrong_answers=[
        wrong(
            _doge(table=2),
            "You count the table twice. In Doge the head *is* the table (tied), so its parameters exist once.",
        ),
        wrong(
            _doge(own=lambda heads, kv_heads, head_dim: 0),
            "The mask is missing: its matrix W, (kv heads · width) by heads, and one factor A for each head.",
        ),
        wrong(
            _doge(own=lambda heads, kv_heads, head_dim: kv_heads * head_dim * heads),
            "Nearly: one number a head is missing, the factors A of the masks.",
        ),
        wrong(
            _doge(own=lambda heads, kv_heads, head_dim: kv_heads * head_dim * kv_heads + kv_heads),
            "You give each *key-value* head a mask. That is transformers' build; in SmallDoge's own, asked for here, each attention head has its own.",
        ),
        wrong(
            _doge(kv=lambda heads, kv_heads: heads),
            "Your keys and values have as many heads as the queries. Doge shares them: k and v are dim by (kv heads · width), half as wide.",
        ),
        wrong(
            _doge(vectors=2),
            "A block has four vectors of width dim: two norms *and* two residual scales, one factor for each channel before each addition.",
        ),
        wrong(
            _doge(ffn=2),
            "The feed-forward is gated (SwiGLU): three matrices of dim by 2 dim, gate, up and down. You count two.",
        ),
        wrong(
            _doge(last=0),
            "All but the last norm, dim parameters between the last block and the head.",
        ),
    ],
    unlocks="13,117,712 for Doge-20M: of its name's twenty million, thirteen exist.",
)


# 10.5 ----------------------------------------------------------------------------------------------------------------


class DogeBlock(Block):
    """The library's own block, in the part that the exercise asks for."""

    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module,
        attention_norm: nn.Module,
        feed_forward_norm: nn.Module,
        *,
        residual_scale: int,
    ) -> None:
        super().__init__(attention, feed_forward, attention_norm, feed_forward_norm, residual_scale=residual_scale)


Part = Callable[[Tensor], Tensor]


def _block(join: Callable[[Tensor, Part, Part, Tensor, Tensor, "_Sketch"], Tensor]) -> type[nn.Module]:
    """A block with another way of joining: (stream, attention, feed-forward, first scale, second scale, the block)."""

    class Sketched(_Sketch):
        def forward(
            self, x: Tensor, positions: Tensor, mask: Tensor | None = None, cache: LayerCache | None = None
        ) -> Tensor:
            attend: Part = lambda y: self.attention(y, positions, mask, cache)  # noqa: E731
            return join(x, attend, self.feed_forward, self.attention_residual, self.feed_forward_residual, self)

    return Sketched


class _Sketch(nn.Module):
    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module,
        attention_norm: nn.Module,
        feed_forward_norm: nn.Module,
        *,
        residual_scale: int,
    ) -> None:
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward
        self.attention_norm, self.feed_forward_norm = attention_norm, feed_forward_norm
        self.attention_residual = nn.Parameter(torch.ones(residual_scale))
        self.feed_forward_residual = nn.Parameter(torch.ones(residual_scale))


def _two_lines(
    first: Callable[[Tensor, Tensor, Tensor], Tensor], second: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
) -> type[nn.Module]:
    """A block whose two lines join (stream, update, scale) in another way."""
    other = second or first

    def join(x: Tensor, attend: Part, feed: Part, one: Tensor, two: Tensor, block: "_Sketch") -> Tensor:
        x = first(x, attend(block.attention_norm(x)), one)
        return other(x, feed(block.feed_forward_norm(x)), two)

    return _block(join)


def _right(x: Tensor, update: Tensor, scale: Tensor) -> Tensor:
    return scale * x + update


def _scaled_before_reading(x: Tensor, attend: Part, feed: Part, one: Tensor, two: Tensor, block: "_Sketch") -> Tensor:
    x = one * x
    x = x + attend(block.attention_norm(x))
    x = two * x
    return x + feed(block.feed_forward_norm(x))


def _one_scale(x: Tensor, attend: Part, feed: Part, one: Tensor, two: Tensor, block: "_Sketch") -> Tensor:
    x = one * x + attend(block.attention_norm(x))
    return one * x + feed(block.feed_forward_norm(x))


def _old_stream(x: Tensor, attend: Part, feed: Part, one: Tensor, two: Tensor, block: "_Sketch") -> Tensor:
    middle = one * x + attend(block.attention_norm(x))
    return two * x + feed(block.feed_forward_norm(middle))


def _read(answer: Callable[..., nn.Module], dim: int, words: int = 5, keep: int = 3, cached: bool = False) -> Tensor:
    """Make a block from Doge's parts, with weights that everybody gets, and let it read."""
    parts = (
        DynamicMaskAttention(dim, 2, 1, keep_window=keep),
        SwiGLU(dim, 2 * dim),
        RMSNorm(dim),
        RMSNorm(dim),
    )
    for i, weight in enumerate(weight for part in parts for weight in part.parameters()):
        weight.data = _normal(*weight.shape, seed=i) * 0.5 + (1 if weight.dim() == 1 else 0)
    block = answer(*parts, residual_scale=dim)
    block.load_state_dict(
        {name: _normal(dim, seed=seed) for name, seed in (("attention_residual", 50), ("feed_forward_residual", 51))},
        strict=False,
    )
    x = _normal(2, words, dim, seed=99) * 2
    with torch.no_grad():
        if not cached:
            return block(x, torch.arange(words))
        cache = parts[0].new_cache(words)
        return torch.cat([block(x[:, t : t + 1], torch.tensor([t]), cache=cache) for t in range(words)], dim=1)


def _runs_in_a_doge(answer: Any) -> bool | str:
    """Put the class into a small Doge, give both models the same weights, compare the logits."""
    from minilm.model import LanguageModel

    config = PRESETS["doge-20m"].replace(
        vocab_size=50, dim=16, num_layers=2, feed_forward={"hidden": 32},
        attention={"head_dim": 8, "dynamic_mask": {"keep_window": 4}},
    )  # fmt: skip
    theirs, mine = LanguageModel(config), LanguageModel(config, block=answer)
    for i, weight in enumerate(theirs.parameters()):
        weight.data = _normal(*weight.shape, seed=i)
    mine.load_state_dict(theirs.state_dict())
    ids = torch.arange(20).view(2, 10)
    with torch.no_grad():
        difference = float((theirs.eval()(ids) - mine.eval()(ids)).abs().max())
    return difference < 1e-3 or f"The logits differ by {difference:.3g}."


exercise(
    id="10.5",
    title="DogeBlock: a stream that can fade",
    objective="Join attention and feed-forward to the stream as Doge does, with a learned factor for each of its channels.",
    difficulty=3,
    minutes=20,
    name="DogeBlock",
    reference=DogeBlock,
    methods=["forward"],
    driver=_read,
    inputs=cases(call(4, words=1), call(4), call(8), call(8, keep=9), call(4, cached=True)),
    properties=[
        holds(
            "it runs inside a Doge",
            _runs_in_a_doge,
            "Alone your block is right; inside `LanguageModel(config, block=DogeBlock)` it does not give the library's logits.",
        )
    ],
    hints=[
        "Lesson 04's block has two lines, x = x + part(norm(x)). Which of the two terms can be faded by a factor, if earlier layers should be able to be forgotten?",
        "The factor stands on the *stream*, not on what is added, and the part reads the norm of the stream as it is, unfaded. The second line does the same with its own factor and its own norm.",
        "`x = self.attention_residual * x + self.attention(self.attention_norm(x), positions, mask, cache)`, then the same line for `feed_forward`",
    ],
    wrong_answers=[
        wrong(
            _two_lines(lambda x, update, scale: x + scale * update),
            "Your factor stands on what is *added*. That is LayerScale (Touvron et al. 2021), which starts near 0 to quiet new layers. Doge's starts at 1 and stands on the stream: r · x + update, so that a layer can fade what came before.",
        ),
        wrong(
            _two_lines(lambda x, update, scale: scale * (x + update)),
            "You scale the sum, the update too. Only the stream fades: r · x + update.",
        ),
        wrong(
            _two_lines(lambda x, update, scale: x + update),
            "The factors are made and not used: this is the block of lesson 04. Put `attention_residual` and `feed_forward_residual` on the stream.",
        ),
        wrong(
            _two_lines(lambda x, update, scale: (1 + scale) * x + update),
            "You use 1 + r. These factors start at 1 themselves, so at the start your stream would double at every line.",
        ),
        wrong(
            _two_lines(_right, lambda x, update, scale: x + update),
            "The second line has no factor. Each addition has one of its own: `feed_forward_residual` belongs to the feed-forward's.",
        ),
        wrong(
            _block(_scaled_before_reading),
            "You fade the stream *before* the part reads it. The norm undoes the size but not the shape: a faded channel would be hidden from the very layer that fades it. Read first, fade in the sum.",
        ),
        wrong(
            _block(_one_scale),
            "Both lines use `attention_residual`. The feed-forward's addition has a factor of its own.",
        ),
        wrong(
            _block(_old_stream),
            "Your second line starts from the stream as it came in, so what attention found is read by the feed-forward and then lost. Go on from the first line's result.",
        ),
    ],
    unlocks="`LanguageModel(config, block=DogeBlock)` with a Doge's config runs on your block.",
)


# 10.6 ----------------------------------------------------------------------------------------------------------------


def branch_rate(step: int, warmup: int, stopped: int, decay: int) -> float:
    """The factor of the peak rate at an update of a run that was brought down from its level part."""
    return warmup_stable_decay(step, warmup=warmup, stable=stopped - warmup, decay=decay)


def _again(step: int, warmup: int, stopped: int, decay: int) -> float:
    if step <= stopped:
        return min(1.0, step / warmup)
    return min(1.0, (step - stopped) / warmup) * max(0.0, 1 - (step - stopped) / decay)


def _whole_run(step: int, warmup: int, stopped: int, decay: int) -> float:
    return min(step / warmup, max(0.0, 1 - step / (stopped + decay)))


def _down(step: int, warmup: int, stopped: int, decay: int, shape: Callable[[float], float]) -> float:
    return min(1.0, step / warmup) if step <= stopped else shape((step - stopped) / decay)


def _draw_branch(rng: random.Random) -> tuple[int, int, int, int]:
    warmup, decay = rng.choice([5, 10]), rng.choice([10, 20])
    stopped = warmup + rng.choice([10, 40])
    return rng.randint(1, stopped + decay + 5), warmup, stopped, decay


exercise(
    id="10.6",
    title="A branch of a run",
    objective="Give the learning rate's factor at every update of a run that leaves a level part at a checkpoint and comes down in a line.",
    difficulty=2,
    minutes=10,
    reference=branch_rate,
    inputs=cases(
        (5, 10, 100, 20),
        (50, 10, 100, 20),
        (100, 10, 100, 20),
        (101, 10, 100, 20),
        (105, 10, 100, 20),
        (110, 10, 100, 20),
        (119, 10, 100, 20),
        (120, 10, 100, 20),
        (130, 10, 100, 20),
        (150, 30, 150, 60),
        draw=_draw_branch,
        count=10,
    ),
    hints=[
        "Three stretches: up to `warmup`, level to `stopped`, down over `decay` updates. And what is the rate after the end?",
        "Up: step / warmup. Level: 1. Down: 1 at the checkpoint itself, 0 at `stopped + decay`, a straight line between, and never below 0. The optimizer's means are warm: nothing goes up again.",
        "`min(1, step / warmup)` up to `stopped`, then `max(0, 1 - (step - stopped) / decay)`",
    ],
    wrong_answers=[
        wrong(
            _again,
            "You warm up again after the checkpoint. It brings the optimizer's means along, so nothing is blind any more; a second warm-up only wastes the steps of a short decay.",
        ),
        wrong(
            _whole_run,
            "You decay over the *whole* run, as if its end had been known at the beginning. The point of a level part is that nobody had to know: the rate is 1 until the checkpoint.",
        ),
        wrong(
            lambda step, warmup, stopped, decay: min(1.0, step / warmup) if step <= stopped else 0.0,
            "After the checkpoint your rate is 0 at once. That is the trap of `num_decay_steps: 0`: the steps after it are computed and change nothing. Come down in a line over `decay` updates.",
        ),
        wrong(
            lambda step, warmup, stopped, decay: _down(step, warmup, stopped, decay, lambda p: 1 - p),
            "After the end your rate goes below 0, and the run walks *up* the loss. Nothing below 0: `max(0, ...)`.",
        ),
        wrong(
            lambda step, warmup, stopped, decay: _down(
                step, warmup, stopped, decay, lambda p: 0.5 * (1 + math.cos(math.pi * min(p, 1)))
            ),
            "Your way down is half a cosine. Also used (and hardly different in what it wins), but asked for is Doge's: a straight line.",
        ),
        wrong(
            lambda step, warmup, stopped, decay: _down(
                step, warmup, stopped, decay, lambda p: max(0.0, 1 - p + 1 / decay)
            ),
            "Off by one: you come down one update late, so the rate is still above 0 at `stopped + decay`. At the checkpoint itself it is 1, and update `stopped + 1` is already lower.",
        ),
        wrong(
            lambda step, warmup, stopped, decay: 1.0 if step <= stopped else max(0.0, 1 - (step - stopped) / decay),
            "The warm-up is missing: the trunk that you branch from began with one, step / warmup for the first `warmup` updates.",
        ),
    ],
)
