"""Turn a function or class written in a notebook into the text of a module that stands alone: its source and what that needs."""

import __future__

import ast
import importlib.util
import inspect
import linecache
import symtable
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from minilm.course.describing import code_of, kind

LONGEST_CONSTANT = 10_000  # characters of a list or table that a saved answer may carry along

_MISSING = object()
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class CannotSave(Exception):
    """Why a piece of code can't be written to a file of its own, as a sentence."""


def module_text(answer: Any) -> tuple[str, str]:
    """The text of a module that defines the answer, with the imports, helpers and constants that it uses; and its name there.

    What it uses is looked up where it was written: modules and what they hold are imported again; functions, classes and
    simple constants of the notebook are written out. Raises CannotSave if something can be neither.
    """
    if not hasattr(answer, "__name__"):
        raise CannotSave(f"it is {kind(answer)}, an object. Write it with `def`.")
    builder = _Builder()
    name = answer.__name__ if answer.__name__.isidentifier() else source_of(answer)[1]  # a lambda is called <lambda>
    builder.need(name, answer, answer)
    future = ["from __future__ import annotations"] if builder.future else []
    imports = sorted(set(builder.imports), key=lambda line: (line.startswith("from"), line))
    blocks = ["\n".join([*future, *imports]), "\n".join(builder.constants), *builder.definitions]
    return "\n\n\n".join(block for block in blocks if block) + "\n", name


class _Builder:
    """Collects what a module needs, each thing once and before what uses it."""

    def __init__(self) -> None:
        self.imports: list[str] = []
        self.constants: list[str] = []
        self.definitions: list[str] = []
        self.future = False
        self._values: dict[str, Any] = {}

    def need(self, name: str, value: Any, user: Any) -> None:
        """Make `name` mean `value` in the module; `user` is the function or class that uses it."""
        if name in self._values:
            if self._values[name] is not value:
                raise CannotSave(f"`{name}` stands for two different things in it.")
            return
        self._values[name] = value
        lines = import_lines(name, value, user)
        if lines:
            self.imports.extend(lines)
        elif inspect.isclass(value) or code_of(value) is not None:
            self._define(name, value)
        else:
            self._assign(name, value, user)

    def _define(self, name: str, thing: Any) -> None:
        """Write out a function or class, after all that it uses."""
        if getattr(inspect.unwrap(thing), "__closure__", None):
            raise CannotSave(f"`{name}` was made inside another function and uses its variables.")
        text, own_name = source_of(thing)
        code = code_of(thing)
        if code is not None and code.co_flags & __future__.annotations.compiler_flag:
            self.future = True
        if own_name != name:
            self._values[own_name] = thing
        self._use(text, thing)
        self.definitions.append(text if own_name == name else f"{text}\n\n\n{name} = {own_name}")

    def _assign(self, name: str, value: Any, user: Any) -> None:
        """Write out a constant: as its value if that is simple, else as the notebook wrote it if that calls nothing."""
        if is_literal(value):
            text = repr(value)
        elif isinstance(value, float):  # inf and nan are not literals
            text = f'float("{value}")'
        else:
            text = _assigned_expression(name, value, user)
            self._use(text, user)
        self.constants.append(f"{name} = {text}")

    def _use(self, text: str, user: Any) -> None:
        space = namespace(user)
        for name in global_names(text):
            value = space.get(name, _MISSING)
            if value is not _MISSING:  # else a builtin, or a name that no run has asked for
                self.need(name, value, user)


def source_of(thing: Any) -> tuple[str, str]:
    """The source of a function or class, and the name that it defines. Raises CannotSave."""
    code = code_of(thing)
    texts = [_text_of(code)] if code is not None else cells(thing)
    for text in reversed(texts):
        lines = text.splitlines(keepends=True)
        for node in ast.walk(_parsed(text)):
            if _is_definition(node, thing, code):
                assert isinstance(node, ast.stmt)
                name = thing.__name__
                if isinstance(node, ast.Assign):
                    assert isinstance(node.targets[0], ast.Name)
                    name = node.targets[0].id
                return textwrap.dedent("".join(lines[_first_line(node) - 1 : node.end_lineno])).rstrip(), name
    if thing.__name__ == "<lambda>":
        raise CannotSave("it is a `lambda` inside another expression. Write it with `def`.")
    raise CannotSave(f"the source of `{thing.__name__}` could not be found.")


def _is_definition(node: ast.AST, thing: Any, code: CodeType | None) -> bool:
    """Whether the node defines the thing, whose code (if it has any) begins at a known line."""
    if isinstance(node, ast.Assign):
        simple = len(node.targets) == 1 and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Lambda)
        return simple and code is not None and thing.__name__ == "<lambda>" and node.lineno == code.co_firstlineno
    if not isinstance(node, _Definition) or node.name != inspect.unwrap(thing).__name__:
        return False
    if isinstance(node, ast.ClassDef):
        inside = code is None or _first_line(node) <= code.co_firstlineno <= (node.end_lineno or 0)
        return inspect.isclass(thing) and inside
    return code is not None and _first_line(node) == code.co_firstlineno


