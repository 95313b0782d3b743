"""Preferences: the losses by hand, the reference computed once, pairs as batches, what is reported."""

import math
import types

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from minilm.data.windows import IGNORE
from minilm.finetuning import (
    PreferenceBatches,
    PreferenceConfig,
    PreferenceReport,
    PreferenceTrainer,
    answer_log_probs,
    dpo_loss,
    encode_pair,
    implicit_reward,
    ipo_loss,
    kto_loss,
    preference_loss,
    preference_report,
    sequence_log_probs,
)
from minilm.model import LanguageModel
from minilm.tokenizer import CHATML_SPECIAL_TOKENS, BPETokenizer
from minilm.training import OptimizerConfig, TrainingConfig

TEXT = "Tell me a story about a cat. There was a cat. There was a dog. Thank you.\n"
FIGURES = st.floats(-300, 0)


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train([TEXT] * 3, 290, ("<end>", *CHATML_SPECIAL_TOKENS), progress=False)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    shape = {"dim": 16, "num_layers": 1, "context_length": 64, "attention": {"num_heads": 2}}
    return LanguageModel.from_preset("slim", vocab_size=tokenizer.vocab_size, **shape)


@pytest.fixture
def pairs(tokenizer):
    answers = ["There was a cat.", "There was a dog. Thank you.", "Thank you.", "a cat", "There was a story."]
    prompt = [{"role": "user", "content": "Tell me a story."}]
    return [encode_pair(tokenizer, prompt, a, b) for a in answers for b in answers if a != b]


def four(seed=0, count=6):
    torch.manual_seed(seed)
    return [torch.randn(count, dtype=torch.float64) * 20 - 60 for _ in range(4)]


# --- the losses ---


@given(FIGURES, FIGURES, FIGURES, FIGURES, st.floats(0.01, 2), st.floats(0, 0.4))
def test_dpo_by_hand(chosen, rejected, reference_chosen, reference_rejected, beta, smoothing):
    difference = beta * ((chosen - reference_chosen) - (rejected - reference_rejected))
    # -ln sigmoid(x) = ln(1 + exp(-x)), written so that nothing overflows
    softplus = lambda x: max(x, 0) + math.log1p(math.exp(-abs(x)))  # noqa: E731
    expected = (1 - smoothing) * softplus(-difference) + smoothing * softplus(difference)
    values = [torch.tensor([v], dtype=torch.float64) for v in (chosen, rejected, reference_chosen, reference_rejected)]
    assert float(dpo_loss(*values, beta, smoothing)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(FIGURES, FIGURES, FIGURES, FIGURES, st.floats(0.01, 2))
def test_ipo_by_hand(chosen, rejected, reference_chosen, reference_rejected, beta):
    expected = ((chosen - rejected) - (reference_chosen - reference_rejected) - 1 / (2 * beta)) ** 2
    values = [torch.tensor([v], dtype=torch.float64) for v in (chosen, rejected, reference_chosen, reference_rejected)]
    assert float(ipo_loss(*values, beta)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shift", [3.0, -3.0])
def test_kto_by_hand(shift):
    pc, pr, rc, rr = four()
    pm, rm = four(1)[:2]
    pm = rm + shift + torch.linspace(-1, 1, 6, dtype=torch.float64)
    loss = kto_loss(pc, pr[:4], rc, rr[:4], pm, rm, beta=0.2, chosen_weight=1.5, rejected_weight=0.5)
    distance = max(0.0, 0.2 * sum((pm - rm).tolist()) / 6)
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    expected = [1.5 * (1 - sigmoid(0.2 * (p - r) - distance)) for p, r in zip(pc.tolist(), rc.tolist(), strict=True)]
    expected += [
        0.5 * (1 - sigmoid(distance - 0.2 * (p - r))) for p, r in zip(pr[:4].tolist(), rr[:4].tolist(), strict=True)
    ]
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64))


def test_kto_sends_no_gradient_through_its_point_of_comparison():
    values = [each.requires_grad_() for each in [*four(), *four(1)[:2]]]
    kto_loss(values[0], values[1], values[2], values[3], values[4] + 50, values[5]).sum().backward()
    assert values[0].grad.abs().max() > 0
    assert values[4].grad is None


def test_at_the_reference_dpo_is_ln_2_and_pulls_with_half_of_beta():
    pc, pr, _, _ = four()
    policy = pc.clone().requires_grad_()
    loss = dpo_loss(policy, pr, pc, pr, beta=0.3)
    torch.testing.assert_close(loss, torch.full_like(loss, math.log(2)))
    loss.sum().backward()
    torch.testing.assert_close(policy.grad, torch.full_like(pc, -0.15))


def test_dpo_sees_the_difference_only():
    pc, pr, rc, rr = four()
    torch.testing.assert_close(dpo_loss(pc - 7, pr - 7, rc, rr), dpo_loss(pc, pr, rc, rr))


