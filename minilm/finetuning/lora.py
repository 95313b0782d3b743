"""LoRA (Hu et al. 2021): leave a matrix W as it is and learn a thin one beside it, W + scale * B A with rank r far below W's.

B starts at zero, so at first nothing is changed. Training needs gradients and Adam's moments for A and B only, and afterwards
W + scale * B A is one matrix again, which costs nothing at inference. DoRA (Liu et al. 2024) learns direction and length apart:
the rows of W + scale * B A are brought to learned lengths m, which start at those of W.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from minilm.config import Config
from minilm.model import LanguageModel
from minilm.model.files import read_weights, saved_tensors

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
WEIGHTS, DESCRIPTION = "adapter.safetensors", "adapter.json"
FORMAT = "minilm-adapter-1"


@dataclass(frozen=True)
class LoRAConfig(Config):
    """Which matrices get an adapter, and of what size."""

    rank: int = 8
    alpha: float = 16.0  # the adapter is scaled by alpha / rank, so that its pace depends little on the rank
    dropout: float = 0.0  # of what the adapter reads, while it trains
    projections: str = "all"  # "attention", "feed-forward", "all", or names with commas: "q_proj,v_proj"
    dora: bool = False
    also: str = ""  # parts that are trained in full beside the adapters, with commas: "embedder" where tokens are new

    def validate(self) -> None:
        """Check ranges and names."""
        if self.rank < 1:
            raise ValueError(f"LoRAConfig.rank = {self.rank}: it must be at least 1")
        if not self.alpha > 0:
            raise ValueError(f"LoRAConfig.alpha = {self.alpha}: it must be above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"LoRAConfig.dropout = {self.dropout}: it must be at least 0 and below 1")
        if not self.names:
            raise ValueError(
                "LoRAConfig.projections names no matrix: choose 'attention', 'feed-forward', 'all', or names"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the matrices that get an adapter."""
        groups = {"attention": ATTENTION, "feed-forward": FEED_FORWARD, "all": (*ATTENTION, *FEED_FORWARD)}
        return groups.get(self.projections) or _words(self.projections)

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / self.rank


class LoRALinear(nn.Linear):
    """A linear layer with an adapter: x W^T + scale * dropout(x) A^T B^T + bias. W and bias keep their names and are not trained.

    `lora_a` is (rank, inputs), drawn as PyTorch draws a linear layer's weights; `lora_b` is (outputs, rank) and starts at zero.
    """

    def __init__(self, base: nn.Linear, config: LoRAConfig) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.config, self.scale, self.dropout = config, config.scale, config.dropout
        where, kind = base.weight.device, base.weight.dtype
        self.lora_a = nn.Parameter(torch.empty(config.rank, base.in_features, device=where, dtype=kind))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, config.rank, device=where, dtype=kind))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                parameter.requires_grad_(False)

    def forward(self, x: Float[Tensor, "*shape inputs"]) -> Float[Tensor, "*shape outputs"]:
        """The layer's answer and its adapter's."""
        return F.linear(x, self.weight, self.bias) + self.adapted(x)

    def adapted(self, x: Tensor) -> Tensor:
        """What the adapter adds."""
        seen = F.dropout(x, self.dropout) if self.dropout and self.training else x
        return F.linear(F.linear(seen, self.lora_a), self.lora_b) * self.scale  # rank numbers a position in between

    @torch.no_grad()
    def merged(self) -> Float[Tensor, "outputs inputs"]:
        """The one matrix that does the same."""
        return self.weight + self.scale * self.lora_b @ self.lora_a

    def extra_repr(self) -> str:
        """Shape and adapter."""
        return f"{super().extra_repr()}, rank={self.lora_a.shape[0]}, scale={self.scale:g}"


class DoRALinear(LoRALinear):
    """LoRA on the direction of each row, and its length learned apart: m * (W + scale * B A) / |W + scale * B A|, row by row.

    `magnitude` is (outputs,). The length in the denominator is taken as a constant by the gradient (section 4.3 of the paper),
    which saves memory and hardly changes the result.
    """

    def __init__(self, base: nn.Linear, config: LoRAConfig) -> None:
        super().__init__(base, config)
        self.magnitude = nn.Parameter(torch.linalg.vector_norm(base.weight.detach(), dim=1))

    def forward(self, x: Float[Tensor, "*shape inputs"]) -> Float[Tensor, "*shape outputs"]:
        """The layer with its rows turned by the adapter and brought to their lengths."""
        out = (F.linear(x, self.weight) + self.adapted(x)) * self._stretch()
        return out if self.bias is None else out + self.bias

    def _stretch(self) -> Float[Tensor, "outputs"]:
        length: Tensor = torch.linalg.vector_norm(super().merged(), dim=1)
        return self.magnitude / length.clamp(min=torch.finfo(length.dtype).tiny)

    @torch.no_grad()
    def merged(self) -> Float[Tensor, "outputs inputs"]:
        """The one matrix that does the same."""
        return self._stretch()[:, None] * super().merged()


