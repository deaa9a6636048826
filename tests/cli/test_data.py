"""`stillhouse data`: tokens are made, counted, shown token by token, and mixes planned."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from stillhouse.cli.output import visible
from stillhouse.recipes.file_schema import mix_schema
from stillhouse.recipes.mix import SHIPPED
from stillhouse.tokens._pack import _FORMAT, NOTE
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.packing import Packing
from stillhouse.tokens.store import TokenStore
from tests.cli.shell import Shell
from tests.models.tiny import tiny_tokenizer
from tests.tokens.stores import make_store

MIX = """\
description: two files
tokenizer: tokenizer
sources:
  web: {path: web.jsonl, text: text, weight: 0.8}
  chat: {path: chats.jsonl, template: chat, weight: 0.2}
held_out: 2
max_epochs: 4
seq_len: 96
batch_size: 4
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A folder with rows, a tokenizer and a mix whose tokens are made."""
    shell = Shell.in_folder(tmp_path_factory.mktemp("data") / "work")
    tiny_tokenizer(shell.folder / "tokenizer")
    pages = [{"text": f"page {number} " + "tea " * (number % 7)} for number in range(40)] + [{"text": ""}]
    talks = [{"input": f"order {n} \x1b[31m", "output": f"done {n}\n日"} for n in range(12)]
    for name, rows in (("web.jsonl", pages), ("chats.jsonl", talks)):
        shell.write(name, "".join(json.dumps(row) + "\n" for row in rows))
    shell.write("small.yaml", MIX)
    done = shell("data", "mix", "small.yaml", "--json")
    assert done.code == 0, done.err
    assert done.json["sources"]["web"]["documents"] == 38
    assert done.json["sources"]["web (held out)"]["documents"] == 2
    return shell


def test_rows_are_tokenised_and_found_by_their_name(made: Shell) -> None:
    words = ("--text", "text", "--tokenizer", "tokenizer")
    done = made("data", "tokenize", "web.jsonl", *words, "--name", "pages", "--json")
    (source,) = done.json["sources"].values()
    assert (source["documents"], source["rejected"], source["learnt"]) == (40, 1, source["tokens"] - 40)
    assert "1 row could not be used" in done.err
    listed = made(*re.findall(r"`stillhouse (data stats [^`]*)`", done.err)[0].split())
    assert '{"text": ""}' in listed.out
    assert made("data", "stats", "pages", "--json").json["tokens"] == source["tokens"]
    assert "empty" in made("data", "stats", "pages", "--rejects").out
    found = made("data", "stats", "pages", "--vocabulary")
    assert re.search(r"pages +40 +[\d,]+ +\d\.\d\d +\d\.\d\d\n", found.out)
    assert "← advised" in found.out
    assert made("data", "stats", source["key"][:10], "--json").json["documents"] == 40
    again = made("data", "tokenize", "pages", "--name", "sheets")
    assert again.code == 0
    assert "1 row could not be used" in again.err
    assert made("data", "stats", "sheets", "--json").json["documents"] == 40


def test_the_plan_of_a_mix_is_what_its_loader_gives(made: Shell) -> None:
    plan = made("data", "mix", "small.yaml", "--plan", "--steps", "5", "--json").json
    stores = {name: TokenStore(path) for name, path in paths(made).items()}
    assert plan["complete"]
    assert plan["rows"] == 20
    assert sum(one["rows"] for one in plan["sources"]) == 20
    web, chat = plan["sources"]
    assert (web["asked"], web["rows"], chat["rows"]) == (0.8, 16, 4)
    assert web["documents"] == stores["web"].num_documents
    text = made("data", "mix", "small.yaml", "--plan", "--steps", "200").out
    told = re.match(r"(\d+) of 200 steps of 4 rows", text)
    assert told is not None
    assert f"suffice for {told[1]} of 200 steps" in text
    assert re.search(rf"^(web|chat) .* 4\.00 +{told[1]}$", text, re.MULTILINE)
    assert "`max_epochs`" in text


def paths(made: Shell) -> dict[str, Path]:
    found = made("data", "mix", "small.yaml", "--json").json["sources"]
    return {name: made.folder / found[name]["path"] for name in ("web", "chat")}


def test_weights_are_changed_on_the_command_line(made: Shell) -> None:
    plan = made("data", "mix", "small.yaml", "--plan", "--steps", "5", "--json", "--set", "weights.web=0.2").json
    assert [one["rows"] for one in plan["sources"]] == [10, 10]
    done = made("data", "mix", "small.yaml", "--plan", "--set", "weights.wep=0.2")
    assert done.code == 1
    assert "Did you mean `web`?" in done.err


def test_peeking_shows_what_is_learnt_and_harmless_text(made: Shell) -> None:
    done = made("data", "peek", "small.yaml", "--source", "chat", "--row", "0")
    assert "\x1b" not in done.out
    assert "\\x1b" in done.out
    shown = done.out.split("\n\n", 1)[1].split("⟦")[1].split("⟧")[0]
    assert "".join(shown.split("│")).replace("\n  ", "").startswith("done")
    (span,) = made("data", "peek", "small.yaml", "--source", "chat", "--row", "0", "--json").json
    store = TokenStore(paths(made)["chat"])
    assert [token["id"] for token in span["tokens"]] == store.document(0).ids.tolist()
    again = made("data", "peek", "small.yaml", "--id", span["row_id"], "--json").json
    assert again == [span]
    assert "assistant" in made("data", "peek", "small.yaml", "--source", "chat", "--row", "0", "--table").out


def test_packed_rows_are_shown_as_the_loader_gives_them(tmp_path: Path, shell: Shell) -> None:
    store = make_store(shell.folder / "tokens", [5, 9, 3, 12, 7])
    words = ("data", "peek", "tokens", "--packed", "--seq-len", "16", "--batch-size", "2", "--seed", "3")
    rows = shell(*words, "--step", "1", "--json").json
    loader = get_loader(store, seq_len=16, batch_size=2, seed=3, packing=Packing(too_long="split"))
    seen = [(row.row_id, row.offset, row.length) for row in loader.rows_at_step(1)]
    assert [(span["row_id"], span["offset"], len(span["tokens"])) for row in rows for span in row["spans"]] == seen
    done = shell(*words, "--row", "2")
    assert f"row 2, step 1: {len(rows[0]['spans'])} piece" in done.out
    if rows[0]["padding"]:
        assert f"padding, {rows[0]['padding']} positions" in done.out
    assert "no tokenizer beside the tokens" in done.err
    wanted = shell(*words, "--id", store.row_ids([3])[0], "--json").json
    assert [span["document"] for row in wanted for span in row["spans"]].count(3) == 1


def test_packed_tokens_are_shown_as_they_are_packed(shell: Shell) -> None:
    store = make_store(shell.folder / "tokens", [5, 9, 3, 12, 7])
    note = {"format": _FORMAT, "seq_len": 8, "packing": {"method": "concat"}, "seed": 0}
    (store.folder / NOTE).write_text(json.dumps(note))
    rows = shell("data", "peek", "tokens", "--step", "1", "--batch-size", "2", "--json").json
    seen = [(row.row_id, row.offset, row.length) for row in get_loader(store, batch_size=2).rows_at_step(1)]
    assert [(span["row_id"], span["offset"], len(span["tokens"])) for row in rows for span in row["spans"]] == seen
    assert max(sum(len(span["tokens"]) for span in row["spans"]) for row in rows) == 8
    told = shell("data", "peek", "tokens", "--packed", "--packing", "one", "--seq-len", "16").out
    assert " of 16 positions" in told
    assert "· tokens ·" in told


def test_tokens_go_out_and_come_back(made: Shell) -> None:
    source = str(paths(made)["web"])
    files = made("data", "export", source, "elsewhere/web", "--format", "megatron").out.split()
    assert sorted(Path(file).suffix for file in files) == [".bin", ".idx"]
    words = ("data", "import", "elsewhere/web", "--format", "megatron", "--tokenizer", "tokenizer", "--name", "back")
    done = made(*words, "--json")
    assert done.code == 0, done.err
    back, first = TokenStore(made.folder / done.json["sources"]["back"]["path"]), TokenStore(source)
    assert [one.ids.tolist() for one in back] == [one.ids.tolist() for one in first]


def test_lengths_are_drawn(shell: Shell) -> None:
    make_store(shell.folder / "tokens", [5, 9, 3, 12, 70])
    done = shell("data", "stats", "tokens", "--svg", "lengths.svg", "--seq-len", "16,128")
    assert "advice" in done.out
    assert "seq_len=128" in done.out
    picture = (shell.folder / "lengths.svg").read_text()
    assert picture.startswith("<svg")
    assert "prefers-color-scheme:dark" in picture
    assert shell("data", "stats", "tokens", "--vocabulary", "--json").json["vocabulary"]["used"] == 99


def test_what_cannot_be_read_is_told_with_what_is_there(made: Shell, tmp_path: Path) -> None:
    rows = ("--tokenizer", "tokenizer")
    for words, message, hint in (
        (("stats", "small.yml"), "there is no file", "small.yaml"),
        (("stats", "fineweb_edu"), "no result in `out` and no mix", "Did you mean"),
        (("stats", "web.jsonl"), "holds rows, and there is no tokenizer", "--tokenizer"),
        (("stats", "tokenizer"), "holds no tokens", "tokenizer.json"),
        (("stats", "out"), "is a session folder", "--folder"),
        (("peek", "small.yaml", "--source", "wap"), "there is no source `wap`", "web, chat"),
        (("peek", "small.yaml", "--row", "1000"), "has no document 1000", "from 0 to"),
        (("peek", "small.yaml", "--id", "00ff"), "no document was made from the row", "stillhouse trace"),
        (("mix", "web.jsonl", "--tokenizer", "tokenizer", "--text", "text"), "is no mix", "sources"),
        (("tokenize", "recipe.yaml"), "makes no tokens", "tokens.tokenize"),
        (("mix", "small.yaml", "--plan", "--seq-len", "8"), "longer than a row of 8", "{too_long: split}`"),
        (("tokenize", "web.jsonl", *rows), "neither `--text` nor `--template`", "--template chat"),
        (("tokenize", "web.jsonl", *rows, "--template", "chta"), "is no chat template", "`--template chat`"),
        (
            ("tokenize", str(paths(made)["chat"]), "--folder", "other", "--name", "x"),
            "only tokens of the session",
            "out.",
        ),
        (("peek", "small.yaml", "--step", "-3"), "there is no step -3", "from 0"),
        (("export", str(paths(made)["web"]), "web.jsonl/x", "--format", "olmo"), "cannot be written", "another place"),
        (("export", str(paths(made)["chat"]), "x", "--format", "megatron"), "cannot hold", "`--without-weights`"),
    ):
        done = made("data", *words)
        assert done.code == 1, words
        assert message in done.err, words
        assert hint in done.err, words
    for wrong, hint in (
        (("tokenise", "web.jsonl"), "Did you mean `tokenize`?"),
        (("peek", "small.yaml", "--packd"), "Did you mean `--packed`?"),
        (("export", "small.yaml", "x", "--format", "arow"), "Did you mean `arrow`?"),
        (("mix", "small.yaml", "--plan", "--tokens", "1e400"), "1e400 is not from 1 to 1e18"),
        (("tokenize", "small.yaml", "--max-length", "10"), "is a mix, about which `--max-length` says nothing"),
        (("stats", str(paths(made)["web"]), "--text", "nothere"), "is tokens, about which `--text` says nothing"),
    ):
        done = made("data", *wrong)
        assert done.code == 2, wrong
        assert hint in done.err, wrong
    assert made("data").code == 2
    assert made("data", "mix").code == 2


def test_the_mixes_that_have_a_name_are_listed_and_fit_their_schema(made: Shell) -> None:
    (made.folder / "mixes").mkdir()
    made.write("mixes/broken.yaml", "sources: [web]\n")
    try:
        listed = {one["name"]: one for one in made("data", "mix", "--list", "--json").json}
    finally:  # the folder is the module's
        (made.folder / "mixes" / "broken.yaml").unlink()
    assert {"fineweb", "mixed_pretrain", "downstream"} < listed.keys()
    assert listed["broken"]["description"].startswith("cannot be read: mixes/broken.yaml:1: a mix is a mapping")
    from stillhouse.recipes._marked_yaml import read_yaml

    schema = jsonschema.Draft202012Validator(mix_schema())
    for file in [*SHIPPED.glob("*.yaml"), made.folder / "small.yaml"]:
        assert list(schema.iter_errors(read_yaml(file.read_text(), file.name).value)) == []
    assert not schema.is_valid({"sources": {"a": {"wieght": 1}}})


def test_texts_of_tokens_cannot_move_the_cursor() -> None:
    assert visible("a\x1b]0;title\x07\u202e") == "a\\x1b]0;title\\x07\\u202e"
