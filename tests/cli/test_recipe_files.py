"""Recipe files: places in messages, types, overrides, paths, functions, what is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.retry import Patience
from stillhouse.core.artifact import Rows
from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.curate.dedup import Dedup
from stillhouse.recipes.file import RecipeFile, load_recipe, recipe_table
from stillhouse.recipes.file_schema import file_schema
from stillhouse.rows.import_ import Import
from stillhouse.rows.split import Split

TABLE = """\
name: orders
nodes:
  seeds: {uses: rows.import, path: seeds.jsonl}
  split:
    uses: rows.split
    rows: $seeds
    test_size: 0.25
  clean:
    uses: curate.dedup
    rows: $split.train
    columns: [input, output]
result: $clean
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with seeds, which is not the working folder."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    rows = [{"input": f"number {number}", "output": str(number)} for number in range(8)]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def loaded(folder: Path, text: str, *overrides: str) -> RecipeFile:
    (folder / "recipe.yaml").write_text(text)
    return load_recipe(folder / "recipe.yaml", overrides)


def refusal(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        loaded(folder, text, *overrides)
    return str(caught.value).replace(f"{folder}/", "")


def test_a_file_and_python_describe_the_same_step(folder: Path) -> None:
    seeds = Import(path=str(folder / "seeds.jsonl"))
    in_python = Dedup(rows=Split(rows=seeds, test_size=0.25).train, columns=("input", "output"))
    recipe = loaded(folder, TABLE)
    assert recipe.step.recipe_key == in_python.recipe_key
    assert recipe.name == "orders"
    assert set(recipe.nodes) == {"seeds", "split", "clean"}


def test_a_recipe_is_called_like_its_file_unless_it_says_otherwise(folder: Path) -> None:
    assert loaded(folder, TABLE.replace("name: orders\n", "")).name == "recipe"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "test_size",
            "test_sise",
            "recipe.yaml:7: in `split`: Split: `test_sise` is not a field of `Split`\n  Did you mean `test_size`?",
        ),
        ("0.25", "-1", "recipe.yaml:7: in `split`: Split: `test_size`: input should be greater than 0"),
        ("0.25", "lots", "recipe.yaml:7: in `split`: Split: `test_size`: input should be a valid number"),
        (
            "curate.dedup",
            "curate.dedupe",
            "recipe.yaml:9: `clean` uses `curate.dedupe`, which does not exist\n  Did you mean `curate.dedup`?",
        ),
        (
            "curate.dedup",
            "curate.dedup/99",
            "recipe.yaml:9: `clean` uses `curate.dedup/99`, but this version of stillhouse makes",
        ),
        ("curate.dedup", "nowhere:Step", "recipe.yaml:9: in `clean`: `nowhere:Step`: there is no module `nowhere`"),
        ("$seeds", "$seed", "recipe.yaml:6: `split.rows`: there is no node `seed`\n  Did you mean `$seeds`?"),
        ("$seeds", "$clean", "recipe.yaml:6: the nodes clean → split → clean need each other in a circle"),
        ("$split.train", "$split.training", "recipe.yaml:10: `clean.rows`: `Split` has no output `training`"),
        (
            "$split.train",
            "5",
            "recipe.yaml:10: in `clean`: Dedup: `rows`: expected a step that makes Rows, not 5 (int)",
        ),
        ("    uses: curate.dedup\n", "", "recipe.yaml:8: `clean` does not say what it uses"),
        ("result: $clean", "result: clean", "recipe.yaml:12: `result` is not a step: 'clean'"),
        ("result: $clean", "", "recipe.yaml: `result` is missing"),
        ("name:", "nam:", "recipe.yaml:1: `nam` is not a key of a recipe\n  Did you mean `name`?"),
        ("name: orders", "recipe: steps:pipeline", "recipe.yaml:1: `nodes` and `recipe` do not go together"),
        ("\nresult:", "\nnodes: {}\nresult:", "recipe.yaml:12: `nodes` stands twice"),
        (
            "    test_size",
            "\ttest_size",
            "recipe.yaml:7: this is not YAML: found character '\\t' that cannot start any token\n"
            "  Indent with spaces, not with tabs.",
        ),
        (
            "    test_size: 0.25",
            "    test_size: a: b",
            "recipe.yaml:7: this is not YAML: mapping values are not allowed here",
        ),
        ("  clean:", "  cl.ean:", "recipe.yaml:8: `cl.ean` cannot be the name of a node"),
    ],
)
def test_a_mistake_is_told_with_file_line_node_and_field(folder: Path, old: str, new: str, message: str) -> None:
    assert TABLE.count(old) >= 1
    assert refusal(folder, TABLE.replace(old, new, 1)).startswith(message)


