"""Steps: what a result is. Three shapes: whole, map and grow."""

from __future__ import annotations

import typing
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from .artifact import Artifact, Rows
from .errors import RecipeError
from .keys import UNKNOWN, digest_of
from .node import Node, children, content_special, node_form
from .occurrence import asks_apart
from .outcome import Drop, Emit, Fail, Outcome, Row

if TYPE_CHECKING:
    from .context import Context

_AS_IT_IS = core_schema.plain_serializer_function_ser_schema(lambda value: value)

A = TypeVar("A", bound=Artifact)
Answer = TypeVar("Answer")

Mapper: TypeAlias = Callable[[Sequence[Row]], "Sequence[Outcome] | Awaitable[Sequence[Outcome]]"]
"""One outcome for each row, in order. Async mappers run on the session's call loop, plain ones in the step's thread."""


class Step(Node, Generic[A]):
    """A frozen description of one result. Its fields are plain values, parts and other steps.

    A subclass names what it makes and its tag, and says how in `run`:
    `class Dedup(Step[Rows], tag="curate.dedup/1")`.
    """

    isolated: ClassVar[bool] = False
    """True: `run` happens in a child process, so that running out of memory cannot take the session along."""
    outputs: ClassVar[tuple[str, ...]] = ()
    """Names of the outputs of a step that makes several `Rows`; each is reached with `output(name)`."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # A field of type `Step[Rows]` takes any step that makes rows. pydantic's own rule for generics would rebuild a
        # step that makes something else into an empty one.
        if cls.tag:
            return handler(source)
        return core_schema.no_info_plain_validator_function(cls._checked, serialization=_AS_IT_IS)

    @classmethod
    def _checked(cls, value: Any) -> Step[Any]:
        wanted: Any = None if cls is Step else cls.makes()
        if not (isinstance(wanted, type) and issubclass(wanted, Artifact)) or wanted is Artifact:
            wanted = None  # `Step[Any]`, or still a type variable
        name = "a step" if wanted is None else f"a step that makes {wanted.kind}"
        if not isinstance(value, Step):
            raise ValueError(f"expected {name}, not {value!r:.80} ({type(value).__name__})")
        if wanted is not None and not issubclass(type(value).makes(), wanted):
            raise ValueError(f"expected {name}, but `{type(value).__name__}` makes {type(value).makes().kind}")
        return value

    def run(self, context: Context) -> None:
        """Make the result: write files into `context.folder` or rows through `context.rows()`."""
        raise RecipeError(f"`{type(self).__name__}` says nothing about how it is made", "Define its `run`.")

    @classmethod
    def makes(cls) -> type[Artifact]:
        """The kind of artifact this step makes."""
        for base in cls.__mro__:
            meta = getattr(base, "__pydantic_generic_metadata__", None)
            if meta and meta["origin"] is Step and meta["args"]:
                return typing.cast("type[Artifact]", meta["args"][0])
        raise RecipeError(
            f"`{cls.__name__}` does not say what it makes", f"Declare it as `class {cls.__name__}(Step[Rows], ...)`."
        )

    @property
    def recipe_key(self) -> str:
        """The key of the definition, with input files counted by their present content."""
        return KeyBook().recipe(self)

    def limited(self, num_rows: int) -> Step[A]:
        """What to take in this step's place when only `num_rows` rows go the whole road first (`run --limit`).

        Inputs are shortened already. A step that makes rows of its own or trains says how it gets by with less.
        """
        del num_rows
        return self

    def output(self, name: str) -> Output:
        """One output of a step with several."""
        return Output(of=self, name=name)

    def inputs(self) -> tuple[Step[Any], ...]:
        """The steps this one reads, through its parts, each once, in order of mention."""
        return tuple(dict.fromkeys(_steps_under(self)))


def _steps_under(node: Node) -> Iterator[Step[Any]]:
    for child in children(node):
        if isinstance(child, Step):
            yield child
        else:
            yield from _steps_under(child)


class Output(Step[Rows], tag="core.output/1"):
    """One of the outputs of a step that makes several. It is never built: it points into its step's artifact."""

    of: Step[Any]
    name: str

    def model_post_init(self, context: Any) -> None:
        del context
        if self.name not in self.of.outputs:
            names = ", ".join(self.of.outputs) or "none"
            raise RecipeError(f"`{type(self.of).__name__}` has no output `{self.name}`", f"Its outputs: {names}.")


