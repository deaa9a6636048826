from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from stillhouse.core.artifact import Tokens
from stillhouse.core.errors import RecipeError, RowFault
from stillhouse.core.session import Session
from stillhouse.rows.import_ import Import
from stillhouse.rows.transform import Map
from stillhouse.text.chat import DEFAULT_TEMPLATE, render
from stillhouse.text.pretrained_tokenizer import PretrainedTokenizer
from stillhouse.text.tokenizer import load_tokenizer
from stillhouse.text.train_tokenizer import TrainTokenizer
from stillhouse.tokens import _tokenize
from stillhouse.tokens._documents import Documenter, Encoded, Writing, text_encoder
from stillhouse.tokens._processes import Chunk
from stillhouse.tokens._segments import Layout
from stillhouse.tokens._tokenize import (
    cut,
    layout_of,
    publish,
    write_segments,
)
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.store import TokenStore
from stillhouse.tokens.tokenize import Tokenize
from tests.text.tokenizers import MARKED_CHATML, SENTENCES, small_tokenizer


def nothing(row: dict[str, Any]) -> list[dict[str, Any]]:
    del row
    return []


def talk(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def table(rows: list[dict[str, Any]]) -> Import:
    return Import(data=rows, require=())


TALKS = table(
    [
        {"messages": talk(f"{text} {number}", f"answer {number}"), "share": number % 3}
        for number, text in enumerate(SENTENCES * 3)
    ]
)
TOKENIZER = TrainTokenizer(rows=TALKS, vocab_size=380)


def read(tokens: Tokens) -> TokenStore:
    store = TokenStore(tokens.data)
    store.verify()
    return store


def test_conversations_become_documents_with_assistant_only_weights(session: Session) -> None:
    rows, tokens = session.run(TALKS), session.run(Tokenize(rows=TALKS, tokenizer=TOKENIZER, source="talks"))
    tokenizer = load_tokenizer(session.run(TOKENIZER).path)
    store = read(tokens)
    assert store.num_documents == len(rows)
    for row, document in zip(rows, store, strict=True):
        rendered = render(tokenizer, row["messages"])
        assert document.row_id == row["_id"]
        assert document.ids.tolist() == rendered.ids
        assert document.weights.tolist() == rendered.weights
        assert document.roles == tuple((span.role, span.start, span.stop) for span in rendered.roles)
        assert document.source == "talks"
    assert store.layout.end_ids == (tokenizer.eos_token_id,)
    assert tokens.record["facts"]["documents"] == len(rows)
    assert tokens.record["facts"]["learnt"] == store.num_learnt


def test_the_tokenizer_and_its_template_travel_with_the_tokens(session: Session) -> None:
    tokens = session.run(Tokenize(rows=TALKS, tokenizer=TOKENIZER))
    row = session.run(TALKS).head(1)[0]
    again = load_tokenizer(tokens.data / "tokenizer")
    assert render(again, row["messages"]).ids == read(tokens).document(0).ids.tolist()


def test_a_template_of_ones_own_is_used_and_travels(session: Session) -> None:
    tokens = session.run(Tokenize(rows=TALKS, tokenizer=TOKENIZER, template=MARKED_CHATML))
    row = session.run(TALKS).head(1)[0]
    again = load_tokenizer(tokens.data / "tokenizer")
    assert "assistant\n" in again.backend_tokenizer.decode(read(tokens).document(0).ids.tolist())
    assert render(again, row["messages"]).ids == read(tokens).document(0).ids.tolist()


def test_text_is_learnt_whole_with_the_end_token_after_it(session: Session) -> None:
    texts = table([{"title": f"T{number}", "body": text} for number, text in enumerate(SENTENCES)])
    store = read(session.run(Tokenize(rows=texts, tokenizer=TOKENIZER, text=("title", "body"))))
    tokenizer = load_tokenizer(session.run(TOKENIZER).path)
    for number, document in enumerate(store):
        assert tokenizer.backend_tokenizer.decode(document.ids.tolist()[:-1]) == f"T{number}\n\n{SENTENCES[number]}"
        assert document.ids[-1] == tokenizer.eos_token_id
        assert set(document.weights.tolist()) == {1.0}


def test_one_column_of_text_may_be_named_alone() -> None:
    assert Tokenize(rows=TALKS, tokenizer=TOKENIZER, text="body").text == ("body",)


def test_example_weights_come_from_a_column(session: Session) -> None:
    store = read(session.run(Tokenize(rows=TALKS, tokenizer=TOKENIZER, weight="share")))
    assert [document.weight for document in store] == [float(number % 3) for number in range(12)]
    batch = next(get_loader(store, seq_len=128, batch_size=4))
    for span in np.flatnonzero(batch.source_ids >= 0).tolist():
        begin, end = batch.cu_seqlens[span : span + 2].tolist()
        weight = float(batch.documents[span] % 3)
        assert set(batch.weights.reshape(-1)[begin:end].tolist()) <= {0.0, weight}


def test_rows_that_cannot_be_used_are_counted_and_can_be_read(session: Session) -> None:
    bad = [
        {"messages": talk("a " * 200, "b")},
        {"messages": [{"role": "user", "content": "only a question"}]},
        {"messages": talk("x", "y<|end|>z")},
    ]
    rows = table([{"messages": talk(text, "fine")} for text in SENTENCES] + bad)
    tokens = session.run(Tokenize(rows=rows, tokenizer=TOKENIZER, max_length=128))
    assert tokens.record["facts"]["rejected"] == 3
    store = read(tokens)
    assert (store.num_documents, store.num_rejected) == (4, 3)
    rejects = list(store.rejects())
    assert [reject["kind"] for reject in rejects] == ["too_long", "invalid", "invalid"]
    assert "at most 128" in rejects[0]["message"]
    assert rejects[1]["row"] == {"messages": bad[1]["messages"]}
    ids = {row["_id"] for row in session.run(rows)}
    assert ids == {reject["_id"] for reject in rejects} | set(store.row_ids(range(4)))


@pytest.mark.parametrize("weight", [1e39, -1.0, float("nan"), 10**400, "1"])
def test_a_weight_that_cannot_be_kept_is_rejected(tmp_path: Path, weight: Any) -> None:
    small_tokenizer().save_pretrained(tmp_path)
    documents = Documenter(Writing(tmp_path, ("text",), weight="share"))
    made = documents([{"_id": str(share), "text": "a", "share": share} for share in (0, 1.5, 3.4e38, weight)])
    assert made.row_ids == ["0", "1.5", "3.4e+38"]
    assert [reject.kind for reject in made.rejects] == ["invalid"]
    assert "expected a weight from 0 to 3.4e+38" in made.rejects[0].message


@pytest.mark.parametrize("text", [("text",), None])
def test_half_a_character_is_a_fault_of_its_row_alone(tmp_path: Path, text: tuple[str, ...] | None) -> None:
    small_tokenizer().save_pretrained(tmp_path)
    documents = Documenter(Writing(tmp_path, text))
    made = documents([{"_id": said, "text": said, "messages": talk("ask", said)} for said in ("a", "b \ud83d", "日")])
    assert made.row_ids == ["a", "日"]
    assert ["half a character" in reject.message for reject in made.rejects] == [True]


def test_control_tokens_in_a_text_are_read_as_text(session: Session) -> None:
    text = "the template writes <|end|> and then <|user|> two <think>lattes</think>"
    rows = table([{"text": text}, {"text": "plain"}])
    tokenizer = load_tokenizer(session.run(TOKENIZER).path)
    made = Tokenize(rows=rows, tokenizer=TOKENIZER, text=("text",))
    document = read(session.run(made)).document(0)
    assert tokenizer.decode(document.ids, skip_special_tokens=False) == f"{text}<|end|>"
    assert np.flatnonzero(document.ids == tokenizer.eos_token_id).tolist() == [len(document.ids) - 1]
    meant = Tokenize(rows=rows, tokenizer=TOKENIZER, text=("text",), control_tokens=True)
    assert meant.recipe_key != made.recipe_key
    as_they_are = read(session.run(meant)).document(0)
    assert as_they_are.ids.tolist() == [
        *tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids,
        tokenizer.eos_token_id,
    ]
    assert (as_they_are.ids == tokenizer.eos_token_id).sum() == 2
    with pytest.raises(RecipeError, match="`control_tokens` is for texts"):
        Tokenize(rows=TALKS, tokenizer=TOKENIZER, control_tokens=True)


def test_a_text_that_cannot_be_read_without_its_control_token_is_a_fault() -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "[END]": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="[END]", unk_token="[UNK]")
    rows = [{"_id": "", "text": text} for text in ("a [END] a", "a b [UNK]")]
    fault, fine = text_encoder(tokenizer, ["text"])(rows)
    assert isinstance(fault, RowFault)
    assert fault.kind == "invalid"
    assert "the control token `[END]` stands in the text" in fault.message
    assert ids_in(fine) == [1, 0, 0, 2]
    assert ids_in(text_encoder(tokenizer, ["text"], control_tokens=True)(rows)[0]) == [1, 2, 1, 2]


