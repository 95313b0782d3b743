"""The course in a real kernel: what a cell shows, what is kept, and that nothing is shown twice."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parent.parent


class Kernel:
    """A kernel that runs one cell after the other."""

    def __init__(self, folder: Path) -> None:
        self.client = NotebookClient(
            new_notebook(),
            timeout=60,
            kernel_name="python3",
            allow_errors=True,
            resources={"metadata": {"path": str(folder)}},
        )

    def run(self, source: str) -> list[NotebookNode]:
        cell = new_code_cell(source)
        self.client.nb.cells.append(cell)
        self.client.execute_cell(cell, len(self.client.nb.cells) - 1, store_history=False)
        return [output for output in cell.outputs if output.output_type != "clear_output"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    state = tmp_path_factory.mktemp("kernel")
    path = os.pathsep.join([str(ROOT), *sys.path[1:]])
    own = {"MINILM_HOME": f"{state}/home", "MINILM_WORK": f"{state}/work", "PYTHONPATH": path}
    before = {name: os.environ.get(name) for name in own}
    os.environ |= own
    made = Kernel(state)
    with made.client.setup_kernel():
        setup = "from minilm.course import *\nimport tests.course_samples as samples\n_ = samples.make_samples()"
        assert made.run(setup) == []
        yield made
    for name, value in before.items():
        if value is None:
            os.environ.pop(name)
        else:
            os.environ[name] = value


def only(outputs: list[NotebookNode]) -> Any:
    assert len(outputs) == 1, outputs
    assert outputs[0].output_type == "display_data", outputs
    return outputs[0].data


def test_a_stub_then_a_mistake_then_the_answer(kernel: Kernel) -> None:
    kernel.run("import torch\ndef causal_mask(n):\n    raise NotImplementedError")
    assert "not started" in only(kernel.run('check("97.1", causal_mask)'))["text/plain"]
    kernel.run("def causal_mask(n):\n    return torch.ones(n, n, dtype=torch.bool)")
    shown = only(kernel.run('check("97.1", causal_mask)'))
    assert "Your mask hides nothing." in shown["text/plain"]
    assert "<p>Your mask hides nothing.</p>" in shown["text/html"]
    kernel.run("def causal_mask(n):\n    return torch.ones(n, n, dtype=torch.bool).tril()")
    shown = only(kernel.run('check("97.1", causal_mask)'))
    assert "`from my import causal_mask` now gives it" in shown["text/plain"]
    outputs = kernel.run("from my import causal_mask as mine\nprint(mine(2).tolist(), mine is causal_mask)")
    assert outputs[0].text == "[[True, False], [True, True]] False\n"
    assert "✓ 97.1" in only(kernel.run('progress("97")'))["text/plain"]


def test_a_class_of_the_notebook_is_kept(kernel: Kernel) -> None:
    kernel.run("from dataclasses import dataclass")
    kernel.run("%time pass\ndef shifted(text, by):\n    return [ord(c) + by for c in text]")
    kernel.run(
        "@dataclass\nclass Codec:\n    shift: int\n    def encode(self, text): return shifted(text, self.shift)\n"
        "    def decode(self, ids): return ''.join(chr(i - self.shift) for i in ids)"
    )
    assert "now gives it" in only(kernel.run('check("97.3", Codec)'))["text/plain"]
    assert kernel.run("from my import Codec as C\nprint(C(1).encode('a'))")[0].text == "[98]\n"


def test_an_endless_loop_ends_and_the_kernel_lives(kernel: Kernel) -> None:
    kernel.run("object.__setattr__(samples.registry.find('97.2'), 'seconds', 0.3)")
    kernel.run(
        "def merge(ids, pair, new):\n    while True:\n        try:\n            pass\n        except:\n            pass"
    )
    assert "Is there a loop" in only(kernel.run('check("97.2", merge)'))["text/plain"]
    assert kernel.run("print(1)")[0].text == "1\n"


def test_an_error_names_the_learners_line(kernel: Kernel) -> None:
    kernel.run("def merge(ids, pair, new):\n    return ids[len(ids)]")
    shown = only(kernel.run('check("97.2", merge)'))
    assert "at your line `return ids[len(ids)]` with IndexError" in shown["text/plain"]


def test_an_error_where_a_cell_has_no_check_as_its_last_line(kernel: Kernel) -> None:
    assert kernel.run('check("97.1", None)\n_ = 1') == []
    assert len(kernel.run('display(check("97.1", None))')) == 1


def test_a_figure_appears_once_with_its_alt_text(kernel: Kernel) -> None:
    kernel.run("from matplotlib import pyplot as plt")
    outputs = kernel.run("figure, axes = plt.subplots()\naxes.plot([1, 2])\nshow(figure, alt='A line that rises')")
    shown = only(outputs)
    assert shown["text/plain"] == "A line that rises"
    assert set(shown) == {"image/png", "text/plain"}
    assert outputs[0].metadata == {"image/png": {"alt": "A line that rises"}}


def test_hints_are_folded(kernel: Kernel) -> None:
    assert only(kernel.run('hint("97.1")'))["text/html"].count("<details>") == 3