def test_a_part_inside_a_node_has_its_own_line(folder: Path) -> None:
    text = """\
nodes:
  seeds: {uses: rows.import, path: seeds.jsonl}
  asked:
    uses: generate.prompt
    rows: $seeds
    template: "{{ input }}"
    by:
      uses: calls.ask
      model: openai/gpt-4o-mini
      temprature: 0.5
result: $asked
"""
    told = refusal(folder, text)
    assert told.startswith("recipe.yaml:10: in `asked.by`: Ask: `temprature` is not a field of `Ask`")
    assert "Did you mean `temperature`?" in told


def test_a_node_that_nothing_needs_is_checked_too(folder: Path) -> None:
    text = TABLE.replace("result:", "  spare: {uses: rows.take, rows: $seeds}\nresult:")
    assert refusal(folder, text).startswith("recipe.yaml:12: in `spare`: Take: `num` is missing")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-4", 1e-4),
        ("1_000", "1_000"),
        ("0x1F", 31),
        ("010", 10),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("2024-01-05", "2024-01-05"),
        ("12:30", "12:30"),
        (".inf", float("inf")),
        ("-.5", -0.5),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ("[1, a]", [1, "a"]),
        ("{b: 2.0}", {"b": 2.0}),
        ("a=b", "a=b"),
    ],
)
def test_values_have_the_types_of_yaml_1_2(folder: Path, written: str, meant: Any) -> None:
    text = f"recipe: tests.cli.test_recipe_files:echo\nwith: {{value: {written}}}\n"
    assert echoed(loaded(folder, text)) == meant
    assert type(echoed(loaded(folder, text))) is type(meant)
    text = "recipe: tests.cli.test_recipe_files:echo\nwith: {value: 0}\n"
    assert echoed(loaded(folder, text, f"value={written}")) == meant


def echo(value: Any) -> Import:
    return Import(data=({"input": json.dumps(value), "output": ""},))


def echoed(recipe: RecipeFile) -> Any:
    assert isinstance(recipe.step, Import)
    assert recipe.step.data is not None
    return json.loads(recipe.step.data[0]["input"])


def test_an_override_is_typed_and_reaches_into_parts_and_lists(folder: Path) -> None:
    recipe = loaded(folder, TABLE, "clean.threshold=0.5", "split.test_size=2", "clean.columns.1=other", "name=others")
    assert isinstance(recipe.step, Dedup)
    assert recipe.step.threshold == 0.5
    assert recipe.step.columns == ("input", "other")
    assert recipe.nodes["split"].test_size == 2  # type: ignore[attr-defined]
    assert recipe.name == "others"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "claen.threshold=1",
            "recipe.yaml: --set claen.threshold=1: there is no node `claen`\n  Did you mean `clean`?",
        ),
        (
            "clean.treshold=1",
            "--set clean.treshold=1: in `clean`: Dedup: `treshold` is not a field of `Dedup`\n"
            "  Did you mean `threshold`?",
        ),
        (
            "clean.threshold=high",
            "--set clean.threshold=high: in `clean`: Dedup: `threshold`: input should be a valid number",
        ),
        (
            "clean.threshold",
            "recipe.yaml: `--set clean.threshold` sets nothing\n  Write it as `--set node.field=value`.",
        ),
        ("clean=5", "recipe.yaml: --set clean=5: `clean` is a node\n  Name one of its fields"),
        ("clean.columns.7=x", "recipe.yaml: --set clean.columns.7=x: `7` is no place in a list of 2"),
        ("clean.rows.deeper=x", "recipe.yaml: --set clean.rows.deeper=x: `nodes.clean.rows` is a single value"),
        ("clean.columns=[", "recipe.yaml: --set clean.columns=[:1: this is not YAML"),
        (
            "session.concurency=3",
            "--set session.concurency=3: `concurency` is not a setting of `session`\n  Did you mean `concurrency`?",
        ),
    ],
)
def test_a_wrong_override_is_told_as_it_was_written(folder: Path, override: str, message: str) -> None:
    assert refusal(folder, TABLE, override).startswith(message)


def test_relative_paths_count_from_the_file(folder: Path) -> None:
    with Session(folder / "out", track=False) as session:
        assert len(session.run(loaded(folder, TABLE).nodes["seeds"])) == 8
    recipe = loaded(folder, TABLE + "output: results\n")
    assert recipe.output == folder / "results"
    text = "recipe: tests.cli.test_recipe_files:imported\nwith: {path: seeds.jsonl}\n"
    assert loaded(folder, text).step.recipe_key == recipe.nodes["seeds"].recipe_key


