"""Compare what a learner's function gave with what was expected, and say the difference as a tutor would."""

import math
import numbers
import sys
from collections.abc import Callable, Mapping
from typing import Any

from minilm.course.describing import WIDTH, describe, dtype, is_array, is_tensor, kind, row, shape

# compare(expected, got) -> None if they agree, else a sentence without its capital: "expected 3, got 4".
Compare = Callable[[Any, Any], str | None]

# How close is close: by dtype, since a float32 carries about 7 digits and a bfloat16 about 2.
_TOLERANCE = {"float64": 1e-7, "float32": 1e-4, "float16": 1e-2, "bfloat16": 3e-2}


def close(tolerance: float | None = None) -> Compare:
    """Compare floats within a tolerance, relative and absolute (by default what their dtype allows), and all else exactly."""

    def compare(expected: Any, got: Any) -> str | None:
        return difference(expected, got, tolerance)

    return compare


def exact(expected: Any, got: Any) -> str | None:
    """Compare everything exactly, floats too."""
    return difference(expected, got, 0.0)


def difference(expected: Any, got: Any, tolerance: float | None = None) -> str | None:
    """What differs: the type first, then shape and dtype, then the first entry that isn't as expected; None if all agree."""
    if is_tensor(expected) or is_array(expected):
        return _of_arrays(expected, got, tolerance)
    expected, got = _python_number(expected), _python_number(got)
    if isinstance(expected, bool) or not isinstance(expected, numbers.Number):
        return _of_objects(expected, got, tolerance)
    if _is_number(got):
        return _of_numbers(expected, got, tolerance)
    return wrong_kind(expected, got)


def wrong_kind(expected: Any, got: Any) -> str:
    """The sentence for a value of another sort than expected."""
    help = ""
    if is_tensor(got) and _is_number(expected):
        help = "; `.item()` gives the number in a tensor of one entry"
    elif is_tensor(expected) and isinstance(got, list | tuple):
        help = "; `torch.tensor(...)` makes one"
    elif isinstance(expected, list) and is_tensor(got):
        help = "; `.tolist()` makes one"
    elif isinstance(expected, bytes) and isinstance(got, str):
        help = '; `.encode("utf-8")` gives the bytes of a string'
    elif isinstance(expected, str) and isinstance(got, bytes):
        help = '; `.decode("utf-8")` gives the string'
    return f"you returned {kind(got)} where {kind(expected)} is expected{help}"


def _python_number(value: Any) -> Any:
    """A numpy scalar as the Python number that it is; anything else as it is."""
    numpy = sys.modules.get("numpy")
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Number) and not isinstance(value, bool)


def _of_numbers(expected: Any, got: Any, tolerance: float | None) -> str | None:
    if isinstance(expected, int) and not isinstance(got, numbers.Integral):
        return f"you returned {kind(got)} ({describe(got)}) where an int is expected ({expected})"
    if isinstance(expected, float) and not isinstance(got, complex):
        if math.isnan(got) and not math.isnan(expected):
            return f"you returned NaN (not a number) where {describe(expected)} is expected: look for 0/0 or inf - inf"
        limit = _TOLERANCE["float64"] * 10 if tolerance is None else tolerance
        same = math.isclose(expected, got, rel_tol=limit, abs_tol=limit) or (math.isnan(expected) and math.isnan(got))
    else:
        same = bool(expected == got)
    if same:
        return None
    said, given = describe(expected), describe(got)
    return f"expected {said}, got {given}" if said != given else f"expected {expected!r}, got {got!r}"


def _of_objects(expected: Any, got: Any, tolerance: float | None) -> str | None:
    if isinstance(expected, Mapping):
        return _of_mappings(expected, got, tolerance) if isinstance(got, Mapping) else wrong_kind(expected, got)
    if isinstance(expected, list | tuple):
        wanted = list if isinstance(expected, list) else tuple
        return _of_sequences(expected, got, tolerance) if isinstance(got, wanted) else wrong_kind(expected, got)
    if isinstance(expected, set | frozenset):
        if not isinstance(got, set | frozenset):
            return wrong_kind(expected, got)
    elif not isinstance(got, type(expected)):
        return wrong_kind(expected, got)
    if bool(expected == got):
        return None
    return f"expected {describe(expected)}, got {describe(got)}"


