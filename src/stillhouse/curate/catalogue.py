"""Names of the steps of this package for recipe files and the command line."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "curate.dedup": ("stillhouse.curate.dedup:Dedup", "Remove duplicates and near-duplicates."),
    "curate.keep": ("stillhouse.curate.keep:Keep", "Keep the rows whose reply a verifier accepts."),
    "curate.split_apart": (
        "stillhouse.curate.split_apart:SplitApart",
        "Split so that no near-duplicate of a test row is trained on.",
    ),
    "curate.decontaminate": ("stillhouse.curate.decontaminate:Decontaminate", "Drop rows that overlap with test sets."),
    "curate.semantic_dedup": (
        "stillhouse.curate.semantic_dedup:SemanticDedup",
        "Remove rows that mean the same, by their vectors.",
    ),
    "curate.diverse_subset": ("stillhouse.curate.diverse_subset:DiverseSubset", "A few rows that stand for many."),
    "curate.best_apart": ("stillhouse.curate.best_apart:BestApart", "The best rows that are not alike."),
    "curate.rule": ("stillhouse.curate.rule:Rule", "A measure of a text, and the band in which it must lie."),
    "curate.quality": (
        "stillhouse.curate.quality:Quality",
        "Keep the texts that follow rules: Gopher, C4, FineWeb, your own.",
    ),
    "curate.measure_text": ("stillhouse.curate.quality:MeasureText", "Columns with measures of a text."),
    "curate.language": ("stillhouse.curate.language:Language", "The text must be in a language that is wanted."),
    "curate.pii": ("stillhouse.curate.pii:Pii", "Drop, mark or redact personal data and secrets."),
    "curate.no_pii": ("stillhouse.curate.pii:NoPii", "The text must hold no personal data or secret."),
    "curate.band": ("stillhouse.curate.band:Band", "The rows whose number lies in a band."),
    "curate.length_band": (
        "stillhouse.curate.length_band:LengthBand",
        "Texts of a fitting length in characters, words or tokens.",
    ),
    "curate.perplexity": ("stillhouse.curate.perplexity:Perplexity", "How surprising a text is to a language model."),
    "curate.diversity": ("stillhouse.curate.diversity:Diversity", "Measures of diversity of tables, side by side."),
}
