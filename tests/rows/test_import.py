from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillhouse import Import, Map, RecipeError, Rows, Session
from stillhouse.core.events import Event
from stillhouse.rows._import import source

TASK = [{"input": "two lattes", "output": "2 latte"}, {"input": "a chai", "output": "1 chai"}]
Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return written


def contents(rows: Rows) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "_id"} for row in rows]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def message_of(session: Session, step: Import) -> str:
    with pytest.raises(RecipeError) as caught:
        session.run(step)
    return str(caught.value)


def test_a_list_becomes_rows_in_its_order(session: Session) -> None:
    assert contents(session.run(Import(data=TASK))) == TASK


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", lines(TASK)),
        ("a.jsonl", "\ufeff" + lines(TASK).replace("\n", "\r\n") + "\n\n"),
        ("a.ndjson", lines(TASK).rstrip("\n")),
        ("a.json", json.dumps(TASK)),
        ("a.json", json.dumps(TASK, indent=2)),
        ("a.json", lines(TASK)),
        ("a.csv", 'input,output\n"two lattes",2 latte\na chai,1 chai\n'),
        ("a.tsv", "input\toutput\ntwo lattes\t2 latte\na chai\t1 chai\n"),
    ],
    ids=["jsonl", "mark and blank lines", "ndjson", "json", "indented", "lines in json", "csv", "tsv"],
)
def test_each_text_format_gives_the_same_rows(session: Session, write: Write, name: str, content: str) -> None:
    rows = session.run(Import(path=write(name, content)))
    assert contents(rows) == TASK
    assert [row["_id"] for row in rows] == [row["_id"] for row in session.run(Import(data=TASK))]


def test_parquet_gives_the_same_rows(session: Session, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(TASK), tmp_path / "a.parquet")
    assert contents(session.run(Import(path=tmp_path / "a.parquet"))) == TASK


def test_a_value_in_output_that_is_no_text_is_kept_as_json_text(session: Session) -> None:
    rows = [
        {"input": "a", "output": {"items": [1, "é"]}},
        {"input": "b", "output": [None, True]},
        {"input": "c", "output": 3},
    ]
    outputs = [row["output"] for row in session.run(Import(data=rows))]
    assert outputs == ['{"items": [1, "é"]}', "[null, true]", "3"]


def test_columns_are_taken_in_the_order_named(session: Session) -> None:
    rows = session.run(Import(data=[{**TASK[0], "note": "x", "more": 1}], columns=("output", "input")))
    assert rows.columns == ["output", "input"]


def test_a_column_that_some_rows_lack_is_empty_there(session: Session) -> None:
    rows = session.run(Import(data=[TASK[0], {**TASK[1], "thinking": "one of them"}]))
    assert [row["thinking"] for row in rows] == [None, "one of them"]


def test_the_name_of_a_file_does_not_count_but_its_content_does(write: Write) -> None:
    first, second = Import(path=write("a.jsonl", lines(TASK))), Import(path=write("b.jsonl", lines(TASK)))
    assert first.recipe_key == second.recipe_key
    assert Import(path=write("c.jsonl", lines(TASK[:1]))).recipe_key != first.recipe_key
    assert Import(path=write("a.json", lines(TASK)), format="jsonl").recipe_key == first.recipe_key
    assert Import(path=write("b.json", lines(TASK))).recipe_key != first.recipe_key


def test_no_such_file_suggests_a_neighbour(session: Session, write: Write) -> None:
    path = write("seeds.jsonl", lines(TASK))
    message = message_of(session, Import(path=path.with_name("seed.jsonl")))
    assert "there is no file" in message
    assert f"Did you mean `{path}`?" in message


@pytest.mark.parametrize("content", ["", "\n\n", "[]", " [ ] "], ids=repr)
def test_a_file_without_rows_says_so(session: Session, write: Write, content: str) -> None:
    path = write("a.json" if "[" in content else "a.jsonl", content)
    assert message_of(session, Import(path=path)) == f"{path}: there are no rows in it"


