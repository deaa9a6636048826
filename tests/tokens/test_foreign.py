"""Token files of other tools: each format read and written here by hand, from its description, against ours."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stillhouse as sh
from stillhouse.core.errors import RecipeError
from stillhouse.text.train_tokenizer import TrainTokenizer
from stillhouse.tokens import _foreign
from stillhouse.tokens._segments import Weighting
from stillhouse.tokens.foreign import Format, ImportTokens, export_tokens, import_tokens
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.store import TokenStore
from tests.tokens.stores import END, VOCABULARY, make_store

LENGTHS = [3, 1, 40, 7, 12]


def read_back(path: Path, format: Format, to: Path, vocab_size: int = VOCABULARY) -> TokenStore:
    return import_tokens(path, format, to, vocab_size=vocab_size, end_ids=(END,))


def documents(store: TokenStore) -> list[list[int]]:
    return [document.ids.tolist() for document in store]


def megatron_by_hand(prefix: Path) -> list[list[int]]:
    """The documents of a data set, as the description of the format has it."""
    index = Path(f"{prefix}.idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, bounds = struct.unpack("<QBQQ", index[9:34])
    assert version == 1
    kind, width = {8: ("H", 2), 4: ("i", 4)}[code]
    lengths = struct.unpack(f"<{sequences}i", index[34 : 34 + 4 * sequences])
    places = struct.unpack(f"<{sequences}q", index[34 + 4 * sequences : 34 + 12 * sequences])
    ends = struct.unpack(f"<{bounds}q", index[34 + 12 * sequences :])
    data = Path(f"{prefix}.bin").read_bytes()
    found = [
        list(struct.unpack(f"<{length}{kind}", data[place : place + length * width]))
        for length, place in zip(lengths, places, strict=True)
    ]
    return [[token for part in found[a:b] for token in part] for a, b in pairwise(ends)]


def write_megatron_by_hand(prefix: Path, sequences: list[list[int]], bounds: list[int], code: int = 8) -> None:
    kind = {8: "H", 4: "i", 5: "q", 1: "B"}[code]
    width = struct.calcsize(kind)
    flat = [token for sequence in sequences for token in sequence]
    Path(f"{prefix}.bin").write_bytes(struct.pack(f"<{len(flat)}{kind}", *flat))
    places = [width * sum(map(len, sequences[:number])) for number in range(len(sequences))]
    Path(f"{prefix}.idx").write_bytes(
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, code, len(sequences), len(bounds))
        + struct.pack(f"<{len(sequences)}i", *map(len, sequences))
        + struct.pack(f"<{len(sequences)}q", *places)
        + struct.pack(f"<{len(bounds)}q", *bounds)
    )


def olmo_by_hand(folder: Path, width: int = 2) -> tuple[list[list[int]], list[list[bool]]]:
    ids, masks = [], []
    for path in sorted(folder.glob("token_ids_part_*.npy")):
        data = path.read_bytes()
        flat = [int.from_bytes(data[place : place + width], "little") for place in range(0, len(data), width)]
        mask = folder / path.name.replace("token_ids", "labels_mask")
        learnt = [byte != 0 for byte in mask.read_bytes()] if mask.exists() else []
        for line in gzip.decompress(Path(str(path).replace(".npy", ".csv.gz")).read_bytes()).decode().splitlines():
            start, end = map(int, line.split(",")[:2])
            ids.append(flat[start:end])
            masks.append(learnt[start:end])
    return ids, masks


@pytest.mark.parametrize("format", ["megatron", "olmo", "arrow"])
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=20), per_segment=st.integers(1, 12))
@settings(max_examples=8)
def test_documents_go_out_and_come_back(
    tmp_path_factory: pytest.TempPathFactory, format: Format, lengths: list[int], per_segment: int
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = make_store(folder / "a", lengths, per_segment=per_segment)
    assert all(path.is_file() for path in export_tokens(store, folder / "out", format))
    again = read_back(folder / "out", format, folder / "b")
    assert documents(again) == documents(store)
    assert again.layout.weighting == "none"
    again.verify()


def test_megatron_files_are_as_their_description_says(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a", LENGTHS, per_segment=2)
    export_tokens(store, tmp_path / "out", "megatron")
    assert megatron_by_hand(tmp_path / "out") == documents(store)
    # Sequences of one document are joined, one that is empty is counted.
    write_megatron_by_hand(tmp_path / "in", [[3, 4], [5], [], [6, 7, 8]], [0, 2, 3, 4])
    again = read_back(tmp_path / "in.bin", "megatron", tmp_path / "b")
    assert documents(again) == [[3, 4, 5], [6, 7, 8]]
    assert again.num_rejected == 1
    assert '"kind": "empty"' in (tmp_path / "b" / "rejects.jsonl").read_text()
    write_megatron_by_hand(tmp_path / "wide", [[70_000, 5]], [0, 1], code=4)
    wide = read_back(tmp_path / "wide", "megatron", tmp_path / "c", vocab_size=100_000)
    assert documents(wide) == [[70_000, 5]]
    export_tokens(wide, tmp_path / "wide_out", "megatron")
    assert megatron_by_hand(tmp_path / "wide_out") == [[70_000, 5]]


def test_olmo_files_are_as_their_description_says(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a", LENGTHS, weighting="mask", per_segment=2, name="s,1")
    export_tokens(store, tmp_path / "out", "olmo")
    ids, masks = olmo_by_hand(tmp_path / "out")
    assert ids == documents(store)
    assert masks == [(document.weights != 0).tolist() for document in store]
    again = read_back(tmp_path / "out", "olmo", tmp_path / "b")
    assert [document.weights.tolist() for document in again] == [document.weights.tolist() for document in store]
    assert {document.source for document in again} == {"s,1"}


def test_olmo_files_without_an_index_are_cut_after_end_tokens(tmp_path: Path) -> None:
    flat = np.array([3, 4, END, 5, END, 6], "<u2")
    (tmp_path / "plain.npy").write_bytes(flat.tobytes())
    np.save(tmp_path / "with_header.npy", flat.astype("<u4"))
    for name in ("plain.npy", "with_header.npy"):
        store = read_back(tmp_path / name, "olmo", tmp_path / f"{name}.store")
        assert documents(store) == [[3, 4, END], [5, END], [6]]


@pytest.mark.parametrize("weighting", ["none", "mask", "float"])
def test_arrow_files_keep_all_that_a_document_carries(tmp_path: Path, weighting: Weighting) -> None:
    datasets = pytest.importorskip("datasets")
    store = make_store(
        tmp_path / "a", LENGTHS, weighting=weighting, per_segment=3, name="s", example_weights=[1, 2, 0.5, 1, 1]
    )
    export_tokens(store, tmp_path / "out", "arrow")
    theirs = datasets.load_from_disk(str(tmp_path / "out"))
    assert theirs["input_ids"][:] == documents(store)
    if weighting == "mask":
        for labels, document in zip(theirs["labels"], store, strict=True):
            learnt = document.weights / document.weight
            assert labels == np.where(learnt != 0, document.ids, -100).tolist()
    again = read_back(tmp_path / "out", "arrow", tmp_path / "b")
    assert documents(again) == documents(store)
    for one, other in zip(store, again, strict=True):
        assert (one.row_id, one.source, one.weight) == (other.row_id, other.source, other.weight)
        assert one.weights.tolist() == other.weights.tolist()


def test_a_plain_arrow_file_will_do(tmp_path: Path) -> None:
    table = pa.table({"input_ids": pa.array([[3, 4], [], [5]], pa.large_list(pa.int64()))})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    store = read_back(tmp_path / "a.arrow", "arrow", tmp_path / "b")
    assert documents(store) == [[3, 4], [5]]
    assert store.num_rejected == 1


def test_row_ids_come_from_the_content(tmp_path: Path) -> None:
    write_megatron_by_hand(tmp_path / "a", [[3, 4], [5], [3, 4]], [0, 1, 2, 3])
    (tmp_path / "b.npy").write_bytes(np.array([3, 4], "<u2").tobytes())
    one = read_back(tmp_path / "a", "megatron", tmp_path / "one")
    other = read_back(tmp_path / "b.npy", "olmo", tmp_path / "other")
    ids = one.row_ids([0, 1, 2])
    assert ids[0] == ids[2] == other.row_ids([0])[0] != ids[1]
    assert len(ids[0]) == 24


def test_many_documents_become_several_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_foreign, "_SEGMENT_TOKENS", 1000)
    store = make_store(tmp_path / "a", [2] * 600)
    export_tokens(store, tmp_path / "out", "megatron")
    again = read_back(tmp_path / "out", "megatron", tmp_path / "b")
    assert [segment.rows for segment in again.segments] == [(0, 512), (512, 600)]
    assert documents(again) == documents(store)


def test_weights_are_never_lost_in_silence(tmp_path: Path) -> None:
    masked = make_store(tmp_path / "a", LENGTHS, weighting="mask")
    weighted = make_store(tmp_path / "b", LENGTHS, example_weights=[1, 2, 1, 1, 1])
    with pytest.raises(RecipeError, match=r"`megatron` cannot hold loss weights of tokens\n.*`arrow`"):
        export_tokens(masked, tmp_path / "out", "megatron")
    with pytest.raises(RecipeError, match="`olmo` cannot hold weights of examples"):
        export_tokens(weighted, tmp_path / "out", "olmo")
    assert not list(tmp_path.glob("out*"))
    export_tokens(masked, tmp_path / "out", "megatron", without_weights=True)
    assert megatron_by_hand(tmp_path / "out") == documents(masked)
    export_tokens(masked, tmp_path / "plain", "arrow", without_weights=True)
    assert read_back(tmp_path / "plain", "arrow", tmp_path / "c").layout.weighting == "none"


def _cut_index(path: Path) -> None:
    index = path / "m.idx"
    index.write_bytes(index.read_bytes()[:-3])


def _cut_bin(path: Path) -> None:
    (path / "m.bin").write_bytes((path / "m.bin").read_bytes()[:-2])


def _magic(path: Path) -> None:
    (path / "m.idx").write_bytes(b"TNTIDX" + (path / "m.idx").read_bytes())


def _floats(path: Path) -> None:
    index = bytearray((path / "m.idx").read_bytes())
    index[17] = 7
    (path / "m.idx").write_bytes(bytes(index))


def _bounds(path: Path) -> None:
    write_megatron_by_hand(path / "m", [[3, 4], [5]], [0, 5])


def _vocabulary(path: Path) -> None:
    write_megatron_by_hand(path / "m", [[3, 4], [5, 60_000]], [0, 1, 2])


def _gone(path: Path) -> None:
    (path / "m.idx").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut_index, r"m.idx` is damaged: it has 71 bytes, expected 74"),
        (_cut_bin, r"m.bin` ends at byte 4; sequence 1 has 1 tokens from byte 4"),
        (_magic, r"no Megatron index"),
        (_floats, r"type 7 of its numbers"),
        (_bounds, r"do not cover its 2 sequences"),
        (_vocabulary, r"m.bin`, document 1: the id 60000 is outside the vocabulary of 60000"),
        (_gone, r"no file .*m.idx"),
    ],
)
def test_damaged_megatron_files_are_refused(tmp_path: Path, damage: Callable[[Path], None], said: str) -> None:
    write_megatron_by_hand(tmp_path / "m", [[3, 4], [5]], [0, 2])
    damage(tmp_path)
    with pytest.raises(RecipeError, match=said):
        read_back(tmp_path / "m", "megatron", tmp_path / "store")


@pytest.mark.parametrize(
    ("content", "index", "said"),
    [
        (b"\1\0\2", None, "3 bytes, which are no whole number of uint16"),
        (b"\1\0\2\0", "0,3\n", r"line 1: a document from 0 to 3 in a file of 2 tokens"),
        (b"\1\0\2\0", "0,1\na,b\n", "line 2: no two numbers"),
        (b"\1\0\2\0", "0\n", "line 1: no two numbers"),
        (b"\1\0\2\0", b"no gzip", "damaged"),
        (b"\x93NUMPY\1", None, "damaged"),
        (b"", None, "holds no documents"),
    ],
)
def test_damaged_olmo_files_are_refused(tmp_path: Path, content: bytes, index: str | bytes | None, said: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    if index is not None:
        packed = gzip.compress(index.encode()) if isinstance(index, str) else index
        (tmp_path / "a.csv.gz").write_bytes(packed)
    with pytest.raises(RecipeError, match=said):
        read_back(tmp_path / "a.npy", "olmo", tmp_path / "store")


def test_masks_must_fit_the_tokens(tmp_path: Path) -> None:
    (tmp_path / "token_ids_0.npy").write_bytes(b"\1\0\2\0")
    (tmp_path / "labels_mask_0.npy").write_bytes(b"\1")
    with pytest.raises(RecipeError, match=r"labels_mask_0.npy` has 1 values for the 2 tokens"):
        read_back(tmp_path, "olmo", tmp_path / "store")
    (tmp_path / "token_ids_1.npy").write_bytes(b"\1\0")
    with pytest.raises(RecipeError, match=r"token_ids_1.npy` has no label mask"):
        read_back(tmp_path, "olmo", tmp_path / "store")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"ids": [[3]]}, "no column `input_ids`"),
        ({"input_ids": [3]}, "holds int64, expected lists"),
        ({"input_ids": [[3.5]]}, "expected whole numbers"),
        ({"input_ids": [[3], None]}, "has empty values"),
        ({"input_ids": [[3, 4]], "labels": [[4, -100]]}, "neither -100 nor the ids"),
        ({"input_ids": [[3, 4]], "labels": [[3]]}, "1 `labels` for 2 ids"),
        ({"input_ids": [[3]], "loss_weights": [[-1.0]]}, "not all finite and 0 or more"),
        ({"input_ids": [[3], [4]], "weight": [1.0, -2.0]}, r"document 1: the `weight` is -2.0"),
        ({"input_ids": [[3], [4]], "weight": [None, 1.0]}, r"document 0: the `weight` is None"),
        ({"input_ids": [[3]], "weight": [1e39]}, r"the `weight` is 1e\+39"),
        ({"input_ids": [[3]], "weight": ["1"]}, "`weight` holds string, expected numbers"),
    ],
)
def test_arrow_files_that_do_not_fit_are_refused(tmp_path: Path, columns: dict[str, list[object]], said: str) -> None:
    table = pa.table(columns)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(RecipeError, match=said):
        read_back(tmp_path / "a.arrow", "arrow", tmp_path / "store")


def test_a_damaged_arrow_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.arrow").write_bytes(b"nothing of the kind")
    with pytest.raises(RecipeError, match="no Arrow file"):
        read_back(tmp_path / "a.arrow", "arrow", tmp_path / "store")
    with pytest.raises(RecipeError, match="there are no `.arrow` files"):
        read_back(tmp_path / "none", "arrow", tmp_path / "store")
    export_tokens(make_store(tmp_path / "s", [900] * 40), tmp_path / "out", "arrow")
    path = tmp_path / "out" / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(RecipeError, match="is damaged after document 0"):
        read_back(path, "arrow", tmp_path / "store")


def test_imported_tokens_are_read_by_the_loader(session: sh.Session, tmp_path: Path) -> None:
    rows = sh.Import(data=[{"text": "abc"}], require=())
    tokenizer = TrainTokenizer(rows=rows, columns=("text",), vocab_size=300)
    write_megatron_by_hand(tmp_path / "a", [[30, 40, 50], [60, 70]], [0, 1, 2])
    step = ImportTokens(path=tmp_path / "a", format="megatron", tokenizer=tokenizer)
    assert [file.path.name for file in step.files] == ["a.bin", "a.idx"]
    tokens = session.run(step)
    assert tokens.record["facts"]["tokens"] == 5
    batch = next(get_loader(tokens, seq_len=6, batch_size=1))
    assert sorted(batch.ids[batch.document_ids >= 0].tolist()) == [30, 40, 50, 60, 70]
    (tmp_path / "other").mkdir()
    for suffix in (".bin", ".idx"):
        (tmp_path / "a").with_suffix(suffix).rename(tmp_path / "other" / f"b{suffix}")
    moved = ImportTokens(path=tmp_path / "other" / "b", format="megatron", tokenizer=tokenizer)
    assert session.run(moved).key == tokens.key
    (tmp_path / "other" / "b.bin").write_bytes(b"\x1f\x00" + (tmp_path / "other" / "b.bin").read_bytes()[2:])
    assert session.run(moved.replace()).digest != tokens.digest


@pytest.mark.parametrize("format", ["megatron", "olmo", "arrow"])
def test_an_export_is_never_mixed_with_another(tmp_path: Path, format: Format) -> None:
    large = make_store(tmp_path / "a", LENGTHS, weighting="mask", per_segment=2)
    small = make_store(tmp_path / "b", LENGTHS[:2])
    export_tokens(large, tmp_path / "out", format, without_weights=format == "megatron")
    export_tokens(large, tmp_path / "out", format, without_weights=format == "megatron")  # the same again
    if format == "megatron":  # whose files are two, whatever they hold
        export_tokens(small, tmp_path / "out", format)
        assert documents(read_back(tmp_path / "out", format, tmp_path / "c")) == documents(small)
        return
    with pytest.raises(RecipeError, match=r"which is no part of this export .* more\n.*new folder"):
        export_tokens(small, tmp_path / "out", format)
    if format == "olmo":
        with pytest.raises(RecipeError, match="`labels_mask_part_0000.npy`, which is no part"):
            export_tokens(large, tmp_path / "out", format, without_weights=True)
    assert documents(read_back(tmp_path / "out", format, tmp_path / "c")) == documents(large)


@pytest.mark.parametrize("format", ["megatron", "olmo", "arrow"])
def test_an_export_to_where_nothing_can_be_written_is_refused(tmp_path: Path, format: Format) -> None:
    store = make_store(tmp_path / "a", LENGTHS)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RecipeError, match=r"file/out` cannot be written: .*(Not a directory|exists)"):
        export_tokens(store, tmp_path / "file" / "out", format)


def test_of_a_folder_of_datasets_the_files_are_read_that_it_names(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a", LENGTHS, per_segment=2)
    first, *_ = export_tokens(store, tmp_path / "out", "arrow")
    (tmp_path / "out" / "cache-1.arrow").write_bytes(first.read_bytes())
    assert documents(read_back(tmp_path / "out", "arrow", tmp_path / "b")) == documents(store)
    first.unlink()
    with pytest.raises(RecipeError, match=r"no file .*data-00000-of-00003.arrow`, which `state.json` names"):
        read_back(tmp_path / "out", "arrow", tmp_path / "c")
    (tmp_path / "out" / "state.json").write_text("[]")
    with pytest.raises(RecipeError, match="names no files"):
        read_back(tmp_path / "out", "arrow", tmp_path / "c")


def test_a_format_that_is_not_known_is_not_taken_for_another(tmp_path: Path) -> None:
    parquet: Any = "parquet"
    with pytest.raises(RecipeError, match="`parquet` is no format of tokens"):
        export_tokens(make_store(tmp_path / "store", [3, 4]), tmp_path / "out", parquet)
    assert not (tmp_path / "out").exists()
    with pytest.raises(RecipeError, match="Known are `megatron`, `olmo`, `arrow`"):
        import_tokens(tmp_path, parquet, tmp_path / "in", vocab_size=9, end_ids=[1])


def test_an_import_goes_to_a_new_folder_or_one_where_it_was_interrupted(tmp_path: Path) -> None:
    write_megatron_by_hand(tmp_path / "m", [[3, 4], [5]], [0, 1, 2])
    store = read_back(tmp_path / "m", "megatron", tmp_path / "store")
    with pytest.raises(RecipeError, match=r"store` holds a store already\n.*new folder"):
        read_back(tmp_path / "m", "megatron", tmp_path / "store")
    (tmp_path / "store" / "manifest.json").unlink()
    (tmp_path / "store" / "segments" / "00001.part").mkdir()
    again = read_back(tmp_path / "m", "megatron", tmp_path / "store")
    assert again.fingerprint == store.fingerprint
    again.verify()
    with pytest.raises(RecipeError, match="m.bin` is a file"):
        read_back(tmp_path / "m", "megatron", tmp_path / "m.bin")
