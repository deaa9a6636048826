"""The identity of a user's function: its normalised source, what it captures and the helpers it calls.

Layout, comments, docstrings and annotations do not count. Code of the same project counts by source, recursively;
installed packages by version; the standard library by name. Where what is reached cannot be told without running it (a
module imported inside a function, or handed on as a value), all modules of the project that it leads to count whole.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
import importlib
import importlib.util
import inspect
import linecache
import os
import sys
import sysconfig
import threading
import types
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from .errors import RecipeError
from .keys import UNKNOWN, Special, canonical, digest_of


def resolve(reference: Any) -> Callable[..., Any]:
    """The function that `module:name` names; a callable is returned as it is."""
    if callable(reference):
        return reference  # type: ignore[no-any-return]
    if not isinstance(reference, str) or reference.count(":") != 1:
        raise RecipeError(f"{reference!r} does not name a function", "Write it as `package.module:function`.")
    module_name, _, name = reference.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"`{reference}`: there is no module `{error.name}`",
            f"Looked in the current folder ({os.getcwd()}) and the installed packages.",
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise RecipeError(f"`{reference}`: `{module_name}` has no `{name}`")
        found = getattr(found, part)
    if not callable(found):
        raise RecipeError(f"`{reference}` is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


Function = Annotated[Callable[..., Any], BeforeValidator(resolve)]
"""Field type: a callable, or `module:function` in recipe files."""


def reference(function: Any) -> str:
    """`module:name` of what another process can import; refuses lambdas, closures and `__main__`."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or module == "__main__" or "<" in name:
        raise RecipeError(
            f"`{name or repr(function)}` cannot be named in a file or sent to another process",
            "Put it at the top of a module and name it as `module:function`.",
        )
    return f"{module}:{name}"


def function_form(function: Any, special: Special | None = None) -> Any:
    """Canonical form of a callable for `keys.canonical`, or `UNKNOWN` when it is none.

    Raises `RecipeError` when the source cannot be read or a captured value has no stable form.
    """
    return UNKNOWN if type(function) in _DATA else _Reader(special).form(function)


_DATA = frozenset({tuple, list, dict, set, frozenset, float, bytes})
"""What is plainly no callable: most of the values that are asked about."""


def class_form(kind: type, special: Special) -> dict[str, Any]:
    """What counts of a tagged class beside its tag: its source, and what its methods and bases reach in its project.

    Empty where the source cannot be read: the tag then speaks for it alone.
    """
    try:
        source = repr(_class_text(kind).form)
    except (OSError, TypeError, SyntaxError):
        return {}
    reading = _being_read()
    if kind in reading:  # it holds a node of its own kind
        return {}
    reading.add(kind)
    try:
        reached = _Reader(special).reached_by(kind)
    finally:
        reading.discard(kind)
    return {"source": digest_of(source), **({"reaches": digest_of(reached)} if reached else {})}


_threads = threading.local()


def _being_read() -> set[type]:
    if not hasattr(_threads, "reading"):
        _threads.reading = set()
    found: set[type] = _threads.reading
    return found


