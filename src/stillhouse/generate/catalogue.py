"""Names of the steps of this package for recipe files and the command line."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "generate.prompt": ("stillhouse.generate.prompt:Prompt", "Ask one question about each row."),
    "generate.extract_policy": (
        "stillhouse.generate.policy:ExtractPolicy",
        "Describe a task from examples: formats, rules, difficulty, lengths.",
    ),
    "generate.synthesize_cot": (
        "stillhouse.generate.cot:SynthesizeCoT",
        "Add reasoning to examples whose output is known, checked against it.",
    ),
    "generate.amplify": ("stillhouse.generate.amplify:Amplify", "Make many new inputs from a few."),
    "generate.answer": (
        "stillhouse.generate.answer:Answer",
        "Answer inputs with reasoning, by majority of several samples if wanted.",
    ),
}
