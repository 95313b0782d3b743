"""Choices, capacities and weights, by property; losses and measures against hand computation; what messages say."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minilm.config import FeedForwardConfig, MoEConfig
from minilm.moe import (
    MixtureOfExperts,
    Routing,
    TokenRouter,
    capacity,
    choose,
    coefficient_of_variation,
    expert_choice_route,
    importance_loss,
    load_balancing_loss,
    top_k_route,
    usage_entropy,
    z_loss,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, int, float]:
    """Logits of up to 12 rows for up to 6 experts, how many are chosen, and a capacity factor."""
    rows, experts = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    values = draw(st.lists(st.integers(-3, 3), min_size=rows * experts, max_size=rows * experts))  # ties on purpose
    logits = torch.tensor(values, dtype=torch.float64).view(rows, experts)
    return logits, draw(st.integers(1, experts)), draw(st.sampled_from([0.25, 0.5, 1.0, 1.5, 10.0]))


class TestChoice:
    @settings(deadline=None)
    @given(
        problem=problems(), scoring=st.sampled_from(["softmax", "softmax-chosen", "sigmoid"]), normalize=st.booleans()
    )
    def test_the_k_best_each_once_and_weights_that_add_up(
        self, problem: tuple[Tensor, int, float], scoring: Any, normalize: bool
    ) -> None:
        logits, k, _ = problem
        routing = top_k_route(logits, k, scoring=scoring, normalize=normalize)
        assert all(len(set(row)) == k for row in routing.experts.tolist())
        torch.testing.assert_close(logits.gather(1, routing.experts), logits.topk(k).values)
        assert int(routing.counts.sum()) == routing.experts.numel()
        torch.testing.assert_close(routing.probabilities.sum(1), torch.ones(len(logits), dtype=torch.float64))
        total = routing.weights.sum(1)
        if normalize or scoring == "softmax-chosen":
            torch.testing.assert_close(total, torch.ones_like(total))
        elif scoring == "softmax":
            torch.testing.assert_close(total, logits.softmax(1).topk(k).values.sum(1))

    def test_softmax_of_the_chosen_is_softmax_normalised(self) -> None:
        logits = 3 * noise(20, 6)
        before = top_k_route(logits, 3, scoring="softmax", normalize=True)
        after = top_k_route(logits, 3, scoring="softmax-chosen")
        assert torch.equal(before.experts, after.experts)
        torch.testing.assert_close(before.weights, after.weights)

    def test_a_bias_chooses_and_does_not_weigh(self) -> None:
        logits = noise(50, 4)
        bias = torch.tensor([0.0, 0.0, 0.0, 10.0], dtype=torch.float64)
        routing = top_k_route(logits, 2, scoring="sigmoid", bias=bias)
        assert (routing.experts == 3).any(dim=1).all()  # in everyone's choice,
        torch.testing.assert_close(routing.weights, logits.sigmoid().gather(1, routing.experts))  # by its own score

    def test_half_precision_is_weighed_in_float32(self) -> None:
        assert top_k_route(noise(3, 4).bfloat16(), 1).weights.dtype == torch.float32

    def test_a_fifth_of_the_experts_by_default(self) -> None:
        assert [MoEConfig(n).chosen for n in (1, 4, 5, 9, 10, 64)] == [1, 1, 1, 1, 2, 12]


class TestCapacity:
    @settings(max_examples=200, deadline=None)
    @given(problem=problems(), overflow=st.sampled_from(["next", "drop"]), normalize=st.booleans())
    def test_nobody_serves_more_and_nothing_is_counted_twice(
        self, problem: tuple[Tensor, int, float], overflow: Any, normalize: bool
    ) -> None:
        logits, k, factor = problem
        rows, experts = logits.shape
        room = capacity(rows, experts, k, factor)
        routing = top_k_route(logits, k, capacity=room, overflow=overflow, normalize=normalize)
        assert routing.kept is not None
        assert int(routing.counts.max()) <= room
        for row, (chosen, kept) in enumerate(zip(routing.experts, routing.kept, strict=True)):
            served_by = chosen[kept].tolist()
            assert len(served_by) == len(set(served_by)), f"row {row} goes to an expert twice"
        assert int(routing.counts.sum()) == int(routing.kept.sum())
        assert routing.dropped == pytest.approx(1 - int(routing.kept.sum()) / (rows * k))
        assert torch.equal(
            routing.demand, top_k_route(logits, k, capacity=rows).counts
        )  # as if there were room for all
        total = (routing.weights * routing.kept).sum(1)
        assert (total <= 1 + 1e-9).all()
        if overflow == "next":
            if normalize:
                assert all(
                    t == pytest.approx(1) or not any(r)
                    for t, r in zip(total.tolist(), routing.kept.tolist(), strict=True)
                )
            # whoever goes short does so because every expert that it has not already is full
            full = routing.counts == room
            for chosen, kept in zip(routing.experts, routing.kept, strict=True):
                if not kept.all():
                    others = full.clone()
                    others[chosen[kept]] = True
                    assert others.all()

    @settings(deadline=None)
    @given(problem=problems(), overflow=st.sampled_from(["next", "drop"]))
    def test_room_for_everyone_changes_nothing(self, problem: tuple[Tensor, int, float], overflow: Any) -> None:
        logits, k, _ = problem
        limited = top_k_route(logits, k, capacity=len(logits), overflow=overflow)
        assert limited.dropped == 0
        torch.testing.assert_close(limited.weights, top_k_route(logits, k).weights)

    def test_overflow_by_hand(self) -> None:
        scores = torch.tensor([[9.0, 5, 1], [9, 1, 5], [9, 5, 1], [9, 5, 1]])  # all want expert 0 most
        experts, kept, wanted = choose(scores, 1, capacity=2, overflow="next")
        assert kept is not None
        assert wanted is not None
        assert experts.flatten().tolist() == [0, 0, 1, 1]
        assert wanted.flatten().tolist() == [0, 0, 0, 0]
        experts, kept, _ = choose(scores, 1, capacity=2, overflow="drop")
        assert kept is not None
        assert kept.flatten().tolist() == [True, True, False, False]

    def test_overflow_reaches_the_last_rank(self) -> None:
        """Sorting only the first k ranks, as dlib's code does, would leave the last rows nowhere to go."""
        scores = torch.tensor([[4.0, 3, 2, 1]]).repeat(4, 1)
        experts, kept, _ = choose(scores, 1, capacity=1, overflow="next")
        assert kept is not None
        assert kept.all()
        assert experts.flatten().tolist() == [0, 1, 2, 3]

    def test_first_choices_come_before_second_choices(self) -> None:
        scores = torch.tensor([[5.0, 9, 0], [0, 5, 9], [9, 0, 5]])  # firsts: 1, 2, 0; seconds: 0, 1, 2
        _, kept, _ = choose(scores, 2, capacity=1, overflow="drop")
        assert kept is not None
        assert kept.tolist() == [[True, False]] * 3  # first come, first served would give the first row both

    def test_dropping_leaves_the_other_weight_as_it_was(self) -> None:
        logits = torch.tensor([[2.0, 1.0, -9.0], [2.0, 1.0, -9.0]])
        routing = top_k_route(logits, 2, capacity=1, overflow="drop", normalize=True)
        torch.testing.assert_close(routing.weights[0], logits[0, :2].softmax(0), atol=1e-4, rtol=0)

    def test_capacity_is_the_even_share_times_the_factor_rounded_up(self) -> None:
        assert capacity(10, 4, 1) == 3
        assert capacity(10, 4, 1, 1.5) == 4
        assert capacity(10, 4, 2, 100.0) == 10  # nobody is served twice


