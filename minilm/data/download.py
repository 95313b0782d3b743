"""Named sets of real text, fetched only when somebody asks: checked, resumable, and never half written.

A download goes to a file with `.part` behind its name, which the next call resumes, and gets its own name only when it
is complete and its checksum is right. Everything that can go wrong is one DownloadError with one sentence.
"""

import contextlib
import difflib
import errno
import hashlib
import http.client
import os
import shutil
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minilm import paths

CHUNK = 1 << 16


class DownloadError(Exception):
    """A set that cannot be had: one sentence with the reason and what to do."""


class UnknownDataError(DownloadError):
    """A name that no set has; the message gives the nearest."""


@dataclass(frozen=True)
class DataSet:
    """A file somewhere on the network.

    `url` may hold {revision}, and {hub} for the Hugging Face hub (`HF_ENDPOINT`). Without `sha256` the content can't
    be checked, and `status` says so. Of a set with `first_bytes` only the beginning is fetched, and cut behind the last
    `separator`, so that no text is left half.
    """

    name: str
    about: str
    source: str
    url: str
    file: str
    licence: str
    revision: str = "main"
    sha256: str | None = None
    size: int | None = None
    first_bytes: int | None = None
    separator: str = ""

    @property
    def status(self) -> str:
        """Whether the content is known for certain."""
        return "checked by sha256" if self.sha256 else "unpinned, not checked offline"

    @property
    def path(self) -> Path:
        """Where the file lies once it has been fetched."""
        return folder() / self.name / self.file

    @property
    def here(self) -> bool:
        """Whether it has been fetched."""
        return self.path.is_file()


@dataclass(frozen=True)
class Download:
    """What `get` did: where the file lies, its bytes and sha256, and whether the sha256 was the known one."""

    data_set: DataSet
    path: Path
    size: int
    sha256: str
    checked: bool
    already_here: bool


_HUB = "{hub}/datasets/"

SETS = (
    DataSet(
        name="tinyshakespeare",
        about="Plays by Shakespeare in one file, the classic of small character models",
        source="karpathy/char-rnn",
        url="https://raw.githubusercontent.com/karpathy/char-rnn/{revision}/data/tinyshakespeare/input.txt",
        file="tinyshakespeare.txt",
        licence="public domain",
        revision="d1d7aa34fdb3626174bce1d753e6cc6845ce7087",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        size=1_115_394,
    ),
    DataSet(
        name="tinystories",
        about="Stories for small children, written by GPT-4 (Eldan and Li 2023): the first 50 MB",
        source="roneneldan/TinyStories",
        url=_HUB + "roneneldan/TinyStories/resolve/{revision}/TinyStoriesV2-GPT4-train.txt",
        file="tinystories.txt",
        licence="CDLA-Sharing-1.0",
        first_bytes=50_000_000,
        separator="<|endoftext|>",
    ),
    DataSet(
        name="tinystories-valid",
        about="The validation stories of TinyStories (Eldan and Li 2023)",
        source="roneneldan/TinyStories",
        url=_HUB + "roneneldan/TinyStories/resolve/{revision}/TinyStoriesV2-GPT4-valid.txt",
        file="tinystories-valid.txt",
        licence="CDLA-Sharing-1.0",
    ),
    DataSet(
        name="claire-french",
        about="French dialogue: classical theatre from the Claire collection, not for commercial use",
        source="OpenLLM-France/Claire-Dialogue-French-0.1",
        url=_HUB + "OpenLLM-France/Claire-Dialogue-French-0.1/resolve/{revision}/FR/TheatreClassique/train.txt",
        file="claire-french.txt",
        licence="CC BY-NC-SA 4.0",
        first_bytes=20_000_000,
        separator="\n\n",
    ),
)


def folder() -> Path:
    """Where downloads are kept."""
    return paths.home() / "data"


def list_sets() -> list[DataSet]:
    """All sets that can be fetched by name."""
    return list(SETS)


def find(name: str) -> DataSet:
    """The set of that name; UnknownDataError gives the nearest one."""
    for data_set in SETS:
        if data_set.name == name:
            return data_set
    known = [data_set.name for data_set in SETS]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownDataError(f"There is no data set {name!r}; there are {', '.join(known)}.{hint}")


def where(name: str) -> Path:
    """The file of a set that has been fetched; DownloadError says how to fetch it."""
    data_set = find(name)
    if not data_set.here:
        raise DownloadError(f"{name} is not on this computer yet: `minilm data get {name}` fetches it.")
    return data_set.path


