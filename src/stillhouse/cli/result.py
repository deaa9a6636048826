"""A result as it is told after a run: what it is, where it is, what went wrong on the way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..track.progress import duration
from . import exits
from .output import fields, say
from .parser import in_folder
from .records import closed_gates, failures, records_behind, unanswered

if TYPE_CHECKING:
    from ..core.artifact import Artifact
    from ..core.events import Event
    from ..core.store import Store


class Tally:
    """An event listener that counts what a run does."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.made = 0
        self.calls: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        if event.kind == "step.finished":
            self.made += 1
        elif event.kind == "call.done":
            self.calls.update({name: number for name, number in event.data.items() if isinstance(number, int | float)})


@dataclass(frozen=True)
class Outcome:
    """A finished run."""

    name: str
    artifact: Artifact
    made: int
    """Steps that were made now; the others were there."""
    seconds: float
    failed: Mapping[str, int]
    faulty: Sequence[str]
    """The keys of results with rows that failed."""
    unanswered: int
    """Rows, among those that failed, that the next run asks again."""
    gates: list[str]
    spent: Mapping[str, Any]
    folder: Path

    @classmethod
    def of(cls, store: Store, name: str, artifact: Artifact, tally: Tally) -> Outcome:
        """What to tell of a result that has just got its name."""
        records = records_behind(store, name)
        seconds = time.monotonic() - tally.started
        return cls(
            name,
            artifact,
            tally.made,
            seconds,
            failures(records),
            [record["build_key"] for record in records if record.get("counts", {}).get("failed")],
            unanswered(records),
            closed_gates(records),
            tally.calls,
            store.folder,
        )

    @property
    def code(self) -> int:
        return exits.INCOMPLETE if self.failed or self.gates else exits.DONE

    def as_dict(self) -> dict[str, Any]:
        record = self.artifact.record
        return {
            "name": self.name,
            "kind": self.artifact.kind,
            "key": self.artifact.key,
            "digest": self.artifact.digest,
            "path": str(self.artifact.data),
            "counts": record.get("counts"),
            "outputs": {name: entry["out"] for name, entry in record.get("outputs", {}).items()},
            "facts": record["facts"],
            "steps_made": self.made,
            "seconds": round(self.seconds, 3),
            "calls": dict(self.spent),
            "failed": dict(self.failed),
            "unanswered": self.unanswered,
            "failed_gates": self.gates,
        }

    def __str__(self) -> str:
        counts = self.artifact.record.get("counts", {})
        outputs = self.artifact.record.get("outputs", {})
        shown = {
            "name": self.name,
            "kind": self.artifact.kind,
            "rows": counts.get("out"),
            "outputs": ", ".join(f"{name} {entry['out']:,}" for name, entry in outputs.items()) or None,
            "dropped": counts.get("dropped") or None,
            "path": self.artifact.data,
            "steps made": self.made,
            "time": duration(self.seconds),
            "calls": _calls(self.spent),
        }
        lines = [str(self.artifact), ""] if self.artifact.kind == "Report" else []
        return "\n".join([*lines, fields(shown)])

    def complain(self) -> None:
        """Say on stderr why the exit code is not 0."""
        if self.failed:
            listed = ", ".join(f"{tag.partition('/')[0]} {number:,}" for tag, number in self.failed.items())
            where = in_folder(self.folder)
            shown = ", ".join(f"`stillhouse show {key[:12]} --failed{where}`" for key in self.faulty)
            say(
                f"{sum(self.failed.values()):,} rows failed: {listed}\n"
                f"  {shown} {'says' if len(self.faulty) == 1 else 'say'} why, "
                f"`stillhouse retry {self.name}{where}` asks again."
            )
        if self.unanswered:
            say(f"{self.unanswered:,} of them got no answer: the same command asks those again")
        for gate in self.gates:
            say(f"`{gate.partition('/')[0]}` did not let the result pass")


def _calls(spent: Mapping[str, Any]) -> str | None:
    if not spent:
        return None
    cost = f", ${spent['cost_usd']:,.4f}" if spent["cost_usd"] else ""
    unpriced = f", {spent['unpriced']:,} without a known price" if spent["unpriced"] else ""
    return f"{spent['calls']:,} made, {spent['cached']:,} cached{cost}{unpriced}"
