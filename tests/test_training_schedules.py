"""Schedules are the published formulas, reach the right end, and the plateau rule is dlib's."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from minilm.model import LanguageModel
from minilm.training import (
    DropoutConfig,
    DropoutSchedule,
    Plateau,
    ScheduleConfig,
    TrainingConfig,
    decay_branch,
    dropout_rate,
    misplaced_cosine,
    steps_without_decrease,
    warmup_cosine,
    warmup_stable_decay,
)


@settings(max_examples=40, deadline=None)
@given(
    warmup=st.integers(0, 20),
    stable=st.integers(0, 20),
    decay=st.integers(0, 20),
    final=st.sampled_from([0.0, 0.1, 1.0]),
    shapes=st.tuples(st.sampled_from(["linear", "cosine", "1-sqrt"]), st.sampled_from(["linear", "cosine", "1-sqrt"])),
)
def test_wsd_is_transformers(warmup, stable, decay, final, shapes):
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = transformers.get_wsd_schedule(
        optimizer,
        num_warmup_steps=warmup,
        num_stable_steps=stable,
        num_decay_steps=decay,
        min_lr_ratio=final,
        warmup_type=shapes[0],
        decay_type=shapes[1],
    ).lr_lambdas[0]
    for step in range(warmup + stable + decay + 3):
        ours = warmup_stable_decay(
            step, warmup=warmup, stable=stable, decay=decay, final=final, warmup_shape=shapes[0], decay_shape=shapes[1]
        )
        assert ours == pytest.approx(theirs(step), abs=1e-12)


@pytest.mark.parametrize(("warmup", "stable"), [(800, 6400), (1600, 12_800), (2400, 19_200), (3200, 25_600)])
def test_the_doge_checkpoints_schedules(warmup, stable):
    """SmallDoge: 10 % up, 80 % at the peak, 10 % down in a line to 0."""
    total = warmup + stable + warmup

    def rate(step):
        return warmup_stable_decay(step, warmup=warmup, stable=stable, decay=warmup)

    assert rate(warmup // 2) == 0.5
    assert rate(warmup) == rate(warmup + stable) == 1.0
    assert rate(total - warmup // 4) == 0.25
    assert rate(total) == rate(total + 1000) == 0.0


@pytest.mark.parametrize(("total", "wrong_end"), [(30_000, 9.6e-5), (25_000, 1.12e-4)])
def test_the_cosine_ends_where_it_should_and_the_misplaced_one_does_not(total, wrong_end):
    """Super Tiny Language Models: 6e-4 down to 6e-5 was meant."""
    settings_ = {"warmup": 5000, "total": total, "final": 0.1}
    assert 6e-4 * warmup_cosine(total, **settings_) == pytest.approx(6e-5, rel=1e-12)
    assert 6e-4 * misplaced_cosine(total, **settings_) == pytest.approx(wrong_end, rel=0.01)


@settings(max_examples=50, deadline=None)
@given(warmup=st.integers(0, 50), rest=st.integers(1, 200), final=st.floats(0, 1))
def test_the_cosine_goes_up_in_a_line_and_never_up_again(warmup, rest, final):
    rates = [warmup_cosine(step, warmup=warmup, total=warmup + rest, final=final) for step in range(warmup + rest + 3)]
    assert rates[:warmup] == [step / warmup for step in range(warmup)]
    assert rates[warmup] == pytest.approx(1)
    assert all(later <= earlier + 1e-12 for earlier, later in zip(rates[warmup:], rates[warmup + 1 :], strict=False))
    assert rates[-3:] == pytest.approx([final] * 3)
    middle = warmup_cosine(warmup + rest, warmup=warmup, total=warmup + 2 * rest, final=final)
    assert middle == pytest.approx((1 + final) / 2)


def factors(config):
    factor = config.factor()
    return [factor(step) for step in range(1, config.steps + 1)]


def test_the_schedule_of_a_config_uses_every_step():
    config = TrainingConfig(steps=10, schedule=ScheduleConfig("wsd", warmup=0.2, decay=0.3, final=0.0))
    assert factors(config) == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 2 / 3, 1 / 3, 0])
    assert config.last_stable_step == 7
    assert factors(config.replace(schedule={"kind": "cosine"}))[-1] == 0
    assert factors(config.replace(schedule={"kind": "constant", "warmup": 4})) == [0.25, 0.5, 0.75] + [1] * 7


def test_a_branch_has_the_same_rates_up_to_where_it_leaves():
    config = TrainingConfig(steps=100, schedule=ScheduleConfig("wsd", warmup=0.1, decay=0.2))
    branch = decay_branch(config, step=40, decay=10)
    assert branch.steps == 50
    assert factors(branch)[:40] == factors(config)[:40]
    assert factors(branch)[40:] == pytest.approx([1 - 0.9 * i / 10 for i in range(1, 11)])
    with pytest.raises(ValueError, match="step 90 is not on the plateau, which goes from 10 to 80"):
        decay_branch(config, 90, 5)
    with pytest.raises(ValueError, match="'cosine'"):
        decay_branch(config.replace(schedule={"kind": "cosine"}), 40, 10)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ScheduleConfig(warmup=1.5), "warmup = 1.5"),
        (lambda: ScheduleConfig(final=2.0), "final = 2.0"),
        (lambda: ScheduleConfig("exponential"), "'wsd'"),
        (lambda: TrainingConfig(steps=10, schedule=ScheduleConfig("wsd", warmup=8, decay=4)), "do not fit into 10"),
        (lambda: TrainingConfig(steps=10, schedule=ScheduleConfig(warmup=11)), "11 steps does not fit into 10"),
        (lambda: TrainingConfig(steps=0), "steps = 0"),
        (lambda: TrainingConfig(steps=1, learning_rate=0.0), "learning_rate"),
        (lambda: TrainingConfig.from_dict({"steps": 1, "learning_rat": 1.0}), "did you mean 'learning_rate'"),
        (lambda: Plateau(patience=2), "patience = 2"),
    ],
)
def test_impossible_configs_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_config_survives_json():
    config = TrainingConfig(steps=7, schedule=ScheduleConfig("plateau"), dropout=DropoutConfig("triangle"), ema=0.9)
    assert TrainingConfig.from_json(config.to_json()) == config


# --------------------------------------------------------------------------------------------------------------- plateau


def slow_steps_without_decrease(losses, confidence=0.51):
    """The same rule, one stretch after the other, with numbers from the normal equations."""
    longest = 0
    for n in range(3, len(losses) + 1):
        x = torch.arange(n, dtype=torch.float64)
        y = torch.tensor(losses[-n:], dtype=torch.float64)
        matrix = torch.stack([x, torch.ones(n, dtype=torch.float64)], dim=1)
        (slope, intercept) = torch.linalg.lstsq(matrix, y[:, None]).solution.flatten().tolist()
        residual = float(((y - slope * x - intercept) ** 2).sum())
        error = math.sqrt(residual / (n - 2) / float(((x - x.mean()) ** 2).sum()))
        probability = 0.5 * math.erfc(slope / error / math.sqrt(2)) if error else float(slope < 0)
        if probability < confidence:
            longest = n
    return longest


@pytest.mark.parametrize("seed", range(8))
def test_the_running_sums_are_the_fitted_lines(seed):
    rng = random.Random(seed)
    losses = [3 - 0.01 * seed * i + rng.gauss(0, 0.3) for i in range(40)]
    assert steps_without_decrease(losses) == slow_steps_without_decrease(losses)


def test_falling_losses_are_progress_and_level_ones_are_not():
    rng = random.Random(0)
    falling = [5 - 0.05 * i + rng.gauss(0, 0.05) for i in range(60)]
    level = [2 + rng.gauss(0, 0.05) for _ in range(200)]
    assert steps_without_decrease(falling) < 20
    assert steps_without_decrease(falling + level) >= 100
    assert steps_without_decrease([1.0] * 50) == 50


def test_the_rate_shrinks_after_patience_without_progress_and_counting_begins_anew():
    rng = random.Random(1)
    plateau = Plateau(patience=50, shrink=0.1, smallest=0.01)
    factors_ = [plateau.update(5 - 0.05 * i + rng.gauss(0, 0.02)) for i in range(80)]
    assert set(factors_) == {1.0}
    factors_ = [plateau.update(1 + rng.gauss(0, 0.02)) for _ in range(400)]
    shrunk = [i for i in range(1, 400) if factors_[i] < factors_[i - 1]]
    assert len(shrunk) == 2
    assert shrunk[1] - shrunk[0] >= 50
    assert factors_[-1] == pytest.approx(0.01)
    assert plateau.exhausted


def test_a_plateau_goes_on_from_its_state():
    rng = random.Random(2)
    losses = [2 + rng.gauss(0, 0.1) for _ in range(120)]
    whole, first = Plateau(20), Plateau(20)
    expected = [whole.update(loss) for loss in losses]
    got = [first.update(loss) for loss in losses[:47]]
    second = Plateau(20)
    second.load_state_dict(first.state_dict())
    got += [second.update(loss) for loss in losses[47:]]
    assert got == expected


# --------------------------------------------------------------------------------------------------------------- dropout


def test_dropout_rates_have_three_shapes():
    def rates(kind):
        return [dropout_rate(step, 5, DropoutConfig(kind, 0.0, 0.2)) for step in range(1, 6)]

    assert rates("constant") == [0] * 5
    assert rates("linear") == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert rates("triangle") == pytest.approx([0, 0.1, 0.2, 0.1, 0])


def test_the_schedule_sets_every_dropout_and_puts_the_old_rates_back():
    model = LanguageModel.from_preset("mnemos", vocab_size=20, dim=16, num_layers=2, feed_forward={"hidden": 8})
    outer = nn.ModuleList([model, nn.Dropout(0.5)])
    schedule = DropoutSchedule(outer, DropoutConfig("linear", 0.3, 0.0), total=3)
    assert schedule.set(1) == 0.3
    assert outer[1].p == 0.3
    assert {block.dropout for block in model.core.layers} == {0.3}
    assert model.embedder.dropout == 0.3
    schedule.set(3)
    assert model.embedder.dropout == 0.0
    schedule.restore()
    assert (outer[1].p, model.embedder.dropout) == (0.5, 0.1)


def test_a_model_without_dropout_has_no_dropout_schedule():
    with pytest.raises(ValueError, match="no dropout"):
        DropoutSchedule(nn.Linear(2, 2), DropoutConfig(), 3)
