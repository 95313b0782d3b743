"""What the lessons record: a lesson's experiments over several seeds, run from its own cells. `python -m experiments.attention`

Each module is a lesson's ledger. A lesson runs one seed live; the spread that its prose states comes from here.
"""

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def definitions(lesson: str) -> dict[str, Any]:
    """The names that a lesson's cells make: imports, functions and classes of all, and everything of those tagged `definitions`."""
    names: dict[str, Any] = {"__name__": "lesson"}
    for cell in json.loads((NOTEBOOKS / f"{lesson}.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        if "definitions" not in cell["metadata"].get("tags", []):
            kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
            tree.body = [node for node in tree.body if isinstance(node, kept)]
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(tree, lesson, "exec"), names)
    return names
