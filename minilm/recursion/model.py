"""Lesson 13: a model that solves puzzles in loops (HRM, TRM and what lies between them)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn

from minilm.embeddings import RotaryEmbedding
from minilm.model.files import CONFIG, WEIGHTS, read_weights
from minilm.recursion.config import RecursionConfig
from minilm.recursion.embedding import PuzzleEmbedding
from minilm.recursion.network import RecursionNetwork, draw_lecun_

FORMAT = "minilm-recursion-1"


@dataclass(frozen=True)
class State:
    """What a model keeps of its thoughts from one segment to the next."""

    high: Float[Tensor, "batch length dim"]  # becomes the answer
    low: Float[Tensor, "batch length dim"]  # the scratchpad

    def detach(self) -> "State":
        """The same numbers, cut off from how they came about."""
        return State(self.high.detach(), self.low.detach())


@dataclass(frozen=True)
class Segment:
    """What one segment of thinking gives."""

    state: State
    logits: Float[Tensor, "batch cells vocab"]
    halt: Float[Tensor, "batch"]  # above 0: the answer is held to be right
    go_on: Float[Tensor, "batch"]  # Q-learning's other value: what going on is worth


class RecursiveModel(nn.Module):
    """A puzzle solver as its config describes it.

        state = model.begin(len(puzzles))
        for _ in range(8):
            segment = model.segment(state, puzzles)
            state, answer = segment.state, segment.logits.argmax(-1)

    A "plain" model has no state to go on with: every segment gives the same answer.
    """

    high_start: Float[Tensor, "dim"]
    low_start: Float[Tensor, "dim"]
    places: Int[Tensor, "length"]

    def __init__(self, config: RecursionConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = PuzzleEmbedding(config)
        rotary = RotaryEmbedding(config.dim // config.num_heads, interleaved=False)
        turns = rotary if config.positions == "rotary" and config.mixer == "attention" else None
        self.low_network = RecursionNetwork(config, turns)
        self.high_network = self.low_network if config.shared else RecursionNetwork(config, turns)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        self.halting_head = nn.Linear(config.dim, 2)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                draw_lecun_(part.weight, part.in_features)
        # So that nobody halts before there is a reason to: both values begin at -5, whatever is read.
        nn.init.zeros_(self.halting_head.weight)
        nn.init.constant_(self.halting_head.bias, -5.0)
        for name in ("high_start", "low_start"):  # fixed, not learned
            self.register_buffer(name, nn.init.trunc_normal_(torch.empty(config.dim), std=1.0, a=-2.0, b=2.0))
        self.register_buffer("places", torch.arange(config.length), persistent=False)

    # ---------------------------------------------------------------------------------------------------------- thinking

    def begin(self, batch: int) -> State:
        """The states before the first segment."""
        shape = (batch, self.config.length, self.config.dim)
        return State(self.high_start.expand(shape), self.low_start.expand(shape))

    def segment(
        self, state: State, tokens: Int[Tensor, "batch cells"], puzzles: Int[Tensor, "batch"] | None = None
    ) -> Segment:
        """One segment of thinking about the puzzles, from the states that the last one left."""
        if tokens.dim() != 2 or tokens.shape[1] != self.config.cells:
            raise ValueError(
                f"puzzles have shape {list(tokens.shape)}, and this model reads (batch, {self.config.cells}): "
                f"grids of side {self.config.side}, row by row"
            )
        puzzle = self.embedding(tokens, puzzles)
        if self.config.kind == "plain":
            state = State(self.low_network(torch.zeros_like(puzzle), puzzle, self.places), state.low)
        else:
            state = self.think(state, puzzle)
        cells = state.high[:, self.config.prefix :]
        # The first position is the prefix's, made for this; without one, all cells have a say.
        halt, go_on = self.halting_head(state.high[:, 0] if self.config.prefix else cells.mean(dim=1)).unbind(-1)
        return Segment(state, self.head(cells), halt, go_on)

    def think(self, state: State, puzzle: Float[Tensor, "batch length dim"]) -> State:
        """The cycles of one segment. Where no gradient shall go, none is recorded, which saves its memory and time."""
        high, low, config = state.high, state.low, self.config
        for cycle in range(config.high_cycles):
            last = cycle == config.high_cycles - 1
            for step in range(config.low_cycles):
                with self._recorded(last, step == config.low_cycles - 1):
                    low = self.low_network(low, high + puzzle, self.places)
            with self._recorded(last, True):
                high = self.high_network(high, low, self.places)
        return State(high, low)

    def _recorded(self, last_cycle: bool, last_call: bool) -> torch.set_grad_enabled:
        """Whether the gradient goes through this call."""
        wanted = {"full": True, "last-cycle": last_cycle, "one-step": last_cycle and last_call}[self.config.gradient]
        return torch.set_grad_enabled(torch.is_grad_enabled() and wanted)

    @torch.no_grad()
    def solve(
        self,
        tokens: Int[Tensor, "batch cells"],
        segments: int | None = None,
        puzzles: Int[Tensor, "batch"] | None = None,
    ) -> list[Segment]:
        """All segments of thinking about the puzzles; as many as in training unless said otherwise."""
        state, found = self.begin(len(tokens)), []
        for _ in range(segments or self.config.segments):
            found.append(self.segment(state, tokens, puzzles))
            state = found[-1].state
        return found

    def num_parameters(self) -> int:
        """Learned numbers, without the table of puzzle embeddings (as HRM and TRM are counted)."""
        return sum(parameter.numel() for parameter in self.parameters())

    # -------------------------------------------------------------------------------------------------- saving and loading

    def description(self) -> str:
        """The config.json of a saved model."""
        return json.dumps({"format": FORMAT, "model": self.config.to_dict()}, indent=2) + "\n"

    def weights(self) -> dict[str, Tensor]:
        """Parameters, each once, and what else must be saved: the first states, the puzzles' embeddings."""
        known = {name for name, _ in self.named_parameters()}
        shared = {name for name, _ in self.named_parameters(remove_duplicate=False)} - known
        return {name: value for name, value in self.state_dict().items() if name not in shared}

    def save(self, path: str | Path) -> None:
        """Write a folder with model.safetensors and config.json; an existing model is replaced file by file."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{WEIGHTS}.partial"
        save_file({name: value.detach().contiguous() for name, value in self.weights().items()}, partial)
        partial.replace(folder / WEIGHTS)
        partial = folder / f".{CONFIG}.partial"
        partial.write_text(self.description(), encoding="utf-8")
        partial.replace(folder / CONFIG)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The model in a folder. FileNotFoundError or ValueError if there is none, or one of another kind."""
        folder = Path(path)
        if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
            raise FileNotFoundError(f"{folder} is not a saved model: it has no {CONFIG} and {WEIGHTS}")
        data = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if data.get("format") != FORMAT:
            raise ValueError(f"{folder} holds no puzzle model: its format is {data.get('format')!r}, not {FORMAT!r}")
        with torch.random.fork_rng(devices=[]):
            model = cls(RecursionConfig.from_dict(data["model"]))
        model.load_weights(read_weights(folder / WEIGHTS))
        return model

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take over what `weights` gave. ValueError names what is missing, unknown or of another shape."""
        expected = self.weights()
        wrong = [name for name in {*expected, *weights} if name not in weights or name not in expected]
        wrong += [name for name in expected if name in weights and weights[name].shape != expected[name].shape]
        if wrong:
            raise ValueError(f"these weights are not this model's: {', '.join(sorted(wrong)[:5])} do not fit")
        with torch.no_grad():
            for name, value in expected.items():
                value.copy_(weights[name])
