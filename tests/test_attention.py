from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from minilm.attention import (
    Attention,
    KVCache,
    LayerCache,
    attend,
    attend_fast,
    causal_mask,
    document_mask,
    padding_mask,
    prefix_mask,
    sliding_window_mask,
    visibility,
)
from minilm.config import RotaryScaling
from minilm.embeddings import RelativePositions, RotaryEmbedding


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


DIM, HEADS, LENGTH = 16, 4, 11

# Every kind of attention, by name; `causal` ones must not see the future, `cached` ones work step by step.
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped": {"num_kv_heads": 2},
    "multi-query": {"num_kv_heads": 1},
    "rotary": {"rotary": lambda: RotaryEmbedding(4)},
    "rotary half-split, partial": {"rotary": lambda: RotaryEmbedding(2, interleaved=False)},
    "yarn": {"rotary": lambda: RotaryEmbedding(4, scaling=RotaryScaling("yarn", 4.0, 4))},
    "alibi": {"alibi": True, "num_kv_heads": 2},
    "relative": {"relative": lambda: RelativePositions(4, 3), "num_kv_heads": 2},
    "window": {"window": 3, "rotary": lambda: RotaryEmbedding(4)},
    "window of one": {"window": 1},
    "window and sinks": {"window": 3, "sinks": 2, "num_kv_heads": 2, "rotary": lambda: RotaryEmbedding(4)},
    "window with alibi": {"window": 4, "sinks": 1, "alibi": True},
    "window with relative": {"window": 4, "relative": lambda: RelativePositions(4, 3)},
    "window longer than the text": {"window": 50},
    "qk-norm": {"qk_norm": True, "rotary": lambda: RotaryEmbedding(4)},
    "biases, own head_dim": {"bias": True, "output_bias": True, "head_dim": 6},
    "prefix": {"prefix": 4},
    "bidirectional": {"causal": False, "rotary": lambda: RotaryEmbedding(4)},
    "bidirectional alibi": {"causal": False, "alibi": True},
}
CAUSAL = [name for name in KINDS if "bidirectional" not in name and name != "prefix"]
CACHED = [name for name in KINDS if "bidirectional" not in name]


def layer(name: str, seed: int = 0) -> Attention:
    torch.manual_seed(seed)
    options = {key: value() if callable(value) else value for key, value in KINDS[name].items()}
    return Attention(DIM, HEADS, **options).double()


class TestMasks:
    def test_by_hand(self) -> None:
        assert causal_mask(3).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
        assert sliding_window_mask(5, 2, sinks=1).int().tolist() == [
            [1, 0, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 0, 1, 1, 0],
            [1, 0, 0, 1, 1],
        ]
        assert prefix_mask(4, 2).int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
        assert padding_mask(torch.tensor([[0, 0, 7]]), 0).int().tolist() == [[[[0, 0, 1]]]]
        assert document_mask(torch.tensor([[0, 0, 1]])).int().tolist() == [[[[1, 1, 0], [1, 1, 0], [0, 0, 1]]]]

    @given(n=st.integers(1, 12), window=st.integers(1, 14), sinks=st.integers(0, 4))
    def test_window_counts(self, n: int, window: int, sinks: int) -> None:
        seen = sliding_window_mask(n, window, sinks).sum(dim=1).tolist()
        assert seen == [len({*range(min(sinks, t + 1)), *range(max(0, t - window + 1), t + 1)}) for t in range(n)]

    def test_places_may_come_in_any_order(self) -> None:
        places = torch.tensor([7, 0, 6, 3])
        expected = sliding_window_mask(8, 3, sinks=1)[7][places]
        assert torch.equal(visibility(torch.tensor([7]), places, window=3, sinks=1)[0], expected)


