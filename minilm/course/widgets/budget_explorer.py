"""Turn a model's knobs and see what they cost: parameters by part, operations a token, memory to train and to talk."""

import html
from dataclasses import dataclass

import ipywidgets
from matplotlib.figure import Figure

from minilm.config import ModelConfig, divisors
from minilm.course.widgets.base import PLAIN, TINTS, Bar, Chip, Sheet, Widget, bars_to_html

# Presets whose every number the formulas below know. (dlib's flat heads and whole-window blocks have accounts of their own.)
KNOWN = ("slim", "mnemos", "stlm", "stlm-10", "stlm-shared", "llama-tiny", "gpt2")
COLOURS = {
    "token table": TINTS[0],
    "position table": TINTS[4],
    "attention": TINTS[1],
    "feed-forward": TINTS[2],
    "norms": PLAIN,
    "head": TINTS[3],
}


@dataclass(frozen=True)
class Budget:
    """What a model costs, by formula. Memory in bytes, for float32 and one sequence of full length."""

    parameters: dict[str, int]
    flops: int  # forward, for one token of a full window
    attention_flops: int  # the share of it that has no weights: scores and averages
    kv_cache: int

    @property
    def total(self) -> int:
        """All parameters, each once."""
        return sum(self.parameters.values())

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by use; AdamW keeps two numbers for each parameter."""
        weights = 4 * self.total
        return {"weights": weights, "gradients": weights, "AdamW": 2 * weights, "KV cache": self.kv_cache}


def budget(config: ModelConfig) -> Budget:
    """The costs of a model whose head reads single positions, by the formulas of lesson 05.

    ValueError for what the formulas do not cover.
    """
    attention, feed_forward, head = config.attention, config.feed_forward, config.head
    if "dlib-fused" in (attention.kind, feed_forward.kind) or head.kind != "per_token":
        raise ValueError("these formulas are for models whose parts read single positions, not a flattened window")
    if config.positions.kind == "relative" or attention.qk_norm or feed_forward.activation == "learned":
        raise ValueError("these formulas leave out relative positions, QK-norm and learned activations")
    dim, layers, hidden, table = config.dim, config.num_layers, feed_forward.hidden, config.vocab_size * config.dim
    width, kv_width = attention.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    matrices = 3 if feed_forward.kind == "gated" else 2

    attention_weights = 2 * dim * width + 2 * dim * kv_width  # q and o; k and v
    attention_biases = (width + 2 * kv_width) * attention.bias + dim * attention.output_bias
    ff_biases = ((matrices - 1) * hidden + dim) * feed_forward.bias
    norm = 0 if config.norm.kind == "none" else dim * (config.norm.gain + config.norm.bias)
    if config.norm.kind == "whole-sample":
        norm = int(config.norm.gain)
    parameters = {
        "token table": table,
        "position table": config.context_length * dim if config.positions.kind == "learned" else 0,
        "attention": layers * (attention_weights + attention_biases),
        "feed-forward": (1 if feed_forward.shared else layers) * (matrices * dim * hidden + ff_biases),
        "norms": (2 * layers + config.block.norm_first) * norm + layers * 2 * dim * config.block.residual_scale,
        "head": (0 if head.tied else table) + config.vocab_size * head.bias,
    }
    pairs = 4 * config.context_length * width * layers
    return Budget(
        parameters,
        flops=2 * (layers * (attention_weights + matrices * dim * hidden) + table) + pairs,
        attention_flops=pairs,
        kv_cache=2 * 4 * layers * kv_width * (attention.window or config.context_length),
    )


def _config(preset: str) -> ModelConfig:
    """A preset's config. (Imported here: presets know torch, and looking at a widget should not need it.)"""
    from minilm import presets

    return presets.config(preset)


def human(number: float) -> str:
    """A large number with three digits: 47.2 million."""
    for size, word in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if number >= size:
            return f"{number / size:.3g}{word}"
    return f"{number:g}"