def imported(path: str) -> Import:
    return Import(path=path)


def test_local_models_count_from_the_file_too(folder: Path) -> None:
    (folder / "student").mkdir()
    text = """\
nodes:
  seeds: {uses: rows.import, path: seeds.jsonl}
  base: {uses: models.pretrained, name: student}
  hub: {uses: models.pretrained, name: Qwen/Qwen3-0.6B}
  asked: {uses: generate.prompt, rows: $seeds, template: hi, by: {uses: calls.ask, model: "local:student"}}
result: $asked
"""
    nodes = loaded(folder, text).nodes
    assert nodes["asked"].by.model == f"local:{folder / 'student'}"  # type: ignore[attr-defined]
    assert nodes["base"].name == str(folder / "student")  # type: ignore[attr-defined]
    assert nodes["hub"].name == "Qwen/Qwen3-0.6B"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "recipe: tests.cli.steps:pipeline\nwith: {seed: a}",
            "recipe.yaml:2: `seed` is not an argument of `pipeline`\n  Did you mean `seeds`?",
        ),
        ("recipe: tests.cli.steps:pipeline", "recipe.yaml: `pipeline` needs `seeds`\n  Add it under `with`"),
        (
            "recipe: tests.cli.steps:pipelin",
            "recipe.yaml:1: `tests.cli.steps:pipelin`: `tests.cli.steps` has no `pipelin`",
        ),
        ("recipe: tests.cli.steps:not_a_pipeline", "recipe.yaml:1: `tests.cli.steps:not_a_pipeline` returned a dict"),
        (
            "recipe: tests.cli.steps:pipeline\nwith: {seeds: a.jsonl, threshold: high}",
            "recipe.yaml:1: in `tests.cli.steps:pipeline`: Dedup: `threshold`",
        ),
        ("with: {a: 1}", "recipe.yaml: `recipe` is missing"),
        ("- a\n- b", "recipe.yaml: a recipe is a mapping"),
        ("", "recipe.yaml: a recipe is a mapping"),
        ("a: &a [*a]", "recipe.yaml:1: an anchor holds itself"),
        (
            "nodes: !!python/object:os.system {}",
            "recipe.yaml:1: the tag `tag:yaml.org,2002:python/object:os.system` has no meaning here",
        ),
    ],
)
def test_a_recipe_function_is_checked_before_it_is_called(folder: Path, text: str, message: str) -> None:
    assert refusal(folder, text).startswith(message)


def test_session_settings_are_read_and_change_no_key(folder: Path) -> None:
    text = TABLE + (
        "session:\n  concurrency: 4\n  budget: {usd: 2.5}\n  options: {threads: 2}\n"
        "  endpoints: {mine: 'http://localhost:8000/v1'}\n  prices: {mine: {prompt: 1, reply: 2}}\n"
        "  patience: {attempts: 8, other_model: stop}\n"
    )
    recipe = loaded(folder, text)
    assert recipe.session.concurrency == 4
    assert recipe.session.budget is not None
    assert recipe.session.budget.usd == 2.5
    assert recipe.session.options.threads == 2
    assert recipe.session.endpoints == {"mine": Endpoint("http://localhost:8000/v1")}
    assert recipe.session.prices["mine"].reply == 2
    assert recipe.session.patience == Patience(attempts=8, other_model="stop")
    assert loaded(folder, TABLE, 'session.concurrency={"mine": 9}').session.concurrency == {"mine": 9}
    assert recipe.step.recipe_key == loaded(folder, TABLE).step.recipe_key


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{concurency: 4}", "`concurency` is not a setting of `session`\n  Did you mean `concurrency`?"),
        ("{options: {treads: 4}}", "`treads` is not a setting of `session.options`\n  Did you mean `threads`?"),
        ("{options: {threads: 0}}", "`session.options.threads`: input should be greater than or equal to 1"),
        (
            "{options: {threads: 0, workers: 0}}",
            "`session.options.threads`: input should be greater than or equal to 1; `session.options.workers`: input",
        ),
        ("{endpoints: {a: {urls: x}}}", "`urls` is not a setting of `session.endpoints.a`\n  Did you mean `url`?"),
        ("{endpoints: {a: nonsense}}", "`nonsense` is no endpoint"),
        (
            "{endpoints: {a: {url: 'http://h/v1', headers: {Authorization: Bearer x}}}}",
            "the header `Authorization` holds its secret in clear",
        ),
        ("{patience: {attempt: 3}}", "`attempt` is not a setting of `session.patience`\n  Did you mean `attempts`?"),
        ("{concurrency: {mine: 0}}", "`session.concurrency` is 0, expected at least 1"),
        ("{budget: much}", "`session.budget.usd`: Input should be a valid number"),
        ("{endpoints: [a]}", "`session.endpoints` must be a mapping from names"),
    ],
)
def test_a_wrong_setting_is_told(folder: Path, settings: str, message: str) -> None:
    told = refusal(folder, f"{TABLE}session: {settings}\n")
    assert told.partition(": ")[2].startswith(message)


