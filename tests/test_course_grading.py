"""An assignment through nbgrader: a right answer gets its points, a wrong or missing one none, and nobody sees a traceback."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbgrader.utils import determine_grade, is_grade

from minilm.course.exercise import of_lesson
from tests.test_course_exercises import load_tool

ROOT = Path(__file__).parent.parent
LESSON = "00_welcome"


def submission(path: Path, answers: dict[str, str]) -> NotebookNode:
    """The released notebook with some of its solution cells filled in, and the check of the first one edited away."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        settings = cell.metadata.get("nbgrader", {})
        if settings.get("solution") and settings["grade_id"] in answers:
            cell.source = answers[settings["grade_id"]]
    return notebook


def solution_cells() -> dict[str, str]:
    """The right answers, by the id of their cells."""
    notebook = nbformat.read(ROOT / "solutions" / LESSON / f"{LESSON}.ipynb", as_version=4)
    return {
        cell.metadata.nbgrader.grade_id: cell.source
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("solution")
    }


def points(notebook: NotebookNode, state: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Run the notebook as nbgrader does, and give nbgrader's own count of each check's points."""
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    monkeypatch.setenv("MINILM_HOME", str(state / "home"))
    monkeypatch.setenv("MINILM_WORK", str(state / "work"))
    NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
    return {
        cell.metadata.nbgrader.grade_id: determine_grade(cell)[0]
        for cell in notebook.cells
        if is_grade(cell) and cell.cell_type == "code"
    }


def check_of(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    return next(cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


def test_right_wrong_and_missing_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = load_tool()
    released = tmp_path / f"{LESSON}.ipynb"
    released.write_bytes(tool.generate()[f"{LESSON}/{LESSON}.ipynb"])
    right = solution_cells()
    first, second = list(right)[:2]
    header = right[second].splitlines()
    wrong = "\n".join([line for line in header if line.startswith("def ")][:1]) + "\n    return None"
    notebook = submission(released, {first: right[first], second: wrong})
    graded = points(notebook, tmp_path, monkeypatch)
    checks = [cell for cell in notebook.cells if is_grade(cell)]
    full = {cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points for cell in checks}
    assert len(graded) == len(of_lesson("00")) >= 3
    names = list(graded)
    assert graded[names[0]] == full[names[0]] > 0
    assert [graded[name] for name in names[1:]] == [0] * (len(names) - 1)
    failed, untouched = (check_of(notebook, name).outputs[-1] for name in names[1:3])
    for output, words in ((failed, "not yet"), (untouched, "not started")):
        assert output.output_type == "error"
        assert output.ename == "NotPassed"
        assert words in output.evalue
        assert "\n".join(output.traceback) == output.evalue, "the learner reads the sentence and no traceback"
    assert [output.output_type for output in check_of(notebook, names[0]).outputs] == ["display_data"]
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_the_whole_pipeline_of_commands(tmp_path: Path) -> None:
    """generate_assignment, autograde of three students (one of whom edits a check), and the exported grades."""
    course = tmp_path / "course"
    (course / "solutions").mkdir(parents=True)
    shutil.copytree(ROOT / "solutions" / LESSON, course / "solutions" / LESSON)
    shutil.copy(ROOT / "nbgrader_config.py", course)
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),  # nbgrader calls alembic
        "PYTHONPATH": str(ROOT),
        "MINILM_HOME": str(tmp_path / "home"),
        "MINILM_WORK": str(tmp_path / "work"),
    }

    def nbgrader(*arguments: str) -> None:
        command = [sys.executable, "-m", "nbgrader", *arguments]
        run = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr

    nbgrader("generate_assignment", LESSON)
    released = course / "exercises" / LESSON / f"{LESSON}.ipynb"
    by_tool = nbformat.reads(load_tool().generate()[f"{LESSON}/{LESSON}.ipynb"].decode(), as_version=4)
    by_nbgrader = nbformat.read(released, as_version=4)
    assert [cell.source for cell in by_nbgrader.cells] == [cell.source for cell in by_tool.cells]
    assert [cell.metadata for cell in by_nbgrader.cells] == [cell.metadata for cell in by_tool.cells]

    right = solution_cells()
    for student, answers in {"ana": right, "ben": {}, "cleo": {}}.items():
        notebook = submission(released, answers)
        if student == "cleo":
            for cell in notebook.cells:
                if is_grade(cell):
                    cell.source = "pass  # passed"
        folder = course / "submitted" / student / LESSON
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{LESSON}.ipynb")
    nbgrader("autograde", LESSON)
    nbgrader("generate_feedback", LESSON)
    nbgrader("export")
    with (course / "grades.csv").open() as file:
        scores = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in csv.DictReader(file)}
    full = float(len(of_lesson("00")))
    assert scores == {"ana": (full, full), "ben": (0.0, full), "cleo": (0.0, full)}
    feedback = (course / "feedback" / "ben" / LESSON / f"{LESSON}.html").read_text()
    assert "not started" in feedback
