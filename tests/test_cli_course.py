"""The commands around the course as a new user types them, mistakes included."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from minilm import __version__, cli
from minilm.cli import course as commands
from minilm.course import records
from minilm.data import download


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that types `minilm ...` with state of its own, and gives exit status and output."""
    monkeypatch.setenv("MINILM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINILM_WORK", str(tmp_path / "work"))

    def run(*arguments):
        result = CliRunner().invoke(cli.app, list(arguments))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return run


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A small checkout to stand in."""
    for folder in ("notebooks", "solutions", "exercises/01_tokenizer"):
        (tmp_path / "course" / folder).mkdir(parents=True)
    (tmp_path / "course/exercises/01_tokenizer/01_tokenizer.ipynb").write_text("{}")
    monkeypatch.chdir(tmp_path / "course")
    return tmp_path / "course"


def test_version(run):
    assert run("version")[1].startswith(f"minilm {__version__} (Python 3.")


def test_lab_copies_exercises_once_and_never_over_the_learners(run, course, tmp_path):
    assert "New in work/: 01_tokenizer/01_tokenizer.ipynb" in run("lab", "--no-start")[1]
    mine = tmp_path / "work/01_tokenizer/01_tokenizer.ipynb"
    mine.write_text("my answers")
    assert "up to date" in run("lab", "--no-start")[1]
    assert mine.read_text() == "my answers"


def test_lab_starts_jupyterlab_on_the_course_with_the_users_options(run, course, monkeypatch):
    started = {}

    def jupyterlab(command, **options):
        started.update(command=command, **options)
        return subprocess.CompletedProcess(command, 7)

    monkeypatch.setattr(commands.subprocess, "run", jupyterlab)
    assert run("lab", "--no-browser", "--port", "9999")[0] == 7
    assert started["command"][:3] == [sys.executable, "-m", "jupyterlab"]
    assert " --no-browser --port 9999" in " ".join(started["command"])
    assert f"--ServerApp.root_dir={course}" in started["command"]
    settings = Path(started["env"]["JUPYTER_CONFIG_PATH"].split(":")[0]) / "labconfig/default_setting_overrides.json"
    assert json.loads(settings.read_text())["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


@pytest.mark.parametrize("root", [True, False])
def test_lab_starts_for_root_too(run, course, monkeypatch, root):
    started = []
    monkeypatch.setattr(commands, "is_root", lambda: root)
    monkeypatch.setattr(
        commands.subprocess,
        "run",
        lambda command, **options: started.append(command) or subprocess.CompletedProcess(command, 0),
    )
    assert run("lab")[0] == 0
    assert ("--allow-root" in started[0]) == root


def test_lab_that_cannot_write_says_where_and_what_to_do(run, course, tmp_path):
    (tmp_path / "work").write_text("a file where the folder should be")
    status, said = run("lab", "--no-start")
    assert status == 1
    assert "can't be copied to" in said
    assert "MINILM_WORK" in said


def test_lab_outside_of_a_checkout_says_where_to_go(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands.paths, "checkout", lambda: None)
    status, said = run("lab")
    assert status == 1
    assert "There is no course around" in said


def test_data_list_names_every_text(run):
    status, said = run("data", "list")
    assert status == 0
    for name in ("python-docs", "stories:medium:20000", "tinyshakespeare", "CC BY-NC-SA 4.0"):
        assert name in said


def test_data_where_and_get_without_a_network_are_one_sentence(run, monkeypatch):
    monkeypatch.setenv("MINILM_MIRROR", "http://127.0.0.1:9")
    status, said = run("data", "where", "tinyshakespeare")
    assert (status, said.count("\n")) == (1, said.strip().count("\n") + 1)
    assert "minilm data get tinyshakespeare" in said
    status, said = run("data", "get", "tinyshakespeare")
    assert status == 1
    assert "cannot be reached" in said


def test_data_get_an_unknown_name_gives_the_nearest(run):
    status, said = run("data", "get", "tinyshakespear")
    assert status == 1
    assert "Did you mean 'tinyshakespeare'" in said.replace("\n", " ")


@pytest.mark.parametrize("name", ["python-docs", "stories:easy:10"])
def test_data_get_of_what_needs_no_fetching_says_so(run, name):
    status, said = run("data", "get", name)
    assert (status, "needs no fetching" in said) == (0, True)
    status, said = run("data", "where", name)
    assert (status, "is no file" in said) == (1, True)


def test_data_that_is_here_is_found(run, tmp_path):
    path = download.find("tinystories-valid").path
    path.parent.mkdir(parents=True)
    path.write_text("Once upon a time.")
    assert run("data", "where", "tinystories-valid")[1].strip() == str(path)
    assert "was here already" in run("data", "get", "tinystories-valid")[1]


def test_progress_shows_exports_and_resets(run):
    records.remember("01.1", passed=True)
    assert "✓ 01.1" in run("progress")[1]
    assert "02." not in run("progress", "--lesson", "01")[1]
    exported = json.loads(run("progress", "export")[1])
    assert next(row for row in exported if row["id"] == "01.1")["status"] == "passed"
    assert run("progress", "export", "csv")[1].startswith("id,title,status")
    assert run("progress", "reset", "01.1")[0] == 0
    assert "○ 01.1" in run("progress")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("progress", "reset", "99.9"), "Nothing is recorded for exercise '99.9'"),
        (("progress", "export", "xml"), "json or csv"),
        (("progress", "--lesson", "77"), "There are no exercises here"),
        (("progress", "--lesson", "one"), "the lessons with exercises are 00, "),
        (("data", "get", "[/x]"), "There is no data set '[/x]'"),
        (("nonsense",), "No such command"),
        (("data",), "Usage"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(run, arguments, said):
    output = run(*arguments)[1]
    assert said in output
    assert "Traceback" not in output
