from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.rows.import_ import Import
from stillhouse.rows.slices import Take
from stillhouse.text.tokenizer import load_tokenizer
from stillhouse.text.train_tokenizer import TrainTokenizer
from stillhouse.tokens._open import unused_rows
from stillhouse.tokens.foreign import ImportTokens
from stillhouse.tokens.loader import Loader, get_loader
from stillhouse.tokens.mixing import Mixture
from stillhouse.tokens.pack import Pack
from stillhouse.tokens.source import Source
from stillhouse.tokens.tokenize import Tokenize
from tests.text.tokenizers import SENTENCES, small_tokenizer

ROWS = [{"input": text, "output": f"answer {number}", "text": text} for number, text in enumerate(SENTENCES)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def tokenizer(file: Path) -> TrainTokenizer:
    return TrainTokenizer(rows=Import(path=file), columns=("text",), vocab_size=360)


def test_files_are_tokenised_and_mixed(session: Session, file: Path) -> None:
    mixture = Mixture({"web": (Source(path=file, text="text"), 0.5), "chat": (Source(path=file, template="chat"), 0.5)})
    loader = get_loader(mixture, seq_len=256, batch_size=2, tokenizer=tokenizer(file), session=session)
    batch = next(loader)
    assert batch.source_names == ("web", "chat")
    stores = {source.name: source.store for source in loader.sources}
    assert stores["web"].num_learnt == stores["web"].num_tokens - len(ROWS)
    assert 0 < stores["chat"].num_learnt < stores["chat"].num_tokens / 2


def test_tokens_made_once_are_found_again(session: Session, file: Path) -> None:
    source = Source(path=file, text="text")
    first = get_loader(source, seq_len=256, batch_size=1, tokenizer=tokenizer(file), session=session)
    artifact = session.run(source.tokens(tokenizer(file)))
    again = get_loader(source.tokens(tokenizer(file)), seq_len=256, batch_size=1, session=session)
    assert artifact.data == first.sources[0].store.folder == again.sources[0].store.folder


def test_a_step_leads_to_the_rows_of_the_files_and_their_text_to_its_steps(session: Session, tmp_path: Path) -> None:
    """Both ways, on one rank and, going on with other weights, on three; the tokens counted are those of the texts."""
    said: dict[str, list[str]] = {
        "web": [f"page {n} says tea" for n in range(9)],
        "code": [f"x = {n}" for n in range(7)],
    }
    for name, texts in said.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    sources = {name: Source(tmp_path / f"{name}.jsonl", text="text") for name in said}
    learner = TrainTokenizer(rows=sources["web"].as_rows(), columns=("text",), vocab_size=300)
    words = load_tokenizer(session.run(learner).path)

    def ranks(world_size: int, state: Any = None) -> list[Loader]:
        mixture = Mixture({name: (source, 0.5) for name, source in sources.items()}, max_epochs=None)
        given: dict[str, Any] = {"seq_len": 48, "batch_size": 3, "tokenizer": learner, "session": session}
        return [
            get_loader(mixture, rank=rank, world_size=world_size, state=state, **given) for rank in range(world_size)
        ]

    text_of = {row["_id"]: row["text"] for source in sources.values() for row in session.run(source.as_rows())}
    seen: dict[str, set[int]] = {text: set() for text in text_of.values()}
    tokens: Counter[str] = Counter()
    state: Any = None
    for world_size in (1, 3):
        loaders = ranks(world_size, state)
        for _ in range(4):
            step = loaders[0].step
            batches = [next(loader) for loader in loaders]
            told = iter(loaders[-1].rows_at_step(step))
            for batch in batches:
                for span in np.flatnonzero(batch.source_ids >= 0).tolist():
                    row, ids = next(told), batch.ids.reshape(-1)[slice(*batch.cu_seqlens[span : span + 2].tolist())]
                    text = text_of[row.row_id]
                    assert words.decode(ids.tolist()) == f"{text}{words.eos_token}"
                    assert text in said[row.source]
                    assert row.source == batch.source_names[batch.source_ids[span]]
                    seen[text].add(step)
                    tokens[row.source] += len(ids)
        loaders[0].set_weights({"web": 0.2, "code": 0.8})
        state = loaders[0].state_dict()
    assert {text: set(loaders[-1].steps_of_row(row_id)) for row_id, text in text_of.items()} == seen
    assert {name: one.tokens for name, one in loaders[-1].account().items()} == dict(tokens)
    for name, source in zip(said, loaders[-1].sources, strict=True):
        whole = get_loader(source.store, seq_len=48, batch_size=source.rows_per_epoch)
        lengths = [len(words.encode(text, add_special_tokens=False)) + 1 for text in said[name]]
        assert whole.account(2)["data"].tokens == 2 * sum(lengths) == 2 * source.store.num_tokens


def test_without_a_session_one_is_opened_in_the_folder_out(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        next(get_loader(Source(path=file, text="text"), seq_len=256, batch_size=1, tokenizer=tokenizer(file)))
    assert (tmp_path / "out").is_dir()
    assert capsys.readouterr().err.count(f"Tokens are kept in {tmp_path / 'out'}") == 1


def test_text_needs_a_tokenizer(file: Path) -> None:
    with pytest.raises(RecipeError, match=r"(?s)`data` is text.*tokenizer"):
        get_loader(Source(path=file, text="text"), seq_len=256, batch_size=1)


def test_a_source_is_text_or_conversations(file: Path) -> None:
    with pytest.raises(RecipeError, match="either `text` or `template`"):
        Source(path=file)
    with pytest.raises(RecipeError, match="either `text` or `template`"):
        Source(path=file, text="text", template="chat")


def test_a_tokenizer_may_be_a_folder(session: Session, file: Path, tmp_path: Path) -> None:
    small_tokenizer().save_pretrained(tmp_path / "tokenizer")
    source = Source(file, text="text")
    for name in (tmp_path / "tokenizer", str(tmp_path / "tokenizer")):
        loader = get_loader(source, seq_len=256, batch_size=1, tokenizer=name, session=session)
        assert loader.sources[0].store.num_documents == len(ROWS)
    assert source.tokens(str(tmp_path / "tokenizer")).recipe_key == source.tokens(tmp_path / "tokenizer").recipe_key


def test_places_options_and_steps_of_rows_become_steps(session: Session, file: Path, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{**row, "share": 0.5} for row in ROWS]), tmp_path / "a.parquet")
    made = Source(
        f"parquet://{tmp_path}/*.parquet", text=["text", "input"], weight="share", max_length=300, source="web"
    )
    step = made.tokens(tokenizer(file))
    assert (step.text, step.weight, step.max_length, step.source) == (("text", "input"), "share", 300, "web")
    store = get_loader(made, seq_len=512, batch_size=1, tokenizer=tokenizer(file), session=session).sources[0].store
    assert [document.weight for document in store] == [0.5] * len(ROWS)
    assert {document.source for document in store} == {"web"}
    curated = Take(rows=Import(path=file, require=()), num=2)
    assert Source(rows=curated, text="text") == Source(curated, text="text")
    loader = get_loader(
        Source(curated, text="text"), seq_len=256, batch_size=1, tokenizer=tokenizer(file), session=session
    )
    assert loader.sources[0].store.num_documents == 2