def test_empty_text_is_rejected_and_other_types_too(session: Session) -> None:
    rows = table([{"text": "fine"}, {"text": "good"}, {"text": "ok"}, {"text": " "}, {"text": None}])
    tokens = session.run(Tokenize(rows=rows, tokenizer=TOKENIZER, text=("text",)))
    assert [reject["kind"] for reject in TokenStore(tokens.data).rejects()] == ["empty", "empty"]


def test_when_most_rows_are_rejected_the_step_stops_with_the_first(session: Session) -> None:
    rows = table([{"messages": [{"role": "user", "content": text}]} for text in SENTENCES])
    with pytest.raises(RecipeError, match=r"(?s)4 of 4 rows cannot be used.*nothing to learn"):
        session.run(Tokenize(rows=rows, tokenizer=TOKENIZER))


def test_a_tokenizer_without_template_and_a_broken_one_are_told(session: Session, tmp_path: Path) -> None:
    small_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    rows = table([{"messages": talk(text, "fine")} for text in SENTENCES])
    tokenizer = PretrainedTokenizer(name=str(tmp_path))
    with pytest.raises(RecipeError, match="no chat template"):
        session.run(Tokenize(rows=rows, tokenizer=tokenizer))
    with pytest.raises(RecipeError, match=r"(?s)4 of 4 rows cannot be used: invalid \(4\).*Unexpected end of template"):
        session.run(Tokenize(rows=rows, tokenizer=tokenizer, template="{% for one in messages %}"))
    wants = "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}" + DEFAULT_TEMPLATE
    told = [{"role": "system", "content": "be brief"}, *talk("a", "b")]
    store = read(session.run(Tokenize(rows=table([{"messages": told}]), tokenizer=tokenizer, template=wants)))
    assert store.num_documents == 1


