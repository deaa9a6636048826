"""What was tokenised is not tokenised again: rows that stayed, in any number of processes, fast or not."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stillhouse.core.artifact import Tokens
from stillhouse.core.errors import RecipeError, StoreError
from stillhouse.core.session import Session
from stillhouse.rows.import_ import Import
from stillhouse.text import _encoder, nasty
from stillhouse.text.train_tokenizer import TrainTokenizer
from stillhouse.tokens import _processes, _tokenize
from stillhouse.tokens._documents import Documenter, Documents, Writing
from stillhouse.tokens._tokenize import layout_of, publish, write_segments
from stillhouse.tokens.store import TokenStore
from stillhouse.tokens.tokenize import Tokenize
from tests.text.tokenizers import SENTENCES, small_tokenizer

TEACHING = Import(data=[{"text": text} for text in SENTENCES], require=())
TOKENIZER = TrainTokenizer(rows=TEACHING, columns=("text",), vocab_size=300)


def texts(count: int, **changed: str) -> list[dict[str, str]]:
    """Short texts; `_7="x"` puts another in the place of number 7."""
    return [{"text": changed.get(f"_{number}", f"number {number}")} for number in range(count)]


def step(rows: list[dict[str, str]], **fields: Any) -> Tokenize:
    return Tokenize(rows=Import(data=rows, require=()), tokenizer=TOKENIZER, **{"text": "text", **fields})


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of about twenty rows."""
    monkeypatch.setattr(_tokenize, "_BATCH", 5)
    monkeypatch.setattr(_tokenize, "_SEGMENT_TOKENS", 150)


