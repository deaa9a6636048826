"""What became of the rows on the way to a result: came in, failed, dropped and why, kept; and how diverse they are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.artifact import Artifact, Rows
from ..core.errors import RecipeError

if TYPE_CHECKING:
    import pyarrow as pa

    from ..core.store import Store

    Measures = Mapping[str, float | None]

# What differs from row to row in a reason: row ids, keys and numbers.
_PARTICULAR = re.compile(r"\b(?:[0-9a-f]{24}|[0-9a-f]{32}|[0-9]+(?:[.,][0-9]+)*)\b")
SHOWN = ("distinct 2", "compression", "self-BLEU", "spread", "clusters reached")
"""The measures of diversity that the text shows, the last two where the rows hold vectors; less of compression and
self-BLEU and more of the others is more diverse."""
CLUSTERS = 20
"""Of the rows that came in at most so many clusters are found, of five rows in the mean at least, and looked for among
those that stay."""


class Stage(NamedTuple):
    """One step that made rows; `rows_in` is None where it reads none. Reasons are counted, the commonest first.

    `reads` are the build keys of the tables that it read.

    `before` and `after` are measures of diversity (see `Diversity`) of a step that chose among its rows, where they
    were asked for.
    """

    tag: str
    build_key: str
    rows_in: int | None
    out: int
    dropped: int
    failed: int
    reasons: Mapping[str, int]
    faults: Mapping[str, int]
    reads: tuple[str, ...] = ()
    before: Measures | None = None
    after: Measures | None = None


def funnel(
    store: Store, artifact: Artifact, *, diversity: bool = False, columns: Sequence[str] = (), sample: int = 2000
) -> list[Stage]:
    """The stages of the rows that `artifact` is made from, and its own, inputs first.

    Records that are gone are left out. Reasons that differ only in row ids and numbers count as one. With `diversity`,
    each step that let fewer rows out than came in is told with the diversity of both, measured on `sample` rows of the
    text in `columns` (all columns of text, where none are named), and of their vectors, where `Embed` made some. That
    reads both tables once, and once more where a column of vectors holds something else by now.
    """
    records = _records(store, artifact.key)
    stages = []
    for record in records.values():
        if record["kind"] == "Rows":
            stage = _stage(store, record, records)
            if diversity and stage.rows_in is not None and 0 < stage.out < stage.rows_in:
                stage = _measured(store, record, records, stage, columns, sample)
            stages.append(stage)
    return stages


def funnel_text(stages: Sequence[Stage], width: int = 120) -> str:
    """The stages as a table for a terminal, with a bar for each; below, where measured, how diversity changed."""
    from ..rows.preview import preview

    widest = max([stage.rows_in or 0 for stage in stages] + [stage.out for stage in stages], default=0)
    lines = []
    for stage in stages:
        told = [f"{reason} ({number:,})" for reason, number in [*stage.reasons.items(), *stage.faults.items()][:4]]
        line = {
            "step": stage.tag.partition("/")[0],
            "in": stage.rows_in,
            "out": stage.out,
            "dropped": stage.dropped,
            "failed": stage.failed,
            "rows": _bar(stage, widest),
            "why": ", ".join(told),
        }
        lines.append(line)
    table = preview(lines, len(lines), width=width)
    chosen = [stage for stage in stages if stage.after is not None]
    shown = [name for place, name in enumerate(SHOWN) if place < 3 or any(_change(stage, name) for stage in chosen)]
    changes = [
        {"step": stage.tag.partition("/")[0], **{name: _change(stage, name) for name in shown}} for stage in chosen
    ]
    return f"{table}\n\n{preview(changes, len(changes), width=width)}" if changes else table


def funnel_svg(stages: Sequence[Stage], title: str = "") -> str:
    """The stages as a picture that any browser shows: one SVG document without scripts; all texts are escaped."""
    from ._funnel_picture import drawn

    return drawn(stages, title)


def _bar(stage: Stage, widest: int, width: int = 16) -> str:
    """What stayed as full blocks, what came in and did not stay as dots."""
    if widest == 0:
        return ""
    stayed = min(stage.out, stage.rows_in if stage.rows_in is not None else stage.out)
    full = round(width * max(stayed, stage.out) / widest)
    lost = round(width * max(stage.rows_in or 0, stage.out) / widest) - full
    return "█" * max(full, int(stage.out > 0)) + "·" * lost


def _change(stage: Stage, name: str) -> str:
    if stage.before is None or stage.after is None:
        return ""
    before, after = stage.before.get(name), stage.after.get(name)
    return "" if before is None or after is None else f"{before:.3f} → {after:.3f}"


def _measured(
    store: Store,
    record: dict[str, Any],
    records: Mapping[str, dict[str, Any]],
    stage: Stage,
    columns: Sequence[str],
    sample: int,
) -> Stage:
    """With the diversity of the first table that it reads and of the one that it made."""
    from .diversity import diversity

    entry = next(entry for entry in record["inputs"] if records.get(entry["build_key"], {}).get("kind") == "Rows")
    before = _rows(store, records[entry["build_key"]], entry["output"])
    after = _rows(store, record, None)
    if before is None or after is None:
        return stage
    texts = [name for name in _texts(after.schema) if name in _texts(before.schema)]
    looked = tuple(name for name in columns if name in before.columns and name in after.columns) or tuple(texts)
    if not looked:
        return stage
    tables = {"before": before, "after": after}
    made = _vectors(records)
    vectors = next((name for name in made if name in before.columns and name in after.columns), None)
    clusters = min(CLUSTERS, min(len(before), sample) // 5) if vectors else 0
    try:
        found = diversity(tables, looked, vectors=vectors, clusters=clusters if clusters > 1 else None, sample=sample)
    except RecipeError:  # of a column by that name that was made into something else since
        found = diversity(tables, looked, sample=sample)
    return stage._replace(before=found["before"], after=found["after"])


def _rows(store: Store, record: dict[str, Any], output: str | None) -> Rows | None:
    """The table that a record tells of; of several outputs none but a named one."""
    if record.get("outputs") and output is None:
        return None
    return Rows(store.artifact_folder(record["build_key"]), record, output)


def _texts(schema: pa.Schema) -> list[str]:
    import pyarrow as pa

    kinds = (pa.types.is_string, pa.types.is_large_string)
    return [field.name for field in schema if field.name[:1] != "_" and any(is_one(field.type) for is_one in kinds)]


def _vectors(records: Mapping[str, dict[str, Any]]) -> list[str]:
    """The columns in which `Embed` put vectors, the one that it makes unless it is told otherwise first."""
    embeds = [record for record in records.values() if record["tag"].partition("/")[0] == "generate.embed"]
    found = dict.fromkeys(record["definition"].get("into", "vector") for record in embeds)
    return sorted(found, key=lambda name: name != "vector")


def _records(store: Store, build_key: str) -> dict[str, dict[str, Any]]:
    """The records behind a result by build key, inputs before what is made from them.

    The first input, which is the table that rows come from, stands right before: side inputs come earlier.
    """
    from ..core.store import read_record

    found: dict[str, dict[str, Any]] = {}

    def visit(key: str) -> None:
        record = None if key in found else read_record(store.artifact_folder(key))
        if record is not None:
            for entry in [*record["inputs"][1:], *record["inputs"][:1]]:
                visit(entry["build_key"])
            found[key] = record

    visit(build_key)
    return found


def _stage(store: Store, record: dict[str, Any], records: Mapping[str, dict[str, Any]]) -> Stage:
    counts = record["counts"]
    sources = [entry for entry in record["inputs"] if records.get(entry["build_key"], {}).get("kind") == "Rows"]
    rows_in = None
    if sources:
        rows_in = counts.get("in", sum(_num_rows(records[entry["build_key"]], entry["output"]) for entry in sources))
    return Stage(
        record["tag"],
        record["build_key"],
        rows_in,
        counts["out"],
        counts.get("dropped", 0),
        counts.get("failed", 0),
        _counted(store, record, "dropped", "reason"),
        _counted(store, record, "failed", "kind"),
        tuple(entry["build_key"] for entry in sources),
    )


def _num_rows(record: dict[str, Any], output: str | None) -> int:
    return int(record["counts"]["out"] if output is None else record["outputs"][output]["out"])


def _counted(store: Store, record: dict[str, Any], aside: str, column: str) -> dict[str, int]:
    if not record["counts"].get(aside):
        return {}
    import pyarrow.parquet as pq

    folder = store.artifact_folder(record["build_key"])
    found: Counter[str] = Counter()
    for path in [*folder.glob(f"{aside}.parquet"), *folder.glob(f"data/*/{aside}.parquet")]:
        for entry in pq.read_table(path, columns=[column]).column(column).value_counts().to_pylist():
            found[_PARTICULAR.sub("…", entry["values"])] += entry["counts"]
    return dict(found.most_common())
