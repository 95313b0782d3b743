"""What a model costs: parameters, operations, memory.

Operations and activations are not estimated from formulas, which would know only the parts they were written for: the model makes a
dry run on tensors that have shapes and no memory, and every operator and every tensor kept for the backward pass is counted.
The lesson derives the same numbers by hand.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from minilm.config import ModelConfig

if TYPE_CHECKING:
    from minilm.model.language_model import LanguageModel

MIB = 2**20

# What a mixture of experts calls its parts; an expert that every token passes through is a feed-forward like any other.
MIXTURE_PARTS = {
    "gate": "router",
    "router_gate": "router",
    "experts": "experts",
    "down_embed": "experts",
    "up_embed": "experts",
}


@dataclass(frozen=True)
class Summary:
    """The accounts of one model for batches of `batch_size` sequences of `length` tokens. `print` it for a table."""

    name: str
    batch_size: int
    length: int
    parts: dict[str, tuple[int, int]]  # parameters by part: counted once each, and as dlib counts
    forward_flops: int  # multiplications and additions of matrix products, for one token of a full window
    training_flops: int  # forward and backward, for one token
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int  # AdamW: two float32 numbers a parameter
    activation_bytes: int  # kept by the forward pass and the loss for the backward pass, for the whole batch
    kv_cache_bytes: int | None  # for the whole batch at full length; None: cannot be cached
    idle_parameters: int = 0  # of a mixture of experts: those that one token does not pass through

    @property
    def parameters(self) -> int:
        """All parameters, each once."""
        return sum(every for every, _ in self.parts.values())

    @property
    def dlib_parameters(self) -> int:
        """All parameters by dlib's count."""
        return sum(dlib for _, dlib in self.parts.values())

    @property
    def training_bytes(self) -> int:
        """What training with AdamW holds at its peak, short of temporary results."""
        return self.weight_bytes + self.gradient_bytes + self.optimizer_bytes + self.activation_bytes

    def __str__(self) -> str:
        lines = [f"{self.name}: batch {self.batch_size} x {self.length} tokens", ""]
        lines.append(f"{'parameters':<24}{'all':>14}{'share':>8}{'as dlib counts':>18}")
        for part, (every, dlib) in self.parts.items():
            lines.append(f"  {part:<22}{every:>14,}{every / max(self.parameters, 1):>8.1%}{dlib:>18,}")
        lines.append(f"  {'total':<22}{self.parameters:>14,}{'':>8}{self.dlib_parameters:>18,}")
        if self.idle_parameters:
            active, dlib = (count - self.idle_parameters for count in (self.parameters, self.dlib_parameters))
            lines.append(f"  {'active for a token':<22}{active:>14,}{active / self.parameters:>8.1%}{dlib:>18,}")
        lines += ["", f"{'operations a token':<24}{'MFLOP':>14}"]
        lines.append(f"  {'forward':<22}{self.forward_flops / 1e6:>14,.2f}")
        lines.append(f"  {'forward and backward':<22}{self.training_flops / 1e6:>14,.2f}")
        lines += ["", f"{'memory':<24}{'MiB':>14}"]
        memory = {
            "weights": self.weight_bytes,
            "gradients": self.gradient_bytes,
            "AdamW": self.optimizer_bytes,
            "activations": self.activation_bytes,
            "training, together": self.training_bytes,
        }
        lines += [f"  {what:<22}{size / MIB:>14,.2f}" for what, size in memory.items()]
        cache = "none possible" if self.kv_cache_bytes is None else f"{self.kv_cache_bytes / MIB:,.2f}"
        lines.append(f"  {'KV cache':<22}{cache:>14}")
        return "\n".join(lines)


def summarize(model: "LanguageModel", batch_size: int = 1, length: int | None = None) -> Summary:
    """The accounts of a model at a batch size and length (context_length unless given). Works on the meta device too."""
    length = length or model.config.context_length
    dtype = next(model.parameters()).dtype
    forward, training, activations = dry_run(model, batch_size, length)
    count = model.num_parameters()
    return Summary(
        name=type(model).__name__,
        batch_size=batch_size,
        length=length,
        parts=parameters_by_part(model),
        forward_flops=forward // (batch_size * length),
        training_flops=training // (batch_size * length),
        weight_bytes=count * dtype.itemsize,
        gradient_bytes=count * dtype.itemsize,
        optimizer_bytes=2 * 4 * count,
        activation_bytes=activations,
        kv_cache_bytes=None if model._no_cache else kv_cache_bytes(model.config, batch_size, length, dtype),
        idle_parameters=count - model.num_parameters(active=True),
    )


