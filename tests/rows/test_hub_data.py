"""Data sets of the hub: which files a name means, the commit it counts by, and what cannot be had."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stillhouse.core import hub as names
from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.rows._hub_data import by_split, configs_of, matches
from stillhouse.rows._import import source
from stillhouse.rows.import_ import Import
from stillhouse.rows.place import HubData, Place, hub_data
from tests.hub_server import HubServer


def parquet(*texts: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": list(texts)}), sink)
    return sink.getvalue()


def lines(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with HubServer() as opened:
        yield opened


@pytest.fixture
def hub(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    server.repositories.clear()
    server.asked.clear()
    server.used_by(monkeypatch, str(tmp_path / "hub"))
    return server


def read(path: Any, **fields: Any) -> list[str]:
    return [row.value["text"] for row in source(Import(path=path, require=(), **fields))]


def refusal(path: str, **fields: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        read(path, **fields)
    return str(caught.value)


SHARDS = {
    "data/train-00000-of-00002.parquet": parquet("a", "b"),
    "data/train-00001-of-00002.parquet": parquet("c"),
    "data/test-00000-of-00001.parquet": parquet("t"),
    ".gitattributes": b"",
    "README.md": b"# Without a header\n",
}


def test_the_split_of_a_data_set_is_read_and_kept(hub: HubServer, session: Session) -> None:
    commit = hub.push("datasets", "someone/shards", SHARDS)
    rows = session.run(Import(path="hf://someone/shards", split="train", require=()))
    assert [row["text"] for row in rows] == ["a", "b", "c"]
    facts = rows.record["facts"]
    assert [(file["file"], file["rows"]) for file in facts["files"]] == [
        ("hf://someone/shards/data/train-00000-of-00002.parquet", 2),
        ("hf://someone/shards/data/train-00001-of-00002.parquet", 1),
    ]
    assert commit[:12] in facts["read"][0]["name"]
    assert not any("test-00000" in path for path in hub.asked)  # what is not meant is not fetched


def test_a_name_counts_by_its_commit_and_by_what_of_it_is_meant(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hub.push("datasets", "someone/shards", SHARDS)
    named = Import(path="hf://someone/shards", split="train").recipe_key
    assert Import(path=f"hf://someone/shards@{first}", split="train").recipe_key == named
    assert Import(path="hf://someone/shards", split="test").recipe_key != named
    hub.push("datasets", "someone/shards", {**SHARDS, "more.txt": b"x"})
    assert Import(path="hf://someone/shards", split="train").recipe_key == named  # not in mid-plan
    monkeypatch.setattr(names, "_commits", {})
    assert Import(path="hf://someone/shards", split="train").recipe_key != named
    assert Import(path=f"hf://someone/shards@{first}", split="train").recipe_key == named


def test_what_was_fetched_is_read_again_without_a_network(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.push("datasets", "someone/shards", SHARDS)
    assert read("hf://someone/shards", split="train") == ["a", "b", "c"]
    monkeypatch.setattr(names, "_commits", {})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    num_asked = len(hub.asked)
    assert read("hf://someone/shards", split="train") == ["a", "b", "c"]
    assert len(hub.asked) == num_asked
    # What lies in the cache is not taken for all that there is.
    assert "hub cannot be reached" in refusal("hf://someone/shards", split="test")


def test_the_card_says_which_files_are_meant(hub: HubServer) -> None:
    card = """---
configs:
- config_name: small
  data_files: {train: "s/*.jsonl", dev: s/dev.jsonl.d/x.jsonl}
- config_name: large
  default: true
  data_files:
  - {split: train, path: ["l/a.jsonl", "l/b.jsonl"]}
