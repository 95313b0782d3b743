"""Weights of one byte: near the float model, the same alone and in a batch, and the model itself stays as it is."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from minilm import zoo
from minilm.generation import GREEDY, Int8Linear, generate, quantize_rows, to_int8
from minilm.generation.int8 import whole_products
from minilm.model import LanguageModel
from minilm.training import cross_entropy


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 40),
    size=st.sampled_from([1e-20, 1e-3, 1.0, 1e20]),
    seed=st.integers(0, 999),
)
def test_a_row_is_off_by_half_a_scale_at_most(rows, columns, size, seed):
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * size
    whole, scale = quantize_rows(x)
    assert whole.dtype == torch.int8
    assert whole.abs().amax(dim=-1).tolist() == [127] * rows  # all of the range is used, and never -128
    assert bool(((x - whole * scale).abs() <= scale * 0.501).all())


def test_a_row_of_zeros_stays_one():
    whole, scale = quantize_rows(torch.zeros(2, 3))
    assert not whole.any()
    assert torch.isfinite(scale).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7)])
def test_a_layer_is_its_formula(bias, shape):
    torch.manual_seed(0)
    linear, x = nn.Linear(64, 48, bias=bias), torch.randn(*shape, 64)
    layer = Int8Linear(linear)
    (rows, row_scale), (weights, weight_scale) = quantize_rows(x), quantize_rows(linear.weight.detach())
    expected = (rows.double() * row_scale) @ (weights.double() * weight_scale).T
    if bias:
        expected = expected + linear.bias
    out = layer(x)
    assert out.shape == (*shape, 48)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-6)
    assert (out - linear(x)).norm() < 0.012 * linear(x).norm()


def test_sums_are_exact():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-127, 128, (n, 300), generator=generator, dtype=torch.int8) for n in (5, 7))
    assert torch.equal(whole_products(a, b).long(), a.long() @ b.long().T)
    assert torch.equal(a.float() @ b.float().T, whole_products(a, b).float())  # the way of other devices


@pytest.mark.parametrize("name", ["slim", "gpt2", "doge-20m", "mixtral-tiny"])
def test_every_kind_of_model_writes_alone_as_in_a_batch(name):
    torch.manual_seed(0)
    heads = {"num_heads": 2} if name != "doge-20m" else {"head_dim": 16}
    small = {"vocab_size": 50, "dim": 32, "num_layers": 2, "context_length": 32, "attention": heads}
    model = LanguageModel.from_preset(name, **small, initialization={"kind": "normal", "std": 0.2}).eval()
    whole, before = to_int8(model), copy.deepcopy(model.state_dict())
    layers = [part for part in whole.modules() if isinstance(part, Int8Linear)]
    assert len(layers) == {"slim": 15, "gpt2": 13, "doge-20m": 15, "mixtral-tiny": 9}[name]  # experts stay
    prompts = [[1, 2, 3], [4, 5, 6]]
    together = generate(whole, prompts, 12, GREEDY)
    assert [text.ids for text in together] == [generate(whole, [prompt], 12, GREEDY)[0].ids for prompt in prompts]
    assert [text.ids for text in generate(whole, prompts, 12, GREEDY, use_cache=False)] == [t.ids for t in together]
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_a_trained_model_loses_little():
    model, tokenizer = zoo.load("story")
    text = generate(model, [[tokenizer.special_tokens["<end>"]]], 200, seed=1)[0].ids
    ids = torch.tensor([[tokenizer.special_tokens["<end>"], *text]])
    with torch.inference_mode():
        losses = [float(cross_entropy(each(ids[:, :-1]), ids[:, 1:])) for each in (model, to_int8(model))]
    assert losses[1] == pytest.approx(losses[0], abs=0.02)
    assert losses[1] != losses[0]


def test_other_precisions_are_refused():
    model = LanguageModel.from_preset("slim", vocab_size=20, num_layers=1, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"bfloat16: use model.float\(\)"):
        to_int8(model)
