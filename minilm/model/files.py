"""Saving and loading: a folder with model.safetensors, config.json and, if given, tokenizer.json. Nothing is ever unpickled.

A folder is written beside its place under another name and then renamed, so that a killed process leaves the old one or the new
one and no mixture. What does not fit is refused with a list of what differs.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from minilm.config import ModelConfig
from minilm.model.parts import PartClass

if TYPE_CHECKING:
    from minilm.model.language_model import LanguageModel

Model = TypeVar("Model", bound="LanguageModel")

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
FORMAT = "minilm-1"


def save(model: "LanguageModel", path: str | Path, tokenizer: Any = None) -> None:
    """Write the model's folder. `tokenizer` is anything with `save(path)`, or the path of a tokenizer.json to copy.

    A parameter that several parts share (a tied table, a shared feed-forward) is written once. What is no parameter and yet part of
    the model (how the experts of a mixture were used, say) is written too.
    """
    path = Path(path)
    if path.exists() and not ((path / CONFIG).exists() or (path.is_dir() and not any(path.iterdir()))):
        raise FileExistsError(f"{path} exists and is not a saved model: choose another place, or remove it first")
    if (path / "checkpoints").exists():
        raise FileExistsError(f"{path} is a training run, whose checkpoints would go: choose another place")
    partial, previous = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.previous")
    for leftover in (partial, previous):
        if leftover.exists() and (leftover is partial or path.exists()):
            shutil.rmtree(leftover)
    partial.mkdir(parents=True)
    tensors = {name: tensor.detach().contiguous() for name, tensor in saved_tensors(model).items()}
    save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
    description = {"format": FORMAT, "own_parts": model.own_part_names(), "model": model.config.to_dict()}
    (partial / CONFIG).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    if isinstance(tokenizer, str | Path):
        shutil.copyfile(tokenizer, partial / TOKENIZER)
    elif tokenizer is not None:
        tokenizer.save(partial / TOKENIZER)
    if path.exists():
        path.rename(previous)
    partial.rename(path)
    shutil.rmtree(previous, ignore_errors=True)


def load(
    cls: type[Model], path: str | Path, device: str | torch.device, parts: Mapping[str, PartClass | None]
) -> Model:
    """The model in a folder, with the weights' own precision.

    Raises FileNotFoundError for a folder without its files, ValueError for a damaged file, for weights that are not the config's
    (listing every name missing, unknown or of another shape), and for a model with a class of its own that is not given.
    """
    path = _folder(Path(path))
    config, own_parts = read_config(path)
    absent = [f"{role}={name}" for role, name in own_parts.items() if parts.get(role) is None]
    if absent:
        raise ValueError(
            f"{path} was saved with parts of its own, which a file cannot hold: load it with "
            f"LanguageModel.load({str(path)!r}, {', '.join(absent)})"
        )
    tensors = read_weights(path / WEIGHTS)
    with torch.random.fork_rng(devices=[]):  # its first weights are thrown away: nobody's random numbers should move
        model = cls(config, **parts)
    expected = saved_tensors(model)
    differences = [f"missing: {name} {list(expected[name].shape)}" for name in expected if name not in tensors]
    differences += [f"unknown: {name} {list(tensors[name].shape)}" for name in tensors if name not in expected]
    differences += [
        f"shape: {name} is {list(tensors[name].shape)}, the config makes it {list(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    if differences:
        raise ValueError(f"the weights in {path} are not those of its config:\n  " + "\n  ".join(differences))
    for name, tensor in expected.items():
        tensor.data = tensors[name]
    return model.to(device)


def saved_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that a saved model consists of, the model's own: its parameters, each once, and its lasting buffers."""
    return dict(model.named_parameters()) | lasting_buffers(model)


def lasting_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """What the model remembers beside its parameters and keeps when it is saved."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if name not in parameters}


def _folder(path: Path) -> Path:
    """The folder itself, or what a process killed while replacing it left as the previous one."""
    previous = path.with_name(f".{path.name}.previous")
    return previous if not path.exists() and previous.exists() else path


def read_config(path: Path) -> tuple[ModelConfig, dict[str, str]]:
    """The config in a saved model's folder, and the names of its own parts."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is no folder: a saved model is one, with {CONFIG} and {WEIGHTS}")
    absent = [name for name in (CONFIG, WEIGHTS) if not (path / name).exists()]
    if absent:
        raise FileNotFoundError(f"{path} lacks {' and '.join(absent)}: it is not a (whole) saved model")
    try:
        data = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path / CONFIG} is damaged: {error}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        if isinstance(data, dict) and "model_type" in data:
            raise ValueError(
                f"{path} holds a transformers model of type {data['model_type']!r}: load it with transformers and "
                "minilm.interop.from_transformers"
            )
        raise ValueError(f"{path / CONFIG} is not a minilm config: its format is not {FORMAT!r}")
    return ModelConfig.from_dict(data["model"]), dict(data.get("own_parts", {}))


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; ValueError if it is cut short or damaged."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut short ({error}): copy or save it again") from None
