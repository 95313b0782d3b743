"""From gradients to new weights: SGD, momentum, Adam and AdamW, the groups they treat apart, and clipping.

Each step works on all parameters of a group at once (`torch._foreach_...`), which is the same arithmetic in fewer calls.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from minilm.training.config import OptimizerConfig

Parameters = Iterable[Tensor] | Iterable[dict[str, Any]]


class Optimizer(torch.optim.Optimizer):
    """PyTorch's base class, with its groups, states and saving, but without the two seconds that its first call takes.

    PyTorch hides these methods from its compiler, and to do so it imports the compiler: they are used as they are behind that.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


class SGD(Optimizer):
    """w <- w - lr * g, or with momentum w <- w - lr * m, where m <- momentum * m + g starts at the first gradient.

    `nesterov` looks one step ahead: w <- w - lr * (g + momentum * m). `weight_decay` adds weight_decay * w to the gradient.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        _check_at_least_zero(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and not momentum:
            raise ValueError("nesterov = True looks ahead along the momentum, and momentum is 0: set momentum=0.9")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Change the weights by their gradients."""
        loss = _evaluate(closure)
        for group in self.param_groups:
            weights, gradients = _with_gradients(group)
            if not weights:
                continue
            if group["weight_decay"]:
                gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
            if group["momentum"]:
                gradients = self._momentum(group, weights, gradients)
            torch._foreach_add_(weights, gradients, alpha=-group["lr"])
        return loss

    def _momentum(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
        buffers = []
        for weight in weights:
            state = self.state[weight]
            if "momentum" not in state:  # 0 * momentum + g
                state["momentum"] = torch.zeros_like(weight)
            buffers.append(state["momentum"])
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, gradients)
        return list(torch._foreach_add(gradients, buffers, alpha=group["momentum"])) if group["nesterov"] else buffers


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015): the step of each weight is scaled by the size its gradients usually have.

    m <- b1 m + (1 - b1) g;   v <- b2 v + (1 - b2) g^2;   w <- w - lr * m' / (sqrt(v') + eps),
    where m' = m / (1 - b1^t) and v' = v / (1 - b2^t) undo the pull of the zeros that m and v start from.
    `weight_decay` adds weight_decay * w to the gradient (L2), so it is scaled like a gradient; `AdamW` does better.
    """

    decoupled = False

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        _check_at_least_zero(lr=lr, eps=eps, weight_decay=weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas = {betas}: each is the share of the past that is kept, at least 0 and below 1")
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Change the weights by their gradients."""
        loss = _evaluate(closure)
        for group in self.param_groups:
            weights, gradients = _with_gradients(group)
            if not weights:
                continue
            first, second, counts = self._moments(weights)
            rate, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
            if decay and self.decoupled:
                torch._foreach_mul_(weights, 1 - rate * decay)
            elif decay:
                gradients = list(torch._foreach_add(gradients, weights, alpha=decay))
            torch._foreach_lerp_(first, gradients, 1 - beta1)
            torch._foreach_mul_(second, beta2)
            torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
            size = torch._foreach_sqrt(second)
            torch._foreach_div_(size, [(1 - beta2**count) ** 0.5 for count in counts])
            torch._foreach_add_(size, group["eps"])
            torch._foreach_addcdiv_(weights, first, size, [-rate / (1 - beta1**count) for count in counts])
        return loss

    def _moments(self, weights: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[int]]:
        """m, v and t of every weight; t has counted this step."""
        states = [self.state[weight] for weight in weights]
        for state, weight in zip(states, weights, strict=True):
            if not state:
                state["step"] = 0
                state["first"] = torch.zeros_like(weight)
                state["second"] = torch.zeros_like(weight)
            state["step"] += 1
        return [s["first"] for s in states], [s["second"] for s in states], [s["step"] for s in states]


class AdamW(Adam):
    """Adam with the decay taken out of the gradient: w <- w - lr * weight_decay * w beside Adam's own step.

    So every weight shrinks at the same pace, whatever its gradients are (Loshchilov and Hutter 2019).
    """

    decoupled = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with weight decay, vectors (gains, biases) without, each parameter once.

    Decay pulls towards 0, and a gain's neutral value is 1: a decayed gain only fights the norm it belongs to. A table of
    biases, one row an expert, counts as vectors.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    matrices = [name for name, parameter in trained.items() if parameter.dim() >= 2 and not name.endswith("bias")]
    groups = [
        {"params": [trained[name] for name in matrices], "weight_decay": weight_decay},
        {"params": [p for name, p in trained.items() if name not in set(matrices)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, config: OptimizerConfig, learning_rate: float) -> torch.optim.Optimizer:
    """The config's optimizer over the model's parameter groups."""
    groups = parameter_groups(model, config.weight_decay)
    if config.kind == "sgd":
        return SGD(groups, learning_rate, momentum=config.momentum)
    kind = AdamW if config.kind == "adamw" else Adam
    return kind(groups, learning_rate, betas=(config.beta1, config.beta2), eps=config.eps)


def set_rate(optimizer: Any, rate: float) -> None:
    """Set the learning rate of all groups, or of an optimizer that has no groups and keeps its rate in `lr`."""
    groups = getattr(optimizer, "param_groups", None)
    if groups is None:
        optimizer.lr = rate
        return
    for group in groups:
        group["lr"] = rate


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of all gradients as one long vector."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = [norm.to(gradients[0].device) for norm in torch._foreach_norm(gradients)]
    return torch.linalg.vector_norm(torch.stack(norms))  # type: ignore[no-any-return]


def clip_gradients(parameters: Iterable[Tensor], max_norm: float | None) -> float:
    """Scale all gradients by one factor so that their norm is at most `max_norm`; returns the norm before.

    One factor for all keeps the direction. With None nothing is scaled, and gradients that are not finite are left as they are.
    """
    parameters = list(parameters)
    norm = float(gradient_norm(parameters))
    if max_norm is not None and max_norm < norm < float("inf"):
        torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], max_norm / norm)
    return norm


def _with_gradients(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    weights = [weight for weight in group["params"] if weight.grad is not None]
    return weights, [weight.grad for weight in weights]


def _evaluate(closure: Callable[[], float] | None) -> float | None:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _check_at_least_zero(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name} = {value}: it must be at least 0")
