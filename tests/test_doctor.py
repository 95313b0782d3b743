"""`minilm doctor` finds what is wrong, says how to mend it, and never breaks itself."""

import importlib.metadata
import json
from pathlib import Path

import pytest

from minilm import doctor


def findings() -> dict[str, doctor.Finding]:
    return {finding.subject: finding for finding in doctor.examine()}


def test_here_nothing_is_wrong():
    assert {finding for finding in doctor.examine() if finding.verdict == "problem"} == set()


def test_every_problem_and_note_comes_with_a_remedy(monkeypatch):
    monkeypatch.setattr(doctor, "NEEDED_GIGABYTES_OF_MEMORY", 10**6)
    monkeypatch.setattr(doctor, "NEEDED_GIGABYTES_OF_DISK", 10**9)
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (9, 9))
    found = findings()
    assert (found["Memory"].verdict, found["Disk"].verdict, found["Python"].verdict) == ("note", "problem", "problem")
    assert all(finding.remedy for finding in found.values() if finding.verdict != "ok")


def test_a_missing_and_an_old_package_are_named(monkeypatch):
    installed = importlib.metadata.version

    def version(name: str) -> str:
        if name == "tokenizers":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1" if name == "regex" else installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    packages = findings()["Packages"]
    assert packages.verdict == "problem"
    assert "tokenizers is missing" in packages.found
    assert "regex 0.1 is not >=2024.4.16" in packages.found


def test_a_cuda_build_without_a_gpu_is_named_with_the_smaller_build(monkeypatch):
    import torch

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finding = findings()["PyTorch"]
    assert finding.verdict == "note"
    assert "whl/cpu" in finding.remedy


def test_a_kernel_of_another_python_is_found(monkeypatch, tmp_path):
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(
        json.dumps({"argv": ["/elsewhere/python", "-m", "ipykernel"], "display_name": "x"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    finding = findings()["Kernel"]
    assert finding.verdict == "problem"
    assert "/elsewhere/python" in finding.found
    assert "ipykernel install" in finding.remedy


def test_a_folder_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MINILM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert findings()["State"].verdict == "problem"


def test_a_look_that_fails_is_a_finding(monkeypatch):
    def cores() -> doctor.Finding:
        raise RuntimeError("no such counter")

    monkeypatch.setattr(doctor, "cores", cores)
    finding = findings()["cores"]
    assert finding.verdict == "problem"
    assert "no such counter" in finding.found


def test_nearest_existing_goes_up(tmp_path):
    assert doctor.nearest_existing(tmp_path / "a" / "b") == tmp_path
    assert doctor.nearest_existing(Path("relative")).is_absolute()


@pytest.mark.parametrize("verdict", ["ok", "note", "problem"])
def test_the_command_shows_every_verdict(monkeypatch, verdict):
    from typer.testing import CliRunner

    from minilm.cli import app

    monkeypatch.setattr(doctor, "examine", lambda: iter([doctor.Finding("Disk", verdict, "2 GB free", "Free some")]))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == (1 if verdict == "problem" else 0)
    assert "Disk: 2 GB free" in result.output
    assert "Free some" in result.output
