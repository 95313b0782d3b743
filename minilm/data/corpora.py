"""Real text that is already on this computer: Python's own documentation and source, and the user's files and folders.

One word names any text, on the command line and in lessons (`read`): a path, `stories:medium:20000`, `python-docs`,
`python-docstrings`, `python-source`, `class:2:36000:70` (sums as a careless class adds them, `minilm.data.puzzles.classroom`), or the
name of a set that was downloaded. Python's own text differs between its versions: never compare exact figures on it.
"""

import ast
import codecs
import difflib
import importlib
import itertools
import os
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from minilm.data import download, stories
from minilm.data.puzzles import tasks
from minilm.data.puzzles.classroom import hear

_SUFFIXES = (
    "txt text md markdown rst tex log org srt csv tsv json jsonl xml html htm yaml yml toml ini cfg "
    "py pyi c h cc cpp hpp cu java kt js ts css go rs rb php pl lua r jl sh sql swift"
)
SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""Which files of a folder are read; a file that is named itself may have any suffix."""

SMALLEST = 64
"""A file with fewer bytes than this is refused: no model learns from it, and it's usually the wrong file."""

BLOCK = 1 << 20
"""Long files are read in blocks of about this many bytes."""

GENERATED: dict[str, Callable[[], Iterator[str]]] = {}
"""The names of texts that come with Python; filled below."""


class CorpusError(ValueError):
    """A text that cannot be used: the message names it, the reason, and what to do."""


class CorpusWarning(UserWarning):
    """Something was replaced or left out while reading; the message says what and how much."""


def read(spec: str | Path, max_bytes: int | None = None) -> Iterator[str]:
    """The texts that a word names, lazily: a path, `stories:SIZE:NUMBER[:SPLIT]`, `python-docs` or a data set's name.

    A file comes in pieces that end at line ends and join to its text; a folder's files come in the order of their
    paths, hidden ones left out, those with a suffix in `SUFFIXES` only. A byte-order mark is dropped, line ends become
    line feeds, and bytes that are not UTF-8 become U+FFFD with a CorpusWarning that counts them. `max_bytes` ends the whole
    after that many bytes of UTF-8, never inside a character. A file or folder called like a data set is read as
    "./name".

    Raises CorpusError, or its kind `UnknownTextError`, or DownloadError for a set that has not been fetched, at the call
    and not only when the first text is taken.
    """
    if max_bytes is not None and max_bytes < 1:
        raise CorpusError(f"max_bytes must be at least 1, not {max_bytes}.")
    texts = _open(str(spec))
    return texts if max_bytes is None else _first_bytes(texts, max_bytes)


class UnknownTextError(CorpusError):
    """A word that names no text; the message gives the nearest one that does."""


def local_names() -> list[str]:
    """The words that name a text which needs no download; `stories:medium:20000` stands for all stories."""
    return [*GENERATED, "stories:medium:20000"]


def needs_no_fetching(name: str) -> bool:
    """Whether the name stands for a text that is made on this computer, and not for a file."""
    return name in GENERATED or name.startswith(("stories:", "class:"))


def names() -> list[str]:
    """The words that name a text without being a path."""
    return [*local_names(), *(data_set.name for data_set in download.list_sets())]


def python_docs(docstrings: bool = False) -> str:
    """The language reference that comes with Python (`help("for")` shows it), about 0.5 MB, as one text.

    With `docstrings=True` the docstrings of the standard library follow, about 1.8 MB, which takes some seconds.
    """
    texts = _topics() if not docstrings else itertools.chain(_topics(), _docstrings())
    return "\n\n".join(texts)


def python_source(max_bytes: int | None = None) -> str:
    """The source of Python's standard library without its tests, about 12 MB of code, or its first `max_bytes` bytes."""
    return "".join(read("python-source", max_bytes))


def truncate(text: str, max_bytes: int) -> str:
    """The longest beginning of a text that takes at most `max_bytes` bytes of UTF-8: never half a character."""
    if 4 * len(text) <= max_bytes:
        return text
    return text.encode()[:max_bytes].decode(errors="ignore")