class TestExpertChoice:
    @settings(deadline=None)
    @given(problem=problems())
    def test_every_expert_serves_its_best_and_all_the_same_number(self, problem: tuple[Tensor, int, float]) -> None:
        logits, k, _ = problem
        rows, experts = logits.shape
        room = capacity(rows, experts, k)
        routing = expert_choice_route(logits, room)
        assert routing.counts.tolist() == [room] * experts
        assert routing.kept is not None
        p = logits.softmax(1)
        for e in range(experts):
            taken, left = p[routing.kept[:, e], e], p[~routing.kept[:, e], e]
            assert not len(left) or taken.min() >= left.max()
        torch.testing.assert_close(routing.weights, p)


class TestLosses:
    def test_switch_by_hand(self) -> None:
        p = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.1, 0.4]], dtype=torch.float64)
        experts = p.topk(1).indices  # 0, 0, 1, 0
        expected = 3 * (3 / 4 * 1.9 / 4 + 1 / 4 * 1.4 / 4 + 0)
        assert float(load_balancing_loss(p, experts, 3)) == pytest.approx(expected)
        # two choices each: shares of all eight, so that even is 1 again
        expected = 3 * (3 / 8 * 1.9 / 4 + 3 / 8 * 1.4 / 4 + 2 / 8 * 0.7 / 4)
        chosen = torch.tensor([[0, 1], [0, 1], [1, 2], [0, 2]])
        assert float(load_balancing_loss(p, chosen, 3)) == pytest.approx(expected)

    @pytest.mark.parametrize("k", [1, 2])
    def test_switch_is_1_when_even_and_e_when_one_has_all(self, k: int) -> None:
        even = torch.full((6, 3), 1 / 3)
        experts = torch.tensor([[0, 1], [1, 2], [2, 0]] * 2)[:, :k]
        assert float(load_balancing_loss(even, experts, 3)) == pytest.approx(1)
        one = torch.tensor([[1.0, 0, 0]] * 6)
        assert float(load_balancing_loss(one, torch.zeros(6, 1, dtype=torch.long), 3)) == pytest.approx(3)

    def test_switch_takes_probability_from_the_crowded(self) -> None:
        logits = torch.zeros(4, 2, dtype=torch.float64, requires_grad=True)
        experts = torch.tensor([[0], [0], [0], [1]])
        load_balancing_loss(logits.softmax(1), experts, 2).backward()
        assert logits.grad is not None
        # d/dl_0 of 2 (3/4 p_0 + 1/4 p_1) per row, averaged over 4: 2 * p_0 p_1 (3/4 - 1/4) / 4
        torch.testing.assert_close(logits.grad, torch.tensor([[1.0, -1.0]] * 4, dtype=torch.float64) / 16)

    def test_importance_and_z_by_hand(self) -> None:
        p = torch.tensor([[0.7, 0.3], [0.9, 0.1]], dtype=torch.float64)  # importance 1.6, 0.4: mean 1, variance 0.36
        assert float(importance_loss(p)) == pytest.approx(0.36)
        logits = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
        assert float(z_loss(logits)) == pytest.approx((math.log(2) ** 2 + (1 + math.log(2)) ** 2) / 2)

    def test_measures(self) -> None:
        assert float(coefficient_of_variation(torch.tensor([5, 5, 5, 5]))) == 0
        assert float(coefficient_of_variation(torch.tensor([1.0, 0, 0, 0]))) == pytest.approx(math.sqrt(3))
        assert float(coefficient_of_variation(torch.tensor([3.0, 1.0]))) == pytest.approx(0.5)
        assert float(coefficient_of_variation(torch.zeros(4))) == 0
        assert float(usage_entropy(torch.tensor([2, 2, 2, 2]))) == pytest.approx(math.log(4))
        assert float(usage_entropy(torch.tensor([7, 0, 0]))) == 0
        both = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
        assert coefficient_of_variation(both).tolist() == pytest.approx([0, 1])


