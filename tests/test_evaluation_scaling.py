"""Power laws: does the fit recover what it should, and does it say what it can't?"""

import numpy as np
import pytest

from minilm.evaluation import EvaluationError, compute_frontier, fit_power_law, recorded_runs
from minilm.evaluation.scaling import _residuals

N, D = (grid.ravel() for grid in np.meshgrid(np.geomspace(5e3, 4e5, 5), np.geomspace(1e5, 3e6, 4)))
LOSS = 0.25 + 18 / N**0.4 + 40 / D**0.35


def test_a_law_without_noise_is_recovered():
    law = fit_power_law(LOSS, parameters=N, tokens=D)
    assert law.irreducible == pytest.approx(0.25, rel=1e-3)
    assert law.terms["parameters"] == pytest.approx((18, 0.4), rel=1e-2)
    assert law.terms["tokens"] == pytest.approx((40, 0.35), rel=1e-2)
    np.testing.assert_allclose(law(parameters=N, tokens=D), LOSS, rtol=1e-5)
    assert law.residual < 1e-5


@pytest.mark.parametrize("irreducible", [None, 0.0, 0.5])
def test_a_law_of_one_variable_is_recovered(irreducible):
    compute = np.geomspace(1e9, 1e13, 7)
    loss = (0.5 if irreducible is None else irreducible) + 300 / compute**0.25
    law = fit_power_law(loss, irreducible=irreducible, compute=compute)
    assert law.irreducible == pytest.approx(0.5 if irreducible is None else irreducible, rel=1e-3)
    assert law.terms["compute"] == pytest.approx((300, 0.25), rel=1e-2)


def test_one_odd_run_does_not_bend_the_law():
    rng = np.random.default_rng(0)
    loss = LOSS * np.exp(rng.normal(0, 0.002, len(LOSS)))
    spoiled = loss.copy()
    spoiled[7] *= 1.6  # a run that went wrong
    clean = fit_power_law(loss, parameters=N, tokens=D)
    robust = fit_power_law(spoiled, parameters=N, tokens=D)
    squares = fit_power_law(spoiled, parameters=N, tokens=D, delta=10.0)
    assert abs(robust.irreducible - clean.irreducible) < 0.02
    assert abs(squares.irreducible - clean.irreducible) > 2 * abs(robust.irreducible - clean.irreducible)


def test_the_intervals_hold_the_truth_and_widen_with_noise():
    rng = np.random.default_rng(1)
    laws = [
        fit_power_law(LOSS * np.exp(rng.normal(0, noise, len(LOSS))), parameters=N, tokens=D, bootstrap=60)
        for noise in (0.003, 0.03)
    ]
    widths = []
    for law in laws:
        low, high = law.interval()
        assert low < 0.25 < high
        widths.append(high - low)
        below, above = law.band(parameters=1e6, tokens=1e7)
        assert below <= law(parameters=1e6, tokens=1e7) <= above
    assert widths[1] > 3 * widths[0]
    assert laws[0].interval("tokens")[0] < 0.35 < laws[0].interval("tokens")[1]
    with pytest.raises(EvaluationError, match="bootstrap=200"):
        fit_power_law(LOSS, parameters=N, tokens=D).interval()


def test_the_slopes_that_the_minimiser_uses_are_the_derivatives():
    parameters = np.array([-1.2, 0.3, 0.4, -0.5, 0.3])
    log_x = np.log(np.stack([N, D]))
    _, slopes = _residuals(parameters, np.log(LOSS), log_x, None)
    for i in range(5):
        step = np.zeros(5)
        step[i] = 1e-6
        up, down = (_residuals(parameters + sign * step, np.log(LOSS), log_x, None)[0] for sign in (1, -1))
        np.testing.assert_allclose(slopes[:, i], (up - down) / 2e-6, atol=1e-7)


def test_the_frontier_is_what_no_cheaper_run_beats():
    assert compute_frontier([3, 1, 2, 4, 4], [0.5, 1.0, 1.2, 0.6, 0.4]) == [1, 0, 4]


def test_what_cannot_be_fitted_is_said():
    with pytest.raises(EvaluationError, match="4 runs can't determine 5"):
        fit_power_law(LOSS[:4], parameters=N[:4], tokens=D[:4])
    with pytest.raises(EvaluationError, match="tokens takes 1 values"):
        fit_power_law(LOSS, parameters=N, tokens=np.full(len(N), 1e5))
    with pytest.raises(EvaluationError, match="holds -1"):
        fit_power_law([1.0, 2.0, -1.0], compute=[1, 2, 3])
    with pytest.raises(EvaluationError, match="below the lowest loss"):
        fit_power_law(LOSS, irreducible=5.0, parameters=N, tokens=D)
    with pytest.raises(EvaluationError, match="what the loss depends on"):
        fit_power_law(LOSS)
    with pytest.raises(EvaluationError, match="one number of each a run"):
        fit_power_law(LOSS, parameters=N[:3])
    law = fit_power_law(LOSS, parameters=N, tokens=D)
    with pytest.raises(EvaluationError, match="wants parameters, tokens"):
        law(parameters=3)


def test_the_recorded_runs_are_there():
    rows = recorded_runs("scaling-easy")
    assert len(rows) >= 15
    assert len({row["parameters"] for row in rows}) >= 5
    assert len({row["floor"] for row in rows}) == 1
    for row in rows:
        assert row["loss"] > row["floor"] - 3 * row["error"]
        assert 5 * row["body_parameters"] * row["tokens"] < row["compute"] < 12 * row["parameters"] * row["tokens"]
    with pytest.raises(EvaluationError, match="recorded is scaling-easy"):
        recorded_runs("nothing")


@pytest.mark.slow
def test_a_run_can_be_made_again():
    from experiments import scaling
    from minilm.data import stories
    from minilm.tokenizer import BPETokenizer

    texts = stories.generate(scaling.SIZE, 300)
    tokenizer = BPETokenizer.train(texts, vocab_size=scaling.VOCABULARY, special_tokens=["<end>"])
    first, again = (scaling.run("XXS", 10_000, texts, tokenizer) for _ in range(2))
    for row in (first, again):
        del row["seconds"]
    assert first == again
    assert first["loss"] > first["floor"] > 0
    with pytest.raises(ValueError, match="pass more stories"):
        scaling.run("XXS", 1_000_000, texts, tokenizer)
    assert {name for _, name in scaling.RUNS} == set(scaling.SHAPES)
