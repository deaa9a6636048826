"""Names of the steps of this package for recipe files and the command line."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "generate.prompt": ("stillhouse.generate.prompt:Prompt", "Ask a question, or several, about each row."),
    "generate.process_with_prompt": (
        "stillhouse.generate.process:ProcessWithPrompt",
        "Apply an instruction to a column.",
    ),
    "generate.few_shot": ("stillhouse.generate.few_shot:FewShot", "Answer inputs after examples that fit the window."),
    "generate.data_from_prompt": (
        "stillhouse.generate.data_from_prompt:DataFromPrompt",
        "Make many rows from one instruction.",
    ),
    "generate.data_from_attributed_prompt": (
        "stillhouse.generate.attributed:DataFromAttributedPrompt",
        "Make rows from an instruction and every combination of attributes.",
    ),
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
    "generate.judge_pairs": (
        "stillhouse.generate.judge_pairs:JudgePairs",
        "Say which of two answers is better, asked in both orders.",
    ),
    "generate.pair_judge": ("stillhouse.generate.judges:PairJudge", "Who compares two answers, and by what."),
}
