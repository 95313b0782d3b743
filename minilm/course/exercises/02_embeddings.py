"""Exercises of lesson 02: from windows of a text to vectors that know their place."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minilm import embeddings as library
from minilm.course.exercise import cases, exercise, wrong
from minilm.data import windows
from minilm.exhibits import dlib_sinusoidal_positions

IGNORE = windows.IGNORE


# 02.1 ----------------------------------------------------------------------------------------------------------------


def token_windows(ids: Tensor, length: int, stride: int = 1) -> tuple[Tensor, Tensor]:
    """Every window that has a next token, and the tokens that come next."""
    return windows.token_windows(ids, length, stride)


def _cut(ids: Tensor, length: int, starts: Sequence[int], shift: int = 1) -> tuple[Tensor, Tensor]:
    x = torch.stack([ids[start : start + length] for start in starts])
    return x, torch.stack([ids[start + shift : start + shift + length] for start in starts])


def _starts(ids: Tensor, length: int, stride: int) -> range:
    return range(0, len(ids) - length, stride)


def _around_the_corner(ids: Tensor, length: int, stride: int = 1) -> tuple[Tensor, Tensor]:
    starts, moved = range(0, len(ids) - length + 1, stride), torch.roll(ids, -1)
    return _cut(ids, length, starts, shift=0)[0], _cut(moved, length, starts, shift=0)[0]


def _draw_windows(rng: random.Random) -> tuple[Tensor, int, int]:
    length = rng.randint(2, 4)
    n = rng.randint(length + 3, 14)
    return torch.tensor(rng.sample(range(100), n)), length, rng.randint(1, 3)


exercise(
    id="02.1",
    title="A text becomes questions",
    objective="Cut a row of ids into windows, each with the token that comes next at every one of its places.",
    difficulty=2,
    minutes=10,
    reference=token_windows,
    inputs=cases(
        (torch.tensor([5, 6, 7, 8]), 2),
        (torch.tensor([5, 6, 7, 8, 9]), 2),
        (torch.arange(10, 20), 3, 3),
        (torch.arange(10, 19), 4, 2),
        (torch.tensor([3, 4]), 1),
        draw=_draw_windows,
        count=8,
    ),
    hints=[
        "Write down all the windows of [5, 6, 7, 8] with length 2. Under each of their tokens, write the one that comes next. Which window has nothing to write?",
        "A window from `start` needs ids up to `start + length`, one more than it holds. So the starts go from 0 to len(ids) - length - 1, in steps of `stride`; y is cut in the same way, one place later.",
        "`starts = range(0, len(ids) - length, stride)`, then `torch.stack` of `ids[s : s + length]` and of `ids[s + 1 : s + length + 1]`",
    ],
    wrong_answers=[
        wrong(
            lambda ids, length, stride=1: _cut(ids, length, _starts(ids, length, stride), shift=0),
            "Your y is x itself. The model would be asked for the token that it has just been shown: the loss falls to 0 and nothing is learned. Move y on by one.",
        ),
        wrong(
            lambda ids, length, stride=1: _cut(ids, length, range(0, len(ids) - length + 1, stride), shift=0),
            "Your y is x itself: the model would be asked for the token that it has just been shown, and the loss falls to 0. Move y on by one; then the last window has no answer at its end, and drops out.",
        ),
        wrong(
            lambda ids, length, stride=1: _cut(ids, length, range(0, len(ids) - length - 1, stride)),
            "You lose the last window: it ends one token before the end of the text, and that token is its last question. There are len(ids) - length possible starts, and `range(0, n)` stops before n already.",
        ),
        wrong(
            _around_the_corner,
            "Your last window is asked for a token after the end of the text, and `torch.roll` hands it the *first* one. A question without an answer must not be asked: leave that window out.",
        ),
        wrong(
            lambda ids, length, stride=1: _cut(ids, length, _starts(ids, length, 1)),
            "You ignore `stride` and start a window at every token. With stride = length each token should be used about once; yours come up `length` times in an epoch.",
        ),
        wrong(
            lambda ids, length, stride=1: _cut(ids, length, _starts(ids, length, length)),
            "You step by `length`, whatever `stride` says. That is one choice of stride; with stride 1 the windows overlap, and every token is seen after every number of predecessors.",
        ),
        wrong(
            lambda ids, length, stride=1: _cut(ids, length, range(0, len(ids) - length - 1, stride), shift=2),
            "Your y is two places on: the model would learn to skip a token. Under ids[t] belongs ids[t + 1].",
        ),
        wrong(
            lambda ids, length, stride=1: (
                _cut(ids, length, _starts(ids, length, stride))[0],
                _cut(ids, length, _starts(ids, length, stride))[1][:, -1],
            ),
            "You give one target a window, the token after it. That is how dlib trains; but the window asks `length` questions, one at each place, and the model answers them all at once. y has the shape of x.",
        ),
    ],
    unlocks="One slip in this line is the most frequent reason for a loss that is too good to be true.",
)


# 02.2 ----------------------------------------------------------------------------------------------------------------


def _look_up(answer: Callable[[int, int], nn.Module], ids: Tensor, table: Tensor, arriving: Tensor) -> dict[str, Any]:
    """What the layer says with a known table, what its table learns, and how it begins."""
    fresh = answer(400, 16)
    layer = answer(*table.shape)
    learned = {name: list(parameter.shape) for name, parameter in layer.named_parameters()}
    if learned.get("weight") != list(table.shape):
        return {"shapes of what is learned": learned}
    with torch.no_grad():
        layer.weight.copy_(table)  # type: ignore[operator]
    vectors = layer(ids)
    if vectors.requires_grad:
        vectors.backward(arriving)
    return {
        "shapes of what is learned": learned,
        "vectors": vectors.detach(),
        "gradient of the table": layer.weight.grad,
        "spread of a fresh table": f"{float(fresh.weight.detach().std()):.1g}",  # type: ignore[operator]
    }


class _Lookup(nn.Module):
    """An answer in steps, so that each wrong one changes one of them."""

    spread = 0.02

    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.weight = self.keep(torch.randn(vocab_size, dim) * self.spread)

    def keep(self, table: Tensor) -> Tensor:
        return nn.Parameter(table)

    def forward(self, ids: Tensor) -> Tensor:
        return self.weight[ids]


class _NotLearned(_Lookup):
    def keep(self, table: Tensor) -> Tensor:
        return table


class _WideStart(_Lookup):
    spread = 1.0


class _CutOff(_Lookup):
    def forward(self, ids: Tensor) -> Tensor:
        return self.weight.data[ids]


class _FromOne(_Lookup):
    def forward(self, ids: Tensor) -> Tensor:
        return self.weight[ids - 1]


class _Scaled(_Lookup):
    def forward(self, ids: Tensor) -> Tensor:
        return self.weight[ids] * math.sqrt(self.weight.shape[1])


class _Sideways(_Lookup):
    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__(dim, vocab_size)

    def forward(self, ids: Tensor) -> Tensor:
        return self.weight.T[ids]


class _Wrapped(nn.Module):
    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)

    def forward(self, ids: Tensor) -> Tensor:
        return self.embedding(ids)


class _OneMore(_Lookup):
    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__(vocab_size, dim)
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, ids: Tensor) -> Tensor:
        return F.one_hot(ids, self.weight.shape[0]).float() @ self.weight + self.bias


exercise(
    id="02.2",
    title="The table of embeddings",
    objective="Write the layer that gives each id its row of a learned table.",
    difficulty=2,
    minutes=10,
    name="TokenEmbedding",
    reference=library.TokenEmbedding,
    methods=["forward"],
    driver=_look_up,
    inputs=cases(
        (torch.tensor([[2, 0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.ones(1, 2, 2)),
        (
            torch.tensor([[1, 1, 0], [2, 1, 1]]),
            torch.arange(12.0).view(4, 3),
            torch.tensor([1.0, 10.0, 100.0])[None, :, None].expand(2, 3, 3).contiguous(),
        ),
    ),
    hints=[
        "What does the optimiser have to find in this layer, and how does a module make something findable?",
        "`self.weight = nn.Parameter(...)` of shape (vocab_size, dim), normal with standard deviation 0.02. `forward` picks rows: by an index, or by a product with one-hot vectors.",
        "`self.weight = nn.Parameter(torch.randn(vocab_size, dim) * 0.02)`, and `return self.weight[ids]`",
    ],
    wrong_answers=[
        wrong(
            _NotLearned,
            "Your table is a plain tensor. `parameters()` does not list it, so no optimiser will ever move it and `state_dict` will not save it: the words stay random for ever. Wrap it in `nn.Parameter`.",
        ),
        wrong(
            _WideStart,
            "Your table begins with a standard deviation of 1, as `nn.Embedding` does. With these rows as output weights too (tied, lesson 05) the first scores would be huge and so would the first loss. GPT-2 begins with 0.02: multiply by it.",
        ),
        wrong(
            _CutOff,
            "`.data` (like `.detach()`) cuts the table off from the gradient: the vectors are right and nothing will be learned, without any error. Index the parameter itself.",
        ),
        wrong(
            _FromOne,
            "You count the rows from 1: `ids - 1` gives id 0 the *last* row, since Python takes -1 for the end. Ids begin at 0, as rows do.",
        ),
        wrong(
            _Scaled,
            "You multiply by the root of the width. The first transformer did (Vaswani et al. 2017, section 3.4), and Gemma does; GPT-2, Llama and this course don't. The row as it is.",
        ),
        wrong(
            _Sideways,
            "Your table is (dim, vocab_size), as the weight of an `nn.Linear` from one-hot vectors would be. A row must belong to an id: (vocab_size, dim), which is also how every published model stores it.",
        ),
        wrong(
            _Wrapped,
            "You wrap an `nn.Embedding`, which does the work under the name `embedding.weight`. Saved models call it `weight` here; and the point is to see that there is nothing inside but a table. Keep an `nn.Parameter` in `self.weight` yourself.",
        ),
        wrong(
            _OneMore,
            "You add a bias that all tokens share. What is common to all rows can stand in each of them already: drop it, or your weights will not fit where others' tables fit.",
        ),
    ],
    unlocks="In lesson 05 this layer is the first thing that an id meets in your own model.",
)


# 02.3 ----------------------------------------------------------------------------------------------------------------


def sinusoidal_positions(positions: Tensor, dim: int, base: float = 10_000.0) -> Tensor:
    """Sine and cosine side by side, each pair slower than the one before."""
    return library.sinusoidal_positions(positions, dim, base)


def _angles(positions: Tensor, exponents: Tensor, base: float) -> Tensor:
    return positions[:, None] * base**-exponents


def _side_by_side(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack((first, second), dim=-1).flatten(1)


def _pairs(dim: int) -> Tensor:
    return torch.arange(0, dim, 2) / dim


def _waves(angles: Tensor) -> Tensor:
    return _side_by_side(angles.sin(), angles.cos())


def _draw_positions(rng: random.Random) -> tuple[Tensor, int, float]:
    return torch.tensor(rng.sample(range(50), 3)), rng.choice([4, 6, 8]), rng.choice([100.0, 10_000.0])


exercise(
    id="02.3",
    title="Waves for places",
    objective="Give each position a vector of sines and cosines, in pairs that swing slower and slower.",
    difficulty=2,
    minutes=10,
    reference=sinusoidal_positions,
    inputs=cases(
        (torch.tensor([0, 1, 2]), 4),
        (torch.tensor([1]), 6, 100.0),
        (torch.tensor([7, 3]), 4, 100.0),
        draw=_draw_positions,
        count=8,
    ),
    hints=[
        "How many different speeds do `dim` channels need, if each sine has its cosine beside it?",
        "Pair i, for i = 0 .. dim/2 - 1, swings with base ** (-2i / dim) radians a position. Make all angles as a table (positions, dim/2), then interleave their sines and cosines.",
        "`angles = positions[:, None] * base ** (-torch.arange(0, dim, 2) / dim)`, then `torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)`",
    ],
    wrong_answers=[
        wrong(
            dlib_sinusoidal_positions,
            "Each channel has a frequency of its own: your cosine in channel 2i + 1 uses the exponent of 2i + 1. That is dlib's slip. A sine whose cosine swings at another speed cannot be turned, so equal distances look different everywhere. Both channels of a pair take the exponent 2i / dim.",
        ),
        wrong(
            lambda positions, dim, base=10_000.0: _side_by_side(
                _angles(positions, _pairs(dim), base).cos(), _angles(positions, _pairs(dim), base).sin()
            ),
            "Sine and cosine have changed places. Nothing would be lost, but it isn't the table that others use: the even channel holds the sine, so position 0 reads 0, 1, 0, 1, ...",
        ),
        wrong(
            lambda positions, dim, base=10_000.0: torch.cat(
                (_angles(positions, _pairs(dim), base).sin(), _angles(positions, _pairs(dim), base).cos()), dim=-1
            ),
            "All sines come first, then all cosines, as in the code of tensor2tensor. The same numbers in another order; the paper, and this course, put each sine and its cosine side by side.",
        ),
        wrong(
            lambda positions, dim, base=10_000.0: _waves(_angles(positions, torch.arange(dim // 2) / dim, base)),
            "Your exponent is i / dim where it should be 2i / dim: the slowest pair ends at the root of the base, so far places repeat too early. `torch.arange(0, dim, 2) / dim` counts in steps of two.",
        ),
        wrong(
            lambda positions, dim, base=10_000.0: _waves(_angles(positions, -_pairs(dim), base)),
            "Your exponent is positive, so each pair swings *faster* than the one before, thousands of radians a step: pure noise. It is base to the power of **minus** 2i / dim.",
        ),
        wrong(
            lambda positions, dim, base=10_000.0: _waves(torch.deg2rad(_angles(positions, _pairs(dim), base))),
            "You treat the angles as degrees. The formula means radians, 57 times as much: with degrees, neighbours are almost equal. Drop the conversion.",
        ),
        wrong(
            lambda positions, dim, base=10_000.0: _waves(_angles(positions + 1, _pairs(dim), base)),
            "You count positions from 1. The first place is 0: all its sines are 0 and all its cosines 1. Use the positions as they are given.",
        ),
        wrong(
            lambda positions, dim, base=10_000.0: _waves(_angles(torch.arange(len(positions)), _pairs(dim), base)),
            "You number the rows 0, 1, 2, ... and never look at `positions`. A model that writes token by token asks for place 217 alone, and would get place 0.",
        ),
    ],
)


# 02.4 ----------------------------------------------------------------------------------------------------------------


def apply_rotary(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """Turn the pairs of channels (0, 1), (2, 3), ... by angles proportional to the positions."""
    return library.apply_rotary(x, positions, base)


def _turn(x: Tensor, angles: Tensor) -> Tensor:
    return library.rotate_pairs(x, angles.cos(), angles.sin())


def _mirrored(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    angles = _angles(positions, _pairs(x.shape[-1]), base)
    a, b, cos, sin = x[..., 0::2], x[..., 1::2], angles.cos(), angles.sin()
    return torch.stack((a * cos - b * sin, b * cos - a * sin), dim=-1).flatten(-2)


def _overwritten(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    angles = _angles(positions, _pairs(x.shape[-1]), base)
    a, b, cos, sin = x[..., 0::2], x[..., 1::2], angles.cos(), angles.sin()
    a = a * cos - b * sin
    return torch.stack((a, a * sin + b * cos), dim=-1).flatten(-2)


def _halves_joined(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    turned = library.apply_rotary(x, positions, base)
    return torch.cat((turned[..., 0::2], turned[..., 1::2]), dim=-1)


def _numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def _draw_rotary(rng: random.Random) -> tuple[Tensor, Tensor, float]:
    dim, seq = rng.choice([4, 6, 8]), rng.randint(1, 3)
    return torch.randn(2, seq, dim), torch.tensor(rng.sample(range(40), seq)), rng.choice([100.0, 10_000.0])


exercise(
    id="02.4",
    title="Turn, don't add",
    objective="Turn each pair of neighbouring channels of queries or keys by an angle proportional to their position.",
    difficulty=3,
    minutes=15,
    reference=apply_rotary,
    inputs=cases(
        (torch.tensor([[1.0, 0.0, 1.0, 0.0]]), torch.tensor([1])),
        (torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]), torch.tensor([0, 1])),
        (torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([5]), 100.0),
        (_numbers(2, 2, 3, 6), torch.tensor([4, 9, 2])),
        draw=_draw_rotary,
        count=6,
    ),
    hints=[
        "A pair (a, b) is a point in a plane. What happens to (1, 0) when it is turned by 90 degrees to the left? And to (0, 1)?",
        "The angles are those of the waves, (seq, dim/2). Take a = the even channels and b = the odd ones; (a, b) becomes (a cos - b sin, a sin + b cos); put them back side by side.",
        "`a, b = x[..., 0::2], x[..., 1::2]`, then `torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)`",
    ],
    wrong_answers=[
        wrong(
            lambda x, positions, base=10_000.0: library.apply_rotary(x, positions, base, interleaved=False),
            "You pair channel i with channel i + dim/2: the half-split layout of GPT-NeoX and of Llama in `transformers`. It is as good, and it is another one: weights trained with neighbours would give wrong scores without an error. Here the pairs are (0, 1), (2, 3), ...",
        ),
        wrong(
            lambda x, positions, base=10_000.0: _turn(x, -_angles(positions, _pairs(x.shape[-1]), base)),
            "You turn the other way round: the signs of your sines are swapped. Query and key both reversed would still agree with each other, but with nobody else's weights. It is (a cos - b sin, a sin + b cos).",
        ),
        wrong(
            _mirrored,
            "Your second line is b cos - a sin. With a minus in both lines it is no rotation: lengths change, and the dot product depends on where the words stand. The second line has a plus.",
        ),
        wrong(
            _overwritten,
            "You overwrite a before b is done: the second line uses the a that has been turned already. Keep both old values until both new ones are computed.",
        ),
        wrong(
            lambda x, positions, base=10_000.0: _turn(x, _angles(torch.arange(x.shape[-2]), _pairs(x.shape[-1]), base)),
            "You number the places 0, 1, 2, ... yourself and never look at `positions`. In training that agrees; when the model writes with a cache, every new token would be turned as if it were the first.",
        ),
        wrong(
            lambda x, positions, base=10_000.0: _turn(
                x, _angles(positions, (torch.arange(0, x.shape[-1], 2) + 2) / x.shape[-1], base)
            ),
            "You count the pairs from 1 (as the paper's text does, which then writes 2(i - 1)): your first pair is already slow, and the fast one that tells neighbours apart is missing. The first pair turns 1 radian a place: i = 0.",
        ),
        wrong(
            lambda x, positions, base=10_000.0: _turn(
                x, _angles(positions, torch.arange(x.shape[-1] // 2) / x.shape[-1], base)
            ),
            "Your exponent is i / dim where it should be 2i / dim, so the slow pairs are far too fast. `torch.arange(0, dim, 2) / dim` has one entry for each pair.",
        ),
        wrong(
            lambda x, positions, base=10_000.0: _turn(x, torch.deg2rad(_angles(positions, _pairs(x.shape[-1]), base))),
            "You treat the angles as degrees. They are radians: the first pair turns by 1 radian, 57 degrees, from one place to the next.",
        ),
        wrong(
            _halves_joined,
            "You turn the right pairs and then put all first channels before all second ones. Dot products would not notice, but the next use of these channels would: `torch.stack(..., dim=-1).flatten(-2)` puts them back side by side.",
        ),
    ],
    unlocks="These lines are in every Llama, Mistral, Qwen and Gemma; yours will be in your own model.",
)


# 02.5 ----------------------------------------------------------------------------------------------------------------


def relative_index(query_positions: Tensor, key_positions: Tensor, max_distance: int) -> Tensor:
    """Which row of Shaw's table belongs to each pair of a query and a key."""
    return library.RelativePositions(2, max_distance).index(query_positions, key_positions)


