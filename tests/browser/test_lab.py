"""JupyterLab in a real browser, used as a learner uses it. Pictures of every step are kept in build/screenshots."""

import re
from pathlib import Path

import pytest

from tests.browser.lab import ROOT, LabPage, chromium, lab_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="no Chromium or Chrome is installed (MINILM_CHROMIUM names one)"),
]


def test_a_learner_runs_lesson_01_plays_with_its_widgets_and_solves_an_exercise(tmp_path):
    with lab_page(tmp_path, "learner") as lab:
        lab.open()
        lab.open_from_file_browser("notebooks/01_tokenizer.ipynb")
        lab.run_all()
        assert lab.errors() == []
        the_merge_stepper_steps(lab)
        the_token_explorer_follows_typing(lab)

        lab.page.locator(".jp-SideBar").get_by_title("File Browser").first.wait_for()
        lab.open_from_file_browser("work/01_tokenizer/01_tokenizer.ipynb")
        lab.run_all()
        assert lab.errors() == []
        an_exercise_answers_back(lab)
        assert lab.outside_requests == []


def the_merge_stepper_steps(lab: LabPage) -> None:
    """Drag the slider with the keyboard and press the button: the headline, the segments and the pair table change."""
    cell = lab.cell("MergeStepper(train")
    cell.scroll_into_view_if_needed()
    assert "Merge 20:" in lab.output(cell)
    tokens_before = re.search(r"([\d,]+) tokens for", lab.output(cell))
    cell.locator(".noUi-handle, [role=slider]").first.focus()
    lab.page.keyboard.press("ArrowRight")
    cell.get_by_text(re.compile("Merge 21:")).wait_for()
    cell.get_by_role("button", name="Next").click()
    cell.get_by_text(re.compile("Merge 22:")).wait_for()
    assert re.search(r"([\d,]+) tokens for", lab.output(cell))[1] != tokens_before[1]
    lab.screenshot("merge-stepper")


def the_token_explorer_follows_typing(lab: LabPage) -> None:
    """Type a text: each tokenizer's tokens and counts change, and markup in it stays text."""
    cell = lab.cell("TokenExplorer(")
    box = cell.locator("textarea").first
    box.scroll_into_view_if_needed()
    box.fill("hé <b>bold</b>")
    cell.get_by_text("15 tokens", exact=False).first.wait_for()
    assert cell.locator(".jp-OutputArea-output b").count() == 0
    before = lab.output(cell)
    cell.get_by_role("button", name="bytes").click()
    lab.page.wait_for_timeout(500)
    assert lab.output(cell) != before
    lab.screenshot("token-explorer")


def an_exercise_answers_back(lab: LabPage) -> None:
    """An untouched check, a usual mistake, a hint opened in place, the right answer, and progress that shows it."""
    check = lab.cell('check("01.1", count_pairs)')
    assert "not started" in lab.output(check)
    lab.screenshot("exercise-not-started")

    stub = lab.cell("def count_pairs(ids")
    mistake = "def count_pairs(ids):\n    return Counter(zip(ids[::2], ids[1::2]))"
    lab.replace_cell(stub, mistake)
    lab.run_cell(check)
    assert "You walk two steps at a time" in lab.output(check)
    lab.screenshot("exercise-mistake")

    hint = lab.cell('hint("01.1")')
    first = hint.locator("details").first
    assert first.get_attribute("open") is None
    first.locator("summary").click()
    assert first.get_attribute("open") is not None

    lab.replace_cell(stub, "def count_pairs(ids):\n    return Counter(pairwise(ids))")
    lab.run_cell(check)
    assert "passed" in lab.output(check)
    lab.screenshot("exercise-passed")

    progress = lab.cell("progress(")
    lab.run_cell(progress)
    assert re.search(r"01\.1\s+Count the pairs\s+passed", lab.output(progress))
    lab.screenshot("progress")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb")))
def test_every_lesson_runs_in_the_browser_without_an_error(name: str, tmp_path: Path):
    with lab_page(tmp_path, Path(name).stem, height=1400) as lab:
        lab.open(f"notebooks/{name}")
        lab.run_all()
        assert lab.errors() == []
        assert lab.screenshot_every_part()
        assert lab.outside_requests == []
