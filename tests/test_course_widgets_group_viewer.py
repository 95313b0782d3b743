"""The group viewer adds up what was written, follows a run, and shows text as text."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from minilm.course.widgets import group_viewer
from minilm.course.widgets.group_viewer import NOTHING, GroupViewer, rows_of
from minilm.grpo import GroupView


@dataclass(frozen=True)
class Asked:
    prompt: str


def group(prompt="37+58=", texts=("95", "85", "85", "95", "85"), rewards=(1.0, 0.0, 0.0, 1.0, 0.0)):
    mean = sum(rewards) / len(rewards)
    return GroupView(Asked(prompt), list(texts), list(rewards), [r - mean for r in rewards])


def test_answers_are_counted_the_best_first():
    rows = rows_of(group())
    assert [(row.text, row.count, row.push) for row in rows] == [("95", 2, "up"), ("85", 3, "down")]
    assert sum(row.count * row.advantage for row in rows) == pytest.approx(0)


def test_the_words_say_what_the_controls_ask():
    viewer = GroupViewer(
        {1: [group(), group("1+1=", ["2"] * 3, [1.0] * 3)], 5: [group("2+2=", ["4", "5"], [1.0, 0.0])]}
    )
    assert viewer.headline() == "Step 1, 37+58= 2 of 5 answers are paid 1.00, the mean is 0.40."
    assert viewer.facts() == "All 2 problems of this step: mean pay 0.62, 1 without signal."
    viewer.group.value = 2
    assert viewer.headline() == "Step 1, 1+1= All 3 answers are paid 1.00: no signal."
    assert "pushed not at all" in viewer.summary()
    before = viewer.view.value
    viewer.step.value = 5  # which has one problem only
    assert viewer.group.value == 1
    assert viewer.view.value != before
    assert "2+2=" in viewer.headline()


def test_it_follows_a_run_unless_the_reader_looks_back():
    viewer = GroupViewer()
    assert repr(viewer) == "GroupViewer: no steps yet."
    assert viewer.step.value == NOTHING
    viewer.add(1, [group()])
    viewer.add(2, [group()])
    assert viewer.step.value == 2
    viewer.step.value = 1
    viewer.add(3, [group()])
    assert viewer.step.value == 1
    assert viewer.step.options == (1, 2, 3)
    with pytest.raises(ValueError, match="step 4 has no groups"):
        viewer.add(4, [])


def test_text_is_text_and_the_empty_answer_is_seen():
    viewer = GroupViewer({1: [group("<b>", ["<think>1</think>", "", "$x$", "\u202e"], [1.0, 0.0, 0.0, 0.0])]})
    assert "<b>" not in viewer.view.value
    assert "&lt;think&gt;" in viewer.view.value
    assert "(nothing)" in viewer.view.value
    assert "\u202e" not in viewer.view.value
    assert viewer.to_png()[:4] == b"\x89PNG"
    assert GroupViewer().to_png()[:4] == b"\x89PNG"


def test_many_different_answers_are_cut():
    texts = [str(i) for i in range(40)]
    viewer = GroupViewer({1: [group(texts=texts, rewards=[float(i == 3) for i in range(40)])]})
    assert "… and 24 more" in viewer.view.value


class Run:
    """As a GRPOTrainer looks to its viewer."""

    def __init__(self, steps):
        self.config, self.last_groups, self.count = SimpleNamespace(steps=steps), [], steps

    def steps(self):
        for step in range(1, self.count + 1):
            self.last_groups = [group(f"{step}+{step}=")]
            yield SimpleNamespace(step=step)


def test_it_watches_a_run_and_shows_itself(monkeypatch):
    shown = []

    class Handle:
        def update(self, viewer):
            shown.append(("update", viewer.step.value))

    def display(viewer, display_id):
        shown.append(("display", viewer.step.value))
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(group_viewer, "in_notebook", lambda: True)
    viewer = GroupViewer()
    assert [record.step for record in viewer.watch(Run(12), every=5)] == list(range(1, 13))
    assert viewer.step.options == (1, 5, 10, 12)
    assert viewer.headline().startswith("Step 12, 12+12=")
    assert shown == [("display", 1), ("update", 12)]
    with pytest.raises(ValueError, match="every = 0"):
        next(GroupViewer().watch(Run(1), every=0))


def test_outside_of_a_notebook_it_only_takes_the_groups():
    viewer = GroupViewer()
    assert len(list(viewer.watch(Run(3)))) == 3
    assert viewer.step.options == (1, 3)


def test_the_problem_that_has_most_to_show():
    silent, telling = group("1+1=", ["2"] * 3, [1.0] * 3), group()
    viewer = GroupViewer({1: [silent, telling, silent], 2: [telling, telling, silent], 3: [silent, silent]})
    assert viewer.most_telling() == 2