class MapStep(Step[Rows]):
    """Makes 0..n rows from each row of `rows`, each independent of the others.

    The session owns chunking, concurrency, the journal and progress, so every map step resumes and can be distributed.
    """

    chooses: ClassVar[bool] = False
    """True: a row passes as it is or not at all, so that a table of none still has the columns of `rows`."""
    follows_up: ClassVar[bool] = False
    """True: what is asked about a row rests on replies about it, and cannot be counted before these have come."""

    rows: Step[Rows]

    def mapper(self, context: Context) -> Mapper:
        """Called once in each process; returns the function that maps a chunk of rows to their outcomes."""
        raise RecipeError(f"`{type(self).__name__}` says nothing about how rows are mapped", "Define its `mapper`.")

    def asks_about(self) -> Sequence[str] | None:
        """The columns that shape what is asked about a row, `_id` among them where it does; None for all of content.

        Rows that are equal there ask the same, and where models are asked that may answer in another way each time,
        each of these rows gets a reply of its own.
        """
        return None

    def asks_as(self, row: Row) -> Any:
        """What a row is asked as, plain values: rows with equal ones ask the same. By default all of `asks_about`;
        the row holds these columns alone."""
        return list(row.values())

    def summary(self, made: Rows) -> Mapping[str, Any]:
        """Facts about all rows that were made, as JSON values for the record.

        A mapper cannot tell them: after a kill it does not see what was mapped before.
        """
        del made
        return {}


class Grower(Protocol[Answer]):
    """What a grow step gives the runner."""

    def finished(self, num_calls: int, accepted: Sequence[Row]) -> str | None:
        """A reason to stop after `num_calls` calls, or None. Must depend on its arguments alone."""
        ...

    async def ask(self, call: int, accepted: Sequence[Row]) -> Answer:
        """Make call number `call`; `accepted` holds the rows of calls 0 … call − window."""
        ...

    def accept(self, call: int, answer: Answer, accepted: Sequence[Row]) -> Sequence[Emit | Drop | Fail]:
        """Judge an answer, in order of call; `accepted` holds the rows of all calls before."""
        ...


@runtime_checkable
class Following(Protocol):
    """A grower that wants to know what became of every call, in order, those of earlier attempts among them."""

    def took(self, call: int, outcomes: Sequence[Emit | Drop | Fail]) -> None: ...


class GrowStep(Step[Rows]):
    """Makes rows that depend on rows made before.

    `window` calls run at once: call i sees the rows accepted from calls 0 … i − window, accepted in order of i. So the
    rows are the same whatever the order in which replies come.
    """

    window: int = Field(8, ge=1)

    def grower(self, context: Context) -> Grower[Any]:
        raise RecipeError(f"`{type(self).__name__}` says nothing about how rows grow", "Define its `grower`.")


class KeyBook:
    """Recipe and build keys of a graph, each computed once: a diamond 20 deep costs 20 keys.

    Input files are read when their step's key is first asked for; make a new book to look at them again.
    """

    def __init__(self) -> None:
        self._recipe: dict[
            int, tuple[Step[Any], str]
        ] = {}  # by identity; the step is held so that its id stays its own
        self._functions: dict[str, dict[int, tuple[Any, Any]]] = {"recipe": {}, "build": {}, "shown": {}}

    def recipe(self, step: Step[Any]) -> str:
        """Digest of the definition of `step` and of everything it is made from."""
        known = self._recipe.get(id(step))
        if known is None:
            known = (
                step,
                digest_of({"recipe": self._form(step, "recipe", lambda child: {"recipe": self.recipe(child)})}),
            )
            self._recipe[id(step)] = known
        return known[1]

    def know(self, step: Step[Any], key: str) -> None:
        """Take `key` as the recipe key of `step`, which was computed elsewhere."""
        self._recipe[id(step)] = (step, key)

    def build(self, step: Step[Any], digest_of_input: Callable[[Step[Any]], str]) -> str:
        """Digest of the step's own definition and of the contents of its inputs."""
        return digest_of({"build": self._form(step, "build", lambda child: {"content": digest_of_input(child)})})

    def function(self, function: Any) -> Any:
        """The canonical form of a function for definitions, or `UNKNOWN`."""
        return content_special(lambda _: UNKNOWN, self._functions["shown"])(function)

    def _form(self, step: Step[Any], key: str, step_form: Callable[[Step[Any]], Any]) -> Any:
        def form(node: Node) -> Any:
            return step_form(node) if isinstance(node, Step) else node_form(node, special)

        special = content_special(form, self._functions[key])
        counted = node_form(step, special)
        if isinstance(step, MapStep) and asks_apart(step):
            counted["equal_rows"] = "apart"  # they shared their replies once, under the key without this
        return counted
