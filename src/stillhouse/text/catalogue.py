"""What recipe files and the command line can name from `text`."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "text.train_tokenizer": ("stillhouse.text.train_tokenizer:TrainTokenizer", "Train a byte-level BPE tokenizer."),
    "text.pretrained_tokenizer": (
        "stillhouse.text.pretrained_tokenizer:PretrainedTokenizer",
        "Take the tokenizer of a model on the hub, or of a folder.",
    ),
    "text.schema": ("stillhouse.text.schema:Schema", "The JSON Schema that replies must follow."),
    "text.normalise": ("stillhouse.text.normalise:Normalise", "Say which texts count as the same answer."),
}
