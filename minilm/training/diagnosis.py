"""Where infinity came from: the first layer whose output, or whose gradient, is not finite."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from minilm.training.batches import Batch
from minilm.training.errors import NotFiniteError

if TYPE_CHECKING:
    from minilm.training.trainer import Trainer


def not_finite(trainer: "Trainer", step: int, loss: float, norm: float, batches: list[Batch]) -> NotFiniteError:
    """Do a step's computation once more under observation, and say where it breaks."""
    layer, what = "no layer", ""
    for batch in batches:
        trainer.optimizer.zero_grad()
        layer, what = find_not_finite(trainer.network, lambda batch=batch: trainer.batch_loss(batch))  # type: ignore[misc]
        if layer != "no layer":
            break
    trainer.optimizer.zero_grad()
    rate = trainer.config.learning_rate * trainer.factor(step)
    saved = trainer.folder.newest_name() if trainer.folder is not None else None
    return NotFiniteError(
        f"step {step}: the loss is {loss:.4g} and the gradient norm {norm:.4g}. It begins in {layer}: {what}. "
        f"The weights are still those of step {step - 1}. Try a lower learning rate than {rate:.3g}, a longer warm-up, or "
        f"clipping (now clip={trainer.config.clip})" + (f"; {saved} can be resumed." if saved else "."),
        step,
        layer,
    )


def find_not_finite(model: nn.Module, compute_loss: Callable[[], Tensor]) -> tuple[str, str]:
    """Compute a loss again, watching every layer; returns the first layer that is not finite, and what of it.

    Looked at in this order: the weights; what each layer gives in the forward pass, in the order of its work; the loss; the gradient
    of what each layer gives, in the order of the backward pass; the gradients of the weights.
    """
    for name, parameter in model.named_parameters():
        if not finite(parameter):
            return layer_of(name), f"its weights ({name}) are not finite"
    found: list[tuple[str, str]] = []

    def watch(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def look(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if not isinstance(output, Tensor) or not output.is_floating_point():
                return
            if not finite(output):
                if not found and largest(inputs) in ("NaN", "inf"):  # it broke between layers, in what holds them
                    found.append(
                        (name.rpartition(".")[0] or name, f"between its parts, before {name.rpartition('.')[2]}")
                    )
                elif not found:
                    found.append((name, f"its output is not finite; its input reaches {largest(inputs)}"))
            elif output.requires_grad:
                output.register_hook(look_back)  # type: ignore[no-untyped-call]

        def look_back(gradient: Tensor) -> None:
            if not found and not finite(gradient):
                found.append((name, "the gradient that reaches its output is not finite"))

        return look

    layers = [
        (name or type(model).__name__, part)
        for name, part in model.named_modules()
        if not list(part.children()) or part is model
    ]
    handles = [part.register_forward_hook(watch(name)) for name, part in layers]
    try:
        loss = compute_loss()
        if found:
            return found[0]
        if not finite(loss):
            return "the loss", "every layer's output is finite, and the loss is not"
        loss.backward()  # type: ignore[no-untyped-call]
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return found[0]
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not finite(parameter.grad):
            return layer_of(name), f"the gradient of its weights ({name}) is not finite"
    return "no layer", "computed once more, everything is finite"


def finite(tensor: Tensor) -> bool:
    """Whether every entry is a finite number."""
    return bool(torch.isfinite(tensor).all())


def layer_of(parameter: str) -> str:
    """The layer that a parameter belongs to, by name."""
    return parameter.rpartition(".")[0] or "the model"


def largest(inputs: tuple[object, ...]) -> str:
    """The largest magnitude among a layer's inputs."""
    sizes = [
        float(x.detach().abs().max()) for x in inputs if isinstance(x, Tensor) and x.is_floating_point() and x.numel()
    ]
    top = max(sizes, default=math.nan) if not any(math.isnan(size) for size in sizes) else math.nan
    return "NaN" if math.isnan(top) else f"{top:.3g}"
