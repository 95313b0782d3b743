"""The widgets of lesson 00a show what `minilm.gradients` computes, and leave it alone."""

import math
import re

import pytest
import torch

from minilm.course.widgets import GraphStepper, SurpriseExplorer
from minilm.gradients import Scalar, cross_entropy, cross_entropy_backward, softmax

SCORES = {"boat": 2.0, "kite": 1.0, "moon": 0.0}


def explorer() -> SurpriseExplorer:
    return SurpriseExplorer(SCORES, truth="kite")


def graph() -> Scalar:
    """(x * y) ** 2 + x: x is used near the result and far from it, a twice in one place."""
    x, y = Scalar(3.0, name="x"), Scalar(2.0, name="y")
    a = x * y
    a.name = "a"
    return a * a + x


@pytest.mark.parametrize("truth", SCORES)
def test_explorer_shows_softmax_surprise_and_gradient(truth):
    widget = explorer()
    widget.truth.value = truth
    logits = torch.tensor([list(SCORES.values())])
    target = torch.tensor([list(SCORES).index(truth)])
    pushes = widget.pushes()
    torch.testing.assert_close(torch.tensor([[p.probability for p in pushes]]), softmax(logits))
    torch.testing.assert_close(torch.tensor([[p.gradient for p in pushes]]), cross_entropy_backward(logits, target))
    assert widget.surprise() == pytest.approx(cross_entropy(logits, target).item())
    assert f"{widget.surprise():.3f} nats" in widget.view.value
    assert f"{widget.surprise() / math.log(2):.3f} bits" in widget.summary()


def test_explorers_buttons_step_downhill_and_shift_without_effect():
    widget = explorer()
    _, step, shift = widget.box.children[-2].children
    before, view = widget.surprise(), widget.view.value
    shift.click()
    assert widget.surprise() == pytest.approx(before)
    assert widget.sliders["boat"].value == 3.0
    picture = widget.to_png()
    step.click()
    assert widget.surprise() < before
    assert widget.view.value != view
    assert widget.to_png() != picture


def test_explorer_is_the_same_at_every_run_and_has_an_alt_text():
    data, metadata = explorer()._repr_mimebundle_()
    assert data["text/plain"] == metadata["image/png"]["alt"] == repr(explorer())
    assert data["image/png"] == explorer()._repr_mimebundle_()[0]["image/png"]


@pytest.mark.parametrize(("scores", "truth", "word"), [({"a": 1}, "a", "two words"), (SCORES, "dog", "'dog'")])
def test_explorer_refuses_what_it_cannot_show(scores, truth, word):
    with pytest.raises(ValueError, match=word):
        SurpriseExplorer(scores, truth=truth)


def test_stepper_ends_with_the_gradients_of_the_engine():
    result = graph()
    widget = GraphStepper(result)
    assert all(number.gradient == 0 for number in result.graph())  # it computes its own
    result.backward()
    for number in result.graph():
        assert widget.history[-1][number] == number.gradient


def test_stepper_shows_what_has_arrived_so_far():
    widget = GraphStepper(graph())
    x = next(number for number in widget.numbers if number.name == "x")
    seen = []
    for step in range(len(widget.numbers) + 1):
        widget.slider.value = step
        seen.append(widget.history[step].get(x))
        assert f"step {step} of" in widget.summary()
        assert widget.headline() in widget.summary()
    assert seen == [None, 1.0, 1.0, 25.0, 25.0, 25.0]  # 1 at once, 12 * 2 later, by way of a


def test_steppers_buttons_and_pictures():
    widget = GraphStepper(graph())
    back, forward = widget.box.children[0].children[1:]
    pictures = set()
    for _ in range(8):
        pictures.add(widget.to_png())
        forward.click()
    assert widget.step == len(widget.numbers) == 5
    back.click()
    assert widget.step == 4
    assert len(pictures) == 6
    assert re.search(r'<img [^>]*alt="GraphStepper at step 4', widget.view.value)


def test_stepper_escapes_names():
    x = Scalar(1.0, name='"><script>')
    widget = GraphStepper(x * 2)
    widget.slider.value = 2
    assert "<script>" not in widget.view.value


def test_stepper_refuses_what_it_cannot_draw():
    number = Scalar(1.0)
    for _ in range(30):
        number = number + 1
    with pytest.raises(ValueError, match="61 numbers"):
        GraphStepper(number)
    with pytest.raises(ValueError, match=r"step 9 is not among the steps 0\.\.5"):
        GraphStepper(graph(), step=9)
