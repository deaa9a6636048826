"""Samples of every tag and of every kind of plain value; `keys.json` holds their keys."""

from __future__ import annotations

import datetime as dt
import decimal
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stillhouse.core.keys import digest_of
from stillhouse.core.node import Node, children, content_special, node_form
from stillhouse.core.serial import from_table
from stillhouse.core.step import KeyBook, Step
from stillhouse.recipes._marked_yaml import read_yaml
from stillhouse.recipes.mix import Compared, Mix, MixSource, Probe
from stillhouse.recipes.scratch import Scratch
from stillhouse.text.normalise import Normalise
from stillhouse.tokens.policy import NaturalMix, ScheduledMix, StaticMix, TemperatureMix
from stillhouse.tokens.source import Source
from stillhouse.tokens.window_shuffle import WindowShuffle

HERE = Path(__file__).parent

VALUES: dict[str, Any] = {
    "none": None,
    "booleans": [True, False],
    "integers": [0, 1, -1, 2**70],
    "floats": [0.0, 1.0, -1.5, 1e300, 0.1, float("inf")],
    "texts": ["", "text", "ü", "日本", "\U0001f600", "\n\t\x00"],
    "bytes": b"\x00\xff",
    "nested": {"b": [1, {"a": ()}], "a": None},
    "sets": {3, 1, 2},
    "times": [dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 12, 30), dt.timedelta(seconds=90)],
    "decimals": decimal.Decimal("1.50"),
}


def samples() -> list[Node]:
    """Every step of `samples.yaml` and every part in them, one for each tag."""
    nodes = read_yaml((HERE / "samples.yaml").read_text(), "samples.yaml").value["nodes"]
    nodes["file"]["path"] = os.fspath(HERE / "rows.csv")
    nodes["pretrained"]["name"] = os.fspath(HERE / "weights")
    nodes["ready_tokenizer"]["name"] = os.fspath(HERE / "tokenizer")
    held_by_none: list[Node] = [
        Normalise(name="json"),
        Scratch(layers=3, hidden=96),
        Source(path=HERE / "rows.csv", text="input", weight="output"),
        StaticMix({"a": 0.7, "b": 0.3}),
        NaturalMix(),
        Mix(
            sources={"a": {"path": HERE / "rows.csv", "text": "input", "weight": 0.7}},
            probes={"texts": "a"},
            held_out=2,
            seq_len=64,
        ),
        Compared(columns=("input",), names=("text",)),
        MixSource(read=Source(path=HERE / "rows.csv", text="input"), weight=0.7),
        Probe(sources="a", rows=5),
        WindowShuffle(window=4096),
        TemperatureMix(temperature=3.0),
        ScheduledMix([(0, {"a": 1.0, "b": 0.0}), (0.5, {"a": 0.5, "b": 0.5})], length=100, between="linear"),
    ]
    found = {node.tag: node for node in held_by_none}
    for name in nodes:
        for node in _with_parts(from_table({"nodes": nodes, "result": f"${name}"})):
            found.setdefault(node.tag, node)
    return list(found.values())


def _with_parts(node: Node) -> Iterator[Node]:
    yield node
    for child in children(node):
        yield from _with_parts(child)


def key_of(node: Node) -> str:
    """The recipe key of a step; of a part, the digest of its canonical form."""
    if isinstance(node, Step):
        return KeyBook().recipe(node)
    return digest_of(node_form(node, content_special(lambda inner: {"key": key_of(inner)})))


SAMPLES = samples()
