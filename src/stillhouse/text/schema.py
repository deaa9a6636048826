"""What structured text must look like: the replies of models, and values that are checked."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.errors import PydanticUserError

from stillhouse.core.errors import RecipeError
from stillhouse.core.functions import reference, resolve
from stillhouse.core.part import Part

Json = Any
"""A JSON value."""


class Misfit(ValueError):
    """A value does not follow the schema; the message names the place.

    `told` is the same without a library's wording, for requests whose keys must outlive its versions.
    """

    def __init__(self, message: str, told: str | None = None) -> None:
        super().__init__(message)
        self.told = message if told is None else told


class Schema(Part, tag="text.schema/1"):
    """A JSON Schema (2020-12) for replies: `Schema(OrderModel)` or `Schema({"type": "object", …})`.

    Other types of Python will do as well: `Schema(Order | Refund)`, `Schema(list[Order])`, an enum, a `Literal`.

    Fields that the schema does not name are dropped when it comes from a pydantic model that ignores them, are errors
    where it forbids them (`additionalProperties: false`), and stay otherwise. Missing fields take the schema's default.
    The validators of a pydantic model run too; such a model must stand at the top of a module, and counts by its
    source.
    """

    json_schema: dict[str, Json] = Field(description="the schema; a pydantic model class is turned into its own")
    drop_extra: bool = False
    python_model: str | None = Field(
        None, description="`module:Class` of a pydantic model that has validators of its own"
    )

    def __init__(self, json_schema: Any = None, /, **fields: Any) -> None:
        super().__init__(**({**_fields_of(json_schema), **fields} if json_schema is not None else fields))

    @model_validator(mode="before")
    @classmethod
    def _given(cls, given: Any) -> Any:
        """A field of type `Schema` takes a model class, another type or a JSON Schema as it stands."""
        own = (
            not given or {*given} <= {*cls.model_fields} if isinstance(given, Mapping) else isinstance(given, cls | str)
        )
        return given if own or given is None else _fields_of(given)

    @field_validator("json_schema")
    @classmethod
    def _sound(cls, schema: dict[str, Json]) -> dict[str, Json]:
        from ._validate import schema_error

        found = schema_error(orjson.loads(orjson.dumps(schema)))  # frozen fields hold tuples
        if found is not None:
            raise ValueError(f"this is no JSON Schema: {found}")
        return schema

    def identity(self) -> Mapping[str, Any] | None:
        """The schema, and the source of a model that has validators."""
        if self.python_model is None:
            return None
        return {"json_schema": self.json_schema, "drop_extra": self.drop_extra, "model": resolve(self.python_model)}

    @property
    def title(self) -> str:
        """The schema's `title`, by which a teacher can tell what is asked for."""
        return str(self.json_schema.get("title", "reply"))

    @property
    def form(self) -> dict[str, Json]:
        """The schema as plain JSON, as it is sent and as it counts in call keys."""
        form: dict[str, Json] = self.derived("form", lambda: orjson.loads(orjson.dumps(self.json_schema)))
        return form

    @property
    def strict_form(self) -> dict[str, Json] | None:
        """The schema in the dialect of strict modes (all objects closed, all fields required), or None."""
        strict: dict[str, Json] | None = self.derived("strict", lambda: _strict(self.form))
        return strict

    def check(self, value: Json) -> Json:
        """The value with fields filtered and defaults filled in; raises `Misfit` naming the place."""
        check = self.derived("check", self._checker)
        try:
            return check(value)
        except RecursionError:
            raise Misfit("it is nested too deeply") from None

    def _checker(self) -> Callable[[Json], Json]:
        from ._validate import Checker

        checker = Checker(self.form, drop_extra=self.drop_extra)
        return checker if self.python_model is None else _and_model(checker, resolve(self.python_model))

    def derived(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, made once; the part is frozen, so it stays true."""
        key = f"_{name}"
        if key not in self.__dict__:
            self.__dict__[key] = make()
        return self.__dict__[key]


def _fields_of(given: Any) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {"json_schema": given}
    if isinstance(given, type) and issubclass(given, BaseModel):
        fields: dict[str, Any] = {"json_schema": given.model_json_schema(), "drop_extra": True}
        if _calls_functions(given.__pydantic_core_schema__):
            fields["python_model"] = reference(given)
        return fields
    return {"json_schema": _form_of_type(given), "drop_extra": True}


def _form_of_type(given: Any) -> dict[str, Json]:
    """The JSON Schema of a union, an enum, a list, a `Literal`: of what has no name by which it is found again."""
    if given is str:
        raise RecipeError(f"{given!r:.80} is no schema", "Replies are text where no schema is given: leave it out.")
    try:
        adapter = TypeAdapter(given)
        form = adapter.json_schema()
    except (PydanticUserError, TypeError, NameError, AttributeError):
        form = {}
    if not form or adapter.core_schema["type"] == "call":  # whatever there is, or the arguments of a function
        hint = "Give a pydantic model class, a union, a list or an enum, or a JSON Schema as a dict."
        raise RecipeError(f"{given!r:.80} is no schema", hint)
    if _calls_functions(adapter.core_schema):
        raise RecipeError(
            f"in {given!r:.80} there are validators, and it has no name by which they are found again",
            "Name it at the top of a module, `class Reply(pydantic.RootModel[…]): pass`, and give that.",
        )
    return form


def _calls_functions(schema: Any) -> bool:
    """Whether pydantic's own form of a model calls functions to validate: validators of fields at any depth, of models
    and in `Annotated`, `model_post_init` and `__post_init__`."""
    if isinstance(schema, list | tuple):
        return any(map(_calls_functions, schema))
    if not isinstance(schema, dict):
        return False
    if str(schema.get("type", "")).startswith("function-"):
        return True
    if schema.get("post_init") in ("model_post_init", True):  # `True`: a dataclass has a `__post_init__`
        return True
    return any(_calls_functions(part) for name, part in schema.items() if name not in ("serialization", "metadata"))


def _and_model(check: Callable[[Json], Json], model: Any) -> Callable[[Json], Json]:
    def checked(value: Json) -> Json:
        plain = check(value)
        try:
            return model.model_validate(plain).model_dump(mode="json", by_alias=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
            own = first.get("ctx", {}).get("error")  # what the validator itself said
            raise Misfit(f"${place}: {first['msg']}", f"${place}: {own or first['type']}") from None
        except Exception as error:  # a validator may meet what it was not written for
            raise Misfit(f"$: {type(error).__name__} in a validator: {error}") from None

    return checked


class _Open(Exception):
    """An object of the schema takes fields that it does not name, or does without one that it names."""


def _strict(schema: Json) -> dict[str, Json] | None:
    try:
        return _closed(schema)  # type: ignore[no-any-return]
    except _Open:
        return None


def _closed(schema: Json) -> Json:
    if not isinstance(schema, dict):
        return schema
    named = schema.get("properties")
    if schema.get("type") == "object" or named is not None:
        if not named or {*named} != {*schema.get("required", ())} or schema.get("additionalProperties", False):
            raise _Open
        schema = {**schema, "additionalProperties": False}
    closed: dict[str, Json] = {}
    for name, value in schema.items():
        if name in ("properties", "$defs"):
            closed[name] = {key: _closed(item) for key, item in value.items()}
        elif name in ("anyOf", "oneOf", "allOf", "prefixItems"):
            closed[name] = [_closed(item) for item in value]
        else:
            closed[name] = _closed(value) if name == "items" else value
    return closed
