"""Lesson 02: from token ids to vectors that know their word and their place.

A token's vector is a row of a table. Its place comes in one of five ways, each a small class or function here:
added to the vector (sinusoidal, learned), added to the attention scores (relative, ALiBi), or turned into queries and keys
(rotary). Rotary angles can be rescaled for contexts longer than those of training.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from minilm.config import RotaryScaling

# ---------------------------------------------------------------------------------------------------------------- tokens


def one_hot_embedding(ids: Int[Tensor, "*shape"], table: Float[Tensor, "vocab dim"]) -> Float[Tensor, "*shape dim"]:
    """Embed by multiplying one-hot rows with the table: what a lookup is, spelled out (and what its gradient is).

    It equals `TokenEmbedding` to the last bit in exact arithmetic and costs vocab times as much.
    """
    return F.one_hot(ids.long(), table.shape[0]).to(table.dtype) @ table


class TokenEmbedding(nn.Module):
    """A table with one learned row for each token id; `forward` looks the rows up.

    Raises TypeError for ids that are not integers, ValueError for ids outside 0 .. vocab_size - 1 or on another device.
    (On an accelerator ids are not read back to be checked; there an id off the table is a device assertion.)
    """

    def __init__(self, vocab_size: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq dim"]:
        """The rows of the ids."""
        check_ids(ids, self.weight)
        try:
            return F.embedding(ids, self.weight)
        except IndexError:  # the lookup checks anyway: asking afterwards costs nothing while all is well
            bad = ids[(ids < 0) | (ids >= self.weight.shape[0])]
            raise ValueError(
                f"token id {int(bad[0])} is outside 0 .. {self.weight.shape[0] - 1}: the ids come from a tokenizer with a "
                "larger vocabulary than the model's vocab_size (or use -100 as padding, which only targets may)"
            ) from None

    def extra_repr(self) -> str:
        """The table's shape."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


def check_ids(ids: Tensor, weight: Tensor) -> None:
    """Refuse ids that cannot be looked up in `weight`, saying which and what to do."""
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"token ids must be int64 or int32, got {ids.dtype}: convert with ids.long()")
    if ids.device != weight.device:
        raise ValueError(
            f"token ids are on {ids.device} and the model on {weight.device}: move the ids with ids.to({str(weight.device)!r})"
        )


# ------------------------------------------------------------------------------------------------------ absolute positions


def sinusoidal_positions(
    positions: Int[Tensor, "*shape"], dim: int, base: float = 10_000.0
) -> Float[Tensor, "*shape dim"]:
    """Fixed waves of falling frequency: sin in even channels, cos in odd ones (Vaswani et al. 2017, section 3.5).

    Channels 2i and 2i + 1 hold sin and cos of position * base ** (-2i / dim), in radians.
    """
    angles = positions.float()[..., None] * rotary_frequencies(dim + dim % 2, base, exponent_dim=dim).to(
        positions.device
    )
    waves = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)
    return waves[..., :dim]  # an odd dim ends on a sine