class _Reader:
    """Reads one function with all it reaches; each function is described once, later mentions by name."""

    def __init__(self, special: Special | None) -> None:
        self._special = special
        self._seen: set[int] = set()

    def form(self, value: Any) -> Any:
        if type(value) in _DATA:
            return UNKNOWN
        if isinstance(value, functools.partial):
            return {"partial": [self.form(value.func), self._value(value.args), self._value(value.keywords)]}
        if inspect.ismethod(value):
            return {"method": [self.form(value.__func__), self._value(value.__self__)]}
        if isinstance(value, types.BuiltinFunctionType):
            return {"code": [value.__module__ or "", value.__qualname__]}
        if isinstance(value, types.ModuleType):
            origin = _origin(value.__name__)
            return _module_form(value.__name__) if origin is None else {"code": list(origin)}
        if typing.get_origin(value) is not None:  # an alias such as `Literal["a", "b"]` or `dict[str, int]`
            return {"type": [self.form(typing.get_origin(value)), self._value(typing.get_args(value))]}
        if value is ...:
            return {"type": ["..."]}
        if type(value).__module__ == "typing":  # a special form, a type variable
            return {"type": [str(value)]}
        if not isinstance(value, types.FunctionType | type) and not hasattr(value, "__wrapped__"):
            return UNKNOWN
        if isinstance(value, types.FunctionType) and hasattr(value, "__wrapped__"):
            return self._wrapper(value)
        value = inspect.unwrap(value)
        origin = _origin(value.__module__)
        if origin is not None:
            return {"code": [value.__qualname__, *origin]}
        if id(value) in self._seen:
            return {"again": value.__qualname__}
        self._seen.add(id(value))
        return self._class(value) if isinstance(value, type) else self._function(value)

    def _value(self, value: Any, where: str = "value") -> Any:
        return canonical(value, self._any, where)

    def _any(self, value: Any) -> Any:
        found = self.form(value)  # first, so that functions which call each other are known when they come again
        return found if found is not UNKNOWN or self._special is None else self._special(value)

    def _function(self, function: types.FunctionType) -> Any:
        text = _text_of(function)
        name = function.__qualname__.rpartition(".")[2]
        form: dict[str, Any] = {"source": text.form}
        if function.__defaults__:
            form["defaults"] = self._value(function.__defaults__, f"default of `{name}`")
        if function.__kwdefaults__:
            form["keywords"] = self._value(function.__kwdefaults__, f"default of `{name}`")
        captured = _captured(function)
        modules = {key: value for key, value in captured.items() if isinstance(value, types.ModuleType)}
        reached = {
            key: self._value(value, f"`{key}`, used by `{name}`,")
            for key, value in captured.items()
            if key not in modules
        }
        reached.update(self._attributes(text, {**function.__globals__, **modules}))
        reached.update(self._imports(text, function.__globals__))
        if reached:
            form["reaches"] = [[key, reached[key]] for key in sorted(reached)]
        return {"function": form}

    def _wrapper(self, wrapper: types.FunctionType) -> Any:
        """A decorated function: what was put around it counts too, with all that it holds."""
        if id(wrapper) in self._seen:
            return {"again": wrapper.__qualname__}
        self._seen.add(id(wrapper))
        origin = _origin(wrapper.__globals__.get("__name__"))  # `__module__` is that of the function inside
        inner = wrapper.__wrapped__  # type: ignore[attr-defined]
        around = self._function(wrapper) if origin is None else {"code": [wrapper.__code__.co_qualname, *origin]}
        return {"decorated": [around, self._any(inner)]}

    def _class(self, kind: type) -> Any:
        try:
            text = _class_text(kind)
        except (OSError, TypeError) as error:
            raise _no_source(kind.__qualname__) from error
        reached = self.reached_by(kind)
        return {"class": {"source": text.form, "reaches": reached}}

    def reached_by(self, kind: type) -> list[Any]:
        """What the source of a class names of its project, by name."""
        self._seen.add(id(kind))
        text = _class_text(kind).without_types
        globals_ = vars(sys.modules[kind.__module__])
        reached = self._attributes(text, globals_)
        reached.update(self._imports(text, globals_))
        for name in text.names:
            if name in globals_ and name != kind.__name__ and not isinstance(globals_[name], types.ModuleType):
                reached[name] = self._value(globals_[name], f"`{name}`, used by `{kind.__name__}`,")
        return [[key, reached[key]] for key in sorted(reached)]

    def _attributes(self, text: _Text, names: Mapping[str, Any]) -> dict[str, Any]:
        """What is reached as `module.name`: modules of the same project by the thing named, others by version."""
        reached: dict[str, Any] = {}
        for name, *attributes in text.chains:
            value = names.get(name)
            if not isinstance(value, types.ModuleType):
                continue
            if _origin(value.__name__) is not None:
                reached[name] = self.form(value)
                continue
            key = name
            for attribute in attributes:
                local = isinstance(value, types.ModuleType) and _origin(value.__name__) is None
                if not local or not hasattr(value, attribute):
                    break
                key, value = f"{key}.{attribute}", getattr(value, attribute)
            reached[key] = self._value(value, f"`{key}`")
        return reached

    def _imports(self, text: _Text, globals_: Mapping[str, Any]) -> dict[str, Any]:
        """What is imported inside: modules of the same project whole, installed ones by version."""
        package = str(globals_.get("__package__") or str(globals_.get("__name__") or "").rpartition(".")[0])
        reached: dict[str, Any] = {}
        for name in _imported(text.imports, package):
            origin = _origin(name)
            if origin is None:
                reached[f"import {name}"] = _module_form(name)
            elif origin[1] not in ("stdlib", "stillhouse"):
                reached[f"import {name}"] = {"code": list(origin)}
        return reached


def _captured(function: types.FunctionType) -> dict[str, Any]:
    """Closure cells and globals that the function's code names, global modules apart (they are read as attributes)."""
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # a cell not filled yet: a function that names itself before it exists
            continue
    for name in _global_names(function.__code__):
        value = function.__globals__.get(name, UNKNOWN)
        if value is UNKNOWN or value is function or isinstance(value, types.ModuleType):
            continue
        if getattr(builtins, name, UNKNOWN) is not value:
            found[name] = value
    return found