def test_a_place_that_is_one_file_makes_the_steps_that_it_always_made(file: Path) -> None:
    by_hand = Tokenize(rows=Import(path=file, require=()), tokenizer=tokenizer(file), text=("text",))
    assert Source(path=file, text="text").tokens(tokenizer(file)).recipe_key == by_hand.recipe_key
    assert Source(file, text="text") == Source(path=str(file), text=("text",))


def test_errors_name_the_source_the_file_and_what_is_there(session: Session, file: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "a.parquet")
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": 3}\n')
    good = Source(file, text="text")

    def refusal(source: Source) -> str:
        with pytest.raises(RecipeError) as caught:
            get_loader(
                Mixture({"good": good, "web": source}),
                seq_len=256,
                batch_size=1,
                tokenizer=tokenizer(file),
                session=session,
            )
        return str(caught.value)

    missing = refusal(Source(tmp_path / "a.parquet", text="text"))
    assert missing.startswith(f"source `web`: {tmp_path}/a.parquet: there is no column `text`")
    assert "`body`" in missing
    assert refusal(Source(tmp_path / "*.csv", text="text")).startswith("source `web`: nothing matches")
    mixed = refusal(Source(tmp_path / "bad.jsonl", text="text"))
    assert (
        f"source `web`: {tmp_path}/bad.jsonl, line 2: the column `text` holds a number here and text on line 1" in mixed
    )
    path = f"{tmp_path}/bad.jsonl"
    (tmp_path / "bad.jsonl").write_text('{"text": 1}\n{"text": 3}\n')
    lacking = refusal(Source(path, text="body"))
    assert lacking.startswith(f"source `web`: Tokenize: the rows of `{path}` have no column")
    assert refusal(Source(path, template="chat")).startswith(f"source `web` ({path}): ToMessages: the column")
    rejected = refusal(Source(tmp_path / "bad.jsonl", text="text"))
    assert rejected.startswith(
        f"source `web`: Tokenize: 2 of 2 rows of `{path}` cannot be used: invalid (2)\n  The first, "
    )
    assert rejected.endswith(': `text` holds int, expected text. It holds {"text": 1}')


