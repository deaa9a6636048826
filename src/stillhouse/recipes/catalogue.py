"""Names of the steps and parts of this package for recipe files and the command line."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "recipes.scratch": (
        "stillhouse.recipes.scratch:Scratch",
        "A student that begins with random weights.",
    ),
    "recipes.deliver": ("stillhouse.recipes.deliver:Deliver", "The files of a distillation, ready to hand over."),
}