class TestWhatTheRouterLearns:
    """The gradient of the task, through the weights of the chosen."""

    def gradient(self, **options: Any) -> Tensor:
        torch.manual_seed(0)
        layer = MixtureOfExperts(6, 8, moe=MoEConfig(4, **options)).double()
        layer(noise(2, 5, 6)).square().sum().backward()
        assert isinstance(layer.gate, TokenRouter)
        assert layer.gate.weight.grad is not None
        return layer.gate.weight.grad

    def test_one_expert_normalised_teaches_the_router_nothing(self) -> None:
        assert self.gradient(top_k=1, normalize=True).abs().max() < 1e-15
        assert self.gradient(top_k=1, scoring="softmax-chosen").abs().max() < 1e-15
        assert self.gradient(top_k=1, scoring="sigmoid", normalize=True).abs().max() < 1e-15

    @pytest.mark.parametrize(
        "options",
        [
            {"top_k": 1},  # Switch: the default
            {"top_k": 1, "scoring": "sigmoid"},
            {"top_k": 2, "normalize": True},
            {"top_k": 2, "scoring": "softmax-chosen"},
            {"top_k": 2, "route": "expert-choice"},
        ],
    )
    def test_the_others_do(self, options: dict[str, Any]) -> None:
        assert self.gradient(**options).abs().max() > 1e-4


