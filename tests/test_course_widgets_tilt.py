"""The tilt explorer shows the best policy for a beta: what the library's frontier computes."""

import math

import numpy as np
import pytest

from minilm.course.widgets import TiltExplorer
from minilm.finetuning.frontier import tilt

REWARDS = [0.0, 0.5, 1.0, 2.5, -1.0, 0.5]
TEXTS = ["a", "<b>", "c\n", "d", "e", "<b>"]


@pytest.mark.parametrize("beta", [10.0, 1.0, 0.35, 0.05])
def test_the_figures_are_those_of_the_frontier(beta):
    shown = TiltExplorer(TEXTS, REWARDS, beta)
    assert shown.figures() == pytest.approx(tilt(np.array(REWARDS), beta))
    assert sum(each.after for each in shown.bins()) == pytest.approx(1)
    assert sum(each.before for each in shown.bins()) == pytest.approx(1)


def test_equal_texts_share_a_line():
    shown = TiltExplorer(["x", "x", "y"], [0.0, 0.0, 0.1], beta=10.0)
    assert shown.likeliest()[0][0] == "x"
    assert shown.likeliest()[0][1] == pytest.approx(2 / (2 + math.exp(0.01)))


def test_a_small_beta_leaves_the_best_text_alone_and_says_that_it_is_too_few():
    shown = TiltExplorer(TEXTS, REWARDS, beta=0.05)
    assert shown.likeliest()[0] == ("d", pytest.approx(1))
    assert "too few to trust" in repr(shown)


def test_the_slider_changes_the_view_and_comes_back():
    shown = TiltExplorer(TEXTS, REWARDS)
    fresh, before = repr(shown), shown.view.value
    shown.beta.value = 0.25
    assert shown.view.value != before
    shown.beta.value = 1.0
    assert repr(shown) == fresh


def test_texts_are_text_and_never_markup():
    shown = TiltExplorer(TEXTS, REWARDS, beta=10.0)
    assert "<b>" not in shown.view.value


def test_equal_rewards_stay_as_they_are():
    shown = TiltExplorer(["a", "b"], [1.0, 1.0])
    assert shown.figures() == pytest.approx((1.0, 0.0, 2.0))
    assert shown.to_png().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("texts", "rewards", "beta"),
    [
        (["a"], [1.0], 1),
        (["a", "b"], [1.0], 1),
        (["a", "b"], [1.0, math.inf], 1),
        (["a", "b"], [0, 1], 0),
    ],
)
def test_bad_input_is_refused(texts, rewards, beta):
    with pytest.raises(ValueError, match=r"give at least|finite|above 0"):
        TiltExplorer(texts, rewards, beta)
