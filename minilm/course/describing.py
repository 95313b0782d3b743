"""Values in a few characters: what a learner's function got and gave, short enough for a sentence."""

import inspect
import linecache
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minilm.course.inputs import Case
from minilm.course.results import verbatim

WIDTH = 72


def is_tensor(value: Any) -> bool:
    """Whether the value is a torch tensor; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_array(value: Any) -> bool:
    """Whether the value is a numpy array."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def describe(value: Any, width: int = WIDTH) -> str:
    """The value in at most about `width` characters: tensors as nested lists with T and F, long things with an ellipsis.

    >>> describe([1, 2, 3])
    '[1, 2, 3]'
    >>> describe(list(range(100)), width=20)
    '[0, 1, 2, 3, ...] (100 items)'
    """
    return verbatim(_short(value, width))


def _short(value: Any, width: int) -> str:
    if is_tensor(value) or is_array(value):
        whole = _nested(value.tolist()) if _count(value) <= 64 else None
        if whole is not None and len(whole) <= width:
            return whole
        return f"{kind(value)} of shape {shape(value)} and dtype {dtype(value)}"
    if isinstance(value, str | bytes):
        return repr(value) if len(repr(value)) <= width else _shortened_text(value, width)
    if isinstance(value, list | tuple | set | frozenset | Mapping):
        return _container(value, width)
    if isinstance(value, float):
        return f"{value:.4g}" if value == value else "nan"
    text = value.__name__ if inspect.isclass(value) or inspect.isroutine(value) else repr(value)
    text = re.sub(r" at 0x[0-9A-Fa-f]+", "", text)
    return text if len(text) <= width else text[: width - 3] + "..."


def describe_call(case: Case, names: Sequence[str]) -> str:
    """The arguments of a call, by name: `n = 3`, `ids = [1, 2, 1], pair = (1, 2)`."""
    parts = list(zip(names, case.args, strict=False)) + list(case.kwargs.items())
    width = max(24, WIDTH // max(1, len(parts)))
    said = [f"{name} = {describe(value, width)}" for name, value in parts]
    said += [describe(value, width) for value in case.args[len(names) :]]
    return ", ".join(said) or "a call without arguments"


def kind(value: Any) -> str:
    """What sort of thing the value is, with its article: a list, an int, a tensor, None."""
    if value is None or isinstance(value, bytes):
        return "None" if value is None else "bytes"
    if is_tensor(value):
        return "a tensor"
    if is_array(value):
        return "a numpy array"
    if inspect.isclass(value):
        return "a class"
    name = {"str": "string", "function": "function"}.get(type(value).__name__, type(value).__name__)
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"


def shape(value: Any) -> list[int]:
    """The shape of a tensor or array, as a plain list."""
    return [int(size) for size in value.shape]


def dtype(value: Any) -> str:
    """The dtype of a tensor or array in one word: float32, bool."""
    return str(value.dtype).removeprefix("torch.")


def row(values: Any, width: int = WIDTH) -> str:
    """A tensor's row (already a list), such as [T, T, F]."""
    text = _nested(values)
    return text if len(text) <= width else text[: width - 4] + " ...]"


def source_line(error: BaseException, filename: str) -> str:
    """The learner's own line at which the error arose, or "" if none can be found."""
    found = ""
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == filename:
            found = linecache.getline(filename, step.tb_lineno, step.tb_frame.f_globals).strip()
        step = step.tb_next
    return found


def filename_of(answer: Callable[..., Any]) -> str:
    """The file (or notebook cell) of a function or class, as Python names it in tracebacks; "" if it has none."""
    code = code_of(answer)
    return code.co_filename if code is not None else ""


def code_of(answer: Any) -> Any:
    """The code object of a function, or of the first method written in a class; None if there is none."""
    answer = inspect.unwrap(answer) if callable(answer) else answer
    if inspect.isclass(answer):
        for member in vars(answer).values():
            inner = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
            code = getattr(inspect.unwrap(inner) if callable(inner) else inner, "__code__", None)
            if code is not None and not code.co_filename.startswith("<string>"):
                return code
        return None
    answer = getattr(answer, "__func__", answer)
    code = getattr(answer, "__code__", None)
    return code if isinstance(code, types.CodeType) else None


def _count(value: Any) -> int:
    count = 1
    for size in value.shape:
        count *= int(size)
    return count


def _nested(values: Any) -> str:
    if isinstance(values, list):
        return "[" + ", ".join(_nested(item) for item in values) + "]"
    if isinstance(values, bool):
        return "T" if values else "F"
    return f"{values:.4g}" if isinstance(values, float) else str(values)


def _shortened_text(value: str | bytes, width: int) -> str:
    unit = "characters" if isinstance(value, str) else "bytes"
    return f"{value[: max(8, width - 24)]!r}... ({len(value)} {unit})"


def _container(value: Any, width: int) -> str:
    if isinstance(value, Mapping):
        parts = [f"{describe(key, width)}: {describe(item, width)}" for key, item in value.items()]
        left, right = "{", "}"
    else:
        ordered = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        parts = [describe(item, width) for item in ordered]
        left, right = ("[", "]") if isinstance(value, list) else ("(", ")") if isinstance(value, tuple) else ("{", "}")
    if isinstance(value, tuple) and len(parts) == 1:
        parts[0] += ","
    whole = left + ", ".join(parts) + right
    if len(whole) <= width:
        return whole if parts or left != "{" or isinstance(value, Mapping) else "set()"
    shown: list[str] = []
    while len(shown) < len(parts) and sum(map(len, shown)) + 2 * len(shown) + len(parts[len(shown)]) < width - 5:
        shown.append(parts[len(shown)])
    return f"{left}{', '.join([*shown, '...'])}{right} ({len(parts)} items)"
