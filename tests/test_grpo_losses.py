"""Advantages, policy losses and estimates: equal to their formulas by hand, and to the gradient of the expected reward."""

import itertools
import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minilm.grpo import (
    averaged,
    best_of_n,
    clipped_policy_loss,
    clipped_share,
    distillation_loss,
    group_advantages,
    kl_estimate,
    majority_vote,
    pass_at_k,
    policy_gradient_loss,
    soften,
    vote_curve,
    zero_signal_share,
)

REWARDS = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])


def some_answers(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, those of an older policy, and a mask of unequal lengths."""
    generator = torch.Generator().manual_seed(seed)
    log_probs = -torch.rand(6, 5, generator=generator, dtype=torch.float64)
    old = log_probs + 0.4 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    mask = torch.arange(5)[None] < torch.tensor([5, 1, 3, 2, 4, 5])[:, None]
    return log_probs, old, mask


class TestAdvantages:
    def test_by_hand(self):
        half = 0.5 / (statistics.stdev([1, 0, 0, 1]) + 1e-4)
        found = group_advantages(REWARDS)
        torch.testing.assert_close(found[0], torch.tensor([half, -half, -half, half]))
        assert found[2].tolist() == [0, 0, 0, 0]

    def test_without_the_division_a_rare_success_weighs_less_than_its_group(self):
        plain, divided = group_advantages(REWARDS, divide_by_std=False), group_advantages(REWARDS)
        assert plain[0].tolist() == [0.5, -0.5, -0.5, 0.5]
        assert plain[1].tolist() == [-0.25, -0.25, -0.25, 0.75]
        # The bias: one in four and two in four have the same size once divided.
        torch.testing.assert_close(divided[:2].square().sum(dim=1), torch.full((2,), 3.0), atol=2e-3, rtol=0)

    def test_leave_one_out_compares_with_the_others(self):
        found = group_advantages(REWARDS, baseline="leave-one-out", divide_by_std=False)
        for row, rewards in zip(found.tolist(), REWARDS.tolist(), strict=True):
            for i, value in enumerate(row):
                others = rewards[:i] + rewards[i + 1 :]
                assert value == pytest.approx(rewards[i] - statistics.fmean(others))

    @settings(deadline=None)
    @given(st.lists(st.lists(st.floats(-2, 2), min_size=4, max_size=4), min_size=1, max_size=5))
    def test_a_group_sums_to_nothing(self, rewards):
        table = torch.tensor(rewards, dtype=torch.float64)
        for baseline, divided in itertools.product(["group", "leave-one-out"], [True, False]):
            found = group_advantages(table, baseline=baseline, divide_by_std=divided)
            assert found.sum(dim=1).abs().max() < 1e-6 * (1 + found.abs().max())

    def test_equal_groups_give_no_signal(self):
        assert zero_signal_share(REWARDS) == pytest.approx(1 / 3)

    def test_what_cannot_be_compared_is_refused(self):
        with pytest.raises(ValueError, match="nothing to compare"):
            group_advantages(torch.ones(3, 1))
        with pytest.raises(ValueError, match="one row a prompt"):
            group_advantages(torch.ones(3))
        with pytest.raises(ValueError, match="no standard deviation"):
            group_advantages(torch.ones(3, 1), baseline="none")


class TestAverage:
    def test_three_ways(self):
        values = torch.tensor([[1.0, 2.0, math.nan], [4.0, math.inf, math.nan]])
        mask = torch.tensor([[True, True, False], [True, False, False]])
        assert averaged(values, mask, "answer").item() == pytest.approx((1.5 + 4) / 2)
        assert averaged(values, mask, "token").item() == pytest.approx(7 / 3)
        assert averaged(values, mask, "constant", 10).item() == pytest.approx((3 + 4) / 2 / 10)

    def test_the_length_bias_of_a_mean_within_answers(self):
        """Two wrong answers, one four times as long: each of its tokens is pushed down a quarter as much."""
        log_probs = torch.zeros(2, 4, requires_grad=True)
        mask = torch.tensor([[True] * 4, [True, False, False, False]])
        wrong = torch.tensor([-1.0, -1.0])
        for average, ratio in (("answer", 0.25), ("token", 1.0), ("constant", 1.0)):
            loss = policy_gradient_loss(log_probs, wrong, mask, average=average, length=4)
            (gradient,) = torch.autograd.grad(loss, log_probs)
            assert (gradient[0, 0] / gradient[1, 0]).item() == pytest.approx(ratio)

    def test_constant_wants_its_constant(self):
        with pytest.raises(ValueError, match="max_new_tokens"):
            averaged(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), "constant")


class TestPolicyLosses:
    def test_reinforce_is_the_gradient_of_the_expected_reward(self):
        """All answers of two tokens of three, each weighed with its probability: the estimate's mean is the gradient itself."""
        torch.manual_seed(0)
        logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)  # place, token
        worth = torch.randn(3, 3, dtype=torch.float64)
        pairs = list(itertools.product(range(3), repeat=2))
        log_probs = torch.stack([logits.log_softmax(-1)[torch.arange(2), torch.tensor(pair)] for pair in pairs])
        chance = log_probs.sum(dim=1).exp()
        expected = (chance * torch.tensor([worth[pair] for pair in pairs])).sum()
        (exact,) = torch.autograd.grad(expected, logits, retain_graph=True)
        mask = torch.ones(1, 2, dtype=torch.bool)
        for baseline in (0.0, 5.0):  # a baseline changes the noise, not the mean
            estimate = torch.zeros_like(exact)
            for pair, row, p in zip(pairs, log_probs, chance.detach(), strict=True):
                advantage = (worth[pair] - baseline)[None]
                loss = policy_gradient_loss(row[None], advantage, mask, average="constant", length=1)
                estimate += p * torch.autograd.grad(loss, logits, retain_graph=True)[0]
            torch.testing.assert_close(-estimate, exact)

    @pytest.mark.parametrize("average", ["answer", "token", "constant"])
    def test_clipped_loss_by_a_loop(self, average):
        log_probs, old, mask = some_answers()
        advantages = torch.tensor([1.0, -1.0, 0.5, -0.5, 0.0, 2.0], dtype=torch.float64)
        terms = []
        for i in range(6):
            row = []
            for t in range(5):
                if mask[i, t]:
                    ratio = math.exp(log_probs[i, t] - old[i, t])
                    a = advantages[i].item()
                    row.append(-min(ratio * a, min(max(ratio, 0.8), 1.3) * a))
            terms.append(row)
        by_hand = {
            "answer": statistics.fmean(statistics.fmean(row) for row in terms),
            "token": statistics.fmean(value for row in terms for value in row),
            "constant": statistics.fmean(sum(row) / 7 for row in terms),
        }[average]
        found = clipped_policy_loss(
            log_probs, old, advantages, mask, clip=0.2, clip_high=0.3, average=average, length=7
        )
        assert found.item() == pytest.approx(by_hand, abs=1e-12)

    def test_at_ratio_one_it_is_reinforce(self):
        log_probs, _, mask = some_answers()
        log_probs.requires_grad_()
        advantages = torch.randn(6, dtype=torch.float64)
        one = clipped_policy_loss(log_probs, log_probs.detach(), advantages, mask)
        two = policy_gradient_loss(log_probs, advantages, mask, average="answer")
        for loss in (one, two):
            loss.gradient = torch.autograd.grad(loss, log_probs, retain_graph=True)[0]
        torch.testing.assert_close(one.gradient, two.gradient)

    def test_no_push_past_the_bound_and_always_a_way_back(self):
        moved = torch.tensor([[math.log(1.5), math.log(0.5)]], requires_grad=True)
        mask = torch.ones(1, 2, dtype=torch.bool)
        for sign, held in ((1.0, 0), (-1.0, 1)):
            loss = clipped_policy_loss(moved, torch.zeros(1, 2), torch.tensor([sign]), mask)
            (gradient,) = torch.autograd.grad(loss, moved)
            assert gradient[0, held] == 0
            assert gradient[0, 1 - held] != 0
            assert clipped_share(moved.detach(), torch.zeros(1, 2), torch.tensor([sign]), mask) == 0.5

    def test_padding_is_nothing(self):
        log_probs, old, mask = some_answers()
        advantages = torch.ones(6, dtype=torch.float64)
        spoiled = torch.where(mask, log_probs, torch.inf).requires_grad_()
        loss = clipped_policy_loss(spoiled, old, advantages, mask)
        assert loss.item() == pytest.approx(clipped_policy_loss(log_probs, old, advantages, mask).item())
        (gradient,) = torch.autograd.grad(loss, spoiled)
        assert bool(gradient.isfinite().all())

    def test_what_does_not_fit_is_refused(self):
        log_probs, old, mask = some_answers()
        with pytest.raises(ValueError, match=r"flatten groups"):
            policy_gradient_loss(log_probs, torch.zeros(2, 3), mask, average="token")
        with pytest.raises(ValueError, match="carry a gradient"):
            policy_gradient_loss(log_probs, torch.zeros(6, requires_grad=True), mask, average="token")
        with pytest.raises(ValueError, match=r"clip = 1\.5"):
            clipped_policy_loss(log_probs, old, torch.zeros(6), mask, clip=1.5)
        with pytest.raises(ValueError, match="clip_high"):
            clipped_policy_loss(log_probs, old, torch.zeros(6), mask, clip=0.2, clip_high=0.1)
        with pytest.raises(ValueError, match=r"mask \[6, 4\]"):
            clipped_policy_loss(log_probs, old, torch.zeros(6), mask[:, :4])


