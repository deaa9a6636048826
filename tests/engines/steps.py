"""Steps that the tests of engines map on other processes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from stillhouse.core.context import Context
from stillhouse.core.errors import RowFault
from stillhouse.core.outcome import KEEP, Drop, Emit, Fail, Outcome, Row
from stillhouse.core.step import Mapper, MapStep


class Spread(MapStep, tag="test.engines_spread/1"):
    """Says in which process a row was mapped (in `log`); keeps, drops and fails some."""

    log: str = ""
    seconds: float = 0.0

    def identity(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def mapper(self, context: Context) -> Mapper:
        def outcome(row: Row) -> Outcome:
            if row["i"] % 11 == 3:
                return Fail("invalid", "no", raw=row["text"])
            if row["i"] % 7 == 0:
                return Drop("a seven")
            return KEEP if row["i"] % 2 else Emit([{"i": row["i"], "text": row["text"].upper()}], calls=["c"])

        def work(rows: Sequence[Row]) -> list[Outcome]:
            time.sleep(self.seconds * len(rows))
            if self.log:
                with open(self.log, "a") as file:
                    file.write("".join(f"{os.getpid()} {row['i']}\n" for row in rows))
            return [outcome(row) for row in rows]

        return work


class Mistaken(MapStep, tag="test.engines_mistaken/1"):
    """Asks the call service for what it cannot do."""

    def mapper(self, context: Context) -> Mapper:
        async def work(rows: Sequence[Row]) -> list[Outcome]:
            await context.calls.sing(len(rows))
            return [KEEP for _ in rows]

        return work


def strict(row: dict[str, Any]) -> dict[str, Any]:
    """A function that travels by its name."""
    if row["i"] == 5:
        raise RowFault("invalid", "a five", raw="5")
    return {**row, "pid": os.getpid() != 0}