def _open(spec: str) -> Iterator[str]:
    """The texts of a word without a limit; every complaint about the word itself is raised here."""
    if spec in GENERATED:
        return GENERATED[spec]()
    if spec == "stories" or spec.startswith("stories:"):
        return _stories(spec)
    if spec == "class" or spec.startswith("class:"):
        return _class(spec)
    if any(data_set.name == spec for data_set in download.list_sets()):
        return _file(download.where(spec))
    path = Path(spec).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    near = difflib.get_close_matches(spec, [*names(), *_neighbours(path)], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else f" Names are {', '.join(names())}."
    raise UnknownTextError(f"{spec!r} is neither a file, a folder nor the name of a text.{hint}")


def _neighbours(path: Path) -> list[str]:
    """Files and folders beside a path that is not there, written as the path is."""
    try:
        return [str(path.parent / entry.name) for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    except OSError:
        return []


def _stories(spec: str) -> Iterator[str]:
    """`stories:medium:20000:train`: size, how many, and of which split (train by default, all for every split)."""
    _, *parts = spec.split(":")
    size = parts[0] if parts and parts[0] else "medium"
    count = parts[1] if len(parts) > 1 else "10000"
    split = parts[2] if len(parts) > 2 else "train"
    if len(parts) > 3 or not (count.isascii() and count.isdigit()) or int(count) < 1:
        raise CorpusError(
            f"{spec!r} should be stories:SIZE:NUMBER or stories:SIZE:NUMBER:SPLIT, as stories:medium:20000."
        )
    if split not in (*stories.SPLITS, "all"):
        raise CorpusError(f"{spec!r}: there is no split {split!r}; there are {', '.join(stories.SPLITS)}, and all.")
    try:
        stories.grammar(size)
    except ValueError as error:
        raise UnknownTextError(f"{spec!r}: {error}") from None
    chosen = next((known for known in stories.SPLITS if known == split), None)
    texts = (story.text for story in stories.sample(size, seed=0, split=chosen))
    return itertools.islice(texts, int(count))


def _class(spec: str) -> Iterator[str]:
    """`class:2:36000:70:train`: digits, answers, how many of a hundred forget to carry, and of which split (train by default)."""
    _, *parts = spec.split(":")
    *numbers, split = parts if len(parts) == 4 else [*parts, "train"]
    if len(numbers) != 3 or not all(part.isascii() and part.isdigit() for part in numbers):
        raise CorpusError(f"{spec!r} should be class:DIGITS:NUMBER:PERCENT, or with :SPLIT, as class:2:36000:70.")
    digits, number, percent = map(int, numbers)
    known = next((each for each in tasks.SPLITS if each == split), None)
    if known is None:
        raise CorpusError(f"{spec!r}: there is no split {split!r}; there are {', '.join(tasks.SPLITS)}.")
    if not (1 <= digits <= 9 and number >= 1 and percent <= 100):
        raise CorpusError(f"{spec!r}: 1 to 9 digits, at least 1 answer, and 0 to 100 of a hundred forget to carry.")
    try:
        return hear(digits, number, percent, known)
    except ValueError as error:
        raise CorpusError(f"{spec!r}: {error}: ask for fewer answers, or more digits.") from None


def _file(path: Path, smallest: int = SMALLEST) -> Iterator[str]:
    """A file in pieces; it is looked at now, and read when the pieces are taken."""
    name = repr(str(path))
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(1 << 16)
    except OSError as error:
        raise CorpusError(f"{name} cannot be read: {error.strerror or error}.") from None
    if reason := _unusable(start, size, smallest):
        raise CorpusError(f"{name} {reason}.")
    return _pieces(path, name)


def _unusable(start: bytes, size: int, smallest: int) -> str:
    """Why a file that begins with these bytes is no text to learn from, or ""; `smallest` is the least size allowed."""
    if size == 0:
        return "is empty"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "is UTF-16 text: save it as UTF-8"
    if b"\0" in start:
        return "is binary (it holds zero bytes), not text: export it as plain text first"
    if start.startswith(b"%PDF-"):
        return "is a PDF, not text: export it as plain text first"
    if size < smallest:
        return f"has only {size} bytes: name a text of at least {smallest}"
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(start)
    share = _damage(text, start) / len(start)
    if share > 0.02:
        return f"is not UTF-8 text ({share:.0%} of its beginning does not decode): is it Latin-1, or binary? Save it as UTF-8"
    if not text.strip():
        return "holds nothing but spaces"
    return ""


def _damage(text: str, data: bytes) -> int:
    """How many replacement characters the decoding put into the text, beside those that the data itself held."""
    return text.count("\ufffd") - data.count("\ufffd".encode())


def _pieces(path: Path, name: str) -> Iterator[str]:
    """The text of a file, decoded block by block; a block ends behind a line end, which is never inside a character."""
    damaged = 0
    with path.open("rb") as stream:
        if stream.read(3) != codecs.BOM_UTF8:
            stream.seek(0)
        while block := stream.read(BLOCK):
            block += stream.readline()
            text = block.decode("utf-8", "replace")
            damaged += _damage(text, block)
            yield text.replace("\r\n", "\n").replace("\r", "\n")
    if damaged:
        warnings.warn(
            f"{name}: {damaged} sequences of bytes that are not UTF-8 were replaced.", CorpusWarning, stacklevel=2
        )


def _folder(path: Path) -> Iterator[str]:
    """The usable texts of a folder, small ones too; CorpusError if there is none."""
    found = [file for file in _files(path, SUFFIXES) if file.stat().st_size > 0]
    readable = []
    for file in found:
        try:
            _file(file, smallest=1)
        except CorpusError as error:
            warnings.warn(f"Left out: {error}", CorpusWarning, stacklevel=4)
        else:
            readable.append(file)
    if not readable:
        reason = (
            "none of its text files can be used" if found else "it has no file with a suffix of text, as .txt or .md"
        )
        raise CorpusError(f"The folder {str(path)!r} has nothing to read: {reason}.")
    return itertools.chain.from_iterable(_file(file, smallest=1) for file in readable)


def _files(path: Path, suffixes: frozenset[str], skip: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Files with these suffixes below a folder in the order of their paths, without hidden and skipped ones."""
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in skip)
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Path(folder) / name


def _first_bytes(texts: Iterator[str], max_bytes: int) -> Iterator[str]:
    """Texts until their UTF-8 would exceed a number of bytes; the last one may be cut short."""
    left = max_bytes
    for text in texts:
        size = len(text.encode())
        if size >= left:
            if cut := truncate(text, left):
                yield cut
            return
        yield text
        left -= size


# --- What comes with Python ---

_NOT_LIBRARY = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})


def _topics() -> Iterator[str]:
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        raise CorpusError(
            "This Python comes without its documentation (pydoc_data): install Python's full package, "
            "or use python-source or a file of your own."
        ) from None
    return (topics[name].strip() + "\n" for name in sorted(topics))


def _library() -> Iterator[Path]:
    """The files of the standard library in the order of their paths."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = _files(folder, frozenset({".py"}), skip=_NOT_LIBRARY)
    first = next(files, None)
    if first is None:
        raise CorpusError(f"This Python keeps no source of its library in {str(folder)!r}: use a file of your own.")
    return itertools.chain([first], files)


def _source() -> Iterator[str]:
    return (file.read_text(encoding="utf-8", errors="replace") for file in _library())


def _docstrings() -> Iterator[str]:
    """The docstrings of the standard library, one text a module."""
    return filter(None, map(_docstrings_of, _source()))


def _docstrings_of(source: str) -> str:
    """All docstrings of a module, outer ones first."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old modules hold escapes that newer Pythons warn of
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    parts = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented)]
    return "".join(f"{part}\n\n" for part in parts if part)


GENERATED.update({"python-docs": _topics, "python-docstrings": _docstrings, "python-source": _source})