class TestKL:
    def test_means_over_the_policy(self):
        p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
        q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
        exact = (p * (p / q).log()).sum()
        for kind in ("k1", "k3"):
            torch.testing.assert_close((p * kl_estimate(p.log(), q.log(), kind)).sum(), exact)
        assert bool((kl_estimate(p.log(), q.log(), "k3") >= 0).all())
        biased = (p * kl_estimate(p.log(), q.log(), "k2")).sum()
        assert biased.item() != pytest.approx(exact.item(), rel=1e-3)
        with pytest.raises(ValueError, match="'k4'"):
            kl_estimate(p, q, "k4")

    def test_as_losses_they_differ(self):
        """The mean gradient of k1 is zero, that of k2 is the KL's: what an estimate is worth as a loss is another question."""
        logits = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
        q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log()
        log_p = logits.log_softmax(-1)
        (exact,) = torch.autograd.grad((log_p.exp() * (log_p - q)).sum(), logits, retain_graph=True)
        p = log_p.exp().detach()
        mean = {
            kind: torch.autograd.grad((p * kl_estimate(log_p, q, kind)).sum(), logits, retain_graph=True)[0]
            for kind in ("k1", "k2")
        }
        torch.testing.assert_close(mean["k1"], torch.zeros_like(exact))
        torch.testing.assert_close(mean["k2"], exact)


