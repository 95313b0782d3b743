"""Exercises of lesson 04: two norms, a gated feed-forward and its width, where weights start, and a block of one's own."""

import math
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilm.attention import Attention, LayerCache
from minilm.block import Block, RMSNorm, SwiGLU, gated_width
from minilm.config import AttentionConfig, FeedForwardConfig, ModelConfig
from minilm.course.exercise import call, cases, exercise, holds, wrong


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# 04.1 ----------------------------------------------------------------------------------------------------------------


class MyRMSNorm(RMSNorm):
    """The library's own norm, in the part that the exercise asks for."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__(dim, eps)


def _normalise(answer: Callable[..., nn.Module], x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Make the norm, give it this gain, and let it read."""
    norm = answer(len(weight), eps)
    norm.load_state_dict({"weight": weight})
    with torch.no_grad():
        return norm(x)


def _norm(formula: Callable[[Tensor, Tensor, float], Tensor]) -> type[nn.Module]:
    """A norm with another formula of (x, gain, eps)."""

    class Sketch(nn.Module):
        def __init__(self, dim: int, eps: float = 1e-6) -> None:
            super().__init__()
            self.eps = eps
            self.weight = nn.Parameter(torch.ones(dim))

        def forward(self, x: Tensor) -> Tensor:
            return formula(x, self.weight, self.eps)

    return Sketch


def _mean_square(x: Tensor, dim: int | tuple[int, ...] = -1) -> Tensor:
    return x.square().mean(dim=dim, keepdim=True)


def _draw_norm(rng: random.Random) -> tuple[Tensor, Tensor, float]:
    dim, seed = rng.choice([3, 5, 8]), rng.randrange(10**6)
    x = _normal(rng.randint(1, 3), rng.randint(2, 5), dim, seed=seed) * rng.choice([0.1, 1, 10]) + rng.choice([0, 1])
    return x, 1 + 0.3 * _normal(dim, seed=seed + 1), rng.choice([1e-6, 0.01, 1.0])


_ROW, _PLAIN = torch.tensor([[1.0, 7.0]]), torch.ones(2)

