"""Names of the steps and parts of this package for recipe files and the command line."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "recipes.scratch": (
        "stillhouse.recipes.scratch:Scratch",
        "A student that begins with random weights.",
    ),
    "recipes.deliver": ("stillhouse.recipes.deliver:Deliver", "The files of a distillation, ready to hand over."),
    "recipes.mix": (
        "stillhouse.recipes.mix:Mix",
        "A mix of sources: their weights, what is held out, how rows are made.",
    ),
    "recipes.mix_source": ("stillhouse.recipes.mix:MixSource", "One source of a mix."),
    "recipes.probe": ("stillhouse.recipes.mix:Probe", "A small set for a domain, from what a mix holds out."),
    "recipes.compared": (
        "stillhouse.recipes.mix:Compared",
        "Columns under other names, so that two sources can be compared.",
    ),
}
