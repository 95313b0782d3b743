"""Files that survive a crash and two notebooks at once: written whole or not at all, one writer at a time, nothing thrown away."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

TEMPORARY = ".minilm-"  # how the names of half-written files begin; they may be removed


def write_whole(path: Path, content: bytes, replace: bool = True) -> None:
    """Write the file so that a reader, or a restart after a crash, sees all of the new content or the old file untouched.

    With `replace=False` an existing file is left alone: FileExistsError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        if replace:
            temporary.replace(path)
        else:
            _rename_to_new(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Give the file its name unless that is taken."""
    try:
        os.link(temporary, path)  # fails if the name is taken, also by another process at this very moment
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)


def free_name(folder: Path, pattern: str) -> Path:
    """The first path that doesn't exist yet: `pattern` has a {n}, which counts from 1."""
    n = 1
    while (folder / pattern.format(n=n)).exists():
        n += 1
    return folder / pattern.format(n=n)


def set_aside(path: Path, why: str) -> Path:
    """Rename a file that can't be used to a new name beside it, such as progress.damaged-1.json; nothing is lost."""
    target = free_name(path.parent, f"{path.stem}.{why}-{{n}}{path.suffix}")
    path.replace(target)
    return target


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` (created if need be) while the body runs; others wait. A crash lets it go.

    Where the file system has no locks (some network drives) the body runs without.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        with contextlib.suppress(OSError):
            _lock(file.fileno())
        yield  # closing the file gives the lock back


if sys.platform == "win32":
    import msvcrt
    import time

    def _lock(number: int) -> None:
        for _ in range(500):  # ten seconds, the longest that anybody holds it many times over
            try:
                os.lseek(number, 0, os.SEEK_SET)
                msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
                return
            except OSError:
                time.sleep(0.02)
else:
    import fcntl

    def _lock(number: int) -> None:
        fcntl.flock(number, fcntl.LOCK_EX)
