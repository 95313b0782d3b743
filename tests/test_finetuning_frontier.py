"""The frontier of reward against distance by hand, where a policy stands, what was followed and what forgotten."""

import itertools
import math

import numpy as np
import pytest
import torch

from minilm.data import stories
from minilm.data.instructions import instructions
from minilm.evaluation import EvaluationError
from minilm.finetuning import (
    ChatBatches,
    answer_log_probs,
    best_reward_at,
    encode_chat,
    follow_report,
    forgetting,
    policy_point,
    reward_frontier,
    sample_answers,
)
from minilm.finetuning.frontier import closing_token, mean_estimate, tilt
from minilm.model import LanguageModel
from minilm.tokenizer import CHATML_SPECIAL_TOKENS, BPETokenizer
from minilm.training import Trainer, TrainingConfig

ASK = [{"role": "user", "content": "Tell me a story."}]


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(stories.generate("easy", 100), 320, ("<end>", *CHATML_SPECIAL_TOKENS), progress=False)


def small_model(tokenizer, seed=0, **changes):
    torch.manual_seed(seed)
    shape = {"dim": 32, "num_layers": 1, "context_length": 160, "attention": {"num_heads": 2}, **changes}
    return LanguageModel.from_preset("slim", vocab_size=tokenizer.vocab_size, **shape).eval()


# --- the frontier ---


@pytest.mark.parametrize("beta", [0.2, 1.0, 5.0])
def test_the_tilted_distribution_by_hand(beta):
    # A reference that gives three answers with probabilities 1/2, 1/4, 1/4 and rewards 0, 1, 3.
    rewards = np.array([0.0, 0.0, 1.0, 3.0])
    p, r = [0.5, 0.25, 0.25], [0.0, 1.0, 3.0]
    z = sum(pi * math.exp(ri / beta) for pi, ri in zip(p, r, strict=True))
    tilted = [pi * math.exp(ri / beta) / z for pi, ri in zip(p, r, strict=True)]
    reward, kl, effective = tilt(rewards, beta)
    assert reward == pytest.approx(sum(q * ri for q, ri in zip(tilted, r, strict=True)))
    assert kl == pytest.approx(sum(q * math.log(q / pi) for q, pi in zip(tilted, p, strict=True)))
    assert 1 <= effective <= 4


def test_no_reweighting_earns_more_at_its_distance():
    random = np.random.default_rng(0)
    rewards = random.normal(size=400)
    points = reward_frontier(rewards.tolist(), (8, 4, 2, 1, 0.7, 0.5), resamples=0)
    for _ in range(50):
        q = random.dirichlet(np.full(400, random.uniform(0.3, 5))) * np.exp(random.uniform(0, 1) * rewards)
        q /= q.sum()
        kl, earned = float((q * np.log(q * 400)).sum()), float((q * rewards).sum())
        if kl < points[-1].kl.value:
            assert earned <= best_reward_at(points, kl) + 0.03  # the line between points is a little below the curve


def test_a_smaller_beta_goes_further_and_rests_on_fewer_samples():
    rewards = np.random.default_rng(1).normal(size=2000).tolist()
    points = reward_frontier(rewards, (4, 1, 0.5, 0.1), resamples=50)
    for before, after in itertools.pairwise(points):
        assert after.kl.value > before.kl.value
        assert after.reward.value > before.reward.value
        assert after.effective_samples < before.effective_samples
    # A normal reward tilted at beta: mean 1 / beta, KL 1 / (2 beta^2), both exact.
    one = points[1]
    assert one.reward.low < 1 < one.reward.high
    assert one.kl.low < 0.5 < one.kl.high
    assert one.reliable
    assert not points[-1].reliable


def test_nothing_overflows_and_errors_are_named():
    reward, kl, effective = tilt(np.array([0.0, 1000.0]), 0.01)
    assert (reward, effective) == (1000.0, 1.0)
    assert kl == pytest.approx(math.log(2))
    with pytest.raises(EvaluationError, match="at least two"):
        reward_frontier([1.0])
    with pytest.raises(EvaluationError, match="must be finite"):
        reward_frontier([1.0, math.nan])
    with pytest.raises(EvaluationError, match="beta = 0"):
        reward_frontier([1.0, 2.0], (0,))


def test_an_interval_holds_the_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    held = [(found := mean_estimate(random.normal(size=100))).low < 0 < found.high for _ in range(1000)]
    assert abs(sum(held) / 1000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 1000)


# --- a policy ---


