"""Instructions that an aligned model writes when it is given nothing but the beginning of a user's turn."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from ..calls.ask import Ask, scheme_of
from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Mapper, MapStep, Step
from ..rows.grid import Grid
from .checks import MADE, Asked, Column, check_samples
from .expectation import Load, expected_of

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session

NUMBER, MESSAGES, NUM_TURNS = "number", "messages", "num_turns"


class Magpie(MapStep, tag="generate.magpie/1"):
    """`num` instructions that the model writes by itself: it goes on from what its chat template puts before a user's
    words (Magpie, Xu et al. 2024, arXiv 2406.08464). With `answers` it also answers each, in the column `output`.

    That needs a model that goes on from raw text: `local:FOLDER` or a step that makes a model, whose chat template
    tells the `prefix`; or `vllm:NAME`, `gguf:FILE`, or `completions/NAME` at a server, for which you give it:
    `prefix="<|im_start|>user\\n"`, with the template's end of a turn among the `stop` of the `Ask`. `answerer` is who
    answers, by chat: needed with `completions/NAME`, else `by` itself. `system` goes before the user's turn, and leads
    to instructions of its field; with a `prefix` of your own, write it there.

    With `turns` above 1 it goes on: after each answer the model is given the conversation so far and the beginning of
    the user's next turn, and writes that too. Rows then hold `messages` and `num_turns` beside the first instruction. A
    conversation ends earlier where the model, as the user, says nothing more, or a later turn cannot be used. The chat
    template of a local model tells what stands between turns; beside a `prefix` of your own say it in `between`: what
    follows the user's words, and what follows an answer, such as
    `("<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n<|im_start|>user\n")`.

    A hosted chat model cannot be asked so. `DataFromPrompt` may ask it for what users write, which is another method:
    there the model follows an instruction.
    """

    follows_up: ClassVar[bool] = True

    rows: Step[Rows] = Field(MADE, validate_default=False, description="the numbers 0 to `num` - 1, made by itself")
    by: Asked
    num: int = Field(ge=1)
    prefix: str | None = Field(None, min_length=1)
    system: str | None = Field(None, min_length=1)
    answers: bool = False
    answerer: Ask | None = None
    column: Column = "instruction"
    turns: int = Field(1, ge=1, description="of the user, each with its answer")
    between: tuple[str, str] | None = None

    @model_validator(mode="after")
    def _goes_on(self) -> "Magpie":
        check_samples(self.by, self.num, "num")
        model = self.by.model
        scheme = scheme_of(model) if isinstance(model, str) else "local"
        completes = isinstance(model, str) and model.startswith("completions/")
        if scheme is None and not completes:
            raise ValueError(
                f"`{self.by.name}` is asked by chat and cannot go on from the beginning of a user's turn: ask "
                "`completions/NAME` at a server, or a model of this machine; or make instructions with `DataFromPrompt`"
            )
        if scheme != "local" and self.prefix is None:
            raise ValueError(
                "`prefix` is missing: what the model's chat template writes before the words of a user, such as "
                r'"<|im_start|>user\n"'
            )
        if self.system is not None and self.prefix is not None:
            raise ValueError("write the system prompt into the `prefix`, in the form of the model's chat template")
        if self.by.system is not None:
            raise ValueError("the system prompt of the `Ask` has no place before a prefix; say it in `system`")
        if self.answers and self.answerer is None and completes:
            raise ValueError("a completion answers nothing: say in `answerer` which chat model does")
        if self.answerer is not None and not self.answers:
            raise ValueError("there is an `answerer`, but no `answers` are wanted")
        if self.column == "output" and self.answers:
            raise ValueError("`output` is the column of the answers; call `column` otherwise")
        self._check_turns()
        if "rows" not in self.model_fields_set:
            self.__dict__["rows"] = Grid(each=self.num, number=NUMBER)
        return self

    def _check_turns(self) -> None:
        if self.turns == 1:
            if self.between is not None:
                raise ValueError("there is something `between` turns, but one turn alone")
            return
        if not self.answers:
            raise ValueError(f"`turns` is {self.turns}: the user goes on after an answer, so ask for `answers`")
        if self.prefix is not None and self.between is None:
            raise ValueError(
                "`between` is missing: beside a `prefix` of your own, what the chat template writes after a user's "
                r'words and after an answer: ("<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n<|im_start|>user\n")'
            )
        if self.prefix is None and self.between is not None:
            raise ValueError("`between` goes with a `prefix` of your own; else the chat template tells both")
        if self.column in (MESSAGES, NUM_TURNS):
            raise ValueError(f"`{self.column}` is a column of conversations; call `column` otherwise")

    def asks_about(self) -> Sequence[str]:
        """The number."""
        return (NUMBER,)

    def mapper(self, context: Context) -> Mapper:
        from ._magpie import writer

        return writer(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A call for each row and turn, and one for its answer, as if no conversation ended early."""
        calls, earlier = None if rows_in is None else rows_in * self.turns, 700 * (self.turns - 1)
        loads = [Load(self.by, calls, 60 + earlier, 200)]
        if self.answers:
            loads.append(Load(self.answerer or self.by, calls, 200 + earlier, 1200))
        return expected_of(loads, session, rows=rows_in)
