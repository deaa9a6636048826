from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse import Export, Import, RecipeError, Session, Take, to_dataset, write_rows

DATA = [
    {"input": 'a "quoted", text', "output": "line\nend", "n": 1, "tags": ["x"], "meta": {"k": None, "f": 0.5}},
    {"input": "é 日本", "output": "", "n": None, "tags": [], "meta": {"k": 2, "f": 1.0}},
]
TABLE = Import(data=DATA)


def plain(rows: Any) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name[:1] != "_"} for row in rows]


@pytest.mark.parametrize("extension", ["jsonl", "parquet"])
def test_what_is_written_reads_back_equal(session: Session, tmp_path: Path, extension: str) -> None:
    rows = session.run(TABLE)
    path = write_rows(rows, tmp_path / "out" / f"a.{extension}")
    again = session.run(Import(path=path))
    assert plain(again) == plain(rows) == DATA
    assert [row["_id"] for row in again] == [row["_id"] for row in rows]


def test_csv_reads_back_as_text(session: Session, tmp_path: Path) -> None:
    again = session.run(Import(path=write_rows(session.run(TABLE), tmp_path / "a.csv")))
    assert plain(again) == [
        {"input": 'a "quoted", text', "output": "line\nend", "n": "1", "tags": '["x"]', "meta": '{"k":null,"f":0.5}'},
        {"input": "é 日本", "output": "", "n": "", "tags": "[]", "meta": '{"k":2,"f":1.0}'},
    ]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of one type a column, some values missing, lists and objects among them."""
    kinds = [
        texts,
        st.integers(-(2**53), 2**53),
        st.booleans(),
        st.lists(texts, max_size=3),
        st.fixed_dictionaries({"k": texts}),
    ]
    columns = {f"c{number}": draw(st.sampled_from(kinds)) for number in range(draw(st.integers(1, 3)))}
    cells = {name: st.none() | kind for name, kind in columns.items()}
    return draw(st.lists(st.fixed_dictionaries({"input": texts, **cells}), min_size=1, max_size=6))


@given(tables(), st.sampled_from(["jsonl", "parquet"]))
def test_any_table_survives_being_written_and_read(
    tmp_path_factory: pytest.TempPathFactory, data: list[dict[str, Any]], extension: str
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    with Session(folder / "store", progress=False, track=False) as session:
        rows = session.run(Import(data=data, require=()))
        again = session.run(Import(path=write_rows(rows, folder / f"a.{extension}"), require=()))
        assert plain(again) == plain(rows)
        assert [row["_id"] for row in again] == [row["_id"] for row in rows]


@given(tables(), st.randoms(use_true_random=False))
def test_ids_do_not_depend_on_the_order_of_columns(
    tmp_path_factory: pytest.TempPathFactory, data: list[dict[str, Any]], random: Any
) -> None:
    names = list(data[0])
    random.shuffle(names)
    turned = [{name: row[name] for name in names} for row in data]
    with Session(tmp_path_factory.mktemp("order"), progress=False, track=False) as session:
        first = session.run(Import(data=data, require=()))
        second = session.run(Import(data=turned, require=()))
        assert [row["_id"] for row in first] == [row["_id"] for row in second]


def test_lineage_can_be_written_too(session: Session, tmp_path: Path) -> None:
    rows = session.run(TABLE)
    (first, _) = [
        json.loads(line) for line in write_rows(rows, tmp_path / "a.jsonl", lineage=True).read_text().splitlines()
    ]
    assert first["_id"] == rows.head(1)[0]["_id"]
    assert first["_parents"] == []


def test_a_file_appears_whole_or_not_at_all(session: Session, tmp_path: Path) -> None:
    rows = session.run(TABLE)
    path = tmp_path / "a.jsonl"
    path.write_text("before")
    (shard,) = rows.paths
    shard.chmod(0o600)
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(pa.ArrowInvalid):
        write_rows(rows, path)
    assert path.read_text() == "before"
    assert list(tmp_path.glob(".a*")) == []


def test_an_unknown_format_is_refused(session: Session, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot write this format"):
        write_rows(session.run(TABLE), tmp_path / "a.xlsx")


def test_the_step_makes_a_file(session: Session) -> None:
    files = session.run(Export(rows=TABLE, name="seeds"))
    assert [json.loads(line) for line in (files.path / "seeds.jsonl").read_text().splitlines()] == DATA


@pytest.mark.parametrize("num", [0, 2])
@pytest.mark.parametrize("extension", ["jsonl", "csv", "parquet"])
def test_every_format_takes_empty_tables(session: Session, tmp_path: Path, extension: str, num: int) -> None:
    path = write_rows(session.run(Take(rows=TABLE, num=num)), tmp_path / f"a.{extension}")
    assert path.exists()


def test_a_hugging_face_data_set_holds_the_same_rows(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    assert to_dataset(session.run(TABLE)).to_list() == DATA


@pytest.mark.parametrize("name", ["../../outside", "a/b", "", ".hidden"])
def test_an_export_stays_in_its_artifact(name: str) -> None:
    with pytest.raises(RecipeError, match="cannot be a name"):
        Export(rows=TABLE, name=name)