def test_rows_that_cannot_be_used_are_kept_with_the_reason(session: Session, file: Path, tmp_path: Path) -> None:
    rows = [*ROWS, {"text": " "}, {"text": None}]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source(tmp_path / "b.jsonl", text="text", columns=("text",))
    given: dict[str, Any] = {"seq_len": 256, "batch_size": 1, "tokenizer": tokenizer(file), "session": session}
    with pytest.warns(
        UserWarning, match=r"source `data`: 2 rows could not be used: `stillhouse data stats .*--rejects`"
    ):
        store = get_loader(source, **given).sources[0].store
    assert (store.num_documents, store.num_rejected) == (len(ROWS), 2)
    assert [(reject["kind"], reject["row"]) for reject in store.rejects()] == [
        ("empty", {"text": " "}),
        ("empty", {"text": None}),
    ]
    talks = [
        {"messages": [{"role": role, "content": "hi"}] * 2} for role in ("assistant", "assistant", "robot", "user")
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in talks))
    chat = Source(tmp_path / "c.jsonl", template="chat")
    with pytest.warns(UserWarning, match=r"1 row failed in rows.to_messages: `stillhouse show \w+ --failed.*; 1 row "):
        get_loader(chat, **given)
    learnt_elsewhere = TrainTokenizer(rows=chat.tokens(tokenizer(file)).rows, vocab_size=360)
    ids = np.array([1, 2, 3, 4], dtype="<u2")
    ids.tofile(tmp_path / "ids.npy")
    imported = ImportTokens(path=str(tmp_path / "ids.npy"), format="olmo", tokenizer=learnt_elsewhere)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="source `")
        get_loader(Source(file, text="text"), **{**given, "tokenizer": learnt_elsewhere})
        get_loader(imported, **given)
    assert unused_rows(session.store, session.run(imported)) == []
    packed = session.run(Pack(tokens=source.tokens(given["tokenizer"]), seq_len=64))
    assert [told[:24] for told in unused_rows(session.store, packed)] == ["2 rows could not be used"]


def test_what_is_wrong_with_the_rows_of_a_tokenizer_is_not_put_on_a_source(session: Session, file: Path) -> None:
    body = TrainTokenizer(rows=Import(data=[{"text": "a"}], require=()), columns=("body",), vocab_size=360)
    with pytest.raises(RecipeError, match=r"^TrainTokenizer: the rows have no column `body`"):
        get_loader(Source(file, text="text"), seq_len=256, batch_size=1, tokenizer=body, session=session)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "a"}, "either a place or `rows`"),
        ({"path": "a.jsonl", "rows": Import(data=[{"a": "b"}], require=()), "text": "a"}, "either a place or `rows`"),
        ({"rows": Import(data=[{"a": "b"}], require=()), "text": "a", "split": "x"}, "`split` is for files"),
        ({"path": "a.txt", "text": "a"}, "does not tell its format"),
        ({"path": "hf://a", "text": "a"}, "no data set of the hub"),
        ({"path": "a.jsonl", "text": "a", "columns": ("b",)}, "`a` is needed, but not among `columns`"),
    ],
)
def test_what_is_no_source_is_refused_when_declared(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Source(**fields)