def _distance(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    return key_positions[None, :] - query_positions[:, None]


def _draw_distances(rng: random.Random) -> tuple[Tensor, Tensor, int]:
    queries, keys = rng.randint(1, 3), rng.randint(4, 6)
    return torch.tensor(rng.sample(range(12), queries)), torch.tensor(rng.sample(range(12), keys)), rng.randint(1, 4)


exercise(
    id="02.5",
    title="How far, and in which direction?",
    objective="For every query and key, find the row of a table with one vector for each signed distance, clipped at a maximum.",
    difficulty=2,
    minutes=10,
    reference=relative_index,
    inputs=cases(
        (torch.arange(3), torch.arange(3), 2),
        (torch.arange(4), torch.arange(4), 1),
        (torch.tensor([4]), torch.arange(6), 2),
        (torch.arange(2), torch.tensor([9, 0, 1]), 3),
        draw=_draw_distances,
        count=8,
    ),
    hints=[
        "How many rows does the table need for distances from -2 to 2? Which of them belongs to a word that looks at itself?",
        "Distance = key minus query, as a table (queries, keys) by broadcasting. Clip it to -max .. max, then add max so that the smallest is row 0.",
        "`distance = key_positions[None, :] - query_positions[:, None]`, then `distance.clamp(-max_distance, max_distance) + max_distance`",
    ],
    wrong_answers=[
        wrong(
            lambda query_positions, key_positions, max_distance: (
                (-_distance(query_positions, key_positions)).clamp(-max_distance, max_distance) + max_distance
            ),
            "Your sign is flipped: you compute query minus key, so past and future change places. Row 0 is for keys far *behind* the query (Shaw's distance is key minus query).",
        ),
        wrong(
            lambda query_positions, key_positions, max_distance: _distance(query_positions, key_positions).clamp(
                -max_distance, max_distance
            ),
            "You clip and don't shift: distances behind are negative, and a negative index takes rows from the *end* of the table, silently. Add `max_distance`.",
        ),
        wrong(
            lambda query_positions, key_positions, max_distance: (
                _distance(query_positions, key_positions) + max_distance
            ),
            "You don't clip. Beyond the maximum the index runs off the table, or to its other end where it turns negative. Clip to -max_distance .. max_distance first.",
        ),
        wrong(
            lambda query_positions, key_positions, max_distance: (
                _distance(query_positions, key_positions) + max_distance
            ).clamp(-max_distance, max_distance),
            "You shift first and clip afterwards, to limits that belonged to the unshifted distance: everything from itself on to the future ends in one row. Clip, then shift (or clip the shifted one to 0 .. 2 max).",
        ),
        wrong(
            lambda query_positions, key_positions, max_distance: (
                _distance(query_positions, key_positions).abs().clamp(max=max_distance)
            ),
            "You take the distance without its sign: three words before and three words after would share a vector. *Dog bites man* needs the direction.",
        ),
        wrong(
            lambda query_positions, key_positions, max_distance: (
                (_distance(query_positions, key_positions).clamp(-max_distance, max_distance) + max_distance).T
            ),
            "Rows and columns have changed places: yours is (keys, queries). Each row belongs to a query, which looks; the columns are what it looks at.",
        ),
    ],
)


# 02.6 ----------------------------------------------------------------------------------------------------------------

Windows = tuple[Tensor, Tensor, Tensor]


def pack(documents: list[list[int]], length: int, end_id: int, pad_id: int) -> Windows:
    """Documents laid end to end in windows: inputs, targets, and the number of each token's document."""
    packed = windows.pack(documents, length, end_id, pad_id)
    return packed.inputs, packed.targets, packed.documents


def _packed(
    documents: list[list[int]],
    length: int,
    end_id: int,
    pad_id: int,
    *,
    across: bool = False,
    at_edge: bool = True,
    restart: bool = True,
    padding: int | None = -1,
    keep_rest: bool = True,
    end_learned: bool = True,
    padding_target: int = IGNORE,
) -> Windows:
    """The right answer, with one thing changed by each keyword."""
    closed = [[*document, end_id] for document in documents]
    inputs = [token for document in closed for token in document]
    owner = [number for number, document in enumerate(closed) for _ in document]
    targets = [*inputs[1:], IGNORE]
    for i in range(len(inputs)):
        is_last = i + 1 == len(inputs) or owner[i + 1] != owner[i]
        unasked_end = not end_learned and not is_last and targets[i] == end_id
        if (is_last and not across) or (i % length == length - 1 and not at_edge) or unasked_end:
            targets[i] = IGNORE
    numbers = [owner[i] - (owner[i - i % length] if restart else 0) for i in range(len(inputs))]
    rest = len(inputs) % length
    if rest and not keep_rest and len(inputs) > length:
        inputs, targets, numbers = inputs[:-rest], targets[:-rest], numbers[:-rest]
    missing = -len(inputs) % length
    inputs += [pad_id] * missing
    targets += [padding_target] * missing
    numbers += [numbers[-1] if padding is None else padding] * missing
    return tuple(torch.tensor(column).view(-1, length) for column in (inputs, targets, numbers))  # type: ignore[return-value]


def _changed(**change: Any) -> Callable[..., Windows]:
    return lambda documents, length, end_id, pad_id: _packed(documents, length, end_id, pad_id, **change)


def _padded_one_by_one(documents: list[list[int]], length: int, end_id: int, pad_id: int) -> Windows:
    parts = [_packed([document], length, end_id, pad_id) for document in documents]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def _draw_documents(rng: random.Random) -> tuple[list[list[int]], int, int, int]:
    documents = [[rng.randint(10, 99) for _ in range(rng.randint(1, 5))] for _ in range(rng.randint(2, 5))]
    return documents, rng.randint(3, 6), 1, 0


exercise(
    id="02.6",
    title="Pack short documents",
    objective="Lay documents end to end into full windows, such that none is asked about another and attention can tell them apart.",
    difficulty=4,
    minutes=20,
    reference=pack,
    inputs=cases(
        ([[11, 12], [21]], 5, 1, 0),
        ([[11, 12], [21]], 8, 1, 0),
        ([[11, 12, 13], [21, 22], [31, 32]], 4, 1, 0),
        ([[11, 12, 13, 14, 15, 16]], 3, 1, 0),
        ([[11], [21], [31], [41, 42]], 3, 9, 7),
        draw=_draw_documents,
        count=10,
    ),
    hints=[
        "Do it on paper for [[11, 12], [21]] with end 1 in a window of 8: three rows, inputs, targets, numbers. What should an end token be asked?",
        "First make three long lists over all documents (each closed by its end token), then cut them into windows. A target is the next token *of the same document*; the end token has none. Numbers begin at 0 in each window: subtract the number of the window's first token.",
        "Per document: `tokens = [*document, end_id]`, `inputs += tokens`, `targets += [*tokens[1:], -100]`, `numbers += [k] * len(tokens)`. Fill up with `pad_id`, -100, -1; `torch.tensor(...).view(-1, length)`; then subtract `numbers[:, :1]` where numbers are not -1.",
    ],
    wrong_answers=[
        wrong(
            _changed(across=True),
            "Your end tokens are asked for the first word of the *next* document, which has nothing to do with it: the model pays for what nobody can know. A document's last target is -100.",
        ),
        wrong(
            _changed(at_edge=False),
            "The last place of each window gets no target. Its next token stands in the next window, but you know it: cut inputs and targets apart, *after* shifting, and no question is lost.",
        ),
        wrong(
            _changed(restart=False),
            "You number the documents through the whole text. Inside a window only equal or different matters, and numbers there begin at 0: subtract the number of the window's first token.",
        ),
        wrong(
            _changed(padding=None),
            "Your padding carries the number of the last document, so its words could look at filler and filler at them. Padding belongs to nobody: -1.",
        ),
        wrong(
            _changed(padding=0),
            "Your padding has number 0, which is also the first document of the window: the two could see each other. Padding belongs to nobody: -1.",
        ),
        wrong(
            _changed(keep_rest=False),
            "You throw the last, unfilled window away, and its tokens with it. Fill it up with `pad_id`, targets -100 and number -1.",
        ),
        wrong(
            _changed(end_learned=False),
            "Your model is never asked for the end token (its targets are -100), so it will never learn to stop. The last word's target is the end token; only the end token itself is asked nothing.",
        ),
        wrong(
            _changed(padding_target=0),
            "Your padding has `0` as its target: the model would be trained to write filler. Targets there are -100, which the loss skips.",
        ),
        wrong(
            _padded_one_by_one,
            "Each document begins a window of its own and is filled up. That is padding, not packing: most of the computation goes into filler. Begin the next document right behind the end of the one before.",
        ),
    ],
    unlocks="With this mask, packed documents give the same numbers as each document alone (lesson 03 shows it).",
)
