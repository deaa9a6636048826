from __future__ import annotations

import datetime as dt
import math
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillhouse import (
    Concat,
    Filter,
    Import,
    Interrupted,
    Join,
    Map,
    RecipeError,
    Rename,
    Rows,
    Sample,
    Select,
    Session,
    Shuffle,
    Skip,
    Sort,
    Split,
    Step,
    Take,
    Zip,
)
from stillhouse.core._tables import content_bytes

NUM = 40


def table(num: int = NUM, **more: Any) -> Import:
    return Import(data=[{"n": n, "kind": "abc"[n % 3], "half": n / 2, **more} for n in range(num)], require=())


def numbers(rows: Rows) -> list[int]:
    return [row["n"] for row in rows]


def ids(rows: Rows) -> list[str]:
    return [row["_id"] for row in rows]


def lineage(rows: Rows) -> dict[str, list[str]]:
    return {row["_id"]: row["_parents"] for batch in rows.batches(lineage=True) for row in batch}


def doubled(row: dict[str, Any]) -> dict[str, Any]:
    row["n"] *= 2
    return row


def twice(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"n": row["n"], "copy": copy} for copy in range(row["n"] % 3)]


def nothing(row: dict[str, Any]) -> list[dict[str, Any]]:
    del row
    return []


def hard(row: dict[str, Any]) -> dict[str, Any]:
    if row["n"] == 3:
        raise KeyError("price")
    return row


def test_map_makes_rows_that_descend_from_theirs(session: Session) -> None:
    source = session.run(table())
    made = session.run(Map(rows=table(), function=doubled))
    assert numbers(made) == [2 * n for n in range(NUM)]
    assert list(lineage(made).values())[1:] == [[name] for name in ids(source)[1:]]


def test_a_row_that_map_leaves_as_it_is_keeps_its_id(session: Session) -> None:
    made = session.run(Map(rows=table(), function=doubled))
    assert ids(made)[0] == ids(session.run(table()))[0]  # 2 × 0 is 0
    assert ids(made)[1] != ids(session.run(table()))[1]
    assert ids(session.run(Map(rows=table(), function=dict))) == ids(session.run(table()))


def value(name: str) -> Any:
    day = dt.datetime(2024, 2, 29, 12, 30)
    values = {
        "datetime": day,
        "date": day.date(),
        "time": day.time(),
        "uuid": uuid.UUID(int=7),
        "nan": math.nan,
        "inf": math.inf,
        "-inf": -math.inf,
        "none": None,
    }
    return str(values[name[:-5]]).replace(" ", "T") if name.endswith(" text") else values[name]


