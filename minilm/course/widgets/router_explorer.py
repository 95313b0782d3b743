"""Type a text and see which experts each of its tokens goes to, layer by layer, and how the load is spread."""

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import ipywidgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from minilm.course.widgets.base import PLAIN, STRONG, TINTS, Chip, Sheet, Widget, chips_to_html, shorten, visible, write

if TYPE_CHECKING:
    from minilm.model import LanguageModel
    from minilm.moe import MixtureOfExperts
    from minilm.tokenizer import Tokenizer

COLOURS = (*TINTS, "#c9c9c9", "#f2b8a2", "#b9c7f0")
"""Of experts 0, 1, 2 ...; beyond the last they begin again, and the number on the chip tells them apart."""


@dataclass(frozen=True)
class Choices:
    """What one layer's router decided: the experts of each token, the likeliest first, and each expert's share of all choices."""

    experts: tuple[tuple[int, ...], ...]  # empty where no expert had room
    load: tuple[float, ...]

    @property
    def cv(self) -> float:
        """Standard deviation over mean of the loads: 0 when even."""
        mean = sum(self.load) / len(self.load)
        return (sum((share - mean) ** 2 for share in self.load) / len(self.load)) ** 0.5 / mean  # type: ignore[no-any-return]


class RouterExplorer(Widget):
    """Which experts the tokens of a text go to, in each layer of a model whose routers choose token by token.

    `text` is what is read at first, `examples` are others to pick from. The experts a token (`k`) and the standard deviation of
    noise on the scores can be moved; k starts where the model was trained, the noise at 0.

    >>> RouterExplorer(model, tokenizer, "Mia had a kite.")  # doctest: +SKIP
    RouterExplorer: 7 tokens, 2 of 8 experts each, noise 0.0. Layer 0: unevenness 0.61, most to expert 3 (29 %) ...
    """

    def __init__(
        self, model: "LanguageModel", tokenizer: "Tokenizer", text: str, examples: Sequence[str] = (), layer: int = 0
    ) -> None:
        from minilm.moe import MixtureOfExperts, TokenRouter

        self.model, self.tokenizer = model, tokenizer
        self.mixtures = [part for part in model.modules() if isinstance(part, MixtureOfExperts)]
        if not self.mixtures or not all(isinstance(mixture.gate, TokenRouter) for mixture in self.mixtures):
            raise ValueError("RouterExplorer shows models whose routers choose for each token: this one has none")
        if not 0 <= layer < len(self.mixtures):
            raise ValueError(f"the model's mixtures are layers 0 to {len(self.mixtures) - 1}: got {layer}")
        moe = self.mixtures[0].moe
        wide = {"width": "95%", "max_width": "760px"}
        self.text = ipywidgets.Text(text, description="Text", continuous_update=False, layout=ipywidgets.Layout(**wide))
        self.example = ipywidgets.Dropdown(
            options=[("or take one ...", ""), *((shorten(each, 60), each) for each in examples)],
            description="",
            layout=ipywidgets.Layout(**wide),
        )
        self.layer = ipywidgets.IntSlider(layer, min=0, max=len(self.mixtures) - 1, description="Layer")
        self.k = ipywidgets.IntSlider(moe.chosen, min=1, max=moe.num_experts, description="k")
        self.noise = ipywidgets.FloatSlider(0.0, min=0.0, max=5.0, step=0.25, description="Noise")
        self.example.observe(self._take, names="value")
        for control in (self.text, self.layer, self.k, self.noise):
            control.observe(self.refresh, names="value")
        row = ipywidgets.HBox([self.layer, self.k, self.noise], layout=ipywidgets.Layout(flex_flow="row wrap"))
        self._seen: tuple[object, list[str], list[Choices]] | None = None
        super().__init__([self.text, *([self.example] if examples else []), row])

    def _take(self, _: object = None) -> None:
        """Read the example that was picked."""
        if self.example.value:
            self.text.value = self.example.value

    @contextmanager
    def _settings(self) -> "Iterator[None]":
        """The routers with the present k and noise; as they were when it is over."""
        before = [(mixture.gate, mixture.gate.moe, mixture.gate.training) for mixture in self.mixtures]
        training = self.model.training
        self.model.eval()
        try:
            for gate, moe, _ in before:
                gate.moe = moe.replace(top_k=self.k.value, noise=self.noise.value, noise_kind="plain")
                gate.train(self.noise.value > 0)
            yield
        finally:
            self.model.train(training)
            for gate, moe, was_training in before:
                gate.moe = moe
                gate.train(was_training)

    def read(self) -> tuple[list[str], list[Choices]]:
        """The tokens of the present text, from the end that begins every document, and the choices of each layer."""
        import torch

        key = (self.text.value, self.k.value, self.noise.value)
        if self._seen is None or self._seen[0] != key:
            start = self.tokenizer.special_tokens.get("<end>")
            ids = ([] if start is None else [start]) + self.tokenizer.encode(self.text.value)
            ids = ids[: self.model.config.context_length]
            tokens = [self.tokenizer.decode([token]) for token in ids]
            found: list[Choices] = []
            if ids:
                with torch.no_grad(), torch.random.fork_rng(devices=[]), self._settings():
                    torch.manual_seed(0)  # the same noise each time
                    self.model(torch.tensor([ids]))
                    found = [choices(mixture) for mixture in self.mixtures]
            self._seen = (key, tokens, found)
        return self._seen[1], self._seen[2]

    def chips(self, layer: int) -> list[Chip]:
        """The tokens, coloured by their first expert, with the numbers of all of theirs below."""
        tokens, layers = self.read()
        return [
            Chip(
                visible(token),
                " ".join(map(str, experts)) or "none",
                COLOURS[experts[0] % len(COLOURS)] if experts else PLAIN,
            )
            for token, experts in zip(tokens, layers[layer].experts, strict=True)
        ]

    def facts(self, layer: int) -> str:
        """How even a layer's load is, and what its busiest expert is asked about."""
        tokens, layers = self.read()
        chosen = layers[layer]
        busiest = max(range(len(chosen.load)), key=lambda e: chosen.load[e])
        words = Counter(token for token, experts in zip(tokens, chosen.experts, strict=True) if busiest in experts)
        often = ", ".join(f"“{visible(word)}”" for word, _ in words.most_common(3))
        idle = sum(share == 0 for share in chosen.load)
        return (
            f"Layer {layer}: unevenness {chosen.cv:.2f}, most to expert {busiest} ({chosen.load[busiest]:.0%}: {often}), "
            f"{idle} of {len(chosen.load)} idle"
        )

    def to_html(self) -> str:
        """The tokens of the layer, its load, and the loads of the other layers."""
        tokens, layers = self.read()
        if not tokens:
            return '<p class="trouble">Type a few words.</p>'
        panels = "".join(
            f'<figure class="panel"><figcaption class="title">Layer {number}</figcaption>{load_to_html(each)}</figure>'
            for number, each in enumerate(layers)
        )
        layer = self.layer.value
        return (
            f'<p class="facts">{html.escape(self.facts(layer))}. Below each token, the experts it goes to.</p>'
            f"{chips_to_html(self.chips(layer), 'tokens and their experts')}"
            f'<p class="facts">Share of all choices, expert by expert; the line is an even share.</p>'
            f'<div class="panels">{panels}</div>'
        )

    def picture(self) -> Figure:
        """The same: one layer's tokens, and the loads of all layers."""
        tokens, layers = self.read()
        sheet = Sheet()
        if not tokens:
            sheet.text("Type a few words.")
            return sheet.figure()
        sheet.text(self.facts(self.layer.value), bold=True)
        sheet.chips(self.chips(self.layer.value))
        sheet.space(0.5)
        columns = 3
        for start in range(0, len(layers), columns):
            top = sheet.height
            for column, number in enumerate(range(start, min(start + columns, len(layers)))):
                sheet.drawings.append(
                    partial(draw_load, choices=layers[number], number=number, x=column * 36.0, top=top)
                )
            sheet.height = top + 0.3 + 0.18 * len(layers[0].load)
        return sheet.figure()

    def summary(self) -> str:
        """Text, knobs, and how even every layer's load is."""
        tokens, layers = self.read()
        if not tokens:
            return "RouterExplorer: no text yet."
        moe = self.mixtures[0].moe
        facts = ". ".join(self.facts(number) for number in range(len(layers)))
        return (
            f"RouterExplorer: {len(tokens)} tokens, {self.k.value} of {moe.num_experts} experts each, "
            f"noise {self.noise.value}. {facts}."
        )


