"""What every widget is made of: one description of its state, drawn twice, as a live view and as a still picture.

A widget lives as HTML under ipywidgets controls where there is a kernel, and stays readable where there is none:
its output also carries a picture with alt text (GitHub, a printed page) and a line of stable text (a terminal, nbval).
Both are drawn from the same `Chip`s and `Bar`s. Whatever a user typed is text and never markup: it reaches HTML
through `html.escape` alone, and characters that cannot be seen, or that reorder the line, are spelled out.
"""

import base64
import html
import io
import textwrap
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import ipywidgets
from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from minilm.course.figures import COLORS

# Light tints of five Okabe-Ito colours, told apart by colour-blind readers; the ink on them is dark in every theme.
TINTS = ("#9fd0ee", "#f5cf8a", "#a3dcc6", "#e3bcd3", "#f4eda0")
PLAIN = "#e8e8e8"
INK = "#1a1a1a"
STRONG = COLORS[
    "vermillion"
]  # the frame of what the reader should look at; it is also thicker, so that colour is not all
BAR = COLORS["sky"]

VISIBLE = {" ": "·", "\n": "↵", "\t": "⇥"}
WIDEST_CHIPS = 400

STYLE = f"""<style>
.minilm {{ line-height: 1.4; max-width: 1100px; }}
.minilm .panels {{ display: flex; flex-wrap: wrap; gap: 14px; }}
.minilm .panel {{ flex: 1 1 270px; margin: 0; min-width: 0; border: 1px solid rgba(128,128,128,.55); border-radius: 6px; padding: 8px 10px; }}
.minilm .title {{ font-weight: 600; margin: 0; }}
.minilm .facts {{ margin: 0 0 6px 0; opacity: .85; }}
.minilm .chips {{ list-style: none; display: flex; flex-wrap: wrap; gap: 5px 3px; margin: 4px 0; padding: 0; }}
.minilm .chip {{ display: inline-flex; flex-direction: column; align-items: center; margin: 0; padding: 1px 3px; border-radius: 3px;
  color: {INK}; font-family: var(--jp-code-font-family, monospace); border: 1px solid rgba(0,0,0,.35); overflow-wrap: anywhere; white-space: pre-wrap; }}
.minilm .chip.strong {{ border: 3px solid {STRONG}; padding: 0 2px; font-weight: 700; }}
.minilm .chip small {{ font-size: 72%; line-height: 1.15; font-weight: 400; }}
.minilm table {{ border-collapse: collapse; width: 100%; margin: 0; }}
.minilm th, .minilm td {{ text-align: left; padding: 1px 6px 1px 0; font-variant-numeric: tabular-nums; vertical-align: middle; }}
.minilm td .chips {{ margin: 0; }}
.minilm .bar {{ display: inline-block; height: .8em; background: {BAR}; border: 1px solid rgba(0,0,0,.35); box-sizing: border-box; }}
.minilm .trouble {{ border-left: 4px solid {STRONG}; padding-left: 8px; }}
.minilm .text {{ font-family: var(--jp-code-font-family, monospace); white-space: pre-wrap; overflow-wrap: anywhere; }}
</style>"""


@dataclass(frozen=True)
class Chip:
    """A small labelled box: a token, say. `label` and `below` are any text at all; `visible` makes them safe to show."""

    label: str
    below: str = ""
    colour: str = PLAIN
    strong: bool = False


@dataclass(frozen=True)
class Bar:
    """One row of a table with bars: what is counted, as chips, and how much of it there is (`share` of the longest)."""

    chips: tuple[Chip, ...]
    value: str
    share: float


def visible(text: str, spaces: bool = True) -> str:
    r"""Show `text` so that every character is seen: ' ' is '·', a newline '↵', and one without a shape its code point.

    In a running sentence plain spaces are better left alone: `spaces=False`.

    >>> visible('a b\n')
    'a·b↵'
    >>> visible('\u202e\x00')
    '‹202E›‹0›'
    """

    def show(c: str) -> str:
        if c == " " and not spaces:
            return c
        return VISIBLE.get(c) or (f"‹{ord(c):X}›" if unicodedata.category(c)[0] in "CZ" else c)

    return "".join(show(c) for c in text)


def show_bytes(data: bytes) -> str:
    """Show bytes as text where they are valid UTF-8, and as hexadecimal numbers where they are a part of a character."""
    try:
        return visible(data.decode("utf-8"))
    except UnicodeDecodeError:
        return f"‹{data.hex(' ').upper()}›"


