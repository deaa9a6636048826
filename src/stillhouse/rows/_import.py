"""Reading files and lists into rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..core.context import Context
from ..core.errors import RecipeError
from ..core.step import KeyBook
from ._checks import Checks
from ._files import DataFile, Entry, LocalFile, entries_of, files_of, planned
from ._json_stream import Located
from ._readers import COLUMNAR, num_rows_in, rows_in, schema_in
from .transform import missing_column

if TYPE_CHECKING:
    from .import_ import Import
    from .place import Content

_MOST_TOLD = 1000
"""Files whose names and counts stand in the record."""


def write_imported(step: Import, context: Context) -> None:
    """The work of `Import`."""
    content = step.content
    if content is None:
        _write_listed(step, context)
        return
    before = planned(content)
    begun = entries_of(content)
    if KeyBook().recipe(step) != context.book.recipe(step):  # the files' content is part of it
        raise _changed(before or [], begun)
    try:
        counts = _write_files(step, files_of(content), context)
    except (RecipeError, OSError) as error:
        now = _entries_now(content)
        if now != begun:
            raise _changed(begun, now) from error
        raise
    now = _entries_now(content)
    if now != begun:
        raise _changed(begun, now)
    read = [entry._asdict() for entry in begun[:_MOST_TOLD]]
    context.note(read=read, files=counts[:_MOST_TOLD], num_files=len(counts))


def _write_listed(step: Import, context: Context) -> None:
    checks = Checks(step)
    with context.rows() as writer:
        for number, row in enumerate(step.data or (), start=1):
            content = checks.checked(number, row)
            if content is not None:
                checks.emitted(writer, number, content)
        checks.finish(["Import"])


def _write_files(step: Import, files: Sequence[DataFile], context: Context) -> list[dict[str, Any]]:
    checks, counts, number = Checks(step), [], 0
    total = _total(files)
    with context.rows() as writer:
        for file in files:
            context.check_stop()
            path = file.local()
            schema = schema_in(path, file.name, file.format) if file.format in COLUMNAR else None
            checks.enter(file.name, file.format, schema)
            before = number
            for line, row in rows_in(path, file.name, file.format, step.columns):
                content = checks.checked(line, row)
                if content is not None:
                    checks.emitted(writer, line, content)
                number += 1
                if number % 1024 == 0:
                    context.progress(number, total)
                    context.check_stop()
            counts.append({"file": file.name, "rows": number - before})
        checks.finish([file.name for file in files])
    return counts


def source(step: Import) -> Iterator[Located]:
    """The rows with their lines (or numbers), before anything is checked."""
    if step.content is None:
        yield from (Located(number, row) for number, row in enumerate(step.data or (), start=1))
        return
    for file in files_of(step.content):
        yield from rows_in(file.local(), file.name, file.format, step.columns)


def counted(step: Import) -> int | None:
    """How many rows there are, where files of this machine tell without being read as rows; else None."""
    if step.content is None:
        return len(step.data or ())
    if any(place.scheme for place in step.content.places):
        return None
    try:
        files = files_of(step.content)
    except RecipeError:
        return None
    counts = [num_rows_in(file.local(), file.format) for file in files]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def columns_told(step: Import, needed: Sequence[str]) -> None:
    """Look for the files, and whether the first has the columns `needed`, where it tells its columns by itself.

    Raises `RecipeError` for what would otherwise be found only after all rows were read.
    """
    if step.content is None:
        return
    entries_of(step.content)
    files = files_of(step.content)
    if not files or not needed or files[0].format not in COLUMNAR or not isinstance(files[0], LocalFile):
        return
    have = schema_in(files[0].local(), files[0].name, files[0].format).names
    missing = [name for name in needed if name not in have]
    if missing:
        raise missing_column(files[0].name, missing[0], have)


def _total(files: Sequence[DataFile]) -> int | None:
    """The number of rows for the view of progress, where it is cheap: from the ends of local Parquet files."""
    if not all(isinstance(file, LocalFile) and file.format == "parquet" for file in files):
        return None
    counts = [num_rows_in(file.local(), file.format) for file in files]
    return sum(count or 0 for count in counts)


def _entries_now(content: Content) -> list[Entry]:
    try:
        return entries_of(content)
    except RecipeError:  # it is gone, which is a change as well
        return []


def _changed(before: Sequence[Entry], now: Sequence[Entry]) -> RecipeError:
    """The error for files that are not what they were when the run was planned: which, and how."""
    then = {entry.name: entry for entry in before}
    for entry in now:
        old = then.pop(entry.name, None)
        if old is None and before:
            return _run_again(f"{entry.name}: the file was added since the run began")
        if old is not None and old.digest != entry.digest:
            sizes = "" if old.size is None else f": it had {old.size:,} bytes, now it has {entry.size or 0:,}"
            return _run_again(f"{entry.name}: the file was changed since the run began{sizes}")
    for name in then:
        return _run_again(f"{name}: the file was removed since the run began")
    return _run_again(f"{now[0].name if now else 'Import'}: the files were changed since the run began")


def _run_again(message: str) -> RecipeError:
    return RecipeError(message, "Run again; it is then read as it is.")