def test_the_end_of_a_turn_is_read_of_a_template_that_wants_a_system_message(session: Session, tmp_path: Path) -> None:
    words = small_tokenizer()
    words.add_special_tokens({"additional_special_tokens": ["<|end|>", "<|over|>"]})
    words.eos_token = "<|over|>"
    words.save_pretrained(tmp_path)
    wants = "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}"
    template = wants + DEFAULT_TEMPLATE.replace("eos_token", "'<|end|>'")
    told = [{"role": "system", "content": "be brief"}, *talk("a", "b")]
    step = Tokenize(
        rows=table([{"messages": told}]), tokenizer=PretrainedTokenizer(name=str(tmp_path)), template=template
    )
    store = read(session.run(step))
    ends: Any = words.convert_tokens_to_ids(["<|end|>", "<|over|>"])
    assert (store.num_documents, store.layout.end_ids) == (1, tuple(sorted(ends)))


def test_a_table_without_rows_is_told(session: Session) -> None:
    rows = Map(rows=TALKS, function=nothing)
    with pytest.raises(RecipeError, match="there are no rows"):
        session.run(Tokenize(rows=rows, tokenizer=TOKENIZER))


def test_missing_columns_are_named_beside_those_that_exist(session: Session) -> None:
    rows = table([{"input": "a", "output": "b"}])
    with pytest.raises(RecipeError, match=r"(?s)no column `messages`.*input, output.*ToMessages"):
        session.run(Tokenize(rows=rows, tokenizer=TOKENIZER))
    with pytest.raises(RecipeError, match="no column `body`"):
        session.run(Tokenize(rows=rows, tokenizer=TOKENIZER, text=("body",)))
    with pytest.raises(RecipeError, match="no column `share`"):
        session.run(Tokenize(rows=rows, tokenizer=TOKENIZER, text=("input",), weight="share"))