def test_losses_are_trls_where_it_has_them_as_functions():
    trl = pytest.importorskip("trl", reason="TRL is not installed here")
    if not hasattr(trl.DPOTrainer, "dpo_loss") or not hasattr(trl.KTOTrainer, "kto_loss"):
        pytest.skip(f"TRL {trl.__version__} has no losses to call by themselves")
    accelerator = types.SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)
    common = {"accelerator": accelerator, "reference_free": False, "f_divergence_type": "reverse_kl"}
    pc, pr, rc, rr = four()
    pm, rm = four(1)[:2]
    for smoothing in (0.0, 0.2):
        them = types.SimpleNamespace(
            loss_type="sigmoid", beta=0.2, label_smoothing=smoothing, f_divergence_params=None, **common
        )
        theirs, reward, _ = trl.DPOTrainer.dpo_loss(them, pc, pr, rc, rr)
        torch.testing.assert_close(dpo_loss(pc, pr, rc, rr, 0.2, smoothing), theirs)
        torch.testing.assert_close(implicit_reward(pc, rc, 0.2), reward)
    them.loss_type = "ipo"
    torch.testing.assert_close(ipo_loss(pc, pr, rc, rr, 0.2), trl.DPOTrainer.dpo_loss(them, pc, pr, rc, rr)[0])
    them = types.SimpleNamespace(
        loss_type="kto", beta=0.2, calculate_KL=True, desirable_weight=1.3, undesirable_weight=0.7, **common
    )
    theirs = trl.KTOTrainer.kto_loss(them, pc, pr, pm + 30, rc, rr, rm)[0]
    torch.testing.assert_close(kto_loss(pc, pr, rc, rr, pm + 30, rm, 0.2, 1.3, 0.7), theirs)


def test_sequence_log_probs_sum_what_is_learned():
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    targets[0, :2], targets[2, 3:] = IGNORE, IGNORE
    each = -F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(3, 5)
    torch.testing.assert_close(sequence_log_probs(logits, targets), each.sum(1))
    torch.testing.assert_close(sequence_log_probs(logits, targets, average=True), each.sum(1) / torch.tensor([3, 5, 3]))
    with pytest.raises(ValueError, match="do not fit"):
        sequence_log_probs(logits, targets[:, :-1])


def test_configs_name_what_is_wrong():
    with pytest.raises(ValueError, match="beta = 0"):
        PreferenceConfig(beta=0)
    with pytest.raises(ValueError, match=r"below 0\.5"):
        PreferenceConfig(label_smoothing=0.5)
    with pytest.raises(ValueError, match="is dpo's, not ipo's"):
        PreferenceConfig(loss="ipo", label_smoothing=0.1)


# --- pairs ---


def test_only_the_answers_count_and_equal_beginnings_cancel(tokenizer, model, pairs):
    pair = pairs[0]
    opening = pair.chosen.learned.index(True)
    assert pair.chosen.ids[:opening] == pair.rejected.ids[:opening]
    logits = model(torch.tensor([pair.chosen.ids[:-1]]))
    by_hand = logits.log_softmax(-1)[0, range(len(pair.chosen)), list(pair.chosen.ids[1:])][opening - 1 :]
    by_hand = by_hand[: sum(pair.chosen.learned)].sum()  # the line break behind the turn is not the model's
    torch.testing.assert_close(answer_log_probs(model, [pair.chosen])[0], by_hand.detach())


def test_log_probs_do_not_depend_on_the_batch(model, pairs):
    examples = [each for pair in pairs for each in (pair.chosen, pair.rejected)]
    together = answer_log_probs(model, examples)
    alone = torch.stack([answer_log_probs(model, [each])[0] for each in examples])
    torch.testing.assert_close(together, alone)


def test_batches_bring_the_references_numbers(model, pairs):
    batches = PreferenceBatches(pairs, 4, model, mismatched=True)
    batch = next(batches)
    assert (batch.pairs, len(batch.ids), batch.weight) == (4, 12, 4)
    with torch.no_grad():
        torch.testing.assert_close(sequence_log_probs(batch.logits(model), batch.targets), batch.reference)
    known = PreferenceBatches(pairs, 4, batches.reference, mismatched=True)
    torch.testing.assert_close(next(known).reference, batch.reference)
    with pytest.raises(ValueError, match="and there are 40 answers"):
        PreferenceBatches(pairs, 4, batches.reference)


@pytest.mark.parametrize("rows", [3, 5, 7])
def test_the_reference_itself_ties_every_pair(tokenizer, pairs, monkeypatch, rows):
    # Rows of other batches round otherwise: measured column by column, some of these pairs would seem to be decided.
    torch.manual_seed(0)
    shape = {"dim": 16, "num_layers": 2, "context_length": 64, "attention": {"num_heads": 2}}
    model = LanguageModel.from_preset("slim", vocab_size=tokenizer.vocab_size, **shape)
    monkeypatch.setattr("minilm.finetuning.preference_training.LOGITS_AT_ONCE", rows * 40 * tokenizer.vocab_size)
    batches = PreferenceBatches(pairs, 4, model)
    assert torch.equal(batches.log_probs(model), batches.reference)
    report = preference_report(model, batches)
    assert (report.accuracy, report.margin, report.chosen_change, report.rejected_change) == (0.5, 0, 0, 0)


