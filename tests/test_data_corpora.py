"""Reading text: what a word names, damage, limits, and refusals that say why."""

import re
import sys
import warnings
from pathlib import Path

import pytest

from minilm.data import corpora, download, stories

LINE = "The quick brown fox jumps over the lazy dog, and so on and so forth.\n"


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINILM_HOME", str(tmp_path_factory.mktemp("home")))


def text_of(spec: str | Path, max_bytes: int | None = None) -> str:
    return "".join(corpora.read(spec, max_bytes))


def test_a_file_in_pieces_joins_to_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"ligne {i} : été, naïf, 日本, 🙂\n" for i in range(2000))
    path = tmp_path / "my.txt"
    path.write_text(text, encoding="utf-8", newline="\n")
    monkeypatch.setattr(corpora, "BLOCK", 1000)
    pieces = list(corpora.read(path))
    assert len(pieces) > 20
    assert all(piece.endswith("\n") for piece in pieces)
    assert "".join(pieces) == text


def test_marks_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbf" + LINE.encode().replace(b"\n", b"\r\n") * 2)
    assert text_of(path) == LINE * 2


def test_damage_is_replaced_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "damaged.txt"
    path.write_bytes(LINE.encode() * 5 + b"caf\xe9 and \xff and an honest \xef\xbf\xbd\n" + LINE.encode())
    with pytest.warns(corpora.CorpusWarning, match=r"damaged.txt'?: 2 sequences of bytes"):
        text = text_of(path)
    assert text.count("\ufffd") == 3
    assert text.endswith("\n" + LINE)
    path.write_text(LINE * 2, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text_of(path)


@pytest.mark.parametrize("limit", range(60, 75))
def test_max_bytes_never_cuts_a_character(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "my.txt"
    text = "é日🙂" * 40
    path.write_text(text, encoding="utf-8")
    cut = text_of(path, limit)
    assert text.startswith(cut)
    assert limit - 4 < len(cut.encode()) <= limit
    assert "\ufffd" not in cut


def test_max_bytes_across_texts() -> None:
    whole = "".join(corpora.read("stories:easy:10"))
    assert text_of("stories:easy:10", 500) == whole[:500]
    assert text_of("stories:easy:10", 10**9) == whole
    assert corpora.truncate("été", 4) == "ét"
    with pytest.raises(corpora.CorpusError, match="at least 1, not 0"):
        corpora.read("stories:easy:10", 0)


def test_a_class_is_heard_and_nobody_says_who_is_right() -> None:
    said = list(corpora.read("class:2:3000:70"))
    assert said == list(corpora.read("class:2:3000:70:train"))
    assert len(said) == 3000
    carries = right = 0
    for found in map(_sum, said):
        a, b, answer = map(int, found.groups())
        column_by_column = (a % 10 + b % 10) % 10 + (a // 10 + b // 10) % 10 * 10
        assert answer in (a + b, column_by_column)
        carries += a + b != column_by_column
        right += answer == a + b != column_by_column
    assert right / carries == pytest.approx(0.3, abs=0.04)
    assert all(int(found[1]) + int(found[2]) == int(found[3]) for found in map(_sum, corpora.read("class:2:60:0")))
    unordered = [
        {frozenset(text.split("=")[0].split("+")) for text in corpora.read(f"class:2:{number}:70:{split}")}
        for number, split in ((9000, "train"), (900, "validation"), (900, "test"))
    ]
    assert len(set.union(*unordered)) == sum(map(len, unordered))


def _sum(text: str) -> re.Match[str]:
    found = re.fullmatch(r"(\d+)\+(\d+)=(\d+)", text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("class", "should be class:DIGITS:NUMBER:PERCENT"),
        ("class:2:36000", "should be class:DIGITS:NUMBER:PERCENT"),
        ("class:two:36000:70", "should be class:DIGITS:NUMBER:PERCENT"),
        ("class:2:36000:70:dev", "there is no split 'dev'"),
        ("class:2:36000:170", "0 to 100 of a hundred"),
        ("class:2:60000:70", "ask for fewer answers, or more digits"),
        ("class:2:3600000:70", "there are 10,000 sums of 2 digits"),
    ],
)
def test_a_class_that_is_not_there_is_named(spec: str, message: str) -> None:
    with pytest.raises(corpora.CorpusError, match=message):
        corpora.read(spec)


def test_a_folder_is_read_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.md", "a/y.py", ".hidden.txt", ".git/x.txt", "picture.png", "c.TXT", "empty.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("" if name == "empty.txt" else f"This is {name}.\n", encoding="utf-8")
    (tmp_path / "binary.txt").write_bytes(b"a\0b" * 100)
    with pytest.warns(corpora.CorpusWarning, match=r"binary.txt' is binary"):
        texts = list(corpora.read(tmp_path))
    assert texts == ["This is b.txt.\n", "This is c.TXT.\n", "This is a/y.py.\n", "This is a/z.md.\n"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"too small", "has only 9 bytes: name a text of at least 64"),
        (LINE.encode() + b"\0" * 20, "is binary .* not text"),
        (b"%PDF-1.7\n" + LINE.encode(), "is a PDF"),
        ("\ufeff".encode("utf-16-le") + LINE.encode("utf-16-le"), "is UTF-16 text: save it as UTF-8"),
        ("déjà vu à l'été, où ça gêne ".encode("latin-1") * 5, "is not UTF-8 text .*Latin-1"),
        (b" \n" * 100, "holds nothing but spaces"),
    ],
)
def test_refused_files_say_why(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "my.txt"
    path.write_bytes(content)
    with pytest.raises(corpora.CorpusError, match=f"my.txt' {reason}"):
        corpora.read(path)


def test_refused_folders_say_why(tmp_path: Path) -> None:
    with pytest.raises(corpora.CorpusError, match="no file with a suffix of text"):
        corpora.read(tmp_path)
    (tmp_path / "x.txt").write_bytes(b"\0" * 100)
    with (
        pytest.warns(corpora.CorpusWarning),
        pytest.raises(corpora.CorpusError, match="none of its text files can be used"),
    ):
        corpora.read(tmp_path)


def test_stories_by_name() -> None:
    assert list(corpora.read("stories:easy:5")) == stories.generate("easy", 5)
    assert list(corpora.read("stories:french:3:test")) == stories.generate("french", 3, split="test")
    assert list(corpora.read("stories:medium:4:all")) == stories.generate("medium", 4, split=None)
    lazy = corpora.read("stories:hard:1000000000")
    assert next(lazy) == stories.generate("hard", 1)[0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("stories:meduim:5", "Did you mean 'medium'"),
        ("stories:medium:many", "should be stories:SIZE:NUMBER"),
        ("stories:medium:0", "should be stories:SIZE:NUMBER"),
        ("stories:medium:5:dev", "no split 'dev'"),
        ("stories:medium:5:test:1", "should be stories:SIZE:NUMBER"),
        ("python-doc", "Did you mean 'python-docs'"),
        ("tinyshakespear", "Did you mean 'tinyshakespeare'"),
        ("something else", "Names are python-docs"),
    ],
)
def test_wrong_words_are_named(spec: str, message: str) -> None:
    with pytest.raises(corpora.CorpusError, match=message) as caught:
        corpora.read(spec)
    assert spec in str(caught.value)


