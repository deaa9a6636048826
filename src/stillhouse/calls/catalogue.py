"""Names of the parts of this package for recipe files and the command line."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "calls.ask": ("stillhouse.calls.ask:Ask", "A model that is asked, with its settings."),
    "calls.embedder": ("stillhouse.calls.embedder:Embedder", "A model that turns texts into vectors."),
    "calls.bm25": ("stillhouse.calls.bm25:Bm25", "A search by the words in common."),
}
