"""The common ground of steps and parts: frozen, tagged, self-checking, with a canonical form."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any, ClassVar, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from .errors import RecipeError
from .files import InputFile
from .functions import class_form, function_form
from .keys import canonical, digest_of

_TAG = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*/[1-9][0-9]*")
_UNION_MEMBER = re.compile(r"function-|is-instance|(?:tuple|list|dict|set|frozenset)\[")
"""How pydantic names members of a union that have no name of their own, in the place of an error."""
_known: dict[str, type[Node]] = {}


class FrozenDict(dict[Any, Any]):
    """A dict that cannot be changed, so that a step's key cannot either."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("a step cannot be changed; make another one with `step.replace(field=...)`")

    __setitem__ = __delitem__ = _refuse
    clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted((repr(key), repr(value)) for key, value in self.items())))

    def __reduce__(self) -> Any:
        return (FrozenDict, (dict(self),))


def deep_frozen(value: Any) -> Any:
    """Lists become tuples, sets frozensets and dicts `FrozenDict`s, all the way down."""
    if isinstance(value, Mapping):
        return FrozenDict({key: deep_frozen(item) for key, item in value.items()})
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(deep_frozen(item) for item in value)
    if isinstance(value, set | frozenset):
        return frozenset(deep_frozen(item) for item in value)
    return value


class Node(BaseModel):
    """Base of `Step` and `Part`; not for direct use.

    A concrete class gives its tag: `class Dedup(Step[Rows], tag="curate.dedup/1")`. The number is raised when the
    output for the same input changes. Wrong or unknown fields raise `RecipeError` with the field and a suggestion.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())

    tag: ClassVar[str] = ""

    def __init__(self, **fields: Any) -> None:
        if not self.tag:
            raise _untagged(type(self))
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise recipe_error(type(self), error) from None

    def __init_subclass__(cls, tag: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if tag is None:
            return
        if not _TAG.fullmatch(tag):
            raise RecipeError(f"`{tag}` is not a tag", "Write it as `family.name/1`, in lower case.")
        known = _known.get(tag)
        if known is not None and known.__qualname__ != cls.__qualname__:  # the same class may be loaded twice
            raise RecipeError(
                f"the tag `{tag}` belongs to `{known.__module__}.{known.__qualname__}` already",
                f"Give `{cls.__qualname__}` a tag of its own.",
            )
        cls.tag = tag
        _known[tag] = cls

    @model_validator(mode="after")
    def _freeze(self) -> Node:
        for name, value in self.__dict__.items():
            frozen = deep_frozen(value)
            if frozen is not value:
                self.__dict__[name] = frozen
        return self

    def identity(self) -> Mapping[str, Any] | None:
        """What counts in the key in place of the fields; None counts every field that is not at its default."""
        return None

    def replace(self, **changes: Any) -> Any:
        """The same node with some fields changed, checked anew."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}
        return type(self)(**{**fields, **changes})

    def values(self) -> dict[str, Any]:
        """Fields that differ from their default, by name, in the order of declaration."""
        changed: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if field.is_required() or not same(value, deep_frozen(field.get_default(call_default_factory=True))):
                changed[name] = value
        return changed

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and self.structure == other.structure)

    def __hash__(self) -> int:
        return hash(self.structure)

    @property
    def structure(self) -> str:
        """Digest of the definition without looking at files: equal for equal definitions, memoised."""
        known: str | None = self.__dict__.get("_structure")
        if known is None:
            known = digest_of(node_form(self, _structural))
            self.__dict__["_structure"] = known
        return known

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from self.values().items()


def _structural(value: Any) -> Any:
    if isinstance(value, Node):
        return {"node": value.structure}
    if isinstance(value, InputFile):
        return {"path": str(value)}
    return function_form(value, _structural)


def same(left: Any, right: Any) -> bool:
    """Whether two field values count as equal: by type and canonical form."""
    if left is right:
        return True
    if type(left) is not type(right):
        return False
    try:
        return bool(canonical(left, _structural) == canonical(right, _structural))
    except RecipeError:
        return False


def node_form(node: Node, special: Any) -> Any:
    """Canonical form of one node: its tag and what counts of its fields, seen through `special`."""
    counted = node.identity()
    fields = node.values() if counted is None else counted
    name = type(node).__name__
    form = {key: canonical(value, special, f"{name}.{key}") for key, value in fields.items()}
    return {"tag": node.tag, "fields": form, **_own_source(type(node), special)}


def _untagged(kind: type) -> RecipeError:
    return RecipeError(
        f"`{kind.__name__}` has no tag, so its results cannot be named",
        f'Declare it as `class {kind.__name__}(..., tag="family.name/1")`.',
    )


def _own_source(kind: type, special: Any) -> dict[str, Any]:
    """Classes of the user's own project count by source too: nobody keeps a golden file for a notebook."""
    return {} if kind.__module__.partition(".")[0] == "stillhouse" else class_form(kind, special)


def content_special(node_special: Any, functions: dict[int, tuple[Any, Any]] | None = None) -> Any:
    """A `special` for `canonical` that knows files and functions by content and leaves nodes to `node_special`.

    `functions` remembers forms, by the function's id: reading a function with all it reaches takes milliseconds.
    """

    def special(value: Any) -> Any:
        if isinstance(value, Node):
            return node_special(value)
        if isinstance(value, InputFile):
            return {"file": value.digest}
        if functions is None or not isinstance(value, FunctionType):
            return function_form(value, special)
        known = functions.get(id(value))
        if known is None:
            known = functions[id(value)] = (value, function_form(value, special))
        return known[1]

    return special


def children(value: Any) -> Iterator[Node]:
    """Nodes that stand directly in a field value or a node's fields."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _nodes_of(item)
    elif isinstance(value, tuple | list | frozenset):
        for item in value:
            yield from _nodes_of(item)
    elif isinstance(value, Node):
        for name in type(value).model_fields:
            yield from _nodes_of(getattr(value, name))


def _nodes_of(value: Any) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, Mapping | tuple | list | frozenset):
        yield from children(value)


def class_of_tag(tag: str) -> type[Node] | None:
    """The class that declared `tag`, if its module was imported."""
    return _known.get(tag)


def recipe_error(kind: type[BaseModel], error: ValidationError) -> RecipeError:
    """pydantic's findings in our words: each with its field, the reason and, for unknown fields, a suggestion."""
    lines: list[str] = []
    hints: list[str] = []
    places: list[str] = []
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"] if not _UNION_MEMBER.match(str(part)))
        places.append(place)
        if item["type"] == "extra_forbidden":
            close = difflib.get_close_matches(place, list(kind.model_fields), n=1)
            lines.append(f"`{place}` is not a field of `{kind.__name__}`")
            hints.append(f"Did you mean `{close[0]}`?" if close else f"Its fields: {', '.join(kind.model_fields)}.")
        elif item["type"] == "missing":
            lines.append(f"`{place}` is missing")
        else:
            reason = item["msg"].removeprefix("Value error, ")
            lines.append(f"`{place}`: {reason[:1].lower()}{reason[1:]}" if place else reason)
    return RecipeError(f"{kind.__name__}: " + "; ".join(dict.fromkeys(lines)), " ".join(hints) or None, where=places[0])
