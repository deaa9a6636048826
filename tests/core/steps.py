"""Small steps that the tests of the core run."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stillhouse.core.artifact import Files, Model, Rows
from stillhouse.core.context import Context
from stillhouse.core.errors import TrainError
from stillhouse.core.functions import Function
from stillhouse.core.outcome import KEEP, Drop, Emit, Fail, Outcome, Row
from stillhouse.core.part import Part
from stillhouse.core.step import Grower, GrowStep, Mapper, MapStep, Output, Step


class Literal(Step[Rows], tag="test.literal/1"):
    """Rows given as data."""

    rows: tuple[dict[str, Any], ...]

    def run(self, context: Context) -> None:
        with context.rows() as writer:
            for row in self.rows:
                writer.emit(row)


class Numbers(Step[Rows], tag="test.numbers/1"):
    """`count` rows with `i`, and `text` of `width` letters; `slow` seconds in all; marks its runs in `log`."""

    count: int
    width: int = 5

    def run(self, context: Context) -> None:
        with context.rows() as writer:
            for i in range(self.count):
                writer.emit({"i": i, "text": "x" * self.width})


class Suffix(Part, tag="test.suffix/1"):
    text: str = "!"
    times: int = 1

    def __call__(self, text: str) -> str:
        return text + self.text * self.times


class Upper(MapStep, tag="test.upper/1"):
    """Odd `i` in capitals with a suffix; even kept, every fifth dropped, every seventh failed."""

    suffix: Suffix = Suffix()
    asynchronous: bool = False

    def mapper(self, context: Context) -> Mapper:
        def outcome(row: Row) -> Outcome:
            if row["i"] % 7 == 3:
                return Fail("invalid", "no sevens", raw=row["text"])
            if row["i"] % 5 == 0:
                return Drop("a five")
            if row["i"] % 2 == 0:
                return KEEP
            return Emit([{"i": row["i"], "text": self.suffix(row["text"].upper())}], calls=[f"call-{row['i']}"])

        def plain(rows: Sequence[Row]) -> Sequence[Outcome]:
            return [outcome(row) for row in rows]

        async def waiting(rows: Sequence[Row]) -> Sequence[Outcome]:
            await asyncio.sleep(0.001 * (rows[0]["i"] % 3))
            return plain(rows)

        return waiting if self.asynchronous else plain


class Apply(MapStep, tag="test.apply/1"):
    """A user's function over each row's content."""

    function: Function

    def mapper(self, context: Context) -> Mapper:
        return lambda rows: [Emit([self.function(row)]) for row in rows]


class Slow(MapStep, tag="test.slow/1"):
    """Copies rows, `seconds` for each; writes one byte into `log` for each row it works on."""

    seconds: float = 0.0
    log: str = ""

    def identity(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def mapper(self, context: Context) -> Mapper:
        def work(rows: Sequence[Row]) -> Sequence[Outcome]:
            for _ in rows:
                time.sleep(self.seconds)
                if self.log:
                    with open(self.log, "ab") as file:
                        file.write(b".")
            return [Emit([{"i": row["i"], "copy": True}]) for row in rows]

        return work


class Rubbish(MapStep, tag="test.rubbish/1"):
    """Fails on every row."""

    def mapper(self, context: Context) -> Mapper:
        return lambda rows: [Fail("invalid", f"row {row['i']} is rubbish", raw="%$!") for row in rows]


class Gated(MapStep, tag="test.gated/1"):
    """Copies rows, `seconds` for each; those from number `opens` on fail while `gate` does not exist.

    Writes the number of each row that it works on into `log`.
    """

    gate: str
    log: str
    opens: int = 0
    seconds: float = 0.0
    asynchronous: bool = False

    def identity(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def mapper(self, context: Context) -> Mapper:
        def outcome(row: Row) -> Outcome:
            time.sleep(self.seconds)
            with open(self.log, "a") as file:
                file.write(f"{row['i']}\n")
            if row["i"] >= self.opens and not Path(self.gate).exists():
                return Fail("invalid", "the gate is shut")
            return Emit([{"i": row["i"], "copy": True}])

        def plain(rows: Sequence[Row]) -> Sequence[Outcome]:
            return [outcome(row) for row in rows]

        async def waiting(rows: Sequence[Row]) -> Sequence[Outcome]:
            return plain(rows)

        return waiting if self.asynchronous else plain


class Halves(Step[Rows], tag="test.halves/1"):
    """Two outputs: even and odd rows."""

    outputs = ("even", "odd")
    rows: Step[Rows]

    @property
    def even(self) -> Output:
        return self.output("even")

    @property
    def odd(self) -> Output:
        return self.output("odd")

    def run(self, context: Context) -> None:
        with context.rows("even") as even, context.rows("odd") as odd:
            for row in context.get(self.rows):
                (even if row["i"] % 2 == 0 else odd).keep(row)


class Join(Step[Rows], tag="test.join/1"):
    """All rows of several tables."""

    tables: tuple[Step[Rows], ...]

    def run(self, context: Context) -> None:
        with context.rows() as writer:
            for table in self.tables:
                for row in context.get(table):
                    writer.keep(row)


class Meets(Step[Rows], tag="test.meets/1"):
    """Waits until all `of` steps of its kind are at work; one row tells how many met."""

    place: str
    number: int
    of: int

    def run(self, context: Context) -> None:
        (Path(self.place) / str(self.number)).touch()
        deadline = time.monotonic() + 20
        while len(os.listdir(self.place)) < self.of and time.monotonic() < deadline:
            time.sleep(0.01)
        with context.rows() as writer:
            writer.emit({"met": len(os.listdir(self.place))})


class Growth(GrowStep, tag="test.growth/1"):
    """`goal` rows; each tells its call and how many rows that call saw; replies come in any order."""

    rows: Step[Rows]
    goal: int = 20
    jitter: int = 7

    def identity(self) -> dict[str, Any]:
        return {"rows": self.rows, "goal": self.goal, "window": self.window}

    def grower(self, context: Context) -> Grower[int]:
        return _Growing(self.goal, self.jitter)


class _Growing:
    def __init__(self, goal: int, jitter: int) -> None:
        self.goal, self.jitter = goal, jitter

    def finished(self, num_calls: int, accepted: Sequence[Row]) -> str | None:
        return "the goal is reached" if len(accepted) >= self.goal else None

    async def ask(self, call: int, accepted: Sequence[Row]) -> int:
        await asyncio.sleep(0.001 * ((call * self.jitter) % 5))
        return len(accepted)

    def accept(self, call: int, answer: int, accepted: Sequence[Row]) -> Sequence[Emit | Drop | Fail]:
        if call % 4 == 3:
            return [Drop("every fourth")]
        return [Emit([{"call": call, "saw": answer, "before": len(accepted)}])]


class Trained(Step[Model], tag="test.trained/1"):
    """A folder made in a child process; `fate` says how it ends."""

    isolated = True
    rows: Step[Rows]
    fate: str = "well"

    def run(self, context: Context) -> None:
        rows = context.get(self.rows)
        if self.fate == "killed":
            os.kill(os.getpid(), 9)
        if self.fate == "error":
            raise TrainError("the loss is not finite", "Lower the learning rate.")
        if self.fate == "crash":
            raise ValueError("boom")
        if self.fate == "slow":
            marker = context.scratch / "began"
            marker.write_text("")
            while True:
                context.check_stop()
                time.sleep(0.01)
        for step in range(3):
            context.log(step, loss=1.0 / (step + 1))
        (context.folder / "weights.bin").write_bytes(bytes(len(rows)))
        context.note(rows=len(rows), parent=os.getppid())


class Judged(Step[Files], tag="test.judged/1"):
    """A user's function over each row, in a process of its own."""

    isolated = True
    rows: Step[Rows]
    function: Function

    def run(self, context: Context) -> None:
        texts = [str(self.function(row)) for row in context.get(self.rows)]
        (context.folder / "texts.txt").write_text("\n".join(texts))


class Copied(Step[Files], tag="test.copied/1"):
    """Copies a text into a file; fails while `gate` does not exist."""

    rows: Step[Rows]
    gate: str = ""

    def identity(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def run(self, context: Context) -> None:
        if self.gate and not Path(self.gate).exists():
            raise RuntimeError("the gate is shut")
        texts = [row.get("text", "") for row in context.get(self.rows)]
        (context.folder / "texts.txt").write_text("\n".join(texts))
