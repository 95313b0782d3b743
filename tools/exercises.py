"""Make exercises/ from solutions/ as nbgrader's `generate_assignment` does, in one process and without a gradebook.

python tools/exercises.py generate     write exercises/
python tools/exercises.py check        write nothing; exit 1 and say what differs
"""

import argparse
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    ClearSolutions,
    ComputeChecksums,
    LockCells,
)
from traitlets.config import Config, PyFileConfigLoader

ROOT = Path(__file__).parent.parent
# nbgrader's own order, less the header (we have none) and the gradebook.
STEPS = (
    LockCells,
    ClearSolutions,
    ClearOutput,
    CheckCellMetadata,
    ComputeChecksums,
    ClearHiddenTests,
    ClearMarkScheme,
    ComputeChecksums,
    CheckCellMetadata,
)


def released(notebook: Path, config: Config) -> bytes:
    """What learners get of a solution notebook: stubs for solutions, no outputs, checks locked.

    Raises RuntimeError if a cell's nbgrader metadata or its solution markers are wrong.
    """
    content = nbformat.read(notebook, as_version=4)
    resources = {"unique_key": notebook.stem, "metadata": {"name": notebook.stem, "path": str(notebook.parent)}}
    try:
        for step in STEPS:
            content, resources = step(config=config).preprocess(content, resources)
    except Exception as problem:
        raise RuntimeError(f"{notebook}: {problem}") from problem
    nbformat.validate(content)
    return (nbformat.writes(content, version=4).rstrip("\n") + "\n").encode()


def generate(root: Path = ROOT) -> dict[str, bytes]:
    """The files that belong into exercises/, by path."""
    config = PyFileConfigLoader("nbgrader_config.py", path=str(ROOT)).load_config()
    return {
        path.relative_to(root / "solutions").as_posix(): (
            released(path, config) if path.suffix == ".ipynb" else path.read_bytes()
        )
        for path in files(root / "solutions")
    }


def files(folder: Path) -> Iterator[Path]:
    """The files under a folder, without hidden ones and caches."""
    for path in sorted(folder.glob("*/**/*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            yield path


def write(wanted: dict[str, bytes], root: Path = ROOT) -> list[str]:
    """Make exercises/ hold exactly these files. Returns what changed, a line for each file."""
    exercises = root / "exercises"
    changed = []
    for path in files(exercises):
        name = path.relative_to(exercises).as_posix()
        if name not in wanted:
            path.unlink()
            changed.append(f"removed {name}")
    for name, content in wanted.items():
        path = exercises / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            changed.append(f"wrote {name}")
    for folder in sorted(exercises.glob("*/"), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    return changed


def differences(wanted: dict[str, bytes], root: Path = ROOT) -> Iterator[str]:
    """How exercises/ differs from what it should be: a line for each file, and the lines that differ in a notebook's cells."""
    present = {path.relative_to(root / "exercises").as_posix(): path for path in files(root / "exercises")}
    for name in sorted(present.keys() - wanted.keys()):
        yield f"exercises/{name} has no source in solutions/"
    for name, content in wanted.items():
        if name not in present:
            yield f"exercises/{name} is missing"
        elif present[name].read_bytes() != content:
            yield f"exercises/{name} is not what solutions/{name} gives"
            if name.endswith(".ipynb"):
                yield from changed_cells(present[name].read_bytes(), content)


def changed_cells(present: bytes, wanted: bytes) -> Iterator[str]:
    """The first lines that differ in each cell (- stands in exercises/, + would be generated)."""
    try:
        old = nbformat.reads(present.decode(), as_version=4).cells
    except Exception:
        yield "    it is not a readable notebook"
        return
    new = nbformat.reads(wanted.decode(), as_version=4).cells
    if len(old) != len(new):
        yield f"    it has {len(old)} cells and should have {len(new)}"
    for number, (before, after) in enumerate(zip(old, new, strict=False), start=1):
        if before.source != after.source:
            lines = difflib.unified_diff(before.source.splitlines(), after.source.splitlines(), lineterm="", n=0)
            shown = [line for line in lines if not line.startswith(("---", "+++", "@@"))][:6]
            yield f"    cell {number}:"
            yield from (f"        {line}" for line in shown)
        elif before != after:
            yield f"    cell {number}: its metadata or outputs differ"


def main() -> int:
    """Run the command and return the exit status."""
    parser = argparse.ArgumentParser(description="Make exercises/ from solutions/, or check that it is in step.")
    parser.add_argument("command", choices=["generate", "check"])
    command = parser.parse_args().command
    try:
        wanted = generate()
    except RuntimeError as problem:
        print(problem, file=sys.stderr)
        return 1
    if command == "generate":
        print("\n".join(write(wanted)) or "exercises/ was up to date")
        return 0
    found = list(differences(wanted))
    if found:
        print("\n".join(found), file=sys.stderr)
        print("\nRun `make exercises` and commit what it changes.", file=sys.stderr)
        return 1
    print(f"exercises/ is what solutions/ gives ({len(wanted)} files)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
