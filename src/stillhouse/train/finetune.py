"""Training a model on token files: the whole of it or an adapter, from a pretrained model or from scratch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from ..core.artifact import Model, Rows, Tokens
from ..core.context import Context
from ..core.part import Part
from ..core.step import Step
from ..models.adapter import Lora
from ..models.pretrained import Pretrained
from ..models.scratch import FromScratch
from ..tokens.mixing import Mixture
from ..tokens.pack import Pack
from ..tokens.packing import Packing
from ..tokens.reweight import Reweight
from ..tokens.source import Source
from ..tokens.tokenize import Tokenize
from .objectives.sft import Sft
from .optimiser import AdamW
from .schedule import Cosine

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Finetune(Step[Model], tag="train.finetune/2"):
    """`base`, trained on `tokens`: a folder that transformers (or PEFT) loads, with its tokenizer and template.

    Give `rows=` in place of `tokens=` to have conversations tokenised with the base's tokenizer and template; a
    `Mixture` of several sources takes rows, files (`Source`) and tokens alike, each with its weight. Documents
    are packed into rows of `seq_len` tokens and never see each other; an update takes `batch_size` such rows, in
    whatever micro-batches the session has memory for: gradients are sums, divided once by the weight of all learnt
    tokens.

    With `held_out` the loss is watched while training; the best weights are handed out (`keep_best`), and training ends
    after `patience` evaluations without a better one. An interrupted run goes on from its last checkpoint and ends as
    an uninterrupted one does: on the CPU, bit for bit.
    """

    isolated: ClassVar[bool] = True

    base: SerializeAsAny[Step[Model]] = Field(description="the model to start from; a text is a hub name or a folder")
    tokens: SerializeAsAny[Step[Tokens] | Mixture] = Field(description="what to learn; a mixture takes several sources")
    held_out: SerializeAsAny[Step[Tokens] | Mixture] | None = Field(
        None, description="tokens, or rows, to watch the loss on; of a mixture also source by source"
    )
    adapter: Lora | None = Field(None, description="train this beside the frozen base; None trains all weights")
    objective: SerializeAsAny[Part] = Field(default_factory=Sft)
    optimiser: SerializeAsAny[Part] = Field(default_factory=AdamW)
    schedule: SerializeAsAny[Part] = Field(default_factory=Cosine)
    learning_rate: float | None = Field(
        None, gt=0, description="peak; None: 2e-3 from scratch, 2e-4 for an adapter, 2e-5 for all of a pretrained model"
    )
    epochs: float | None = Field(
        None, gt=0, description="passes over the tokens; 3 if neither this nor `steps` is given"
    )
    steps: int | None = Field(None, ge=1, description="updates, in place of `epochs`")
    batch_size: int = Field(8, ge=1, description="rows of `seq_len` tokens for an update")
    seq_len: int = Field(
        1024, ge=8, description="tokens of a packed row; `packing` says what becomes of longer documents"
    )
    packing: Packing = Field(default_factory=Packing)
    clip: float | None = Field(1.0, gt=0, description="longest gradient, by its norm; None: unbounded")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the arithmetic; what learns is float32 always. auto: bfloat16 on GPUs that have it"
    )
    evaluate_every: int | None = Field(None, ge=1, description="updates between evaluations; None: ten times a run")
    patience: int | None = Field(None, ge=1, description="evaluations without a better one after which training ends")
    keep_best: bool = Field(True, description="hand out the weights of the best evaluation, not the last ones")
    checkpoints: int = Field(
        0,
        ge=0,
        description="kept in the result, evenly spread, with the optimiser's moments; where training ends early the "
        "last state is one of them",
    )
    seed: int = 0

    if TYPE_CHECKING:
        # `rows` is no field, and `base` may be a text: both are settled before the fields are checked.
        def __init__(self, **fields: Any) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _rows_to_tokens(cls, fields: Any) -> Any:
        """Rows in place of tokens are tokenised for the base, with the defaults of `Tokenize`."""
        if not isinstance(fields, dict):
            return fields
        fields = dict(fields)
        if isinstance(fields.get("base"), str):
            fields["base"] = Pretrained(name=fields["base"])
        if "rows" in fields and "tokens" in fields:
            raise ValueError("give `rows` or `tokens`, not both")
        if "rows" in fields:
            fields["tokens"] = fields.pop("rows")
        base = fields.get("base")
        for name in ("tokens", "held_out"):
            given = fields.get(name)
            if isinstance(given, Mixture):
                sources = {source: _as_tokens(value, base) for source, value in given.sources.items()}
                _check_sources(name, sources)
                fields[name] = given.replace(sources=sources)
            else:
                fields[name] = _as_tokens(given, base)
            if fields[name] is None:
                fields.pop(name)
        for packed in _packed(fields.get("tokens")):
            for name in ("seq_len", "packing"):
                if fields.setdefault(name, getattr(packed, name)) != getattr(packed, name):
                    raise ValueError(
                        f"the tokens are packed with another `{name}`; leave it out, or give what is packed"
                    )
        return fields

    @field_validator("objective", "optimiser", "schedule")
    @classmethod
    def _is_callable(cls, part: Part) -> Part:
        if not callable(part):
            raise ValueError(f"`{type(part).__name__}` cannot be called, so it is no part of training")
        return part

    @model_validator(mode="after")
    def _fits(self) -> "Finetune":
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give `epochs` or `steps`, not both")
        if self.patience is not None and self.held_out is None:
            raise ValueError("`patience` needs `held_out` rows to watch")
        return self

    @property
    def adapts(self) -> bool:
        """Whether an adapter learns beside a frozen base: a fresh one, or that of the base."""
        if self.adapter is not None:
            return True
        if isinstance(self.base, Pretrained):
            return self.base.names_adapter
        return isinstance(self.base, Finetune) and self.base.adapts

    @property
    def peak_rate(self) -> float:
        """The learning rate at the schedule's peak."""
        if self.learning_rate is not None:
            return self.learning_rate
        if self.adapts:
            return 2e-4
        return 2e-3 if isinstance(self.base, FromScratch) else 2e-5

    def limited(self, num_rows: int) -> "Finetune":
        """Two updates."""
        del num_rows
        found: Finetune = self.replace(steps=2, epochs=None, evaluate_every=None, patience=None)
        return found

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """Time and memory, as far as model and data are known; for plans."""
        from ._expectation import expectation

        del rows_in
        return expectation(self, session)

    def run(self, context: Context) -> None:
        from ._finetune import finetune

        finetune(self, context)


def _as_tokens(given: Any, base: Any) -> Any:
    """Rows, and files of rows, as the step that tokenises them for the base; what is anything else stays."""
    if not isinstance(base, Step):
        return given
    if isinstance(given, Source):
        return given.tokens(base)
    if isinstance(given, Step) and given.makes() is Rows:
        return Tokenize(rows=given, tokenizer=base)
    return given


def _check_sources(name: str, sources: Mapping[str, Any]) -> None:
    for source, value in sources.items():
        if not (isinstance(value, Step) and issubclass(value.makes(), Tokens)):
            raise ValueError(
                f"the source `{source}` of `{name}` is {value!r:.80} ({type(value).__name__}), expected a step that "
                "makes tokens or rows, or a `Source`: a training is known by what it was made from"
            )


def _packed(tokens: object) -> list[Pack]:
    """The steps that have packed the tokens."""
    if isinstance(tokens, Mixture):
        return [step for source in tokens.sources.values() for step in _packed(source)]
    if isinstance(tokens, Reweight):
        return _packed(tokens.tokens)
    return [tokens] if isinstance(tokens, Pack) else []
