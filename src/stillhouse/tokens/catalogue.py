"""What recipe files and the command line can name from `tokens`."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "tokens.tokenize": ("stillhouse.tokens.tokenize:Tokenize", "Turn conversations or text into token files."),
    "tokens.packing": ("stillhouse.tokens.packing:Packing", "Say how documents become rows of a fixed length."),
}