exercise(
    id="04.1",
    title="MyRMSNorm: turn the volume to one",
    objective="Write the `forward` of RMSNorm: each position to mean square 1 over its channels, times a learned gain.",
    difficulty=2,
    minutes=10,
    name="MyRMSNorm",
    reference=MyRMSNorm,
    methods=["forward"],
    driver=_normalise,
    inputs=cases(
        (_ROW, _PLAIN, 1e-6),
        (torch.tensor([[3.0, 4.0], [6.0, 8.0]]), _PLAIN, 1e-6),
        (_ROW, torch.tensor([2.0, 0.5]), 1e-6),
        (_ROW, _PLAIN, 11.0),
        (torch.zeros(1, 2), _PLAIN, 1e-6),
        (_normal(2, 3, 4) + 1, torch.tensor([1.0, 2.0, 3.0, 0.5]), 1e-6),
        draw=_draw_norm,
        count=12,
    ),
    hints=[
        "The name says it backwards: square, mean, root. Over what is the mean taken, and where must eps stand so that a row of zeros does no harm?",
        "One number for each position: the mean of the squares along `dim=-1`, `keepdim=True`. Add eps, take the root, divide x by it, multiply by the gain.",
        "`x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps) * self.weight`",
    ],
    wrong_answers=[
        wrong(
            _norm(lambda x, w, e: x / (_mean_square(x).sqrt() + e) * w),
            "Your eps stands outside the root. For loud vectors nobody sees it; for quiet ones it is another function (at eps = 1e-6 the root of eps is 0.001, a thousand times as much), and a loaded model's figures drift. Add it to the mean square, then take the root.",
        ),
        wrong(
            _norm(lambda x, w, e: (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, False, keepdim=True) + e) * w),
            "You take the mean off first: that is LayerNorm without its bias. RMSNorm leaves the mean alone, which is the whole of its saving, and divides by the root mean *square*, not by the standard deviation.",
        ),
        wrong(
            _norm(lambda x, w, e: x * torch.rsqrt(_mean_square(x) + e)),
            "The size is right, and the gain is missing: `self.weight` is never used, so nothing can be learned. Multiply each channel by its own entry at the end. (HRM leaves it out on purpose; this norm has one.)",
        ),
        wrong(
            _norm(lambda x, w, e: x * torch.rsqrt(_mean_square(x, (-2, -1)) + e) * w),
            "You take one mean over all positions of a text. Then every position is divided by something that knows the *future*, and predictions leak. (dlib's norm of 2025 did this.) Each position has its own: `dim=-1` only.",
        ),
        wrong(
            _norm(lambda x, w, e: x * torch.rsqrt(x.square().sum(-1, keepdim=True) + e) * w),
            "You divide by the length of the vector, the root of the *sum* of squares. The numbers shrink with the width (to 1/√dim each). It is the *mean* that keeps them near 1, however wide the model is.",
        ),
        wrong(
            _norm(lambda x, w, e: x / x.norm(dim=-1, keepdim=True) * w),
            "Two things. `norm` is the root of the *sum* of squares, so your numbers shrink with the width; take the *mean* of the squares. And eps is missing: a position of zeros becomes 0 / 0.",
        ),
        wrong(
            _norm(lambda x, w, e: x / (x.square().mean(-1) + e).sqrt() * w),
            "The mean has lost its axis: without `keepdim=True` the means of two positions have shape (2,), which broadcasting takes for a *row*, and each channel is divided by another position's mean. Keep the axis.",
        ),
        wrong(
            _norm(lambda x, w, e: x * torch.rsqrt(_mean_square(x, -2) + e) * w),
            "Your mean runs over positions, `dim=-2`: each channel is compared with its own past and future. A norm knows one position only and looks along its channels: `dim=-1`.",
        ),
        wrong(
            _norm(lambda x, w, e: x / (_mean_square(x) + e) * w),
            "The root is missing: you divide by the mean square itself. A vector twice as loud then comes out *half* as loud, instead of the same.",
        ),
        wrong(
            _norm(lambda x, w, e: x * torch.rsqrt(_mean_square(x)) * w),
            "Without eps a position of zeros is 0 / 0, and one NaN spreads over the whole batch at the next attention. Add `self.eps` to the mean square.",
        ),
        wrong(
            _norm(lambda x, w, e: x * torch.rsqrt(x.square().mean() + e) * w),
            "`.mean()` without `dim` takes everything: one loud text makes all others in the batch quiet, and the future leaks into the past. Say `dim=-1, keepdim=True`.",
        ),
    ],
    unlocks="It fits into the real model as it is: `LanguageModel(config, norm=MyRMSNorm)`.",
)