def test_a_misspelt_path_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(LINE)
    with pytest.raises(corpora.UnknownTextError, match=r"Did you mean .*notes\.txt"):
        corpora.read(tmp_path / "note.txt")


def test_a_set_is_read_once_it_is_here() -> None:
    with pytest.raises(download.DownloadError, match="minilm data get tinyshakespeare"):
        corpora.read("tinyshakespeare")
    path = download.find("tinyshakespeare").path
    path.parent.mkdir(parents=True)
    path.write_text(LINE * 3)
    assert text_of("tinyshakespeare") == LINE * 3


def test_python_brings_its_own_text() -> None:
    docs = corpora.python_docs()
    assert len(docs) > 300_000
    assert 'The "for" statement' in docs
    assert text_of("python-docs", 1000) == docs[:1000]
    source = corpora.python_source(200_000)
    assert len(source.encode()) == 200_000
    assert "def " in source
    docstrings = next(corpora.read("python-docstrings"))
    assert len(docstrings) > 20
    assert "def " not in docstrings.split("\n")[0]
    assert not re.search(r"site-packages|/tests?/", "".join(str(p) for p in list(corpora._library())[:3000]))


def test_python_without_its_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(corpora.CorpusError, match="without its documentation"):
        corpora.python_docs()


def test_every_name_is_a_word() -> None:
    assert {"python-docs", "python-docstrings", "python-source", "tinyshakespeare"} <= set(corpora.names())
