import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minilm.config import RotaryScaling
from minilm.embeddings import (
    LearnedPositions,
    RelativePositions,
    RotaryEmbedding,
    SinusoidalPositions,
    TokenEmbedding,
    alibi_bias,
    alibi_slopes,
    apply_rotary,
    interleaved_to_half,
    one_hot_embedding,
    rotary_frequencies,
    scaled_frequencies,
    sinusoidal_positions,
)


def heads(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


class TestTokenEmbedding:
    def test_lookup_is_a_one_hot_product(self) -> None:
        embedding = TokenEmbedding(11, 5)
        ids = torch.tensor([[0, 3, 10], [3, 3, 1]])
        torch.testing.assert_close(embedding(ids), one_hot_embedding(ids, embedding.weight))

    def test_gradient_reaches_only_the_rows_used_and_counts_repeats(self) -> None:
        embedding = TokenEmbedding(5, 2)
        embedding(torch.tensor([[1, 3, 3]])).sum().backward()
        assert embedding.weight.grad is not None
        assert embedding.weight.grad[:, 0].tolist() == [0, 1, 0, 2, 0]

    @pytest.mark.parametrize("bad", [-1, 11, 5000])
    def test_an_id_off_the_table_is_named(self, bad: int) -> None:
        with pytest.raises(ValueError, match=rf"token id {bad} is outside 0 .. 10.*vocab_size"):
            TokenEmbedding(11, 5)(torch.tensor([[1, bad]]))

    def test_wrong_dtype_names_the_fix(self) -> None:
        with pytest.raises(TypeError, match=r"float32.*ids\.long\(\)"):
            TokenEmbedding(11, 5)(torch.zeros(1, 2))

    def test_wrong_device_names_the_fix(self) -> None:
        with pytest.raises(ValueError, match=r"on meta and the model on cpu.*ids\.to\('cpu'\)"):
            TokenEmbedding(11, 5)(torch.zeros(1, 2, dtype=torch.long, device="meta"))


class TestSinusoidal:
    def test_formula_by_hand(self) -> None:
        waves = sinusoidal_positions(torch.arange(4), 6)
        for position in range(4):
            for i in range(3):
                angle = position / 10_000 ** (2 * i / 6)
                assert waves[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
                assert waves[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)

    def test_a_shift_is_the_same_rotation_everywhere(self) -> None:
        waves = sinusoidal_positions(torch.arange(50), 8, base=100.0).double()
        step = torch.linalg.lstsq(waves[:30], waves[7:37]).solution  # one matrix that shifts by 7
        torch.testing.assert_close(waves[10:40] @ step, waves[17:47], atol=1e-4, rtol=0)

    def test_odd_dims_and_any_length(self) -> None:
        module = SinusoidalPositions(5)
        assert module(torch.arange(100_000, 100_003)).shape == (3, 5)
        assert not list(module.parameters())
        assert not module.state_dict()


class TestLearned:
    def test_rows_in_order(self) -> None:
        module = LearnedPositions(8, 3)
        torch.testing.assert_close(module(torch.tensor([0, 7])), module.weight[[0, 7]])

    def test_past_the_limit(self) -> None:
        with pytest.raises(ValueError, match=r"position 8 is past the limit.*context_length = 8.*last 8 tokens"):
            LearnedPositions(8, 3)(torch.arange(9))


class TestRelative:
    def test_equals_the_tensor_of_all_pairs(self) -> None:
        relative = RelativePositions(head_dim=4, max_distance=3).double()
        positions = torch.arange(9)
        q, weights = heads(2, 3, 9, 4, dtype=torch.float64), heads(2, 3, 9, 9, dtype=torch.float64).softmax(-1)
        index = relative.index(positions, positions)
        expected_scores, expected_outputs = torch.zeros(2, 3, 9, 9).double(), torch.zeros(2, 3, 9, 4).double()
        for i in range(9):
            for j in range(9):
                row = max(-3, min(3, j - i)) + 3  # Shaw et al. 2018: w_clip(j - i)
                expected_scores[..., i, j] = q[:, :, i] @ relative.keys[row]
                expected_outputs[:, :, i] += weights[:, :, i, j, None] * relative.values[row]
        torch.testing.assert_close(relative.scores(q, index), expected_scores)
        torch.testing.assert_close(relative.outputs(weights, index), expected_outputs)

    def test_gradients(self) -> None:
        relative = RelativePositions(head_dim=2, max_distance=2).double()
        index = relative.index(torch.arange(4), torch.arange(4))
        q = heads(1, 2, 4, 2, dtype=torch.float64).requires_grad_()
        weights = heads(1, 2, 4, 4, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(lambda q, w, *_: relative.scores(q, index) + w, (q, weights, relative.keys))
        assert torch.autograd.gradcheck(lambda w, *_: relative.outputs(w, index), (weights, relative.values))


class TestAlibi:
    def test_slopes_of_the_paper(self) -> None:
        assert alibi_slopes(8).tolist() == pytest.approx([2.0**-i for i in range(1, 9)])
        assert alibi_slopes(12).tolist()[8:] == pytest.approx([2.0 ** (-0.5 * i) for i in (1, 3, 5, 7)])

    def test_bias_is_minus_slope_times_distance(self) -> None:
        bias = alibi_bias(torch.tensor([5]), torch.arange(6), torch.tensor([0.5, 0.25]))
        assert bias[:, 0].tolist() == [[-2.5, -2, -1.5, -1, -0.5, 0], [-1.25, -1, -0.75, -0.5, -0.25, 0]]


class TestRotary:
    @given(dim=st.sampled_from([2, 4, 10, 64]), base=st.sampled_from([100.0, 1e4, 5e5]), start=st.integers(0, 2000))
    @settings(max_examples=25, deadline=None)
    def test_layouts_are_equal_under_the_permutation(self, dim: int, base: float, start: int) -> None:
        x, order = heads(2, 3, 7, dim), interleaved_to_half(dim)
        positions = torch.arange(start, start + 7)
        torch.testing.assert_close(
            apply_rotary(x, positions, base, interleaved=True)[..., order],
            apply_rotary(x[..., order], positions, base, interleaved=False),
        )

    @pytest.mark.parametrize("interleaved", [True, False])
    @given(offset=st.integers(0, 500), i=st.integers(0, 30), j=st.integers(0, 30))
    @settings(max_examples=25, deadline=None)
    def test_dot_products_know_only_the_offset(self, interleaved: bool, offset: int, i: int, j: int) -> None:
        q, k = heads(1, 16, dtype=torch.float64), heads(1, 16, dtype=torch.float64, seed=1)
        rotary = RotaryEmbedding(16, interleaved=interleaved)

        def score(a: int, b: int) -> torch.Tensor:
            return (
                rotary(q[None, None], torch.tensor([a])).flatten() @ rotary(k[None, None], torch.tensor([b])).flatten()
            )

        torch.testing.assert_close(score(i, j), score(i + offset, j + offset), atol=1e-5, rtol=0)
        assert i == j or not math.isclose(score(i, j).item(), score(i, i).item(), abs_tol=1e-9)

    def test_interleaved_is_a_complex_product(self) -> None:
        x = heads(5, 8, dtype=torch.float64)
        angles = torch.arange(5).double()[:, None] * rotary_frequencies(8).double()
        turned = torch.view_as_complex(x.view(5, 4, 2)) * torch.polar(torch.ones_like(angles), angles)
        torch.testing.assert_close(
            apply_rotary(x, torch.arange(5)), torch.view_as_real(turned).flatten(-2), atol=1e-6, rtol=0
        )

    @pytest.mark.parametrize("interleaved", [True, False])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_fast_form_equals_the_readable_one(self, interleaved: bool, dtype: torch.dtype) -> None:
        x = heads(2, 3, 7, 8).to(dtype)
        fast = RotaryEmbedding(8, interleaved=interleaved)(x, torch.arange(7))
        slow = apply_rotary(x, torch.arange(7), interleaved=interleaved)
        assert fast.dtype == dtype
        tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(fast, slow, atol=tolerance, rtol=tolerance)

    @pytest.mark.parametrize("interleaved", [True, False])
    def test_partial_leaves_the_rest_alone(self, interleaved: bool) -> None:
        x = heads(2, 3, 7, 10)
        turned = RotaryEmbedding(6, interleaved=interleaved)(x, torch.arange(7))
        assert torch.equal(turned[..., 6:], x[..., 6:])
        torch.testing.assert_close(turned[..., :6], apply_rotary(x[..., :6], torch.arange(7), interleaved=interleaved))

    @pytest.mark.parametrize("interleaved", [True, False])
    def test_positions_of_each_row(self, interleaved: bool) -> None:
        x, rotary = heads(2, 3, 4, 8), RotaryEmbedding(8, interleaved=interleaved)
        rows = torch.tensor([[0, 1, 2, 3], [9, 10, 0, 1]])
        for b in range(2):
            torch.testing.assert_close(rotary(x, rows)[b], rotary(x[b : b + 1], rows[b])[0])

    @pytest.mark.parametrize("interleaved", [True, False])
    def test_gradients_and_memory_of_tables(self, interleaved: bool) -> None:
        rotary, positions = RotaryEmbedding(4, interleaved=interleaved), torch.arange(3)
        x = heads(1, 2, 3, 4, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: rotary(x, positions), (x,))
        before = rotary(x, positions)
        with torch.inference_mode():
            rotary(x, torch.arange(3))  # tables made here ...
        with torch.inference_mode():
            inside = torch.arange(3)
            rotary(x, inside)
        rotary(x, inside).sum().backward()  # ... must serve training too
        torch.testing.assert_close(rotary(x, positions), before)
        positions += 1  # and tables follow positions that change in place
        assert not torch.equal(rotary(x, positions), before)
        assert rotary(x.float(), positions).dtype == torch.float32
        assert not rotary.state_dict()

    def test_length_is_kept(self) -> None:
        x = heads(1, 1, 9, 8)
        torch.testing.assert_close(RotaryEmbedding(8)(x, torch.arange(9)).norm(dim=-1), x.norm(dim=-1))

    def test_odd_dim_names_the_fix(self) -> None:
        with pytest.raises(ValueError, match=r"dim = 7 is odd.*RotaryEmbedding\(6\)"):
            apply_rotary(heads(2, 7), torch.arange(2))
        with pytest.raises(ValueError, match="dim = 7 is not a positive even number"):
            RotaryEmbedding(7)
        with pytest.raises(ValueError, match="cannot rotate 8 channels of heads that have 6"):
            RotaryEmbedding(8)(heads(1, 1, 2, 6), torch.arange(2))


class TestScaling:
    def test_linear_squeezes_positions(self) -> None:
        x, scaling = heads(1, 1, 8, 16), RotaryScaling("linear", 4.0, 100)
        stretched = RotaryEmbedding(16, scaling=scaling)(x, torch.arange(0, 32, 4))
        torch.testing.assert_close(stretched, RotaryEmbedding(16)(x, torch.arange(8)), atol=1e-5, rtol=1e-5)

    def test_dynamic_changes_nothing_within_the_old_length(self) -> None:
        x, scaling = heads(1, 1, 8, 16), RotaryScaling("dynamic", 4.0, 8)
        rotary = RotaryEmbedding(16, scaling=scaling)
        torch.testing.assert_close(rotary(x, torch.arange(8)), RotaryEmbedding(16)(x, torch.arange(8)))
        frequencies, _ = scaled_frequencies(16, 1e4, scaling, length=32)
        assert frequencies[0] == 1  # the fastest pair never changes
        assert frequencies[-1] < rotary_frequencies(16)[-1] / 4

    @pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn", "llama3"])
    @pytest.mark.parametrize(("dim", "base"), [(16, 1e4), (64, 5e5), (12, 100.0)])
    @pytest.mark.parametrize("factor", [1.0, 2.0, 32.0])
    def test_equals_transformers(self, kind: str, dim: int, base: float, factor: float) -> None:
        transformers = pytest.importorskip("transformers")
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        original = 256
        parameters = {"rope_type": kind, "rope_theta": base, "factor": factor}
        if kind in ("yarn", "llama3"):
            parameters["original_max_position_embeddings"] = original
        if kind == "llama3":
            parameters |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
        hf = transformers.LlamaConfig(
            hidden_size=dim * 2, num_attention_heads=2, max_position_embeddings=original, rope_parameters=parameters
        )
        expected, expected_factor = ROPE_INIT_FUNCTIONS[kind](hf, "cpu", seq_len=900)
        scaling = RotaryScaling(kind, factor, original)  # type: ignore[arg-type]
        frequencies, sharpen = scaled_frequencies(dim, base, scaling, length=900)
        torch.testing.assert_close(frequencies, expected)
        assert sharpen == pytest.approx(expected_factor)

    def test_only_dynamic_depends_on_length(self) -> None:
        assert RotaryEmbedding(8, scaling=RotaryScaling("dynamic", 2.0, 8)).depends_on_length
        assert not RotaryEmbedding(8, scaling=RotaryScaling("yarn", 2.0, 8)).depends_on_length

    def test_bad_values_are_named(self) -> None:
        with pytest.raises(ValueError, match=r"factor = 0\.5"):
            RotaryScaling("linear", 0.5, 100)
        with pytest.raises(ValueError, match="'ntk': expected one of 'linear', 'dynamic', 'yarn', 'llama3'"):
            RotaryScaling("ntk", 2.0, 100)  # type: ignore[arg-type]