# 04.2 ----------------------------------------------------------------------------------------------------------------


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Each position to mean 0 and (biased) variance 1 over its channels, then gain and bias."""
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def _layer(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, dim: int = -1, unbiased: bool = False, centre: bool = True
) -> Tensor:
    mean = x.mean(dim, keepdim=True)
    variance = x.var(dim, unbiased=unbiased, keepdim=True)
    return (x - mean if centre else x) / (variance + eps).sqrt() * weight + bias


def _draw_layer_norm(rng: random.Random) -> tuple[Tensor, Tensor, Tensor, float]:
    x, weight, eps = _draw_norm(rng)
    return x, weight, _normal(len(weight), seed=rng.randrange(10**6)), eps


_THREE, _ONES, _ZEROS = torch.tensor([[1.0, 2.0, 6.0]]), torch.ones(3), torch.zeros(3)

exercise(
    id="04.2",
    title="LayerNorm, to the last digit",
    objective="Bring each position to mean 0 and variance 1 over its channels, then apply gain and bias, as GPT-2 does.",
    difficulty=2,
    minutes=10,
    reference=layer_norm,
    inputs=cases(
        (_THREE, _ONES, _ZEROS, 1e-5),
        (torch.tensor([[1.0, 2.0, 6.0], [0.0, 3.0, 0.0]]), _ONES, _ZEROS, 1e-5),
        (_THREE, torch.tensor([2.0, 1.0, 0.5]), torch.tensor([0.0, 1.0, -1.0]), 1e-5),
        (_THREE, _ONES, _ZEROS, 4.0),
        (torch.full((1, 3), 5.0), _ONES, _ZEROS, 1e-5),
        (_normal(2, 3, 4), 1 + 0.3 * _normal(4, seed=1), _normal(4, seed=2), 1e-5),
        draw=_draw_layer_norm,
        count=12,
    ),
    hints=[
        "Two numbers for each position, a mean and a variance. PyTorch's `var` has a habit that you have to switch off.",
        "`x.var(dim=-1, unbiased=False, keepdim=True)` divides by dim. eps goes to the variance, inside the root. The gain comes before the bias.",
        "`(x - mean) / torch.sqrt(variance + eps) * weight + bias`",
    ],
    wrong_answers=[
        wrong(
            lambda x, w, b, eps=1e-5: _layer(x, w, b, eps, unbiased=True),
            "Your variance is divided by dim − 1: PyTorch's `var` and `std` estimate a population's variance from a sample unless told otherwise. Here the channels are all there is: `unbiased=False`. For dim = 768 it is off by 0.07 %, too little to see and enough to fail a comparison.",
        ),
        wrong(
            lambda x, w, b, eps=1e-5: _layer(x, w, b, eps, dim=-2),
            "You normalise along the positions, `dim=-2`, so each word's result depends on the other words of its text, later ones too. Each position by itself: `dim=-1`.",
        ),
        wrong(
            lambda x, w, b, eps=1e-5: (
                (x - x.mean(-1, keepdim=True)) / (x.std(-1, unbiased=False, keepdim=True) + eps) * w + b
            ),
            "Your eps is added to the standard deviation. It belongs inside the root, with the variance: √(variance + eps). The two differ where channels hardly differ, just where eps matters.",
        ),
        wrong(
            lambda x, w, b, eps=1e-5: (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + eps) * w + b,
            "Two things. `std` divides by dim − 1 unless you say `unbiased=False`. And eps belongs inside the root, with the variance: √(variance + eps).",
        ),
        wrong(
            lambda x, w, b, eps=1e-5: (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True) * w + b,
            "Two things. `std` divides by dim − 1 unless you say `unbiased=False`. And eps is missing: a position whose channels are all equal becomes 0 / 0. It belongs inside the root, with the variance.",
        ),
        wrong(
            lambda x, w, b, eps=1e-5: (x - x.mean(-1, keepdim=True)) / x.std(-1, unbiased=False, keepdim=True) * w + b,
            "eps is missing: a position whose channels are all equal has a variance of 0, and 0 / 0 is not a number. √(variance + eps).",
        ),
        wrong(
            lambda x, w, b, eps=1e-5: _layer(x, w, b, eps, centre=False),
            "You divide by the standard deviation and forget to take the mean off, so a vector that lies far from 0 stays far from 0. Subtract the mean first (or never use it: that is RMSNorm, with another divisor).",
        ),
        wrong(
            lambda x, w, b, eps=1e-5: x * torch.rsqrt(_mean_square(x) + eps) * w + b,
            "That is RMSNorm with a bias. LayerNorm takes the mean off, and divides by the root of the *variance*, the mean square of what is left.",
        ),
        wrong(
            lambda x, w, b, eps=1e-5: (_layer(x, torch.ones_like(w), torch.zeros_like(b), eps) + b) * w,
            "You add the bias before the gain, so the gain scales the bias too. Order: normalise, times weight, plus bias.",
        ),
        wrong(
            lambda x, w, b, eps=1e-5: (x - x.mean()) / (x.var(unbiased=False) + eps).sqrt() * w + b,
            "`.mean()` and `.var()` without `dim` take the whole tensor: all words of all texts share one mean. Say `dim=-1, keepdim=True`, for each position its own.",
        ),
    ],
)


# 04.3 ----------------------------------------------------------------------------------------------------------------

exercise(
    id="04.3",
    title="How wide is a gated feed-forward?",
    objective="Compute the hidden width: dim × expansion, cut to a whole number, then rounded *up* to a multiple.",
    difficulty=1,
    minutes=8,
    reference=gated_width,
    inputs=cases(
        (12, 8 / 3, 8),
        (12, 8 / 3, 32),
        (10, 2 / 7, 1),
        (8, 4, 1),
        (512, 8 / 3, 256),
        (4096, 8 / 3, 256),
        (228, 2 / 7, 1),
        (288, 8 / 3, 32),
        draw=lambda rng: (rng.randint(8, 1024), rng.choice([8 / 3, 2 / 7, 2, 4]), rng.choice([1, 8, 64, 256])),
        count=20,
    ),
    hints=[
        "For 12, 8/3 and a multiple of 32: 12 · 8/3 is 32. Which multiple of 32 is it? And what about 33?",
        "Cut dim × expansion to a whole number with `int`. How many times does the multiple have to be taken to hold it? Round that count up.",
        "`math.ceil(int(dim * expansion) / multiple_of) * multiple_of`",
    ],
    wrong_answers=[
        wrong(
            lambda dim, expansion, multiple_of: int(dim * expansion) // multiple_of * multiple_of,
            "You round *down* to the multiple. Models round up, so that the width is never less than asked for: 10,922 becomes 11,008 in Llama, not 10,752. (And a small model rounded down may end up with width 0.)",
        ),
        wrong(
            lambda dim, expansion, multiple_of: round(int(dim * expansion) / multiple_of) * multiple_of,
            "You round to the *nearest* multiple. It is always up: the shape must be the same on every machine and in every language, and up is what the published models do.",
        ),
        wrong(
            lambda dim, expansion, multiple_of: (int(dim * expansion) // multiple_of + 1) * multiple_of,
            "You always take one multiple more, also where the width is one already: 32 with a multiple of 32 stays 32. Add `multiple_of - 1` before the whole division, or use `math.ceil`.",
        ),
        wrong(
            lambda dim, expansion, multiple_of: int(dim * expansion),
            "You ignore `multiple_of`. Processors like widths that are multiples of 64 or 256, so models round up to one.",
        ),
        wrong(
            lambda dim, expansion, multiple_of: math.ceil(dim * expansion / multiple_of) * multiple_of,
            "Nearly: dim × expansion must be cut to a whole number *first*, as the systems do. 10 · 2/7 = 2.86 is 2 for them, and 3 for you; so dlib's experts have 65 hidden channels and not 66.",
        ),
        wrong(
            lambda dim, expansion, multiple_of: int(math.ceil(dim / multiple_of) * multiple_of * expansion),
            "You round dim to the multiple and widen it after. It is the *hidden* width that must be a multiple: widen first, round last.",
        ),
    ],
)


# 04.4 ----------------------------------------------------------------------------------------------------------------


class MySwiGLU(SwiGLU):
    """The library's own feed-forward, in the part that the exercise asks for."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(dim, hidden)


