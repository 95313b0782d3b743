"""Where things live on this computer: the user's own state, the course's checkout, the learner's working folder."""

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """The folder for local state (progress, downloads): `MINILM_HOME`, or else the user's data directory.

    It is not created here: who writes creates it.
    """
    override = os.environ.get("MINILM_HOME")
    return Path(override).expanduser() if override else Path(platformdirs.user_data_dir("minilm", appauthor=False))


def checkout() -> Path | None:
    """The root of the course's checkout that encloses the current directory or this file, or None outside of one."""
    for start in (Path.cwd(), Path(__file__).parent):
        for folder in (start, *start.parents):
            if (folder / "exercises").is_dir() and (folder / "notebooks").is_dir() and (folder / "solutions").is_dir():
                return folder
    return None


def work() -> Path:
    """The learner's own folder: `MINILM_WORK`, or else `work/` in the checkout, or else `./work`.

    Exercises are copied here by `minilm lab`, and passing answers are kept in its subfolder `my`.
    """
    override = os.environ.get("MINILM_WORK")
    if override:
        return Path(override).expanduser()
    return (checkout() or Path.cwd()) / "work"


def under_nbgrader() -> bool:
    """Whether this process runs for nbgrader, which grades: there a failing check raises and nothing is written."""
    return bool(os.environ.get("NBGRADER_EXECUTION"))
