"""How much memory do keys and values take? Set a model's shape, the length and the number of conversations, and see."""

import html
from dataclasses import dataclass

import ipywidgets
from matplotlib.figure import Figure

from minilm.course.widgets.base import TINTS, Bar, Chip, Sheet, Widget, bars_to_html
from minilm.course.widgets.budget_explorer import binary

PRECISIONS = {
    "float32 (4 bytes)": 4.0,
    "half precision (2 bytes)": 2.0,
    "int8 (1 byte)": 1.0,
    "4 bits (half a byte)": 0.5,
}
NO_WINDOW = "none"


@dataclass(frozen=True)
class Shape:
    """What decides the size of a cache."""

    layers: int
    heads: int
    kv_heads: int
    head_size: int
    length: int
    batch: int
    bytes_per_number: float
    window: int | None = None

    def size(self) -> float:
        """Bytes of keys and values, by lesson 03's count: both, for each layer, key-value head, position and conversation."""
        kept = self.length if self.window is None else min(self.length, self.window)
        return 2 * self.layers * self.kv_heads * self.head_size * kept * self.batch * self.bytes_per_number


# Layers, query heads, key-value heads, head size, context. The last is not one of `minilm.presets`: Llama 3 8B, from its published config.
LLAMA_8B = "Llama 3 8B"
LLAMA_SHAPE = (32, 32, 8, 128, 8192)
KNOWN = ("slim", "mnemos", "stlm", "stlm-10", "llama-tiny", "gpt2", LLAMA_8B)


def shape_of(preset: str) -> tuple[int, int, int, int, int]:
    """Layers, query heads, key-value heads, head size and context of a preset. (Imported here: presets know torch.)"""
    if preset == LLAMA_8B:
        return LLAMA_SHAPE
    from minilm import presets

    config = presets.config(preset)
    return (config.num_layers, config.attention.num_heads, config.num_kv_heads, config.head_dim, config.context_length)


