"""Names of the steps of this package for recipe files and the command line."""

CATALOGUE: dict[str, tuple[str, str]] = {
    "rows.import": ("stillhouse.rows.import_:Import", "Rows of a JSON, JSONL, CSV or Parquet file, or of a list."),
    "rows.grid": ("stillhouse.rows.grid:Grid", "A row for each combination of values."),
    "rows.to_messages": ("stillhouse.rows.conversation:ToMessages", "Rows as conversations, from the forms in use."),
    "rows.map": ("stillhouse.rows.transform:Map", "New rows from each row by your own function."),
    "rows.filter": ("stillhouse.rows.transform:Filter", "The rows for which your own function says yes."),
    "rows.select": ("stillhouse.rows.columns:Select", "Some of the columns."),
    "rows.rename": ("stillhouse.rows.columns:Rename", "Columns under other names."),
    "rows.take": ("stillhouse.rows.slices:Take", "The first rows."),
    "rows.skip": ("stillhouse.rows.slices:Skip", "The rows after the first ones."),
    "rows.shuffle": ("stillhouse.rows.order:Shuffle", "The rows in random order."),
    "rows.sort": ("stillhouse.rows.order:Sort", "The rows ordered by columns."),
    "rows.concat": ("stillhouse.rows.combine:Concat", "Tables one after the other."),
    "rows.zip": ("stillhouse.rows.combine:Zip", "Tables side by side."),
    "rows.join": ("stillhouse.rows.combine:Join", "Rows of two tables matched by value."),
    "rows.split": ("stillhouse.rows.split:Split", "A training part and a test part."),
    "rows.export": ("stillhouse.rows.export:Export", "A JSONL, CSV or Parquet file."),
    "rows.sample": ("stillhouse.rows.sample:Sample", "Some of the rows, drawn by chance, by shares where wanted."),
}