def test_rows_are_refused_in_place_of_a_tokenizer() -> None:
    with pytest.raises(RecipeError, match="tokenizer"):
        Tokenize(rows=TALKS, tokenizer=TALKS)


def test_what_changes_ids_changes_the_key_and_the_fingerprint(session: Session) -> None:
    plain = Tokenize(rows=TALKS, tokenizer=TOKENIZER)
    templated = plain.replace(template=MARKED_CHATML)
    other = plain.replace(tokenizer=TrainTokenizer(rows=TALKS, vocab_size=360))
    prints = [read(session.run(step)).fingerprint for step in (plain, templated, other)]
    assert len(set(prints)) == 3
    assert len({step.recipe_key for step in (plain, templated, other)}) == 3


# Interruption


def rows_of(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"_id": f"{n:024x}", "messages": talk(SENTENCES[n % 4], f"{n}")} for n in range(first, first + count)]


@pytest.fixture(scope="module")
def writing(tmp_path_factory: pytest.TempPathFactory) -> Writing:
    folder = tmp_path_factory.mktemp("tokenizer")
    small_tokenizer().save_pretrained(folder)
    return Writing(folder, max_length=60)


def layout() -> Layout:
    return layout_of(small_tokenizer(), None, chat=True)


def in_batches(rows: list[dict[str, Any]], size: int = 700) -> list[pa.RecordBatch]:
    return [pa.RecordBatch.from_pylist(rows[start : start + size]) for start in range(0, len(rows), size)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop", [1, 2, 4, 5, 6])
def test_interrupted_tokenising_repeats_missing_segments_only(tmp_path: Path, writing: Writing, stop: int) -> None:
    rows, plan = in_batches(rows_of(1500)), layout()
    whole = write_segments(rows, tmp_path / "whole", plan, writing, 8_000)
    assert len(whole) >= 3
    calls = iter(range(1, 1000))

    def interrupt(done: int, tokens: int) -> None:
        if next(calls) == stop:
            raise Stop

    with pytest.raises(Stop):
        write_segments(rows, tmp_path / "broken", plan, writing, 8_000, interrupt)
    done = [path / "tokens.bin" for path in (tmp_path / "broken").iterdir() if path.suffix != ".part"]
    times = {path: path.stat().st_mtime_ns for path in done}
    assert len(times) < len(whole)
    assert write_segments(rows, tmp_path / "broken", plan, writing, 8_000) == whole
    assert times == {path: path.stat().st_mtime_ns for path in done}
    for name in ("whole", "broken"):
        publish(tmp_path / name, tmp_path / f"{name}-published", plan, whole)
    assert files_of(tmp_path / "whole-published") == files_of(tmp_path / "broken-published")


PROGRAM = """
import os, signal, sys
from pathlib import Path
from stillhouse.core.session import Session
from stillhouse.rows.import_ import Import
from stillhouse.text.train_tokenizer import TrainTokenizer
from stillhouse.tokens import _tokenize
from stillhouse.tokens.tokenize import Tokenize

_tokenize._SEGMENT_TOKENS = 4_000
kill_after = int(sys.argv[2])
close = _tokenize.SegmentWriter.close

def counted(self, rows, **names):
    segment = close(self, rows, **names)
    if int(self.name) + 1 == kill_after:
        os.kill(os.getpid(), signal.SIGKILL)
    print("wrote", self.name, flush=True)
    return segment

_tokenize.SegmentWriter.close = counted
talks = [[{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": f"{n} {n}"}] for n in range(1500)]
rows = Import(data=[{"messages": talk} for talk in talks], require=())
with Session(sys.argv[1], progress=False, track=False) as session:
    tokens = session.run(Tokenize(rows=rows, tokenizer=TrainTokenizer(rows=rows, vocab_size=300)))
    print("digest", tokens.digest, flush=True)
"""


def run_program(folder: Path, kill_after: int) -> tuple[int, list[str]]:
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(kill_after)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return done.returncode, done.stdout.split("\n")[:-1]


def test_after_kill_9_the_same_command_writes_the_missing_segments_and_the_same_bytes(tmp_path: Path) -> None:
    _, whole = run_program(tmp_path / "whole", 0)
    code, _ = run_program(tmp_path / "killed", 2)
    assert code == -signal.SIGKILL
    code, rest = run_program(tmp_path / "killed", 0)
    assert code == 0
    assert whole[:2] == ["wrote 00000", "wrote 00001"]
    assert rest[0] == "wrote 00002"
    assert rest[-1] == whole[-1]
    assert rest[-1].startswith("digest ")


# Encoders


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_texts_encode_one_by_one_as_together(texts: list[str]) -> None:
    encode = text_encoder(small_tokenizer(), ["text"])
    rows = [{"_id": "", "text": text} for text in texts]
    assert [ids_in(found) for found in encode(rows)] == [ids_in(encode([row])[0]) for row in rows]


def ids_in(found: Encoded | RowFault) -> list[int]:
    assert isinstance(found, Encoded)
    return [int(token) for token in found.ids]


def test_a_begin_token_comes_first_where_the_tokenizer_writes_one(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    small_tokenizer().save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.bos_token = "<|system|>"
    begin = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|system|> $A", special_tokens=[("<|system|>", begin)]
    )
    [encoded] = text_encoder(tokenizer, ["text"])([{"_id": "", "text": "a latte"}])
    plain = small_tokenizer().backend_tokenizer.encode("a latte", add_special_tokens=False).ids
    assert ids_in(encoded) == [begin, *plain, tokenizer.eos_token_id]


def test_the_manifest_is_readable_and_says_what_it_is(session: Session) -> None:
    tokens = session.run(Tokenize(rows=TALKS, tokenizer=TOKENIZER))
    manifest = json.loads((tokens.data / "manifest.json").read_text())
    assert manifest["format"] == "stillhouse-tokens/3"
    assert manifest["fingerprint"] == read(tokens).fingerprint


def test_long_rows_are_tokenised_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tokenize, "_BATCH_BYTES", 10_000)
    texts = [f"{number:06d}" + "x" * (3_000 if 20 <= number < 60 else 30) for number in range(100)]
    batch = pa.RecordBatch.from_pydict({"_id": [f"{number:024x}" for number in range(100)], "text": texts})
    chunks = [chunk for chunk in cut([batch], 0, ()) if isinstance(chunk, Chunk)]
    assert [row for chunk in chunks for row in chunk.rows.column(1).to_pylist()] == texts
    assert [chunk.start for chunk in chunks] == [
        sum(earlier.rows.num_rows for earlier in chunks[:number]) for number in range(len(chunks))
    ]
    assert max(chunk.rows.nbytes for chunk in chunks) <= 10_000
