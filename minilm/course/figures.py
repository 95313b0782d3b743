"""Figures for lessons: colours that colour-blind readers can tell apart, one quiet style, and `show`, which gives every picture its alt text."""

import base64
import io
import sys
from typing import TYPE_CHECKING

from minilm.course.results import publish

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The palette of Okabe and Ito (https://jfly.uni-koeln.de/color/, 2008), told apart with every common kind of colour
# vision. Yellow is last, since it is faint on white: use it for areas, not for lines or text.
COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermillion": "#D55E00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "black": "#000000",
    "yellow": "#F0E442",
}

# Colour maps that stay readable in grey and for colour-blind readers.
SEQUENTIAL = "cividis"
DIVERGING = "PuOr"


def use_style() -> None:
    """Set matplotlib's defaults for a lesson: the palette, no box around the plot, a light grid, letters that can be read."""
    import matplotlib as mpl

    mpl.rcParams.update(
        {
            "axes.prop_cycle": mpl.rcsetup.cycler(color=list(COLORS.values())),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "figure.figsize": (7.0, 3.2),
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "grid.color": "#DDDDDD",
            "grid.linewidth": 0.6,
            "image.cmap": SEQUENTIAL,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
        }
    )


def show(figure: "Figure", alt: str, dpi: int = 110) -> None:
    """Display a matplotlib figure once, as a PNG with `alt` as its alternative text, and close it.

    In a notebook the picture carries the text in its metadata (where JupyterLab and nbconvert look for it) and as
    text/plain; outside of one the text is printed. Closing keeps the inline backend from showing the figure again at
    the end of the cell.

    Raises ValueError if `alt` is empty: say in a sentence what the picture shows to someone who can't see it.
    """
    alt = " ".join(alt.split())
    if not alt:
        raise ValueError('show(figure, alt="...") needs a sentence that says what the picture shows')
    if in_notebook():
        picture = base64.b64encode(png(figure, dpi)).decode("ascii")
        publish({"image/png": picture, "text/plain": alt}, metadata={"image/png": {"alt": alt}})
    else:
        print(alt)
    close(figure)


def png(figure: "Figure", dpi: int = 110) -> bytes:
    """The figure as the bytes of a PNG file, the same for the same figure and matplotlib."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def close(figure: "Figure") -> None:
    """Forget the figure, if pyplot holds it."""
    if "matplotlib.pyplot" in sys.modules:
        from matplotlib import pyplot

        pyplot.close(figure)


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel (or another IPython that displays pictures)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
