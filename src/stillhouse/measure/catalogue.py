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
    "measure.number_verifier": (
        "stillhouse.measure.number_verifier:NumberVerifier",
        "Accept replies that come to the right number.",
    ),
    "measure.regex_verifier": (
        "stillhouse.measure.text_verifiers:RegexVerifier",
        "Accept replies that a pattern matches, or does not.",
    ),
    "measure.contains_verifier": (
        "stillhouse.measure.text_verifiers:ContainsVerifier",
        "Accept replies that hold all, any or none of some texts.",
    ),
    "measure.list_verifier": (
        "stillhouse.measure.text_verifiers:ListVerifier",
        "Accept replies that list just the expected items.",
    ),
    "measure.code_verifier": (
        "stillhouse.measure.code_verifier:CodeVerifier",
        "Run the Python in a reply, contained, and accept what passes its tests.",
    ),
    "measure.all_of": ("stillhouse.measure.combined_verifiers:AllOf", "Accept what every verifier accepts."),
    "measure.any_of": ("stillhouse.measure.combined_verifiers:AnyOf", "Accept what one of several verifiers accepts."),
    "measure.metric_verifier": (
        "stillhouse.measure.combined_verifiers:MetricVerifier",
        "Accept replies that a metric scores high enough.",
    ),
    "measure.accepted": ("stillhouse.measure.combined_verifiers:Accepted", "Score 1 for what a verifier accepts."),
    "measure.math_verifier": (
        "stillhouse.measure.math_verifier:MathVerifier",
        "Accept replies that come to the right formula, by computer algebra.",
    ),
}
