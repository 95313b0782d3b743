"""The learner's own answers: kept when they pass, alone in a file that runs, and imported with `from my import name`."""

import linecache
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from minilm.course import check, my
from minilm.course.exercise import Exercise
from minilm.course.source import CannotSave, module_text
from tests.course_samples import Codec, causal_mask, countdown, samples

__all__ = ["samples"]


class Notebook:
    """Cells that run in one namespace and are found again by line, as in a kernel."""

    def __init__(self) -> None:
        self.module = ModuleType("__main__")
        self.space = vars(self.module)
        self.names: list[str] = []

    def run(self, cell: str) -> Any:
        cell = textwrap.dedent(cell)
        name = f"/tmp/ipykernel_test/{id(self)}_{len(self.names)}.py"
        linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        self.names.append(name)
        exec(compile(cell, name, "exec"), self.space)

    def __getitem__(self, name: str) -> Any:
        return self.space[name]


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    made = Notebook()
    monkeypatch.setitem(sys.modules, "__main__", made.module)
    yield made
    for name in made.names:
        linecache.cache.pop(name, None)


@pytest.fixture(autouse=True)
def fresh_my() -> Iterator[None]:
    my.install()
    my._loaded.clear()
    for name in [name for name in sys.modules if name == "my" or name.startswith("my.")]:
        del sys.modules[name]
    yield
    for name in [name for name in sys.modules if name == "my" or name.startswith("my.")]:
        del sys.modules[name]


def alone(text: str, name: str, tmp_path: Path) -> Any:
    """The module's object, from another Python that has never seen the notebook."""
    path = tmp_path / "alone.py"
    path.write_text(text)
    space: dict[str, Any] = {"__name__": "alone"}
    exec(compile(text, str(path), "exec"), space)
    return space[name]


def test_a_passing_answer_is_kept_with_all_that_it_uses(samples: dict[str, Exercise], notebook: Notebook) -> None:
    notebook.run("import torch\nimport torch.nn.functional as F\nfrom torch import arange as count, Tensor")
    notebook.run("SHIFT = 0\nUNUSED = open")
    notebook.run("def at_most(a, b):\n    return a <= b")
    notebook.run("""
        def mask_of_mine(n: int) -> Tensor:
            '''Mine.'''
            where = count(n) + SHIFT
            return at_most(where[None, :], where[:, None]).to(torch.bool)
    """)
    result = check("97.1", notebook["mask_of_mine"])
    assert "`from my import causal_mask` now gives it" in str(result)
    text = (my.folder() / "causal_mask.py").read_text()
    assert text == textwrap.dedent('''\
        """causal_mask: your answer to exercise 97.1, The mask that hides the future."""

        import torch
        from torch import Tensor
        from torch import arange as count


        SHIFT = 0


        def at_most(a, b):
            return a <= b


        def mask_of_mine(n: int) -> Tensor:
            \'\'\'Mine.\'\'\'
            where = count(n) + SHIFT
            return at_most(where[None, :], where[:, None]).to(torch.bool)


        causal_mask = mask_of_mine
    ''')
    from my import causal_mask as kept  # type: ignore[import-not-found]

    assert kept(5).equal(causal_mask(5))
    assert kept is not notebook["mask_of_mine"]


