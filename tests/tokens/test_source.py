from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.rows.import_ import Import
from stillhouse.text.train_tokenizer import TrainTokenizer
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.mixing import Mixture
from stillhouse.tokens.source import Source
from tests.text.tokenizers import SENTENCES

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


def test_without_a_session_one_is_opened_in_the_folder_out(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    next(get_loader(Source(path=file, text="text"), seq_len=256, batch_size=1, tokenizer=tokenizer(file)))
    assert (tmp_path / "out").is_dir()


def test_text_needs_a_tokenizer(file: Path) -> None:
    with pytest.raises(RecipeError, match=r"(?s)`data` is text.*tokenizer"):
        get_loader(Source(path=file, text="text"), seq_len=256, batch_size=1)


def test_a_source_is_text_or_conversations(file: Path) -> None:
    with pytest.raises(RecipeError, match="either `text` or `template`"):
        Source(path=file)
    with pytest.raises(RecipeError, match="either `text` or `template`"):
        Source(path=file, text="text", template="chat")