def parameters_by_part(model: "LanguageModel") -> dict[str, tuple[int, int]]:
    """Parameters of each part, all and by dlib's count. What parts share is counted where it first appears."""
    from minilm.exhibits import counted_by_dlib

    names = {
        "embedder.tokens": "token table",
        "embedder.positions": "position table",
        "attention": "attention",
        "feed_forward": "feed-forward",
        "router": "routers",
        "experts": "experts",
        "norm": "norms",
        "residual": "residual scales",
        "head": "head",
    }
    by_dlib = {id(parameter) for parameter in counted_by_dlib(model)}
    counts = {part: [0, 0] for part in (*names.values(), "other")}
    for name, parameter in model.named_parameters():
        path = name.split(".")
        if (
            path[0] == "core"
        ):  # core.layers.3.attention.q_proj.weight, core.layers.3.attention_norm.weight, core.norm.weight
            owner = path[3] if path[1] == "layers" else path[1]
            owner = "norm" if owner.endswith("norm") else owner
            owner = "residual" if owner.endswith("_residual") else owner
            if owner == "feed_forward" and path[4] in MIXTURE_PARTS:
                owner = MIXTURE_PARTS[path[4]]
        else:
            owner = ".".join(path[:2]) if path[0] == "embedder" else path[0]
        count = counts[names.get(owner, "other")]
        count[0] += parameter.numel()
        count[1] += parameter.numel() if id(parameter) in by_dlib else 0
    return {part: (every, dlib) for part, (every, dlib) in counts.items() if every}


def kv_cache_bytes(config: ModelConfig, batch_size: int, length: int, dtype: torch.dtype = torch.float32) -> int:
    """Bytes of keys and values: 2 * layers * kv_heads * head_dim for each position that is kept.

    A dynamic mask keeps at most its window, for each key-value head and each of the masks of its group, and one newcomer; beside
    each key it stores the position, 8 bytes, and the biases, in float32 or wider.
    """
    attention = config.attention
    kept = length if attention.window is None else attention.sinks + attention.window
    beside = 0
    if attention.dynamic_mask is not None and attention.window is None:
        masks = 1 if attention.dynamic_mask.per == "kv-head" else attention.num_heads // config.num_kv_heads
        kept = min(length, masks * attention.dynamic_mask.keep_window + 1)
        beside = 8 + masks * max(dtype.itemsize, 4)
    each = 2 * config.head_dim * dtype.itemsize + beside
    return config.num_layers * config.num_kv_heads * kept * batch_size * each


def attention_flops(config: ModelConfig, length: int) -> int:
    """Operations of scores and averages for one token of a window, all layers: 4 * length * num_heads * head_dim each.

    Counted over all pairs of positions, as the counters of the field do; a causal kernel may skip nearly half.
    """
    return 4 * length * config.attention.num_heads * config.head_dim * config.num_layers


def dry_run(model: "LanguageModel", batch_size: int, length: int) -> tuple[int, int, int]:
    """Forward FLOPs, forward and backward FLOPs, and bytes kept for the backward pass, without computing anything."""
    parts = {role: part for role, part in model.own_parts.items() if part is not None}
    usual = torch.get_default_dtype()
    try:
        torch.set_default_dtype(next(model.parameters()).dtype)
        with FakeTensorMode(), torch.device("cpu"):
            twin = type(model)(model.config, **parts).train()
            return measure_step(twin, torch.zeros(batch_size, length, dtype=torch.long))
    finally:
        torch.set_default_dtype(usual)


def measure_step(model: torch.nn.Module, ids: torch.Tensor) -> tuple[int, int, int]:
    """The same by watching one training step of a model, real or not, on next-token cross-entropy."""
    parameters = {_storage(p) for p in model.parameters()}
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # storages are told apart by address: none may be freed and used again meanwhile

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if _storage(tensor) not in parameters:
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
        return tensor

    flash = torch.ops.aten
    mapping: dict[Any, Any] = {
        flash._scaled_dot_product_flash_attention_for_cpu: _attention_forward,
        flash._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            logits = model(ids)
            targets = torch.zeros(logits.shape[:2], dtype=torch.long, device=logits.device)
            forward = counter.get_total_flops()
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
    return forward, counter.get_total_flops(), sum(kept.values())


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _attention_forward(q: Any, k: Any, v: Any, *rest: Any, **options: Any) -> int:
    """q k^T and weights v: 2 * 2 * batch * heads * queries * keys * head_dim. (PyTorch's counter lacks the CPU's kernel.)"""
    batch, heads, queries, head_dim = q
    return int(4 * batch * heads * queries * k[2] * head_dim)


def _attention_backward(grad: Any, q: Any, k: Any, *rest: Any, **options: Any) -> int:
    """Five products of that size instead of two: the scores again, and the gradients of weights, q, k and v."""
    batch, heads, queries, head_dim = q
    return int(10 * batch * heads * queries * k[2] * head_dim)
