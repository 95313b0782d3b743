import math
from typing import Any

import pytest
import torch
from torch import Tensor

from minilm.block import RMSNorm
from minilm.config import MoEConfig
from minilm.embeddings import sinusoidal_positions
from minilm.exhibits import (
    FusedAttention,
    FusedFeedForward,
    UpstreamCDMoE,
    WholeSampleNorm,
    batch_leak,
    count_as_dlib,
    dlib_sinusoidal_positions,
    fused_block,
    future_leak,
    upstream_router_view,
)
from minilm.model import LanguageModel
from tests.oracles import small_config


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestWholeSampleNorm:
    def test_one_scale_a_sample_and_one_parameter(self) -> None:
        norm, x = WholeSampleNorm(8).double(), 5 * noise(3, 4, 8)
        out = norm(x)
        torch.testing.assert_close(out.square().mean(dim=(1, 2)), torch.ones(3).double(), atol=1e-5, rtol=0)
        torch.testing.assert_close(out / x, (out / x)[:, :1, :1].expand(3, 4, 8))
        assert sum(p.numel() for p in norm.parameters()) == 1

    def test_it_leaks_the_future_and_a_norm_per_position_does_not(self) -> None:
        ids = torch.randint(3500, (1, 100), generator=torch.Generator().manual_seed(0))
        torch.manual_seed(0)
        leaking = LanguageModel.from_preset("dlib-bpe", head={"kind": "per_token"}).eval()
        assert 1e-4 < future_leak(leaking, ids, replacement=7) < 1e-1
        torch.manual_seed(0)
        norm = {"kind": "rms", "eps": 1e-5}
        sound = LanguageModel.from_preset("dlib-bpe", head={"kind": "per_token"}, norm=norm).eval()
        assert future_leak(sound, ids, replacement=7) < 1e-6
        with pytest.raises(ValueError, match="nothing would change"):
            future_leak(sound, ids, replacement=int(ids[0, -1]))

    def test_gradients(self) -> None:
        norm = WholeSampleNorm(4).double()
        assert torch.autograd.gradcheck(lambda x, _: norm(x), (noise(2, 3, 4).requires_grad_(), norm.weight))
        # the leak, seen from the other side: position 0's output depends on position 2's input
        x = noise(1, 3, 4).requires_grad_()
        norm(x)[0, 0].sum().backward()
        assert x.grad is not None
        assert x.grad[0, 2].abs().min() > 0
        rms = RMSNorm(4).double()
        (gradient,) = torch.autograd.grad(rms(x)[0, 0].sum(), x)
        assert gradient[0, 2].abs().max() == 0


class TestSinusoidal:
    def test_formula_by_hand(self) -> None:
        waves = dlib_sinusoidal_positions(torch.arange(5), 6)
        for r in range(5):
            for c in range(6):
                angle = r / 10_000 ** (c / 6)
                expected = math.sin(angle) if c % 2 == 0 else math.cos(angle)
                assert waves[r, c].item() == pytest.approx(expected, abs=1e-6)

    def test_only_even_channels_agree_with_the_standard(self) -> None:
        positions = torch.arange(1, 40)
        ours, theirs = sinusoidal_positions(positions, 16), dlib_sinusoidal_positions(positions, 16)
        torch.testing.assert_close(ours[:, 0::2], theirs[:, 0::2])
        assert (ours[:, 1:8:2] - theirs[:, 1:8:2]).abs().max() > 0.1

    def test_shifts_are_no_longer_rotations(self) -> None:
        """The dot product of two positions depends on more than their distance."""

        def spread(waves: Tensor) -> float:
            dots = torch.stack([waves[i] @ waves[i + 10] for i in range(40)])
            return float(dots.max() - dots.min())

        positions = torch.arange(50)
        assert spread(sinusoidal_positions(positions, 64)) < 1e-4
        assert spread(dlib_sinusoidal_positions(positions, 64)) > 1