class TestFunctions:
    @given(
        heads=st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)]),
        queries=st.integers(1, 7),
        extra=st.integers(0, 5),
        dim=st.sampled_from([1, 4, 8]),
        masked=st.booleans(),
    )
    @settings(max_examples=60, deadline=None)
    def test_readable_equals_fast(
        self, heads: tuple[int, int], queries: int, extra: int, dim: int, masked: bool
    ) -> None:
        keys = queries + extra
        q, k, v = (
            noise(2, heads[0], queries, dim),
            noise(2, heads[1], keys, dim, seed=1),
            noise(2, heads[1], keys, dim, seed=2),
        )
        mask = (noise(2, 1, queries, keys, seed=3) > 0) if masked else None  # some rows see nothing
        out, weights = attend(q, k, v, mask)
        torch.testing.assert_close(out, attend_fast(q, k, v, mask))
        seen = torch.ones(2, 1, queries) if mask is None else mask.any(-1).double()
        torch.testing.assert_close(weights.sum(-1), seen.double().expand(2, heads[0], queries))

    def test_causal_flag_equals_the_mask(self) -> None:
        q, k, v = noise(2, 4, 9, 8), noise(2, 2, 9, 8, seed=1), noise(2, 2, 9, 8, seed=2)
        torch.testing.assert_close(attend_fast(q, k, v, causal=True), attend(q, k, v, causal_mask(9))[0])

    def test_groups_are_consecutive_heads(self) -> None:
        q, k, v = noise(1, 4, 5, 8), noise(1, 2, 5, 8, seed=1), noise(1, 2, 5, 8, seed=2)
        out, _ = attend(q, k, v)
        for head in range(4):
            alone, _ = attend(q[:, [head]], k[:, [head // 2]], v[:, [head // 2]])
            torch.testing.assert_close(out[:, [head]], alone)

    def test_the_scale_keeps_scores_at_variance_one(self) -> None:
        for dim in (16, 256):
            q, k = noise(1, 1, 400, dim), noise(1, 1, 400, dim, seed=1)
            _, weights = attend(q, k, k)
            # log-weights differ from the scores by a constant per row, so their variance within rows is the scores'
            assert weights.log().var(dim=-1).mean().item() == pytest.approx(1.0, abs=0.05)

    def test_a_row_that_sees_nothing_gives_zero_and_sends_no_gradient(self) -> None:
        mask = causal_mask(4)
        mask[2] = False
        for form in (lambda *a: attend(*a)[0], attend_fast):
            q, k, v = (noise(1, 2, 4, 8, seed=s).requires_grad_() for s in range(3))
            out = form(q, k, v, mask)
            out.square().sum().backward()
            assert out[:, :, 2].abs().max() == 0
            assert q.grad is not None
            assert k.grad is not None
            assert q.grad[:, :, 2].abs().max() == 0
            assert q.grad.isfinite().all()
            assert k.grad.isfinite().all()


class TestLayer:
    @pytest.mark.parametrize("name", KINDS)
    def test_fast_equals_readable(self, name: str) -> None:
        attention, x = layer(name), noise(2, LENGTH, DIM)
        out, weights = attention.with_weights(x, torch.arange(LENGTH))
        torch.testing.assert_close(attention(x, torch.arange(LENGTH)), out)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, HEADS, LENGTH).double())

    @pytest.mark.parametrize("name", KINDS)
    def test_fast_equals_readable_under_masks(self, name: str) -> None:
        attention, x, positions = layer(name), noise(2, LENGTH, DIM), torch.arange(LENGTH)
        ids = torch.ones(2, LENGTH)
        ids[1, :3] = 0  # left padding: the first rows of the second sequence see nothing
        for mask in (padding_mask(ids, 0), document_mask((torch.arange(LENGTH) // 4).expand(2, -1))):
            out = attention(x, positions, mask)
            torch.testing.assert_close(out, attention.with_weights(x, positions, mask)[0])
            assert out.isfinite().all()

    def test_equals_pytorch_multihead_attention(self) -> None:
        ours, theirs = layer("biases, own head_dim"), None
        ours = Attention(DIM, HEADS, bias=True, output_bias=True).double()
        theirs = nn.MultiheadAttention(DIM, HEADS, batch_first=True).double()
        with torch.no_grad():
            theirs.in_proj_weight.copy_(torch.cat([ours.q_proj.weight, ours.k_proj.weight, ours.v_proj.weight]))
            theirs.in_proj_bias.copy_(torch.cat([ours.q_proj.bias, ours.k_proj.bias, ours.v_proj.bias]))
            theirs.out_proj.load_state_dict(ours.o_proj.state_dict())
        x = noise(2, LENGTH, DIM)
        expected, weights = theirs(x, x, x, attn_mask=~causal_mask(LENGTH), average_attn_weights=False)
        out, own_weights = ours.with_weights(x, torch.arange(LENGTH))
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(own_weights, weights)
        torch.testing.assert_close(ours(x, torch.arange(LENGTH)), expected)

    @pytest.mark.parametrize("name", KINDS)
    def test_gradients_against_finite_differences(self, name: str) -> None:
        attention, x, positions = layer(name), noise(1, 5, DIM).requires_grad_(), torch.arange(5)
        parameters = dict(attention.named_parameters())

        def run(x: Tensor, *values: Tensor) -> Tensor:
            out = torch.func.functional_call(attention, dict(zip(parameters, values, strict=True)), (x, positions))
            assert isinstance(out, Tensor)
            return out

        torch.manual_seed(0)
        # fast mode: one random direction instead of every coordinate
        assert torch.autograd.gradcheck(run, (x, *parameters.values()), fast_mode=True)

    @pytest.mark.parametrize("name", KINDS)
    @pytest.mark.parametrize("form", ["fast", "readable"])
    def test_the_future_is_hidden_exactly_where_it_should_be(self, name: str, form: str) -> None:
        attention, x, positions = layer(name), noise(1, LENGTH, DIM), torch.arange(LENGTH)
        run = attention if form == "fast" else lambda *a: attention.with_weights(*a)[0]
        before = run(x, positions)
        leaks = []
        for t in range(1, LENGTH):
            changed = x.clone()
            changed[:, t:] += noise(1, LENGTH - t, DIM, seed=t)
            if (run(changed, positions)[:, :t] - before[:, :t]).abs().max() > 1e-9:
                leaks.append(t)
        if name in CAUSAL:
            assert leaks == []
        elif name == "prefix":
            assert leaks == [1, 2, 3]  # changing position 4 and later is not seen before; the prefix sees itself
        else:
            assert leaks == list(range(1, LENGTH))

    @pytest.mark.parametrize("name", ["plain", "window", "alibi"])
    def test_each_position_uses_all_that_it_may_see(self, name: str) -> None:
        """Hiding too much would pass the test above."""
        attention = layer(name)
        x = noise(1, LENGTH, DIM).requires_grad_()
        attention(x, torch.arange(LENGTH))[0, -1].sum().backward()
        assert x.grad is not None
        seen = (x.grad[0].abs().sum(-1) > 0).tolist()
        width = attention.window or LENGTH
        assert seen == [False] * (LENGTH - width) + [True] * width

    def test_state_dict_names_and_no_mask_in_it(self) -> None:
        assert set(layer("grouped").state_dict()) == {f"{n}_proj.weight" for n in "qkvo"}
        for name in ("window and sinks", "alibi", "rotary"):
            attention = layer(name)
            attention(noise(1, LENGTH, DIM), torch.arange(LENGTH))
            assert set(attention.state_dict()) == {f"{n}_proj.weight" for n in "qkvo"}
        assert {"q_norm.weight", "k_norm.weight"} <= set(layer("qk-norm").state_dict())

    def test_positions_of_each_row_restart_with_documents(self) -> None:
        attention, x = layer("rotary"), noise(1, 6, DIM)
        documents = torch.tensor([[0, 0, 0, 1, 1, 1]])
        packed = attention(x, torch.tensor([[0, 1, 2, 0, 1, 2]]), document_mask(documents))
        torch.testing.assert_close(packed[:, 3:], attention(x[:, 3:], torch.arange(3)))

    def test_masks_kept_from_inference_serve_training(self) -> None:
        attention, x = layer("window"), noise(1, LENGTH, DIM)
        with torch.inference_mode():
            attention(x, torch.arange(LENGTH))
        attention(x.requires_grad_(), torch.arange(LENGTH)).sum().backward()
        assert x.grad is not None

    def test_dropout_acts_in_training_only(self) -> None:
        attention = Attention(DIM, HEADS, dropout=0.5).double()
        x = noise(1, LENGTH, DIM)
        assert not torch.equal(attention(x, torch.arange(LENGTH)), attention(x, torch.arange(LENGTH)))
        attention.eval()
        assert torch.equal(attention(x, torch.arange(LENGTH)), attention(x, torch.arange(LENGTH)))

    def test_bad_input_names_the_value_and_the_fix(self) -> None:
        with pytest.raises(ValueError, match=r"dim = 10 is not divisible by num_heads = 4.*\[1, 2, 5, 10\] heads"):
            Attention(10, 4)
        with pytest.raises(ValueError, match=r"num_kv_heads = 3 does not divide num_heads = 4.*\[1, 2, 4\]"):
            Attention(8, 4, 3)
        attention, x = layer("plain"), noise(1, 4, DIM)
        with pytest.raises(TypeError, match=r"torch.bool .True: may look., got torch.float32"):
            attention(x, torch.arange(4), torch.zeros(4, 4))
        with pytest.raises(ValueError, match=r"shape \[1, 4, 4\].*mask\[:, None\]"):
            attention(x, torch.arange(4), torch.ones(1, 4, 4, dtype=torch.bool))
        with pytest.raises(ValueError, match="mask speaks of 3 keys and there are 4"):
            attention(x, torch.arange(4), torch.ones(1, 1, 1, 3, dtype=torch.bool))


def cache_for(attention: Attention, capacity: int = 4) -> LayerCache:
    return LayerCache(capacity, attention.window, attention.sinks)


class TestCache:
    @pytest.mark.parametrize("name", CACHED)
    @given(data=st.data())
    @settings(max_examples=12, deadline=None)
    def test_any_chunks_equal_the_whole(self, name: str, data: st.DataObject) -> None:
        attention, x = layer(name).eval(), noise(2, LENGTH, DIM)
        positions = torch.arange(LENGTH)
        first = data.draw(st.integers(max(1, attention.prefix), LENGTH), label="first chunk")
        sizes = [first]
        while sum(sizes) < LENGTH:
            sizes.append(data.draw(st.integers(1, LENGTH - sum(sizes)), label="chunk"))
        with torch.no_grad():
            whole, cache, start, parts = attention(x, positions), cache_for(attention), 0, []
            for size in sizes:
                parts.append(attention(x[:, start : start + size], positions[start : start + size], cache=cache))
                start += size
        torch.testing.assert_close(torch.cat(parts, dim=1), whole)
        assert cache.length == LENGTH

    @pytest.mark.parametrize("name", CACHED)
    def test_step_by_step(self, name: str) -> None:
        attention, x = layer(name).eval(), noise(2, 40, DIM)
        start = max(1, attention.prefix)
        with torch.inference_mode():
            whole, cache = attention(x, torch.arange(40)), cache_for(attention)
            parts = [attention(x[:, :start], torch.arange(start), cache=cache)]
            for t in range(start, 40):
                parts.append(attention(x[:, t : t + 1], torch.arange(t, t + 1), cache=cache))
        torch.testing.assert_close(torch.cat(parts, dim=1), whole)

    @pytest.mark.parametrize("name", ["plain", "grouped", "window and sinks", "alibi"])
    def test_with_a_padding_mask(self, name: str) -> None:
        attention, x = layer(name).eval(), noise(2, LENGTH, DIM)
        mask = torch.ones(2, 1, 1, LENGTH, dtype=torch.bool)
        mask[1, ..., :3] = False
        with torch.no_grad():
            whole, cache = attention(x, torch.arange(LENGTH), mask), cache_for(attention)
            parts = [attention(x[:, :4], torch.arange(4), mask[..., :4], cache)]
            for t in range(4, LENGTH):
                parts.append(attention(x[:, t : t + 1], torch.arange(t, t + 1), mask[..., : t + 1], cache))
        torch.testing.assert_close(torch.cat(parts, dim=1), whole)

    def test_memory_is_taken_once_and_doubled(self) -> None:
        cache, step = LayerCache(capacity=4), noise(2, 3, 1, 8)
        cache.append(step, step)
        assert cache.keys is not None
        address = cache.keys.data_ptr()
        for _ in range(3):
            keys, _, _ = cache.append(step, step)
        assert keys.data_ptr() == cache.keys.data_ptr() == address
        assert cache.nbytes == 2 * 2 * 3 * 4 * 8 * 8
        cache.append(step, step)
        assert cache.capacity == 8
        assert cache.nbytes == 2 * 2 * 3 * 8 * 8 * 8

    def test_a_window_bounds_memory(self) -> None:
        cache, step = LayerCache(window=3, sinks=2), noise(1, 1, 1, 4)
        for _ in range(50):
            keys, _, places = cache.append(step, step)
        assert keys.shape[2] == 5
        assert places is not None
        assert sorted(places.tolist()) == [0, 1, 47, 48, 49]
        assert cache.nbytes == 2 * 5 * 4 * 8

    def test_a_window_over_a_cache_that_keeps_everything(self) -> None:
        attention, x = layer("window").eval(), noise(1, 9, DIM)
        with torch.no_grad():
            cache = LayerCache()
            steps = [attention(x[:, t : t + 1], torch.arange(t, t + 1), cache=cache) for t in range(9)]
            torch.testing.assert_close(torch.cat(steps, dim=1), attention(x, torch.arange(9)))

    def test_crop_goes_back(self) -> None:
        attention, x = layer("rotary").eval(), noise(1, 6, DIM)
        with torch.no_grad():
            cache = cache_for(attention)
            attention(noise(1, 8, DIM, seed=9), torch.arange(8), cache=cache)
            cache.crop(0)
            attention(x[:, :5], torch.arange(5), cache=cache)
            attention(noise(1, 1, DIM, seed=9), torch.arange(5, 6), cache=cache)
            cache.crop(5)
            last = attention(x[:, 5:], torch.arange(5, 6), cache=cache)
            torch.testing.assert_close(last, attention(x, torch.arange(6))[:, 5:])
        with pytest.raises(ValueError, match="cannot crop a cache of 6 positions to 7"):
            cache.crop(7)

    def test_started_in_inference_mode_continued_outside(self) -> None:
        attention, x = layer("window and sinks").eval(), noise(1, 9, DIM)
        cache = cache_for(attention)
        with torch.inference_mode():
            attention(x[:, :4], torch.arange(4), cache=cache)
        with torch.no_grad():
            last = attention(x[:, 4:], torch.arange(4, 9), cache=cache)
            torch.testing.assert_close(last, attention(x, torch.arange(9))[:, 4:])

    def test_refusals_name_the_reason(self) -> None:
        x = noise(1, 3, DIM)
        with torch.no_grad():
            with pytest.raises(ValueError, match="causal=False cannot use a cache"):
                layer("bidirectional")(x, torch.arange(3), cache=LayerCache())
            with pytest.raises(ValueError, match=r"whole prefix of 4 positions.*holds 3"):
                layer("prefix")(x, torch.arange(3), cache=LayerCache())
            with pytest.raises(ValueError, match="window of 2 and 0 sinks, the layer sees window=None"):
                layer("plain")(x, torch.arange(3), cache=LayerCache(window=2))
            dynamic = Attention(DIM, HEADS, rotary=RotaryEmbedding(4, scaling=RotaryScaling("dynamic", 2.0, 4)))
            with pytest.raises(ValueError, match="'dynamic' cannot use a cache"):
                dynamic(x.float(), torch.arange(3), cache=LayerCache())
            cache = LayerCache()
            layer("plain")(x, torch.arange(3), cache=cache)
            with pytest.raises(ValueError, match="holds 1 sequences and got 2"):
                layer("plain")(x.expand(2, -1, -1), torch.arange(3), cache=cache)
        with pytest.raises(RuntimeError, match=r"torch\.no_grad"):
            layer("plain")(x, torch.arange(3), cache=LayerCache())

    def test_whole_model_cache(self) -> None:
        cache = KVCache([LayerCache(8) for _ in range(3)])
        step = noise(1, 2, 4, 8)
        for one in cache:
            one.append(step, step)
        assert (len(cache), cache.length, cache.nbytes) == (3, 4, 3 * 2 * 2 * 8 * 8 * 8)
        cache.crop(1)
        assert [one.length for one in cache] == [1, 1, 1]
        with pytest.raises(ValueError, match="left padding would stand where attention sinks are"):
            KVCache([LayerCache(window=4, sinks=1)], padding=torch.tensor([1]))


def test_low_precision_stays_close() -> None:
    attention = layer("grouped").float()
    x = noise(2, LENGTH, DIM, dtype=torch.float32)
    expected = attention(x, torch.arange(LENGTH))
    out = attention.bfloat16()(x.bfloat16(), torch.arange(LENGTH))
    assert F.cosine_similarity(out.float().flatten(), expected.flatten(), dim=0) > 0.999
