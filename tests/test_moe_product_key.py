import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minilm.moe.product_key import (
    CDMoE,
    neuron_experts,
    neuron_experts_fast,
    product_key_balance,
    product_key_top_k,
    square_root,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer(seed: int = 0, **options: object) -> CDMoE:
    torch.manual_seed(seed)
    given_options = {"num_experts": 25, "top_k": 4, **options}
    return CDMoE(8, 12, **given_options).double()  # type: ignore[arg-type]


def by_exhaustive_search(module: CDMoE, x: Tensor) -> Tensor:
    """The definition, one token and one expert at a time, with every expert scored."""
    keys = module.num_keys
    rows = []
    for token in x.flatten(0, 1):
        key_scores = module.router_gate.weight @ token
        score = torch.stack([key_scores[e // keys] + key_scores[keys + e % keys] for e in range(keys**2)])
        best = score.argsort(descending=True, stable=True)[: module.top_k]
        weights = score[best].softmax(0)
        out = module.shared(token)
        for weight, e in zip(weights, best, strict=True):
            read = module.down_embed.weight[e] @ token
            out = out + weight * read * torch.sigmoid(read) * module.up_embed.weight[e]
        rows.append(out)
    return torch.stack(rows).view_as(x)


class TestRetrieval:
    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_equals_searching_all_experts(self, data: st.DataObject) -> None:
        """Small integers for scores, so that ties are the rule."""
        keys = data.draw(st.integers(1, 9))
        top_k = data.draw(st.integers(1, keys**2))
        axis = st.lists(st.integers(-3, 3), min_size=keys, max_size=keys)
        x, y = (torch.tensor(data.draw(axis), dtype=torch.float64) for _ in range(2))
        scores, experts = product_key_top_k(x, y, top_k)
        every = (x[:, None] + y).flatten()
        assert scores.tolist() == every.topk(top_k).values.tolist()
        assert every[experts].tolist() == scores.tolist()
        assert len(set(experts.tolist())) == top_k

    @pytest.mark.parametrize(("keys", "top_k"), [(32, 8), (64, 16), (96, 24), (128, 32), (7, 30), (5, 25)])
    def test_equals_searching_all_experts_at_published_sizes(self, keys: int, top_k: int) -> None:
        x, y = noise(50, keys), noise(50, keys, seed=1)
        scores, experts = product_key_top_k(x, y, top_k)
        best = (x[:, :, None] + y[:, None]).flatten(1).topk(top_k)
        assert torch.equal(scores, best.values)
        assert torch.equal(experts, best.indices)  # no ties here

    def test_gradients_reach_the_chosen_keys_only(self) -> None:
        x, y = noise(1, 6).requires_grad_(), noise(1, 6, seed=1).requires_grad_()
        scores, experts = product_key_top_k(x, y, 3)
        scores.sum().backward()
        assert x.grad is not None
        assert set(x.grad[0].nonzero().flatten().tolist()) == {e // 6 for e in experts[0].tolist()}
        assert x.grad.sum() == 3

    def test_too_many(self) -> None:
        with pytest.raises(ValueError, match="top_k = 10: with 3 keys an axis there are 9 experts; choose 1 to 9"):
            product_key_top_k(noise(1, 3), noise(1, 3), 10)
        with pytest.raises(ValueError, match="num_experts = 20 is no square number.*choose 16 or 25"):
            square_root(20)
        with pytest.raises(ValueError, match="num_experts = 0 is no square number.*choose 1"):
            CDMoE(8, 12, num_experts=0, top_k=1)
        with pytest.raises(ValueError, match="top_k = 26: choose 1 to num_experts = 25"):
            layer(top_k=26)


class TestExperts:
    def test_fast_equals_readable_forward_and_backward(self) -> None:
        inputs = [noise(20, 6), noise(9, 6, seed=1), noise(9, 6, seed=2), noise(20, 3, seed=3)]
        chosen = torch.randint(8, (20, 3), generator=torch.Generator().manual_seed(0))  # expert 8: nobody's
        results = []
        for form in (neuron_experts, neuron_experts_fast):
            x, down, up, weights = (t.clone().requires_grad_() for t in inputs)
            out = form(x, down, up, chosen, weights)
            (out * noise(20, 6, seed=4)).sum().backward()
            results.append([out, x.grad, down.grad, up.grad, weights.grad])
        for readable, fast in zip(*results, strict=True):
            torch.testing.assert_close(fast, readable, atol=1e-12, rtol=0)
        assert results[1][2][8].abs().max() == 0

    def test_gradcheck(self) -> None:
        chosen = torch.randint(5, (4, 2), generator=torch.Generator().manual_seed(0))
        x, down, up, weights = noise(4, 3), noise(5, 3, seed=1), noise(5, 3, seed=2), noise(4, 2, seed=3)
        inputs = tuple(t.requires_grad_() for t in (x, down, up, weights))
        assert torch.autograd.gradcheck(lambda x, d, u, w: neuron_experts_fast(x, d, u, chosen, w), inputs)


class TestCDMoE:
    def test_equals_exhaustive_search(self) -> None:
        for seed in range(5):
            module, x = layer(seed), noise(2, 7, 8, seed=seed)
            torch.testing.assert_close(module(x), by_exhaustive_search(module, x), atol=1e-12, rtol=0)

    def test_each_token_goes_its_own_way(self) -> None:
        """The routing and the output of a token depend on nothing but the token: not on its neighbours, not on the batch."""
        module, x = layer(), noise(3, 6, 8)
        out = module(x)
        for b in range(3):
            for t in range(6):
                torch.testing.assert_close(module(x[b : b + 1, t : t + 1])[0, 0], out[b, t], atol=1e-12, rtol=0)
        order = torch.randperm(18, generator=torch.Generator().manual_seed(0))
        shuffled = module(x.flatten(0, 1)[order].view(3, 6, 8))
        torch.testing.assert_close(shuffled.flatten(0, 1), out.flatten(0, 1)[order], atol=1e-12, rtol=0)

    def test_gradients_flow_to_chosen_experts_and_router_only(self) -> None:
        module, x = layer(), noise(1, 2, 8)
        module(x).square().sum().backward()
        chosen = set(module.routing[0].flatten().tolist())
        for table in (module.down_embed, module.up_embed):
            assert set(table.weight.grad.abs().amax(1).nonzero().flatten().tolist()) == chosen
        assert module.router_gate.weight.grad.abs().max() > 0

    def test_one_expert_at_a_time_leaves_the_router_without_a_task_gradient(self) -> None:
        module = layer(top_k=1)
        module(noise(2, 5, 8)).square().sum().backward()
        assert module.router_gate.weight.grad.abs().max() < 1e-15

    def test_normalising_after_the_softmax_changes_nothing(self) -> None:
        x = noise(2, 5, 8)
        torch.testing.assert_close(layer(normalize=True)(x), layer()(x), atol=1e-12, rtol=0)


class TestBalance:
    def test_equals_the_definition(self) -> None:
        x, y = noise(30, 4), noise(30, 4, seed=1)
        _, chosen = product_key_top_k(x, y, 3)
        share = torch.bincount(chosen.flatten(), minlength=16).double() / 90
        p = (x[:, :, None] + y[:, None]).flatten(1).softmax(1)
        expected = 16 * (share * p.mean(0)).sum()
        assert product_key_balance(x, y, share).item() == pytest.approx(expected.item(), abs=1e-12)
