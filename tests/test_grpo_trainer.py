"""Rollouts equal to answers written one by one; and a policy that learns from a reward what nobody told it."""

import copy
import dataclasses
import math
import random
from dataclasses import dataclass

import pytest
import torch

from minilm.generation import Sampling, generate
from minilm.grpo import (
    GRPOConfig,
    GRPOTrainer,
    answer_log_probs,
    clipped_policy_loss,
    greedy_texts,
    group_advantages,
    roll_out,
)
from minilm.model import AttentionConfig, FeedForwardConfig, LanguageModel, ModelConfig
from minilm.tokenizer import BPETokenizer
from minilm.training import AdamW, clip_gradients

TOKENIZER = BPETokenizer.train(["0"], 257, ["<end>"], progress=False)
END = TOKENIZER.special_tokens["<end>"]
CONFIG = ModelConfig(
    vocab_size=257,
    dim=16,
    num_layers=1,
    context_length=16,
    attention=AttentionConfig(num_heads=2),
    feed_forward=FeedForwardConfig(hidden=32),
).replace(initialization={"std": 0.2})


@dataclass(frozen=True)
class Letter:
    """Any answer that begins with a lower-case letter is right: a tenth of the bytes."""

    prompt: str


PROBLEMS = [Letter(prompt) for prompt in ("a", "bc", "def")]


def encode(problem: Letter) -> list[int]:
    return [END, *TOKENIZER.encode(problem.prompt)]


def is_letter(problem: Letter, text: str) -> float:
    return float(text[:1].isascii() and text[:1].islower())


def new_model() -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(CONFIG)


def trainer(model: LanguageModel | None = None, method: str = "grpo", reward=is_letter, **changes) -> GRPOTrainer:
    values = {"prompts": 4, "group": 8, "max_new_tokens": 3, "learning_rate": 1e-2, **changes}
    return GRPOTrainer(
        model or new_model(),
        TOKENIZER,
        PROBLEMS,
        reward,
        GRPOConfig(steps=values.pop("steps", 12), **values),
        encode=encode,
        stop_token=END,
        method=method,
    )


