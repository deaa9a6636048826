"""Where rows may come from on this machine: patterns, folders, lists, Arrow, packed text; and what may be wrong."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.core.events import Event
from stillhouse.core.serial import from_table, to_table
from stillhouse.core.session import Session
from stillhouse.recipes.file import load_recipe, recipe_table
from stillhouse.rows._checks import kinds_in
from stillhouse.rows._import import source
from stillhouse.rows.import_ import Import
from stillhouse.rows.place import Place

ROWS: list[dict[str, Any]] = [{"text": "one", "n": 1}, {"text": "zwei ü", "n": 2}, {"text": "three", "n": None}]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read(path: Any, **fields: Any) -> list[Any]:
    return [row.value for row in source(Import(path=path, require=(), **fields))]


def key(path: Any, **fields: Any) -> str:
    return Import(path=path, require=(), **fields).recipe_key


def refusal(session: Session, path: Any, **fields: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        session.run(Import(path=path, require=(), **fields))
    return str(caught.value)


def write_stream(path: Path, table: pa.Table) -> Path:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


# Formats


def test_each_format_of_columns_gives_the_same_rows(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "a.parquet")
    feather.write_feather(table, tmp_path / "b.feather")
    with pa.OSFile(str(tmp_path / "c.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    write_stream(tmp_path / "d.arrow", table)
    for path in sorted(tmp_path.iterdir()):
        assert read(path) == ROWS
        assert read(path, columns=("n",)) == [{"n": row["n"]} for row in ROWS]


def test_packed_text_is_read_as_it_is_unpacked(tmp_path: Path) -> None:
    text = lines(ROWS).encode()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text))
    (tmp_path / "b.json.bz2").write_bytes(bz2.compress(json.dumps(ROWS).encode()))
    with pa.output_stream(str(tmp_path / "c.jsonl.zst"), compression="zstd") as stream:
        stream.write(text)
    for path in sorted(tmp_path.iterdir()):
        assert read(path) == ROWS


def test_text_packed_and_cut_short_is_told(tmp_path: Path) -> None:
    noise = lines([{"text": str(hash((n, "x")))} for n in range(500)])
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(noise.encode())[:-200])
    with pytest.raises(RecipeError, match=r"a\.jsonl\.gz"):
        read(tmp_path / "a.jsonl.gz")
    (tmp_path / "b.jsonl.gz").write_text(lines(ROWS))
    with pytest.raises(RecipeError, match=r"(?s)b\.jsonl\.gz: it cannot be unpacked"):
        read(tmp_path / "b.jsonl.gz")


def test_the_row_labels_of_pandas_are_no_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "__index_level_0__": [7]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [{"a": 1}]


def test_a_format_may_stand_in_front(tmp_path: Path) -> None:
    (tmp_path / "part-0").write_text(lines(ROWS[:1]))
    (tmp_path / "part-1").write_text(lines(ROWS[1:]))
    assert read(f"jsonl://{tmp_path}/part-*") == ROWS
    assert read(f"file://{tmp_path}/part-0", format="jsonl") == ROWS[:1]
    with pytest.raises(RecipeError, match="says jsonl, and `format` says csv"):
        Import(path="jsonl://a", format="csv")


# Several files


@pytest.fixture
def three(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, rows in (("b.jsonl", ROWS[1:2]), ("a.jsonl", ROWS[:1]), ("c.jsonl", ROWS[2:])):
        (folder / name).write_text(lines(rows))
    return folder


def test_a_pattern_is_read_in_the_order_of_names(three: Path, session: Session) -> None:
    assert read(three / "*.jsonl") == ROWS
    assert read([three / "c.jsonl", three / "a.jsonl"]) == [ROWS[2], ROWS[0]]
    assert read(three) == ROWS
    rows = session.run(Import(path=three / "*.jsonl", require=()))
    assert [row["_id"] for row in rows] == [row["_id"] for row in session.run(Import(data=ROWS, require=()))]
    assert [file["rows"] for file in rows.record["facts"]["files"]] == [1, 1, 1]


def test_contents_and_their_order_count_and_names_do_not(three: Path) -> None:
    whole = key(three / "*.jsonl")
    assert key([three / name for name in ("a.jsonl", "b.jsonl", "c.jsonl")]) == whole
    assert key([three / name for name in ("b.jsonl", "a.jsonl", "c.jsonl")]) != whole
    assert key([three / "a.jsonl"]) == key(three / "a.jsonl") == key(three / "a*.jsonl")
    (three / "c.jsonl").rename(three / "d.jsonl")
    assert key(three / "*.jsonl") == whole
    (three / "e.jsonl").write_text(lines(ROWS))
    assert key(three / "*.jsonl") != whole


@settings(max_examples=15)
@given(parts=st.lists(st.lists(st.text("ab\u00fc", max_size=3), min_size=1, max_size=3), min_size=1, max_size=4))
def test_files_of_a_list_are_read_one_after_the_other(tmp_path_factory: Any, parts: list[list[str]]) -> None:
    folder = tmp_path_factory.mktemp("parts")
    for number, texts in enumerate(parts):
        (folder / f"{number}.jsonl").write_text(lines([{"text": text} for text in texts]))
    found = [row["text"] for row in read(folder / "*.jsonl")]
    assert found == [text for texts in parts for text in texts]


def test_a_name_that_looks_like_a_pattern_is_the_file_if_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "a[1].jsonl").write_text(lines(ROWS))
    assert read(tmp_path / "a[1].jsonl") == ROWS


def test_a_pattern_that_matches_nothing_shows_what_lies_beside_it(three: Path, session: Session) -> None:
    message = refusal(session, three / "*.parquet")
    assert message.startswith(f"nothing matches `{three}/*.parquet`")
    assert f"In `{three}` lie: a.jsonl, b.jsonl, c.jsonl." in message
    (three / "web").mkdir()
    assert f"Did you mean `{three / 'web'}`?" in refusal(session, three / "wep" / "*.parquet")
    assert "lies nothing" in refusal(session, three / "web" / "*.parquet")


def test_empty_files_count_together(three: Path, session: Session) -> None:
    (three / "b.jsonl").write_text("")
    assert len(session.run(Import(path=three / "*.jsonl", require=()))) == 2
    for name in "ac":
        (three / f"{name}.jsonl").write_text("\n")
    assert "a.jsonl and 2 more files: there are no rows in them" in refusal(session, three / "*.jsonl")


def test_types_that_differ_between_files_are_told_with_both(three: Path, session: Session) -> None:
    (three / "b.jsonl").write_text(lines([{"text": "x", "n": 1}, {"text": "y", "n": "two"}]))
    message = refusal(session, three / "*.jsonl")
    assert (
        f"{three}/b.jsonl, line 2: the column `n` holds text here and a number on line 1 of {three}/a.jsonl" in message
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"text": ["x"], "n": ["1"]}, "b.parquet: the column `n` holds text here and a number in"),
        ({"text": ["x"]}, "b.parquet: its columns are not those of"),
        ({"text": ["x"], "n": [1], "more": [1]}, "`more` is in"),
        ({"text": [["x"]], "n": [1]}, "`text` holds a list here and text in"),
    ],
)
def test_columns_that_differ_between_files_are_told(
    tmp_path: Path, session: Session, other: dict[str, Any], message: str
) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table(other), tmp_path / "b.parquet")
    found = refusal(session, tmp_path / "*.parquet")
    assert message in found
    assert "`columns`" in found


def test_columns_of_files_go_together_where_they_can(tmp_path: Path, session: Session) -> None:
    pq.write_table(pa.table({"text": ["a"], "n": pa.nulls(1), "x": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["b"], "n": [1.5], "x": ["1"]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"n": [2], "text": ["c"]}), tmp_path / "c.parquet")
    rows = session.run(Import(path=tmp_path / "*.parquet", require=(), columns=("text", "n")))
    assert [(row["text"], row["n"]) for row in rows] == [("a", None), ("b", 1.5), ("c", 2.0)]
    assert "c.parquet: it has no column `x`" in refusal(session, tmp_path / "[bc].parquet", columns=("x",))


def test_csv_files_with_other_headers_are_told(tmp_path: Path, session: Session) -> None:
    (tmp_path / "a.csv").write_text("text,n\nx,1\n")
    (tmp_path / "b.csv").write_text("text,m\nx,1\n")
    assert "b.csv: its columns are not those of" in refusal(session, tmp_path / "*.csv")


def test_arrow_types_have_the_names_of_json_kinds() -> None:
    kind = pa.struct(
        {"tags": pa.list_(pa.struct({"n": pa.int32()})), "day": pa.date32(), "c": pa.dictionary(pa.int8(), pa.string())}
    )
    assert kinds_in("meta", kind) == {
        "meta": "an object",
        "meta.tags": "a list",
        "meta.tags[]": "an object",
        "meta.tags[].n": "a number",
        "meta.day": "date32[day]",
        "meta.c": "text",
    }


# What is wrong with one file


def test_files_cut_short_are_told_apart_from_other_files(tmp_path: Path, session: Session) -> None:
    table = pa.Table.from_pylist(ROWS * 2000)
    pq.write_table(table, tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    assert "a.parquet: this Parquet file was cut short" in refusal(session, tmp_path / "a.parquet")
    stream = write_stream(tmp_path / "b.arrow", table).read_bytes()
    (tmp_path / "b.arrow").write_bytes(stream[: len(stream) // 2 + 3])
    assert "b.arrow, after row" in refusal(session, tmp_path / "b.arrow")
    (tmp_path / "c.arrow").write_bytes(b"nonsense" * 20)
    assert "c.arrow: this is no Arrow file" in refusal(session, tmp_path / "c.arrow")
    (tmp_path / "d.feather").write_bytes(b"FEA1" + b"x" * 20)
    assert "Feather of version 1" in refusal(session, tmp_path / "d.feather")


def test_a_damaged_row_group_is_told_with_the_rows_before_it(tmp_path: Path, session: Session) -> None:
    table = pa.table({"text": [str(n) * 20 for n in range(4000)]})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=2000, compression="zstd", use_dictionary=False)
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 400] = b"\xff" * 400
    path.write_bytes(bytes(data))
    assert "a.parquet, after row 2000: it cannot be read on" in refusal(session, path)


def test_a_cell_that_is_no_text_or_no_date_is_told_with_its_row(tmp_path: Path, session: Session) -> None:
    """Readers of Parquet and Arrow take such bytes for text, and such days for dates."""
    good = pa.array([b"fine", b"caf\xe9", b"\xed\xa0\xbd"], pa.binary())
    texts = pa.Array.from_buffers(pa.string(), 3, good.buffers())
    talks = pa.ListArray.from_arrays(
        pa.array([0, 1, 2, 3], pa.int32()), pa.StructArray.from_arrays([texts], ["content"])
    )
    days = pa.array([0, 1, 2**31 - 1], pa.date32())
    said = {}
    for name, column in (("text", texts), ("messages", talks), ("day", days)):
        pq.write_table(pa.table({"id": [1, 2, 3], name: column}), tmp_path / f"{name}.parquet")
        said[name] = refusal(session, tmp_path / f"{name}.parquet")
    assert "text.parquet, row 2: the column `text` holds a text whose byte 3 is not UTF-8: b'caf\\xe9'" in said["text"]
    assert "messages.parquet, row 2: the column `messages` holds a text whose byte 3" in said["messages"]
    assert "day.parquet, row 3: the column `day` holds a value that cannot be read" in said["day"]


@pytest.mark.parametrize("change", ["shrinks", "goes", "comes"])
def test_files_that_change_under_the_run_are_named(three: Path, session: Session, change: str) -> None:
    def edit(event: Event) -> None:
        if event.kind == "step.started":
            if change == "shrinks":
                (three / "b.jsonl").write_text('{"tex')
            elif change == "goes":
                (three / "b.jsonl").unlink()
            else:
                (three / "bb.jsonl").write_text(lines(ROWS))

    session.bus.subscribe(edit)
    message = refusal(session, three / "*.jsonl")
    name = "bb.jsonl" if change == "comes" else "b.jsonl"
    then = {"shrinks": "changed", "goes": "removed", "comes": "added"}[change]
    assert f"{three}/{name}: the file was {then} since the run began" in message
    if change == "shrinks":
        assert "now it has 5" in message


# Folders


def test_data_sets_that_were_saved_are_read_by_split(tmp_path: Path, session: Session) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list([{"text": f"{n}"} for n in range(5)])
    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": whole, "test": whole.select([4])}).save_to_disk(str(tmp_path / "both"))
    both = tmp_path / "both"
    assert [row["text"] for row in session.run(Import(path=both, split="train", require=()))] == list("01234")
    assert read(both, split="test") == [{"text": "4"}]
    assert read(both / "train") == read(both, split="train")
    assert key(both / "train") == key(both, split="train") != key(both, split="test")
    assert "several splits: `train`, `test`" in refusal(session, both)
    assert "no split `dev`" in refusal(session, both, split="dev")
    (both / "train" / "state.json").write_text("{")
    assert "cannot be read" in refusal(session, both, split="train")


def test_a_folder_holds_data_of_one_format(three: Path, session: Session) -> None:
    (three / "README.md").write_text("no data")
    (three / ".hidden.jsonl").write_text("nonsense")
    assert read(three) == ROWS
    assert key(three) == key(three)
    (three / "d.csv").write_text("text\nx\n")
    assert "files of several formats: `a.jsonl` and `d.csv`" in refusal(session, three)
    (three / "empty").mkdir()
    assert "holds no data" in refusal(session, three / "empty")
    assert "has no splits" in refusal(session, three, split="train")
    assert "has no splits" in refusal(session, three / "a.jsonl", split="train")
    assert "there is no folder" in refusal(session, three / "nowhere")


# Declarations


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": []}, "the list of files is empty"),
        ({"path": 3}, "expected a path"),
        ({"path": ["a.jsonl", 3]}, "expected the path of a file"),
        ({"data": [{"a": 1}], "split": "train"}, "`data` has no splits"),
        ({"path": "a.parquet.gz"}, "does not tell its format"),
    ],
)
def test_what_is_no_place_is_refused_when_declared(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Import(require=(), **fields)


def test_places_travel_through_recipes(three: Path) -> None:
    step = Import(path=[three / "a.jsonl", f"jsonl://{three}/[bc].jsonl"], require=())
    assert from_table(to_table(step)) == step
    assert from_table(to_table(Import(path="hf://a/b", split="x"))) == Import(path="hf://a/b", split="x")
    nodes = recipe_table(step, three)["nodes"]
    assert nodes["import"]["path"] == ["a.jsonl", "jsonl://[bc].jsonl"]
    (three / "recipe.yaml").write_text(json.dumps({"nodes": nodes, "result": "$import"}))
    assert load_recipe(three / "recipe.yaml").step.recipe_key == step.recipe_key


def test_a_relative_place_counts_from_the_recipe_and_an_address_stays() -> None:
    folder = Path("/data")
    assert str(Place("a/*.csv").beside(folder)) == "/data/a/*.csv"
    assert str(Place("csv://a").beside(folder)) == "csv:///data/a"
    assert str(Place("s3://b/a.csv").beside(folder)) == "s3://b/a.csv"
    assert str(Place("/x/a.csv").beside(folder)) == "/x/a.csv"