class TestFusedBlock:
    def test_counts_of_the_published_model(self) -> None:
        block = fused_block(dim=64, num_heads=4, hidden=256, context_length=50)
        assert sum(p.numel() for p in block.parameters()) == 614_400 + 4_096 + 819_456 + 16_448 + 2

    def test_attention_by_loops(self) -> None:
        torch.manual_seed(0)
        attention, x = FusedAttention(8, 2, context_length=3).double(), noise(1, 3, 8)
        q, k, v = (attention.qkv_proj.weight @ x.flatten()).view(3, 2, 4)
        mixed = torch.zeros(2, 4, dtype=torch.float64)
        for head in range(2):
            for i in range(4):  # a feature of the query looks at "earlier" features of the key
                weights = torch.softmax(q[head, i] * k[head, : i + 1] / 2, dim=0)
                mixed[head, i] = weights @ v[head, : i + 1]
        out = attention(x, torch.arange(3))
        torch.testing.assert_close(out[0, 0], attention.o_proj.weight @ mixed.flatten())

    def test_only_the_first_row_of_the_stream_ever_changes(self) -> None:
        torch.manual_seed(0)
        block, x = fused_block(8, 2, 16, context_length=5).double(), noise(2, 5, 8)
        out = block(x, torch.arange(5))
        assert torch.equal(out[:, 1:], x[:, 1:])
        assert (out[:, 0] - x[:, 0]).abs().max() > 1e-3

    def test_it_is_not_causal(self) -> None:
        torch.manual_seed(0)
        block, x = fused_block(8, 2, 16, context_length=5).double(), noise(1, 5, 8)
        changed = x.clone()
        changed[:, 4] += 1
        moved = (block(changed, torch.arange(5)) - block(x, torch.arange(5)))[:, :4].abs().amax(-1)[0]
        assert moved[0] > 1e-3  # the first row hears of the last
        assert moved[1:].max() == 0

    def test_gradients(self) -> None:
        torch.manual_seed(0)
        attention, feed_forward = FusedAttention(4, 2, context_length=3), FusedFeedForward(4, 6, context_length=3)
        x = noise(2, 3, 4).requires_grad_()
        for layer, rest in ((attention.double(), (torch.arange(3),)), (feed_forward.double(), ())):
            inputs = (x, *layer.parameters())
            assert torch.autograd.gradcheck(lambda x, *_, f=layer, rest=rest: f(x, *rest), inputs, fast_mode=True)

    def test_refusals(self) -> None:
        block = fused_block(8, 2, 16, context_length=5)
        with pytest.raises(ValueError, match="windows of exactly 5 positions and got 4: pad on the left"):
            block(torch.zeros(1, 4, 8), torch.arange(4))
        with pytest.raises(ValueError, match="neither masks nor a cache"):
            block(torch.zeros(1, 5, 8), torch.arange(5), mask=torch.ones(1, 1, 5, 5, dtype=torch.bool))
        with pytest.raises(ValueError, match="wants equal heads"):
            FusedAttention(8, 4, 2, context_length=5)


def cdmoe_model(feed_forward: Any = None, seed: int = 0) -> LanguageModel:
    moe = MoEConfig(num_experts=64, top_k=4, route="product-key", scoring="softmax-chosen")
    config = small_config(vocab_size=40, num_layers=2, feed_forward={"hidden": 24, "moe": moe})
    torch.manual_seed(seed)
    model = LanguageModel(config, feed_forward=feed_forward).double().eval()
    for parameter in model.parameters():
        parameter.data.mul_(8)
    return model


class TestUpstreamRouterView:
    ids = torch.randint(40, (3, 16), generator=torch.Generator().manual_seed(0))

    @pytest.mark.parametrize("tokens", [1, 2, 5, 8])
    def test_whose_scores_a_token_gets(self, tokens: int) -> None:
        keys = 3
        scores = noise(tokens, 2 * keys)
        x, y = upstream_router_view(scores)
        halves = scores.view(tokens, 2, keys)
        for t in range(tokens):
            assert torch.equal(x[t], halves[t // 2, t % 2])
            assert torch.equal(y[t], halves[(tokens + t) // 2, (tokens + t) % 2])

    def test_it_leaks_the_future_and_the_correct_router_does_not(self) -> None:
        for seed in range(3):
            mixing, sound = cdmoe_model(UpstreamCDMoE, seed), cdmoe_model(seed=seed)
            assert future_leak(mixing, self.ids[:1], replacement=7) > 1e-2
            assert future_leak(sound, self.ids[:1], replacement=7) < 1e-12

    def test_it_mixes_the_sequences_of_a_batch_and_the_correct_router_does_not(self) -> None:
        for seed in range(3):
            mixing, sound = cdmoe_model(UpstreamCDMoE, seed), cdmoe_model(seed=seed)
            assert batch_leak(mixing, self.ids, replacement=7) > 1e-2
            assert batch_leak(sound, self.ids, replacement=7) < 1e-12
        with pytest.raises(ValueError, match="a batch of 1"):
            batch_leak(sound, self.ids[:1], replacement=7)
        with pytest.raises(ValueError, match="nothing would change"):
            batch_leak(sound, torch.full((2, 3), 7), replacement=7)

    def test_one_token_at_a_time_hides_it(self) -> None:
        mixing, sound = cdmoe_model(UpstreamCDMoE), cdmoe_model()
        one = self.ids[:1, :1]
        torch.testing.assert_close(mixing(one), sound(one), atol=1e-12, rtol=0)
        assert (mixing(self.ids) - sound(self.ids)).abs().max() > 1e-2

    def test_no_cache(self) -> None:
        with pytest.raises(ValueError, match="the upstream router view lets later tokens choose"):
            cdmoe_model(UpstreamCDMoE).new_cache()
        sound = cdmoe_model()
        cache = sound.new_cache()
        with torch.no_grad():
            steps = [sound(self.ids[:, t : t + 1], cache) for t in range(16)]
        torch.testing.assert_close(torch.cat(steps, 1), sound(self.ids), atol=1e-12, rtol=0)


def test_count_as_dlib_leaves_tables_out_unless_they_are_the_head() -> None:
    tied = LanguageModel.from_preset("slim", device="meta")
    untied = LanguageModel.from_preset("slim", head={"tied": False}, device="meta")
    learned = LanguageModel.from_preset("mnemos", device="meta")
    assert count_as_dlib(tied) == tied.num_parameters()
    assert count_as_dlib(untied) == untied.num_parameters() - 4096 * 256 == tied.num_parameters()
    assert count_as_dlib(learned) == 3_701_248 - 1024 * 256 - 64 * 256
