"""`show`: one picture, with its alt text, in a notebook; the text alone elsewhere."""

import base64
from itertools import combinations
from typing import Any

import matplotlib
import pytest

matplotlib.use("agg")

from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from minilm.course import figures, show


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """What is sent to the notebook, in place of one."""
    sent: list[tuple[dict[str, str], dict[str, Any]]] = []
    monkeypatch.setattr(figures, "in_notebook", lambda: True)
    monkeypatch.setattr(figures, "publish", lambda data, metadata: sent.append((data, metadata)))
    return sent


def drawing() -> Any:
    figure, axes = plt.subplots()
    axes.plot([1, 2, 4])
    return figure


def test_a_figure_is_sent_once_with_its_alt_text_and_closed(outputs: list[Any]) -> None:
    figure = drawing()
    show(figure, alt="  A line that\n   rises  ")
    [(data, metadata)] = outputs
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == "A line that rises"
    assert metadata == {"image/png": {"alt": "A line that rises"}}
    assert figure.number not in plt.get_fignums()


@pytest.mark.parametrize("alt", ["", "  \n "])
def test_an_empty_alt_is_refused(alt: str, outputs: list[Any]) -> None:
    figure = drawing()
    with pytest.raises(ValueError, match="needs a sentence"):
        show(figure, alt=alt)
    assert outputs == []
    plt.close(figure)


def test_in_a_terminal_the_text_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show(drawing(), alt="A line that rises")
    assert capsys.readouterr().out == "A line that rises\n"
    assert plt.get_fignums() == []


def test_a_figure_without_pyplot_is_fine(outputs: list[Any]) -> None:
    from matplotlib.figure import Figure

    show(Figure(), alt="Nothing")
    assert len(outputs) == 1


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert figures.png(drawing()) == figures.png(drawing())
    plt.close("all")


def test_colours_stay_apart_for_colour_blind_readers() -> None:
    """Simulated protanopia and deuteranopia (Vienot, Brettel and Mollon 1999, linear RGB), distances in that space."""
    simulations = {
        "protanopia": [[0.1124, 0.8876, 0.0], [0.1124, 0.8876, 0.0], [0.0040, -0.0040, 1.0]],
        "deuteranopia": [[0.2928, 0.7072, 0.0], [0.2928, 0.7072, 0.0], [-0.0223, 0.0223, 1.0]],
    }
    for matrix in simulations.values():
        seen = []
        for color in figures.COLORS.values():
            linear = [channel**2.2 for channel in to_rgb(color)]
            seen.append([max(0.0, sum(m * c for m, c in zip(row, linear, strict=True))) ** (1 / 2.2) for row in matrix])
        for one, other in combinations(seen, 2):
            assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 > 0.08


def test_the_style_uses_the_palette() -> None:
    with plt.rc_context():
        figures.use_style()
        colors = [item["color"] for item in plt.rcParams["axes.prop_cycle"]]
        assert colors == list(figures.COLORS.values())
        assert not plt.rcParams["axes.spines.top"]
