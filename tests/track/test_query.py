"""Queries: views over everything, nothing but reading, nothing outside the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.context import Context
from stillhouse.core.errors import RecipeError, StoreError
from stillhouse.core.outcome import KEEP, Drop, Emit, Fail, Outcome, Row
from stillhouse.core.session import Session
from stillhouse.core.step import Mapper, MapStep
from stillhouse.rows.import_ import Import
from stillhouse.track.query import VIEWS, query
from stillhouse.track.run import Run

SEEDS = Import(data=tuple({"input": f"i{n}", "output": f"o{n}"} for n in range(6)))


class Sorting(MapStep, tag="test_query.sorting/1"):
    """Keeps, changes, drops and fails rows by their number."""

    def mapper(self, context: Context) -> Mapper:
        def judge(row: Row) -> Outcome:
            match int(row["input"][1:]) % 4:
                case 0:
                    return KEEP
                case 1:
                    return Emit([{"input": row["input"].upper(), "output": row["output"]}], calls=["c1"])
                case 2:
                    return Drop("too even", "detail")
                case _:
                    return Fail("empty", "nothing came", "raw text")

        return lambda rows: [judge(row) for row in rows]


def test_an_empty_store_answers_every_view_with_no_rows(tmp_path: Path) -> None:
    for view in VIEWS:
        assert query(tmp_path, f"SELECT * FROM {view}").num_rows == 0
        assert query(tmp_path, f"DESCRIBE {view}").num_rows > 3


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no folder"):
        query(tmp_path / "nowhere", "SELECT 1")


def test_rows_edges_dropped_and_failed_show_what_a_step_did(session: Session) -> None:
    made = session.run(Sorting(rows=SEEDS), name="sorted")
    store = session.folder
    rows = query(
        store, f"SELECT id, content->>'input' AS input, parents, calls FROM rows WHERE artifact = '{made.key}'"
    )
    assert [row["input"] for row in rows.to_pylist()] == ["i0", "I1", "i4", "I5"]
    assert rows.to_pylist()[1]["calls"] == ["c1"]
    seeds = {row["input"]: row["_id"] for row in session.run(SEEDS)}
    edges = query(store, "SELECT child, parent FROM edges WHERE step = 'test_query.sorting/1'").to_pylist()
    assert {edge["parent"] for edge in edges} == {seeds["i1"], seeds["i5"]}
    (dropped,) = query(store, "SELECT id, reason, detail, content->>'input' AS input FROM dropped").to_pylist()
    assert dropped == {"id": seeds["i2"], "reason": "too even", "detail": "detail", "input": "i2"}
    (failed,) = query(store, "SELECT kind, message, raw FROM failed").to_pylist()
    assert failed == {"kind": "empty", "message": "nothing came", "raw": "raw text"}
    (artifact,) = query(
        store, "SELECT kind, num_rows, dropped, failed FROM artifacts WHERE 'sorted' IN names"
    ).to_pylist()
    assert artifact == {"kind": "Rows", "num_rows": 4, "dropped": 1, "failed": 1}
    named = query(store, 'SELECT input FROM named."sorted" ORDER BY input').to_pylist()
    assert [row["input"] for row in named] == ["I1", "I5", "i0", "i4"]


def test_outputs_of_a_step_with_several_are_told_apart(session: Session) -> None:
    from stillhouse.rows.split import Split

    session.run(Split(rows=SEEDS, test_size=2), name="parts")
    found = query(
        session.folder, "SELECT output, count(*) AS n FROM rows WHERE output IS NOT NULL GROUP BY ALL ORDER BY ALL"
    )
    assert sum(row["n"] for row in found.to_pylist()) == 6
    assert query(session.folder, 'SELECT * FROM named."parts.test"').num_rows == 2


def test_an_evaluation_shows_its_items_as_samples(session: Session) -> None:
    from stillhouse.evaluate.compare import Compare

    given = Import(data=tuple({"input": f"i{n}", "reply": "o1"} for n in range(6)), require=())
    session.run(Compare(models={"m": given}, on=SEEDS))
    samples = query(
        session.folder, "SELECT model, reply, error, data->>'expected' AS expected FROM samples ORDER BY expected"
    ).to_pylist()
    assert len(samples) == 6
    assert samples[0] == {"model": "m", "reply": "o1", "error": None, "expected": "o0"}


def capitals(messages: list[dict[str, str]], schema: dict[str, Any] | None, sample: int) -> str:
    """The model that is asked below; one reply is long enough to be packed."""
    return messages[-1]["content"].upper() * (2000 if messages[-1]["content"] == "i3" else 1)


def test_calls_show_what_was_asked_and_answered_and_rows_name_them(session: Session) -> None:
    from stillhouse.calls.ask import Ask
    from stillhouse.evaluate.predict import Predict

    session.run(Predict(rows=SEEDS, by=Ask(model=f"python:{__name__}:capitals", system="Be loud.")))
    calls = query(session.folder, "SELECT * FROM calls ORDER BY length(reply)").to_pylist()
    assert len(calls) == 6
    assert {call["reply"] for call in calls} == {"I0", "I1", "I2", "I3" * 2000, "I4", "I5"}
    assert json.loads(calls[0]["request"])["messages"][0] == {"role": "system", "content": "Be loud."}
    joined = query(
        session.folder,
        "SELECT content->>'input' AS input, reply FROM rows JOIN calls ON list_contains(rows.calls, calls.key) "
        "WHERE step = 'evaluate.predict/1' AND length(reply) < 10 ORDER BY input",
    ).to_pylist()
    assert [(row["input"], row["reply"]) for row in joined] == [(f"i{n}", f"I{n}") for n in (0, 1, 2, 4, 5)]


def test_a_damaged_call_cache_is_said_and_the_other_views_answer(session: Session) -> None:
    session.run(SEEDS)
    folder = session.folder / "calls-v1"
    folder.mkdir(exist_ok=True)
    (folder / "calls.sqlite").write_bytes(b"no database at all" * 100)
    said: list[str] = []
    assert query(session.folder, "SELECT * FROM calls", warn=said.append).num_rows == 0
    assert "calls.sqlite" in said[0]
    assert query(session.folder, "SELECT * FROM rows").num_rows == 6


def test_latest_and_best_know_the_last_step_and_the_extremes(tmp_path: Path) -> None:
    with Run.start(tmp_path, id="r") as run:
        for step, value in enumerate([3.0, 1.0, float("nan"), 2.0]):
            run.log({"loss": value, "note": f"n{step}"}, step=step)
    latest = query(tmp_path, "SELECT metric, step, value, text FROM latest ORDER BY metric").to_pylist()
    assert latest == [
        {"metric": "loss", "step": 3, "value": 2.0, "text": None},
        {"metric": "note", "step": 3, "value": None, "text": "n3"},
    ]
    (best,) = query(tmp_path, "SELECT lowest, lowest_step, highest, highest_step FROM best").to_pylist()
    assert best == {"lowest": 1.0, "lowest_step": 1, "highest": 3.0, "highest_step": 0}


def test_a_limit_caps_the_answer(tmp_path: Path) -> None:
    assert query(tmp_path, "SELECT * FROM range(100)", limit=7).num_rows == 7


@pytest.mark.parametrize(
    "sql",
    [
        "DROP VIEW runs",
        "CREATE TABLE t (a INT)",
        "COPY (SELECT 1) TO 'x.csv'",
        "ATTACH 'x.db'",
        "SET enable_external_access = true",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "INSTALL sqlite",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'x.csv'",
        "EXPLAIN COPY (SELECT 1) TO 'x.csv'",
        "SELECT 1; SELECT 2",
        "",
    ],
)
def test_anything_but_one_select_is_refused(sql: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        query(tmp_path, sql)


def test_files_outside_the_store_and_foreign_ones_inside_it_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("password\n1234\n")
    store = tmp_path / "store"
    store.mkdir()
    (store / "inside.csv").write_text("password\n1234\n")
    with Run.start(store) as run:
        run.log({"x": 1})
    for sql in (
        f"SELECT * FROM '{tmp_path}/secret.csv'",
        f"SELECT * FROM read_text('{tmp_path}/secret.csv')",
        f"SELECT * FROM read_csv('{store}/inside.csv')",
        f"SELECT * FROM glob('{tmp_path}/*')",
        f"WITH x AS (SELECT * FROM metrics) SELECT * FROM read_blob('{run.folder}/run.json')",
    ):
        with pytest.raises(RecipeError):
            query(store, sql)


def test_python_objects_are_no_tables(tmp_path: Path) -> None:
    import pyarrow as pa

    secret = pa.table({"a": [1]})
    assert secret.num_rows == 1
    with pytest.raises(RecipeError, match="secret does not exist"):
        query(tmp_path, "SELECT * FROM secret")


def test_a_view_that_does_not_exist_names_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"The views: runs, metrics, latest"):
        query(tmp_path, "SELECT * FROM metric")


def test_a_broken_parquet_file_is_left_out_with_a_message(tmp_path: Path) -> None:
    for name in ("good", "torn", "rotten"):
        with Run.start(tmp_path, id=name) as run:
            for step in range(500):
                run.log({"x": float(step)})
    torn = tmp_path / "runs" / "torn" / "metrics.parquet"
    torn.write_bytes(torn.read_bytes()[:-100])
    rotten = tmp_path / "runs" / "rotten" / "metrics.parquet"
    data = bytearray(rotten.read_bytes())
    data[4:-40] = b"\xff" * (len(data) - 44)
    rotten.write_bytes(data)
    said: list[str] = []
    rows = query(tmp_path, "SELECT DISTINCT run FROM metrics", warn=said.append).to_pylist()
    assert rows == [{"run": "good"}]
    assert len(said) == 2
    assert any("torn/metrics.parquet" in text for text in said)
    assert any("rotten/metrics.parquet" in text for text in said)


def test_a_broken_record_is_left_out_with_a_message(session: Session) -> None:
    session.run(SEEDS)
    stray = session.folder / "artifacts-v1" / "ab" / "abcd"
    stray.mkdir(parents=True)
    (stray / "record.json").write_text("{")
    said: list[str] = []
    assert query(session.folder, "SELECT * FROM artifacts", warn=said.append).num_rows == 1
    assert len(said) == 1


def test_json_columns_can_be_looked_into(session: Session) -> None:
    session.run(SEEDS)
    (row,) = query(
        session.folder, "SELECT record->'environment'->'versions'->>'python' AS python FROM artifacts"
    ).to_pylist()
    assert json.loads(f'"{row["python"]}"').startswith("3.")