class TestNoise:
    def test_only_while_training_and_of_the_size_asked_for(self) -> None:
        torch.manual_seed(0)
        router = TokenRouter(4, MoEConfig(4, noise=0.5)).double()
        x = noise(1, 5000, 4)
        clean = router.eval()(x).logits
        torch.testing.assert_close(clean, router(x).logits)
        noisy = (router.train()(x).logits - clean).detach()
        assert float(noisy.std()) == pytest.approx(0.5, rel=0.03)  # 20,000 draws: sigma of the estimate 0.5 %

    def test_learned_noise_is_softplus_of_a_second_matrix_and_learns(self) -> None:
        torch.manual_seed(0)
        router = TokenRouter(4, MoEConfig(4, noise=1.0, noise_kind="learned")).double()
        assert router.noise_weight is not None
        with torch.no_grad():
            router.noise_weight.copy_(torch.diag(torch.tensor([-20.0, 0.0, 5.0, 20.0])))
        x = torch.ones(1, 5000, 4, dtype=torch.float64)
        added = router.train()(x).logits - router.eval()(x).logits
        expected = torch.nn.functional.softplus(torch.tensor([-20.0, 0.0, 5.0, 20.0]).double())
        torch.testing.assert_close(added.std(dim=0), expected, rtol=0.05, atol=1e-6)  # sigma 1 %
        router.train()(x).weights.sum().backward()
        assert router.noise_weight.grad is not None
        assert router.noise_weight.grad.abs().max() > 0


