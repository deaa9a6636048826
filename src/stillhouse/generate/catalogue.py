"""Names of the steps of this package for recipe files and the command line."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "generate.prompt": ("stillhouse.generate.prompt:Prompt", "Ask a question, or several, about each row."),
    "generate.process_with_prompt": (
        "stillhouse.generate.process:ProcessWithPrompt",
        "Apply an instruction to a column.",
    ),
    "generate.rewrite": ("stillhouse.generate.rewrite:Rewrite", "Write a text column anew, as an instruction says."),
    "generate.few_shot": ("stillhouse.generate.few_shot:FewShot", "Answer inputs after examples that fit the window."),
    "generate.data_from_prompt": (
        "stillhouse.generate.data_from_prompt:DataFromPrompt",
        "Make many rows from one instruction.",
    ),
    "generate.data_from_attributed_prompt": (
        "stillhouse.generate.attributed:DataFromAttributedPrompt",
        "Make rows from an instruction and every combination of attributes.",
    ),
    "generate.evolve": (
        "stillhouse.generate.evolve:Evolve",
        "Rewrite instructions into harder ones, or others beside them (Evol-Instruct).",
    ),
    "generate.self_instruct": (
        "stillhouse.generate.self_instruct:SelfInstruct",
        "Make many new instructions from a few, each unlike all others.",
    ),
    "generate.converse": (
        "stillhouse.generate.converse:Converse",
        "Hold conversations in which a model plays the user.",
    ),
    "generate.tool_tasks": (
        "stillhouse.generate.tool_tasks:ToolTasks",
        "Make tasks for which tools are needed.",
    ),
    "generate.tool_traces": (
        "stillhouse.generate.tool_traces:ToolTraces",
        "Solve tasks with tools, every call checked and made.",
    ),
    "generate.magpie": (
        "stillhouse.generate.magpie:Magpie",
        "Instructions that an aligned model writes from the beginning of a user's turn.",
    ),
    "generate.backtranslate": (
        "stillhouse.generate.backtranslate:Backtranslate",
        "Find the instruction that a text answers.",
    ),
    "generate.text_to_persona": (
        "stillhouse.generate.personas:TextToPersona",
        "Describe who would read or write a text.",
    ),
    "generate.persona_to_persona": (
        "stillhouse.generate.personas:PersonaToPersona",
        "Describe persons that stand near others.",
    ),
    "generate.persona_prompt": (
        "stillhouse.generate.personas:PersonaPrompt",
        "Write texts as they come from the lives of personas.",
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
    "generate.filter_with_prompt": (
        "stillhouse.generate.filter_with_prompt:FilterWithPrompt",
        "Keep the rows that a model says yes to.",
    ),
    "generate.score_with_prompt": (
        "stillhouse.generate.score_with_prompt:ScoreWithPrompt",
        "Have a model give each row a number.",
    ),
    "generate.rank_with_prompt": (
        "stillhouse.generate.score_with_prompt:RankWithPrompt",
        "The rows by a model's score, with a threshold or the first few.",
    ),
    "generate.criterion": ("stillhouse.generate.rubric:Criterion", "One thing that a rubric judges."),
    "generate.rubric": ("stillhouse.generate.rubric:Rubric", "Who scores, and by which criteria."),
    "generate.judge_rubric": (
        "stillhouse.generate.rubric:JudgeRubric",
        "Score each row by named criteria, with reasons.",
    ),
    "generate.calibrate": (
        "stillhouse.generate.calibration:Calibrate",
        "Hold a judge's scores or verdicts against those of people.",
    ),
    "generate.embed": ("stillhouse.generate.embed:Embed", "Add vectors of a text column."),
    "generate.cosine_similarity": (
        "stillhouse.generate.embed:CosineSimilarity",
        "Say how near two columns of texts or vectors are.",
    ),
    "generate.index": ("stillhouse.generate.index:Index", "Make rows searchable, by meaning or by words."),
    "generate.hnsw": ("stillhouse.generate.index:Hnsw", "An approximate search, for large indexes."),
    "generate.retrieve": ("stillhouse.generate.retrieve:Retrieve", "Find the rows of an index nearest to each row."),
    "generate.rag": ("stillhouse.generate.rag:RAG", "Answer questions from what was retrieved for them."),
    "generate.few_shot_with_retrieval": (
        "stillhouse.generate.few_shot_with_retrieval:FewShotWithRetrieval",
        "Answer inputs after the examples nearest to them.",
    ),
    "generate.run_task_model": (
        "stillhouse.generate.task_model:RunTaskModel",
        "Label rows by a text classifier of this machine.",
    ),
    "generate.majority_vote": (
        "stillhouse.generate.majority_vote:MajorityVote",
        "Ask several times, or several models, and take what most agree on.",
    ),
    "generate.verify": ("stillhouse.generate.verify:Verify", "Mark each row by what a verifier says of its reply."),
    "generate.preference_pairs": (
        "stillhouse.generate.preference_pairs:PreferencePairs",
        "Several answers to each prompt, judged, as chosen and rejected.",
    ),
    "generate.revise": ("stillhouse.generate.revise:Revise", "Have answers criticised and written again."),
}