# ------------------------------------------------------------------------------------------------------- a whole model


def add_lora(model: LanguageModel, config: LoRAConfig | None = None, seed: int = 0) -> LanguageModel:
    """Give the model's matrices adapters, in place, and freeze everything else; returns the model.

    Raises ValueError, naming what there is, if no matrix of those names is a linear layer, for a part in `also` that isn't there, and for
    a model that has adapters already.
    """
    config = config or LoRAConfig()
    if any(True for _ in adapters(model)):
        raise ValueError("the model has adapters already: merge(model) folds them in, and then it can get new ones")
    found = [
        (parent, name, part)
        for parent in model.modules()
        for name, part in parent.named_children()
        if type(part) is nn.Linear and name in config.names
    ]
    if not found:
        known = sorted({path.rpartition(".")[2] for path, part in model.named_modules() if type(part) is nn.Linear})
        raise ValueError(f"no linear layer is called {' or '.join(config.names)}: this model has {', '.join(known)}")
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for parent, name, part in found:
            setattr(parent, name, (DoRALinear if config.dora else LoRALinear)(part, config))
    for path in _words(config.also):
        try:
            model.get_submodule(path).requires_grad_(True)
        except AttributeError:
            raise ValueError(
                f"also = {config.also!r}: the model has no part {path!r}; it has embedder, core, head"
            ) from None
    return model


def adapters(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """The layers with an adapter, by name."""
    return ((name, part) for name, part in model.named_modules() if isinstance(part, LoRALinear))


def merge(model: LanguageModel) -> LanguageModel:
    """Fold the adapters into their matrices, in place: the same function, with the shapes and names of before; returns the model.

    Everything can be trained again afterwards.
    """
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, LoRALinear):
                plain = nn.Linear(part.in_features, part.out_features, bias=False, device="meta")
                plain.weight, plain.bias = part.weight, part.bias
                plain.weight.data = part.merged()
                setattr(parent, name, plain.train(part.training))
    return model.requires_grad_(True)


def merged_weights(model: LanguageModel) -> dict[str, Tensor]:
    """The weights by name that `merge` would leave, without touching the model: what its folder should hold while it trains."""
    weights = {name: tensor.detach() for name, tensor in saved_tensors(model).items() if not _is_adapter(name)}
    return weights | {f"{name}.weight": part.merged() for name, part in adapters(model)}


def trainable(model: nn.Module) -> tuple[int, int]:
    """How many parameters are trained, and how many there are."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)


# ------------------------------------------------------------------------------------------------------- its own folder


def save_adapter(model: LanguageModel, path: str | Path) -> None:
    """Write what was trained, and nothing else, to a folder: adapter.safetensors, and adapter.json with the config."""
    path = Path(path)
    tensors = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    config = next((part.config for _, part in adapters(model)), None)
    if config is None:
        raise ValueError("the model has no adapters: add_lora(model) gives it some, and merge(model) takes them away")
    path.mkdir(parents=True, exist_ok=True)
    description = {"format": FORMAT, "lora": config.to_dict()}
    save_file(tensors, path / f".{WEIGHTS}.partial", metadata={"format": "pt"})
    (path / f".{DESCRIPTION}.partial").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    for name in (WEIGHTS, DESCRIPTION):
        (path / f".{name}.partial").replace(path / name)


def load_adapter(model: LanguageModel, path: str | Path) -> LoRAConfig:
    """Give a model the adapters of a folder, in place; returns their config.

    Raises ValueError, listing what differs, for adapters of another model, and for a folder that holds none.
    """
    path = Path(path)
    try:
        description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        if description.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        config = LoRAConfig.from_dict(description["lora"])
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} holds no adapter ({error}): it is a folder with {DESCRIPTION} and {WEIGHTS}"
        ) from None
    tensors = read_weights(path / WEIGHTS)
    add_lora(model, config)
    own = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    differences = [f"missing: {name}" for name in own if name not in tensors]
    differences += [f"unknown: {name}" for name in tensors if name not in own]
    differences += [
        f"shape: {name} is {list(tensors[name].shape)}, the model's is {list(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if differences:
        _remove(model)
        raise ValueError(f"the adapter in {path} is another model's:\n  " + "\n  ".join(differences))
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])
    return config


def _remove(model: LanguageModel) -> None:
    """Take adapters away that have not changed anything yet."""
    with torch.no_grad():
        for _, part in adapters(model):
            part.lora_b.zero_()
    merge(model)


def _is_adapter(name: str) -> bool:
    return name.rpartition(".")[2] in ("lora_a", "lora_b", "magnitude")


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
