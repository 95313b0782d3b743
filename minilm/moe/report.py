"""How a model uses its experts: parameters in all and at work, the load of each expert in each layer, and who goes where."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from minilm.model import LanguageModel
from minilm.model.accounts import parameters_by_part
from minilm.moe.layer import MixtureOfExperts
from minilm.moe.losses import coefficient_of_variation, usage_entropy
from minilm.moe.product_key import CDMoE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANY = 16  # experts; more than that are not listed one by one


@dataclass(frozen=True)
class LayerUse:
    """How one layer's experts were used."""

    layer: int  # from 0
    usage: Float[Tensor, "experts"]  # each expert's share of what all of them served; sums to 1
    dropped: float = 0.0  # the share of choices for which no expert had room
    by_class: dict[str, Float[Tensor, "experts"]] = field(default_factory=dict)  # the same for each class of token

    @property
    def cv(self) -> float:
        """Standard deviation over mean of the shares: 0 when even."""
        return float(coefficient_of_variation(self.usage))

    @property
    def entropy(self) -> float:
        """Of the shares, in nats; ln(experts) when even."""
        return float(usage_entropy(self.usage))

    @property
    def idle(self) -> int:
        """Experts that served nobody."""
        return int((self.usage == 0).sum())

    @property
    def label(self) -> str:
        """The CV in words. The last is dlib's, which draws that line at the same place."""
        if self.cv < 0.3:
            return "balanced"
        return "uneven" if self.cv < 0.8 else "poor (CV >= 0.8) - possible expert collapse"


@dataclass(frozen=True)
class MoEReport:
    """What `moe_report` found. `print` it for tables, `figure()` draws it."""

    num_experts: int
    chosen: int
    route: str
    parameters: dict[str, tuple[int, int]]  # total, active, routers, experts: counted once each, and as dlib counts
    layers: tuple[LayerUse, ...]
    tokens: int | None  # that were looked at; None: the running average of the training
    choices: int | None = None  # made in each layer: by tokens, or by windows
    notes: tuple[str, ...] = ()

    @property
    def cv(self) -> float:
        """The mean CV over the layers."""
        return sum(layer.cv for layer in self.layers) / len(self.layers)

    @property
    def chance_cv(self) -> float | None:
        """About the CV that so few choices show when they fall on all experts alike: sqrt((E - 1) / choices)."""
        return math.sqrt((self.num_experts - 1) / self.choices) if self.choices else None

    @property
    def usage(self) -> Float[Tensor, "layers experts"]:
        """All shares."""
        return torch.stack([layer.usage for layer in self.layers])

    def __str__(self) -> str:
        each = {"sample": "a window"}.get(self.route, "a token")
        average = " on average" if self.route == "expert-choice" else ""
        lines = [
            f"mixture of experts in {len(self.layers)} layers: {self.num_experts:,} experts, {self.chosen} {each}{average}, route {self.route!r}",
            "",
        ]
        lines.append(f"{'parameters':<14}{'all':>14}{'share':>8}{'as dlib counts':>18}{'share':>8}")
        total, dlib_total = self.parameters["total"]
        for name, (every, dlib) in self.parameters.items():
            lines.append(f"  {name:<12}{every:>14,}{every / total:>8.1%}{dlib:>18,}{dlib / dlib_total:>8.1%}")
        over = "running average of the training" if self.tokens is None else f"{self.tokens:,} tokens"
        lines += ["", f"usage by layer, {over}"]
        even = f"even: a share of {1 / self.num_experts:.2%} each, entropy {math.log(self.num_experts):.2f}"
        lines.append(f"  {even}" + (f", and by chance alone a CV near {self.chance_cv:.2f}" if self.chance_cv else ""))
        lines.append(f"{'layer':>7}{'CV':>7}{'entropy':>9}{'least':>9}{'most':>9}{'idle':>7}{'dropped':>9}")
        for layer in self.layers:
            low, high = float(layer.usage.min()), float(layer.usage.max())
            lines.append(
                f"{layer.layer:>7}{layer.cv:>7.2f}{layer.entropy:>9.2f}{low:>9.2%}{high:>9.2%}{layer.idle:>7,}{layer.dropped:>9.1%}  {layer.label}"
            )
        if self.num_experts <= MANY:
            lines += ["", "share of each expert, in percent"]
            for layer in self.layers:
                lines.append(_row(f"layer {layer.layer}", layer.usage))
                lines += [_row(f"  {name}", shares) for name, shares in layer.by_class.items()]
        elif any(layer.by_class for layer in self.layers):
            lines += ["", "most used experts, with their shares"]
            for layer in self.layers:
                lines += [
                    f"  layer {layer.layer}, {name}: {_most_used(shares)}" for name, shares in layer.by_class.items()
                ]
        lines += [""] * bool(self.notes) + [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def figure(self) -> "Figure":
        """Each layer's shares as bars (as a curve from most to least used where experts are many); below, by class of token."""
        from matplotlib.figure import Figure

        classes = list(self.layers[0].by_class)
        few = self.num_experts <= 4 * MANY
        rows, columns = 2 if classes and few else 1, len(self.layers)
        size = (max(4.0, 2.2 * columns), 2.4 + (0.9 + 0.28 * len(classes)) * (rows - 1))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey="row")
        highest = max((float(shares.max()) for layer in self.layers for shares in layer.by_class.values()), default=1.0)
        for layer, column in zip(self.layers, axes.T, strict=True):
            _draw_usage(column[0], layer, few)
            if rows > 1:
                _draw_classes(column[1], layer, highest, first=layer is self.layers[0])
        axes[0, 0].set_ylabel("share of choices")
        return figure


