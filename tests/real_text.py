"""Real text that some tests measure on: it isn't part of the project, and those tests skip without it."""

import os
from pathlib import Path

import pytest


def real_text(name: str) -> Path:
    """A file of the folder that MINILM_TEST_DATA names (tinyshakespeare.txt, gpt2/...); skips the test if it isn't there."""
    folder = os.environ.get("MINILM_TEST_DATA")
    if not folder or not (Path(folder) / name).is_file():
        pytest.skip(f"needs {name} in the folder that MINILM_TEST_DATA names")
    return Path(folder) / name
