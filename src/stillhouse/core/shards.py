"""Array jobs with no engine: each job maps its share of the rows, and `merge` joins what they made.

A job's share is a step like others (`Share`), and the map steps after it are the recipe's own over that share. So a job
resumes, retries and counts as any run does. Rows do not depend on each other in a map step, so that the shares of a
chain of them, put one behind the other, are the result of one machine, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from .artifact import Rows, columns_of
from .context import Context
from .errors import RecipeError
from .occurrence import asks_apart
from .step import KeyBook, MapStep, Output, Step
from .store import Store

if TYPE_CHECKING:
    from .plan import Expectation
    from .session import Session


class Share(Step[Rows], tag="core.share/1"):
    """The `index`-th of `of` pieces of a table, counted from 0: rows in their order, as many in each as can be."""

    rows: Step[Rows]
    index: int = Field(ge=0)
    of: int = Field(ge=1)

    def run(self, context: Context) -> None:
        from ._join import write_share

        write_share(context, self.rows, self.index, self.of)

    def expect(self, rows_in: int | None, session: Session) -> Expectation:
        """Its part of the rows."""
        from .plan import Expectation

        del session
        return Expectation(rows=None if rows_in is None else rows_in // self.of, calls=0, cost_usd=0.0)


def shared(step: MapStep, stage: Sequence[MapStep], index: int, of: int) -> MapStep:
    """A map step over a share of the rows at the beginning of its chain."""
    before = step.rows
    if isinstance(before, MapStep) and before in stage:
        part: Step[Rows] = shared(before, stage, index, of)
    else:
        part = Share(rows=before, index=index, of=of)
    changed: MapStep = step.replace(rows=part)
    return changed


def share_of(step: Step[Any]) -> Share | None:
    """The share that a map step works on, if it does."""
    while isinstance(step, MapStep):
        step = step.rows
    return step if isinstance(step, Share) else None


def stage_of(todo: Sequence[Step[Any]], book: KeyBook) -> list[MapStep]:
    """Of the steps to make, inputs first, the map steps that can be shared out now.

    Those whose rows come from a step that is no map step or from another of them, and whose other inputs wait for none.
    """
    stage: list[MapStep] = []
    keys: set[str] = set()
    waits: set[str] = set()

    def depends(step: Step[Any]) -> bool:
        source = step.of if isinstance(step, Output) else step
        key = book.recipe(source)
        return key in keys or key in waits

    for step in todo:
        key = book.recipe(step)
        sides = [child for child in step.inputs() if not (isinstance(step, MapStep) and child == step.rows)]
        if isinstance(step, MapStep) and not any(map(depends, sides)):
            chained = isinstance(step.rows, MapStep) and book.recipe(step.rows) in keys
            if chained or not depends(step.rows):
                stage.append(step)
                keys.add(key)
                continue
        if any(map(depends, step.inputs())):
            waits.add(key)
    return stage


@dataclass
class Join:
    """What a merge joins: steps by recipe key, how many shares each has, and the stores in which they may be."""

    of: int
    stage: Sequence[MapStep] = ()
    stores: Sequence[Store] = ()
    parts: dict[str, list[Rows]] = field(default_factory=dict)
    """The parts of steps that were found, by recipe key."""

    def find(self, step: MapStep, digest_of: Mapping[str, str], book: KeyBook) -> list[Rows | None]:
        """The parts of one step, in order; None for each that is not there. `digest_of`: of inputs by recipe key."""
        found: list[Rows | None] = []
        for index in range(self.of):
            part = shared(step, self.stage, index, self.of)
            found.append(self._part(step, part, index, digest_of, book))
        return found

    def _part(
        self, step: MapStep, part: MapStep, index: int, digest_of: Mapping[str, str], book: KeyBook
    ) -> Rows | None:
        """By its build key, so that it was made from the very rows that are here."""
        before = part.rows
        if isinstance(before, Share):
            key = book.build(before, lambda child: digest_of[book.recipe(child)])
            source = self._open(key)
        else:
            known = self.parts.get(book.recipe(step.rows))
            source = None if known is None else known[index]
        if source is None:
            return None
        digests = {**digest_of, book.recipe(before): source.digest}
        return self._open(book.build(part, lambda child: digests[book.recipe(child)]))

    def _open(self, build_key: str) -> Rows | None:
        for store in self.stores:
            if store.has(build_key):
                artifact = store.open(build_key)
                if isinstance(artifact, Rows):
                    return artifact
        return None

    def parts_of(self, step: MapStep, rows: Rows, digest_of: Mapping[str, str], book: KeyBook) -> list[Rows] | None:
        """All parts of a step; None where it is to be made here. Raises `RecipeError` where some are missing.

        Made here is a step that follows another and has no parts, as it looks at the whole table, and one whose `rows`,
        put together, have other columns or types than they had in its parts, or of which some ask the same as rows of
        another part, which could not be known there.
        """
        if step not in self.stage:
            return None
        found = self.find(step, digest_of, book)
        parts = [part for part in found if part is not None]
        if not parts and step.rows in self.stage:
            return None
        if len(parts) < self.of:
            raise missing_shares(step, found, self.of)
        before = self.parts.get(book.recipe(step.rows), [])
        if any(columns_of(part.schema) != columns_of(rows.schema) for part in before if len(part)):
            return None
        if before and not same_numbers(step, rows, before):
            return None
        self.parts[book.recipe(step)] = parts
        return parts


def same_numbers(step: MapStep, rows: Rows, parts: Sequence[Rows]) -> bool:
    """Whether the rows that ask the same have the numbers among all of them that they had in their parts."""
    if not asks_apart(step):
        return True
    from ._occurrence import hashes_of, numbering

    hashes = hashes_of(step, rows)
    start = repeated = 0
    for part in parts:
        repeated += len(numbering(hashes[start : start + len(part)]).places)
        start += len(part)
    # A number that is another one in its part is a row that repeats one of an earlier part: so there are more in all.
    return repeated == len(numbering(hashes).places)


def missing_shares(step: MapStep, found: Sequence[Rows | None], of: int) -> RecipeError:
    """The error of a merge that lacks some of its parts."""
    lacking = [f"{index + 1}/{of}" for index, part in enumerate(found) if part is None]
    shown = ", ".join(lacking[:10]) + (" …" if len(lacking) > 10 else "")
    return RecipeError(
        f"`{step.tag.partition('/')[0]}`: {len(lacking)} of {of} shards are not there ({shown})",
        "Run each with `--shard` to its end, and name the folders they were made in if these are others.",
    )


def stores_of(own: Store, folders: Sequence[str | Path], warn: Any) -> list[Store]:
    """The session's store and those of the jobs that had folders of their own."""
    stores = [own]
    for folder in folders:
        if not (Path(folder) / "artifacts-v1").is_dir():
            raise RecipeError(f"`{folder}` is not a session folder", "Name the folder that a job was run with.")
        stores.append(Store(Path(folder), warn=warn))
    return stores