def _of_sequences(expected: Any, got: Any, tolerance: float | None) -> str | None:
    pairs = enumerate(zip(expected, got, strict=False))
    first = next(((i, said) for i, (a, b) in pairs if (said := difference(a, b, tolerance)) is not None), None)
    if first is None and len(expected) == len(got):
        return None
    said, given = describe(expected), describe(got)
    if said != given and len(said) + len(given) <= WIDTH * 2 and "..." not in said + given:
        return f"expected {said}, got {given}"
    if first is None:
        return f"expected {len(expected)} items, got {len(got)}"
    counts = "" if len(expected) == len(got) else f" (of {len(expected)} expected, {len(got)} given)"
    return f"at item {first[0]}{counts} {first[1]}"


def _of_mappings(expected: Any, got: Any, tolerance: float | None) -> str | None:
    for key, value in expected.items():
        if key not in got:
            return f"the key {describe(key)} is missing: expected {describe(value)} for it"
        said = difference(value, got[key], tolerance)
        if said is not None:
            return f"for the key {describe(key)}, {said}"
    extra = [key for key in got if key not in expected]
    if extra:
        return f"the key {describe(extra[0])} (with {describe(got[extra[0]])}) should not be there"
    return None


def _of_arrays(expected: Any, got: Any, tolerance: float | None) -> str | None:
    if is_tensor(expected) != is_tensor(got) or is_array(expected) != is_array(got):
        return wrong_kind(expected, got)
    if shape(expected) != shape(got):
        swapped = sorted(shape(expected)) == sorted(shape(got))
        help = ": are two axes swapped?" if swapped else ""
        return f"the shape should be {shape(expected)}, yours is {shape(got)}{help}"
    if dtype(expected) != dtype(got):
        return f"the dtype should be {dtype(expected)}, yours is {dtype(got)}"
    return _of_entries(_numpy(expected), _numpy(got), _limit(expected, tolerance))


def _of_entries(expected: Any, got: Any, limit: float) -> str | None:
    import numpy as np

    if expected.dtype.kind == "f":
        invalid = np.isnan(got) & ~np.isnan(expected)
        if invalid.any():
            place = [int(i) for i in np.argwhere(invalid)[0]]
            value = describe(float(expected[tuple(place)]))
            cause = "0/0, inf - inf, or a softmax over nothing but -inf make one"
            return f"your result has NaN (not a number) at {place}, where {value} is expected: {cause}"
    if expected.dtype.kind in "fc":
        different = ~np.isclose(got, expected, rtol=limit, atol=limit, equal_nan=True)
    else:
        different = got != expected
    if not different.any():
        return None
    place = [int(i) for i in np.argwhere(different)[0]]
    if not place:
        return f"expected {describe(expected.item())}, got {describe(got.item())}"
    wanted, given = row(expected[tuple(place[:-1])].tolist()), row(got[tuple(place[:-1])].tolist())
    if "..." not in wanted + given and wanted != given:
        where = "" if len(place) == 1 else f"row {place[0]} to be " if len(place) == 2 else f"{place[:-1]} to be "
        return f"expected {where}{wanted}, got {given}"
    at = tuple(place)
    total = f"{int(different.sum())} of {different.size} entries differ, the first"
    return f"{total} at {place}: expected {expected[at].item():.6g}, got {got[at].item():.6g}"


def _limit(expected: Any, tolerance: float | None) -> float:
    return _TOLERANCE.get(dtype(expected), 0.0) if tolerance is None else tolerance


def _numpy(value: Any) -> Any:
    """A numpy array of the entries: floats as float64, since numpy has no bfloat16."""
    if is_array(value):
        return value.astype("float64") if value.dtype.kind == "f" else value
    value = value.detach().cpu()
    return (value.double() if value.is_floating_point() else value).numpy()
