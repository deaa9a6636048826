"""What recipe files and the command line can name from `tokens`."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "tokens.tokenize": ("stillhouse.tokens.tokenize:Tokenize", "Turn conversations or text into token files."),
    "tokens.mixture": ("stillhouse.tokens.mixing:Mixture", "Several sources of tokens, and how much of each."),
    "tokens.static": ("stillhouse.tokens.policy:StaticMix", "Mix sources by fixed weights."),
    "tokens.natural": ("stillhouse.tokens.policy:NaturalMix", "Mix sources by their sizes."),
    "tokens.temperature": ("stillhouse.tokens.policy:TemperatureMix", "Mix sources by a power of their sizes."),
    "tokens.schedule": ("stillhouse.tokens.policy:ScheduledMix", "Mix sources by weights that change at given steps."),
    "tokens.packing": ("stillhouse.tokens.packing:Packing", "Say how documents become rows of a fixed length."),
}
