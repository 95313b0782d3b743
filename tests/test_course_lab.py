"""`minilm lab` copies exercises: never over what a learner wrote, and whole after any interruption."""

import json
import multiprocessing
from pathlib import Path

import pytest

from minilm.course import lab
from minilm.course.lab import LabReport, update_work

NAME = "03_attention/03_attention.ipynb"
NEW = "03_attention/03_attention.new-1.ipynb"


@pytest.fixture
def exercises(tmp_path: Path) -> Path:
    folder = tmp_path / "exercises"
    release(folder, "first")
    (folder / "03_attention" / "data.txt").write_text("data")
    (folder / "03_attention" / ".ipynb_checkpoints").mkdir()
    (folder / "03_attention" / ".ipynb_checkpoints" / "x.ipynb").write_text("not this")
    (folder / ".gitkeep").write_text("")
    return folder


def release(exercises: Path, content: str) -> None:
    path = exercises / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def update(exercises: Path) -> LabReport:
    return update_work(exercises, exercises.parent / "work")


def files(exercises: Path) -> dict[str, str]:
    work = exercises.parent / "work"
    return {
        path.relative_to(work).as_posix(): path.read_text()
        for path in sorted(work.rglob("*"))
        if path.is_file() and not path.name.startswith(".exercises")
    }


def test_exercises_are_copied_once(exercises: Path) -> None:
    report = update(exercises)
    assert files(exercises) == {NAME: "first", "03_attention/data.txt": "data"}
    assert report.text() == f"New in work/: {NAME}, 03_attention/data.txt."
    again = update(exercises)
    assert again.text() == "The exercises in work/ are up to date."
    assert sorted(again.kept) == [NAME, "03_attention/data.txt"]


def test_an_untouched_copy_is_renewed(exercises: Path) -> None:
    update(exercises)
    release(exercises, "second")
    assert update(exercises).text() == f"Renewed, since you had not changed them: {NAME}."
    assert files(exercises)[NAME] == "second"
    assert update(exercises).text() == "The exercises in work/ are up to date."


def test_a_copy_that_was_worked_on_stays_and_the_new_one_comes_beside(exercises: Path) -> None:
    update(exercises)
    mine = exercises.parent / "work" / NAME
    mine.write_text("my answer")
    assert update(exercises).text() == "The exercises in work/ are up to date."
    release(exercises, "second")
    report = update(exercises)
    assert report.text() == (
        f"{NAME} has changed in the course. Yours is as you left it; the new one is beside it: {NEW}."
    )
    assert files(exercises)[NAME] == "my answer"
    assert files(exercises)[NEW] == "second"
    assert update(exercises).beside == {}
    (exercises.parent / "work" / NEW).unlink()
    assert update(exercises).beside == {}, "what the learner threw away is not offered again"


def test_a_further_version_replaces_an_untouched_one_beside_and_no_other(exercises: Path) -> None:
    update(exercises)
    (exercises.parent / "work" / NAME).write_text("my answer")
    release(exercises, "second")
    update(exercises)
    release(exercises, "third")
    assert update(exercises).beside == {NAME: NEW}
    assert files(exercises)[NEW] == "third"
    (exercises.parent / "work" / NEW).write_text("my second answer")
    release(exercises, "fourth")
    second = NEW.replace("new-1", "new-2")
    assert update(exercises).beside == {NAME: second}
    assert {name: text for name, text in files(exercises).items() if name.endswith("ipynb")} == {
        NAME: "my answer",
        NEW: "my second answer",
        second: "fourth",
    }


def test_a_learner_who_takes_the_new_version_is_up_to_date(exercises: Path) -> None:
    update(exercises)
    mine = exercises.parent / "work" / NAME
    mine.write_text("my answer")
    release(exercises, "second")
    update(exercises)
    (exercises.parent / "work" / NEW).replace(mine)
    assert NAME in update(exercises).kept
    release(exercises, "third")
    assert update(exercises).replaced == [NAME]


