"""Progress: what is remembered, and that no crash, damage or second notebook loses it."""

import csv
import io
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from minilm.course import check, progress, records
from minilm.course.files import free_name, locked, write_whole
from minilm.course.records import Record
from tests.course_samples import causal_mask, samples

__all__ = ["samples"]


def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.mark.usefixtures("samples")
def test_attempts_and_passes_are_shown(tmp_path: Path) -> None:
    check("97.1", lambda n: causal_mask(n).T)
    check("97.1", lambda n: n)
    check("97.1", causal_mask)
    check("97.1", lambda n: n)  # a later mistake takes nothing away
    check("97.2", lambda ids, pair, new: ids)
    shown = progress("97")
    assert str(progress(97)) == str(shown)  # type: ignore[arg-type]
    assert str(shown).splitlines()[:3] == [
        "✓ 97.1   The mask that hides the future  passed (4 tries)",
        "✗ 97.2   Merge a pair                    not yet (1 try)",
        "○ 97.3   A class                         not started",
    ]
    assert shown.summary() == "1 of 6 exercises passed; the others take about 55 minutes."
    assert shown.html().count("<tr>") == 7
    assert '<th scope="col">' in shown.html()
    assert [row.id for row in shown.rows] == ["97.1", "97.2", "97.3", "97.4", "97.5", "97.10"]
    assert list(home(tmp_path).glob("*.json")) == [home(tmp_path) / "progress.json"]


@pytest.mark.usefixtures("samples")
def test_export_and_reset() -> None:
    records.remember("97.1", True)
    records.remember("97.2", False)
    table = json.loads(records.export("json", "97"))
    assert [(row["id"], row["status"], row["attempts"]) for row in table[:3]] == [
        ("97.1", "passed", 1),
        ("97.2", "not yet", 1),
        ("97.3", "not started", 0),
    ]
    lines = list(csv.DictReader(io.StringIO(records.export("csv", "97"))))
    assert [line["status"] for line in lines[:3]] == ["passed", "not yet", "not started"]
    with pytest.raises(ValueError, match="exported as json or csv: got 'xml'"):
        records.export("xml")
    assert records.reset("97.1")
    assert not records.reset("97.1")
    assert list(records.read()) == ["97.2"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"{}",
        b'{"version": 1}',
        b'{"version": 1, "exercises": []}',
        b'{"version": 1, "exercises": {"97.1": 3}}',
        b'{"version": 1, "exercises": {"97.1": {"attempts": "x", "passed": null, "last": null}}}',
        b'{"version": 1, "exercises": {"97.1": {"attempts": 1, "passed": 7, "last": null}}}',
        b'{"version": "one", "exercises": {}}',
        b"[" * 100_000,
    ],
)
@pytest.mark.usefixtures("samples")
def test_a_damaged_file_is_set_aside_and_said_once(content: bytes, tmp_path: Path) -> None:
    path = home(tmp_path) / "progress.json"
    path.parent.mkdir()
    path.write_bytes(content)
    result = check("97.1", causal_mask)
    assert result.passed
    assert "damaged" in str(result)
    assert "`progress.damaged-1.json`" in str(result)
    assert (home(tmp_path) / "progress.damaged-1.json").read_bytes() == content
    assert "damaged" not in str(check("97.1", causal_mask))
    assert records.read()["97.1"].attempts == 2


@pytest.mark.usefixtures("samples")
def test_a_newer_file_is_set_aside_and_progress_says_so(tmp_path: Path) -> None:
    newer = b'{"version": 2, "stars": {"97.1": 5}}'
    path = home(tmp_path) / "progress.json"
    path.parent.mkdir()
    for n in (1, 2):
        path.write_bytes(newer)
        assert f"newer version of the course. It was kept as `progress.newer-{n}.json`" in str(progress("97"))
        assert (home(tmp_path) / f"progress.newer-{n}.json").read_bytes() == newer
    assert "newer" not in str(progress("97"))


@pytest.mark.usefixtures("samples")
def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    home(tmp_path).write_text("a file where the folder should be")
    result = check("97.1", causal_mask)
    assert result.passed
    assert "Your progress could not be written" in str(result)
    assert "○ 97.1" in str(progress("97"))


def _remember_many(first: int, home: str) -> None:
    os.environ["MINILM_HOME"] = home
    for n in range(25):
        records.remember(f"{first}.{n + 1}", n % 2 == 0)
        records.remember("50.1", False)


def test_two_notebooks_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_remember_many, args=(10 + n, str(home(tmp_path)))) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    kept = records.read()
    assert len(kept) == 101
    assert kept["50.1"].attempts == 100
    assert sum(record.passed is not None for record in kept.values()) == 52


def _write_forever(home: str) -> None:
    os.environ["MINILM_HOME"] = home
    n = 0
    while True:
        n += 1
        records.remember(f"10.{n}", True)


def test_a_killed_notebook_leaves_a_file_that_can_be_read(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = home(tmp_path) / "progress.json"
    seen = 0
    for _ in range(3):
        writer = context.Process(target=_write_forever, args=(str(home(tmp_path)),))
        writer.start()
        while len(records.read()) < seen + 20 and writer.is_alive():
            pass
        writer.kill()
        writer.join()
        assert path.exists()
        records._parse(path.read_bytes())
        assert len(records.read()) >= seen
        seen = len(records.read())
    assert not list(home(tmp_path).glob("*damaged*"))
    assert records.remember("11.1", True) is None  # the lock died with its holder


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records.remember("97.1", True)

    def no_space(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    assert "No space left on device" in str(records.remember("97.2", True))
    assert list(records.read()) == ["97.1"]
    assert [path.name for path in sorted(home(tmp_path).iterdir())] == ["progress.json", "progress.lock"]


def test_under_nbgrader_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBGRADER_EXECUTION", "validate")
    assert records.remember("97.1", True) is None
    assert not home(tmp_path).exists()


def test_a_record_remembers_its_first_pass() -> None:
    records.remember("97.1", True)
    first = records.read()["97.1"]
    assert isinstance(first, Record)
    records.remember("97.1", True)
    assert records.read()["97.1"].passed == first.passed


def test_write_whole_can_refuse_to_replace(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    write_whole(path, b"one", replace=False)
    with pytest.raises(FileExistsError):
        write_whole(path, b"two", replace=False)
    assert path.read_bytes() == b"one"
    write_whole(path, b"three")
    assert [item.name for item in path.parent.iterdir()] == ["b.txt"]
    assert free_name(path.parent, "b{n}.txt").name == "b1.txt"


def test_write_whole_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "link", refuse)
    write_whole(tmp_path / "x", b"one", replace=False)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "x", b"two", replace=False)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with locked(tmp_path / "lock"), (tmp_path / "lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