class TestRollouts:
    def test_together_as_one_by_one(self):
        model, prompts = new_model().eval(), [encode(problem) for problem in PROBLEMS]
        rollouts = roll_out(
            model, TOKENIZER, prompts, group=4, max_new_tokens=5, stop_token=END, temperature=0.7, seed=3
        )
        assert len(rollouts.texts) == 12
        for i in range(12):
            prompt = prompts[i // 4]
            (alone,) = generate(
                model, [prompt], 5, Sampling(temperature=0.7), stop_tokens=[END], tokenizer=TOKENIZER, seed=3 + i
            )
            written = rollouts.targets[i][rollouts.mask[i]].tolist()
            assert written == alone.ids + ([END] if alone.stop_reason == "eos" else [])
            assert rollouts.ids[i, : len(prompt)].tolist() == prompt
            assert bool(rollouts.finished[i]) == (alone.stop_reason == "eos")
            row = torch.tensor([[*prompt, *written]])
            with torch.no_grad():
                expected = (model(row[:, :-1]) / 0.7).log_softmax(-1)[0, len(prompt) - 1 :]
            expected = expected.gather(-1, row[0, len(prompt) :, None])[:, 0]
            torch.testing.assert_close(rollouts.old_log_probs[i][rollouts.mask[i]], expected, atol=1e-5, rtol=0)

    def test_lengths_count_the_end(self):
        model = new_model().eval()
        rollouts = roll_out(model, TOKENIZER, [[END]], group=64, max_new_tokens=3, stop_token=END, temperature=3.0)
        assert bool((rollouts.lengths[~rollouts.finished] == 3).all())
        assert rollouts.lengths.tolist() == rollouts.mask.sum(1).tolist()

    def test_greedy_answers(self):
        model, prompts = new_model().eval(), [encode(problem) for problem in PROBLEMS]
        texts = greedy_texts(model, TOKENIZER, prompts, max_new_tokens=4, stop_tokens=[END], batch_size=2)
        alone = [
            generate(model, [p], 4, Sampling(temperature=0), stop_tokens=[END], tokenizer=TOKENIZER) for p in prompts
        ]
        assert texts == [each[0].text for each in alone]

    def test_nonsense_is_refused(self):
        with pytest.raises(ValueError, match="greedy answers are all the same"):
            roll_out(new_model(), TOKENIZER, [[END]], group=2, max_new_tokens=2, stop_token=END, temperature=0)


class TestTrainer:
    @pytest.mark.parametrize("method", ["grpo", "expert"])
    def test_it_learns_what_is_rewarded(self, method):
        run = trainer(method=method, steps=25)
        records = run.train()
        assert records[0].reward < 0.3
        assert records[-1].reward > 0.8
        texts = greedy_texts(run.model, TOKENIZER, [encode(p) for p in PROBLEMS], max_new_tokens=3, stop_tokens=[END])
        assert all(is_letter(PROBLEMS[0], text) for text in texts)

    def test_published_grpo_learns_too(self):
        run = trainer(divide_by_std=True, average="answer", kl=0.01, steps=25)
        records = run.train()
        assert records[-1].reward > 0.8
        assert all(record.kl >= 0 for record in records)
        assert records[-1].kl > records[0].kl

    def test_the_same_seed_gives_the_same_run(self):
        one, two = (
            [dataclasses.replace(record, seconds=0, kl=0) for record in trainer(steps=3).train()] for _ in range(2)
        )
        assert one == two
        other = [dataclasses.replace(record, seconds=0, kl=0) for record in trainer(steps=3, seed=1).train()]
        assert other != one

    def test_no_signal_no_step(self):
        run = trainer(reward=lambda problem, text: 1.0, steps=2)
        before = copy.deepcopy(run.model.state_dict())
        records = run.train()
        assert [record.zero_signal for record in records] == [1.0, 1.0]
        for name, weight in run.model.state_dict().items():
            assert torch.equal(weight, before[name]), name

    def test_strong_kl_holds_the_policy_where_it_was(self):
        def moved(kl: float) -> float:
            run = trainer(kl=kl, steps=15)
            start = copy.deepcopy(run.model)
            run.train()
            ids = torch.tensor([encode(PROBLEMS[0])])
            p, q = run.model(ids)[0, -1].log_softmax(-1), start(ids)[0, -1].log_softmax(-1)
            return (p.exp() * (p - q)).sum().item()

        assert moved(1.0) < 0.2 * moved(0.001)

    def test_groups_can_be_looked_at(self):
        def reward(problem: Letter, text: str) -> float:
            return float(len(problem.prompt) + len(text))

        run = trainer(steps=1, reward=reward)
        run.train()
        assert len(run.last_groups) == 4
        assert len({group.problem for group in run.last_groups}) > 1
        for group in run.last_groups:
            assert group.rewards == [reward(group.problem, text) for text in group.texts]
            assert sum(group.advantages) == pytest.approx(0, abs=1e-4)

    @pytest.mark.parametrize("divide_by_std", [False, True])
    def test_the_config_says_what_an_advantage_is(self, divide_by_std):
        run = trainer(steps=1, divide_by_std=divide_by_std)
        run.train()
        rewards = torch.tensor([group.rewards for group in run.last_groups])
        expected = group_advantages(rewards, divide_by_std=divide_by_std)
        torch.testing.assert_close(torch.tensor([group.advantages for group in run.last_groups]), expected)

    def test_the_rate_rises_from_nothing(self):
        def first_step(warmup: int) -> float:
            run = trainer(steps=1, updates=1, warmup=warmup)
            before = run.model.head.weight.detach().clone()
            run.train()
            return (run.model.head.weight - before).abs().max().item()

        assert first_step(10) == pytest.approx(first_step(0) / 10, rel=1e-3)

    def test_the_rate_falls_to_a_share_of_itself(self):
        run, rates = trainer(steps=6, warmup=2, final=0.25, learning_rate=0.01), []
        for _ in run.steps():
            rates += [group["lr"] for group in run.optimizer.param_groups]
        assert rates == pytest.approx([0.005, 0.01, 0.008125, 0.00625, 0.004375, 0.0025])
        assert [GRPOConfig(steps=3, learning_rate=2.0).rate(step) for step in (1, 2, 3)] == [2.0, 2.0, 2.0]
        assert GRPOConfig(steps=1, learning_rate=2.0, final=0.5).rate(1) == 2.0
        assert GRPOConfig(steps=3, learning_rate=2.0, warmup=10, final=0.5).rate(3) == pytest.approx(0.6)

    def test_a_loss_of_ones_own_drives_the_run(self):
        def loss(log_probs, old, rewards, mask, length):
            advantages = group_advantages(rewards, divide_by_std=False).flatten()
            return clipped_policy_loss(log_probs, old, advantages, mask, average="constant", length=length)

        one, two = trainer(steps=3), trainer(steps=3)
        two.loss = loss
        seen = two.train()
        assert [dataclasses.replace(record, seconds=0, kl=0) for record in one.train()] == [
            dataclasses.replace(record, seconds=0, kl=0) for record in seen
        ]
        for name, weight in one.model.state_dict().items():
            assert torch.equal(weight, two.model.state_dict()[name]), name
        still = trainer(steps=2)
        still.loss = lambda log_probs, old, rewards, mask, length: 0.0 * log_probs.sum()
        before = copy.deepcopy(still.model.state_dict())
        still.train()
        assert all(torch.equal(weight, before[name]) for name, weight in still.model.state_dict().items())

    def test_evaluation_has_its_turn(self):
        run = trainer(steps=5)
        run.evaluate, run.evaluate_every = (lambda model: {"training": float(model.training)}), 2
        assert [record.metrics for record in run.train()] == [
            {},
            {"training": 0.0},
            {},
            {"training": 0.0},
            {"training": 0.0},
        ]

    def test_old_log_probs_are_those_of_the_loss(self):
        """At the first update every ratio is 1: what is drawn from is what is learned."""
        run = trainer(updates=1, temperature=1.7)
        rollouts = roll_out(
            run.model.eval(), TOKENIZER, [[END]], group=8, max_new_tokens=3, stop_token=END, temperature=1.7
        )
        again = answer_log_probs(run.model, rollouts.ids, rollouts.targets, 1.7)
        torch.testing.assert_close(again[rollouts.mask], rollouts.old_log_probs[rollouts.mask])
        assert [record.clipped for record in run.train()] == [0.0] * 12

    def test_one_set_of_answers_for_two_updates(self):
        """What the trainer does with two updates, written out; scoring the answers beforehand or at the first update is one."""
        run = trainer(steps=1, updates=2, learning_rate=0.3, clip=0.05)
        chance = random.Random(0)
        problems = [chance.choice(PROBLEMS) for _ in range(4)]
        model = new_model()
        written = roll_out(
            model.eval(),
            TOKENIZER,
            [encode(problem) for problem in problems],
            group=8,
            max_new_tokens=3,
            stop_token=END,
            seed=chance.randrange(2**31),
        )
        rewards = torch.tensor([is_letter(PROBLEMS[0], text) for text in written.texts])
        advantages = group_advantages(rewards.view(4, 8), divide_by_std=False).flatten()
        optimizer = AdamW(model.parameters(), 0.3, (0.9, 0.95), 1e-8, 0.0)
        for _ in range(2):
            log_probs = answer_log_probs(model, written.ids, written.targets)
            loss = clipped_policy_loss(
                log_probs, written.old_log_probs, advantages, written.mask, clip=0.05, average="constant", length=3
            )
            optimizer.zero_grad()
            loss.backward()
            clip_gradients(model.parameters(), 1.0)
            optimizer.step()
        (record,) = run.train()
        assert record.clipped > 0.05  # the second update saw other ratios than 1
        for name, weight in run.model.state_dict().items():
            torch.testing.assert_close(weight, model.state_dict()[name], atol=1e-4, rtol=0)

    def test_answers_are_scored_once_an_update(self):
        run, passes = trainer(steps=1, updates=2), []
        run.model.register_forward_hook(lambda model, inputs, out: passes.append(model.training))
        options = {"group": 8, "max_new_tokens": 3, "stop_token": END, "with_log_probs": False}
        roll_out(run.model.eval(), TOKENIZER, [encode(PROBLEMS[0])] * 4, **options)
        writing = len(passes)
        passes.clear()
        run.train()
        assert passes.count(True) == 2
        assert passes.count(False) == writing

    def test_bad_settings_and_rewards(self):
        with pytest.raises(ValueError, match=r"GRPOConfig\.group = 1"):
            GRPOConfig(steps=1, group=1)
        with pytest.raises(ValueError, match=r"GRPOConfig\.temperature = 0"):
            GRPOConfig(steps=1, temperature=0)
        with pytest.raises(ValueError, match=r"GRPOConfig\.final = 2"):
            GRPOConfig(steps=1, final=2)
        with pytest.raises(ValueError, match="choose 'grpo' or 'expert'"):
            trainer(method="ppo")
        with pytest.raises(ValueError, match="must be a finite number"):
            trainer(reward=lambda problem, text: math.nan).train()
        with pytest.raises(ValueError, match="no problems"):
            GRPOTrainer(new_model(), TOKENIZER, [], is_letter, GRPOConfig(steps=1), encode=encode, stop_token=END)