@pytest.mark.parametrize(
    ("cells", "call", "expected"),
    [
        (["import math", "def f(x):\n    return math.floor(x)"], "f(2.5)", 2),
        (["from math import inf", "def f(x):\n    return x < inf"], "f(1)", True),
        (
            ["import re\nWORD = re.compile(r'\\w+', re.I)", "def f(x):\n    return WORD.findall(x)"],
            "f('a b')",
            ["a", "b"],
        ),
        (["import regex\nP = regex.compile(r'\\p{L}+')", "def f(x):\n    return P.findall(x)"], "f('é1')", ["é"]),
        (["LIMIT = float('inf')", "def f(x, top=LIMIT):\n    return x < top"], "f(1)", True),
        (["Ids = list[int]", "def f(x: Ids) -> Ids:\n    return x"], "f([1])", [1]),
        (["import torch\nKIND = torch.int64", "def f(x):\n    return torch.tensor(x, dtype=KIND).item()"], "f(2)", 2),
        (["TABLE = {'a': 1, 'b': [2, (3, b'x')]}", "def f(x):\n    return TABLE[x]"], "f('b')", [2, (3, b"x")]),
        (["def g(x):\n    return f(x - 1) if x else 0", "def f(x):\n    return g(x) if x else 7"], "f(3)", 7),
        (["f = lambda x: x + 1"], "f(1)", 2),
        (["add = lambda x: x + 1", "def f(x):\n    return add(x)"], "f(1)", 2),
        (["def g(x):\n    return x", "h = g", "def f(x):\n    return h(x)"], "f(4)", 4),
        (
            ["import functools", "@functools.lru_cache\ndef f(x):\n    return x if x < 2 else f(x - 1) + f(x - 2)"],
            "f(9)",
            34,
        ),
        (["from dataclasses import dataclass", "@dataclass\nclass f:\n    x: int = 1\n    y: int = 2"], "f(3).x", 3),
        (
            ["class Base:\n    k = 2\n    def double(self, x):\n        return self.k * x", "class f(Base):\n    pass"],
            "f().double(4)",
            8,
        ),
        (
            [
                "class f:\n    class Inner:\n        pass\n    def __init__(self, x):\n        super().__init__()\n        self.x = x\n"
                "    @classmethod\n    def make(cls):\n        return cls(5)\n    @property\n    def twice(self):\n        return 2 * self.x"
            ],
            "f.make().twice",
            10,
        ),
        (["import os.path", "def f(x):\n    return os.path.basename(x)"], "f('a/b')", "b"),
        (["import xml.dom", "import xml.sax", "def f(x):\n    return xml.sax.__name__"], "f(1)", "xml.sax"),
        (
            ["from collections import Counter as C", "def f(x):\n    return [C(item) for item in x]"],
            "f(['a'])[0]['a']",
            1,
        ),
        (["x = object()", "def f(x):\n    return [x for x in x]"], "f([1])", [1]),
        (["def f(x):\n    def inner(y):\n        return x + y\n    return inner(1)"], "f(1)", 2),
        (["from __future__ import annotations\ndef f(x: Unknown) -> Nothing:\n    return x"], "f(1)", 1),
        (["%s", "def f(x):\n    return x"], "f(1)", 1),
        (["def f(x):\n    return 1", "def f(x):\n    return 2"], "f(1)", 2),
    ],
)
def test_what_an_answer_uses_goes_with_it(
    cells: list[str], call: str, expected: Any, notebook: Notebook, tmp_path: Path
) -> None:
    for cell in cells:
        if cell != "%s":  # a cell that is not Python, such as a shell line
            notebook.run(cell)
        else:
            linecache.cache["/tmp/ipykernel_test/odd.py"] = (2, None, ["!ls\n"], "odd")
            notebook.names.append("/tmp/ipykernel_test/odd.py")
    f = alone(module_text(notebook["f"])[0], "f", tmp_path)
    assert eval(call, {"f": f}) == expected


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (
            ["import torch\nweights = torch.ones(3)", "def f(x):\n    return weights"],
            "`weights`, a tensor of this notebook",
        ),
        (["table = open", "big = list(range(10**5))", "def f(x):\n    return big"], "`big`, a list of this notebook"),
        (["def make(k):\n    def f(x):\n        return k\n    return f", "f = make(1)"], "inside another function"),
        (["f = [lambda x: x][0]"], "Write it with `def`"),
        (["model = [object()]", "class f:\n    def go(self):\n        return model"], "`model`, a list"),
    ],
)
def test_what_cannot_go_along_is_named(cells: list[str], words: str, notebook: Notebook) -> None:
    for cell in cells:
        notebook.run(cell)
    with pytest.raises(CannotSave, match=words):
        module_text(notebook["f"])


def test_a_passing_answer_that_cannot_be_kept_still_passes(samples: dict[str, Exercise], notebook: Notebook) -> None:
    notebook.run("import torch\nbig = torch.tril(torch.ones(16, 16)).bool()\ndef f(n):\n    return big[:n, :n]")
    result = check("97.1", notebook["f"])
    assert result.passed
    assert "It could not be kept for `from my import causal_mask`: it uses `big`, a tensor of this notebook." in str(
        result
    )
    assert not (my.folder() / "causal_mask.py").exists()


def test_an_answer_that_changes_when_alone_is_not_kept(samples: dict[str, Exercise], notebook: Notebook) -> None:
    notebook.run("from tests.course_samples import causal_mask\nimport sys")
    notebook.run("def f(n):\n    assert __name__ == '__main__'\n    return causal_mask(n)")
    result = check("97.1", notebook["f"])
    assert result.passed
    assert "does not give the same" in str(result)


def test_submodules_that_the_notebook_imported_are_imported_again(notebook: Notebook) -> None:
    notebook.run("import xml.dom\nimport xml.sax")
    notebook.run("def f():\n    return xml.dom, xml.sax")
    assert module_text(notebook["f"])[0].startswith("import xml.dom\nimport xml.sax\n")


def test_a_library_function_is_imported(tmp_path: Path) -> None:
    import os.path

    assert module_text(os.path.basename)[0].strip() == "from posixpath import basename"


