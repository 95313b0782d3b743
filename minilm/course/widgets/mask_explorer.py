"""Which keys does each query keep? Shrink the window of four patterns: everything, the newest, the newest and the first, the best."""

import html
from collections.abc import Callable, Sequence

import ipywidgets
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from minilm.course.figures import COLORS
from minilm.course.widgets.base import PLAIN, TINTS, Chip, Widget, chips_to_html, drawable, shorten, visible

MOST_TOKENS = 128
SINKS = 4
DENSE, WINDOW, SINK, DYNAMIC = "everything", "the newest", f"the first {SINKS} and the newest", "the largest bias"
KEPT, MARKED, DROPPED = TINTS[1], TINTS[0], "#ffffff"


def newest(query: int, keep: int, bias: Sequence[float]) -> set[int]:
    """A sliding window: the query itself and what came just before."""
    return set(range(max(0, query + 1 - keep), query + 1))


def first_and_newest(query: int, keep: int, bias: Sequence[float]) -> set[int]:
    """A window with sinks; both together are `keep` keys, and the window has one at least."""
    sinks = min(SINKS, keep - 1)
    return newest(query, keep - sinks, bias) | set(range(min(sinks, query + 1)))


def largest(query: int, keep: int, bias: Sequence[float]) -> set[int]:
    """A dynamic mask: the keys of the largest bias so far; of equals the newer."""
    return set(sorted(range(query + 1), key=lambda key: (-bias[key], -key))[:keep])


PATTERNS: dict[str, Callable[[int, int, Sequence[float]], set[int]]] = {
    DENSE: lambda query, keep, bias: set(range(query + 1)),
    WINDOW: newest,
    SINK: first_and_newest,
    DYNAMIC: largest,
}