def test_the_reference_is_at_no_distance_from_itself(tokenizer):
    model = small_model(tokenizer)
    point = policy_point(model, model, tokenizer, len, ASK, n=6, max_new_tokens=12)
    assert point.kl.value == pytest.approx(0, abs=1e-5)
    assert point.reward.value == pytest.approx(sum(map(len, point.texts)) / 6)
    assert 0 <= point.unfinished <= 1


def test_the_distance_is_the_mean_log_ratio_of_what_was_written(tokenizer):
    policy, reference = small_model(tokenizer), small_model(tokenizer, seed=1)
    point = policy_point(policy, reference, tokenizer, lambda text: 0.0, ASK, n=8, max_new_tokens=130, seed=3)
    written = sample_answers(policy, tokenizer, ASK, 8, max_new_tokens=130, seed=3)
    assert {each.stop_reason for each in written} == {"eos", "length"}
    opened = tokenizer.apply_chat_template(ASK, add_generation_prompt=True)
    ratios = []
    for each in written:
        ids = torch.tensor([[*opened, *each.ids]])
        with torch.no_grad():
            scores = [m(ids).log_softmax(-1)[0, len(opened) - 1 :] for m in (policy, reference)]
        own, other = (sum(float(s[i, token]) for i, token in enumerate(each.ids)) for s in scores)
        if each.stop_reason == "eos":
            closing = closing_token(tokenizer)
            own, other = own + float(scores[0][-1, closing]), other + float(scores[1][-1, closing])
        ratios.append(own - other)
    assert point.kl.value == pytest.approx(sum(ratios) / 8, rel=1e-3, abs=1e-4)
    assert len(set(point.texts)) > 1


def test_a_prompt_that_fills_the_context_is_refused(tokenizer):
    long = [{"role": "user", "content": "cat " * 200}]
    with pytest.raises(EvaluationError, match="and the model sees 160"):
        sample_answers(small_model(tokenizer), tokenizer, long, 2)


# --- following, forgetting ---


def test_a_model_that_learned_its_tasks_by_heart_follows_them(tokenizer):
    tasks = instructions("easy", 4, kinds=("question",))
    model = small_model(tokenizer)
    assert follow_report(model, tokenizer, tasks, max_new_tokens=4).accuracy == 0
    examples = [encode_chat(tokenizer, task.messages) for task in tasks]
    Trainer(model, ChatBatches(examples, 4), TrainingConfig(steps=80, learning_rate=1e-2)).train()
    report = follow_report(model, tokenizer, tasks, max_new_tokens=6)
    assert report.right == [True] * 4
    assert [task.check(answer) for task, answer in zip(tasks, report.answers, strict=True)] == report.right
    assert "4 of 4" in str(report)
    assert float(answer_log_probs(model, examples).mean()) > -1
    cut = follow_report(model, tokenizer, tasks[:1], max_new_tokens=len(tokenizer.encode(tasks[0].answer)))
    assert cut.answers == [tasks[0].answer]
    assert cut.right == [False]  # an answer that does not end is none, be its words right
    with pytest.raises(EvaluationError, match="no task"):
        follow_report(model, tokenizer, [])


def test_a_long_prompt_takes_no_room_from_a_short_one(tokenizer):
    free, question = instructions("easy", 1, kinds=("free",)), instructions("easy", 1, kinds=("question",))
    model = small_model(tokenizer, context_length=150)
    alone = follow_report(model, tokenizer, free).answers
    assert follow_report(model, tokenizer, [*free, *question]).answers[:1] == alone
    with pytest.raises(EvaluationError, match="leave it out"):
        follow_report(small_model(tokenizer, context_length=40), tokenizer, question)


def test_forgetting_is_paired_text_by_text(tokenizer):
    model, texts = small_model(tokenizer), stories.generate("easy", 6)
    same = forgetting(model, model, tokenizer, texts)
    assert (same.change, same.error, same.forgot) == (0, 0, False)
    Trainer(
        model,
        ChatBatches([encode_chat(tokenizer, t.messages) for t in instructions("easy", 8)], 8),
        TrainingConfig(steps=10),
    ).train()
    learned = forgetting(small_model(tokenizer), model, tokenizer, texts)
    assert learned.change < -2 * learned.error
    assert not learned.forgot
    forgotten = forgetting(model, small_model(tokenizer), tokenizer, texts)
    assert forgotten.forgot
    assert forgotten.change == pytest.approx(-learned.change)
    assert "over 6 texts" in str(forgotten)
    with pytest.raises(EvaluationError, match="at least two"):
        forgetting(model, model, tokenizer, texts[:1])
