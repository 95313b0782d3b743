"""What `check`, `hint` and `progress` give back: an object that Jupyter shows as HTML and a terminal as plain text."""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SYMBOLS = {"passed": "✓", "not yet": "✗", "not started": "○", "unknown": "?"}
# Okabe and Ito's green, vermillion, orange and sky blue, as a bar beside the text: they hold on a white and on a dark page.
_BARS = {"passed": "#009E73", "not yet": "#D55E00", "not started": "#E69F00", "unknown": "#56B4E9"}


class Shown:
    """Something with a plain text and an HTML form; sentences use Markdown's `code`, **bold** and *stress*."""

    def text(self) -> str:
        """The plain text."""
        raise NotImplementedError

    def html(self) -> str:
        """The HTML, without styles that would not suit a dark page."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": self.text(), "text/html": self.html()}

    def _ipython_display_(self) -> None:
        # Shown as a display, not as the cell's value: nbgrader reads a value as the points of a cell.
        publish(self._repr_mimebundle_())


@dataclass(frozen=True, repr=False)
class Result(Shown):
    """What `check` says. It counts as true if the answer passed."""

    status: str  # "passed", "not yet", "not started" or "unknown"
    heading: str  # the exercise's number and title; all that there is to say, if it is unknown
    sentences: Sequence[str] = ()
    detail: str = ""
    notes: Sequence[str] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether the answer is right."""
        return self.status == "passed"

    @property
    def message(self) -> str:
        """What is said under the heading, in one line."""
        return plain(" ".join(self.sentences))

    def __bool__(self) -> bool:
        return self.passed

    def text(self) -> str:
        """The lines, the heading first."""
        return "\n".join(plain(line) for line in self._lines())

    def html(self) -> str:
        """A box with a coloured bar; the symbol and the words say the same as the colour."""
        style = f"border-left: 4px solid {_BARS[self.status]}; padding: 0.2em 0.8em; margin: 0.3em 0"
        body = "".join(f"<p>{markup(line)}</p>" for line in self._lines())
        return f'<div role="status" style="{style}">{body}</div>'

    def _lines(self) -> list[str]:
        head = f"{SYMBOLS[self.status]} **{self.heading}**: {self.status}."
        if self.status == "unknown":
            head = f"{SYMBOLS[self.status]} {self.heading}"
        return [line for line in (head, *self.sentences, self.detail, *self.notes) if line]


def publish(data: Mapping[str, str], metadata: Mapping[str, Any] | None = None) -> None:
    """Send an output to the notebook, in all its forms."""
    import IPython.display

    send: Callable[..., None] = IPython.display.publish_display_data
    send(dict(data), metadata=dict(metadata or {}))


def verbatim(text: str) -> str:
    """Protect text from markup: asterisks and backticks in a learner's values mean nothing."""
    return text.translate(_HIDDEN)


def plain(text: str) -> str:
    """A sentence for a terminal: without the asterisks, with the backticks (they tell code from words)."""
    parts = re.split(r"(`[^`]*`)", text)
    bare = (part if part.startswith("`") else re.sub(_STRESS, r"\1\2", part) for part in parts)
    return "".join(bare).translate(_SHOWN)


def markup(text: str) -> str:
    """A sentence as HTML."""
    parts = []
    for part in re.split(r"(`[^`]*`)", text):
        if part.startswith("`") and part.endswith("`") and len(part) > 1:
            parts.append(f"<code>{html.escape(part[1:-1], quote=False)}</code>")
        else:
            escaped = html.escape(part, quote=False)
            escaped = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)
            parts.append(re.sub(_EM, r"<em>\1</em>", escaped))
    return "".join(parts).translate(_SHOWN)


# Protected characters wait in Unicode's private area.
_HIDDEN = {ord(char): chr(0xE000 + ord(char)) for char in "*`"}
_SHOWN = {ord(hidden): chr(char) for char, hidden in _HIDDEN.items()}
_EM = r"(?<![\w*])\*([^\s*][^*]*?)\*(?![\w*])"
_STRESS = rf"\*\*([^*]+)\*\*|{_EM}"
