"""What recipe files and the command line can name from `tokens`."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "tokens.tokenize": ("stillhouse.tokens.tokenize:Tokenize", "Turn conversations or text into token files."),
    "tokens.source": ("stillhouse.tokens.source:Source", "Name rows to read tokens from: files, the hub, a step."),
    "tokens.mixture": ("stillhouse.tokens.mixing:Mixture", "Several sources of tokens, and how much of each."),
    "tokens.static": ("stillhouse.tokens.policy:StaticMix", "Mix sources by fixed weights."),
    "tokens.natural": ("stillhouse.tokens.policy:NaturalMix", "Mix sources by their sizes."),
    "tokens.temperature": ("stillhouse.tokens.policy:TemperatureMix", "Mix sources by a power of their sizes."),
    "tokens.schedule": ("stillhouse.tokens.policy:ScheduledMix", "Mix sources by weights that change at given steps."),
    "tokens.pack": ("stillhouse.tokens.pack:Pack", "Plan which documents stand in which row, before training."),
    "tokens.reweight": ("stillhouse.tokens.reweight:Reweight", "Give the examples of token files other weights."),
    "tokens.window_shuffle": (
        "stillhouse.tokens.window_shuffle:WindowShuffle",
        "Shuffle rows in windows, for data that is elsewhere.",
    ),
    "tokens.import": ("stillhouse.tokens.foreign:ImportTokens", "Read token files of Megatron, OLMo or Arrow."),
    "tokens.packing": ("stillhouse.tokens.packing:Packing", "Say how documents become rows of a fixed length."),
}
