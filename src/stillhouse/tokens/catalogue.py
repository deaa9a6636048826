"""What recipe files and the command line can name from `tokens`."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "tokens.tokenize": ("stillhouse.tokens.tokenize:Tokenize", "Turn conversations or text into token files."),
    "tokens.mixture": ("stillhouse.tokens.mixing:Mixture", "Several sources of tokens, and how much of each."),
    "tokens.packing": ("stillhouse.tokens.packing:Packing", "Say how documents become rows of a fixed length."),
}
