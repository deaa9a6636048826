"""Names of the steps of this package for recipe files and the command line."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "evaluate.predict": ("stillhouse.evaluate.predict:Predict", "Answer each row with a model."),
    "evaluate.nearest_neighbour": (
        "stillhouse.evaluate.neighbour:NearestNeighbour",
        "Answer each row like the most similar known one: a baseline.",
    ),
    "evaluate.compare": ("stillhouse.evaluate.compare:Compare", "Compare models on the same held-out rows."),
    "evaluate.novelty": (
        "stillhouse.evaluate.novelty:Novelty",
        "Say which held-out rows hold unseen words or wordings.",
    ),
    "evaluate.refuse_overlap": (
        "stillhouse.evaluate.overlap:RefuseOverlap",
        "Stop when seeds or training rows stand in the test set.",
    ),
}
