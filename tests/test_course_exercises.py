"""What every exercise of the course promises; and that exercises/ is what solutions/ gives."""

import importlib.util
import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from minilm.course.exercise import FOLDER, Exercise, everything
from minilm.course.judging import judge, try_all

ROOT = Path(__file__).parent.parent
EXERCISES = everything()
IDS = [item.id for item in EXERCISES]
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=IDS)


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("exercises_tool", ROOT / "tools" / "exercises.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def notebooks(folder: str) -> dict[str, Path]:
    """The exercise notebooks in solutions/ or exercises/, by the lesson's number."""
    found = sorted((ROOT / folder).glob("*/*.ipynb"))
    return {path.stem.partition("_")[0]: path for path in found if path.stem == path.parent.name}


@lru_cache
def answers(folder: str, lesson: str) -> dict[str, Any]:
    """What each `check(id, answer)` of a notebook is called with, all its cells run up to there in order."""
    path = notebooks(folder)[lesson]
    given: dict[str, Any] = {}

    def check(id: str, answer: Any) -> None:
        given[id] = answer

    space: dict[str, Any] = {"__name__": "__main__"}
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
            if cell.cell_type == "code":
                exec(compile(_plain(cell.source), f"<{folder} {lesson}, cell {number}>", "exec"), space)
                space["check"] = check
    finally:
        os.chdir(before)
    return given


def _plain(source: str) -> str:
    """The cell without calls that need a notebook's screen."""
    return "\n".join("" if line.startswith(("%", "!")) else line for line in source.splitlines())


def test_there_are_exercises_and_their_ids_are_their_files() -> None:
    assert IDS
    assert len(set(IDS)) == len(IDS)
    lessons = {path.stem.partition("_")[0] for path in FOLDER.glob("[0-9]*_*.py")}
    assert {item.lesson for item in EXERCISES} == lessons
    written = [
        (path.stem.partition("_")[0], id)
        for path in FOLDER.glob("[0-9]*_*.py")
        for id in re.findall(r'^\s+id="([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert sorted(id for _, id in written) == sorted(IDS), (
        "an id is used twice, or an exercise is not where it is looked for"
    )
    assert all(id.startswith(f"{lesson}.") for lesson, id in written)


def test_no_two_exercises_give_the_same_name() -> None:
    names = [item.name for item in EXERCISES if item.name is not None]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, "`from my import name` can only mean one of them: give the other a name=..."


@each_exercise
def test_the_description_is_complete(exercise: Exercise) -> None:
    assert exercise.title
    assert exercise.objective.endswith(".")
    assert exercise.minutes > 0
    assert all(len(hint) > 10 for hint in exercise.hints)
    assert len(set(exercise.hints)) == 3


@each_exercise
def test_the_reference_passes(exercise: Exercise) -> None:
    if exercise.reference is not None:
        result = judge(exercise, exercise.reference)
        assert result.passed, str(result)


@each_exercise
def test_every_wrong_answer_is_rejected_with_its_own_message(exercise: Exercise) -> None:
    assert len(exercise.wrong_answers) >= 3
    messages = []
    for wrong in exercise.wrong_answers:
        result = judge(exercise, wrong.answer)
        assert result.status == "not yet", f"{wrong.message or wrong.answer} is not rejected: {result}"
        messages.append(result.sentences[0])
        if wrong.message:
            assert result.sentences[0] == wrong.message, f"taken for another mistake: {result}"
        assert not re.search(r"Traceback|AssertionError|0x[0-9a-f]{6}", str(result)), str(result)
    assert len(set(messages)) == len(messages), "two wrong answers are told the same"


@each_exercise
def test_inputs_are_the_same_at_every_check(exercise: Exercise) -> None:
    if exercise.inputs is not None and exercise.reference is not None:
        first, second = ([repr(trial.got.value) for trial in try_all(exercise, exercise.reference)] for _ in range(2))
        plain = [re.sub(r"0x[0-9a-f]+", "", text) for text in first]
        assert plain == [re.sub(r"0x[0-9a-f]+", "", text) for text in second]


@each_exercise
def test_the_published_solution_passes(exercise: Exercise) -> None:
    if exercise.lesson not in notebooks("solutions"):
        pytest.skip(f"lesson {exercise.lesson} has no solutions notebook")
    given = answers("solutions", exercise.lesson)
    assert exercise.id in given, f"solutions/ has no check({exercise.id!r}, ...)"
    result = judge(exercise, given[exercise.id])
    assert result.passed, str(result)


@each_exercise
def test_the_untouched_stub_is_not_started(exercise: Exercise) -> None:
    if exercise.lesson not in notebooks("exercises"):
        pytest.skip(f"lesson {exercise.lesson} has no exercises notebook")
    result = judge(exercise, answers("exercises", exercise.lesson)[exercise.id])
    assert result.status == "not started", str(result)


def test_every_exercise_notebook_checks_each_exercise_of_its_lesson_once() -> None:
    for folder in ("solutions", "exercises"):
        for lesson, path in notebooks(folder).items():
            cells = nbformat.read(path, as_version=4).cells
            checks = re.findall(
                r'\bcheck\(\s*"([^"]+)"', "\n".join(cell.source for cell in cells if cell.cell_type == "code")
            )
            assert sorted(checks) == sorted(item.id for item in EXERCISES if item.lesson == lesson), path


def test_exercises_are_what_solutions_give() -> None:
    tool = load_tool()
    assert list(tool.differences(tool.generate())) == []


# The generator itself, on a course of one lesson --------------------------------------------------------------------


def graded(source: str, id: str, **kind: Any) -> NotebookNode:
    settings = {
        "grade": False,
        "solution": False,
        "locked": False,
        "task": False,
        "schema_version": 3,
        "grade_id": id,
    } | kind
    return new_code_cell(source, metadata={"nbgrader": settings})


def small_notebook() -> NotebookNode:
    cells = [
        new_markdown_cell("# Exercises"),
        graded("def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION", "double", solution=True),
        graded("assert double(2) == 4\n### BEGIN HIDDEN TESTS\nassert double(3) == 6\n### END HIDDEN TESTS", "test", grade=True, locked=True, points=1),
        new_code_cell("double(3)", execution_count=1, outputs=[nbformat.v4.new_output("stream", text="6")]),
    ]  # fmt: skip
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


@pytest.fixture
def course(tmp_path: Path) -> Path:
    for folder in ("solutions/05_x", "exercises"):
        (tmp_path / folder).mkdir(parents=True)
    nbformat.write(small_notebook(), tmp_path / "solutions/05_x/05_x.ipynb")
    (tmp_path / "solutions/05_x/data.txt").write_text("data")
    (tmp_path / "exercises/.gitkeep").touch()
    return tmp_path


def test_what_is_released_has_stubs_and_no_solutions(course: Path) -> None:
    tool = load_tool()
    wanted = tool.generate(course)
    assert sorted(wanted) == ["05_x/05_x.ipynb", "05_x/data.txt"]
    text = wanted["05_x/05_x.ipynb"].decode()
    cells = nbformat.reads(text, as_version=4).cells
    assert cells[1].source == "def double(x):\n    raise NotImplementedError"
    assert cells[2].source == "assert double(2) == 4"
    assert cells[3].outputs == []
    assert "SOLUTION" not in text
    assert "HIDDEN" not in text
    assert tool.generate(course) == wanted


def test_generate_then_check(course: Path) -> None:
    tool = load_tool()
    wanted = tool.generate(course)
    assert list(tool.differences(wanted, course)) == [
        "exercises/05_x/05_x.ipynb is missing",
        "exercises/05_x/data.txt is missing",
    ]
    assert tool.write(wanted, course) == ["wrote 05_x/05_x.ipynb", "wrote 05_x/data.txt"]
    assert list(tool.differences(wanted, course)) == []
    assert tool.write(wanted, course) == []


def change_source(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source = "def double(x):\n    return 2 * x"
    nbformat.write(notebook, path)


def add_output(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[3].execution_count = 4
    nbformat.write(notebook, path)


def drop_cell(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    del notebook.cells[-1]
    nbformat.write(notebook, path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (change_source, "cell 2:\n        -    return 2 * x\n        +    raise NotImplementedError"),
        (add_output, "cell 4: its metadata or outputs differ"),
        (drop_cell, "it has 3 cells and should have 4"),
        (lambda path: path.write_text("{"), "not a readable notebook"),
        (
            lambda path: path.rename(path.with_name("other.ipynb")),
            "exercises/05_x/other.ipynb has no source in solutions/",
        ),
    ],
)
def test_check_says_what_differs(edit: Callable[[Path], None], words: str, course: Path) -> None:
    tool = load_tool()
    wanted = tool.generate(course)
    tool.write(wanted, course)
    edit(course / "exercises/05_x/05_x.ipynb")
    assert words in "\n".join(tool.differences(wanted, course))
    tool.write(wanted, course)
    assert list(tool.differences(wanted, course)) == []


def test_a_wrong_solution_notebook_is_named(course: Path) -> None:
    tool = load_tool()
    notebook = small_notebook()
    notebook.cells[1].source = notebook.cells[1].source.replace("    ### END SOLUTION", "")
    nbformat.write(notebook, course / "solutions/05_x/05_x.ipynb")
    with pytest.raises(RuntimeError, match=r"05_x\.ipynb: no end solution statement found"):
        tool.generate(course)
