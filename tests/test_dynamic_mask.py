"""Dynamic mask attention against a literal loop, against plain and sliding-window attention, and against itself through caches."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minilm.attention import Attention, KVCache, LayerCache, causal_mask, document_mask, sliding_window_mask
from minilm.config import (
    AttentionConfig,
    BlockConfig,
    DynamicMaskConfig,
    FeedForwardConfig,
    ModelConfig,
    PositionConfig,
)
from minilm.dynamic_mask import DynamicMaskAttention, KeepCache, attend_with_bias, dynamic_mask_bias, keep_top
from minilm.embeddings import RotaryEmbedding
from minilm.generation import arrange_for_writing, beam_search, generate
from minilm.model import LanguageModel
from minilm.model.accounts import kv_cache_bytes
from minilm.presets import PRESETS, doge_parameters
from minilm.training import DocumentBatches, ScheduleConfig, Trainer, TrainingConfig, decay_branch

DIM, HEADS, LENGTH, KEEP = 16, 4, 13, 4
VARIANTS = ["head", "kv-head"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(per: str, keep: int = KEEP, kv_heads: int = 2, seed: int = 0, **options: object) -> DynamicMaskAttention:
    torch.manual_seed(seed)
    made = DynamicMaskAttention(DIM, HEADS, kv_heads, keep_window=keep, per=per, **options).double()
    for parameter in made.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    return made


def small_doge(per: str = "head", keep: int = KEEP, kv_heads: int = 2, **changes: object) -> LanguageModel:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=31,
        dim=DIM,
        num_layers=2,
        context_length=16,
        attention=AttentionConfig(
            HEADS,
            kv_heads,
            kind="dynamic-mask",
            dynamic_mask=DynamicMaskConfig(keep, per),
            qk_norm=per == "kv-head",
        ),
        feed_forward=FeedForwardConfig(24),
        positions=PositionConfig(interleaved=False),
        block=BlockConfig(residual_scale=True),
    )
    model = LanguageModel(config.replace(**changes)).double().eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    return model


@torch.no_grad()
def by_loop(attention: DynamicMaskAttention, x: Tensor, visible: Tensor) -> Tensor:
    """The definition, one number after the other: batch seq dim. `visible` is (batch, queries, keys)."""
    q, k, v = attention.project(x, torch.arange(x.shape[1]))
    group = attention.num_heads // attention.num_kv_heads
    out = torch.zeros_like(q)
    for b, h, i in itertools.product(range(len(x)), range(attention.num_heads), range(x.shape[1])):
        owner = h if attention.per == "head" else h // group
        weight, factor = attention.dt_proj.weight[owner], attention.A[owner]
        scored = []
        for j in range(x.shape[1]):
            if visible[b, i, j]:
                step = float(weight @ v[b, :, j].flatten())
                step += 0.0 if attention.dt_proj.bias is None else float(attention.dt_proj.bias[owner])
                scored.append((math.exp(float(factor) * math.log1p(math.exp(step))), j))
        kept = sorted(scored)[-attention.keep_window :]
        scores = [float(q[b, h, i] @ k[b, h // group, j]) / math.sqrt(attention.head_dim) + bias for bias, j in kept]
        total = sum(math.exp(score) for score in scores)
        for score, (_, j) in zip(scores, kept, strict=True):
            out[b, h, i] += math.exp(score) / total * v[b, h // group, j]
    return attention.o_proj(out.transpose(1, 2).flatten(2))


class TestDefinition:
    @pytest.mark.parametrize("per", VARIANTS)
    @pytest.mark.parametrize(
        ("keep", "kv_heads", "options"),
        [
            (KEEP, 2, {}),
            (KEEP, 4, {"qk_norm": True, "bias": True, "output_bias": True}),
            (KEEP, 1, {"head_dim": 6}),
            (1, 2, {}),
            (50, 2, {"qk_norm": True}),
            (3, 2, {"window": 6, "sinks": 1}),
        ],
    )
    def test_equals_a_literal_loop(self, per: str, keep: int, kv_heads: int, options: dict) -> None:
        rotary = RotaryEmbedding(options.get("head_dim", 4), interleaved=False)
        attention = layer(per, keep, kv_heads, rotary=rotary, **options)
        x = noise(2, LENGTH, DIM)
        visible = causal_mask(LENGTH)
        if "window" in options:
            visible = sliding_window_mask(LENGTH, options["window"], options["sinks"])
        expected = by_loop(attention, x, visible.expand(2, -1, -1))
        torch.testing.assert_close(attention(x, torch.arange(LENGTH)), expected)
        torch.testing.assert_close(attention.with_weights(x, torch.arange(LENGTH))[0], expected)

    @pytest.mark.parametrize("per", VARIANTS)
    def test_each_query_keeps_so_many(self, per: str) -> None:
        attention, x = layer(per), noise(2, 8, DIM)
        bias, kept = attention.dynamic_mask(x)
        assert kept.shape == (2, len(attention.A), 8, 8)
        assert (kept.sum(dim=-1) == torch.tensor([1, 2, 3, 4, 4, 4, 4, 4])).all()
        weights = attention.with_weights(x, torch.arange(8))[1]
        assert torch.equal(weights > 0, kept.repeat_interleave(HEADS // kept.shape[1], dim=1))
        dropped = bias[:, :, None].masked_fill(kept | ~causal_mask(8), -math.inf).amax(dim=-1)
        assert (bias[:, :, None].masked_fill(~kept, math.inf).amin(dim=-1) > dropped).all()

    def test_a_query_may_drop_its_own_position(self) -> None:
        _, kept = layer("head").dynamic_mask(noise(1, 30, DIM))
        own = kept.diagonal(dim1=-2, dim2=-1)
        assert own[..., :KEEP].all()
        assert not own.all()

    def test_the_mask_does_not_know_the_query(self) -> None:
        """Two queries that see the same keys keep the same, and what is dropped once never comes back."""
        _, kept = layer("head").dynamic_mask(noise(1, 30, DIM))
        for t in range(1, 30):
            assert not (kept[..., t, :t] & ~kept[..., t - 1, :t]).any()

    def test_owners(self) -> None:
        for per, owners in (("head", 4), ("kv-head", 2)):
            attention = DynamicMaskAttention(DIM, HEADS, 2, per=per)
            assert attention.A.shape == (owners,)
            assert attention.dt_proj.weight.shape == (owners, 8)
            assert (attention.A == 0).all()
            assert attention.dt_proj.bias is None

    def test_the_bias_of_a_key(self) -> None:
        values, weight = noise(2, 2, 5, 3), noise(4, 6, seed=1)
        bias = dynamic_mask_bias(values, weight, torch.tensor([0.0, -1.0, 1.0, 2.0], dtype=torch.float64))
        assert (bias[:, 0] == 1).all()  # A = 0
        assert ((bias[:, 1] > 0) & (bias[:, 1] < 1)).all()  # A < 0
        assert (bias[:, 2:] >= 1).all()  # A > 0
        both = values.transpose(1, 2).flatten(2)  # the values of all key-value heads in one vector
        torch.testing.assert_close(bias[:, 2], 1 + (both @ weight[2]).exp())  # exp(log(1 + e^s))

    def test_half_precision(self) -> None:
        attention = layer("kv-head").bfloat16()
        x = noise(2, LENGTH, DIM).bfloat16()
        assert attention.bias_of(attention.project(x, torch.arange(LENGTH))[2]).dtype == torch.float32
        assert attention(x, torch.arange(LENGTH)).dtype == torch.bfloat16
        wide = layer("kv-head", keep=50)
        expected = wide(noise(2, LENGTH, DIM), torch.arange(LENGTH))
        near = wide.bfloat16()(x, torch.arange(LENGTH)).double()
        assert (near - expected).abs().max() < 0.1 * expected.abs().max()


class TestKeepTop:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 10), st.integers(0, 10**6), st.booleans())
    def test_against_sorting_each_row(self, keys: int, queries: int, keep: int, seed: int, ties: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        bias = torch.randn(2, keys, generator=generator)
        if ties:
            bias = bias.round()
        allowed = torch.rand(2, queries, keys, generator=generator) < 0.7
        kept = keep_top(bias, allowed, keep)
        for b, i in itertools.product(range(2), range(queries)):
            best = sorted((float(bias[b, j]), j) for j in range(keys) if allowed[b, i, j])[-keep:]
            assert kept[b, i].nonzero().flatten().tolist() == sorted(j for _, j in best)

    def test_ties_go_to_the_later_key_also_where_rounding_hides_them(self) -> None:
        for step in (0.0, 3e-7, -3e-7):
            bias = 1 + step * torch.arange(5)
            assert keep_top(bias, torch.ones(1, 5, dtype=torch.bool), 2).int().tolist() == [[0, 0, 0, 1, 1]]

    def test_at_least_one(self) -> None:
        with pytest.raises(ValueError, match="keep = 0: a query keeps at least 1 key"):
            keep_top(torch.ones(3), causal_mask(3), 0)


class TestEqualities:
    @pytest.mark.parametrize("per", VARIANTS)
    def test_a_zero_within_the_window_is_grouped_query_attention(self, per: str) -> None:
        plain = Attention(DIM, HEADS, 2, rotary=RotaryEmbedding(4), qk_norm=True).double()
        ours = DynamicMaskAttention(DIM, HEADS, 2, keep_window=LENGTH, per=per, rotary=RotaryEmbedding(4), qk_norm=True)
        ours.double().load_state_dict(plain.state_dict(), strict=False)
        x = noise(2, LENGTH, DIM)
        torch.testing.assert_close(ours(x, torch.arange(LENGTH)), plain(x, torch.arange(LENGTH)))

    @pytest.mark.parametrize("per", VARIANTS)
    def test_a_zero_past_the_window_all_keys_tie_and_the_latest_are_kept(self, per: str) -> None:
        plain = Attention(DIM, HEADS, 2, rotary=RotaryEmbedding(4), window=KEEP).double()
        ours = DynamicMaskAttention(DIM, HEADS, 2, keep_window=KEEP, per=per, rotary=RotaryEmbedding(4)).double()
        ours.load_state_dict(plain.state_dict(), strict=False)
        x = noise(2, LENGTH, DIM)
        torch.testing.assert_close(ours(x, torch.arange(LENGTH)), plain(x, torch.arange(LENGTH)))

    def test_within_the_window_no_key_is_dropped(self) -> None:
        """So at the published settings, where the window is the training length, the mask is a learned bias."""
        for name in ("doge-20m", "doge-60m", "doge-160m", "doge-320m"):
            config = PRESETS[name]
            assert config.attention.dynamic_mask is not None
            assert config.attention.dynamic_mask.keep_window == config.context_length
        attention = layer("head", keep=LENGTH)
        assert torch.equal(attention.dynamic_mask(noise(1, LENGTH, DIM))[1][0, 0], causal_mask(LENGTH))

    @pytest.mark.parametrize("per", VARIANTS)
    def test_attention_with_a_bias_is_one_more_channel(self, per: str) -> None:
        q, k, v = noise(2, 4, 7, 5), noise(2, 2, 7, 5, seed=1), noise(2, 2, 7, 5, seed=2)
        bias = noise(2, 4 if per == "head" else 2, 7, seed=3)
        scores = (
            q @ k.repeat_interleave(2, 1).mT / math.sqrt(5) + bias.repeat_interleave(4 // bias.shape[1], 1)[:, :, None]
        )
        expected = scores.masked_fill(~causal_mask(7), -math.inf).softmax(dim=-1) @ v.repeat_interleave(2, 1)
        torch.testing.assert_close(attend_with_bias(q, k, v, bias, causal=True), expected)
        torch.testing.assert_close(attend_with_bias(q, k, v, bias, causal_mask(7)[None, None]), expected)


class TestGradient:
    @pytest.mark.parametrize("per", VARIANTS)
    def test_fast_and_readable_form_agree(self, per: str) -> None:
        attention, x = layer(per, rotary=RotaryEmbedding(4)), noise(2, LENGTH, DIM)
        forms = (attention(x, torch.arange(LENGTH)), attention.with_weights(x, torch.arange(LENGTH))[0])
        fast, readable = (torch.autograd.grad(out.sin().sum(), list(attention.parameters())) for out in forms)
        for one, other in zip(fast, readable, strict=True):
            torch.testing.assert_close(one, other)
        assert all(float(attention_grad.abs().max()) > 0 for attention_grad in fast)

    def test_a_against_finite_differences(self) -> None:
        attention, x = layer("head"), noise(1, LENGTH, DIM)

        def loss(factors: Tensor) -> Tensor:
            attention.A.data = factors
            return attention(x, torch.arange(LENGTH)).sin().sum()

        start = attention.A.data.clone()
        kept = attention.dynamic_mask(x)[1]
        (gradient,) = torch.autograd.grad(loss(start), attention.A)
        for i in range(HEADS):
            step = torch.zeros(HEADS, dtype=torch.float64)
            step[i] = 1e-6
            slope = (loss(start + step) - loss(start - step)) / 2e-6
            assert torch.equal(attention.dynamic_mask(x)[1], kept)  # a step so small changes no choice
            assert slope.item() == pytest.approx(gradient[i].item(), rel=1e-5)

    def test_only_chosen_biases_carry_gradient(self) -> None:
        q, k, v = noise(1, 1, 1, 4), noise(1, 1, 6, 4, seed=1), noise(1, 1, 6, 4, seed=2)
        bias = noise(1, 1, 6, seed=3).requires_grad_()
        kept = keep_top(bias, torch.ones(1, 6, dtype=torch.bool), 3)
        (gradient,) = torch.autograd.grad(attend_with_bias(q, k, v, bias, kept).sum(), bias)
        assert torch.equal(gradient[0, 0] != 0, kept[0, 0, 0])

    def test_at_a_zero_only_a_learns_at_first(self) -> None:
        attention = layer("head", keep=50)
        attention.A.data.zero_()
        attention(noise(1, LENGTH, DIM), torch.arange(LENGTH)).sin().sum().backward()
        assert attention.A.grad is not None
        assert attention.dt_proj.weight.grad is not None
        assert (attention.A.grad != 0).all()
        assert (attention.dt_proj.weight.grad == 0).all()


class TestMasks:
    @pytest.mark.parametrize("per", VARIANTS)
    @pytest.mark.parametrize("keep", [KEEP, 50])
    def test_causal(self, per: str, keep: int) -> None:
        attention, x = layer(per, keep, rotary=RotaryEmbedding(4)), noise(1, LENGTH, DIM)
        out = attention(x, torch.arange(LENGTH))
        for t in range(LENGTH):
            changed = x.clone()
            changed[:, t] += noise(DIM, seed=t + 1)
            difference = (attention(changed, torch.arange(LENGTH)) - out).abs().amax(dim=-1)[0]
            assert (difference[:t] == 0).all()
            assert difference[t:].max() > 1e-6

    @pytest.mark.parametrize("per", VARIANTS)
    def test_padding_takes_no_place_in_the_window(self, per: str) -> None:
        attention, x = layer(per), noise(2, LENGTH, DIM)
        mask = torch.arange(LENGTH) >= torch.tensor([[0], [5]])
        out = attention(x, torch.arange(LENGTH), mask[:, None, None])
        torch.testing.assert_close(out[0], attention(x, torch.arange(LENGTH))[0])
        torch.testing.assert_close(out[1, 5:], attention(x[1:, 5:], torch.arange(LENGTH - 5))[0])
        assert (out[1, :5] == 0).all()  # nothing to see is an output of zero

    @pytest.mark.parametrize("per", VARIANTS)
    def test_packed_documents_do_not_compete(self, per: str) -> None:
        model, ids = small_doge(per), torch.randperm(31)[None, :14]
        documents = torch.tensor([[0] * 6 + [1] * 8])
        positions = torch.tensor([[*range(6), *range(8)]])
        packed = model(ids, positions=positions, mask=document_mask(documents))
        torch.testing.assert_close(packed[:, :6], model(ids[:, :6]))
        torch.testing.assert_close(packed[:, 6:], model(ids[:, 6:]))

    def test_a_mask_with_heads_lets_each_head_choose(self) -> None:
        attention, x = layer("kv-head"), noise(1, LENGTH, DIM)
        mask = torch.ones(1, HEADS, 1, LENGTH, dtype=torch.bool)
        mask[:, 1, :, ::2] = False
        out, weights = attention.with_weights(x, torch.arange(LENGTH), mask)
        torch.testing.assert_close(attention(x, torch.arange(LENGTH), mask), out)
        assert (weights[:, 1, :, ::2] == 0).all()
        assert (weights[:, 1, -1] > 0).sum() == KEEP


CUTS = [[1] * 23, [23], [5] + [1] * 18, [20, 1, 1, 1], [3, 4, 1, 1, 6, 1, 2, 5]]


class TestCache:
    @pytest.mark.parametrize("per", VARIANTS)
    @pytest.mark.parametrize(("keep", "kv_heads"), [(1, 2), (KEEP, 1), (KEEP, 2), (KEEP, 4), (9, 2), (50, 2)])
    @pytest.mark.parametrize("zero", [False, True])
    def test_step_by_step_as_at_once(self, per: str, keep: int, kv_heads: int, zero: bool) -> None:
        """Tokens repeat: in the first layer they tie. With A = 0 everything does."""
        model = small_doge(per, keep, kv_heads)
        if zero:
            for block in model.core.layers:
                block.attention.A.data.zero_()
        ids = torch.randint(31, (2, 23), generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            whole = model(ids)
            for cuts in CUTS:
                for cache in (model.new_cache(2), KVCache([LayerCache(2), LayerCache(2)])):
                    pieces = [model(piece, cache) for piece in ids.split(cuts, dim=1)]
                    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)

    @pytest.mark.parametrize("per", VARIANTS)
    def test_left_padding(self, per: str) -> None:
        model, padding = small_doge(per), torch.tensor([0, 3, 6])
        ids = torch.randint(31, (3, 23), generator=torch.Generator().manual_seed(2))
        with torch.inference_mode():
            for cuts in CUTS:
                cache = model.new_cache(2, padding)
                out = torch.cat([model(piece, cache) for piece in ids.split(cuts, dim=1)], dim=1)
                for row, pad in enumerate(padding.tolist()):
                    torch.testing.assert_close(out[row : row + 1, pad:], model(ids[row : row + 1, pad:]))

    @pytest.mark.parametrize("per", VARIANTS)
    def test_it_stops_growing(self, per: str) -> None:
        model, masks = small_doge(per), 2 if per == "head" else 1
        cache = model.new_cache(2)
        sizes = []
        with torch.inference_mode():
            for token in torch.randint(31, (1, 40)).split(1, dim=1):
                model(token, cache)
                sizes.append(cache[0].capacity)
        assert max(sizes) == masks * KEEP + 1
        assert cache.length == 40
        assert all(((layer.bias > -math.inf).sum(dim=-1) == KEEP).all() for layer in cache)

    @pytest.mark.parametrize("per", VARIANTS)
    @pytest.mark.parametrize("length", [3, 40])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_its_bytes_are_those_of_the_accounts(self, per: str, length: int, dtype: torch.dtype) -> None:
        model = small_doge(per).to(dtype)
        cache = model.new_cache(length)
        with torch.inference_mode():
            model(torch.randint(31, (2, length)), cache)
        assert cache.nbytes == kv_cache_bytes(model.config, 2, length, dtype)

    @pytest.mark.parametrize("zero", [False, True])
    def test_a_window_keeps_its_ring(self, zero: bool) -> None:
        model = small_doge(attention={"window": 7, "sinks": 1})
        if zero:  # all keys tie, and slots of a ring are not in the order of age
            for block in model.core.layers:
                block.attention.A.data.zero_()
        ids = torch.randint(31, (1, 23), generator=torch.Generator().manual_seed(3))
        with torch.inference_mode():
            for cuts in CUTS:
                cache = model.new_cache()
                assert type(cache[0]) is LayerCache
                pieces = [model(piece, cache) for piece in ids.split(cuts, dim=1)]
                torch.testing.assert_close(torch.cat(pieces, dim=1), model(ids))

    @pytest.mark.parametrize("per", VARIANTS)
    def test_writing(self, per: str) -> None:
        model = small_doge(per, context_length=40)
        prompts = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 4, 5]]
        ways = [generate(model, prompts, 20, use_cache=cached) for cached in (True, False)]
        assert [text.ids for text in ways[0]] == [text.ids for text in ways[1]]
        beams = [beam_search(model, prompts[1], 8, use_cache=cached) for cached in (True, False)]
        assert [beam.ids for beam in beams[0]] == [beam.ids for beam in beams[1]]
        arranged = generate(arrange_for_writing(model), prompts, 20)
        assert [text.ids for text in arranged] == [text.ids for text in ways[0]]

    def test_going_back(self) -> None:
        model, ids = small_doge(), torch.randperm(31)[None, :20]
        with torch.inference_mode():
            cache = model.new_cache()
            model(ids[:, :KEEP], cache)
            cache.crop(2)
            torch.testing.assert_close(model(ids[:, 2:], cache), model(ids)[:, 2:])
            with pytest.raises(ValueError, match="a cache that has dropped keys cannot go back"):
                cache.crop(3)
            cache.crop(0)
            torch.testing.assert_close(model(ids, cache), model(ids))

    def test_what_it_refuses(self) -> None:
        attention, cache = layer("head"), KeepCache(8, KEEP, owners=2)
        x, place = noise(2, 1, DIM), torch.arange(1)
        with pytest.raises(RuntimeError, match="for writing, not for training"):
            attention(x, place, None, cache)
        with torch.inference_mode():
            with pytest.raises(ValueError, match="the mask has 4 heads"):
                attention(x, place, torch.ones(1, 4, 1, 1, dtype=torch.bool), cache)
            attention(x, place, None, cache)
            with pytest.raises(ValueError, match="the cache holds 2 sequences and got 1"):
                attention(x[:1], place, None, cache)
            with pytest.raises(TypeError, match="keeps keys by their bias"):
                Attention(DIM, HEADS, 2).double()(x, place, None, cache)


class TestDoge:
    def test_formula_and_model_agree(self) -> None:
        for dim, layers, heads, kv_heads, vocab in ((32, 2, 2, 1, 50), (48, 3, 4, 2, 70)):
            model = LanguageModel.from_preset(
                "doge-20m",
                vocab_size=vocab,
                dim=dim,
                num_layers=layers,
                attention={"num_heads": heads, "num_kv_heads": kv_heads},
                feed_forward={"hidden": 2 * dim},
            )
            assert model.num_parameters() == doge_parameters(dim, layers, heads, kv_heads, vocab)

    def test_where_it_starts(self) -> None:
        block = LanguageModel.from_preset("doge-20m", vocab_size=50, num_layers=1).core.layers[0]
        assert (block.attention_residual == 1).all()
        assert (block.feed_forward_residual == 1).all()
        assert (block.attention.A == 0).all()
        assert block.attention.head_dim == 128
        assert block.attention_norm.eps == 1e-6
        assert not block.attention.rotary.interleaved

    def test_residual_scales_act_channel_by_channel(self) -> None:
        block = small_doge().core.layers[0]
        x = noise(1, 5, DIM)
        middle = block.attention_residual * x + block.attention(block.attention_norm(x), torch.arange(5))
        expected = block.feed_forward_residual * middle + block.feed_forward(block.feed_forward_norm(middle))
        torch.testing.assert_close(block(x, torch.arange(5)), expected)

    def test_saved_and_loaded(self, tmp_path) -> None:
        model, ids = small_doge("kv-head").float(), torch.randint(31, (1, 20))
        model.save(tmp_path)
        again = LanguageModel.load(tmp_path).eval()
        assert again.config == model.config
        assert torch.equal(again(ids), model(ids))

    def test_accounts_of_the_published_model(self) -> None:
        """A token of a cache of Doge-20M: one key and one value of 128 a layer, the place, two biases."""
        config = PRESETS["doge-20m"]
        parts = LanguageModel.from_preset("doge-20m", device="meta", num_layers=1).summary(length=8).parts
        assert parts["attention"][0] == 2 * 65_536 + 2 * 32_768 + 256 + 2
        assert (parts["norms"][0], parts["residual scales"][0]) == (3 * 256, 2 * 256)
        assert kv_cache_bytes(config, 1, 2048) == 8 * 2048 * (2 * 128 * 4 + 8 + 2 * 4)
        assert kv_cache_bytes(config, 1, 10**6) == 8 * 4097 * (
            2 * 128 * 4 + 8 + 2 * 4
        )  # two heads may keep different keys
        assert kv_cache_bytes(PRESETS["doge-20m-hf"], 1, 10**6) == 8 * 2049 * (2 * 128 * 4 + 8 + 4)


# Steps of warm-up and plateau of the published checkpoints, and of the whole run.
SCHEDULES = {
    "20m": (800, 6400, 8000),
    "60m": (1600, 12_800, 16_000),
    "160m": (2400, 19_200, 24_000),
    "320m": (3200, 25_600, 32_000),
}


class TestSchedule:
    @pytest.mark.parametrize("size", list(SCHEDULES))
    def test_published_steps(self, size: str) -> None:
        warmup, stable, steps = SCHEDULES[size]
        config = TrainingConfig(steps=steps, schedule=ScheduleConfig("wsd", warmup=0.1, decay=0.1, final=0.0))
        factor = config.factor()
        assert config.last_stable_step == warmup + stable
        assert (factor(warmup // 2), factor(warmup), factor(warmup + stable)) == (0.5, 1.0, 1.0)
        assert factor(warmup - 1) < 1
        assert factor(warmup + stable + 1) < 1
        assert factor((warmup + stable + steps) // 2) == pytest.approx(0.5)
        assert factor(steps) == 0

    def test_a_plateau_checkpoint_goes_on_as_if_nothing_had_happened(self, tmp_path) -> None:
        """The Doge checkpoints are such: a run resumed from its plateau is the run that was never stopped; or it comes down early."""
        documents = [torch.randint(1, 31, (9,), generator=torch.Generator().manual_seed(i)).tolist() for i in range(30)]

        def trainer(name: str, config: TrainingConfig) -> Trainer:
            model = small_doge().float().train()
            return Trainer(model, DocumentBatches(documents, 4, end_id=0), config, out=tmp_path / name)

        config = TrainingConfig(
            steps=20,
            checkpoint_every=5,
            checkpoint_seconds=None,
            keep=None,
            schedule=ScheduleConfig("wsd", warmup=0.1, decay=0.1, final=0.0),
        )
        whole = trainer("whole", config)
        losses = [record.loss for record in whole.train()]
        for parameter in ("A", "dt_proj.weight"):
            start = small_doge().float().core.layers[0].attention.get_parameter(parameter)
            assert not torch.equal(whole.model.core.layers[0].attention.get_parameter(parameter), start)
        resumed = trainer("resumed", config)
        assert resumed.resume(tmp_path / "whole" / "checkpoints" / "step-00000010") == 10
        assert [record.loss for record in resumed.train()] == losses[10:]
        for one, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
            assert torch.equal(one, other)
        branch = decay_branch(config, step=10, decay=4)
        early = trainer("early", branch)
        assert early.resume(tmp_path / "whole" / "checkpoints" / "step-00000010") == 10
        assert len(early.train()) == 4
        assert branch.factor()(14) == 0


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"kind": "dynamic-mask"}, "kind = 'dynamic-mask' and dynamic_mask = None contradict each other; set both"),
            ({"dynamic_mask": DynamicMaskConfig()}, "kind = 'standard' and dynamic_mask = DynamicMaskConfig"),
            (
                {"kind": "dynamic-mask", "dynamic_mask": DynamicMaskConfig(), "causal": False},
                "a dynamic mask is for causal attention; leave prefix = 0 at 0 and causal = False at True",
            ),
            ({"kind": "dynamic-mask", "dynamic_mask": DynamicMaskConfig(), "prefix": 3}, "leave prefix = 3 at 0"),
        ],
    )
    def test_contradictions(self, options: dict, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            AttentionConfig(2, **options)

    def test_values(self) -> None:
        with pytest.raises(ValueError, match=r"DynamicMaskConfig.keep_window = 0: it must be above 0"):
            DynamicMaskConfig(0)
        with pytest.raises(ValueError, match=r"DynamicMaskConfig.per = 'layer': expected one of 'head', 'kv-head'"):
            DynamicMaskConfig(per="layer")
        with pytest.raises(ValueError, match="keep_window = 0: a query keeps at least 1 key"):
            DynamicMaskAttention(8, 2, keep_window=0)
        with pytest.raises(ValueError, match="per = 'layer': choose 'head' or 'kv-head'"):
            DynamicMaskAttention(8, 2, per="layer")

    def test_positions_that_act_on_scores_are_refused_by_name(self) -> None:
        with pytest.raises(TypeError, match="DynamicMaskAttention takes no 'alibi'"):
            small_doge(positions={"kind": "alibi"})

    def test_the_config_survives_json(self) -> None:
        config = PRESETS["doge-20m-hf"]
        assert ModelConfig.from_json(config.to_json()) == config