def test_the_resolved_recipe_reads_back_as_the_same_step(folder: Path) -> None:
    recipe = loaded(folder, TABLE, "clean.threshold=0.6")
    (folder / "kept").mkdir()
    table = recipe_table(recipe.step, folder / "kept")
    assert table["nodes"]["import"]["path"] == "../seeds.jsonl"
    (folder / "kept" / "recipe.yaml").write_text(yaml.safe_dump(table))
    again = load_recipe(folder / "kept" / "recipe.yaml")
    assert again.step.recipe_key == recipe.step.recipe_key


def test_a_shared_node_is_built_once(folder: Path) -> None:
    lines = ["nodes:", "  n0: {uses: rows.import, path: seeds.jsonl}"]
    lines += [f"  n{n}: {{uses: rows.concat, rows: [$n{n - 1}, $n{n - 1}]}}" for n in range(1, 31)]
    step = loaded(folder, "\n".join([*lines, "result: $n30"])).step
    for _ in range(30):
        (step,) = step.inputs()
    assert isinstance(step, Import)


def test_rows_that_look_like_paths_stay_as_they_are(folder: Path) -> None:
    text = "nodes:\n  a: {uses: rows.import, data: [{input: 'local:x', output: seeds.jsonl}]}\nresult: $a\n"
    with Session(folder / "out", track=False) as session:
        made = session.run(loaded(folder, text).step)
        assert isinstance(made, Rows)
        assert next(iter(made))["input"] == "local:x"


def schema_errors(document: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(file_schema()).iter_errors(document)]


def test_the_schema_for_editors_is_one_and_accepts_what_loads(folder: Path) -> None:
    Draft202012Validator.check_schema(file_schema())
    assert schema_errors(yaml.safe_load(TABLE)) == []
    assert schema_errors({"recipe": "a.b:c", "with": {"x": 1}, "session": {"concurrency": 3}}) == []
    loaded(folder, TABLE)


def test_a_model_may_be_named_and_one_column_be_a_text(folder: Path) -> None:
    short = """
nodes:
  seeds: {uses: rows.import, path: seeds.jsonl}
  asked: {uses: generate.prompt, rows: $seeds, by: openai/gpt-4o-mini, template: "{{ input }}"}
  vectors: {uses: generate.embed, rows: $asked, by: hash:64, column: reply}
  clean: {uses: curate.dedup, rows: $vectors, columns: reply}
result: $clean
"""
    assert schema_errors(yaml.safe_load(short)) == []
    long = short.replace("by: openai/gpt-4o-mini", "by: {uses: calls.ask, model: openai/gpt-4o-mini}")
    long = long.replace("by: hash:64", 'by: {uses: calls.embedder, model: "hash:64"}').replace(
        ": reply}\nres", ": [reply]}\nres"
    )
    assert loaded(folder, short).step == loaded(folder, long).step
    with pytest.raises(RecipeError, match="in `asked`: Prompt: `by.model`: `gpt-4o-mini` names no model"):
        loaded(folder, short.replace("openai/", ""))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"uses": "curate.dedup", "rows": "$a", "treshold": 1}, "'treshold' was unexpected"),
        ({"uses": "curate.dedup"}, "'rows' is a required property"),
        ({"uses": "curate.dedupe", "rows": "$a"}, "'curate.dedupe' is not valid under any of the given schemas"),
        ({"uses": "curate.dedup", "rows": 5}, "5 is not valid under any of the given schemas"),
        ({"rows": "$a"}, "'uses' is a required property"),
        ({"uses": "generate.answer", "rows": "$a", "instruction": "", "by": {"uses": "calls.ask"}}, "'' is not valid"),
        ({"uses": "generate.prompt", "rows": "$a", "template": "x", "by": 5}, "5 is not valid"),
    ],
)
def test_the_schema_finds_what_the_models_would_refuse(node: dict[str, Any], message: str) -> None:
    assert any(message in error for error in schema_errors({"nodes": {"a": node}, "result": "$a"}))


def test_every_name_of_the_catalogue_is_in_the_schema() -> None:
    from stillhouse.core.catalogue import catalogue

    assert set(catalogue()) <= set(file_schema()["$defs"])
