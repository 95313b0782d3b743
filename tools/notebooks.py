"""Run lessons and solutions, and check that they are fit to be committed.

python tools/notebooks.py run FILE...       execute from the first cell to the last, store the outputs, tidy the metadata
python tools/notebooks.py check [FILE...]   say what is wrong with stored notebooks, without running them
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat

ROOT = Path(__file__).resolve().parent.parent
MAX_CODE_LINES = 25
MAX_BYTES = 1_500_000
IMAGE_TYPES = ("image/png", "image/jpeg", "image/svg+xml")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}

MARKDOWN_IMAGE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<target>[^)\s]+)[^)]*\)")
MARKDOWN_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s#]+)[^)]*\)")
INLINE_CODE = re.compile(r"`[^`]*`")
HTML_IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
HTML_ATTRIBUTE = re.compile(r"""\b(?P<name>alt|src)\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)')""", re.IGNORECASE)
REMOTE = re.compile(r"^(?:https?:)?//", re.IGNORECASE)


def stored_notebooks() -> list[Path]:
    """Every notebook that is committed with its outputs: lessons and solutions."""
    return sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("solutions/*/*.ipynb")])


def run(path: Path) -> None:
    """Execute the notebook at `path` in its own folder and store it with its outputs.

    State goes to a temporary folder, so that a run on a maintainer's machine gives what a run in CI gives.
    A cell that raises leaves the file as it was: the error names the cell.
    """
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as state:
        os.environ |= {"MINILM_HOME": f"{state}/home", "MINILM_WORK": f"{state}/work"}
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        # nbval runs cells without history too, so `_` and `In` mean the same in both.
        client = NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": str(path.parent)}},
        )
        client.execute()
    tidy(notebook)
    temporary = path.with_suffix(".ipynb.tmp")
    nbformat.write(notebook, temporary)
    temporary.replace(path)


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs between machines and runs: widget state, tool versions, timings; keep cell ids stable."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNELSPEC, "language_info": {"name": "python"}})
    notebook.nbformat_minor = 5
    for number, cell in enumerate(notebook.cells):
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in ("nbgrader", "tags") if key in cell.metadata}
        )
        # Where the learner's text refers to a cell by id, nbgrader keeps it; everything else is numbered.
        cell.id = f"cell-{number:03d}"
        if cell.cell_type == "code":
            merge_streams(cell)
            for output in cell.outputs:
                # A stored view points to a widget of a kernel that is gone: in a trusted notebook JupyterLab would say
                # "model not found" in place of the picture beside it.
                if "image/png" in output.get("data", {}):
                    output.data.pop(WIDGET_VIEW, None)


def merge_streams(cell: nbformat.NotebookNode) -> None:
    """Join consecutive stream outputs of one name: how a kernel cuts them up is a matter of timing."""
    merged: list[nbformat.NotebookNode] = []
    for output in cell.outputs:
        before = merged[-1] if merged else None
        if before is not None and output.output_type == before.output_type == "stream" and output.name == before.name:
            before.text += output.text
        else:
            merged.append(output)
    cell.outputs = merged


def problems(path: Path) -> Iterator[str]:
    """Everything that makes a stored notebook unfit, a sentence each."""
    if path.stat().st_size > MAX_BYTES:
        yield f"the file has {path.stat().st_size:,} bytes, over {MAX_BYTES:,}: smaller or fewer figures"
    notebook = nbformat.read(path, as_version=4)
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        yield f"not a valid notebook: {str(error).splitlines()[0]}"
    yield from order_problems(notebook)
    for number, cell in enumerate(notebook.cells):
        where = f"cell {number} ({cell.source.strip().splitlines()[0][:50] if cell.source.strip() else 'empty'!r})"
        if cell.cell_type == "markdown":
            found = [*image_problems(cell.source, path), *link_problems(cell.source, path)]
            yield from (f"{where}: {problem}" for problem in found)
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        lines = len(cell.source.strip().splitlines())
        if lines > MAX_CODE_LINES:
            yield f"{where}: {lines} lines of code, over {MAX_CODE_LINES}: split it into steps"
        if "raises-exception" in cell.metadata.get("tags", []):
            yield f"{where}: tagged raises-exception: catch the error and print it instead"
        for output in cell.outputs:
            yield from (f"{where}: {problem}" for problem in output_problems(output, path))


def order_problems(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """The first cell that wasn't run in its turn: a stored output must come from a run from top to bottom."""
    code = [
        (number, cell) for number, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()
    ]
    for turn, (number, cell) in enumerate(code, start=1):
        if cell.execution_count != turn:
            yield f"cell {number}: execution count {cell.execution_count}, not {turn}: run the whole notebook again"
            return


def output_problems(output: nbformat.NotebookNode, path: Path) -> Iterator[str]:
    """What is wrong with one stored output."""
    if output.output_type == "error":
        yield f"its output is an error, {output.ename}: {output.evalue}"
    if output.output_type == "stream" and output.name == "stderr":
        yield f"it writes to standard error: {output.text.strip().splitlines()[0][:80]!r}"
    data, metadata = output.get("data", {}), output.get("metadata", {})
    for kind in IMAGE_TYPES:
        if kind in data and not metadata.get(kind, {}).get("alt", metadata.get("alt")):
            yield f"its {kind} output has no alt text: use show(figure, alt=...)"
    yield from image_problems(data.get("text/html", ""), path)


def image_problems(text: str, path: Path) -> Iterator[str]:
    """Images in Markdown or HTML that lack alt text, come from the network, or aren't there."""
    images = [(match["alt"], match["target"]) for match in MARKDOWN_IMAGE.finditer(text)]
    for match in HTML_IMAGE.finditer(text):
        attributes = {
            found["name"].lower(): found["double"] or found["single"] or ""
            for found in HTML_ATTRIBUTE.finditer(match[0])
        }
        images.append((attributes.get("alt", ""), attributes.get("src", "")))
    for alt, target in images:
        if not alt.strip():
            yield f"the image {target[:60]} has no alt text"
        if REMOTE.match(target):
            yield f"the image {target[:60]} comes from the network: draw it as a local SVG"
        elif not target.startswith(("data:", "attachment:")) and not (path.parent / target).is_file():
            yield f"the image {target[:60]} isn't there"


def link_problems(text: str, path: Path) -> Iterator[str]:
    """Links that lead nowhere, or to the released exercises, which a learner would then change in place."""
    for match in MARKDOWN_LINK.finditer(INLINE_CODE.sub("", text)):
        target = match["target"]
        if re.match(r"[a-z]+:", target):
            continue
        # A learner's copy, made by `minilm lab`, stands in work/ as the release stands in exercises/.
        released = re.sub(r"^((?:\.\./)*)work/", r"\1exercises/", target)
        if target.startswith(("../exercises/", "exercises/")):
            yield f"the link {target} leads to the released exercises: link to the learner's copy in ../work/"
        elif not (path.parent / released).exists():
            yield f"the link {target} leads nowhere"


def main() -> int:
    """Run or check the named notebooks; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "check"])
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()
    paths = arguments.files or stored_notebooks()
    if missing := [str(path) for path in paths if not path.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")
    found = 0
    for path in paths:
        if arguments.command == "run":
            print(f"running {path}", flush=True)
            run(path)
        for problem in problems(path):
            found += 1
            print(f"{path}: {problem}")
    print(f"{len(paths)} notebooks, {found} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