def test_no_json_at_line_7_is_shown(session: Session, write: Write) -> None:
    content = lines(TASK * 3) + '{"input": "two mochas" "output": "2 mocha"}\n' + lines(TASK)
    path = write("seeds.jsonl", content)
    message = message_of(session, Import(path=path))
    assert message.startswith(f"{path}, line 7: this is not JSON (expecting ',' delimiter at column 24)")
    assert '{"input": "two mochas" "output": "2 mocha"}' in message


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ('[\n{"input": "a", "output": "b"},\n{"input": "a"; "output": "b"}]', 3, "expecting ',' delimiter"),
        ('[{"input": "a", "output": "b"}\n{"input": "a", "output": "b"}]', 2, "a comma or `]` is missing"),
        ('[{"input": "a", "output": "b"},\n]', 2, "there is a comma before `]`"),
        ('[{"input": "a", "output": "b"}\n', 2, "a comma or `]` is missing"),
        ('[{"input": "a", "output": "b"},\n', 2, "the list is not closed"),
        ('[{"input": "a", "output": "b"}] x', 1, "something after the end"),
        ('[{"input": "a", "output": "b', 1, "unterminated string"),
        ("hello", 1, "expecting value"),
    ],
)
def test_broken_json_is_told_with_its_line(
    session: Session, write: Write, content: str, line: int, reason: str
) -> None:
    message = message_of(session, Import(path=write("a.json", content)))
    assert f"line {line}: this is not JSON" in message
    assert reason in message


def test_a_missing_output_is_told_with_what_may_be_meant(session: Session, write: Write) -> None:
    rows = [{"prompt": "a", "answer": "b"}] * 4
    path = write("a.jsonl", lines(rows))
    message = message_of(session, Import(path=path))
    assert message.startswith(f"{path}: no row has `input` and `output`")
    assert "rename `prompt` to `input`, `answer` to `output`" in message


def test_three_rows_with_other_keys_are_named(session: Session, write: Write) -> None:
    odd: list[dict[str, Any]] = [{"input": "x", "answer": "y"}, {"question": "x"}, {"input": None, "output": "y"}]
    rows: list[dict[str, Any]] = [TASK[0], odd[0], TASK[1], odd[1], *TASK, odd[2]]
    message = message_of(session, Import(path=write("a.jsonl", lines(rows))))
    assert "3 of 7 rows have other keys" in message
    assert "line 2 lacks `output` (it has `input`, `answer`)" in message
    assert "line 4 lacks `input` and `output` (it has `question`)" in message
    assert "line 7 lacks `input` (it has `input`, `output`)" in message


def test_of_many_rows_with_other_keys_the_first_are_named(session: Session) -> None:
    message = message_of(session, Import(data=[*TASK, *[{"input": "x"}] * 40]))
    assert "40 of 42 rows" in message
    assert message.count("lacks") == 3
    assert "and 37 more" in message


def test_latin_1_is_told_with_byte_and_line(session: Session, write: Write) -> None:
    good = lines(TASK).encode()
    for name, start in (("a.jsonl", b""), ("a.json", b""), ("a.csv", b"input,output\n")):
        bad = b'"caf\xe9",b\n' if name.endswith("csv") else b'{"input": "caf\xe9", "output": "b"}\n'
        head = start or good
        message = message_of(session, Import(path=write(name, head + bad)))
        offset = len(head) + bad.index(b"\xe9")
        assert f"line {head.count(10) + 1}: byte {offset} is not UTF-8 text" in message
        assert "iconv -f latin1" in message


def test_bytes_that_are_no_utf8_far_into_a_file_are_found_where_they_are(session: Session, write: Write) -> None:
    good = ("[" + ",\n".join(json.dumps(row) for row in TASK * 30_000)).encode()
    assert len(good) > 1 << 21
    message = message_of(session, Import(path=write("a.json", good + b',\n{"input": "\xff"}]')))
    assert f"line {good.count(10) + 2}: byte {len(good) + 13} is not UTF-8 text" in message


def test_utf_16_is_recognised(session: Session, write: Write) -> None:
    message = message_of(session, Import(path=write("a.jsonl", lines(TASK).encode("utf-16"))))
    assert "byte 0 is not UTF-8 text" in message
    assert "looks like UTF-16" in message


def test_a_row_that_is_no_object_is_shown(session: Session, write: Write) -> None:
    message = message_of(session, Import(path=write("a.jsonl", lines(TASK) + '["x", 1]\n')))
    assert "line 3: expected an object with columns, found a list" in message
    assert '["x", 1]' in message


