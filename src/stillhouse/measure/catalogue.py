"""Names of the parts of this package for recipe files and the command line."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "measure.exact_match": (
        "stillhouse.measure.exact_match:ExactMatch",
        "1 when reply and expected answer are the same text.",
    ),
    "measure.token_f1": ("stillhouse.measure.token_f1:TokenF1", "Overlap of words with the expected answer."),
    "measure.json_fields": ("stillhouse.measure.json_fields:JsonFields", "Share of JSON fields that are right."),
    "measure.agreement": ("stillhouse.measure.agreement:Agreement", "What most of several replies say."),
    "measure.function_verifier": (
        "stillhouse.measure.function_verifier:FunctionVerifier",
        "Accept a reply by your own function.",
    ),
    "measure.limits": ("stillhouse.measure.limits:Limits", "What a check in a process of its own may take."),
    "measure.schema_verifier": (
        "stillhouse.measure.schema_verifier:SchemaVerifier",
        "Accept replies that follow a JSON Schema.",
    ),
}