def shorten(text: str, width: int = 60) -> str:
    """Cut `text` to `width` characters, with an ellipsis where something was cut."""
    return text if len(text) <= width else text[: width - 1] + "…"


def chips_to_html(chips: Sequence[Chip], label: str) -> str:
    """An HTML list of chips; `label` is what a screen reader announces. More than a few hundred are counted, not shown."""
    items = [
        f'<li class="chip{" strong" if chip.strong else ""}" style="background:{chip.colour}">'
        f"<bdi>{html.escape(chip.label)}</bdi>"
        + (f"<small>{html.escape(chip.below)}</small>" if chip.below else "")
        + "</li>"
        for chip in chips[:WIDEST_CHIPS]
    ]
    rest = f"<p class='facts'>… and {len(chips) - WIDEST_CHIPS:,} more</p>" if len(chips) > WIDEST_CHIPS else ""
    return f'<ol class="chips" aria-label="{html.escape(label)}">{"".join(items)}</ol>{rest}'


def bars_to_html(bars: Sequence[Bar], headings: tuple[str, str]) -> str:
    """An HTML table with a row for each bar."""
    rows = "".join(
        f"<tr><td>{chips_to_html(bar.chips, headings[0])}</td><td>{html.escape(bar.value)}</td>"
        f'<td style="width:45%"><span class="bar" style="width:{100 * bar.share:.1f}%"></span></td></tr>'
        for bar in bars
    )
    heads = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in headings)
    return f"<table><thead><tr>{heads}<td></td></tr></thead><tbody>{rows}</tbody></table>"


@cache
def _font() -> Any:
    """The monospaced font of the still pictures: matplotlib brings it along."""
    return ft2font.FT2Font(font_manager.findfont("DejaVu Sans Mono"))


def drawable(text: str) -> str:
    """`text` with every character that the pictures' font lacks spelled out as its code point."""
    return "".join(c if _font().get_char_index(ord(c)) else f"‹{ord(c):X}›" for c in text)


class Sheet:
    """A page of fixed width that is filled from the top with lines of text, chips and bars, and then becomes a figure.

    Widths are counted in characters of the monospaced font, so nothing needs measuring.
    """

    WIDTH = 108  # characters
    CHARACTER = 0.085  # inches, at 10 points
    LINE = 0.2

    def __init__(self) -> None:
        self.height = 0.1
        self.drawings: list[Callable[[Axes], None]] = []

    def text(self, text: str, bold: bool = False, size: float = 10, indent: float = 0) -> None:
        """Add a text, wrapped to the page."""
        width = int((self.WIDTH - indent) * 10 / size)
        for line in textwrap.wrap(drawable(text), width) or [""]:
            self.height += self.LINE * size / 10
            self._write(indent, self.height - 0.055, line, size, bold)

    def chips(self, chips: Sequence[Chip], indent: float = 0, most_lines: int = 6) -> None:
        """Add chips, flowing over lines; what does not fit on `most_lines` is counted and left out."""
        row = self.LINE * (1.85 if any(chip.below for chip in chips) else 1.2)
        column, lines = indent, 1
        self.height += row + 0.04
        for number, chip in enumerate(chips):
            label, below = drawable(shorten(chip.label)), drawable(shorten(chip.below))
            wide = max(len(label), 0.75 * len(below), 1) + 0.8
            if column + wide > self.WIDTH:
                if lines == most_lines:
                    self.text(f"… and {len(chips) - number:,} more", indent=indent)
                    return
                column, lines = indent, lines + 1
                self.height += row + 0.04
            self.drawings.append(partial(draw_chip, chip=chip, x=column, bottom=self.height, wide=wide, tall=row))
            column += wide + 0.45

    def bars(
        self,
        bars: Sequence[Bar],
        indent: float = 0,
        chips_wide: float = 30,
        bar_wide: float = 40,
        values_wide: float = 9,
    ) -> None:
        """Add a row for each bar: its chips, its value, the bar."""
        for bar in bars:
            self.chips(bar.chips, indent, most_lines=1)
            self._write(indent + chips_wide, self.height - 0.075, bar.value)
            wide = max(bar_wide * bar.share, 0.2)
            self.drawings.append(partial(draw_bar, x=indent + chips_wide + values_wide, bottom=self.height, wide=wide))

    def space(self, lines: float = 0.6) -> None:
        """Leave some lines free."""
        self.height += lines * self.LINE

    def figure(self) -> Figure:
        """The page as a figure, as tall as its contents."""
        width, height = (self.WIDTH + 2) * self.CHARACTER, self.height + 0.1
        figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
        figure.set_layout_engine("none")  # whatever style the notebook has set
        axes = figure.add_axes((0, 0, 1, 1), xlim=(-1, self.WIDTH + 1), ylim=(height, 0))
        axes.axis("off")
        for draw in self.drawings:
            draw(axes)
        return figure

    def _write(self, x: float, y: float, text: str, size: float = 10, bold: bool = False) -> None:
        weight = "bold" if bold else "normal"
        self.drawings.append(partial(write, x=x, y=y, text=text, size=size, weight=weight, ha="left"))


