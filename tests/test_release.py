"""What a release promises: one version everywhere, a changelog entry for it, and a true map of lessons in the README."""

import re
from pathlib import Path

import pytest
import yaml

import minilm

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_one_version_everywhere():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == minilm.__version__
    assert f"## {minilm.__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_every_notebook_stands_in_the_readmes_map():
    linked = set(re.findall(r"\(notebooks/(\w+)\.ipynb\)", README))
    assert linked == {path.stem for path in ROOT.glob("notebooks/*.ipynb")}


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_links_and_pictures_lead_somewhere(document):
    targets = re.findall(r"\]\(([^)#\s]+)", (ROOT / document).read_text())
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_every_lesson_has_its_exercises_and_solution():
    for path in ROOT.glob("notebooks/*.ipynb"):
        for folder in ("solutions", "exercises"):
            assert (ROOT / folder / path.stem / path.name).is_file(), f"{path.stem} has no {folder}"


def test_every_command_of_the_readmes_table_exists():
    from typer.testing import CliRunner

    from minilm.cli import app

    for command in re.findall(r"^\| `minilm (\w+)", README, re.MULTILINE):
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command