def moe_report(
    model: LanguageModel,
    ids: Int[Tensor, "batch seq"] | Iterable[Int[Tensor, "batch seq"]] | None = None,
    *,
    token_class: Callable[[int], str] | None = None,
    ignore_id: int | None = None,
) -> MoEReport:
    """How the model's experts are used on `ids`, one batch or several; without them, the running averages of its training.

    `token_class` names the class of a token id (a kind of word, a language), and the report tells the classes apart;
    positions with `ignore_id` (padding) are not counted. The model is run without dropout and noise.

    Raises ValueError for a model without experts, and for classes without ids.
    """
    layers = [(i, part) for i, part in _mixtures(model)]
    if not layers:
        raise ValueError("the model has no mixture of experts: set feed_forward.moe in its config")
    if ids is None and (token_class or ignore_id is not None):
        raise ValueError("token_class and ignore_id are for tokens that the model reads: give ids")
    moe = layers[0][1].moe
    uses, tokens, choices = _averages(layers), None, None
    if ids is not None:
        batches = [ids] if isinstance(ids, Tensor) else list(ids)
        uses, tokens = _watch(model, layers, batches, token_class, ignore_id)
        if moe.route != "expert-choice":
            choices = (tokens if moe.route != "sample" else sum(map(len, batches))) * moe.chosen
    by_part = parameters_by_part(model)
    parameters = {
        "total": (model.num_parameters(), model.num_parameters("dlib")),
        "active": (model.num_parameters(active=True), model.num_parameters("dlib", active=True)),
        "routers": by_part.get("routers", (0, 0)),
        "experts": by_part.get("experts", (0, 0)),
    }
    notes = []
    if moe.chosen == 1 and (moe.normalize or moe.scoring == "softmax-chosen"):
        notes.append(
            "the one chosen expert's weight is always 1, so the router learns nothing from the task: set normalize=False"
        )
    return MoEReport(moe.num_experts, moe.chosen, moe.route, parameters, tuple(uses), tokens, choices, tuple(notes))


def _mixtures(model: LanguageModel) -> list[tuple[int, MixtureOfExperts | CDMoE]]:
    found = [part for part in model.modules() if isinstance(part, MixtureOfExperts | CDMoE)]
    return list(enumerate(found))


def _averages(layers: list[tuple[int, Any]]) -> list[LayerUse]:
    return [LayerUse(i, layer.usage.detach().double() / layer.usage.double().sum()) for i, layer in layers]