def get(name: str, progress: bool = True, mirror: str | None = None, patience: float = 0.9) -> Download:
    """Fetch a set by name, unless it is here already: see `fetch`."""
    return fetch(find(name), progress=progress, mirror=mirror, patience=patience)


def fetch(
    data_set: DataSet,
    path: Path | None = None,
    progress: bool = True,
    mirror: str | None = None,
    patience: float = 0.9,
) -> Download:
    """Fetch a set to its place, or to `path`, and check it; a download that was cut is resumed where it stopped.

    `mirror` (or the environment's `MINILM_MIRROR`) replaces scheme and host of the address, for a class that has its
    own server. `patience` is how many seconds (or `MINILM_PATIENCE`) the first connection may take: without a network
    the error comes within them. With `HF_HUB_OFFLINE` set nothing goes online.
    """
    path = path or data_set.path
    if path.is_file():
        return _finish(data_set, path, already_here=True)
    if os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "ON", "YES", "TRUE"):
        raise DownloadError(
            f"{data_set.name} is not on this computer, and HF_HUB_OFFLINE forbids to fetch it: unset it."
        )
    url = address(data_set, mirror)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_host(url, float(os.environ.get("MINILM_PATIENCE") or patience))
        _transfer(data_set, url, part, progress)
        _check(data_set, part)
        _cut(data_set, part)
        part.replace(path)
        _tag(part).unlink(missing_ok=True)
    except OSError as error:
        raise _explain(data_set, error, url, part) from error
    except (http.client.HTTPException, ValueError) as error:
        raise DownloadError(f"{url!r} is no address that a server answers to ({error}).") from error
    return _finish(data_set, path, already_here=False)


def address(data_set: DataSet, mirror: str | None = None) -> str:
    """The full address of a set, on the hub of `HF_ENDPOINT` and through a mirror where there are such."""
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = data_set.url.format(hub=hub, revision=data_set.revision)
    mirror = mirror or os.environ.get("MINILM_MIRROR")
    return mirror.rstrip("/") + urllib.parse.urlsplit(url).path if mirror else url


def _check_host(url: str, patience: float) -> None:
    """Raise an OSError within `patience` seconds if nobody answers at the host, or at the proxy that leads there."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
        parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    port = parts.port or {"http": 80}.get(parts.scheme, 443)
    outcome: list[OSError | None] = []

    def connect() -> None:
        try:
            socket.create_connection((parts.hostname or "", port), timeout=patience).close()
            outcome.append(None)
        except OSError as error:
            outcome.append(error)

    # In a thread: looking up a name cannot be given a time limit.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(patience)
    problem = (
        outcome[0] if outcome else TimeoutError(f"no answer within {patience:g} s; MINILM_PATIENCE=10 waits longer")
    )
    if problem:
        raise urllib.error.URLError(problem)


def _transfer(data_set: DataSet, url: str, part: Path, progress: bool) -> None:
    """Bring the `.part` file to its full length, from where it stands if the server's file is still the same."""
    have = part.stat().st_size if part.exists() else 0
    tag = _tag(part).read_text(encoding="utf-8") if have and _tag(part).exists() else ""
    if have and not tag and not data_set.sha256:
        have = 0  # nothing would tell that the rest belongs to the same file
    limit = data_set.first_bytes
    if limit and have >= limit:
        return
    headers = {"User-Agent": "minilm", "Accept-Encoding": "identity"}
    if have or limit:
        headers["Range"] = f"bytes={have}-{limit - 1 if limit else ''}"
    if have and tag:
        headers["If-Range"] = tag
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            error.close()
            part.unlink()  # longer than the file, or complete and unchecked: begin again
            return _transfer(data_set, url, part, progress)
        raise
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0
        length = int(answer.headers["Content-Length"]) if answer.headers.get("Content-Length") else None
        total = have + length if length is not None else data_set.size
        if total is not None and limit:
            total = min(total, limit)
        if total is not None and shutil.disk_usage(part.parent).free < total - have:
            raise OSError(errno.ENOSPC, "not enough space")
        if new_tag := answer.headers.get("ETag"):
            _tag(part).write_text(new_tag, encoding="utf-8")
        _copy(answer, part, have, total, limit, data_set.name, progress)


