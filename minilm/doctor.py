"""Look at this computer as `minilm doctor` does: is everything there that the course needs, and if not, how to mend it."""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minilm import paths

Verdict = Literal["ok", "note", "problem"]

OLDEST_PYTHON = (3, 11)
NEEDED_GIGABYTES_OF_MEMORY = 4
NEEDED_GIGABYTES_OF_DISK = 2


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found, and for a problem what to do about it."""

    subject: str
    verdict: Verdict
    found: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Look at everything, one finding after another. A look that itself fails is a finding, never a traceback."""
    looks: list[Callable[[], Finding]] = [python, packages, torch_build, cores, memory, disk, kernel, widgets, state]
    for look in looks:
        try:
            yield look()
        except Exception as error:
            subject = look.__name__.replace("_", " ")
            yield Finding(subject, "problem", f"could not be examined ({type(error).__name__}: {error})", reinstall())


def reinstall() -> str:
    """The words that mend a broken installation, here."""
    return "Install again: `make lab` in the course's folder, or `pip install -c constraints.txt -e .`"


def python() -> Finding:
    """Whether Python is new enough, and whether this is the course's own environment."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        return Finding(
            "Python", "problem", found, f"Install Python {wanted} or newer, then `make lab PYTHON=python{wanted}`"
        )
    return Finding("Python", "ok", found)


def packages() -> Finding:
    """Whether every package that minilm requires is installed in a version that it accepts."""
    from packaging.requirements import Requirement

    wrong = []
    requirements = [Requirement(line) for line in importlib.metadata.requires("minilm") or []]
    needed = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    for requirement in needed:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if wrong:
        return Finding("Packages", "problem", "; ".join(wrong), reinstall())
    return Finding("Packages", "ok", f"all {len(needed)} in accepted versions")


def torch_build() -> Finding:
    """Which build of PyTorch is installed, and which accelerators it sees. The course needs none."""
    import torch

    found = f"{torch.__version__}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        return Finding(
            "PyTorch", "ok", f"{found}, GPU {torch.cuda.get_device_name(0)} (the lessons run on the CPU unless told)"
        )
    if torch.backends.mps.is_available():
        return Finding("PyTorch", "ok", f"{found}, Apple GPU (the lessons run on the CPU unless told)")
    if torch.version.cuda is not None:
        remedy = (
            "Nothing is broken. To save 3 GB: `pip uninstall torch`, then `pip install torch --index-url "
            "https://download.pytorch.org/whl/cpu`; to use the GPU, update its driver."
        )
        return Finding("PyTorch", "note", f"{found}, CUDA build without a usable GPU", remedy)
    return Finding("PyTorch", "ok", f"{found}, CPU build")


def cores() -> Finding:
    """How many processor cores this process may use; the course is planned for two."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if usable < 2:
        return Finding("Cores", "note", "1", "The lessons work, and take about twice their stated seconds.")
    return Finding("Cores", "ok", str(usable))


def memory() -> Finding:
    """Whether a lesson (2 GB at most) and JupyterLab fit into memory."""
    import psutil

    total, available = (value / 1e9 for value in psutil.virtual_memory()[:2])
    found = f"{available:.1f} of {total:.1f} GB free"
    if available < NEEDED_GIGABYTES_OF_MEMORY:
        return Finding(
            "Memory",
            "note",
            found,
            f"Close other programs, or kernels that you don't use: a lesson wants up to 2 of {NEEDED_GIGABYTES_OF_MEMORY} GB",
        )
    return Finding("Memory", "ok", found)


def disk() -> Finding:
    """Whether there's room for downloads and checkpoints where the course writes them."""
    folder = nearest_existing(paths.home())
    free = shutil.disk_usage(folder).free / 1e9
    found = f"{free:.1f} GB free at {folder}"
    if free < NEEDED_GIGABYTES_OF_DISK:
        return Finding(
            "Disk", "problem", found, f"Free {NEEDED_GIGABYTES_OF_DISK} GB, or name another folder in MINILM_HOME"
        )
    return Finding("Disk", "ok", found)


def kernel() -> Finding:
    """Whether the notebooks' kernel "python3" starts this very Python, where minilm is installed."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    remedy = "`python -m ipykernel install --sys-prefix --name python3`"
    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Finding("Kernel", "problem", "JupyterLab has no kernel named python3", remedy)
    # ipykernel's own specification says just "python": the Python that Jupyter runs in.
    same = re.fullmatch(r"python[\d.]*(\.exe)?", command) or Path(command).absolute() == Path(sys.executable).absolute()
    if not same:
        return Finding("Kernel", "problem", f"python3 starts {command}, not {sys.executable}", remedy)
    return Finding("Kernel", "ok", "python3 starts this Python")


def widgets() -> Finding:
    """Whether JupyterLab has the extension that shows ipywidgets, in a version that fits the kernel's."""
    installed = importlib.metadata.version("ipywidgets")
    manager = importlib.metadata.version("jupyterlab_widgets")
    if manager.split(".")[0] != "3" or installed.split(".")[0] != "8":
        return Finding("Widgets", "problem", f"ipywidgets {installed} with jupyterlab_widgets {manager}", reinstall())
    from jupyter_core.paths import jupyter_path

    folders = [Path(folder) / "@jupyter-widgets" / "jupyterlab-manager" for folder in jupyter_path("labextensions")]
    if not any(folder.is_dir() for folder in folders):
        return Finding("Widgets", "problem", "JupyterLab's widget extension isn't where it looks for it", reinstall())
    return Finding("Widgets", "ok", f"ipywidgets {installed}")


def state() -> Finding:
    """Whether progress and downloads can be written."""
    folder = nearest_existing(paths.home())
    if not os.access(folder, os.W_OK):
        return Finding("State", "problem", f"{folder} can't be written", "Name a folder of yours in MINILM_HOME")
    return Finding("State", "ok", f"kept in {paths.home()}")


def nearest_existing(folder: Path) -> Path:
    """The folder itself, or the closest parent that exists."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
