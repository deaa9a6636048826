from __future__ import annotations

from typing import Any

from stillhouse import Concat, Dedup, Import, Keep, Map, Session, Split
from stillhouse.curate.funnel import funnel, funnel_text

ROWS = Import(data=[{"input": f"{n % 6} lattes please", "output": str(n)} for n in range(10)])


def no_nines(row: dict[str, Any]) -> dict[str, Any]:
    if row["output"] == "9":
        raise ValueError("nine")
    return {**row, "length": len(row["input"])}


def test_each_stage_tells_what_became_of_its_rows(session: Session) -> None:
    mapped = Map(rows=ROWS, function=no_nines)
    kept = Keep(rows=mapped, where=lambda row, reply: int(reply) > 2 or f"{reply} is below 3")
    unique = Dedup(rows=kept)
    stages = funnel(session.store, session.run(unique))
    told = [(stage.tag, stage.rows_in, stage.out, stage.dropped, stage.failed) for stage in stages]
    assert told == [
        ("rows.import/1", None, 10, 0, 0),
        ("rows.map/1", 10, 9, 0, 1),
        ("curate.keep/1", 9, 6, 3, 0),
        ("curate.dedup/1", 6, 6, 0, 0),
    ]
    assert stages[1].faults == {"error": 1}
    assert stages[2].reasons == {"… is below …": 3}
    assert "curate.keep   9   6    3        0       … is below … (3)" in funnel_text(stages)


def test_a_table_used_twice_is_told_once_and_outputs_count_by_themselves(session: Session) -> None:
    split = Split(rows=ROWS, test_size=4)
    both = Concat(rows=(split.train, split.test))
    stages = funnel(session.store, session.run(Dedup(rows=both, threshold=None)))
    assert [(stage.tag, stage.rows_in, stage.out) for stage in stages] == [
        ("rows.import/1", None, 10),
        ("rows.split/2", 10, 10),
        ("rows.concat/1", 10, 10),
        ("curate.dedup/1", 10, 6),
    ]
    assert stages[-1].reasons == {"duplicate": 4}