def _copy(
    answer: http.client.HTTPResponse,
    part: Path,
    have: int,
    total: int | None,
    limit: int | None,
    name: str,
    progress: bool,
) -> None:
    """Append what the server sends to the first `have` bytes of the file; ConnectionAbortedError if it ends too early."""
    stop = total if total is not None else limit
    with part.open("r+b" if have else "wb") as file, _bar(name, have, total, progress) as advance:
        file.seek(have)
        while stop is None or have < stop:
            try:
                chunk = answer.read(min(CHUNK, stop - have) if stop is not None else CHUNK)
            except http.client.HTTPException as error:
                raise ConnectionAbortedError(f"{have:,} bytes arrived") from error
            if not chunk:
                break
            file.write(chunk)
            have += len(chunk)
            advance.update(len(chunk))
    if total is not None and have < total:
        raise ConnectionAbortedError(f"{have:,} of {total:,} bytes arrived")


class _Silent:
    """A progress bar that shows nothing."""

    def update(self, n: int) -> bool | None:
        """Take no notice."""
        return None


@contextlib.contextmanager
def _bar(name: str, have: int, total: int | None, progress: bool) -> Iterator[_Silent]:
    if not progress:
        yield _Silent()
        return
    from tqdm.auto import tqdm

    class Bar(_Silent):
        def update(self, n: int) -> bool | None:
            return bar.update(n)

    with tqdm(desc=name, initial=have, total=total, unit="B", unit_scale=True) as bar:
        yield Bar()


def _check(data_set: DataSet, part: Path) -> None:
    """Compare the checksum where it is known; a file that differs is removed."""
    if data_set.sha256 is None:
        return
    actual = sha256(part)
    if actual != data_set.sha256:
        part.unlink()
        _tag(part).unlink(missing_ok=True)
        raise DownloadError(
            f"{data_set.name} is not what it should be (sha256 {actual[:12]}..., expected {data_set.sha256[:12]}...): "
            "it was removed; try again, and if it stays so the file has changed at its source."
        )


def _cut(data_set: DataSet, part: Path) -> None:
    """End the beginning of a longer file behind its last separator."""
    if not (data_set.first_bytes and data_set.separator and part.stat().st_size >= data_set.first_bytes):
        return
    separator = data_set.separator.encode()
    with part.open("r+b") as file:
        start = max(0, data_set.first_bytes - (1 << 20))
        file.seek(start)
        end = file.read().rfind(separator)
        if end >= 0:
            file.truncate(start + end + len(separator))


def _finish(data_set: DataSet, path: Path, already_here: bool) -> Download:
    actual = sha256(path)
    return Download(data_set, path, path.stat().st_size, actual, actual == data_set.sha256, already_here)


def sha256(path: Path) -> str:
    """The sha256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tag(part: Path) -> Path:
    """Where the server's tag of a partial file is kept, by which resuming knows that the file is still the same."""
    return part.with_name(part.name + ".etag")


def _explain(data_set: DataSet, error: OSError, url: str, part: Path) -> DownloadError:
    """One sentence for whatever went wrong; what is left on disk is only what the next call resumes."""
    host = urllib.parse.urlsplit(url).netloc
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        _discard_if_empty(part)
        if error.code in (401, 403):
            return DownloadError(f"{host} does not give {data_set.name} to everybody (answer {error.code}): see {url}")
        if error.code in (404, 410):
            return DownloadError(f"{data_set.name} is no longer at its place (answer {error.code}): {url}")
        return DownloadError(f"{host} answered {error.code} ({error.reason}) for {data_set.name}: try again later.")
    if isinstance(error, urllib.error.URLError):
        _discard_if_empty(part)
        return DownloadError(
            f"{host} cannot be reached ({error.reason}): is there a network? {data_set.name} was not fetched."
        )
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        part.unlink(missing_ok=True)
        _tag(part).unlink(missing_ok=True)
        return DownloadError(f"The disk is full: {data_set.name} needs more space in {part.parent}; nothing was kept.")
    if isinstance(error, ConnectionError | TimeoutError):
        _discard_if_empty(part)
        kept = part.stat().st_size if part.exists() else 0
        return DownloadError(
            f"The connection to {host} was cut ({error}): {kept:,} bytes of {data_set.name} are kept, and the same "
            "command goes on from there."
        )
    return DownloadError(f"{data_set.name} cannot be written to {part.parent}: {error.strerror or error}.")


def _discard_if_empty(part: Path) -> None:
    """Leave no empty file behind where nothing arrived."""
    if part.exists() and part.stat().st_size == 0:
        part.unlink()
    if not part.exists():
        _tag(part).unlink(missing_ok=True)
