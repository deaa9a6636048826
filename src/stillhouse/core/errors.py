"""The errors of stillhouse, named for the boundary that was crossed.

Every message says what happened and where; the hint says how to mend it. A row that fails is not an error but data:
code that works on one row raises `RowFault`, which the runner turns into a line of `failed.parquet`.
"""

from __future__ import annotations

from collections.abc import Sequence


class StillhouseError(Exception):
    """Root of all errors a user can meet; the command line prints it without a traceback."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\n  {hint}")
        self.message = message
        self.hint = hint


class RecipeError(StillhouseError):
    """What was asked for cannot be; the hint says how to mend it.

    `where` is the place in a table of nodes (`clean.threshold`), for errors that have one; recipe files make it a line.
    `step` is the `structure` of the step that it stopped, in a run: who asked for several can tell which.
    """

    def __init__(self, message: str, hint: str | None = None, *, where: str | None = None) -> None:
        super().__init__(message, hint)
        self.where = where
        self.step: str | None = None


class StoreError(StillhouseError):
    """The disk is not as it should be."""


class BudgetError(StillhouseError):
    """A limit on calls or money was reached; what was done is kept."""


class TrainError(StillhouseError):
    """Training cannot go on: the loss is not finite, memory ran out."""


class ModelError(StillhouseError):
    """A provider failed in a way that stops the step.

    `kind` is a short word for what happened (`credentials`, `quota`, `unknown_model`, `unreachable`, `rejected`);
    `retryable` says whether the same call may succeed later without anything being changed.
    """

    def __init__(
        self, message: str, hint: str | None = None, *, kind: str = "rejected", retryable: bool = False
    ) -> None:
        super().__init__(message, hint)
        self.kind = kind
        self.retryable = retryable


class Waiting(StillhouseError):
    """What was asked for is at a provider that takes its time; the same command, given later, goes on."""


class Interrupted(StillhouseError):
    """The session was asked to stop; everything finished so far is kept and the same command goes on."""


class Ended(Interrupted):
    """The step whose rows were taken while it ran did not come to its end; why, its own error says."""

    def __init__(self) -> None:
        super().__init__("the step before did not come to its end")


EXHAUSTED = "exhausted"
"""Kind of a row that got no answer within the attempts that a session allows: the trouble may have passed tomorrow."""


class RowFault(Exception):
    """One row could not be made. It becomes a line of `failed.parquet`; the step goes on.

    `kind` is one of refused, cut, invalid, empty, degenerate, too_long, exhausted, rejected, error.
    `raw` is the text that could not be used, kept for the reader.
    """

    def __init__(self, kind: str, message: str, raw: str | None = None) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message
        self.raw = raw

    def __reduce__(self) -> tuple[type[RowFault], tuple[str, str, str | None]]:
        return RowFault, (self.kind, self.message, self.raw)


_REMEDIES = {
    "refused": "The model refuses: word the instruction otherwise, or ask another model.",
    "cut": "Raise `max_tokens` of the `Ask`, or leave it out.",
    "degenerate": "The model repeats itself: raise the temperature or ask another; `when_looping='keep'` takes it.",
    "too_long": "Show less in each question, or ask a model with a longer context.",
    "rejected": "The server does not take the requests; its own words are above.",
    EXHAUSTED: "The provider is in trouble: run the same command again later.",
}


def remedy(kinds: Sequence[str]) -> str | None:
    """What mends faults of these kinds, by the commonest of them; None where the kind does not say it."""
    return _REMEDIES.get(max(kinds, key=kinds.count)) if kinds else None
