"""Names of the steps of this package for recipe files and the command line."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "publish.report": (
        "stillhouse.publish.report:ReportPage",
        "One HTML page: before and after, training, data, cost.",
    ),
}