---
"""
    files = {"README.md": card.encode(), "s/1.jsonl": lines("s"), "l/a.jsonl": lines("a"), "l/b.jsonl": lines("b")}
    files |= {"s/dev.jsonl.d/x.jsonl": lines("x"), "l/c.jsonl": lines("not meant")}
    hub.push("datasets", "someone/sets", files)
    assert read("hf://someone/sets") == ["a", "b"]
    assert read("hf://someone/sets:small", split="train") == ["s"]
    assert read("hf://someone/sets:small", split="dev") == ["x"]
    assert "no config `tiny`" in refusal("hf://someone/sets:tiny")
    assert "`small`, `large`" in refusal("hf://someone/sets:tiny")


def test_files_may_be_named_and_the_converted_branch_too(hub: HubServer) -> None:
    hub.push("datasets", "someone/shards", SHARDS)
    converted = {"one/train/0000.parquet": parquet("1"), "two/train/0000.parquet": parquet("2")}
    hub.push("datasets", "someone/shards", converted, revision="refs/convert/parquet")
    assert read("hf://datasets/someone/shards/data/test-*.parquet") == ["t"]
    assert read("hf://someone/shards@refs/convert/parquet:two", split="train") == ["2"]
    assert "`one`, `two`" in refusal("hf://someone/shards@refs/convert/parquet", split="train")
    assert "no file of `someone/shards` matches" in refusal("hf://datasets/someone/shards/x/*.parquet")


def test_the_converted_branch_counts_as_it_is_read_and_its_commit_as_that_is(hub: HubServer, session: Session) -> None:
    hub.push("datasets", "someone/shards", SHARDS)
    converted = {"default/train/0000.parquet": parquet("1"), "extra/train/0000.parquet": parquet("2")}
    commit = hub.push("datasets", "someone/shards", converted, revision="refs/convert/parquet")
    branch = Import(path="hf://someone/shards@refs/convert/parquet", require=())
    whole = Import(path=f"hf://someone/shards@{commit}", require=())
    assert [row["text"] for row in session.run(branch)] == ["1"]  # a folder there is a data set
    assert [row["text"] for row in session.run(whole)] == ["1", "2"]


def test_what_the_hub_does_not_give_is_told(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.push("datasets", "someone/shards", SHARDS)
    assert "the hub knows no data set `someone/nothing`" in refusal("hf://someone/nothing")
    assert "`someone/shards` has no revision `v9`" in refusal("hf://someone/shards@v9", split="train")
    assert "several splits: `train`, `test`" in refusal("hf://someone/shards")
    message = refusal("hf://someone/shards", split="tran")
    assert "no split `tran` (it has `train`, `test`)" in message
    assert "Did you mean `train`?" in message
    assert "`Take`" in refusal("hf://someone/shards", split="train[:10%]")
    hub.push("datasets", "someone/closed", SHARDS)
    hub.repositories["datasets", "someone/closed"].gated = True
    assert "hf auth login" in refusal("hf://someone/closed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "`someone/unseen` is not on this machine and the hub cannot be reached" in refusal("hf://someone/unseen")


def test_what_only_the_library_datasets_reads_is_read_through_it(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", hub.url)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    datasets.disable_progress_bars()
    hub.push("datasets", "someone/texts", {"train.txt": b"one\ntwo\n"})
    assert read("hf://someone/texts", split="train") == ["one", "two"]


@pytest.mark.parametrize("path", ["hf://nobody", "hf://", "hf://a/b/c", "hf://datasets/a"])
def test_what_is_no_name_is_told_when_it_is_declared(path: str) -> None:
    with pytest.raises(RecipeError, match="is no data set of the hub"):
        Import(path=path)


def test_names_are_taken_apart() -> None:
    parts = {
        "hf://a/b": HubData("a/b", None, None, None),
        "hf://a/b@v1:small": HubData("a/b", "v1", "small", None),
        "hf://a/b@refs/convert/parquet:x": HubData("a/b", "refs/convert/parquet", "x", None),
        "hf://datasets/a/b": HubData("a/b", None, None, None),
        "hf://datasets/a/b@v1/x/*.csv": HubData("a/b", "v1", None, "x/*.csv"),
    }
    assert {text: hub_data(Place(text)) for text in parts} == parts


def test_splits_are_told_by_the_names_of_files() -> None:
    assert by_split(["train.csv", "my-test_1.csv", "valid/a.csv"]) == {
        "train": ["train.csv"],
        "validation": ["valid/a.csv"],
        "test": ["my-test_1.csv"],
    }
    assert by_split(["constrained.csv", "b.csv"]) == {"train": ["constrained.csv", "b.csv"]}
    assert by_split(["data/sft.v2-00000-of-00001.parquet"]) == {"sft.v2": ["data/sft.v2-00000-of-00001.parquet"]}


def test_parquet_comes_before_other_formats_and_papers_are_no_data() -> None:
    [config] = configs_of(["a.jsonl", "b.jsonl", "c.parquet", "dataset_infos.json", "README.md"], "")
    assert config.splits == {"train": ["c.parquet"]}
    assert configs_of(["README.md", "dataset_infos.json", "notes.txt"], "---\nconfigs: [\n---\n") == []


def test_patterns_stay_within_a_folder_unless_they_say_otherwise() -> None:
    assert matches("a/b.csv", "a/*.csv")
    assert not matches("a/c/b.csv", "a/*.csv")
    assert matches("a/c/b.csv", "a/**/*.csv")
    assert matches("a/b.csv", "a/**/*.csv")
    assert matches("a/x1.csv", "a/x[0-9].csv")
    assert matches("a/c/b.csv", "a")
    assert not matches("ab.csv", "a?.cs")
