"""Bring the course's exercises into the learner's `work/` folder, and later versions of them, without ever touching what the learner wrote.

For each file a small manifest, `work/.exercises.json`, remembers the hash of the release that the learner's copy was made from
and of the last release that was offered beside it. So an untouched copy is told from one that has been worked on.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minilm.course.files import TEMPORARY, free_name, locked, set_aside, write_whole

MANIFEST = ".exercises.json"
VERSION = 1


@dataclass
class Origin:
    """Hashes of what a copy was made from and of the newest release that the learner has been given."""

    copied: str | None
    offered: str


@dataclass(frozen=True)
class LabReport:
    """What `update_work` did, as paths relative to `work/`."""

    work: Path
    copied: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    beside: dict[str, str] = field(default_factory=dict)  # the learner's file -> the new version beside it
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The report in a few lines."""
        lines = [*self.notes]
        if self.copied:
            lines.append(f"New in {self.work.name}/: {', '.join(self.copied)}.")
        if self.replaced:
            lines.append(f"Renewed, since you had not changed them: {', '.join(self.replaced)}.")
        for yours, new in self.beside.items():
            lines.append(
                f"{yours} has changed in the course. Yours is as you left it; the new one is beside it: {new}."
            )
        if not (self.copied or self.replaced or self.beside):
            lines.append(
                f"The exercises in {self.work.name}/ are up to date." if self.kept else "There are no exercises yet."
            )
        return "\n".join(lines)


def update_work(exercises: Path, work: Path) -> LabReport:
    """Copy every file of `exercises` into `work`, and say what was done.

    - Not there yet: copied.
    - There and untouched, and the course has a new version: replaced.
    - Worked on, and the course has a new version: the new one is put beside it as `NAME.new-1.ipynb`, once.
    - Anything else: left alone.

    Every file is written whole or not at all, so that this may be interrupted anywhere and run again, or run twice at once.
    Raises OSError if `work` can't be written.
    """
    report = LabReport(work)
    with locked(work / ".exercises.lock"):
        origins = _read_manifest(work / MANIFEST, report)
        for source in _files(exercises):
            name = source.relative_to(exercises).as_posix()
            origins[name] = _update_one(source.read_bytes(), work, name, origins.get(name), report)
        _remove_leftovers(work, exercises)
        _write_manifest(work / MANIFEST, origins)
    return report


def _update_one(release: bytes, work: Path, name: str, origin: Origin | None, report: LabReport) -> Origin:
    """Bring one file up to date, and return what to remember of it."""
    target, new = work / name, _hash(release)
    if not target.exists():
        write_whole(target, release, replace=False)
        report.copied.append(name)
        return Origin(new, new)
    current = _hash(target.read_bytes())
    if current == new:  # also after an interruption between the copy and the manifest
        report.kept.append(name)
        return Origin(new, new)
    if origin is not None and origin.offered == new:
        report.kept.append(name)
        return origin
    if origin is not None and current == origin.copied:
        write_whole(target, release)
        report.replaced.append(name)
        return Origin(new, new)
    report.beside[name] = _put_beside(release, target, origin).relative_to(work).as_posix()
    return Origin(origin.copied if origin else None, new)


def _put_beside(release: bytes, target: Path, origin: Origin | None) -> Path:
    """Write the new version beside the learner's file: over an earlier one that is untouched, else under a new name."""
    for earlier in sorted(target.parent.glob(f"{target.stem}.new-*{target.suffix}")):
        digest = _hash(earlier.read_bytes())
        if digest == _hash(release):  # written by a run that was interrupted before it could be noted
            return earlier
        if origin is not None and digest == origin.offered:
            write_whole(earlier, release)
            return earlier
    beside = free_name(target.parent, f"{target.stem}.new-{{n}}{target.suffix}")
    write_whole(beside, release, replace=False)
    return beside


def _files(exercises: Path) -> Iterator[Path]:
    """The files to copy: all but hidden ones and what Python and Jupyter leave behind."""
    for path in sorted(exercises.glob("*/**/*")):
        parts = path.relative_to(exercises).parts
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            yield path


def _remove_leftovers(work: Path, exercises: Path) -> None:
    """Half-written files of an interrupted run. They are ours by their name; the lock says that no run is under way."""
    folders = {work, *(work / path.relative_to(exercises).parent for path in _files(exercises))}
    for folder in folders:
        for path in folder.glob(f"{TEMPORARY}*"):
            path.unlink(missing_ok=True)


def _read_manifest(path: Path, report: LabReport) -> dict[str, Origin]:
    try:
        data: Any = json.loads(path.read_bytes())
        if data["version"] != VERSION:
            raise ValueError
        return {str(name): Origin(item["copied"], item["offered"]) for name, item in data["files"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError):
        aside = set_aside(path, "damaged")
        report.notes.append(
            f"The list of copied exercises could not be read and was kept as {aside.name}. "
            "What differs from the course's now counts as yours."
        )
        return {}


def _write_manifest(path: Path, origins: dict[str, Origin]) -> None:
    data = {"version": VERSION, "files": {name: asdict(origin) for name, origin in sorted(origins.items())}}
    write_whole(path, (json.dumps(data, indent=1) + "\n").encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