class CacheCalculator(Widget):
    """Knobs for everything that decides the size of a KV cache, and what would be saved by one head for all, a window, fewer bits.

    >>> CacheCalculator("Llama 3 8B").shape().size() / 2**30
    1.0
    """

    def __init__(self, preset: str = LLAMA_8B) -> None:
        if preset not in KNOWN:
            raise ValueError(f"no preset {preset!r} here: choose one of {', '.join(map(repr, KNOWN))}")
        layers, heads, kv_heads, head_size, context = shape_of(preset)
        wide = ipywidgets.Layout(width="420px")

        def slider(name: str, value: int, high: int) -> ipywidgets.IntSlider:
            return ipywidgets.IntSlider(value, 1, high, description=name, continuous_update=False, layout=wide)

        self.preset = ipywidgets.Dropdown(options=KNOWN, value=preset, description="Preset")
        self.layers = slider("Layers", layers, 128)
        self.kv_heads = slider("KV heads", kv_heads, 128)
        self.head_size = slider("Head size", head_size, 256)
        self.length = ipywidgets.SelectionSlider(
            options=[2**n for n in range(5, 21)],
            value=context,
            description="Length",
            continuous_update=False,
            layout=wide,
        )
        self.batch = slider("Texts", 1, 256)
        self.precision = ipywidgets.Dropdown(options=list(PRECISIONS), value=list(PRECISIONS)[1], description="Numbers")
        self.window = ipywidgets.SelectionSlider(
            options=[(NO_WINDOW, 0), *((f"{2**n:,}", 2**n) for n in range(5, 15))],
            description="Window",
            continuous_update=False,
            layout=wide,
        )
        self.heads = heads
        self._loading = False
        self.preset.observe(self._load, names="value")
        knobs = (self.layers, self.kv_heads, self.head_size, self.length, self.batch, self.precision, self.window)
        for knob in knobs:
            knob.observe(self.refresh, names="value")
        left, right = ipywidgets.VBox(knobs[:3]), ipywidgets.VBox(knobs[3:])
        row = ipywidgets.HBox([left, right], layout=ipywidgets.Layout(flex_flow="row wrap"))
        super().__init__([self.preset, row])

    def _load(self, _: object = None) -> None:
        """Set the model's knobs as the preset says; texts, numbers and window stay. Show the result once."""
        self._loading = True
        layers, self.heads, kv_heads, head_size, context = shape_of(self.preset.value)
        self.layers.value, self.kv_heads.value, self.head_size.value = layers, kv_heads, head_size
        self.length.value = context
        self._loading = False
        self.refresh()

    def refresh(self, _: object = None) -> None:
        """Show the present state, unless a preset is being loaded."""
        if not self._loading:
            super().refresh()

    def shape(self) -> Shape:
        """What the knobs say."""
        return Shape(
            self.layers.value,
            self.heads,
            self.kv_heads.value,
            self.head_size.value,
            self.length.value,
            self.batch.value,
            PRECISIONS[self.precision.value],
            self.window.value or None,
        )

    def alternatives(self) -> dict[str, Shape]:
        """The same cache, and what it would be otherwise."""
        now = self.shape()
        heads = max(self.heads, now.kv_heads)
        values = dict(now.__dict__)
        others = {
            "as set": now,
            f"a key for each of {heads} query heads": Shape(**(values | {"kv_heads": heads})),
            "one key-value head (MQA)": Shape(**(values | {"kv_heads": 1})),
            f"a window of {max(1, now.length // 4):,}": Shape(**(values | {"window": max(1, now.length // 4)})),
            "in int8": Shape(**(values | {"bytes_per_number": 1.0})),
        }
        return {name: shape for name, shape in others.items() if name == "as set" or shape.size() != now.size()}

    def headline(self) -> str:
        """The sum, written out."""
        now = self.shape()
        kept = now.length if now.window is None else min(now.length, now.window)
        texts = "1 text" if now.batch == 1 else f"{now.batch} texts"
        return (
            f"2 × {now.layers} layers × {now.kv_heads} heads × {now.head_size} numbers × {kept:,} tokens × {texts} × "
            f"{now.bytes_per_number:g} bytes = {binary(now.size())}"
        )

    def facts(self) -> str:
        """The price of a token, and how many texts fill a usual machine."""
        now = self.shape()
        one_token = Shape(**(dict(now.__dict__) | {"length": 1, "batch": 1, "window": None})).size()
        one_text = now.size() / now.batch
        fit = int(16 * 2**30 // one_text)
        forgets = (
            "" if now.window is None or now.window >= now.length else f" Beyond {now.window:,} tokens it does not grow."
        )
        return f"Every token leaves {binary(one_token)}. Texts of this length in 16 GiB, beside nothing else: {fit:,}.{forgets}"

    def bars(self) -> list[Bar]:
        """One bar for each way."""
        sizes = {name: shape.size() for name, shape in self.alternatives().items()}
        most = max(sizes.values())
        return [
            Bar(
                (Chip(name, "", TINTS[0] if name == "as set" else TINTS[4], strong=name == "as set"),),
                binary(size),
                size / most,
            )
            for name, size in sizes.items()
        ]

    def to_html(self) -> str:
        """The sum, and the alternatives."""
        return (
            f'<p class="title">{html.escape(self.headline())}</p><p class="facts">{html.escape(self.facts())}</p>'
            f"{bars_to_html(self.bars(), ('cache', 'size'))}"
        )

    def picture(self) -> Figure:
        """The same on a page."""
        sheet = Sheet()
        sheet.text(f"{self.preset.value}: {self.headline()}", bold=True)
        sheet.text(self.facts())
        sheet.space()
        sheet.bars(self.bars(), chips_wide=42, bar_wide=48, values_wide=12)
        return sheet.figure()

    def summary(self) -> str:
        """The sum and the alternatives in words."""
        others = "; ".join(
            f"{name} {binary(shape.size())}" for name, shape in self.alternatives().items() if name != "as set"
        )
        return f"CacheCalculator ({self.preset.value}): {self.headline()}. {self.facts()} Instead: {others}."