class TestDistillation:
    def test_forward_and_reverse_by_pytorch(self):
        torch.manual_seed(0)
        logits = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
        teacher = torch.randn(4, 7, dtype=torch.float64).softmax(-1)
        student = logits.log_softmax(-1)
        forward = torch.nn.functional.kl_div(student, teacher, reduction="batchmean")
        reverse = torch.nn.functional.kl_div(teacher.log(), student.exp(), reduction="batchmean")
        torch.testing.assert_close(distillation_loss(logits, teacher), forward)
        torch.testing.assert_close(distillation_loss(logits, teacher, kind="reverse"), reverse)

    def test_a_sure_teacher_is_cross_entropy(self):
        torch.manual_seed(0)
        logits, tokens = torch.randn(5, 9), torch.tensor([1, 0, 8, 3, 3])
        teacher = torch.nn.functional.one_hot(tokens, 9).float()
        torch.testing.assert_close(
            distillation_loss(logits, teacher), torch.nn.functional.cross_entropy(logits, tokens)
        )

    def test_mask_and_temperature(self):
        torch.manual_seed(0)
        logits, teacher = torch.randn(3, 5), torch.randn(3, 5).softmax(-1)
        mask = torch.tensor([True, False, True])
        torch.testing.assert_close(
            distillation_loss(logits, teacher, mask), distillation_loss(logits[mask], teacher[mask])
        )
        at_two = distillation_loss(logits, soften(teacher, 2.0), temperature=2.0)
        torch.testing.assert_close(at_two, 4 * distillation_loss(logits / 2, soften(teacher, 2.0)))
        torch.testing.assert_close(soften(teacher, 2.0), (teacher.log() / 2).softmax(-1))

    def test_logits_in_place_of_odds_are_refused(self):
        with pytest.raises(ValueError, match="add up to"):
            distillation_loss(torch.zeros(2, 3), torch.full((2, 3), 0.5))


class TestSampling:
    @settings(deadline=None)
    @given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
    def test_pass_at_k_counts_the_choices(self, numbers):
        n, correct, k = numbers
        choices = list(itertools.combinations(range(n), k))
        hits = sum(any(i < correct for i in chosen) for chosen in choices)
        assert pass_at_k(n, correct, k) == pytest.approx(hits / len(choices))

    def test_pass_at_k_refuses_nonsense(self):
        with pytest.raises(ValueError, match="k = 5"):
            pass_at_k(4, 1, 5)
        with pytest.raises(ValueError, match="5 of 4"):
            pass_at_k(4, 5, 1)

    def test_votes(self):
        assert majority_vote(["a", "b", "b", None, None, None]) == "b"
        assert majority_vote(["b", "a"]) == "b"
        assert majority_vote([None]) is None
        assert best_of_n(["a", "bbb", "ccc"], len) == "bbb"

    def test_a_majority_is_right_more_often_than_one_answer_that_is_mostly_right(self):
        generator = torch.Generator().manual_seed(0)
        answers = [[int(x) for x in (torch.rand(9, generator=generator) < 0.6)] for _ in range(300)]
        one, nine = vote_curve(answers, [lambda x: x == 1] * 300, [1, 9])
        binomial = sum(math.comb(9, i) * 0.6**i * 0.4 ** (9 - i) for i in range(5, 10))  # 0.733
        assert one == pytest.approx(0.6, abs=0.04)  # 300 problems: sigma 0.01
        assert nine == pytest.approx(binomial, abs=0.13)  # 5 sigma of 300 votes
        with pytest.raises(ValueError, match="a vote of 12"):
            vote_curve(answers, [lambda x: x == 1] * 300, [12])