def _first_line(node: ast.stmt) -> int:
    """The line where a definition begins, with its decorators."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min(node.lineno, *(item.lineno for item in decorators)) if decorators else node.lineno


def import_lines(name: str, value: Any, user: Any) -> list[str]:
    """The imports that make `name` mean `value`, if it comes from a library: as written in the notebook, or made up; else []."""
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if isinstance(value, ModuleType) and not is_library(value.__name__):
        raise CannotSave(f"it uses `{name}`, a module of your own. Write what it needs into the notebook.")
    written = [line for tree in map(_parsed, cells(user)) for line in _imports(tree, name) if _gives(line, name, value)]
    if written:
        return written if isinstance(value, ModuleType) else written[-1:]
    if isinstance(value, ModuleType):
        return [f"import {module}" if module == name else f"import {module} as {name}"]
    own_name = getattr(value, "__name__", None)
    if isinstance(module, str) and is_library(module) and own_name:
        line = f"from {module} import {own_name}" + ("" if own_name == name else f" as {name}")
        return [line] if _gives(line, name, value) else []
    return []


def _imports(tree: ast.AST, name: str) -> Iterator[str]:
    """The import statements in a cell that bind the name, each with this name alone."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name.split(".")[0]) != name:
                continue
            if isinstance(node, ast.Import):
                if is_library(alias.name):
                    yield ast.unparse(ast.Import([alias]))
            elif node.level == 0 and node.module and node.module != "__future__" and is_library(node.module):
                yield ast.unparse(ast.ImportFrom(node.module, [alias], 0))


def _gives(line: str, name: str, value: Any) -> bool:
    """Whether running the import binds the name to this very value."""
    space: dict[str, Any] = {}
    try:
        exec(line, space)
    except Exception:
        return False
    return space.get(name) is value


def is_library(module: str) -> bool:
    """Whether a module can be imported from anywhere: Python's own, an installed one, the course's, or the saved answers."""
    top = module.split(".")[0]
    if top in sys.stdlib_module_names or top in ("minilm", "my"):
        return True
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and "-packages" in Path(spec.origin).as_posix()


def is_literal(value: Any) -> bool:
    """Whether the value can be written as Python writes it, in not too many characters."""
    if not isinstance(value, bool | int | float | complex | str | bytes | tuple | list | dict | set | None):
        return False
    text = repr(value)
    if len(text) > LONGEST_CONSTANT:
        return False
    try:
        back = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return type(back) is type(value) and bool(back == value)


def _assigned_expression(name: str, value: Any, user: Any) -> str:
    """The right-hand side that a notebook gave this name last, if it is a mere expression (or compiles a pattern)."""
    plain = (ast.expr, ast.expr_context, ast.operator, ast.unaryop)
    is_pattern = type(value).__name__ == "Pattern" and type(value).__module__ in ("re", "regex", "_regex")
    assignments = [
        node.value
        for tree in map(_parsed, cells(user))
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]
    ]
    if assignments:
        parts = list(ast.walk(assignments[-1]))
        harmless = all(isinstance(part, plain) and not isinstance(part, ast.Call | ast.Lambda) for part in parts)
        if is_pattern or harmless:
            return ast.unparse(assignments[-1])
    raise CannotSave(f"it uses `{name}`, {kind(value)} of this notebook. Make it an argument of the function.")


def global_names(text: str) -> list[str]:
    """The names that a piece of code takes from outside of it: its globals, in order of first use as far as Python tells."""

    def walk(table: symtable.SymbolTable, top: bool) -> Iterator[str]:
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (top or symbol.is_global()):
                yield symbol.get_name()
        for child in table.get_children():
            yield from walk(child, False)

    return list(dict.fromkeys(walk(symtable.symtable(text, "answer", "exec"), True)))


def namespace(thing: Any) -> dict[str, Any]:
    """The globals among which a function or class was written."""
    inner = inspect.unwrap(thing)
    if not inspect.isclass(inner) and hasattr(inner, "__globals__"):
        return dict(inner.__globals__)
    return dict(vars(sys.modules[thing.__module__])) if thing.__module__ in sys.modules else {}


def cells(thing: Any) -> list[str]:
    """The texts where a thing's neighbours are written: all the cells of its notebook that have run, or its file."""
    code = code_of(thing)
    name = code.co_filename if code is not None else ""
    main = getattr(thing, "__module__", None) == "__main__"
    folder = str(Path(name).parent) if name else ""
    in_notebook = "ipykernel_" in folder or name.startswith("<ipython-input-") or (main and not name)
    if not in_notebook:
        return [_text_of(code)] if code is not None else []
    names = [key for key in linecache.cache if "ipykernel_" in key or key.startswith("<ipython-input-")]
    return ["".join(linecache.getlines(key)) for key in names]


def _text_of(code: CodeType) -> str:
    return "".join(linecache.getlines(code.co_filename))


def _parsed(text: str) -> ast.AST:
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.Module([], [])
