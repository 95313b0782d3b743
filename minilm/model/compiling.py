"""`torch.compile`, asked for in a way that says what is missing where it can't work."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

COMPILERS = ("g++", "clang++", "c++", "gcc", "clang", "cl")


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`torch.compile(function)`. The first call takes half a minute or more, and so does each new shape.

    Raises RuntimeError, naming the fix, where PyTorch would generate C++ and this machine has no compiler or no Python headers.
    """
    missing = why_not_compile()
    if missing:
        raise RuntimeError(missing)
    return torch.compile(function, **options)


def why_not_compile() -> str | None:
    """What PyTorch's compiler lacks on this machine, and how to get it; None where nothing is known to be missing."""
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), *COMPILERS) if name):
        return (
            "compiling a model needs a C++ compiler, and none was found: install one (Debian, Ubuntu: apt install g++; macOS: "
            "xcode-select --install; Windows: the Build Tools of Visual Studio), name yours in CXX, or run with compile=False"
        )
    if sys.platform == "linux" and not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return (
            f"compiling a model needs Python's headers, and {sysconfig.get_path('include')} has no Python.h: install them "
            "(Debian, Ubuntu: apt install python3-dev), or run with compile=False"
        )
    return None