def test_an_answer_shown_in_a_lesson_replaces_none_of_the_learners(
    samples: dict[str, Exercise], notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("notebooks", "exercises", "solutions"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    for whose in ("mine", "shown"):
        notebook.run(f"def my_sort(items):\n    return sorted(items)  # {whose}")
        assert check("97.4", notebook["my_sort"]).passed
    assert "# mine" in (my.folder() / "my_sort.py").read_text()


def test_an_earlier_answer_that_differs_is_kept(samples: dict[str, Exercise], notebook: Notebook) -> None:
    for n, cell in enumerate(["return sorted(items)", "return sorted(items)  # again", "return sorted(items)"]):
        notebook.run(f"def my_sort(items):\n    {cell}")
        assert check("97.4", notebook["my_sort"]).passed
        assert check("97.4", notebook["my_sort"]).passed
        earlier = sorted((my.folder() / "earlier").glob("*")) if n else []
        assert [path.name for path in earlier] == [f"my_sort_{i + 1}.py" for i in range(n)]
    assert "# again" in (my.folder() / "earlier" / "my_sort_2.py").read_text()


def test_classes_and_generators_are_kept(samples: dict[str, Exercise]) -> None:
    assert "now gives it" in str(check("97.3", Codec))
    assert "now gives it" in str(check("97.5", countdown))
    from my import Codec as Kept
    from my import countdown as kept

    assert Kept(1).encode("a") == [98]
    assert list(kept(2)) == [2, 1]
    assert sys.modules[Kept.__module__].Codec is Kept


def test_a_newer_answer_is_imported_without_a_restart(samples: dict[str, Exercise], notebook: Notebook) -> None:
    notebook.run("def my_sort(items):\n    return sorted(items)")
    check("97.4", notebook["my_sort"])
    import my as mine

    first = mine.my_sort
    assert mine.my_sort is first
    notebook.run("def my_sort(items):\n    '''Better.'''\n    return sorted(items)")
    check("97.4", notebook["my_sort"])
    assert mine.my_sort.__doc__ == "Better."
    assert dir(mine) == ["my_sort"]
    assert not hasattr(mine, "_repr_html_")


def test_what_is_not_passed_yet_is_said(samples: dict[str, Exercise]) -> None:
    with pytest.raises(ImportError, match=r"you have not passed 97\.4 \(A sort of your own\) yet: do it in work/$"):
        from my import my_sort  # noqa: F401
    with pytest.raises(ImportError, match="no exercise gives nothing_like_it; your answers so far: none yet"):
        from my import nothing_like_it  # noqa: F401
    with pytest.raises(ImportError, match=r"work/01_tokenizer/, or use: from minilm\.tokenizer import count_pairs$"):
        from my import count_pairs  # noqa: F401


def test_a_lesson_can_ask_with_a_substitute(samples: dict[str, Exercise]) -> None:
    assert my.get("causal_mask", otherwise=causal_mask) is causal_mask
    with pytest.raises(ImportError):
        my.get("causal_mask")
    check("97.5", countdown)
    assert my.get("countdown", otherwise=causal_mask) is not causal_mask


def test_a_file_that_does_not_run_says_so() -> None:
    my.folder().mkdir(parents=True)
    (my.folder() / "broken.py").write_text("1 / 0")
    with pytest.raises(ImportError, match=r"work/my/broken\.py does not run: division by zero"):
        from my import broken
    (my.folder() / "broken.py").write_text("other = 1")
    with pytest.raises(ImportError, match=r"work/my/broken\.py does not define broken"):
        from my import broken  # noqa: F401


def test_a_users_own_package_stays_what_it_is(tmp_path: Path) -> None:
    """In a process of its own: before and after `import minilm.course`, and beside a mere folder named my."""
    package = tmp_path / "project" / "my"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("thing = 'theirs'")
    script = "import minilm.course\nfrom my import thing\nprint(thing)"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=package.parent, env=_environment(tmp_path), capture_output=True, text=True
    )
    assert run.stdout == "theirs\n", run.stderr
    (tmp_path / "work" / "my").mkdir(parents=True)
    (tmp_path / "work" / "my" / "thing.py").write_text("thing = 'the answer'")
    for _ in ("a folder", "a package"):
        run = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path / "work",
            env=_environment(tmp_path),
            capture_output=True,
            text=True,
        )
        assert run.stdout == "the answer\n", run.stderr
        (tmp_path / "work" / "my" / "__init__.py").touch()


def _environment(tmp_path: Path) -> dict[str, str]:
    import os

    root = Path(__file__).parent.parent
    return os.environ | {"MINILM_WORK": str(tmp_path / "work"), "PYTHONPATH": str(root)}


def test_the_course_does_not_import_torch(tmp_path: Path) -> None:
    script = "import sys, minilm.course\nprint([name for name in ('torch', 'numpy', 'matplotlib', 'ipywidgets', 'IPython') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], env=_environment(tmp_path), capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stderr


def test_a_folder_that_cannot_be_written_is_said(samples: dict[str, Exercise], tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file where the folder should be")
    result = check("97.5", countdown)
    assert result.passed
    assert "the folder `work/my` can't be written" in str(result)
