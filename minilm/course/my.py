"""The learner's own answers: kept as files under `work/my/` when they pass, and imported in any notebook with `from my import name`."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from minilm import paths
from minilm.course.complaints import same_deed
from minilm.course.exercise import Exercise, named
from minilm.course.files import free_name, write_whole
from minilm.course.judging import call
from minilm.course.source import CannotSave, module_text

_loaded: dict[str, tuple[str, ModuleType]] = {}  # the text of each answer that was imported, and what came of it


def folder() -> Path:
    """Where the answers are kept."""
    return paths.work() / "my"


def save(exercise: Exercise, answer: Any) -> str | None:
    """Keep a passing answer as a module of its own. Returns None, or a sentence that says why it can't be kept.

    The module is run in a clean namespace first, and must do with the first input what the answer did. An earlier answer that
    differs goes to `work/my/earlier/`; but a lesson, which shows an answer, replaces none of the learner's.
    """
    if paths.under_nbgrader():
        return None
    name = exercise.name or str(getattr(answer, "__name__", ""))
    try:
        text = _with_heading(exercise, name, answer)
        _try_out(exercise, name, text, answer)
        _store(folder() / f"{name}.py", text)
    except CannotSave as problem:
        return str(problem)
    except OSError as problem:
        return f"the folder `work/my` can't be written ({problem.strerror or 'the disk refused'})."
    return None


def get(name: str, otherwise: Callable[..., Any] | None = None) -> Any:
    """The learner's answer of this name, or else `otherwise`: `get("causal_mask", otherwise=causal_mask)`.

    For lessons, which run from top to bottom whether or not the exercises are done. Without `otherwise`: ImportError.
    """
    try:
        return load(name)
    except ImportError:
        if otherwise is None:
            raise
        return otherwise


def load(name: str) -> Any:
    """The learner's answer of this name. Raises ImportError, with what to do, if there is none."""
    path = folder() / f"{name}.py"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise ImportError(_how_to_get(name), name="my") from None
    if name not in _loaded or _loaded[name][0] != text:
        module = ModuleType(f"my.{name}")
        module.__file__ = str(path)
        sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up
        try:
            exec(compile(text, str(path), "exec"), vars(module))
        except Exception as problem:
            del sys.modules[module.__name__]
            raise ImportError(f"work/my/{name}.py does not run: {problem}", name="my", path=str(path)) from problem
        _loaded[name] = (text, module)
    try:
        return getattr(_loaded[name][1], name)
    except AttributeError:
        raise ImportError(f"work/my/{name}.py does not define {name}", name="my", path=str(path)) from None


def install() -> None:
    """Make `from my import name` work. A package called `my` of the user's own, if there is one, stays what it is."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the module `my`, whose contents are looked up when asked for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "my" or _users_own():
            return None
        return importlib.machinery.ModuleSpec("my", self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        def look_up(name: str) -> Any:
            if name.startswith("_"):  # Python and IPython ask every module for such names
                raise AttributeError(name)
            return load(name)

        def names() -> list[str]:
            return sorted(path.stem for path in folder().glob("*.py"))

        module.__doc__ = "Your own answers, as you passed them. Each is a file in `work/my/`."
        vars(module).update(__getattr__=look_up, __dir__=names)


def _users_own() -> bool:
    """Whether there is another module or package `my`: not the folder of answers, nor a mere folder of that name."""
    spec = importlib.machinery.PathFinder.find_spec("my")
    if spec is None or spec.origin is None:
        return False
    return Path(spec.origin).parent.resolve() != folder().resolve()


def _with_heading(exercise: Exercise, name: str, answer: Any) -> str:
    text, own_name = module_text(answer)
    if own_name != name:
        text += f"\n\n{name} = {own_name}\n"
    title = exercise.title.replace("\\", "").replace('"', "'")
    return f'"""{name}: your answer to exercise {exercise.id}, {title}."""\n\n{text}'


def _try_out(exercise: Exercise, name: str, text: str, answer: Any) -> None:
    """Run the module's text in a clean namespace and compare what it gives with the answer. Raises CannotSave."""
    module = ModuleType(f"my.{name}")
    try:
        sys.modules[module.__name__], before = module, sys.modules.get(module.__name__)
        try:
            exec(compile(text, f"<my.{name}>", "exec"), vars(module))
            copy = getattr(module, name)
        finally:
            del sys.modules[module.__name__]
            if before is not None:
                sys.modules[module.__name__] = before
    except Exception as problem:
        raise CannotSave(f"alone in a file it stops with {type(problem).__name__} ({problem}).") from None
    for number, case in enumerate(exercise.inputs.fixed[:3] if exercise.inputs else ()):
        alone, here = (call(exercise, one, case, exercise.seconds, number) for one in (copy, answer))
        if not same_deed(exercise, case, here, alone):
            raise CannotSave(
                "alone in a file it does not give the same: does it use something that another cell changes?"
            )


def _store(path: Path, text: str) -> None:
    """Write the answer; an earlier one that differs is kept."""
    if path.exists():
        earlier = path.read_bytes()
        if earlier == text.encode() or _in_a_lesson():
            return
        backup = free_name(path.parent / "earlier", f"{path.stem}_{{n}}.py")
        write_whole(backup, earlier, replace=False)
    write_whole(path, text.encode())


def _in_a_lesson() -> bool:
    """Whether this runs in the folder of the lessons, as their notebooks do."""
    checkout = paths.checkout()
    return checkout is not None and Path.cwd() == checkout / "notebooks"


def _how_to_get(name: str) -> str:
    """What to do to get an answer that isn't there."""
    item = named(name)
    if item is None:
        passed = ", ".join(sorted(path.stem for path in folder().glob("*.py")))
        return f"no exercise gives {name}; your answers so far: {passed or 'none yet'}"
    notebook = next(iter(sorted((paths.checkout() or Path()).glob(f"exercises/{item.lesson}_*"))), None)
    place = f"work/{notebook.name}/" if notebook else "work/"
    library = _public_module(item.reference, name)
    instead = f", or use: from {library} import {name}" if library else ""
    return f"you have not passed {item.id} ({item.title}) yet: do it in {place}{instead}"


def _public_module(reference: Any, name: str) -> str | None:
    """The module of the library to import a reference from: the outermost that offers it (minilm.attention)."""
    parts = (getattr(reference, "__module__", None) or "").split(".")
    if parts[0] != "minilm" or parts[1:2] == ["course"]:
        return None
    modules = [".".join(parts[:length]) for length in range(2, len(parts) + 1)]
    return next((module for module in modules if getattr(sys.modules.get(module), name, None) is reference), None)
