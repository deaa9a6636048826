"""Instructions made harder, or others beside them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from ..calls.ask import Ask
from ..core.context import Context
from ..core.outcome import Row
from ..core.step import Mapper, MapStep
from .checks import Asked, Column
from .expectation import Load, expected_of

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session

METHODS: dict[str, str] = {
    "constraints": "Add one constraint or requirement more.",
    "deepening": "Ask about the same matter in more depth and breadth.",
    "concretising": "Put more specific notions in the place of general ones.",
    "reasoning": "If a few simple thoughts solve it, ask so that several steps of reasoning are needed.",
    "input": "Put in data that has to be worked with: a table, code, a formula, JSON, a log.",
    "breadth": "",
}
"""The operations of Evol-Instruct: five in depth, of which each says how to rewrite, and one in breadth."""


class Evolve(MapStep, tag="generate.evolve/1"):
    """Rewrites the instruction in the column `input` into harder ones, or others of its kind (Evol-Instruct, Xu et al.
    2023, arXiv 2304.12244).

    In each of the `generations` one of the `methods` is drawn by `seed`: `constraints`, `deepening`, `concretising`,
    `reasoning` and `input` make it harder, `breadth` asks for a new, rarer one of the same field. Methods of your own
    are a mapping of names to what shall be done: `{"polite": "Make it more polite."}`; where these keep what is asked
    for, as a paraphrase does, say `compare=False`.

    An evolved instruction is dropped, with the reason, when it is the same as before, when `judge` (`by`, where none is
    given) finds that nothing was gained, or when it speaks of the rewriting; with `answers`, also when its answer is a
    short apology or says nothing. The next generation then starts again from what there was.

    New rows have the evolved `input`, `method`, `generation` (from 1) and, with `answers`, the answer in `output`; and
    the columns that `carry` names. What else the row holds was said of the original, to which the parent leads.
    """

    by: Asked
    input: Column = "instruction"
    methods: tuple[str, ...] | Mapping[str, str] = tuple(METHODS)
    generations: int = Field(1, ge=1)
    keep: Literal["all", "last"] = "all"
    judge: Ask | None = Field(None, description="who says whether something was gained; None asks `by`")
    compare: bool = Field(True, description="False: nobody is asked whether something was gained")
    answers: bool = False
    carry: tuple[str, ...] = ()
    seed: int = 0

    @field_validator("methods")
    @classmethod
    def _are_known(cls, methods: tuple[str, ...] | Mapping[str, str]) -> tuple[str, ...] | Mapping[str, str]:
        if not methods:
            raise ValueError("there are no methods")
        unknown = [name for name in methods if not isinstance(methods, Mapping) and name not in METHODS]
        if unknown:
            raise ValueError(
                f"`{unknown[0]}` is no method that is known: {', '.join(METHODS)}; or give {{name: words}}"
            )
        empty = [name for name in methods if isinstance(methods, Mapping) and not methods[name].strip()]
        if empty:
            raise ValueError(f"`{empty[0]}` does not say what is to be done")
        return methods

    @model_validator(mode="after")
    def _carries_others(self) -> "Evolve":
        own = {self.input, "method", "generation", "output"} & set(self.carry)
        if own:
            raise ValueError(f"`carry` names `{min(own)}`, which the new rows have of their own")
        return self

    def asks_about(self) -> Sequence[str]:
        """The instruction; and the id, by which methods are drawn."""
        return (self.input, "_id")

    def asks_as(self, row: Row) -> Any:
        """The instruction, and the methods that are drawn for it."""
        from ._evolve import methods_of

        return [row.get(self.input), *methods_of(self, row["_id"])]

    def mapper(self, context: Context) -> Mapper:
        from ._evolve import evolver

        return evolver(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """As if each generation came to something."""
        rows = None if rows_in is None else rows_in * self.generations
        loads = [Load(self.by, rows, 1000, 300)]
        if self.compare:
            loads.append(Load(self.judge or self.by, rows, 1000, 20))
        if self.answers:
            loads.append(Load(self.by, rows, 300, 1200))
        return expected_of(loads, session, rows=rows_in if self.keep == "last" else rows)