def test_mismatched_answers_follow_another_prompt(tokenizer, model):
    pairs = [
        encode_pair(tokenizer, [{"role": "user", "content": prompt}], answer, "a")
        for prompt, answer in (("cat", "There was a cat."), ("dog", "There was a dog."))
    ]
    third = PreferenceBatches(pairs, 2, model, mismatched=True).columns[2]
    said = [tokenizer.decode(example.ids) for example in third]
    assert "cat<|im_end|>" in said[0]
    assert "There was a dog.<|im_end|>" in said[0]
    assert [t for t in third[0].targets if t != IGNORE] == [t for t in pairs[1].chosen.targets if t != IGNORE]
    long = encode_pair(tokenizer, [{"role": "user", "content": "cat " * 9}], "a", "b")
    batches = PreferenceBatches([long, *pairs], 3, model, mismatched=True)
    assert max(map(len, batches.columns[2])) <= max(map(len, [long, *pairs]))  # so it fits where the pairs fit


@pytest.mark.parametrize("loss", ["dpo", "ipo", "kto"])
def test_training_widens_the_margin(model, pairs, loss):
    kept = [pair for i, pair in enumerate(pairs) if i < 4]  # all of them prefer one answer
    config = PreferenceConfig(loss=loss, beta=0.5)
    batches = PreferenceBatches(kept, 4, model, mismatched=loss == "kto")
    before = preference_report(model, batches, config.beta)
    assert before.margin == pytest.approx(0, abs=1e-5)
    trainer = PreferenceTrainer(model, batches, TrainingConfig(steps=15, learning_rate=3e-3), config)
    records = trainer.train()
    assert records[-1].loss < records[0].loss
    after = preference_report(model, batches, config.beta)
    assert after.accuracy == 1
    assert after.margin > 0.5
    assert trainer.latest is not None
    assert trainer.latest.pairs == 4


def test_the_trainers_loss_is_the_formula(model, pairs):
    reference = model
    policy = LanguageModel.from_config(model.config)
    batches = PreferenceBatches(pairs[:5], 5, reference)
    trainer = PreferenceTrainer(policy, batches, TrainingConfig(steps=1), PreferenceConfig(beta=0.3))
    batch = next(batches)
    policy.eval()
    with torch.no_grad():
        values = sequence_log_probs(policy(batch.ids), batch.targets).view(2, 5)
        expected = dpo_loss(values[0], values[1], batch.reference[:5], batch.reference[5:], 0.3).mean()
        torch.testing.assert_close(trainer.batch_loss(batch), expected)
    torch.testing.assert_close(
        preference_loss(values, batch.reference.view(2, 5), PreferenceConfig(beta=0.3)), expected
    )


def test_several_small_batches_of_pairs_make_the_update_of_one_large_one(model, pairs):
    weights = []
    for size, accumulate in ((8, 1), (2, 4)):
        policy = LanguageModel.from_config(model.config).double()
        policy.load_state_dict(model.double().state_dict())
        config = TrainingConfig(
            steps=1, accumulate=accumulate, learning_rate=1e-2, optimizer=OptimizerConfig(kind="sgd"), clip=None
        )
        PreferenceTrainer(policy, PreferenceBatches(pairs[:8], size, model), config).train()
        weights.append(dict(policy.named_parameters()))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-8)  # the reference is kept in float32


def test_kto_without_mismatched_answers_is_refused(model, pairs):
    with pytest.raises(ValueError, match="mismatched=True"):
        PreferenceTrainer(
            model, PreferenceBatches(pairs, 4, model), TrainingConfig(steps=1), PreferenceConfig(loss="kto")
        )


# --- the report ---


def test_a_report_counts_and_shows_displacement():
    policy_chosen, policy_rejected = torch.tensor([-12.0, -20.0]), torch.tensor([-30.0, -10.0])
    report = PreferenceReport.of(
        policy_chosen, policy_rejected, torch.tensor([-10.0, -10.0]), torch.tensor([-10.0, -10.0]), 0.1
    )
    assert report.accuracy == 0.5
    assert report.margin == pytest.approx(0.1 * ((-2 + 20) + (-10 - 0)) / 2)
    assert (report.chosen_change, report.rejected_change) == (-6, -10)
    assert report.displaced
    assert "-6.00 since the reference" in str(report)
    equal = PreferenceReport.of(*[torch.tensor([-1.0])] * 4, 0.1)
    assert equal.accuracy == 0.5
    assert not equal.displaced
