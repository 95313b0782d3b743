"""The files that install minilm agree with one another, and set-up says clearly what is wrong."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# conda-forge's names for what the package index calls otherwise.
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def requirements_of_a_learner() -> dict[str, Requirement]:
    """What pyproject.toml asks for where a learner installs: the core and transformers."""
    lines = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["hf"]]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}


def conda_requirements() -> dict[str, Requirement]:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    requirements = [Requirement(line) for line in dependencies if isinstance(line, str)]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def test_environment_yml_names_the_same_packages_with_the_same_bounds():
    conda = conda_requirements()
    assert conda.pop("python").specifier == PROJECT["requires-python"]
    conda.pop("pip")
    wanted = {
        canonicalize_name(CONDA_NAMES.get(name, name)): requirement.specifier
        for name, requirement in requirements_of_a_learner().items()
    }
    assert {name: requirement.specifier for name, requirement in conda.items()} == wanted


def test_environment_yml_installs_the_course_itself():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert {"pip": ["--editable ."]} in dependencies


def test_every_required_package_is_pinned_to_a_version_in_its_range():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            name, version = line.split("==")
            pins[canonicalize_name(name)] = Version(version)
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *extras["hf"], *extras["instructor"], *extras["dev"]]
    for requirement in map(Requirement, lines):
        if canonicalize_name(requirement.name) != "minilm":
            pinned = pins[canonicalize_name(requirement.name)]
            assert pinned in requirement.specifier, f"{requirement} but constraints.txt pins {pinned}"


def test_no_constraint_names_one_machine():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line), line


def test_set_up_refuses_an_unknown_goal_with_its_usage():
    done = subprocess.run([sys.executable, ROOT / "tools" / "set_up.py", "lern"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "set_up.py learn" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def set_up(monkeypatch):
    """tools/set_up.py as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import set_up

    return set_up


def test_an_old_python_is_refused_by_version(set_up, monkeypatch):
    monkeypatch.setattr(set_up, "OLDEST_PYTHON", (9, 9))
    with pytest.raises(set_up.SetUpError, match=r"needs Python 9\.9 or newer, and this is \d"):
        set_up.set_up("learn")


def test_a_python_without_venv_is_told_what_to_install(set_up, monkeypatch, tmp_path):
    monkeypatch.setattr(set_up, "VENV", tmp_path / "venv")
    monkeypatch.setattr(set_up, "PYTHON", tmp_path / "venv/bin/python")
    without_venv = tmp_path / "python"
    without_venv.write_text("#!/bin/sh\necho 'No module named venv' >&2\nexit 1\n")
    without_venv.chmod(0o755)
    monkeypatch.setattr(set_up.sys, "executable", str(without_venv))
    with pytest.raises(set_up.SetUpError, match="apt install python3-venv"):
        set_up.make_environment()
    assert not (tmp_path / "venv").exists()


def test_a_network_that_is_down_is_named(set_up):
    with pytest.raises(set_up.SetUpError, match="package index can't be reached"):
        set_up.pip(
            "download",
            "--index-url",
            "http://127.0.0.1:9/simple",
            "--retries",
            "0",
            "--dest",
            "/nonexistent",
            "no-such-package-here",
        )


def test_an_environment_that_is_up_to_date_is_left_alone(set_up, monkeypatch, tmp_path):
    stamp = tmp_path / "stamp.json"
    monkeypatch.setattr(set_up, "STAMP", stamp)
    monkeypatch.setattr(set_up, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(set_up, "make_environment", lambda: pytest.fail("it set up again"))
    stamp.write_text(f'{{"state": "{set_up.fingerprint()}", "goals": ["learn", "develop"]}}')
    set_up.set_up("learn")
    set_up.set_up("develop")
    stamp.write_text(f'{{"state": "{set_up.fingerprint()}", "goals": ["learn"]}}')
    with pytest.raises(pytest.fail.Exception, match="set up again"):
        set_up.set_up("develop")


def test_importing_minilm_loads_nothing_heavy():
    code = "import sys, minilm, minilm.course, minilm.tokenizer; print([m for m in ('torch', 'matplotlib', 'ipywidgets') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