def write(axes: Axes, x: float, y: float, text: str, size: float, weight: str = "normal", ha: str = "center") -> None:
    """Draw one line of text, as it is: a dollar sign typed by the user is no formula."""
    axes.text(x, y, text, family="DejaVu Sans Mono", size=size, weight=weight, ha=ha, color=INK, parse_math=False)


def draw_chip(axes: Axes, chip: Chip, x: float, bottom: float, wide: float, tall: float) -> None:
    """Draw a chip's box with its label, and below it, where there is room for two lines, its small text."""
    box = FancyBboxPatch((x, bottom - tall), wide, tall, boxstyle="round,pad=0,rounding_size=0.04")
    box.set(
        facecolor=chip.colour, edgecolor=STRONG if chip.strong else "#808080", linewidth=2.2 if chip.strong else 0.6
    )
    axes.add_patch(box)
    two_lines = tall > 1.5 * Sheet.LINE
    baseline = bottom - tall + 0.17 if two_lines else bottom - 0.075
    write(axes, x + wide / 2, baseline, drawable(shorten(chip.label)), 10, "bold" if chip.strong else "normal")
    if two_lines:
        write(axes, x + wide / 2, bottom - 0.06, drawable(shorten(chip.below)), 7.2)


def draw_bar(axes: Axes, x: float, bottom: float, wide: float) -> None:
    """Draw a bar on the line that ends at `bottom`."""
    axes.add_patch(Rectangle((x, bottom - 0.19), wide, 0.13, facecolor=BAR, edgecolor="#808080", linewidth=0.8))


def step_slider(description: str, last: int, value: int = 0) -> tuple[ipywidgets.IntSlider, ipywidgets.HBox]:
    """A slider over the steps 0..last, and the row that shows it with a button one step back and one on."""
    slider = ipywidgets.IntSlider(
        value=value,
        min=0,
        max=last,
        description=description,
        layout=ipywidgets.Layout(width="100%", max_width="620px"),
    )

    def move(steps: int, _: object) -> None:
        slider.value += steps  # the slider keeps to its ends by itself

    buttons = []
    for word, steps in (("◀ Back", -1), ("Next ▶", 1)):
        button = ipywidgets.Button(description=word, layout=ipywidgets.Layout(width="90px"))
        button.on_click(partial(move, steps))
        buttons.append(button)
    return slider, ipywidgets.HBox([slider, *buttons], layout=ipywidgets.Layout(flex_flow="row wrap"))


class Widget(ABC):
    """A live view with a still picture and a line of text.

    A subclass says what its state looks like, three times: `to_html` for the live view, `picture` for pages without a
    kernel, `summary` in words (for a terminal, nbval, and as the picture's alt text). It makes its controls, hands them
    to `__init__`, and has each call `refresh` when it changes. In a notebook, make it the last line of a cell.
    """

    def __init__(self, controls: Iterable[ipywidgets.Widget]) -> None:
        self.view = ipywidgets.HTML()
        self.box = ipywidgets.VBox([*controls, self.view])
        self.refresh()

    @abstractmethod
    def to_html(self) -> str:
        """The live view of the present state."""

    @abstractmethod
    def picture(self) -> Figure:
        """The still picture of the present state."""

    @abstractmethod
    def summary(self) -> str:
        """The present state in words: the same at every run."""

    def refresh(self, _: object = None) -> None:
        """Show the present state; made to be given to `observe` and `on_click`."""
        self.view.value = f'{STYLE}<div class="minilm">{self.to_html()}</div>'

    def to_png(self) -> bytes:
        """The still picture as a PNG file."""
        buffer = io.BytesIO()
        # The name of the drawing program and its version would make files differ for no reason.
        self.picture().savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()

    def __repr__(self) -> str:
        return self.summary()

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        """Everything that a page may show: JupyterLab takes the view, GitHub the picture, a terminal the text."""
        bundle = dict(self.box._repr_mimebundle_() or {})
        bundle["image/png"] = base64.b64encode(self.to_png()).decode("ascii")
        bundle["text/plain"] = self.summary()
        return bundle, {"image/png": {"alt": self.summary()}}