def test_a_deleted_copy_comes_fresh(exercises: Path) -> None:
    update(exercises)
    (exercises.parent / "work" / NAME).unlink()
    assert update(exercises).copied == [NAME]


def test_an_exercise_that_left_the_course_stays_with_the_learner(exercises: Path) -> None:
    update(exercises)
    (exercises / NAME).unlink()
    update(exercises)
    assert files(exercises)[NAME] == "first"
    release(exercises, "back, and new")
    assert update(exercises).replaced == [NAME]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 9, "files": {}}', '{"version": 1, "files": {"a": 1}}'])
def test_without_a_readable_manifest_everything_that_differs_counts_as_the_learners(
    exercises: Path, damage: str
) -> None:
    update(exercises)
    manifest = exercises.parent / "work" / lab.MANIFEST
    manifest.write_text(damage)
    release(exercises, "second")
    report = update(exercises)
    assert "kept as .exercises.damaged-1.json" in report.text()
    assert (exercises.parent / "work" / ".exercises.damaged-1.json").read_text() == damage
    assert files(exercises)[NAME] == "first"
    assert files(exercises)[NEW] == "second"
    assert "03_attention/data.txt" in report.kept


class Killed(BaseException):
    pass


def test_interrupted_anywhere_it_can_be_run_again(exercises: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop at every write in turn, first before its rename and then after it; a second run must end where an undisturbed one ends."""
    real = lab.write_whole
    for after in (False, True):
        for stop in range(1, 7):
            work = exercises.parent / f"work-{stop}-{after}"
            release(exercises, "first")
            update_work(exercises, work)
            (work / NAME).write_text("my answer")
            (exercises / "03_attention" / "data.txt").write_text("new data")
            (exercises / "04_block").mkdir(exist_ok=True)
            (exercises / "04_block" / "04_block.ipynb").write_text("block")
            release(exercises, "second")
            calls = 0

            def interrupted(
                path: Path, content: bytes, replace: bool = True, stop: int = stop, after: bool = after
            ) -> None:
                nonlocal calls
                calls += 1
                if calls == stop and not after:
                    (path.parent / ".minilm-half").parent.mkdir(parents=True, exist_ok=True)
                    (path.parent / ".minilm-half").write_bytes(content[:3])
                    raise Killed
                real(path, content, replace)
                if calls == stop:
                    raise Killed

            monkeypatch.setattr(lab, "write_whole", interrupted)
            try:
                update_work(exercises, work)
            except Killed:
                assert calls == stop
            monkeypatch.setattr(lab, "write_whole", real)
            update_work(exercises, work)
            left = {
                path.relative_to(work).as_posix(): path.read_text()
                for path in sorted(work.rglob("*"))
                if path.is_file() and not path.name.startswith(".exercises")
            }
            assert left == {
                NAME: "my answer",
                NEW: "second",
                "03_attention/data.txt": "new data",
                "04_block/04_block.ipynb": "block",
            }
            assert update_work(exercises, work).text() == f"The exercises in {work.name}/ are up to date."
            (exercises / "03_attention" / "data.txt").write_text("data")
            (exercises / "04_block" / "04_block.ipynb").unlink()


def test_two_at_once(exercises: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for n in range(30):
        (exercises / f"{n:02}_x").mkdir()
        (exercises / f"{n:02}_x" / "x.ipynb").write_text(str(n))
    work = exercises.parent / "work"
    runs = [context.Process(target=update_work, args=(exercises, work)) for _ in range(2)]
    for item in runs:
        item.start()
    for item in runs:
        item.join()
    assert [item.exitcode for item in runs] == [0, 0]
    assert len(files(exercises)) == 32
    assert len(json.loads((work / lab.MANIFEST).read_text())["files"]) == 32


def test_no_exercises_yet(tmp_path: Path) -> None:
    (tmp_path / "exercises").mkdir()
    assert update_work(tmp_path / "exercises", tmp_path / "work").text() == "There are no exercises yet."