def test_types_that_do_not_go_together_are_told_with_both_lines(session: Session, write: Write) -> None:
    rows: list[dict[str, Any]] = [
        {**TASK[0], "price": 3},
        {**TASK[1], "price": None},
        {**TASK[1], "price": 2.5},
        {**TASK[0], "price": "three"},
    ]
    message = message_of(session, Import(path=write("a.jsonl", lines(rows))))
    assert "line 4: the column `price` holds text here and a number on line 1" in message


def test_types_inside_values_are_told_by_their_place(session: Session, write: Write) -> None:
    rows = [{**TASK[0], "meta": {"tags": [{"n": 1}]}}, {**TASK[1], "meta": {"tags": [{"n": "one"}]}}]
    message = message_of(session, Import(path=write("a.jsonl", lines(rows))))
    assert "line 2: the column `meta.tags[].n` holds text here and a number on line 1" in message


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("123456789012345678901234567890", "line 1: the row cannot be written: Integer exceeds 64-bit range"),
        ('"half \\ud83d"', "line 1: the row cannot be written: str is not valid UTF-8"),
        ("Infinity", "line 1: this is not JSON (infinity is no number"),
        ("[" * 3000 + "]" * 3000, "line 1: this is not JSON (nested too deeply"),
    ],
    ids=["long number", "half a character", "infinity", "deep"],
)
def test_what_no_table_can_hold_is_told_with_its_line(
    session: Session, write: Write, name: str, value: str, message: str
) -> None:
    path = write(name, f'{{"input": "a", "output": "b", "more": {value}}}\n')
    assert message in message_of(session, Import(path=path))


def test_nan_is_a_missing_value(session: Session, write: Write) -> None:
    path = write("a.jsonl", '{"input": "a", "output": "b", "n": NaN}\n{"input": "a", "output": "b", "n": 1}\n')
    assert [row["n"] for row in session.run(Import(path=path))] == [None, 1]


def test_objects_may_be_empty(session: Session) -> None:
    tools = {"name": "till", "parameters": {"properties": {}}, "all": [{}]}
    rows = Import(data=[{**TASK[0], "tool": tools, "extra": {}}, {**TASK[1], "tool": tools, "extra": {}}])
    expected = {"name": "till", "parameters": {"properties": None}, "all": [None]}
    assert [(row["tool"], row["extra"]) for row in session.run(rows)] == [(expected, None)] * 2


def test_a_column_without_a_name_is_refused(session: Session, write: Write) -> None:
    assert "line 2: a column has no name" in message_of(session, Import(path=write("a.csv", "input,output,\na,b,\n")))


def test_whole_numbers_and_fractions_go_together(session: Session) -> None:
    rows = [{**TASK[0], "price": 3}, {**TASK[1], "price": 2.5}]
    assert [row["price"] for row in session.run(Import(data=rows))] == [3.0, 2.5]


def test_our_own_column_names_are_refused(session: Session) -> None:
    rows = [{**TASK[0], "_id": "7"}]
    assert "the column `_id` has a name of ours" in message_of(session, Import(data=rows))
    assert len(session.run(Import(data=rows, columns=("input", "output")))) == 1


def test_csv_with_a_torn_row_is_told_with_its_line(session: Session, write: Write) -> None:
    content = 'input,output\n"a\nb",c\nd,e,f\n'
    message = message_of(session, Import(path=write("a.csv", content)))
    assert "line 4: 3 fields, but 2 columns in the first line" in message


def test_a_csv_column_twice_is_refused(session: Session, write: Write) -> None:
    assert "the column `input` stands there twice" in message_of(
        session, Import(path=write("a.csv", "input,input\n1,2\n"))
    )


def test_csv_fields_may_be_long(session: Session, write: Write) -> None:
    text = "x" * 300_000
    (row,) = session.run(Import(path=write("a.csv", f"input,output\n{text},b\n")))
    assert row["input"] == text


def test_a_file_that_is_no_parquet_says_so(session: Session, write: Write) -> None:
    assert "this is not a Parquet file" in message_of(session, Import(path=write("a.parquet", b"PK" * 100)))


