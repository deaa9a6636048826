"""The commands: name, module, one line of help. `--help` reads this table and imports none of the modules."""

from __future__ import annotations

COMMANDS = (
    ("distill", "distill", "turn a dozen examples into a small model"),
    ("plan", "plan", "say what a recipe would do and cost; spend nothing"),
    ("run", "run", "make what a recipe describes"),
    ("merge", "merge", "join what the jobs of `run --shard` made, and make the rest"),
    ("retry", "retry", "ask again about rows that failed, and about no others"),
    ("show", "show", "show a result: how it came to be, the funnel, its first rows"),
    ("funnel", "funnel", "what became of the rows at each step, why, and how diverse they are; a picture of it"),
    ("trace", "trace", "follow a row back to its seed and forward to what it shaped"),
    ("why", "why", "say which fields differ from the nearest earlier result"),
    ("query", "query", "ask the store in SQL; it only reads"),
    ("plot", "plot", "draw a metric in the terminal or into a PNG file"),
    ("chat", "chat", "talk to a model: lines in, replies out"),
    ("export", "export", "write rows to a JSONL, CSV or Parquet file"),
    ("data", "data", "tokenise, look at lengths and tokens, plan mixes of sources"),
    ("calls", "calls", "list, show, export and prune the kept model calls"),
    ("money", "spending", "say what was spent, by day, model and step"),
    ("batches", "batches", "show the batch jobs of providers, collect what is done, cancel"),
    ("rm", "rm", "forget a name"),
    ("pin", "pin", "keep what a name means now, whatever becomes of the name"),
    ("gc", "gc", "remove what no name reaches"),
    ("doctor", "doctor", "check this machine and a session folder"),
    ("list", "listing", "list the steps and parts that recipes can use"),
    ("schema", "schema", "print the JSON Schema of recipe files, for editors"),
)