class MaskExplorer(Widget):
    """Which of the `tokens` does each query keep, when a pattern leaves it `keep` of them? `bias` has a number for each token.

    `marked` says which tokens matter (all False unless given): they are tinted, and counted. The query is chosen by its place.

    >>> MaskExplorer(["a", "b", "c"], [0.2, 0.9, 0.1], keep=2)  # doctest: +SKIP
    MaskExplorer of 3 tokens, keeps 2: the largest bias. Query 3, 'c', keeps 'a', 'b', and not itself.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        bias: Sequence[float],
        marked: Sequence[bool] | None = None,
        keep: int | None = None,
    ) -> None:
        if not 1 <= len(tokens) <= MOST_TOKENS:
            raise ValueError(f"MaskExplorer has room for 1 to {MOST_TOKENS} tokens, and there are {len(tokens)}")
        if len(bias) != len(tokens) or (marked is not None and len(marked) != len(tokens)):
            raise ValueError(
                f"{len(tokens)} tokens need {len(tokens)} biases and marks: got {len(bias)}"
                + ("" if marked is None else f" and {len(marked)}")
            )
        self.tokens, self.bias = list(tokens), [float(value) for value in bias]
        self.marked = [False] * len(tokens) if marked is None else [bool(mark) for mark in marked]
        count, wide = len(tokens), ipywidgets.Layout(width="99%", max_width="620px")
        self.pattern = ipywidgets.Dropdown(options=list(PATTERNS), value=DYNAMIC, description="Keeps")
        self.keep = ipywidgets.IntSlider(
            value=min(count, 8) if keep is None else keep, min=1, max=count, description="How many", layout=wide
        )
        self.place = ipywidgets.IntSlider(value=count, min=1, max=count, description="Query", layout=wide)
        for control in (self.pattern, self.keep, self.place):
            control.observe(self.refresh, names="value")
        super().__init__([self.pattern, self.keep, self.place])

    @property
    def query(self) -> int:
        """The index of the token that looks."""
        return int(self.place.value) - 1

    def kept(self, query: int | None = None, pattern: str | None = None) -> set[int]:
        """The keys that this query (the chosen one) keeps under this pattern (the chosen one)."""
        query = self.query if query is None else query
        return PATTERNS[pattern or self.pattern.value](query, self.keep.value, self.bias)

    def headline(self) -> str:
        """Who keeps how many, and whether itself."""
        kept, own = self.kept(), self.query in self.kept()
        keys = "1 key" if len(kept) == 1 else f"{len(kept)} keys"
        itself = "itself among them" if own else "and not itself"
        return f"Query {self.query + 1}, '{visible(self.tokens[self.query], spaces=False)}', keeps {keys}, {itself}."

    def facts(self) -> str:
        """What becomes of the marked tokens, for this query."""
        past = [key for key in range(self.query + 1) if self.marked[key]]
        if not any(self.marked):
            return ""
        held = sum(key in self.kept() for key in past)
        return f"Of {len(past)} marked tokens so far it keeps {held}."

    def chips(self) -> list[Chip]:
        """All tokens up to the query, each over its bias: kept ones tinted (marked ones otherwise), dropped ones crossed out."""
        kept = self.kept()
        return [
            Chip(
                visible(self.tokens[key], spaces=False),
                f"{self.bias[key]:.2f}" if key in kept else f"✗ {self.bias[key]:.2f}",
                (MARKED if self.marked[key] else KEPT) if key in kept else PLAIN if self.marked[key] else DROPPED,
                strong=key == self.query,
            )
            for key in range(self.query + 1)
        ]

    def table(self, pattern: str) -> list[list[int]]:
        """For each query and key: 0 dropped (or the future), 1 kept, 2 kept and marked."""
        rows = (self.kept(query, pattern) for query in range(len(self.tokens)))
        return [[(1 + self.marked[key]) if key in row else 0 for key in range(len(self.tokens))] for row in rows]

    def to_html(self) -> str:
        """What the query keeps, in words and as the line of tokens, and the map of all queries."""
        return (
            f'<p class="title">{html.escape(self.headline())}</p><p class="facts">{html.escape(self.facts())}</p>'
            f'<section class="panel" aria-label="the tokens up to the query"><p class="facts">Below each token its bias; ✗ is dropped.</p>{chips_to_html(self.chips(), "the tokens up to the query")}</section>'
            f'<section class="panel" aria-label="all queries">{self.map_to_html()}</section>'
        )

    def map_to_html(self) -> str:
        """All queries (down) and keys (across) as one drawing."""
        colours, size = {1: "#b0b0b0", 2: COLORS["blue"]}, len(self.tokens)
        squares = "".join(
            f'<rect x="{key}" y="{query}" width="1" height="1" fill="{colours[cell]}"/>'
            for query, row in enumerate(self.table(self.pattern.value))
            for key, cell in enumerate(row)
            if cell
        )
        label = f"who keeps whom: {self.pattern.value}, {self.keep.value} of {size}"
        return (
            '<p class="facts">Rows are queries, columns keys; grey is kept, blue kept and marked; the frame is the chosen query.</p>'
            f'<svg viewBox="0 0 {size} {size}" width="320" height="320" role="img" aria-label="{html.escape(label)}" '
            f'style="background:#fff" shape-rendering="crispEdges">{squares}'
            f'<rect x="0" y="{self.query}" width="{size}" height="1" fill="none" stroke="{COLORS["vermillion"]}" stroke-width="0.5"/></svg>'
        )

    def picture(self) -> Figure:
        """The four patterns side by side, with the same number of keys to keep; the chosen query framed."""
        figure = Figure(figsize=(9.6, 2.9), dpi=100, facecolor="white", layout="constrained")
        colours = ListedColormap(["white", "#b0b0b0", COLORS["blue"]])
        for number, pattern in enumerate(PATTERNS):
            axes = figure.add_subplot(1, len(PATTERNS), number + 1)
            axes.imshow(self.table(pattern), cmap=colours, vmin=0, vmax=2, interpolation="nearest")
            axes.grid(False)
            for y in (self.query - 0.5, self.query + 0.5):
                axes.axhline(y, color=COLORS["vermillion"], linewidth=1)
            keeps = "" if pattern == DENSE else f": {self.keep.value}"
            axes.set_title(f"{pattern}{keeps}", size=9, loc="left")
            axes.set_xlabel("key", size=8)
            axes.tick_params(labelsize=7)
            if number == 0:
                axes.set_ylabel("query", size=8)
        return figure

    def summary(self) -> str:
        """The settings, and what the chosen query keeps."""
        kept = sorted(self.kept())
        some = ", ".join(f"'{drawable(shorten(visible(self.tokens[key], spaces=False), 20))}'" for key in kept[:8])
        more = f" and {len(kept) - 8} more" if len(kept) > 8 else ""
        settings = f"MaskExplorer of {len(self.tokens)} tokens, keeps {self.keep.value}: {self.pattern.value}."
        return " ".join(part for part in (settings, self.headline(), self.facts(), f"Kept: {some}{more}.") if part)
