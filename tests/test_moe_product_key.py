import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minilm.config import MoEConfig
from minilm.model import LanguageModel
from minilm.moe.from_dense import dense_to_sparse
from minilm.moe.product_key import (
    CDMoE,
    neuron_experts,
    neuron_experts_fast,
    product_key_top_k,
)
from tests.oracles import small_config

PRODUCT_KEYS = MoEConfig(num_experts=64, top_k=4, route="product-key", scoring="softmax-chosen")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer(seed: int = 0, **options: object) -> CDMoE:
    torch.manual_seed(seed)
    return CDMoE(8, 12, moe=PRODUCT_KEYS.replace(**{"num_experts": 25, **options})).double()


def by_exhaustive_search(module: CDMoE, x: Tensor) -> Tensor:
    """The definition, one token and one expert at a time, with every expert scored."""
    keys = module.num_keys
    rows = []
    for token in x.flatten(0, 1):
        key_scores = module.router_gate.weight @ token
        score = torch.stack([key_scores[e // keys] + key_scores[keys + e % keys] for e in range(keys**2)])
        best = score.argsort(descending=True, stable=True)[: module.moe.chosen]
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

    def test_configs_that_have_no_square_or_no_scores(self) -> None:
        with pytest.raises(
            ValueError, match=r"num_experts = 20: product keys find experts in a square.*choose 16 or 25"
        ):
            PRODUCT_KEYS.replace(num_experts=20)
        with pytest.raises(ValueError, match="noise and balance='bias' cannot be set with route = 'product-key'"):
            PRODUCT_KEYS.replace(noise=0.1, balance="bias")


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
        chosen = set(module.routing.experts.flatten().tolist())
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


class TestWithoutAMatrixOfTokensByExperts:
    """What the layer computes from keys alone equals the definition over all experts."""

    @pytest.mark.parametrize("balance", ["switch", "importance"])
    def test_balance_losses(self, balance: str) -> None:
        module = layer(balance=balance, balance_weight=0.5)
        module(noise(2, 15, 8))
        routing = module.routing
        assert routing is not None
        torch.testing.assert_close(routing.probabilities.sum(1), torch.ones(30).double())
        if balance == "switch":
            share = torch.bincount(routing.experts.flatten(), minlength=25).double() / 120
            expected = 25 * (share * routing.probabilities.mean(0)).sum()
        else:
            importance = routing.probabilities.sum(0)
            expected = importance.var(correction=0) / importance.mean() ** 2
        torch.testing.assert_close(module.auxiliary_loss(), 0.5 * expected, atol=1e-12, rtol=0)
        module.auxiliary_loss().backward()
        assert module.router_gate.weight.grad.abs().max() > 0

    def test_z_loss(self) -> None:
        module = layer(z_loss=2.0)
        module(noise(2, 15, 8))
        torch.testing.assert_close(
            module.auxiliary_loss(), 2 * module.routing.logits.logsumexp(1).square().mean(), atol=1e-12, rtol=0
        )

    def test_weights_from_the_softmax_over_all(self) -> None:
        x = noise(2, 15, 8)
        module, chosen_only = layer(scoring="softmax"), layer()
        module(x), chosen_only(x)
        routing = module.routing
        expected = routing.probabilities.gather(1, routing.experts)
        torch.testing.assert_close(routing.weights, expected, atol=1e-12, rtol=0)
        normalised = layer(scoring="softmax", normalize=True)
        torch.testing.assert_close(normalised(x), chosen_only(x), atol=1e-12, rtol=0)

    def test_even_routing_costs_one(self) -> None:
        module = layer(balance="switch", balance_weight=1.0)
        torch.nn.init.zeros_(module.router_gate.weight)
        module(noise(2, 15, 8))
        assert module.auxiliary_loss().item() == pytest.approx(1)

    def test_usage_follows_the_choices_while_training(self) -> None:
        module = layer(usage_decay=0.0)
        module(noise(2, 15, 8))
        share = torch.bincount(module.routing.experts.flatten(), minlength=25) / 120
        torch.testing.assert_close(module.usage, share.to(module.usage))
        before = module.usage.clone()
        module.eval()(noise(2, 15, 8, seed=1))
        assert torch.equal(module.usage, before)

    def test_nothing_before_the_first_forward(self) -> None:
        module = layer(balance="switch")
        assert module.routing is None
        assert module.auxiliary_loss() == 0


def dense_model(**changes: object) -> LanguageModel:
    torch.manual_seed(0)
    config = small_config(vocab_size=40, feed_forward={"hidden": 24, "bias": True}, num_layers=2)
    return LanguageModel(config.replace(**changes)).double().eval()


class TestDenseToSparse:
    ids = torch.randint(40, (2, 12), generator=torch.Generator().manual_seed(0))

    @pytest.mark.parametrize(
        "moe",
        [PRODUCT_KEYS, MoEConfig(num_experts=4, top_k=2, normalize=True), MoEConfig(6, 3, scoring="softmax-chosen")],
        ids=["product-key", "copies", "copies, softmax of the chosen"],
    )
    def test_same_logits_then_it_learns(self, moe: MoEConfig) -> None:
        dense = dense_model()
        expected = dense(self.ids)
        sparse = dense_to_sparse(dense, moe)
        torch.testing.assert_close(sparse(self.ids), expected, atol=1e-12, rtol=0)
        assert sparse.num_parameters() > dense.num_parameters()
        optimizer = torch.optim.AdamW(sparse.train().parameters(), lr=1e-2)
        untouched = {name: p.clone() for name, p in sparse.named_parameters()}
        for _ in range(3):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(
                sparse(self.ids)[:, :-1].flatten(0, 1), self.ids[:, 1:].flatten()
            ).backward()
            optimizer.step()
        for name, p in sparse.named_parameters():
            assert not torch.equal(p, untouched[name]), name
        torch.testing.assert_close(dense(self.ids), expected, atol=0, rtol=0)  # the dense one is left alone

    def test_new_experts_write_nothing_and_have_a_gradient_at_once(self) -> None:
        sparse = dense_to_sparse(dense_model(), PRODUCT_KEYS)
        sparse(self.ids).square().mean().backward()
        experts = sparse.core.layers[0].feed_forward
        assert experts.up_embed.weight.abs().max() == 0
        assert experts.up_embed.weight.grad.abs().max() > 0
        assert experts.down_embed.weight.grad.abs().max() == 0  # they follow from the second step on

    def test_refusals(self) -> None:
        plain = dense_model(feed_forward={"kind": "plain", "activation": "gelu"})
        with pytest.raises(ValueError, match="experts are gated, and this model's feed-forward is 'plain'"):
            dense_to_sparse(plain, PRODUCT_KEYS)
        sparse = dense_to_sparse(dense_model(), PRODUCT_KEYS)
        with pytest.raises(ValueError, match="nothing to inherit"):
            dense_to_sparse(sparse, PRODUCT_KEYS)
        for moe, reason in (
            (MoEConfig(4, 2), "weights sum to 1: set normalize=True"),
            (MoEConfig(4, 2, normalize=True, capacity_factor=1.0), "capacity_factor and shared_hidden"),
            (MoEConfig(4, 2, route="expert-choice"), "route = 'expert-choice' cannot start from a dense model"),
        ):
            with pytest.raises(ValueError, match=reason):
                dense_to_sparse(dense_model(), moe)
