"""Checkpoints that survive a kill at any moment: written beside, flushed to the disk, and renamed; nothing is ever unpickled.

A checkpoint is a folder `step-00000100` with

- model.safetensors and config.json: a model that `LanguageModel.load` reads (the averaged weights, where an average is kept);
- training.safetensors: what else is tensors (the optimizer's state, the weights of the step beside an average, random states);
- state.json: what else is not (step, schedule, place in the data, the config);
- checksums.json: the SHA-256 of every other file.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minilm.model.files import CONFIG, FORMAT, TOKENIZER, WEIGHTS, read_weights
from minilm.model.language_model import LanguageModel
from minilm.training.errors import CheckpointError

TRAINING, STATE, CHECKSUMS = "training.safetensors", "state.json", "checksums.json"
NAME = re.compile(r"step-(\d{8,})")

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass
class Checkpoint:
    """What a checkpoint holds."""

    path: Path
    weights: dict[str, Tensor]
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write_checkpoint(
    folder: Path,
    step: int,
    weights: Mapping[str, Tensor],
    config: str,
    tensors: Mapping[str, Tensor],
    state: dict[str, Any],
) -> Path:
    """Write checkpoint `step` into a folder of checkpoints; it appears under its name only when all of it is on the disk.

    CheckpointError if it cannot be written (a full disk, a folder one may not write to); what was there before stays as it was.
    """
    final = folder / f"step-{step:08d}"
    partial = folder / f".{final.name}.{os.getpid()}.partial"
    try:
        text = json.dumps({"format": FORMAT, "step": step, **state})
    except TypeError as error:
        raise CheckpointError(
            f"a state holds what JSON cannot ({error}): give state_dict numbers, text and lists"
        ) from error
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        checksums = {
            WEIGHTS: write_tensors(partial / WEIGHTS, weights),
            TRAINING: write_tensors(partial / TRAINING, tensors),
            CONFIG: _write_bytes(partial / CONFIG, config.encode()),
            STATE: _write_bytes(partial / STATE, text.encode()),
        }
        _write_bytes(partial / CHECKSUMS, json.dumps(checksums, indent=2).encode())
        partial.rename(final)
        flush_folder(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(_cannot_write(folder, step, weights, tensors, error)) from error
    return final


def _cannot_write(
    folder: Path, step: int, weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor], error: OSError
) -> str:
    needed = sum(t.numel() * t.element_size() for t in [*weights.values(), *tensors.values()])
    text = f"the checkpoint of step {step} cannot be written to {folder} ({error.strerror or error}): it takes {needed / 1e6:.1f} MB"
    try:
        text += f", and {shutil.disk_usage(folder).free / 1e6:.1f} MB are free there"
        earlier = list_checkpoints(folder)
    except OSError:
        earlier = []
    kept = f"{earlier[-1].name} is intact, and the run resumes from it" if earlier else "there is no earlier one"
    return f"{text}. {kept[0].upper()}{kept[1:]}. Make room, or choose a folder you may write to."


def read_checkpoint(path: Path) -> Checkpoint:
    """All of a checkpoint; CheckpointError if any file is missing or not what was written."""
    try:
        checksums = json.loads((path / CHECKSUMS).read_text(encoding="utf-8"))
        for name in (WEIGHTS, TRAINING, CONFIG, STATE):
            if _checksum(path / name) != checksums[name]:
                raise CheckpointError(f"{path} is damaged: {name} is not what was written")
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        return Checkpoint(path, read_weights(path / WEIGHTS), read_weights(path / TRAINING), state)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged or cannot be read: {error}") from error


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, by step."""
    found = [path for path in folder.glob("step-*") if NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    match = NAME.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"{path} is no checkpoint: its name is not step-NNNNNNNN")
    return int(match[1])


def newest_readable(folder: Path) -> tuple[Checkpoint, list[tuple[Path, str]]] | None:
    """The newest checkpoint that is whole, and what is wrong with newer ones; None where there is no checkpoint at all.

    CheckpointError if there are some and none is whole.
    """
    problems: list[tuple[Path, str]] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return read_checkpoint(path), problems
        except CheckpointError as error:
            problems.append((path, str(error)))
    if problems:
        raise CheckpointError(f"no checkpoint in {folder} can be used:\n  " + "\n  ".join(text for _, text in problems))
    return None


def prune(folder: Path, keep: int | None, always: frozenset[int]) -> None:
    """Remove all but the newest `keep` checkpoints and those of the steps in `always`."""
    loose = [path for path in list_checkpoints(folder) if step_of(path) not in always]
    for path in loose[: -keep if keep else 0]:
        doomed = path.with_name(f".{path.name}.partial")  # no longer a checkpoint, before its first file goes
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process had begun to write or to remove."""
    for path in folder.glob(".step-*.partial"):
        shutil.rmtree(path, ignore_errors=True)


# --------------------------------------------------------------------------------------------------- the run's own folder


def describe_model(model: LanguageModel) -> str:
    """The config.json of a saved model."""
    description = {"format": FORMAT, "own_parts": model.own_part_names(), "model": model.config.to_dict()}
    return json.dumps(description, indent=2) + "\n"


def publish(checkpoint: Path, out: Path) -> None:
    """Make a run's folder hold the model of a checkpoint: the same file under a second name where the system can."""
    for name in (WEIGHTS, CONFIG):
        partial = out / f".{name}.partial"
        partial.unlink(missing_ok=True)
        try:
            os.link(checkpoint / name, partial)
        except OSError:
            shutil.copyfile(checkpoint / name, partial)
        partial.replace(out / name)
    if (out / TOKENIZER).exists() and not (checkpoint / TOKENIZER).exists():
        try:
            os.link(out / TOKENIZER, checkpoint / TOKENIZER)
        except OSError:
            shutil.copyfile(out / TOKENIZER, checkpoint / TOKENIZER)


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    _write_bytes(partial, text.encode())
    partial.replace(path)


# -------------------------------------------------------------------------------------------------------- files and bytes


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file and flush it to the disk; returns the SHA-256 of its bytes.

    The format is eight bytes with the length of a JSON header, the header, and the tensors' bytes in its order. Written by hand, so
    that a full disk is an OSError like any other and the checksum is made on the way.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data, position = [], 0
    for name, tensor in tensors.items():
        raw = tensor.detach().cpu().contiguous()
        size = raw.numel() * raw.element_size()
        header[name] = {
            "dtype": DTYPES[raw.dtype],
            "shape": list(raw.shape),
            "data_offsets": [position, position + size],
        }
        position += size
        data.append(memoryview(raw.reshape(-1).view(torch.uint8).numpy()))  # type: ignore[arg-type]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors' bytes are aligned
    return _write_bytes(path, len(text).to_bytes(8, "little"), text, *data)


def _write_bytes(path: Path, *pieces: bytes | memoryview) -> str:
    """Write a file, flush it to the disk, and return the SHA-256 of its bytes."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_folder(folder: Path) -> None:
    """Flush a folder's own entries to the disk, where the system has that (a rename is only safe after it)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
