import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from minilm.attention import Attention, LayerCache
from minilm.block import (
    Block,
    FeedForward,
    LayerNorm,
    LearnedActivation,
    RMSNorm,
    SwiGLU,
    activation,
    gated_width,
    initialize,
)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def scramble(module: nn.Module) -> nn.Module:
    """Gains and biases away from 1 and 0, so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.3)
    return module


class TestNorms:
    def test_layer_norm_equals_pytorch_and_the_formula(self) -> None:
        x, ours, theirs = 3 * noise(2, 5, 8) + 2, scramble(LayerNorm(8).double()), nn.LayerNorm(8).double()
        theirs.load_state_dict(ours.state_dict())
        torch.testing.assert_close(ours(x), theirs(x))
        mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
        torch.testing.assert_close(ours(x), (x - mean) / torch.sqrt(var + 1e-5) * ours.weight + ours.bias)

    @pytest.mark.parametrize("gain", [True, False])
    def test_rms_norm_equals_pytorch(self, gain: bool) -> None:
        x = 1e-3 * noise(2, 5, 8)  # small, so that eps outside the root would show
        ours = scramble(RMSNorm(8, eps=1e-6, gain=gain).double())
        theirs = nn.RMSNorm(8, eps=1e-6, elementwise_affine=gain).double()
        theirs.load_state_dict(ours.state_dict())
        torch.testing.assert_close(ours(x), theirs(x))

    @given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
    def test_invariances(self, scale: float, shift: float) -> None:
        x = noise(3, 64)
        rms, layer = RMSNorm(64, eps=1e-12).double(), LayerNorm(64, eps=1e-12).double()
        torch.testing.assert_close(rms(scale * x), rms(x))
        torch.testing.assert_close(layer(scale * x + shift), layer(x), atol=1e-6, rtol=1e-6)
        assert abs(shift) < 1e-3 or not torch.allclose(rms(x + shift), rms(x))  # RMSNorm takes no mean off

    def test_optional_parameters(self) -> None:
        assert len(list(LayerNorm(4).parameters())) == 2
        assert len(list(LayerNorm(4, bias=False).parameters())) == 1
        assert len(list(RMSNorm(4, gain=False).parameters())) == 0

    def test_half_precision_is_normalised_in_float32(self) -> None:
        x = torch.full((1, 4), 300.0, dtype=torch.float16)  # 300^2 overflows half precision
        assert RMSNorm(4).half()(x).tolist() == [[1, 1, 1, 1]]


class TestActivations:
    def test_formulas(self) -> None:
        x = torch.linspace(-4, 4, 41, dtype=torch.float64)
        normal = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        torch.testing.assert_close(activation("gelu")(x), x * normal)
        tanh = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        torch.testing.assert_close(activation("gelu-tanh")(x), tanh)
        torch.testing.assert_close(activation("silu")(x), x / (1 + torch.exp(-x)))
        torch.testing.assert_close(activation("relu")(x), x.clamp(min=0))

    def test_learned_starts_as_gelu_and_has_31_parameters(self) -> None:
        learned = LearnedActivation()
        assert sum(p.numel() for p in learned.parameters()) == 31
        x = torch.linspace(-6, 6, 200)
        assert (learned(x) - F.gelu(x)).abs().max() < 0.05
        knots = torch.linspace(-3, 3, 10)
        torch.testing.assert_close(learned(knots), F.gelu(knots), atol=1e-5, rtol=0)
        assert learned(torch.tensor([50.0])).item() == pytest.approx(50, abs=0.02)

    def test_unknown_is_named(self) -> None:
        with pytest.raises(ValueError, match="no activation 'swish': choose one of 'gelu'"):
            activation("swish")  # type: ignore[arg-type]


class TestFeedForward:
    def test_formulas(self) -> None:
        x = noise(2, 3, 4)
        plain, gated = scramble(FeedForward(4, 6).double()), scramble(SwiGLU(4, 6).double())
        assert isinstance(plain, FeedForward)
        assert isinstance(gated, SwiGLU)
        up = x @ plain.up_proj.weight.T + plain.up_proj.bias
        torch.testing.assert_close(plain(x), F.gelu(up) @ plain.down_proj.weight.T + plain.down_proj.bias)
        gate, value = x @ gated.gate_proj.weight.T, x @ gated.up_proj.weight.T
        torch.testing.assert_close(gated(x), (gate * torch.sigmoid(gate) * value) @ gated.down_proj.weight.T)

    def test_positions_do_not_mix(self) -> None:
        for layer in (FeedForward(4, 6).double(), SwiGLU(4, 6).double()):
            x = noise(1, 5, 4)
            order = torch.tensor([3, 1, 4, 0, 2])
            torch.testing.assert_close(layer(x)[:, order], layer(x[:, order]))

    def test_widths_of_the_systems(self) -> None:
        assert gated_width(4096, 8 / 3, 256) == 11_008  # Llama 7B
        assert gated_width(512, 8 / 3, 256) == 1536  # HRM
        assert (gated_width(228, 8 / 3), gated_width(228, 2 / 7)) == (608, 65)  # dlib
        assert (gated_width(256, 4), gated_width(256, 2)) == (1024, 512)  # SLiM, Doge


def block(**options: Any) -> Block:
    torch.manual_seed(0)
    made = Block(Attention(8, 2), SwiGLU(8, 12), RMSNorm(8), RMSNorm(8), **options).double()
    return scramble(made)  # type: ignore[return-value]


class TestBlock:
    def test_pre_norm(self) -> None:
        b, x, positions = block(), noise(2, 5, 8), torch.arange(5)
        middle = x + b.attention(b.attention_norm(x), positions)
        torch.testing.assert_close(b(x, positions), middle + b.feed_forward(b.feed_forward_norm(middle)))

    def test_post_norm(self) -> None:
        b, x, positions = block(norm_first=False), noise(2, 5, 8), torch.arange(5)
        middle = b.attention_norm(x + b.attention(x, positions))
        torch.testing.assert_close(b(x, positions), b.feed_forward_norm(middle + b.feed_forward(middle)))

    def test_residual_scale_is_per_channel_and_starts_at_one(self) -> None:
        scaled = Block(Attention(8, 2), SwiGLU(8, 12), RMSNorm(8), RMSNorm(8), residual_scale=8).double()
        plain = Block(scaled.attention, scaled.feed_forward, scaled.attention_norm, scaled.feed_forward_norm)
        x, positions = noise(2, 5, 8), torch.arange(5)
        torch.testing.assert_close(scaled(x, positions), plain(x, positions))
        with torch.no_grad():
            assert scaled.attention_residual is not None
            assert scaled.feed_forward_residual is not None
            scaled.attention_residual.copy_(torch.arange(8))
            scaled.feed_forward_residual.copy_(-torch.arange(8))
        middle = torch.arange(8) * x + scaled.attention(scaled.attention_norm(x), positions)
        expected = -torch.arange(8) * middle + scaled.feed_forward(scaled.feed_forward_norm(middle))
        torch.testing.assert_close(scaled(x, positions), expected)

    def test_dropout_in_training_only(self) -> None:
        b, x = block(dropout=0.5), noise(1, 5, 8)
        assert not torch.equal(b(x, torch.arange(5)), b(x, torch.arange(5)))
        torch.testing.assert_close(b.eval()(x, torch.arange(5)), block()(x, torch.arange(5)))

    @pytest.mark.parametrize("options", [{}, {"norm_first": False}, {"residual_scale": 8}])
    def test_causal_and_cached(self, options: dict[str, Any]) -> None:
        b, x = block(**options).eval(), noise(1, 6, 8)
        whole = b(x, torch.arange(6))
        changed = x.clone()
        changed[:, 4:] += 1
        torch.testing.assert_close(b(changed, torch.arange(6))[:, :4], whole[:, :4])
        with torch.no_grad():
            cache = LayerCache()
            steps = [b(x[:, t : t + 1], torch.arange(t, t + 1), cache=cache) for t in range(6)]
        torch.testing.assert_close(torch.cat(steps, dim=1), whole)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: LayerNorm(6),
            lambda: RMSNorm(6),
            lambda: RMSNorm(6, gain=False),
            lambda: FeedForward(6, 8),
            lambda: FeedForward(6, 8, activation="gelu-tanh", bias=False),
            lambda: FeedForward(6, 8, activation="silu"),
            lambda: SwiGLU(6, 8),
            lambda: SwiGLU(6, 8, bias=True, activation="gelu"),
        ],
    )
    def test_gradients_of_every_layer_against_finite_differences(self, make: Callable[[], nn.Module]) -> None:
        torch.manual_seed(0)
        self.check_gradients(scramble(make().double()), noise(2, 3, 6))

    @pytest.mark.parametrize("options", [{}, {"norm_first": False}, {"residual_scale": 8}])
    def test_gradients_of_blocks(self, options: dict[str, Any]) -> None:
        self.check_gradients(block(**options), noise(1, 4, 8), torch.arange(4))

    def test_gradients_of_the_learned_activation(self) -> None:
        self.check_gradients(LearnedActivation().double(), noise(3, 4))  # no entry falls on a kink

    @staticmethod
    def check_gradients(module: nn.Module, x: Tensor, *rest: Tensor) -> None:
        names = [name for name, _ in module.named_parameters()]

        def run(x: Tensor, *values: Tensor) -> Any:
            return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x, *rest))

        torch.manual_seed(0)
        assert torch.autograd.gradcheck(run, (x.requires_grad_(), *module.parameters()), fast_mode=True)


class TestInitialize:
    def make(self, kind: str, layers: int = 8) -> Block:
        torch.manual_seed(0)
        b = Block(Attention(256, 4, bias=True), FeedForward(256, 1024), LayerNorm(256), LayerNorm(256))
        initialize(b, kind, std=0.02, num_layers=layers)  # type: ignore[arg-type]
        return b

    @pytest.mark.parametrize(
        ("kind", "up", "down"),
        [("normal", 0.02, 0.02), ("scaled", 0.02, 0.02 / 4), ("lecun", 1 / 16, 1 / 32)],
    )
    def test_deviations(self, kind: str, up: float, down: float) -> None:
        b = self.make(kind)
        assert isinstance(b.feed_forward, FeedForward)
        # 262,144 weights each: the deviation of a standard deviation is 0.14 %, so 1 % is seven of them
        assert b.feed_forward.up_proj.weight.std().item() == pytest.approx(up, rel=0.01)
        assert b.feed_forward.down_proj.weight.std().item() == pytest.approx(down, rel=0.01)
        assert isinstance(b.attention, Attention)
        assert b.attention.q_proj.weight.std().item() == pytest.approx(up, rel=0.02)
        assert b.attention.q_proj.bias is not None
        assert b.attention.q_proj.bias.abs().max() == 0
        assert isinstance(b.attention_norm, LayerNorm)
        assert b.attention_norm.weight is not None
        assert b.attention_norm.weight.tolist() == [1] * 256

    def test_torch_leaves_everything(self) -> None:
        torch.manual_seed(0)
        b = Block(Attention(256, 4, bias=True), FeedForward(256, 1024), LayerNorm(256), LayerNorm(256))
        for mine, other in zip(self.make("torch").parameters(), b.parameters(), strict=True):
            assert torch.equal(mine, other)

    def test_scaled_keeps_a_deep_stream_at_the_variance_of_a_shallow_one(self) -> None:
        def growth(kind: str) -> float:
            torch.manual_seed(0)
            x = torch.randn(1, 16, 64)
            for _ in range(24):
                b = Block(Attention(64, 4), FeedForward(64, 256), LayerNorm(64), LayerNorm(64))
                initialize(b, kind, std=0.2, num_layers=24)  # type: ignore[arg-type]
                x = b(x, torch.arange(16))
            return x.var().item()

        assert growth("normal") > 10 * growth("scaled")

    def test_a_learned_activation_keeps_its_start(self) -> None:
        layer = FeedForward(4, 8, activation="learned")
        initialize(layer, "normal")
        x = torch.linspace(-3, 3, 10)
        torch.testing.assert_close(layer.activation(x), F.gelu(x), atol=1e-5, rtol=0)
