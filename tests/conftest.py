"""What every test gets: its own state folders, so that no test reads or writes the user's progress and answers."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINILM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINILM_WORK", str(tmp_path / "work"))
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