class TestBias:
    def test_it_moves_towards_the_neglected_by_a_fixed_step(self) -> None:
        router = TokenRouter(4, MoEConfig(4, balance="bias", balance_rate=0.01, scoring="sigmoid"))
        router.update_bias(torch.tensor([10, 2, 0, 4]))  # mean 4
        assert router.balance_bias is not None
        torch.testing.assert_close(router.balance_bias, torch.tensor([-0.01, 0.01, 0.01, 0.0]))
        assert not router.balance_bias.requires_grad

    def test_it_evens_the_load_out_without_a_gradient(self) -> None:
        torch.manual_seed(0)
        layer = MixtureOfExperts(8, 8, moe=MoEConfig(8, top_k=2, balance="bias", balance_rate=0.02, scoring="sigmoid"))
        x = torch.randn(4, 64, 8) + 1  # a common direction, so that some experts are everyone's favourites
        layer(x)
        assert layer.routing is not None
        before = float(coefficient_of_variation(layer.routing.counts))
        weights = {name: p.clone() for name, p in layer.named_parameters()}
        for _ in range(100):
            layer(x)
            layer.after_step()
        after = float(coefficient_of_variation(layer.routing.counts))
        assert before > 0.5
        assert after < 0.15
        assert all(torch.equal(weights[name], p) for name, p in layer.named_parameters())

    def test_several_forward_passes_are_one_step(self) -> None:
        """With accumulation the bias moves once, by what all batches wanted."""
        layer = MixtureOfExperts(4, 8, moe=MoEConfig(4, top_k=1, balance="bias", scoring="sigmoid"))
        xs = [torch.randn(1, 16, 4) for _ in range(3)]
        wanted = torch.zeros(4)
        for x in xs:
            layer(x)
            assert layer.routing is not None
            wanted += layer.routing.counts
        assert isinstance(layer.gate, TokenRouter)
        assert layer.gate.balance_bias is not None
        assert not layer.gate.balance_bias.any()
        layer.after_step()
        torch.testing.assert_close(layer.gate.balance_bias, 0.001 * (wanted.mean() - wanted).sign())
        layer.after_step()  # nothing has been wanted since
        torch.testing.assert_close(layer.gate.balance_bias, 0.001 * (wanted.mean() - wanted).sign())
        layer.eval()(xs[0])
        layer.after_step()  # reading is not learning
        torch.testing.assert_close(layer.gate.balance_bias, 0.001 * (wanted.mean() - wanted).sign())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_experts": 0}, r"MoEConfig.num_experts = 0: it must be above 0"),
        ({"num_experts": 4, "top_k": 5}, r"top_k = 5, and there are 4 experts: choose 1 to 4"),
        ({"num_experts": 4, "noise": -1.0}, r"MoEConfig.noise = -1.0: it must be at least 0"),
        ({"num_experts": 4, "route": "tokens"}, r"expected one of 'token', 'sample', 'expert-choice', 'product-key'"),
        ({"num_experts": 4, "capacity_factor": 0.0}, r"capacity_factor = 0.0: it must be above 0"),
        ({"num_experts": 4, "usage_decay": 1.0}, r"usage_decay = 1.0: the share of the past that is kept"),
        ({"num_experts": 4, "noise_kind": "learned"}, r"noise, its factor, above 0"),
        ({"num_experts": 4, "noise_kind": "learned", "noise": 1.0, "route": "sample"}, r"route must be 'token'"),
        (
            {"num_experts": 4, "route": "expert-choice", "balance": "switch"},
            r"balance cannot be set with route = 'expert",
        ),
        ({"num_experts": 4, "balance": "bias", "scoring": "softmax-chosen"}, r"use scoring='softmax' with normalize"),
    ],
)
def test_a_config_that_cannot_be_names_value_and_fix(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoEConfig(**options)


def test_a_feed_forward_that_cannot_be_names_value_and_fix() -> None:
    with pytest.raises(ValueError, match="kind = 'plain': experts are gated"):
        FeedForwardConfig(8, kind="plain", moe=MoEConfig(4))
    with pytest.raises(ValueError, match=r"set shared=False, and moe\.shared_hidden"):
        FeedForwardConfig(8, shared=True, moe=MoEConfig(4))
    with pytest.raises(ValueError, match="MoEConfig has no 'experts': did you mean 'num_experts'"):
        FeedForwardConfig.from_dict({"hidden": 8, "moe": {"experts": 4}})


def test_a_routing_by_sample_has_a_row_for_every_token_when_asked() -> None:
    routing = Routing(torch.tensor([[1], [0]]), torch.ones(2, 1), torch.eye(2), torch.eye(2), tokens_per_row=3)
    by_token = routing.by_token()
    assert by_token.experts.flatten().tolist() == [1, 1, 1, 0, 0, 0]
    assert by_token.counts.tolist() == [3, 3]
    assert by_token.by_token() is by_token