@functools.lru_cache(maxsize=1024)
def _global_names(code: types.CodeType) -> tuple[str, ...]:
    import dis  # only needed here, and not cheap to load

    found = [each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found += _global_names(constant)
    return tuple(dict.fromkeys(found))


def _chains(node: ast.AST) -> Iterator[tuple[str, ...]]:
    """Names with the attributes that are taken of them: `a.b.c` as ("a", "b", "c")."""
    attributes: list[str] = []
    root = node
    while isinstance(root, ast.Attribute):
        attributes.append(root.attr)
        root = root.value
    if isinstance(root, ast.Name):
        yield (root.id, *reversed(attributes))
        return
    for child in ast.iter_child_nodes(node):
        yield from _chains(child)


class _Import(typing.NamedTuple):
    """What an import names, as it stands in the text: `from {level dots}module import names`."""

    module: str
    names: tuple[str, ...] = ()
    level: int = 0

    def modules(self, package: str) -> list[str]:
        above = package.rsplit(".", self.level - 1)[0] if self.level else ""
        base = ".".join(part for part in (above, self.module) if part)
        return [base, *(f"{base}.{name}" for name in self.names)]  # what is taken from a package may be a module in it


def _imports_in(node: ast.AST) -> Iterator[_Import]:
    """What code imports, by `import_module("name")` too."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (_Import(alias.name) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield _Import(child.module or "", tuple(alias.name for alias in child.names), child.level)
        elif isinstance(child, ast.Call) and next(_chains(child.func), ("",))[-1] in ("import_module", "__import__"):
            for arg in child.args[:1]:
                if isinstance(arg, ast.Constant) and isinstance(arg.value, str):
                    yield _Import(arg.value)


def _imported(imports: Iterable[_Import], package: str) -> Iterator[str]:
    """The modules of imports; those that are not there are passed over."""
    for each in imports:
        yield from (name for name in each.modules(package) if name and _is_module(name))


def _is_module(name: str) -> bool:
    top = name.partition(".")[0]
    if name in sys.modules or top in sys.stdlib_module_names:
        return name in sys.modules or name == top
    try:
        if importlib.util.find_spec(top) is None:
            return False
        if _origin(top) is not None:  # not to be loaded: to look for a module loads the packages above it
            return name == top
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _module_form(name: str) -> Any:
    """A module of the project with all those that it imports, by their sources; nothing is run that would not be."""
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each in found or _origin(each) is not None:
            continue
        file = _file_of(each)
        if file is None:  # a folder of modules without one of its own
            continue
        if not file.endswith(".py"):
            raise _no_source(each)
        with open(file, encoding="utf-8") as opened:
            source = opened.read()
        found[each], imported = _module_source(
            source, each if file.endswith("__init__.py") else each.rpartition(".")[0]
        )
        waiting += imported
    return {"modules": sorted(found.items())}


@functools.lru_cache(maxsize=256)
def _module_source(source: str, package: str) -> tuple[str, tuple[str, ...]]:
    """The digest of a module's normalised source, and the modules that it imports."""
    with _parsing:
        tree = ast.parse(source)
    imported = tuple(_imported(_imports_in(tree), package))
    return digest_of(_dump(_stripped(tree))), imported


def _file_of(name: str) -> str | None:
    """The file of a module, loaded or not; None for one without, and for one that is not there."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return None if spec is None or not spec.has_location else spec.origin


def _origin(module_name: str | None) -> tuple[str, str] | None:
    """(distribution or module, version) of installed code; None for code of the user's own project."""
    top = (module_name or "").partition(".")[0]
    if top == "stillhouse":
        return (module_name or "", "stillhouse")  # its steps and parts answer for themselves by their tags
    if top in sys.stdlib_module_names and top != "__main__":
        return (module_name or "", "stdlib")
    file = getattr(sys.modules.get(module_name or ""), "__file__", None)
    if file is None and top:
        file = _file_of(top)
    if file is None or not _installed(file):
        return None
    return (module_name or top, _version(top))


@functools.cache
def _version(top: str) -> str:
    """The version of the distribution that a package comes with; to look through all of them is not cheap."""
    from importlib import metadata

    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:
        names = metadata.packages_distributions().get(top)
        return metadata.version(names[0]) if names else "unknown"


@functools.cache
def _installed(file: str) -> bool:
    paths = sysconfig.get_paths()
    inside = (paths["purelib"], paths["platlib"])
    return "site-packages" in file or "dist-packages" in file or file.startswith(inside)


class _Text:
    """What is read of the text of a function or class, once for each."""

    def __init__(self, node: ast.AST) -> None:
        self.node = node

    @functools.cached_property
    def _tree(self) -> ast.AST:
        return _stripped(copy.deepcopy(self.node))

    @functools.cached_property
    def form(self) -> Any:
        """The normalised source; not to be changed."""
        return _dump(self._tree)

    @functools.cached_property
    def chains(self) -> list[tuple[str, ...]]:
        return list(_chains(self._tree))

    @functools.cached_property
    def imports(self) -> list[_Import]:
        return list(_imports_in(self._tree))

    @functools.cached_property
    def names(self) -> list[str]:
        """What it names, sorted."""
        return sorted({node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)})

    @functools.cached_property
    def without_types(self) -> _Text:
        """The same without the annotations of fields: what they name says what may stand there, not what is done."""
        return _Text(_without_types(copy.deepcopy(self._tree)))


