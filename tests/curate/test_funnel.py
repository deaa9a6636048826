from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stillhouse import Concat, Decontaminate, Dedup, Embed, Import, Keep, Map, Session, Split, Take
from stillhouse.curate.funnel import Stage, funnel, funnel_svg, funnel_text

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
    assert [stage.reads for stage in stages] == [(), *((stage.build_key,) for stage in stages[:3])]
    lines = funnel_text(stages).splitlines()
    assert lines[4].split() == ["curate.keep", "9", "6", "3", "0", "██████████····", "…", "is", "below", "…", "(3)"]


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


def test_diversity_is_told_before_and_after_each_step_that_chose(session: Session) -> None:
    unique = Dedup(rows=ROWS, threshold=None)
    stages = funnel(session.store, session.run(unique), diversity=True, columns=("input",))
    assert stages[0].before is None
    before, after = stages[1].before, stages[1].after
    assert before is not None
    assert after is not None
    assert (before["rows"], after["rows"]) == (10, 6)
    assert (before["distinct texts"], after["distinct texts"]) == (0.6, 1)
    assert f"{before['self-BLEU']:.3f} → {after['self-BLEU']:.3f}" in funnel_text(stages)
    assert funnel(session.store, session.run(unique))[1].before is None
    # Where no column is named, all columns of text count: the outputs differ, so all texts do.
    whole = funnel(session.store, session.run(unique), diversity=True)[1].before
    assert whole is not None
    assert whole["distinct texts"] == 1
    of_a_part = Dedup(rows=Split(rows=ROWS, test_size=2).train, threshold=None)
    assert funnel(session.store, session.run(of_a_part), diversity=True)[-1].before["rows"] == 8  # type: ignore[index]


def test_of_rows_with_vectors_spread_and_clusters_are_told_as_well(session: Session) -> None:
    rows = Import(data=[{"input": f"{n % 6} lattes please", "output": str(n)} for n in range(31)])
    vectors = Embed(rows=rows, column="input", by="hash:64")
    made = session.run(Dedup(rows=Take(rows=vectors, num=30), threshold=None))
    lines = funnel_text(funnel(session.store, made, diversity=True), 200).splitlines()
    heads, taken, unique = [line for line in lines if line.startswith(("step  ", "rows.take", "curate"))][-3:]
    assert heads.split()[-3:] == ["spread", "clusters", "reached"]
    assert taken.count("→") == unique.count("→") == 5
    assert "1.000 → 1.000" in unique  # whatever was there is still there
    assert "self-BLEU" in heads
    marked = Import(data=[{"input": f"tea {n % 2}", "marks": [0.1 * n, 0.5]} for n in range(4)], require=())
    stages = funnel(session.store, session.run(Dedup(rows=marked, threshold=None)), diversity=True)
    assert stages[-1].after is not None
    assert "spread" not in stages[-1].after  # the marks of judges are no vectors


texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=80)
stages = st.builds(
    Stage,
    tag=st.just("curate.dedup/1"),
    build_key=st.sampled_from("ab"),
    rows_in=st.none() | st.integers(0, 10**9),
    out=st.integers(0, 10**9),
    dropped=st.integers(0, 99),
    failed=st.integers(0, 99),
    reasons=st.dictionaries(texts, st.integers(1, 99), max_size=5),
    faults=st.dictionaries(texts, st.integers(1, 99), max_size=3),
    reads=st.lists(st.sampled_from("ab"), max_size=2).map(tuple),
    before=st.none() | st.just({"distinct 2": 0.5}),
    after=st.none() | st.just({"distinct 2": 0.75}),
)


@given(st.lists(stages, max_size=5), texts)
def test_a_picture_is_well_formed_whatever_the_reasons_say(found: list[Stage], title: str) -> None:
    picture = funnel_svg(found, title)
    root = ET.fromstring(picture)
    assert len(root.findall("{http://www.w3.org/2000/svg}rect")) == 2 * len(found)
    assert "<script" not in picture
    assert all(float(rect.attrib["width"]) <= 300 for rect in root.iter("{http://www.w3.org/2000/svg}rect"))
    funnel_text(found)


def test_a_picture_tells_reasons_and_shows_who_reads_whom(session: Session) -> None:
    other = Import(data=[{"input": "1 lattes please", "output": "x"}])
    step = Keep(rows=Dedup(rows=ROWS, threshold=None), where=lambda row, reply: reply != "1" or "<b>no</b>")
    made = session.run(Decontaminate(rows=step, against={"other": other}))
    picture = funnel_svg(funnel(session.store, made), "orders & more")
    assert "4 × duplicate" in picture
    assert "1 × &lt;b&gt;no&lt;/b&gt;" in picture
    assert "orders &amp; more" in picture
    assert picture.count("<polygon") == 3  # into Dedup, Keep and Decontaminate, none from the test set
