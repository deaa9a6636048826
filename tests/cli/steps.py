"""Steps and functions that recipes of these tests name; the file is copied into their working folders."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stillhouse.core.artifact import Report, Rows
from stillhouse.core.context import Context
from stillhouse.core.errors import RowFault
from stillhouse.core.outcome import Drop, Emit, Fail, Outcome, Row
from stillhouse.core.step import Mapper, MapStep, Step
from stillhouse.curate.dedup import Dedup
from stillhouse.rows.import_ import Import


class Numbered(MapStep, tag="test.numbered/1"):
    """Adds the row's number; rows whose number is in `fail` or `drop` do not come through."""

    fail: tuple[int, ...] = ()
    drop: tuple[int, ...] = ()
    grow: str | None = None
    """A file that gets another line while this runs."""

    def mapper(self, context: Context) -> Mapper:
        def numbered(rows: Sequence[Row]) -> list[Outcome]:
            if self.grow is not None:
                with Path(self.grow).open("a") as file:
                    file.write('{"input": "late", "output": "99"}\n')
            return [self.outcome(row, int(row["output"])) for row in rows]

        return numbered

    def outcome(self, row: Row, number: int) -> Outcome:
        if number in self.fail:
            return Fail("invalid", "this number is cursed", raw=row["input"])
        if number in self.drop:
            return Drop("unwanted number")
        return Emit([{"input": row["input"], "output": row["output"], "number": number}])


class Slow(Step[Rows], tag="test.slow/1"):
    """Copies its rows, each when the file `go` has appeared or after `seconds`; makes the file `begun`."""

    rows: Step[Rows]
    seconds: float = 60.0

    def run(self, context: Context) -> None:
        with context.rows() as writer:
            for done, row in enumerate(context.get(self.rows)):
                Path("begun").touch()
                self.wait(context)
                writer.keep(row)
                context.progress(done + 1)

    def wait(self, context: Context) -> None:
        until = time.monotonic() + self.seconds
        while not Path("go").exists() and time.monotonic() < until:
            context.check_stop()
            time.sleep(0.02)


class Big(Step[Rows], tag="test.big/1"):
    """Rows of a kilobyte each that do not compress."""

    num: int

    def run(self, context: Context) -> None:
        import hashlib

        with context.rows() as writer:
            for number in range(self.num):
                text = "".join(hashlib.sha512(f"{number} {part}".encode()).hexdigest() for part in range(8))
                writer.emit({"text": text})


class Gate(Step[Report], tag="test.gate/1"):
    """Passes when there are at least `least` rows."""

    rows: Step[Rows]
    least: int

    def run(self, context: Context) -> None:
        num = len(context.get(self.rows))
        context.note(passed=num >= self.least)
        (context.folder / "report.json").write_text(f'{{"rows": {num}}}')
        (context.folder / "report.txt").write_text(f"{num} rows\n")


class Broken(Step[Rows], tag="test.broken/1"):
    """Has a mistake in it."""

    rows: Step[Rows]

    def run(self, context: Context) -> None:
        context.note(share=1 / (len(context.get(self.rows)) - 8))


def pipeline(seeds: str, threshold: float = 0.8) -> Step[Rows]:
    """A recipe as a function."""
    return Dedup(rows=Numbered(rows=Import(path=seeds)), threshold=threshold)


def not_a_pipeline() -> dict[str, Any]:
    return {}


def reply(messages: list[dict[str, str]], schema: dict[str, Any] | None, sample: int) -> str:
    """A teacher that shouts; counts its calls in the file `asked`."""
    del schema, sample
    with open("asked", "a", encoding="utf-8") as file:
        file.write(".")
    return messages[-1]["content"].upper()


def picky(messages: list[dict[str, str]], schema: dict[str, Any] | None, sample: int) -> str:
    """A teacher that does not answer about number 2 unless it is asked in another way."""
    if messages[-1]["content"].endswith("2") and sample == 0:
        raise RowFault("refused", "not number 2")
    return reply(messages, schema, sample)