def _text_of(function: types.FunctionType) -> _Text:
    """The text of exactly this function, also one of several lambdas on a line."""
    code = function.__code__
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if not lines:
        raise _no_source(function.__qualname__)
    try:
        texts = _functions_in("".join(lines))
    except SyntaxError as error:
        raise _no_source(function.__qualname__) from error
    found = [text for text in texts if _is_code_of(text.node, code)]
    if not found:
        raise _no_source(function.__qualname__)
    return min(found, key=lambda text: _width(text.node))


@functools.lru_cache(maxsize=256)
def _functions_in(source: str) -> list[_Text]:
    """The functions of a file, parsed once."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    with _parsing:
        tree = ast.parse(source)
    return [_Text(node) for node in ast.walk(tree) if isinstance(node, kinds)]


def _class_text(kind: type) -> _Text:
    """The text of a class. Raises what `inspect.getsource` does."""
    with _parsing:
        known = _classes.get(kind)
        if known is None:
            known = _classes[kind] = _Text(ast.parse(_dedented(inspect.getsource(kind))))
        return known


_classes: weakref.WeakKeyDictionary[type, _Text] = weakref.WeakKeyDictionary()
_parsing = threading.Lock()  # two threads that parse at once can trip over each other in Python 3.11


def _is_code_of(node: ast.AST, code: types.CodeType) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        return node.name == code.co_name and first == code.co_firstlineno
    if not isinstance(node, ast.Lambda) or code.co_name != "<lambda>" or node.lineno != code.co_firstlineno:
        return False
    body = node.body
    first_place, last_place = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    return all(
        first_place <= (line, column) and (end_line, end_column) <= last_place
        for line, end_line, column, end_column in code.co_positions()
        if line is not None and end_line is not None and column is not None and end_column is not None
        if (line, column) != (end_line, end_column)  # a place of no width belongs to the prologue, not to the text
    )


def _width(node: ast.AST) -> tuple[int, int]:
    """Inner lambdas lie inside outer ones: the narrowest that holds all the code is the one."""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    return ((node.end_lineno or 0) - node.lineno, (node.end_col_offset or 0) - node.col_offset)


def _no_source(name: str) -> RecipeError:
    return RecipeError(
        f"the source of `{name}` cannot be read, so there is no telling when it changes",
        "Put the function into a file.",
    )


def _dedented(source: str) -> str:
    import textwrap

    return textwrap.dedent(source)


def _stripped(node: ast.AST) -> ast.AST:
    """The tree without docstrings, annotations and decorators' effect on layout; the names of functions stay."""
    for child in ast.walk(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            child.returns = None
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            first = child.body[0] if child.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                child.body = child.body[1:] or [ast.Pass()]
        if isinstance(child, ast.arg):
            child.annotation = None
    return node


def _without_types(tree: ast.AST) -> ast.AST:
    """The tree without the annotations of its fields."""
    for child in ast.walk(tree):
        if isinstance(child, ast.AnnAssign):
            child.annotation = ast.Constant(None)
    return tree


def _dump(node: Any) -> Any:
    """A dump of the tree that is equal on all Python versions: empty fields are left out, contexts too."""
    if isinstance(node, ast.AST):
        fields = {
            name: _dump(value)
            for name, value in ast.iter_fields(node)
            if value not in (None, []) and name not in ("ctx", "type_comment", "type_params", "kind")
        }
        if isinstance(node, ast.Constant):
            fields["value"] = [type(node.value).__name__, repr(node.value)]
        return [type(node).__name__, [[name, fields[name]] for name in sorted(fields)]]
    if isinstance(node, list):
        return [_dump(item) for item in node]
    return repr(node)
