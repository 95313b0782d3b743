"""What a run has to remember so that, stopped anywhere, it goes on as if it had not been: everything that the next step depends on."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from minilm.model.files import lasting_buffers, saved_tensors
from minilm.training.checkpoints import Checkpoint
from minilm.training.errors import CheckpointError
from minilm.training.randomness import random_state

if TYPE_CHECKING:
    from minilm.training.trainer import Trainer


def state_of(trainer: "Trainer") -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """The model to publish, all other tensors, and everything else."""
    model, average = trainer.model, trainer.average
    weights = {name: tensor.detach() for name, tensor in saved_tensors(model).items()}
    tensors: dict[str, Tensor] = {}
    if average is not None:  # the average is what others should load, so it stands where a model's weights stand
        tensors |= {f"weights.{name}": weight for name, weight in weights.items()}
        weights = average.averages | lasting_buffers(model)
    elif trainer.publish is not None:
        tensors |= {f"weights.{name}": weight for name, weight in weights.items()}
        weights = trainer.publish(weights)
    optimizer_tensors, optimizer = pack_optimizer(trainer.optimizer)
    tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors.items()}
    random, random_tensors = random_state()
    tensors |= {f"random.{name}": value for name, value in random_tensors.items()}
    state = {
        "config": trainer.config.to_dict(),
        "tokens": trainer.tokens,
        "seconds": trainer.seconds,
        "optimizer": optimizer,
        "plateau": None if trainer.plateau is None else trainer.plateau.state_dict(),
        "average_updates": None if average is None else average.updates,
        "batches": trainer.batches.state_dict(),
        "random": random,
    }
    return weights, tensors, state


def load_state(trainer: "Trainer", checkpoint: Checkpoint) -> None:
    """Put a trainer where the checkpoint's run stood. CheckpointError if model, optimizer or data are not that run's."""
    state, average = checkpoint.state, trainer.average
    own = part(checkpoint.tensors, "weights") or checkpoint.weights
    model_tensors = saved_tensors(trainer.model)
    wrong = [name for name in {*own, *model_tensors} if name not in own or name not in model_tensors]
    wrong += [name for name in model_tensors if name in own and own[name].shape != model_tensors[name].shape]
    if wrong:
        raise CheckpointError(f"the checkpoint is of another model: {', '.join(sorted(wrong)[:5])} do not fit")
    try:
        trainer.batches.load_state_dict(state["batches"])
    except ValueError as error:
        raise CheckpointError(f"cannot resume: {error}") from error
    with torch.no_grad():
        for name, tensor in model_tensors.items():
            tensor.copy_(own[name])
    unpack_optimizer(trainer.optimizer, part(checkpoint.tensors, "optimizer"), state["optimizer"])
    if average is not None:  # one that the other run did not keep begins with its weights
        average.load(checkpoint.weights, state["average_updates"] or 0)
    if trainer.plateau is not None and state["plateau"] is not None:
        trainer.plateau.load_state_dict(state["plateau"])
    trainer.step_number, trainer.tokens, trainer.seconds = state["step"], state["tokens"], state["seconds"]
    trainer.random_state = (state["random"], part(checkpoint.tensors, "random"))


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


def pack_optimizer(optimizer: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state_dict, taken apart into tensors by "parameter.name" and what JSON can hold."""
    whole = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": value
        for index, entries in whole["state"].items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }
    numbers = {
        str(index): {name: value for name, value in entries.items() if not isinstance(value, Tensor)}
        for index, entries in whole["state"].items()
    }
    return tensors, {"numbers": numbers, "groups": whole["param_groups"]}


def unpack_optimizer(optimizer: Any, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Load what `pack_optimizer` took apart."""
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in plain["numbers"].items()}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value.clone()  # not a window onto a file that may go
    groups = [
        {name: tuple(value) if name == "betas" else value for name, value in group.items()} for group in plain["groups"]
    ]
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"the checkpoint's optimizer does not fit this one: {error}") from error