@torch.no_grad()
def _watch(
    model: LanguageModel,
    layers: list[tuple[int, Any]],
    batches: list[Tensor],
    token_class: Callable[[int], str] | None,
    ignore_id: int | None,
) -> tuple[list[LayerUse], int]:
    """Run the model and add up who served whom."""
    present = sorted({token for batch in batches for token in batch.flatten().tolist()})
    names = sorted({token_class(token) for token in present if token != ignore_id}) if token_class else [""]
    number = torch.zeros(max(present) + 1, dtype=torch.long)  # of a token's class
    for token in present if token_class else ():
        number[token] = names.index(token_class(token)) if token != ignore_id else 0  # type: ignore[misc]
    experts = layers[0][1].moe.num_experts
    served = torch.zeros(len(layers), len(names), experts, dtype=torch.double)
    choices, dropped, tokens = torch.zeros(len(layers)), torch.zeros(len(layers)), 0
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            model(batch)
            flat = batch.flatten().cpu()
            real = torch.ones_like(flat, dtype=torch.bool) if ignore_id is None else flat != ignore_id
            classes = number[flat]
            tokens += int(real.sum())
            for row, (_, layer) in enumerate(layers):
                routing = layer.routing.by_token()
                kept = torch.ones_like(routing.experts, dtype=torch.bool) if routing.kept is None else routing.kept
                if layer.moe.route != "expert-choice":  # there every pair is named, and none is refused
                    choices[row] += int(real.sum()) * kept.shape[1]
                    dropped[row] += int((~kept.cpu() & real[:, None]).sum())
                counted = kept.cpu() & real[:, None]
                places = classes[:, None] * experts + routing.experts.cpu()
                served[row].view(-1).index_add_(0, places[counted], torch.ones(int(counted.sum()), dtype=torch.double))
    finally:
        model.train(was_training)
    uses = []
    for row, (i, _) in enumerate(layers):
        by_class = {name: _shares(served[row, c]) for c, name in enumerate(names)} if token_class else {}
        lost = float(dropped[row] / choices[row]) if choices[row] else 0.0
        uses.append(LayerUse(i, _shares(served[row].sum(0)), lost, by_class))
    return uses, tokens


def _shares(served: Float[Tensor, "experts"]) -> Float[Tensor, "experts"]:
    return served / served.sum().clamp(min=1)


def _row(name: str, shares: Float[Tensor, "experts"]) -> str:
    return f"  {name:<20}" + "".join(f"{100 * share:>6.1f}" for share in shares.tolist())


def _most_used(shares: Float[Tensor, "experts"]) -> str:
    best = shares.topk(min(3, len(shares)))
    return ", ".join(f"{e} ({share:.1%})" for share, e in zip(best.values.tolist(), best.indices.tolist(), strict=True))


def _draw_usage(axis: Any, layer: LayerUse, few: bool) -> None:
    count = len(layer.usage)
    if few:
        axis.bar(range(count), layer.usage.tolist(), color="#0072B2")
        axis.set_xlabel("expert")
        axis.locator_params(axis="x", integer=True)
    else:
        axis.plot(layer.usage.sort(descending=True).values.tolist(), color="#0072B2")
        axis.set_xlabel("experts, most used first")
    axis.axhline(1 / count, color="#D55E00", linestyle="--", linewidth=1)
    axis.set_title(f"layer {layer.layer}, CV {layer.cv:.2f}", fontsize=9)


def _draw_classes(axis: Any, layer: LayerUse, highest: float, first: bool) -> None:
    shares = torch.stack(list(layer.by_class.values()))
    axis.imshow(shares.numpy(), aspect="auto", cmap="cividis", vmin=0, vmax=highest)
    axis.grid(False)
    axis.set_xlabel("expert")
    axis.locator_params(axis="x", integer=True)
    axis.set_yticks(range(len(layer.by_class)), list(layer.by_class), fontsize=8)
    axis.tick_params(left=first, labelleft=first)