def _feed(answer: Callable[..., nn.Module], x: Tensor, hidden: int) -> Tensor:
    """Make the feed-forward, give it weights that everybody gets, and let it read."""
    dim = x.shape[-1]
    shapes = {"gate_proj": (hidden, dim), "up_proj": (hidden, dim), "down_proj": (dim, hidden)}
    part = answer(dim, hidden)
    part.load_state_dict({f"{name}.weight": _normal(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())})
    with torch.no_grad():
        return part(x)


def _gated(formula: Callable[[Tensor, Tensor], Tensor]) -> type[nn.Module]:
    """A feed-forward with another formula of what the two projections give, (gate, value)."""

    class Sketch(nn.Module):
        def __init__(self, dim: int, hidden: int) -> None:
            super().__init__()
            self.gate_proj = nn.Linear(dim, hidden, bias=False)
            self.up_proj = nn.Linear(dim, hidden, bias=False)
            self.down_proj = nn.Linear(hidden, dim, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.down_proj(formula(self.gate_proj(x), self.up_proj(x)))

    return Sketch


class _NoWayBack(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.up_proj = nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.gate_proj(x)) * self.up_proj(x)


exercise(
    id="04.4",
    title="MySwiGLU: one half decides about the other",
    objective="Write the `forward` of the gated feed-forward: down(silu(gate x) · up x).",
    difficulty=2,
    minutes=10,
    name="MySwiGLU",
    reference=MySwiGLU,
    methods=["forward"],
    driver=_feed,
    inputs=cases(
        (torch.tensor([[1.0, -1.0]]), 3),
        (_normal(2, 3), 5),
        (_normal(2, 3, 4, seed=3), 6),
        (torch.zeros(1, 2), 3),
        (_normal(1, 5, 8, seed=4) * 3, 21),
    ),
    hints=[
        "Three matrices, two of which read the same x. Which one passes through the activation: the one that decides, or the one that is let through?",
        "SiLU of the gate's output, *times* what `up_proj` gives, entry by entry; `down_proj` of the product.",
        "`self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))`",
    ],
    wrong_answers=[
        wrong(
            _gated(lambda gate, value: gate * F.silu(value)),
            "Gate and value are swapped: the activation belongs on `gate_proj`, and you put it on `up_proj`. Trained from scratch nobody would notice, since the names are all that differs; but load a Llama's weights and it talks nonsense.",
        ),
        wrong(
            _gated(lambda gate, value: torch.sigmoid(gate) * value),
            "Your gate is a sigmoid, which makes this GLU, the original of 2016. The *Swi* stands for Swish, that is SiLU: x · sigmoid(x). You have left out the x.",
        ),
        wrong(
            _gated(lambda gate, value: F.silu(gate * value)),
            "You multiply first and activate after. Then neither half decides about the other. The activation works on the gate alone: `F.silu(self.gate_proj(x)) * self.up_proj(x)`.",
        ),
        wrong(
            _gated(lambda gate, value: F.silu(gate) * F.silu(value)),
            "Both halves pass through the activation. What is let through must be free to be as negative as it likes: only the gate gets SiLU.",
        ),
        wrong(
            _gated(lambda gate, value: F.silu(gate) + value),
            "You *add* gate and value. A closed gate (0) then lets everything through. Multiply.",
        ),
        wrong(
            _gated(lambda gate, value: gate * value),
            "There is no activation, just a product of two linear maps (called *bilinear*, and it works nearly as well; but it is another model). Put SiLU on the gate.",
        ),
        wrong(
            _gated(lambda gate, value: F.gelu(gate) * value),
            "With GELU on the gate it is GEGLU (Gemma's). Close cousins, other numbers: here it is `F.silu`.",
        ),
        wrong(
            _gated(lambda gate, value: F.silu(gate)),
            "`up_proj` is never used: you have the plain feed-forward with SiLU. The point of the gate is to multiply something: `* self.up_proj(x)`.",
        ),
        wrong(
            _NoWayBack,
            "The way back is missing: your result has `hidden` channels, and the stream has `dim`. Hand the product to `self.down_proj`.",
        ),
    ],
    unlocks="`LanguageModel(config, feed_forward=MySwiGLU)` builds a model with it.",
)


# 04.5 ----------------------------------------------------------------------------------------------------------------


def initial_std(name: str, num_layers: int, std: float = 0.02) -> float:
    """The standard deviation that a weight of this name starts with: smaller for what writes to the stream (GPT-2)."""
    writes = name.endswith(("o_proj.weight", "down_proj.weight"))
    return std / math.sqrt(2 * num_layers) if writes else std


def _std(
    factor: Callable[[int], float], writers: Callable[[str], bool] = lambda n: "o_proj" in n or "down_proj" in n
) -> Callable[..., float]:
    return lambda name, num_layers, std=0.02: std * factor(num_layers) if writers(name) else std


_NAMES = [
    "o_proj.weight",
    "down_proj.weight",
    "q_proj.weight",
    "up_proj.weight",
    "tokens.weight",
    "head.weight",
    "core.layers.0.attention.o_proj.weight",
    "core.layers.7.feed_forward.down_proj.weight",
    "core.layers.3.attention.v_proj.weight",
    "core.layers.1.feed_forward.gate_proj.weight",
    "core.layers.1.feed_forward.up_proj.weight",
]

exercise(
    id="04.5",
    title="A quiet voice for those who write",
    objective="Give the standard deviation that each weight of a model starts with, GPT-2's way, from its name and the number of layers.",
    difficulty=2,
    minutes=10,
    reference=initial_std,
    inputs=cases(
        *((name, layers) for name in _NAMES for layers in (8, 1)),
        (_NAMES[0], 2, 0.1),
        (_NAMES[2], 2, 0.1),
        draw=lambda rng: (rng.choice(_NAMES), rng.randint(1, 48), 0.02),
        count=20,
    ),
    hints=[
        "How many updates are added to the stream by the time it leaves the last layer? Their variances add up.",
        "2 L updates, two for each layer. Each should carry 1 / (2 L) of the variance, so its *standard deviation* is smaller by the root of that. Which two matrices of a block are the last ones before the addition?",
        '`std / math.sqrt(2 * num_layers)` where the name ends with "o_proj.weight" or "down_proj.weight", else `std`',
    ],
    wrong_answers=[
        wrong(
            _std(lambda n: 1 / (2 * n)),
            "You divide by 2 L. Variances add up, standard deviations don't: 2 L independent updates of size s give √(2 L) · s. Divide by the *root*; otherwise deep models start as if they had no layers.",
        ),
        wrong(
            _std(lambda n: 1 / math.sqrt(n)),
            "You count one update for each layer. There are two, attention's and the feed-forward's: √(2 L).",
        ),
        wrong(
            _std(lambda n: 1 / math.sqrt(2 * n), lambda name: "proj" in name),
            "You make *all* projections smaller. Only those that write to the stream add up there; queries, keys, values, gates read from it, and would just whisper. o_proj and down_proj alone.",
        ),
        wrong(
            _std(lambda n: 1 / math.sqrt(2 * n), lambda name: True),
            "You make everything smaller, embeddings and head too. Only what writes to the stream adds up there: o_proj and down_proj.",
        ),
        wrong(
            _std(lambda n: 1 / math.sqrt(2 * n), lambda name: "o_proj" in name),
            "Half of the writers: `down_proj` also adds to the stream, once in each layer.",
        ),
        wrong(
            _std(lambda n: 1 / math.sqrt(2 * n), lambda name: "down_proj" in name),
            "Half of the writers: attention's `o_proj` also adds to the stream, once in each layer.",
        ),
        wrong(
            _std(lambda n: 1.0),
            "The same for all. Then the stream grows with depth: after L layers its variance is that of 2 L updates. Divide the writers' by √(2 L).",
        ),
        wrong(
            _std(lambda n: 1 / math.sqrt(2 * n), lambda name: "o_proj" in name or "up_proj" in name),
            "`up_proj` *reads* from the stream; the one that writes back is `down_proj`.",
        ),
    ],
)


# 04.6 ----------------------------------------------------------------------------------------------------------------


class MyBlock(Block):
    """The library's own block, in the part that the exercise asks for."""

    def __init__(
        self, attention: nn.Module, feed_forward: nn.Module, attention_norm: nn.Module, feed_forward_norm: nn.Module
    ) -> None:
        super().__init__(attention, feed_forward, attention_norm, feed_forward_norm)


class _Sketch(nn.Module):
    """An answer cut into steps, so that each wrong one changes one of them."""

    def __init__(
        self, attention: nn.Module, feed_forward: nn.Module, attention_norm: nn.Module, feed_forward_norm: nn.Module
    ) -> None:
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward
        self.attention_norm, self.feed_forward_norm = attention_norm, feed_forward_norm

    def forward(
        self, x: Tensor, positions: Tensor, mask: Tensor | None = None, cache: LayerCache | None = None
    ) -> Tensor:
        return self.join(x, lambda y: self.look(y, positions, mask, cache))

    def look(self, y: Tensor, positions: Tensor, mask: Tensor | None, cache: LayerCache | None) -> Tensor:
        return self.attention(y, positions, mask, cache)

    def join(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        x = x + attend(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class _PostNorm(_Sketch):
    def join(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        x = self.attention_norm(x + attend(x))
        return self.feed_forward_norm(x + self.feed_forward(x))


class _NormOnTheStream(_Sketch):
    def join(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        x = self.attention_norm(x)
        x = x + attend(x)
        x = self.feed_forward_norm(x)
        return x + self.feed_forward(x)


class _Parallel(_Sketch):
    def join(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        return x + attend(self.attention_norm(x)) + self.feed_forward(self.feed_forward_norm(x))


class _NoResidual(_Sketch):
    def join(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        x = attend(self.attention_norm(x))
        return self.feed_forward(self.feed_forward_norm(x))


class _SecondReplaces(_Sketch):
    def join(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        x = x + attend(self.attention_norm(x))
        return self.feed_forward(self.feed_forward_norm(x))


class _AttentionLost(_Sketch):
    def join(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        h = x + attend(self.attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(h))


class _OneNorm(_Sketch):
    def join(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        x = x + attend(self.attention_norm(x))
        return x + self.feed_forward(self.attention_norm(x))


class _NormAfterPart(_Sketch):
    def join(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        x = x + self.attention_norm(attend(x))
        return x + self.feed_forward_norm(self.feed_forward(x))


class _NoNorm(_Sketch):
    def join(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        x = x + attend(x)
        return x + self.feed_forward(x)


class _ForwardFirst(_Sketch):
    def join(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        x = x + self.feed_forward(self.feed_forward_norm(x))
        return x + attend(self.attention_norm(x))


class _NoMask(_Sketch):
    def look(self, y: Tensor, positions: Tensor, mask: Tensor | None, cache: LayerCache | None) -> Tensor:
        return self.attention(y, positions, None, cache)


class _NoCache(_Sketch):
    def look(self, y: Tensor, positions: Tensor, mask: Tensor | None, cache: LayerCache | None) -> Tensor:
        return self.attention(y, positions, mask)


class _InPlace(_Sketch):
    def join(self, x: Tensor, attend: Callable[[Tensor], Tensor]) -> Tensor:
        x += attend(self.attention_norm(x))
        x += self.feed_forward(self.feed_forward_norm(x))
        return x


def _read(
    answer: Callable[..., nn.Module],
    dim: int,
    words: int = 3,
    mask: Tensor | None = None,
    cached: bool = False,
) -> Tensor:
    """Make a block from real parts whose weights everybody gets, and let it read; with a cache, word by word."""
    parts = Attention(dim, 2, 1), SwiGLU(dim, 2 * dim), RMSNorm(dim), RMSNorm(dim)
    for i, weight in enumerate(weight for part in parts for weight in part.parameters()):
        weight.data = _normal(*weight.shape, seed=i) * 0.5 + (1 if weight.dim() == 1 else 0)
    block = answer(*parts)
    x = _normal(2, words, dim, seed=99) * 2
    before = x.clone()
    with torch.no_grad():
        if cached:
            cache = LayerCache()
            steps = [block(x[:, t : t + 1], torch.tensor([t]), cache=cache) for t in range(words)]
            result = torch.cat(steps, dim=1)
        else:
            result = block(x, torch.arange(words), mask)
    if not torch.equal(x, before):
        raise ValueError("the stream that the block was given has been changed")
    return result


def _runs_in_the_model(answer: Any) -> bool | str:
    """Put the class into a model, give both models the same weights, compare the logits."""
    from minilm.model import LanguageModel

    config = ModelConfig(
        vocab_size=50, dim=16, num_layers=2, context_length=32,
        attention=AttentionConfig(num_heads=4, num_kv_heads=2), feed_forward=FeedForwardConfig(hidden=32),
    )  # fmt: skip
    theirs, mine = LanguageModel(config), LanguageModel(config, block=answer)
    mine.load_state_dict(theirs.state_dict())
    ids = torch.arange(20).view(2, 10)
    with torch.no_grad():
        difference = float((theirs.eval()(ids) - mine.eval()(ids)).abs().max())
    return difference < 1e-4 or f"The logits differ by {difference:.3g}."


_NOT_AT_1 = torch.ones(1, 1, 3, 3, dtype=torch.bool)
_NOT_AT_1[..., 0] = False

exercise(
    id="04.6",
    title="MyBlock: your block in the real model",
    objective="Join attention, feed-forward and two norms into a pre-norm block that a language model can be built with.",
    difficulty=3,
    minutes=20,
    name="MyBlock",
    reference=MyBlock,
    methods=["forward"],
    driver=_read,
    inputs=cases(call(4, words=1), call(4), call(8, words=5), call(4, mask=_NOT_AT_1), call(4, cached=True)),
    properties=[
        holds(
            "it runs inside LanguageModel",
            _runs_in_the_model,
            "Alone your block is right; inside `LanguageModel(config, block=MyBlock)` it does not give the library's logits.",
        )
    ],
    hints=[
        "Two lines. In each, who reads: the raw stream, or a normalised copy of it? And what is added to what?",
        "A part reads `norm(x)` and its answer is added to the raw `x`. The second part reads the stream as the first has left it.",
        "`x = x + self.attention(self.attention_norm(x), positions, mask, cache)`, then `return x + self.feed_forward(self.feed_forward_norm(x))`",
    ],
    wrong_answers=[
        wrong(
            _PostNorm,
            "That is post-norm, the block of 2017: the norm stands on the stream itself, after the addition. It works in shallow models; at 24 layers you saw what it does. Normalise what the part *reads*: x + part(norm(x)).",
        ),
        wrong(
            _NormOnTheStream,
            "You overwrite the stream with its norm and add to that. Then it is no longer a clear road from the first layer to the last. Keep x as it is and normalise a copy for the part to read: x + part(norm(x)).",
        ),
        wrong(
            _Parallel,
            "Both parts read the same old stream: the feed-forward does not see what attention has just brought. (GPT-J and PaLM do this on purpose, to gain speed; it is another model.) Update x first, then let the feed-forward read it.",
        ),
        wrong(
            _NoResidual,
            "Nothing is *added*: each part replaces the stream by its own output, and after a few layers all words are alike. x + ..., twice.",
        ),
        wrong(
            _SecondReplaces,
            "The first part adds to the stream, the second replaces it. `return x + self.feed_forward(...)`.",
        ),
        wrong(
            _AttentionLost,
            "The feed-forward reads the updated stream, but you add its answer to the *old* x: what attention brought is lost again. Give the updated stream the name x, and go on with it.",
        ),
        wrong(
            _OneNorm,
            "You use `attention_norm` twice, and `feed_forward_norm` never. Each part has learned its own gain: a loaded model would read through the wrong glasses.",
        ),
        wrong(
            _NormAfterPart,
            "You normalise what the part *gives*, not what it reads: x + norm(part(x)). The part still reads a stream that grows with depth, and every update is forced to the same size. x + part(norm(x)).",
        ),
        wrong(
            _NoNorm,
            "No norm at all: `attention_norm` and `feed_forward_norm` are never used. Each part must read norm(x).",
        ),
        wrong(
            _ForwardFirst,
            "The order is turned round: first attention brings what a word needs, then the feed-forward works on it.",
        ),
        wrong(
            _NoMask,
            "You don't hand `mask` on to attention, so padding and other documents are seen. `self.attention(..., positions, mask, cache)`.",
        ),
        wrong(
            _NoCache,
            "You don't hand `cache` on to attention: writing word by word, each word believes it is the first. `self.attention(..., positions, mask, cache)`.",
        ),
        wrong(
            _InPlace,
            "`x += ...` changes the tensor that you were given. It belongs to the layer before, and training needs it unchanged to find the gradients: PyTorch would refuse. Write `x = x + ...`, which makes a new one.",
        ),
    ],
    unlocks="In lesson 05 it becomes a model, together with your attention, your norm and your feed-forward.",
)
