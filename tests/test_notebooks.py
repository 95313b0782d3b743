"""tools/notebooks.py refuses what must not be committed, and stores runs that a second run reproduces."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).parent.parent


@pytest.fixture
def notebooks(monkeypatch):
    """tools/notebooks.py as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import notebooks

    return notebooks


@pytest.fixture
def problems_of(notebooks, tmp_path):
    """A function that stores cells as a notebook and gives what is wrong with it."""

    def problems(*cells):
        path = tmp_path / "lesson.ipynb"
        nbformat.write(new_notebook(cells=list(cells)), path)
        return list(notebooks.problems(path))

    return problems


def executed(source, count=1, outputs=(), **fields):
    return new_code_cell(source, execution_count=count, outputs=list(outputs), **fields)


def picture(**metadata):
    return new_output("display_data", data={"image/png": "aGk="}, metadata=metadata)


def test_a_clean_notebook_has_no_problems(problems_of):
    with_alt = picture(**{"image/png": {"alt": "A falling curve"}})
    assert problems_of(new_markdown_cell("# Hello"), executed("1 + 1"), executed("plot()", 2, [with_alt])) == []


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (new_code_cell("1 + 1"), "execution count None, not 1"),
        (executed("1 + 1", count=3), "execution count 3, not 1"),
        (executed("boom", outputs=[new_output("error", ename="ValueError", evalue="no")]), "an error, ValueError: no"),
        (executed("warn", outputs=[new_output("stream", name="stderr", text="careful")]), "standard error: 'careful'"),
        (executed("plot()", outputs=[picture()]), "image/png output has no alt text"),
        (executed("\n".join(["x = 1"] * 26)), "26 lines of code, over 25"),
        (executed("boom", metadata={"tags": ["raises-exception"]}), "tagged raises-exception"),
        (new_markdown_cell("![](figures/map.svg)"), "figures/map.svg has no alt text"),
        (new_markdown_cell("![A map](https://example.org/map.svg)"), "comes from the network"),
        (new_markdown_cell("![A map](figures/nowhere.svg)"), "isn't there"),
        (new_markdown_cell("<img src='//example.org/map.png' alt='A map'>"), "comes from the network"),
        (new_markdown_cell("[next](99_nowhere.ipynb)"), "99_nowhere.ipynb leads nowhere"),
        (new_markdown_cell("[do](../exercises/01_tokenizer/01_tokenizer.ipynb)"), "the learner's copy in ../work/"),
        (new_markdown_cell('<img alt="" src="data:image/png;base64,aGk=">'), "has no alt text"),
    ],
)
def test_each_rule_names_its_cell(problems_of, cell, problem):
    found = problems_of(cell)
    assert any(problem in text and text.startswith("cell 0") for text in found), found


def test_links_to_the_web_and_to_existing_files_are_fine(problems_of, tmp_path):
    (tmp_path / "02_next.ipynb").write_text("{}")
    assert problems_of(new_markdown_cell("[a](https://example.org) [b](02_next.ipynb#part) [c](#here) `w[0](x)`")) == []


def test_a_notebook_that_is_too_large_is_refused(problems_of):
    assert "over 1,500,000" in problems_of(new_markdown_cell("x" * 1_600_000))[0]


def test_a_run_stores_outputs_and_a_second_run_stores_the_same(notebooks, tmp_path):
    path = tmp_path / "lesson.ipynb"
    cells = [
        new_markdown_cell("# Hello"),
        new_code_cell("import os\nprint('one')\nprint('two')"),
        new_code_cell("40 + 2"),
    ]
    nbformat.write(new_notebook(cells=cells), path)
    notebooks.run(path)
    first = path.read_text()
    assert list(notebooks.problems(path)) == []
    stored = nbformat.read(path, as_version=4)
    assert stored.cells[1].outputs[0].text == "one\ntwo\n"
    assert stored.cells[2].outputs[0].data["text/plain"] == "42"
    notebooks.run(path)
    assert path.read_text() == first


def test_a_widget_is_stored_as_its_picture(notebooks):
    data = {"image/png": "AAAA", "text/plain": "a slider", notebooks.WIDGET_VIEW: {"model_id": "1"}}
    notebook = new_notebook(cells=[new_code_cell("slider", outputs=[new_output("display_data", data)])])
    notebooks.tidy(notebook)
    assert set(notebook.cells[0].outputs[0].data) == {"image/png", "text/plain"}


def test_a_run_that_fails_leaves_the_file_as_it_was(notebooks, tmp_path):
    path = tmp_path / "lesson.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    with pytest.raises(Exception, match="ZeroDivisionError"):
        notebooks.run(path)
    assert path.read_bytes() == before


def test_committed_notebooks_are_fit(notebooks):
    found = [f"{path}: {problem}" for path in notebooks.stored_notebooks() for problem in notebooks.problems(path)]
    assert found == []


def test_an_unknown_file_is_named(notebooks, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["notebooks.py", "check", "nowhere.ipynb"])
    with pytest.raises(SystemExit):
        notebooks.main()
    assert "no such notebook: nowhere.ipynb" in capsys.readouterr().err