def binary(size: float) -> str:
    """A size in bytes, with three digits."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


class BudgetExplorer(Widget):
    """Sliders for a model's shape, and what it costs. A preset sets them all; the kind of norm, biases and positions stay its own.

    >>> BudgetExplorer("slim").budget().total
    7343360
    """

    def __init__(self, preset: str = "slim") -> None:
        if preset not in KNOWN:
            raise ValueError(f"no preset {preset!r} here: choose one of {', '.join(map(repr, KNOWN))}")
        base = _config(preset)
        wide = ipywidgets.Layout(width="420px")

        def slider(name: str, value: int, low: int, high: int, step: int) -> ipywidgets.IntSlider:
            return ipywidgets.IntSlider(value, low, high, step, description=name, continuous_update=False, layout=wide)

        def choice(name: str, value: int, options: list[int]) -> ipywidgets.SelectionSlider:
            return ipywidgets.SelectionSlider(
                options=options, value=value, description=name, continuous_update=False, layout=wide
            )

        self.preset = ipywidgets.Dropdown(options=KNOWN, value=preset, description="Preset")
        self.layers = slider("Layers", base.num_layers, 1, 64, 1)
        self.dim = slider("Width", base.dim, 32, 4096, 32)
        self.heads = choice("Heads", base.attention.num_heads, self._head_counts(base.dim))
        self.kv_heads = choice("KV heads", base.num_kv_heads, divisors(base.attention.num_heads))
        self.hidden = slider("FF width", base.feed_forward.hidden, 8, 16_384, 8)
        self.vocabulary = ipywidgets.BoundedIntText(base.vocab_size, 2, 1_000_000, description="Vocabulary")
        self.context = choice("Context", base.context_length, [2**n for n in range(5, 18)])
        self.tied = ipywidgets.Checkbox(base.head.tied, description="head tied to the table")
        self.base = base
        self._loading = False
        self.preset.observe(self._load, names="value")
        self.dim.observe(self._new_width, names="value")
        self.heads.observe(self._new_heads, names="value")
        knobs = (
            self.layers,
            self.dim,
            self.heads,
            self.kv_heads,
            self.hidden,
            self.vocabulary,
            self.context,
            self.tied,
        )
        for knob in knobs:
            knob.observe(self.refresh, names="value")
        left = ipywidgets.VBox(knobs[:4])
        right = ipywidgets.VBox(knobs[4:])
        row = ipywidgets.HBox([left, right], layout=ipywidgets.Layout(flex_flow="row wrap"))
        super().__init__([self.preset, row])

    @staticmethod
    def _head_counts(dim: int) -> list[int]:
        """How many heads a width can have: of an even number of channels (rotary turns pairs), 128 at most."""
        return [heads for heads in divisors(dim) if dim % (2 * heads) == 0 and heads <= 128]

    def _new_width(self, _: object = None) -> None:
        self._set(self.heads, self._head_counts(self.dim.value))

    def _new_heads(self, _: object = None) -> None:
        self._set(self.kv_heads, divisors(self.heads.value))

    @staticmethod
    def _set(knob: ipywidgets.SelectionSlider, options: list[int], value: int | None = None) -> None:
        """New choices for a knob, and the nearest to what it showed."""
        wanted = knob.value if value is None else value
        knob.options = options
        knob.value = min(options, key=lambda option: abs(option - wanted))

    def _load(self, _: object = None) -> None:
        """Set every knob as the preset says; show the result once."""
        self._loading = True
        base = self.base = _config(self.preset.value)
        self.layers.value, self.hidden.value = base.num_layers, base.feed_forward.hidden
        self.dim.value = base.dim
        self._set(self.heads, self._head_counts(base.dim), base.attention.num_heads)
        self._set(self.kv_heads, divisors(base.attention.num_heads), base.num_kv_heads)
        self.vocabulary.value, self.context.value = base.vocab_size, base.context_length
        self.tied.value = base.head.tied
        self._loading = False
        self.refresh()

    def refresh(self, _: object = None) -> None:
        """Show the present state, unless a preset is being loaded."""
        if not self._loading:
            super().refresh()

    def config(self) -> ModelConfig:
        """The model that the knobs describe."""
        return self.base.replace(
            num_layers=self.layers.value,
            dim=self.dim.value,
            vocab_size=self.vocabulary.value,
            context_length=self.context.value,
            attention={"num_heads": self.heads.value, "num_kv_heads": self.kv_heads.value},
            feed_forward={"hidden": self.hidden.value},
            head={"tied": self.tied.value},
        )

    def budget(self) -> Budget:
        """Its costs."""
        return budget(self.config())

    def headline(self) -> str:
        """Parameters and operations."""
        costs = self.budget()
        return f"{costs.total:,} parameters; {human(costs.flops)} operations a token to read or write"

    def facts(self) -> str:
        """Two sums that are worth doing in one's head."""
        costs = self.budget()
        training = sum(size for use, size in costs.memory.items() if use != "KV cache")
        return (
            f"{costs.attention_flops / costs.flops:.0%} of the operations are attention at full context. To train with AdamW: "
            f"{binary(training)} before activations. To talk: {binary(4 * costs.total)} of weights and "
            f"{binary(costs.kv_cache)} of keys and values for one full context (float32)."
        )

    def parameter_bars(self) -> list[Bar]:
        """One bar a part."""
        costs = self.budget()
        most = max(costs.parameters.values())
        return [
            Bar((Chip(part, "", COLOURS[part]),), f"{count:,} ({count / costs.total:.1%})", count / most)
            for part, count in costs.parameters.items()
            if count
        ]

    def memory_bars(self) -> list[Bar]:
        """One bar a use."""
        sizes = self.budget().memory
        return [Bar((Chip(use),), binary(size), size / max(sizes.values())) for use, size in sizes.items()]

    def to_html(self) -> str:
        """Parameters and memory, side by side."""
        return (
            f'<p class="title">{html.escape(self.headline())}</p><p class="facts">{html.escape(self.facts())}</p>'
            '<div class="panels"><section class="panel" aria-label="parameters"><p class="title">Parameters by part</p>'
            f"{bars_to_html(self.parameter_bars(), ('part', 'parameters'))}</section>"
            '<section class="panel" aria-label="memory"><p class="title">Memory</p>'
            f"{bars_to_html(self.memory_bars(), ('use', 'size'))}</section></div>"
        )

    def picture(self) -> Figure:
        """The same, one below the other."""
        sheet = Sheet()
        sheet.text(self.shape())
        sheet.text(self.headline(), bold=True)
        sheet.text(self.facts())
        sheet.space()
        sheet.text("Parameters by part", bold=True)
        sheet.bars(self.parameter_bars(), chips_wide=18, bar_wide=40, values_wide=24)
        sheet.space()
        sheet.text("Memory", bold=True)
        sheet.bars(self.memory_bars(), chips_wide=18, bar_wide=40, values_wide=24)
        return sheet.figure()

    def shape(self) -> str:
        """The knobs in words."""
        tied = "tied" if self.tied.value else "untied"
        return (
            f"{self.layers.value} layers of width {self.dim.value}, {self.heads.value} heads on {self.kv_heads.value} key-value "
            f"heads, feed-forward {self.hidden.value}, vocabulary {self.vocabulary.value:,}, context {self.context.value:,}, "
            f"{tied} ({self.preset.value}'s norms, biases and positions)"
        )

    def summary(self) -> str:
        """Shape, parameters by part, operations and memory."""
        parts = ", ".join(f"{part} {count:,}" for part, count in self.budget().parameters.items() if count)
        return f"BudgetExplorer: {self.shape()}: {self.headline()}. Parameters: {parts}. {self.facts()}"
