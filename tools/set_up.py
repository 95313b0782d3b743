"""Make or refresh the course's own environment in .venv, with nothing but Python: what `make lab` and `make test` do first.

python tools/set_up.py learn     everything that a learner needs
python tools/set_up.py develop   and everything that the tests and instructors need
python tools/set_up.py freeze    write the installed versions to constraints.txt

A second run with the same settings finds the environment up to date, installs nothing and needs no network.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "minilm-installed.json"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
OLDEST_PYTHON = (3, 11)
EXTRAS = {"learn": "hf", "develop": "dev,hf,instructor"}
# On Linux the package index's plain torch brings 3 GB of CUDA libraries; PyTorch's own index has a small CPU build.
# MINILM_TORCH_INDEX names another index (such as https://download.pytorch.org/whl/cu130 for a GPU); empty means the default one.
TORCH_INDEX = os.environ.get(
    "MINILM_TORCH_INDEX", "https://download.pytorch.org/whl/cpu" if platform.system() == "Linux" else ""
)


class SetUpError(Exception):
    """Something that the user must mend; the message says what and how."""


def main() -> None:
    """Do what the command line asks, and end with one clear sentence if it can't be done."""
    goal = sys.argv[1] if len(sys.argv) == 2 else ""
    try:
        if goal == "freeze":
            freeze()
        elif goal in EXTRAS:
            set_up(goal)
        else:
            raise SetUpError(__doc__ or "")
    except SetUpError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped. Run the same command again: it goes on from here.")


def set_up(goal: str) -> None:
    """Bring .venv to the state that `goal` needs; do nothing where it is there already."""
    if sys.version_info < OLDEST_PYTHON:
        found, wanted = platform.python_version(), ".".join(map(str, OLDEST_PYTHON))
        raise SetUpError(
            f"minilm needs Python {wanted} or newer, and this is {found} ({sys.executable}). "
            f"Install a newer one, then name it: make lab PYTHON=python3.12"
        )
    wanted_state = fingerprint()
    installed = read_stamp()
    if PYTHON.exists() and installed.get("state") == wanted_state and goal in installed.get("goals", []):
        return
    make_environment()
    print("Installing (the first time takes one to three minutes) ...", flush=True)
    install_torch()
    pip("install", "--constraint", "constraints.txt", "--editable", f".[{EXTRAS[goal]}]")
    # The first import of matplotlib builds its font cache; done here, no lesson has to wait for it.
    subprocess.run([PYTHON, "-c", "import matplotlib.font_manager"], check=True, cwd=ROOT)
    goals = ["learn"] if goal == "learn" else ["learn", "develop"]
    STAMP.write_text(json.dumps({"state": wanted_state, "goals": goals}))
    print("The environment is ready.", flush=True)


def fingerprint() -> str:
    """A hash of all that decides what is installed."""
    parts = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    parts += [platform.python_version().encode(), TORCH_INDEX.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def read_stamp() -> (
    "dict[str, object]"
):  # quoted, so that Python 3.6 to 3.8 get as far as the sentence that they are too old
    """What an earlier run installed, or nothing."""
    try:
        content = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def make_environment() -> None:
    """Create .venv, and again from nothing where it is broken (moved, or made by a Python that is gone)."""
    if PYTHON.exists() and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return
    if VENV.exists():
        print(f"{VENV} is damaged; making it anew ...", flush=True)
        shutil.rmtree(VENV)
    made = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, text=True)
    if made.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetUpError(
            f"Python's venv module could not make {VENV}:\n{(made.stdout + made.stderr).strip()}\n"
            "On Debian and Ubuntu: sudo apt install python3-venv. Elsewhere: reinstall Python with its standard library."
        )


def install_torch() -> None:
    """Install PyTorch's CPU build where the platform has one; fall back to the default index where that can't be reached."""
    version = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    if version is None:
        raise SetUpError("constraints.txt doesn't pin torch. Restore it: git checkout constraints.txt")
    requirement = f"torch=={version[1]}"
    if TORCH_INDEX:
        # What torch itself needs comes with everything else, in the pinned versions.
        quick = ["--quiet", "--retries", "0", "--timeout", "10", "--no-deps"]
        command = [PYTHON, "-m", "pip", "install", *quick, "--index-url", TORCH_INDEX, requirement]
        if subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0:
            return
        print(f"{TORCH_INDEX} gave no {requirement}; taking it from the default index.", flush=True)
    pip("install", "--no-deps", requirement)


def pip(*arguments: str) -> None:
    """Run pip quietly; where it fails, show what it said and what to try."""
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments, "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return
    said = (done.stdout + done.stderr).strip()
    offline = re.search(
        r"connection|network|resolve|timed out|unreachable|No matching distribution", said, re.IGNORECASE
    )
    advice = (
        "The package index can't be reached. The first set-up needs the network once; check the connection (or the proxy: "
        "pip reads HTTPS_PROXY) and run the same command again."
        if offline
        else "Run the same command again; if it fails again, delete .venv and try once more."
    )
    raise SetUpError(f"{said[-2000:]}\n\nInstallation failed. {advice}")


def freeze() -> None:
    """Write the versions installed in .venv to constraints.txt, keeping its header."""
    path = ROOT / "constraints.txt"
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    command = [PYTHON, "-m", "pip", "freeze", "--exclude-editable"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    # A local version such as 2.13.0+cpu names one index's build: the plain version fits them all.
    pinned = sorted({re.sub(r"\+\w+$", "", line) for line in listed if "==" in line}, key=str.lower)
    path.write_text("\n".join([*header, *pinned]) + "\n")
    print(f"{len(pinned)} versions written to {path.name}.")


if __name__ == "__main__":
    main()
