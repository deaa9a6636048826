"""Names of the parts of this package for recipe files and the command line."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "calls.ask": ("stillhouse.calls.ask:Ask", "A model that is asked, with its settings."),
}
