"""`tinyllama recipe`: the schema is JSON, and a difference names keys, values and their effect."""

import json
from pathlib import Path

from typer.testing import CliRunner

from tinyllama.cli.commands import app
from tinyllama.recipe.editing import recipe_json_schema


def test_the_schema_is_printed_as_json() -> None:
    done = CliRunner().invoke(app, ["recipe", "schema"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == recipe_json_schema()


def test_a_difference_is_a_table_with_a_line_for_each_key(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("extends: nano\nname: other\nseed: 2\nmodel: {width: 128}\n")
    done = CliRunner().invoke(app, ["recipe", "diff", "nano", str(tmp_path / "other.yaml")])
    assert done.exit_code == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row for row in rows if len(row) == 4] == [
        ["name", "nano", "other", "no"],
        ["seed", "1", "2", "yes"],
        ["model.width", "64", "128", "yes"],
    ]


def test_a_difference_as_json_has_typed_values() -> None:
    done = CliRunner().invoke(app, ["recipe", "diff", "nano", "mini", "--json"])
    found = {key["key"]: key for key in json.loads(done.stdout)}
    assert found["model.layers"] == {"key": "model.layers", "old": 2, "new": 4, "decides": True, "through": None}
    assert found["tokenizer.train.vocab_size"]["through"] == "the tokenizer's hash"


def test_equal_recipes_are_reported_as_such() -> None:
    assert CliRunner().invoke(app, ["recipe", "diff", "nano", "nano"]).stdout == (
        "the recipes are equal, defaults included\n"
    )