class SinusoidalPositions(nn.Module):
    """`sinusoidal_positions` as a part of the embedder. Nothing is learned, nothing saved, and no length is the last."""

    def __init__(self, dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        self.dim, self.base = dim, base

    def forward(self, positions: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape dim"]:
        """The waves at the positions."""
        return sinusoidal_positions(positions, self.dim, self.base)


class LearnedPositions(nn.Module):
    """One learned vector for each place up to `max_length` (GPT-2). Past it there is nothing to look up: ValueError."""

    def __init__(self, max_length: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, positions: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape dim"]:
        """The vectors of the positions."""
        try:
            return F.embedding(positions, self.weight)
        except IndexError:
            raise ValueError(
                f"position {int(positions.max())} is past the limit: learned positions end at "
                f"{self.weight.shape[0] - 1} (context_length = {self.weight.shape[0]}); shorten the input, or keep only the last "
                f"{self.weight.shape[0]} tokens"
            ) from None

    def extra_repr(self) -> str:
        """The table's shape."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


# ------------------------------------------------------------------------------------------------------ relative positions


class RelativePositions(nn.Module):
    """One learned key and value vector for each signed distance, shared by the heads (Shaw et al. 2018, eqs. 3 and 4).

    Distances (key minus query) are clipped to -max_distance .. max_distance, so every length is possible.
    With index d for the distance between query i and key j: scores gain q_i . keys[d], outputs gain weight_ij * values[d].
    """

    def __init__(self, head_dim: int, max_distance: int) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.keys = nn.Parameter(torch.empty(2 * max_distance + 1, head_dim))
        self.values = nn.Parameter(torch.empty(2 * max_distance + 1, head_dim))
        nn.init.normal_(self.keys, std=0.02)
        nn.init.normal_(self.values, std=0.02)

    def index(
        self, query_positions: Int[Tensor, "queries"], key_positions: Int[Tensor, "keys"]
    ) -> Int[Tensor, "queries keys"]:
        """The row of the tables for each pair: 0 for far behind, max_distance for itself, 2 max_distance for far ahead."""
        distance = key_positions[None, :] - query_positions[:, None]
        return distance.clamp(-self.max_distance, self.max_distance) + self.max_distance

    def scores(
        self, q: Float[Tensor, "batch heads queries head_dim"], index: Int[Tensor, "queries keys"]
    ) -> Float[Tensor, "batch heads queries keys"]:
        """What the distances add to the scores, before the scale.

        Each query meets each of the 2 max_distance + 1 vectors once and the results are then picked by distance; a tensor of
        queries x keys x head_dim is never made.
        """
        return (q @ self.keys.T).gather(-1, index.expand(*q.shape[:2], *index.shape))

    def outputs(
        self, weights: Float[Tensor, "batch heads queries keys"], index: Int[Tensor, "queries keys"]
    ) -> Float[Tensor, "batch heads queries head_dim"]:
        """What the distances add to the output: weights summed by distance, times that distance's value."""
        by_distance = weights.new_zeros(*weights.shape[:3], len(self.values))
        return by_distance.scatter_add(-1, index.expand_as(weights), weights) @ self.values


def alibi_slopes(num_heads: int) -> Float[Tensor, "heads"]:
    """How much each head dislikes distance: 2 ** (-8 i / n) for head i = 1 .. n (Press et al. 2022, section 3).

    For n that is not a power of two, the slopes of the next lower power of two come first, then every second one of the next
    higher, as in the authors' code.
    """

    def geometric(n: int) -> list[float]:
        return [2.0 ** (-8.0 * i / n) for i in range(1, n + 1)]

    lower = 2 ** int(math.log2(num_heads))
    slopes = geometric(lower) + geometric(2 * lower)[0::2][: num_heads - lower]
    return torch.tensor(slopes)


def alibi_bias(
    query_positions: Int[Tensor, "queries"], key_positions: Int[Tensor, "keys"], slopes: Float[Tensor, "heads"]
) -> Float[Tensor, "heads queries keys"]:
    """What ALiBi adds to the scaled scores: minus slope times distance (Press et al. 2022)."""
    distance = (query_positions[:, None] - key_positions[None, :]).abs()
    return -slopes[:, None, None] * distance


# -------------------------------------------------------------------------------------------------------- rotary positions


def rotary_frequencies(
    dim: int, base: float | Tensor = 10_000.0, exponent_dim: int | None = None
) -> Float[Tensor, "dim/2"]:
    """Radians by which each pair of channels turns from one position to the next: base ** (-2i / dim) for pair i."""
    device = base.device if isinstance(base, Tensor) else None
    exponents = torch.arange(0, dim, 2, dtype=torch.float32, device=device) / (exponent_dim or dim)
    return base**-exponents


def scaled_frequencies(
    dim: int, base: float, scaling: RotaryScaling | None, length: int | Tensor = 0
) -> tuple[Float[Tensor, "dim/2"], float]:
    """Frequencies and the factor on cos and sin, adapted to contexts beyond `scaling.original_length`.

    - linear: every frequency divided by the factor, so that positions are squeezed into the old range (Chen et al. 2023).
    - dynamic (NTK-aware): the base grows with the `length` at hand, which leaves fast pairs alone and slows slow ones;
      nothing changes up to original_length. The angles of old positions depend on the length, so keys can't be cached.
    - llama3: slow pairs divided by the factor, fast ones kept, a linear blend between (Llama 3.1).
    - yarn: the same idea with the limits counted in turns within original_length, plus sharper attention through a factor on
      cos and sin (Peng et al. 2023, section 3.4 and eq. 22).
    """
    frequencies = rotary_frequencies(dim, base)
    if scaling is None:
        return frequencies, 1.0
    factor, original = scaling.factor, scaling.original_length
    if scaling.kind == "linear":
        return frequencies / factor, 1.0
    if scaling.kind == "dynamic":
        # A tensor throughout, so that a length on an accelerator is never read back.
        growth = factor * torch.as_tensor(length).clamp(min=original) / original - (factor - 1)
        return rotary_frequencies(dim, base * growth ** (dim / max(dim - 2, 1))), 1.0
    if scaling.kind == "llama3":
        turns = original * frequencies / (2 * math.pi)  # of each pair within the original length
        low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
        keep = ((turns - low) / (high - low)).clamp(0, 1)
        return frequencies * (keep + (1 - keep) / factor), 1.0

    def pair_that_turns(times: float) -> float:
        """The (fractional) pair that makes this many turns within the original length."""
        return dim * math.log(original / (times * 2 * math.pi)) / (2 * math.log(base))

    first = max(math.floor(pair_that_turns(scaling.beta_fast)), 0)
    last = min(math.ceil(pair_that_turns(scaling.beta_slow)), dim - 1)
    ramp = ((torch.arange(dim // 2) - first) / max(last - first, 0.001)).clamp(0, 1)  # 0: keep, 1: stretch in full
    sharpen = scaling.attention_factor or 0.1 * math.log(factor) + 1.0
    return frequencies * (1 - ramp) + frequencies / factor * ramp, sharpen


def rotate_pairs(
    x: Float[Tensor, "... seq dim"],
    cos: Float[Tensor, "... seq dim/2"],
    sin: Float[Tensor, "... seq dim/2"],
    interleaved: bool = True,
) -> Float[Tensor, "... seq dim"]:
    """Turn each pair of channels (a, b) into (a cos - b sin, a sin + b cos): the readable form of rotary positions."""
    if interleaved:
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def apply_rotary(
    x: Float[Tensor, "... seq dim"], positions: Int[Tensor, "seq"], base: float = 10_000.0, interleaved: bool = True
) -> Float[Tensor, "... seq dim"]:
    """Rotate pairs of channels by an angle proportional to their position (RoPE, Su et al. 2021, eq. 34).

    Pair i turns by positions * base ** (-2i / dim) radians, so that the dot product of a rotated q and k depends on their
    positions only through the signed offset between them.
    `interleaved=True` pairs channels (0, 1), (2, 3), ... (the paper, GPT-J); `False` pairs (i, i + dim/2) (GPT-NeoX, Llama in
    transformers). The two differ by a fixed permutation of channels, `interleaved_to_half`.

    Raises ValueError if dim is odd: drop or add one channel, or rotate only the first dim - 1 (`RotaryEmbedding(dim - 1)`).
    """
    if x.shape[-1] % 2:
        raise ValueError(
            f"rotary positions turn pairs of channels and dim = {x.shape[-1]} is odd: add or drop one channel, "
            f"or rotate only the first {x.shape[-1] - 1} with RotaryEmbedding({x.shape[-1] - 1})"
        )
    angles = positions.float()[:, None] * rotary_frequencies(x.shape[-1], base).to(x.device)  # seq dim/2
    return rotate_pairs(x, angles.cos().to(x.dtype), angles.sin().to(x.dtype), interleaved)


def interleaved_to_half(dim: int) -> Int[Tensor, "dim"]:
    """The order of channels that makes both layouts agree: even ones first, then odd ones.

    With p = interleaved_to_half(dim): apply_rotary(x, ..., interleaved=True)[..., p] equals
    apply_rotary(x[..., p], ..., interleaved=False). Permuting the rows of a head's query and key projections by p therefore
    turns a model of one layout into the other.
    """
    return torch.cat((torch.arange(0, dim, 2), torch.arange(1, dim, 2)))


class RotaryEmbedding(nn.Module):
    """Rotary positions for queries and keys: the fast form of `apply_rotary`, with scaling and a partial dimension.

    Rotates the first `dim` channels of each head and passes the others through. Nothing is saved in the state dict.
    The tables of cos and sin are made once for a positions tensor and kept until another one comes, so that one forward pass
    through many layers makes them once.
    """

    def __init__(
        self, dim: int, base: float = 10_000.0, interleaved: bool = True, scaling: RotaryScaling | None = None
    ) -> None:
        super().__init__()
        if dim % 2 or dim <= 0:
            raise ValueError(f"rotary positions turn pairs of channels and dim = {dim} is not a positive even number")
        self.dim, self.base, self.interleaved, self.scaling = dim, base, interleaved, scaling
        self._made: tuple[Tensor, int, torch.dtype, Tensor, Tensor] | None = None  # what for, and the tables

    @property
    def depends_on_length(self) -> bool:
        """Whether old keys change as the context grows, which rules a cache out."""
        return self.scaling is not None and self.scaling.kind == "dynamic"

    def forward(
        self, x: Float[Tensor, "batch heads seq head_dim"], positions: Int[Tensor, "seq"] | Int[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch heads seq head_dim"]:
        """`x` turned to its positions."""
        if x.shape[-1] < self.dim:
            raise ValueError(f"cannot rotate {self.dim} channels of heads that have {x.shape[-1]}")
        if x.shape[-1] > self.dim:
            return torch.cat((self.forward(x[..., : self.dim], positions), x[..., self.dim :]), dim=-1)
        if torch.compiler.is_compiling():  # the compiler fuses the readable form and cannot fuse complex numbers
            cos, sin = self._heads_share(*self.tables(positions, x.dtype), positions)
            return rotate_pairs(x, cos, sin, self.interleaved)
        cos, sin = self._tables_once(positions, x.dtype)
        if self.interleaved:  # a pair is a complex number, and turning it is one multiplication by cos + i sin
            wide = x if x.dtype == torch.float64 else x.float()
            turned = torch.view_as_complex(wide.reshape(*wide.shape[:-1], -1, 2)) * cos
            return torch.view_as_real(turned).flatten(-2).to(x.dtype)
        # The other half rolled into place; the table of sines carries the signs: -, ..., -, +, ..., +.
        return torch.addcmul(x * cos, x.roll(self.dim // 2, dims=-1), sin)

    def tables(
        self, positions: Int[Tensor, "*batch seq"], dtype: torch.dtype = torch.float32
    ) -> tuple[Float[Tensor, "*batch seq dim/2"], Float[Tensor, "*batch seq dim/2"]]:
        """Cos and sin of the angles at the positions. Angles are computed in float32 at least, whatever the dtype."""
        length = positions.max() + 1 if self.depends_on_length else 0
        frequencies, factor = scaled_frequencies(self.dim, self.base, self.scaling, length)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        angles = positions.to(wide)[..., None] * frequencies.to(positions.device, wide)
        return (angles.cos() * factor).to(dtype), (angles.sin() * factor).to(dtype)

    @staticmethod
    def _heads_share(cos: Tensor, sin: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """With positions of their own, batch rows have tables of their own: batch 1 seq dim/2."""
        return (cos[:, None], sin[:, None]) if positions.dim() == 2 else (cos, sin)

    def _tables_once(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The tables as `forward` multiplies with them, made anew only for another positions tensor."""
        version = 0 if positions.is_inference() else positions._version
        if self._made is not None and self._made[0] is positions and self._made[1:3] == (version, dtype):
            return self._made[3:]
        # A table made under inference_mode could never take part in training later: step out of it.
        with torch.inference_mode(False), torch.no_grad():
            if self.interleaved:
                wide = torch.float64 if dtype == torch.float64 else torch.float32
                cos, sin = self._heads_share(*self.tables(positions, wide), positions)
                cos = torch.complex(cos, sin)
            else:
                cos, sin = self._heads_share(*self.tables(positions, dtype), positions)
                cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
        self._made = (positions, version, dtype, cos, sin)
        return cos, sin

    def extra_repr(self) -> str:
        """What turns, and how."""
        layout = "interleaved" if self.interleaved else "half-split"
        return f"{self.dim}, base={self.base:g}, {layout}" + (f", {self.scaling.kind}" if self.scaling else "")