def choices(mixture: "MixtureOfExperts") -> Choices:
    """What a layer's router decided in its last forward pass."""
    routing = mixture.routing
    assert routing is not None
    kept = routing.kept.tolist() if routing.kept is not None else None
    rows = [
        tuple(e for slot, e in enumerate(row) if kept is None or kept[place][slot])
        for place, row in enumerate(routing.experts.tolist())
    ]
    counts = routing.counts.tolist()
    return Choices(tuple(rows), tuple(count / max(sum(counts), 1) for count in counts))


def load_to_html(chosen: Choices) -> str:
    """A row an expert, its share as a bar, with a line at the even share."""
    longest, even = max(chosen.load), 1 / len(chosen.load)
    rows = "".join(
        f'<tr><td><span class="chip" style="background:{COLOURS[e % len(COLOURS)]}">{e}</span></td><td>{share:.0%}</td>'
        f'<td style="width:75%;position:relative"><span class="bar" style="width:{100 * share / longest:.1f}%;'
        f'background:{COLOURS[e % len(COLOURS)]}"></span>'
        f'<span style="position:absolute;top:0;bottom:0;left:{100 * even / longest:.1f}%;border-left:2px dashed {STRONG}"></span>'
        "</td></tr>"
        for e, share in enumerate(chosen.load)
    )
    return f"<table><tbody>{rows}</tbody></table>"


def draw_load(axes: Axes, choices: Choices, number: int, x: float, top: float) -> None:
    """The same as a picture."""
    write(axes, x, top + 0.16, f"Layer {number}: share of choices", 9, ha="left")
    longest, even, wide = max(choices.load), 1 / len(choices.load), 20.0
    for e, share in enumerate(choices.load):
        bottom = top + 0.38 + 0.18 * e
        write(axes, x, bottom - 0.03, f"{e}", 9, ha="left")
        write(axes, x + 3, bottom - 0.03, f"{share:.0%}", 9, ha="left")
        colour = COLOURS[e % len(COLOURS)] if share else PLAIN
        bar = Rectangle((x + 8, bottom - 0.14), max(wide * share / longest, 0.2), 0.13)
        bar.set(facecolor=colour, edgecolor="#808080", linewidth=0.6)
        axes.add_patch(bar)
    line = x + 8 + wide * even / longest
    axes.plot(
        [line, line], [top + 0.22, top + 0.38 + 0.18 * (len(choices.load) - 1)], "--", color=STRONG, linewidth=1.4
    )
