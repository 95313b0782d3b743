"""The learner's progress: a small JSON file in the user's data directory, and the table that shows it."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from minilm import paths
from minilm.course import exercise as exercises
from minilm.course.files import locked, set_aside, write_whole
from minilm.course.results import SYMBOLS, Shown, markup, plain

VERSION = 1


@dataclass(frozen=True)
class Record:
    """What is remembered of one exercise. Times are UTC, in ISO 8601."""

    attempts: int = 0
    passed: str | None = None  # when it first passed
    last: str | None = None  # when it was last checked


@dataclass(frozen=True)
class Row:
    """One line of the progress table."""

    id: str
    title: str
    status: str  # "passed", "not yet" or "not started"
    attempts: int
    passed: str | None
    difficulty: int
    minutes: int


def location() -> Path:
    """Where progress is kept."""
    return paths.home() / "progress.json"


def read() -> dict[str, Record]:
    """All records, by exercise. A file that can't be used counts as empty here; `progress` and `remember` set it aside."""
    try:
        return _parse(location().read_bytes())
    except (OSError, ValueError):
        return {}


def remember(id: str, passed: bool) -> str | None:
    """Count one attempt at an exercise. Returns a sentence if there is something to tell: a file set aside, or not writable."""
    now = datetime.now(UTC).isoformat(timespec="seconds")

    def add(records: dict[str, Record]) -> None:
        old = records.get(id, Record())
        records[id] = Record(old.attempts + 1, old.passed or (now if passed else None), now)

    return _change(add)


def reset(id: str) -> bool:
    """Forget one exercise, as if it had never been tried. Returns whether there was anything to forget."""

    def forget(records: dict[str, Record]) -> None:
        records.pop(id, None)

    known = id in read()
    if known:
        _change(forget)
    return known


def rows(lesson: str | None = None) -> list[Row]:
    """The progress table as data: every exercise of the course (or of one lesson), tried or not."""
    records = read()
    chosen = exercises.everything() if lesson is None else exercises.of_lesson(lesson)
    table = []
    for item in chosen:
        record = records.get(item.id, Record())
        status = "passed" if record.passed else "not yet" if record.attempts else "not started"
        table.append(Row(item.id, item.title, status, record.attempts, record.passed, item.difficulty, item.minutes))
    return table


def export(format: str = "json", lesson: str | None = None) -> str:
    """The progress table as "json" or "csv" text."""
    table = [asdict(row) for row in rows(lesson)]
    if format == "json":
        return json.dumps(table, indent=2, ensure_ascii=False) + "\n"
    if format == "csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(Row.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        return text.getvalue()
    raise ValueError(f"progress is exported as json or csv: got {format!r}")


@dataclass(frozen=True, repr=False)
class Progress(Shown):
    """The progress table, as it is shown."""

    rows: list[Row]
    note: str | None = None

    def summary(self) -> str:
        """How many exercises are passed, and how many minutes the others may take."""
        passed = sum(row.status == "passed" for row in self.rows)
        left = sum(row.minutes for row in self.rows if row.status != "passed")
        if not self.rows:
            lessons = dict.fromkeys(item.lesson for item in exercises.everything())
            return f"There are no exercises here; the lessons with exercises are {', '.join(lessons)}."
        end = f"; the others take about {left} minutes" if left else ""
        return f"{passed} of {len(self.rows)} exercises passed{end}."

    def text(self) -> str:
        """The table in columns."""
        width = max((len(plain(row.title)) for row in self.rows), default=0)
        lines = [
            f"{SYMBOLS[row.status]} {row.id:<6} {plain(row.title):<{width}}  {row.status}{_tries(row)}"
            for row in self.rows
        ]
        return "\n".join([*lines, self.summary(), *([plain(self.note)] if self.note else [])])

    def html(self) -> str:
        """The table."""
        head = "".join(f'<th scope="col">{name}</th>' for name in ("", "exercise", "title", "state", "tries"))
        body = "".join(
            f'<tr><td aria-hidden="true">{SYMBOLS[row.status]}</td><td>{escape(row.id)}</td>'
            f'<td style="text-align: left">{markup(row.title)}</td><td>{row.status}</td><td>{row.attempts}</td></tr>'
            for row in self.rows
        )
        caption = f"<caption>{escape(self.summary())}</caption>"
        note = f"<p>{markup(self.note)}</p>" if self.note else ""
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def progress(lesson: str | None = None) -> Progress:
    """Your progress, exercise by exercise: in the whole course, or in one lesson (`progress("01")`)."""
    note = None if _readable() else _change(lambda records: None)
    return Progress(rows(None if lesson is None else str(lesson).zfill(2)), note)  # 1 and "1" mean "01"


def _readable() -> bool:
    try:
        _parse(location().read_bytes())
    except ValueError:
        return False
    except OSError:  # none there, as a rule
        return True
    return True


def _tries(row: Row) -> str:
    return "" if not row.attempts else f" ({row.attempts} {'try' if row.attempts == 1 else 'tries'})"


def _change(edit: Callable[[dict[str, Record]], None]) -> str | None:
    """Read, edit and write the file while no other notebook does. Returns a sentence if something went wrong."""
    if paths.under_nbgrader():
        return None
    path, note = location(), None
    try:
        with locked(path.with_suffix(".lock")):
            records: dict[str, Record] = {}
            if path.exists():
                try:
                    records = _parse(path.read_bytes())
                except ValueError as problem:
                    aside = set_aside(path, "newer" if isinstance(problem, _NewerFile) else "damaged")
                    note = f"{problem} It was kept as `{aside.name}`, and a new one begins here."
            edit(records)
            write_whole(path, _serialise(records))
    except OSError as problem:
        return f"Your progress could not be written ({problem.strerror or 'the disk refused'}): check the folder `MINILM_HOME` points to."
    return note


class _NewerFile(ValueError):
    """Written by a later version of the course."""


def _parse(content: bytes) -> dict[str, Record]:
    """The records in a progress file. Raises ValueError, with a sentence, if it is damaged or newer."""
    try:
        data: Any = json.loads(content)
        version = data["version"]
        if isinstance(version, int) and version > VERSION:
            raise _NewerFile("Your progress file was written by a newer version of the course.")
        if version != VERSION:
            raise ValueError
        return {str(id): _record(item) for id, item in data["exercises"].items()}
    except _NewerFile:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("Your progress file was damaged and could not be read.") from None


def _record(item: Any) -> Record:
    attempts, passed, last = item["attempts"], item["passed"], item["last"]
    if not isinstance(attempts, int) or attempts < 0 or not all(isinstance(t, str | None) for t in (passed, last)):
        raise ValueError
    return Record(attempts, passed, last)


def _serialise(records: dict[str, Record]) -> bytes:
    data = {"version": VERSION, "exercises": {id: asdict(record) for id, record in sorted(records.items())}}
    return (json.dumps(data, indent=1) + "\n").encode()
