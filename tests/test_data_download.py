"""Downloads against a server of our own that truncates, lies, cuts and goes away."""

import dataclasses
import errno
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import pytest

from minilm.data import download
from minilm.data.download import DataSet, DownloadError
from tests.real_text import real_text

CONTENT = b"".join(b"line %06d of a set\n" % i for i in range(20_000))  # 400,000 bytes
SET = DataSet(
    name="lines",
    about="Lines",
    source="a test",
    url="https://example.invalid/{revision}/lines.txt",
    file="lines.txt",
    licence="none",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size=len(CONTENT),
)


class Server(ThreadingHTTPServer):
    """Serves one file, with faults on demand, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.tag = '"one"'
        self.status = 200
        self.ranges = True
        self.stop_after: int | None = None  # cut the connection after that many bytes of a body
        self.chunked = False
        self.asked: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if server.status != 200:
            self.send_error(server.status)
            return
        start, end = 0, len(server.content)
        matches = self.headers.get("If-Range") in (None, server.tag)
        if wanted and server.ranges and matches:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(end, int(last) + 1 if last else end)
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", server.tag)
        body = server.content[start:end]
        if server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.stop_after is not None:
            body = body[: server.stop_after]
        if server.chunked:
            body = b"%x\r\n%s\r\n" % (len(body) + (server.stop_after or 0), body)
            body += b"" if server.stop_after else b"0\r\n\r\n"
        self.wfile.write(body)
        self.wfile.flush()
        if server.stop_after is not None:
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINILM_HOME", str(tmp_path / "home"))
    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "MINILM_MIRROR", "MINILM_PATIENCE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def fetch(server: Server, data_set: DataSet = SET) -> download.Download:
    return download.fetch(data_set, progress=False, mirror=server.address)


def left_over() -> list[str]:
    folder = download.folder()
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def test_fetched_and_checked(server: Server) -> None:
    result = fetch(server)
    assert result.path == SET.path
    assert result.path.read_bytes() == CONTENT
    assert (result.size, result.checked, result.already_here) == (len(CONTENT), True, False)
    assert left_over() == ["lines.txt"]
    assert server.asked == [("/main/lines.txt", None)]
    again = fetch(server)
    assert again.already_here
    assert again.sha256 == SET.sha256
    assert len(server.asked) == 1


def test_truncated_body_is_resumed(server: Server) -> None:
    server.stop_after = 150_000
    with pytest.raises(DownloadError, match=r"was cut .*150,000 bytes of lines are kept.*goes on from there"):
        fetch(server)
    assert left_over() == ["lines.txt.part", "lines.txt.part.etag"]
    assert not SET.here
    server.stop_after = None
    assert fetch(server).path.read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=150000-"
    assert left_over() == ["lines.txt"]


def test_cut_before_the_first_byte_leaves_nothing(server: Server) -> None:
    server.stop_after = 0
    with pytest.raises(DownloadError, match="was cut"):
        fetch(server)
    assert left_over() == []


def test_cut_in_a_body_of_unknown_length(server: Server) -> None:
    unsized = dataclasses.replace(SET, size=None)
    server.chunked, server.stop_after = True, 150_000
    with pytest.raises(DownloadError, match="was cut"):
        fetch(server, unsized)
    server.chunked, server.stop_after = False, None
    assert fetch(server, unsized).path.read_bytes() == CONTENT


def test_the_beginning_of_a_set_of_unknown_length(server: Server) -> None:
    server.ranges, server.chunked = False, True
    stories = dataclasses.replace(SET, sha256=None, size=None, first_bytes=100_007, separator="\n")
    assert 99_980 < fetch(server, stories).size <= 100_007


def test_many_cuts_in_a_row(server: Server) -> None:
    server.stop_after = 90_000
    attempts = 0
    while not SET.here:
        attempts += 1
        try:
            fetch(server)
        except DownloadError:
            assert attempts < 10
    assert attempts == 5
    assert SET.path.read_bytes() == CONTENT


def test_a_file_that_changed_in_between_starts_again(server: Server) -> None:
    server.stop_after = 150_000
    with pytest.raises(DownloadError):
        fetch(server)
    server.stop_after, server.tag = None, '"two"'
    server.content = bytes(reversed(CONTENT))
    changed = dataclasses.replace(SET, sha256=hashlib.sha256(server.content).hexdigest())
    assert fetch(server, changed).path.read_bytes() == server.content


def test_a_server_without_ranges_starts_again(server: Server) -> None:
    server.stop_after = 150_000
    with pytest.raises(DownloadError):
        fetch(server)
    server.stop_after, server.ranges = None, False
    assert fetch(server).path.read_bytes() == CONTENT


def test_a_partial_file_that_is_too_long_starts_again(server: Server) -> None:
    part = SET.path.with_name("lines.txt.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b"more")
    assert fetch(server).path.read_bytes() == CONTENT


def test_a_wrong_hash_is_refused_and_removed(server: Server) -> None:
    server.content = CONTENT.replace(b"line 000007", b"lime 000007")
    with pytest.raises(DownloadError, match=r"not what it should be \(sha256 .*removed"):
        fetch(server)
    assert left_over() == []


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "no longer at its place"), (401, "not give lines to everybody"), (503, "answered 503 .*try again later")],
)
def test_refusals_of_the_server(server: Server, status: int, message: str) -> None:
    server.status = status
    with pytest.raises(DownloadError, match=message):
        fetch(server)
    assert left_over() == []


def test_without_a_network_the_error_is_quick_and_one_sentence() -> None:
    for address in ("http://127.0.0.1:9", "http://host.invalid", "http://192.0.2.1"):
        started = time.perf_counter()
        with pytest.raises(DownloadError, match="cannot be reached") as caught:
            download.fetch(SET, progress=False, mirror=address)
        assert time.perf_counter() - started < 1.5
        assert "\n" not in str(caught.value)
    assert left_over() == []


def test_a_name_server_that_never_answers_does_not_keep_us(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        time.sleep(5)
        raise TimeoutError

    monkeypatch.setattr(download.socket, "create_connection", never)
    started = time.perf_counter()
    with pytest.raises(DownloadError, match=r"cannot be reached \(no answer within 0\.3 s"):
        download.fetch(SET, progress=False, mirror="http://slow.example", patience=0.3)
    assert time.perf_counter() - started < 2


def test_a_mirror_that_is_no_address() -> None:
    with pytest.raises(DownloadError):
        download.fetch(SET, progress=False, mirror="nonsense")


def test_offline_is_honoured(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE forbids"):
        fetch(server)
    assert server.asked == []
    SET.path.parent.mkdir(parents=True)
    SET.path.write_bytes(CONTENT)
    assert fetch(server).already_here


class FullDisk:
    """A file whose disk is full after some bytes."""

    def __init__(self, file: IO[bytes], room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> "FullDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def seek(self, position: int) -> int:
        return self.file.seek(position)

    def write(self, data: bytes) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)


def test_a_full_disk_keeps_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    true_open = Path.open

    def full_open(self: Path, mode: str = "r", **rest: Any) -> Any:
        file = true_open(self, mode, **rest)
        return FullDisk(file, room=200_000) if self.name.endswith(".part") and "b" in mode and mode != "rb" else file

    monkeypatch.setattr(Path, "open", full_open)
    with pytest.raises(DownloadError, match="disk is full: lines needs more space"):
        fetch(server)
    assert left_over() == []


def test_too_little_space_is_known_before(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match="disk is full"):
        fetch(server)
    assert left_over() == []


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="cannot be written"):
        download.fetch(SET, tmp_path / "file" / "x.txt", progress=False, mirror=server.address)


def test_only_the_beginning_cut_at_a_separator(server: Server) -> None:
    stories = dataclasses.replace(SET, sha256=None, size=None, first_bytes=100_007, separator="\n")
    result = fetch(server, stories)
    assert server.asked == [("/main/lines.txt", "bytes=0-100006")]
    kept = result.path.read_bytes()
    assert CONTENT.startswith(kept)
    assert kept.endswith(b"\n")
    assert 99_980 < len(kept) <= 100_007
    assert not result.checked


@pytest.mark.parametrize("ranges", [True, False])
def test_the_beginning_is_resumed_too(server: Server, ranges: bool) -> None:
    server.ranges = ranges
    stories = dataclasses.replace(SET, sha256=None, size=None, first_bytes=100_000, separator="\n")
    server.stop_after = 60_000
    with pytest.raises(DownloadError):
        fetch(server, stories)
    server.stop_after = None
    assert fetch(server, stories).path.read_bytes() == CONTENT[: CONTENT.rindex(b"\n", 0, 100_000) + 1]


def test_a_set_shorter_than_its_beginning(server: Server) -> None:
    stories = dataclasses.replace(SET, sha256=None, size=None, first_bytes=10**7, separator="never")
    assert fetch(server, stories).path.read_bytes() == CONTENT


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = download.find("tinystories-valid")
    assert download.address(hub).startswith("https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1/")
    assert download.address(hub).startswith("http://127.0.0.1:1/datasets/roneneldan/")
    monkeypatch.setenv("MINILM_MIRROR", "http://school.example")
    assert download.address(SET) == "http://school.example/main/lines.txt"


def test_names_and_places(tmp_path: Path) -> None:
    sets = {data_set.name: data_set for data_set in download.list_sets()}
    assert {"tinyshakespeare", "tinystories", "claire-french"} <= set(sets)
    shakespeare = sets["tinyshakespeare"]
    assert shakespeare.size == 1_115_394
    assert shakespeare.status == "checked by sha256"
    assert sets["claire-french"].status == "unpinned, not checked offline"
    assert "NC" in sets["claire-french"].licence
    with pytest.raises(download.UnknownDataError, match=r"'tinyshakspeare'.*Did you mean 'tinyshakespeare'"):
        download.get("tinyshakspeare")
    with pytest.raises(DownloadError, match="`minilm data get tinyshakespeare`"):
        download.where("tinyshakespeare")
    shakespeare.path.parent.mkdir(parents=True)
    shakespeare.path.write_text("To be")
    assert (
        download.where("tinyshakespeare")
        == shakespeare.path
        == tmp_path / "home/data/tinyshakespeare/tinyshakespeare.txt"
    )


def test_the_known_hash_is_that_of_the_text() -> None:
    text = real_text("tinyshakespeare.txt")
    if not text.exists():
        pytest.skip("tinyshakespeare.txt isn't in MINILM_TEST_DATA")
    shakespeare = download.find("tinyshakespeare")
    assert download.sha256(text) == shakespeare.sha256
    assert text.stat().st_size == shakespeare.size


def test_progress_is_shown_when_asked(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    download.fetch(SET, progress=True, mirror=server.address)
    shown = capsys.readouterr()
    assert "lines" in shown.err + shown.out