def test_an_unknown_column_is_told_with_those_that_are_there(session: Session) -> None:
    message = message_of(session, Import(data=TASK, columns=("input", "output", "topic")))
    assert "no row has the column `topic`" in message
    assert "`input`, `output`" in message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give either `path` or `data`"),
        ({"path": "a.jsonl", "data": TASK}, "give either `path` or `data`"),
        ({"path": "a.txt"}, "does not tell its format"),
        ({"data": TASK, "columns": ("input",)}, "`output` is required, but not among `columns`"),
        ({"pth": "a.jsonl"}, "Did you mean `path`?"),
    ],
)
def test_what_cannot_be_is_refused_when_declared(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("?", "[?]")):
        Import(**fields)


def test_rows_that_are_no_tasks_need_no_columns(session: Session) -> None:
    assert contents(session.run(Import(data=[{"text": "a"}, {"text": "b"}], require=()))) == [
        {"text": "a"},
        {"text": "b"},
    ]


def test_equal_rows_have_ids_of_their_own(session: Session) -> None:
    ids = [row["_id"] for row in session.run(Import(data=TASK + TASK))]
    assert len(set(ids)) == 4
    assert ids[:2] == [row["_id"] for row in session.run(Import(data=TASK))]


def shout(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "input": row["input"].upper()}


def test_nothing_is_left_behind_by_an_import_that_fails(session: Session, write: Write) -> None:
    path = write("a.jsonl", lines(TASK) + "nonsense\n")
    message_of(session, Import(path=path))
    path.write_text(lines(TASK))
    assert [row["input"] for row in session.run(Map(rows=Import(path=path), function=shout))] == [
        "TWO LATTES",
        "A CHAI",
    ]


PEAK = """
import re, sys
from pathlib import Path
from stillhouse import Import, Session
with Session(sys.argv[1], progress=False, track=False) as session:
    rows = session.run(Import(path=sys.argv[2]))
print(len(rows), re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def large_file(path: Path, num_rows: int) -> Path:
    """A file of rows of 900 bytes, in the format of its extension."""
    text = "the quick brown fox jumps over the lazy dog " * 20
    rows = (json.dumps({"input": f"{number} {text}", "output": str(number)}) for number in range(num_rows))
    with open(path, "w") as file:
        if path.suffix == ".csv":
            file.write("input,output\n")
            file.writelines(f"{number} {text},{number}\n" for number in range(num_rows))
        elif path.suffix == ".json":
            file.write("[" + next(rows))
            file.writelines(", " + row for row in rows)
            file.write("]")
        else:
            file.writelines(row + "\n" for row in rows)
    return path


@pytest.mark.dear
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(num_rows: int) -> int:
        path = large_file(tmp_path / f"{num_rows}.jsonl", num_rows)
        command = [sys.executable, "-c", PEAK, str(tmp_path / f"store{num_rows}"), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, kilobytes = done.stdout.split()
        assert int(count) == num_rows
        return int(kilobytes)

    small, large = peak(40_000), peak(90_000)  # 36 and 81 MB; below, the files written are not full yet
    assert large < 1.2 * small


@pytest.mark.parametrize("extension", ["json", "csv", "jsonl"])
def test_a_reader_holds_a_piece_of_the_file(tmp_path: Path, extension: str) -> None:
    def peak(num_rows: int) -> int:
        step = Import(path=large_file(tmp_path / f"{num_rows}.{extension}", num_rows))
        tracemalloc.start()
        assert sum(1 for _ in source(step)) == num_rows
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(10)  # what is imported, compiled and cached once must not count for the first
    assert peak(12_000) < 1.1 * peak(4_000)  # 11 and 4 MB


def test_commas_and_tabs_are_two_formats(session: Session, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\tb,c\n1\t2,3\n")
    (tmp_path / "a.tsv").write_text("a\tb,c\n1\t2,3\n")
    commas, tabs = (session.run(Import(path=tmp_path / f"a.{end}", require=())) for end in ("csv", "tsv"))
    assert (commas.columns, tabs.columns) == (["a\tb", "c"], ["a", "b,c"])


def test_a_file_that_changes_under_the_run_is_not_taken_for_what_it_was(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n')
    step = Import(path=path, require=())

    def edit(event: Event) -> None:
        if event.kind == "step.started":
            path.write_text('{"a": 22}\n')

    session.bus.subscribe(edit)
    with pytest.raises(RecipeError, match="changed since the run began"):
        session.run(step)
    assert [row["a"] for row in session.run(step)] == [22]
