"""Tools as models are told of them: from Python functions and from JSON Schemas."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..core.errors import RecipeError
from ..core.functions import resolve


def tool_of(given: Any) -> Any:
    """A tool as a step holds it: a function, or `{"name", "description", "parameters"}`; raises `ValueError`."""
    if isinstance(given, Mapping):
        from ..calls.request import tools_of

        return tools_of([given])[0]
    try:
        return resolve(given)
    except RecipeError as error:
        raise ValueError(str(error)) from None


def checked_tools(tools: Any) -> tuple[Any, ...]:
    """A list of tools as steps hold it; raises `ValueError` for what is none, and for two of one name."""
    if isinstance(tools, str | Mapping) or callable(tools):
        raise ValueError("expected a list of tools")
    made = tuple(tool_of(tool) for tool in tools)
    names = [name_of(tool) for tool in made]
    if len({*names}) < len(names):
        raise ValueError(f"two tools have the name `{max(names, key=names.count)}`")
    for tool in made:
        try:
            tool_form(tool)
        except RecipeError as error:
            raise ValueError(str(error)) from None
    return made


def tool_form(tool: Any) -> dict[str, Any]:
    """What a model is told of a tool: its name, what it does, and the JSON Schema of its arguments.

    Of a function: its name, its docstring, and its signature, of which every argument needs an annotation; `Annotated`
    with pydantic's `Field(description=…)` says more of one. Raises `RecipeError` where that cannot be.
    """
    if isinstance(tool, Mapping):
        return dict(tool)
    return {
        "name": name_of(tool),
        "description": inspect.cleandoc(tool.__doc__ or ""),
        "parameters": _parameters(tool),
    }


def name_of(tool: Any) -> str:
    """What a tool is called."""
    return str(tool["name"]) if isinstance(tool, Mapping) else str(tool.__name__)


def _parameters(function: Callable[..., Any]) -> dict[str, Any]:
    from pydantic import ConfigDict, create_model
    from pydantic.errors import PydanticUserError

    name = name_of(function)
    try:
        hints = inspect.signature(function, eval_str=True).parameters.values()
    except (TypeError, ValueError, NameError) as error:
        raise RecipeError(f"the signature of the tool `{name}` cannot be read: {error}") from None
    fields: dict[str, Any] = {}
    for parameter in hints:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise RecipeError(f"the tool `{name}` takes `{parameter}`", "Give each argument a name of its own.")
        if parameter.annotation is parameter.empty:
            raise RecipeError(
                f"the tool `{name}` does not say what its argument `{parameter.name}` is",
                f"Annotate it: `def {name}({parameter.name}: str, …)`.",
            )
        given = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (parameter.annotation, given)
    try:
        model: Any = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
        made: dict[str, Any] = model.model_json_schema()
    except (PydanticUserError, NameError, TypeError) as error:
        raise RecipeError(f"the arguments of the tool `{name}` have no JSON Schema: {error}") from None
    made.pop("title", None)
    for field in made.get("properties", {}).values():
        field.pop("title", None)
    return made