class Work:
    """Counts the rows that are tokenised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        inner = Documenter.__call__

        def counted(documenter: Documenter, rows: list[dict[str, Any]]) -> Documents:
            self.rows += len(rows)
            return inner(documenter, rows)

        monkeypatch.setattr(Documenter, "__call__", counted)

    def of(self, session: Session, tokenize: Tokenize) -> tuple[Tokens, int]:
        before = self.rows
        return session.run(tokenize), self.rows - before


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


def ids(tokens: Tokens) -> list[list[int]]:
    store = TokenStore(tokens.data)
    store.verify()
    return [document.ids.tolist() for document in store]


@pytest.mark.usefixtures("small_segments")
def test_a_table_that_grew_keeps_its_segments_numbers_and_fingerprints(
    session: Session, work: Work, tmp_path: Path
) -> None:
    first, done = work.of(session, step(texts(100)))
    assert done == 100
    grown, done = work.of(session, step(texts(110)))
    assert done == 10
    old, new = TokenStore(first.data), TokenStore(grown.data)
    assert new.num_documents == 110
    assert [segment.files for segment in new.segments][: len(old.segments)] == [s.files for s in old.segments]
    assert TokenStore(grown.data, fingerprint=old.fingerprint).num_documents == 100
    assert new.row_ids(range(100)) == old.row_ids(range(100))
    assert ids(grown)[:100] == ids(first)
    with Session(tmp_path / "other", progress=False, track=False) as elsewhere:
        at_once = elsewhere.run(step(texts(110)))
    assert ids(at_once) == ids(grown)
    assert TokenStore(at_once.data).fingerprint == new.fingerprint
    assert len(TokenStore(at_once.data).segments) != len(new.segments)
    assert at_once.digest == grown.digest  # however it was cut: what stands on it is not made again


@pytest.mark.usefixtures("small_segments")
def test_a_changed_row_repeats_its_own_segment_only(session: Session, work: Work) -> None:
    first, _ = work.of(session, step(texts(100)))
    [segment] = [s for s in TokenStore(first.data).segments if s.rows[0] <= 50 < s.rows[1]]
    changed, done = work.of(session, step(texts(100, _50="something else")))
    assert done == segment.rows[1] - segment.rows[0]
    assert ids(changed)[:50] + ids(changed)[51:] == ids(first)[:50] + ids(first)[51:]
    assert ids(changed)[50] != ids(first)[50]
    shorter, done = work.of(session, step([*texts(100)[:30], *texts(100)[31:]]))
    assert done < 40
    assert ids(shorter) == ids(first)[:30] + ids(first)[31:]


@pytest.mark.usefixtures("small_segments")
def test_another_tokenizer_or_other_options_take_nothing_over(session: Session, work: Work) -> None:
    session.run(step(texts(40)))
    other = TrainTokenizer(rows=TEACHING, columns=("text",), vocab_size=300, split_digits=False)
    for changed in (
        step(texts(41)).replace(tokenizer=other),
        step(texts(41), max_length=50),
        step(texts(41), source="web"),
    ):
        assert work.of(session, changed)[1] == 41
    assert work.of(session, step(texts(42)))[1] == 2


@pytest.mark.usefixtures("small_segments")
def test_rejected_rows_are_taken_over_too(session: Session, work: Work) -> None:
    rows = texts(60, _3=" ", _45="\n", _58="x " * 300)
    first = session.run(step(rows, max_length=200))
    grown, done = work.of(session, step([*rows, {"text": "more"}, {"text": ""}], max_length=200))
    assert done == 2
    kinds = [reject["kind"] for reject in TokenStore(grown.data).rejects()]
    assert kinds == [reject["kind"] for reject in TokenStore(first.data).rejects()] + ["empty"]
    assert grown.record["facts"]["rejected_for"] == {"empty": 3, "too_long": 1}


@pytest.mark.usefixtures("small_segments")
def test_a_damaged_segment_is_not_taken_over(session: Session, work: Work) -> None:
    first = session.run(step(texts(60)))
    size = TokenStore(first.data).segments[1].num_documents
    path = first.data / "segments" / "00001" / "tokens.bin"
    content = bytearray(path.read_bytes())
    content[4] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    grown, done = work.of(session, step(texts(61)))
    assert done == size + 1
    assert len(ids(grown)) == 61


# Processes


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Writing:
    folder = tmp_path_factory.mktemp("tokenizer")
    small_tokenizer().save_pretrained(folder)
    return Writing(folder, max_length=60, weight="share")


def talks(count: int) -> list[pa.RecordBatch]:
    rows = [
        {
            "_id": f"{n:024x}",
            "messages": [
                {"role": "user", "content": f"{SENTENCES[n % 4]} {n}" * (9 if n % 50 == 7 else 1)},
                {"role": "assistant", "content": f"ü{n}"},
            ],
            "share": float(n % 3),
        }
        for n in range(count)
    ]
    return [pa.RecordBatch.from_pylist(rows)]


def test_processes_change_nothing_in_what_is_written(
    tmp_path: Path, writing: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tokenize, "_BATCH", 40)
    layout = layout_of(small_tokenizer(), None, chat=True)
    alone = write_segments(talks(600), tmp_path / "1", layout, writing, 8_000)
    monkeypatch.setattr(_tokenize, "_ALONE_SECONDS", 0.0)
    together = write_segments(talks(600), tmp_path / "2", layout, writing, 8_000, processes=2, total=10_000)
    assert alone == together
    assert len(alone) > 1
    assert sum(segment.num_rejected for segment in alone) == 12
    for name in ("1", "2"):
        publish(tmp_path / name, tmp_path / f"{name}-published", layout, alone)
    files = sorted(
        p.relative_to(tmp_path / "1-published") for p in (tmp_path / "1-published").rglob("*") if p.is_file()
    )
    assert files
    for file in files:
        assert (tmp_path / "1-published" / file).read_bytes() == (tmp_path / "2-published" / file).read_bytes()


def test_what_a_process_finds_wrong_reaches_the_user_and_so_does_its_death(writing: Writing) -> None:
    wrong = Writing(writing.tokenizer, template="{% generation %}{% endgeneration %}")
    chunk = _processes.Chunk(0, talks(3)[0])
    with _processes.Processes(1, wrong) as pool:
        with pytest.raises(RecipeError, match="marks nothing"):
            list(pool.map([chunk]))
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(StoreError, match=r"killed from outside(.|\n)*same command again"):
            list(pool.map([chunk]))


# The fast way


def test_the_fast_way_is_taken_for_text_and_noted(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = session.run(step(texts(30)))
    monkeypatch.setattr(_tokenize, "_SMALL_BYTES", 0)
    fast = session.run(step([*texts(30), {"text": "one more"}]).replace(source="fast"))
    assert plain.record["facts"]["encoder"] == "tokenizers"
    assert fast.record["facts"]["encoder"] == "tiktoken"
    assert ids(fast)[:30] == ids(plain)


def test_one_other_id_at_the_start_of_a_segment_makes_the_tokenizer_do_all_of_it(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tokenize, "_SMALL_BYTES", 0)
    monkeypatch.setattr(nasty, "nasty_texts", lambda added: [])  # so that it is not found before
    monkeypatch.setattr(_encoder, "_GPT2_DIGITS", _encoder._GPT2_DIGITS.replace(r" ?\p{L}", r"\p{L}"))
    warnings: list[str] = []
    session.bus.subscribe(lambda event: warnings.append(event.data["message"]) if event.kind == "warning" else None)
    tokens = session.run(step([{"text": f"and a plain {n}"} for n in range(30)]))
    noted = tokens.record["facts"]["fast_way_differs"]
    assert noted["text"] == "and a plain 0"
    assert noted["expected"] != noted["found"]
    assert tokens.record["facts"]["encoder"] == "tokenizers"
    assert len([message for message in warnings if "tiktoken" in message]) == 1
    monkeypatch.undo()
    again = session.run(step([{"text": f"and a plain {n}"} for n in range(30)], source="again"))
    assert ids(again) == ids(tokens)