CHANGES = [
    *((name, f"{name} text") for name in ("datetime", "date", "time", "uuid")),
    ("nan", "none"),
    ("inf", "none"),
    ("inf", "-inf"),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_a_change_of_type_is_a_change(session: Session, tmp_path: Path, before: str, after: str) -> None:
    pq.write_table(pa.table({"a": [value(before)], "b": ["x"]}), tmp_path / "a.parquet")
    source = Import(path=tmp_path / "a.parquet", require=())
    changed = session.run(Map(rows=source, function=lambda row: {**row, "a": value(after)}))
    (row,) = changed
    assert row["a"] == value(after)
    assert changed.digest != session.run(source).digest
    assert ids(session.run(Map(rows=source, function=lambda row: dict(row)))) == ids(session.run(source))


def test_infinity_and_nothing_are_two_contents() -> None:
    contents: list[dict[str, Any]] = [{"a": value} for value in (None, math.nan, math.inf, -math.inf, 1.0)]
    assert len({content_bytes(content) for content in contents}) == 5
    assert content_bytes({"a": {"b": [None, 1.5]}, "c": "null"}) == b'{"a":{"b":[null,1.5]},"c":"null"}'


def test_a_list_makes_any_number_of_rows(session: Session) -> None:
    made = session.run(Map(rows=table(), function=twice))
    assert [(row["n"], row["copy"]) for row in made] == [(n, copy) for n in range(NUM) for copy in range(n % 3)]


def test_an_exception_fails_its_row_alone(session: Session) -> None:
    made = session.run(Map(rows=table(), function=hard))
    assert len(made) == NUM - 1
    (failed,) = made.failed()
    assert failed["kind"] == "error"
    assert failed["message"] == "KeyError: 'price'"


def test_a_function_that_wants_to_exit_fails_its_row(session: Session) -> None:
    def leaves(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] == 3:
            raise SystemExit(7)
        return row

    made = session.run(Map(rows=table(), function=leaves))
    assert [row["message"] for row in made.failed()] == ["SystemExit: 7"]


def test_a_function_that_returns_no_row_is_refused(session: Session) -> None:
    with pytest.raises(RecipeError, match="`len` returned 3"):
        session.run(Map(rows=table(), function=len))


def test_filter_keeps_rows_and_reasons(session: Session) -> None:
    kept = session.run(Filter(rows=table(), where=lambda row: row["n"] < 5 or (row["n"] > 8 and "too large")))
    assert numbers(kept) == [0, 1, 2, 3, 4]
    assert ids(kept) == ids(session.run(table()))[:5]
    reasons = Counter(
        row["reason"].removeprefix("`test_filter_keeps_rows_and_reasons.<locals>.") for row in kept.dropped()
    )
    assert reasons == {"too large": NUM - 9, "<lambda>` said no": 4}


def test_a_filter_that_says_neither_yes_nor_no_is_refused(session: Session) -> None:
    with pytest.raises(RecipeError, match="returned 0 .int."):
        session.run(Filter(rows=table(), where=lambda row: row["n"]))


def test_select_and_rename_make_new_rows(session: Session) -> None:
    chosen = session.run(Select(rows=table(), columns=("kind", "n")))
    assert chosen.columns == ["kind", "n"]
    assert list(lineage(chosen).values()) == [[name] for name in ids(session.run(table()))]
    assert session.run(Select(rows=table(), without=("half",))).columns == ["n", "kind"]
    renamed = session.run(Rename(rows=table(), names={"n": "number"}))
    assert renamed.columns == ["number", "kind", "half"]


def test_selecting_all_columns_keeps_the_rows(session: Session) -> None:
    assert ids(session.run(Select(rows=table(), columns=("half", "kind", "n")))) == ids(session.run(table()))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Select(rows=table(), columns=("kin",)), "Did you mean `kind`?"),
        (Select(rows=table()), "either `columns` or `without`"),
        (Select(rows=table(), without=("n", "kind", "half")), "no column would be left"),
        (Rename(rows=table(), names={"number": "n"}), "there is no column `number`"),
        (Rename(rows=table(), names={"n": "kind"}), "two columns would be called `kind`"),
        (Sort(rows=table(), by=("size",)), "Sort: there is no column `size`"),
        (Split(rows=table(), by="size"), "Split: there is no column `size`"),
        (Split(rows=table(), test_size=NUM), "the train part would be empty"),
        (Split(rows=table(), test_size=0.001), "the test part would be empty"),
        (Zip(rows=(table(), table(3))), "40, 3 rows"),
        (Zip(rows=(table(), table())), "two tables have a column `n`"),
        (Join(left=table(), right=table(), on=("n",)), "two tables have a column `kind`"),
        (Join(left=table(), right=table(), on=("m",)), "Join: there is no column `m`"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused(session: Session, step: Step[Rows], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        session.run(step)
    assert message in str(caught.value)


@pytest.mark.parametrize("num", [0, 1, 7, NUM, NUM + 5])
def test_take_and_skip_are_parts_of_one_whole(session: Session, num: int) -> None:
    first, rest = session.run([Take(rows=table(), num=num), Skip(rows=table(), num=num)])
    assert isinstance(first, Rows)
    assert isinstance(rest, Rows)
    assert numbers(first) == list(range(min(num, NUM)))
    assert ids(first) + ids(rest) == ids(session.run(table()))
    assert first.columns == rest.columns == ["n", "kind", "half"]


def test_shuffle_moves_rows_and_keeps_them(session: Session) -> None:
    source = session.run(table())
    shuffled = session.run(Shuffle(rows=table()))
    assert numbers(shuffled) != numbers(source)
    assert sorted(ids(shuffled)) == sorted(ids(source))
    assert numbers(session.run(Shuffle(rows=table(), seed=1))) != numbers(shuffled)


def test_shuffle_goes_through_files_in_many_buckets(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = numbers(session.run(Shuffle(rows=table(500))))
    monkeypatch.setattr("stillhouse.rows._order.BUCKET_ROWS", 7)
    with Session(session.folder / "other", progress=False, track=False) as other:
        assert numbers(other.run(Shuffle(rows=table(500)))) == whole


def test_sort_is_stable_and_puts_missing_values_last(session: Session) -> None:
    data = [{"n": n, "key": key} for n, key in enumerate(["b", None, "a", "B", "b", "a", "é", None])]
    rows = Import(data=data, require=())
    assert numbers(session.run(Sort(rows=rows, by=("key",)))) == [3, 2, 5, 0, 4, 6, 1, 7]
    assert numbers(session.run(Sort(rows=rows, by=("key",), descending=("key",)))) == [6, 0, 4, 2, 5, 3, 1, 7]
    by_two = session.run(Sort(rows=rows, by=("key", "n"), descending=("n",)))
    assert numbers(by_two) == [3, 5, 2, 4, 0, 6, 7, 1]
    assert sorted(ids(by_two)) == sorted(ids(session.run(rows)))


def test_sorting_keeps_types_and_nested_values(session: Session) -> None:
    data = [{"n": 2 - n, "list": [{"a": n}], "tags": [str(n)], "f": n / 2, "yes": n == 1} for n in range(3)]
    rows = Import(data=data, require=())
    made = session.run(Sort(rows=rows, by=("n",)))
    assert made.schema.equals(session.run(rows).schema)
    assert [row["list"] for row in made] == [[{"a": 2}], [{"a": 1}], [{"a": 0}]]


def test_concat_puts_tables_after_each_other(session: Session) -> None:
    other = Import(data=[{"n": 100, "colour": "red"}], require=())
    made = session.run(Concat(rows=(table(3), other, table(3))))
    assert numbers(made) == [0, 1, 2, 100, 0, 1, 2]
    assert made.columns == ["n", "kind", "half", "colour"]
    assert [row["colour"] for row in made] == [None] * 3 + ["red"] + [None] * 3


def test_a_row_reached_twice_becomes_a_child_of_itself(session: Session) -> None:
    made = session.run(Concat(rows=(table(3), Take(rows=table(3), num=2), table(3))))
    found = ids(made)
    assert len(set(found)) == len(found) == 8
    assert [lineage(made)[name] for name in found[3:]] == [[found[0]], [found[1]], [found[0]], [found[1]], [found[2]]]


def test_tables_that_do_not_fit_are_refused(session: Session) -> None:
    other = Import(data=[{"n": "many"}], require=())
    with pytest.raises(RecipeError, match="do not go into one table: `n` is int64 in one row and string in another"):
        session.run(Concat(rows=(table(), other)))


def test_zip_puts_tables_side_by_side(session: Session) -> None:
    right = Import(data=[{"m": n} for n in range(NUM)], require=())
    made = session.run(Zip(rows=(table(), right)))
    assert [(row["n"], row["m"]) for row in made] == [(n, n) for n in range(NUM)]
    pairs = zip(ids(session.run(table())), ids(session.run(right)), strict=True)
    assert list(lineage(made).values()) == [list(pair) for pair in pairs]


def test_join_matches_by_value_in_the_order_of_the_left(session: Session) -> None:
    names = [
        {"kind": "b", "name": "bee"},
        {"kind": "a", "name": "ay"},
        {"kind": "b", "name": "B"},
        {"kind": None, "name": "-"},
    ]
    right = Import(data=names, require=())
    left = Import(data=[{"n": n, "kind": kind} for n, kind in enumerate(["c", "b", None, "a"])], require=())
    inner = session.run(Join(left=left, right=right, on=("kind",)))
    assert [(row["n"], row["kind"], row["name"]) for row in inner] == [(1, "b", "bee"), (1, "b", "B"), (3, "a", "ay")]
    outer = session.run(Join(left=left, right=right, on=("kind",), how="left"))
    assert [(row["n"], row["name"]) for row in outer] == [(0, None), (1, "bee"), (1, "B"), (2, None), (3, "ay")]
    assert next(iter(lineage(inner).values())) == [ids(session.run(left))[1], ids(session.run(right))[0]]
    assert next(iter(lineage(outer).values())) == [ids(session.run(left))[0]]


def test_a_join_without_partners_has_columns_and_no_rows(session: Session) -> None:
    right = Import(data=[{"kind": "z", "name": "zed"}], require=())
    made = session.run(Join(left=table(), right=right, on=("kind",)))
    assert (len(made), made.columns) == (0, ["n", "kind", "half", "name"])


def test_where_no_rows_were_left_nobody_asks_for_columns(session: Session) -> None:
    none, names = Map(rows=table(), function=nothing), Import(data=[{"kind": "z", "name": "zed"}], require=())
    for left, right in ((none, names), (names, none), (none, none)):
        assert len(session.run(Join(left=left, right=right, on=("kind",)))) == 0
    assert session.run(Join(left=none, right=names, on=("kind",), how="left")).columns == ["kind", "name"]
    (row,) = session.run(Join(left=names, right=none, on=("kind",), how="left"))
    assert (row["kind"], row["name"]) == ("z", "zed")
    assert len(session.run(Sample(rows=none, size=0.5, by="kind"))) == 0
    with pytest.raises(RecipeError, match="with 0 rows"):
        session.run(Split(rows=none, test_size=0.5, by="kind", group="n").train)


def test_a_filter_that_keeps_nothing_keeps_the_columns(session: Session) -> None:
    none = Filter(rows=table(), where=lambda row: False)
    assert session.run(none).schema.equals(session.run(table()).schema)
    assert session.run(Sort(rows=none, by=("n",))).columns == ["n", "kind", "half"]


def test_names_that_differ_in_case_alone_are_two_columns(session: Session) -> None:
    left = Import(data=[{"a": 2, "A": "x", "file_row_number": 9}, {"a": 1, "A": "y", "file_row_number": 8}], require=())
    right = Import(data=[{"a": 1, "B": "one", "b": "I"}], require=())
    (row,) = session.run(Join(left=left, right=right, on=("a",)))
    assert {name: row[name] for name in row if name != "_id"} == {
        "a": 1, "A": "y", "file_row_number": 8, "B": "one", "b": "I",
    }  # fmt: skip
    made = session.run(Sort(rows=left, by=("a",)))
    assert [(row["a"], row["A"], row["file_row_number"]) for row in made] == [(1, "y", 8), (2, "x", 9)]


def test_a_join_of_two_types_is_refused(session: Session) -> None:
    left, right = (Import(data=[{"key": key}], require=()) for key in ("1", 1))
    with pytest.raises(RecipeError, match="`key` is string on the left and int64 on the right"):
        session.run(Join(left=left, right=right, on=("key",)))


def test_what_is_descending_stands_in_by() -> None:
    with pytest.raises(RecipeError, match="`b` is in `descending`, but not in `by`"):
        Sort(rows=table(), by=("n",), descending=("b",))


def test_split_gives_each_row_to_one_part(session: Session) -> None:
    split = Split(rows=table(100), test_size=0.2, by="kind")
    train, test = session.run(split.train), session.run(split.test)
    assert sorted(ids(train) + ids(test)) == sorted(ids(session.run(table(100))))
    assert numbers(train) == sorted(numbers(train))
    assert sorted(Counter(row["kind"] for row in test).values()) == [6, 7, 7]
    assert train.columns == test.columns


def test_a_split_is_the_same_whatever_the_order_of_the_rows(session: Session) -> None:
    def test_ids(rows: Step[Rows], seed: int = 0) -> set[str]:
        return set(ids(session.run(Split(rows=rows, test_size=10, seed=seed).test)))

    assert test_ids(table()) == test_ids(Shuffle(rows=table()))
    assert len(test_ids(table())) == 10
    assert test_ids(table(), seed=1) != test_ids(table())


def test_a_row_tends_to_stay_on_its_side_when_others_are_added(session: Session) -> None:
    before = set(ids(session.run(Split(rows=table(400), test_size=0.25).test)))
    after = set(ids(session.run(Split(rows=table(500), test_size=0.25).test)))
    assert len(before & after) > 0.9 * len(before)


def test_an_empty_table_goes_through_everything(session: Session) -> None:
    none = Take(rows=table(), num=0)
    steps: list[Step[Rows]] = [
        Skip(rows=none, num=3),
        Shuffle(rows=none),
        Sort(rows=none, by=("n",)),
        Concat(rows=(none, none)),
        Map(rows=none, function=dict),
        Filter(rows=none, where=bool),
    ]
    for step in steps:
        assert len(session.run(step)) == 0


def test_a_stop_is_heeded_between_batches(tmp_path: Path) -> None:
    with Session(tmp_path / "store", progress=False, track=False) as session:
        session.run(table(100))

        def stop(event: Any) -> None:
            if event.kind == "step.progress" and event.data["tag"] == "rows.concat/1":
                session.stop()

        session.bus.subscribe(stop)
        with pytest.raises(Interrupted):
            session.run(Concat(rows=(table(100), table(100))))
