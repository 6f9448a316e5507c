"""Recipes as people write YAML: what they meant works, and what cannot be read is refused with its line."""

import os
import signal
from pathlib import Path

import pytest

from tests.field.conftest import RECIPE, Run, edit

TWICE = [
    ("layers: 1,", "layers: 1, layers: 2,", "model.layers"),
    ("    size: 2K\n", "    size: 2K\n    size: 3K\n", "corpora.prose.size"),
    ("  plain: {prose: 100%}\n", "  plain: {prose: 100%}\n  plain: {prose: 100%}\n", "variants.plain"),
    ("warmup: 128", "warmup: 128, peak: 0.02", "optimizer.learning_rate.peak"),
]


@pytest.mark.parametrize(("old", "new", "key"), TWICE, ids=[case[2] for case in TWICE])
def test_a_key_that_is_written_twice_is_refused_at_every_depth(
    old: str, new: str, key: str, field: Path, tinyllama: Run
) -> None:
    line = edit(field, old, new)
    assert f"field.yaml:{line}: {key}: this key is written twice" in tinyllama("plan", "field.yaml").refused()


@pytest.mark.parametrize("name", ["no", "on", "null", "1", "010", "1e3", "2024-01-01", "yes", "True"])
def test_a_name_that_yaml_reads_as_something_else_is_a_name(name: str, field: Path, tinyllama: Run) -> None:
    edit(field, "  prose:\n", f"  {name}:\n")
    edit(field, "base: {prose:", f"base: {{{name}:")
    edit(field, "train: {vocab_size: 300}", f"train: {{vocab_size: 300, corpora: [{name}]}}")
    edit(field, "plain: {prose:", f"{name}: {{{name}:")
    if name == "null":  # a name as a key; as a value it is none
        edit(field, "[null]", '["null"]')
    assert f'"variant": "{name}"' in tinyllama("plan", "field.yaml", "--variant", name, "--json").succeeded()


@pytest.mark.parametrize("empty", ["hardware:", "logging:", "spikes:", "start:"])
def test_an_empty_section_has_its_defaults(empty: str, field: Path, tinyllama: Run) -> None:
    edit(field, "logging: {tensorboard: false}\nhardware: {micro_batch: 4, threads: 1, compile: false}", empty)
    tinyllama("plan", "field.yaml").succeeded()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("evaluation: {every: 512, rows: 1}", "evaluation: often", "evaluation: must be a section"),
        ("base: {prose: 100%}", "base:", "base: has no value"),
        ("name: field", "name:", "name: has no value"),
        ("rows: 1}", "rows: }", "evaluation.rows: has no value"),
        ("base: {prose: 100%}", "base: &a [*a]", "an alias"),
        ("base: {prose: 100%}", "base: &a {prose: *a}", "an alias"),
        ("description: A few", "description:\tA few", "not with tabs"),
        ("description: A few", "description: A few: more", "quotes"),
        ("description: A few", "description: @few", "quotes"),
        ("description: A few documents", "description: !!python/object:os.system ls", "is not supported"),
        ("description: A few documents", "description: !!binary aGVsbG8=", "is not supported"),
        ("description: A few documents", 'description: "\\ud83d"', "half a character"),
        ("text/*.txt", "text/\\0", "is no path"),
    ],
    ids=lambda text: text[:30],
)
def test_a_fault_is_one_line_with_its_place(old: str, new: str, message: str, field: Path, tinyllama: Run) -> None:
    line = edit(field, old, new)
    (fault,) = tinyllama("plan", "field.yaml").refused().splitlines()
    assert f"field.yaml:{line}: " in fault
    assert message in fault


def test_a_second_document_is_refused(field: Path, tinyllama: Run) -> None:
    line = edit(field, "tokenizer:\n", "---\n")
    told = tinyllama("plan", "field.yaml").refused()
    assert f"field.yaml:{line}: " in told
    assert "a file holds one recipe" in told


def test_two_escapes_of_one_character_are_that_character(field: Path, tinyllama: Run) -> None:
    """As `json.dumps` writes it; JSON is YAML."""
    edit(field, "name: field", 'name: "\\ud83d\\ude00"')
    assert "'😀' is no name" in tinyllama("plan", "field.yaml").refused()


def test_deep_and_repeated_values_are_refused(field: Path, tinyllama: Run) -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 9)]
    for text in ["[" * 10_000, "\n".join(["l0: &l0 [x]", *levels])]:
        (field / "deep.yaml").write_text(text, encoding="utf-8")
        assert "deep.yaml:" in tinyllama("plan", "deep.yaml", seconds=30).refused()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_editors_write_is_read(encoding: str, field: Path, tinyllama: Run) -> None:
    (field / "field.yaml").write_text(RECIPE, encoding=encoding)
    tinyllama("plan", "field.yaml").succeeded()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RECIPE.replace("few", "féw").encode("latin-1"), "field.yaml:2: is not UTF-8 text"),
        (RECIPE.encode() + b"# \0", "field.yaml:25: not valid YAML"),
        (b"\x89PNG\r\n\x1a\n\0\0", "field.yaml:1: is not UTF-8 text"),
        (b"", "field.yaml:1: a recipe is a mapping"),
        (b'{"text": "a document"}\n' * 50_000, "is larger than 1 MiB"),
    ],
    ids=["latin-1", "nul", "image", "empty", "large"],
)
def test_a_file_that_is_no_recipe_is_refused(content: bytes, message: str, field: Path, tinyllama: Run) -> None:
    (field / "field.yaml").write_bytes(content)
    (fault,) = tinyllama("plan", "field.yaml").refused().splitlines()
    assert message in fault


def test_an_extended_recipe_keeps_what_an_empty_section_does_not_change(field: Path, tinyllama: Run) -> None:
    (field / "child.yaml").write_text("extends: field.yaml\nname: child\nmodel:\noptimizer:\n", encoding="utf-8")
    tinyllama("plan", "child.yaml").succeeded()
    (field / "child.yaml").write_text("extends: [field.yaml]\n", encoding="utf-8")
    assert "child.yaml:1: extends: must be" in tinyllama("plan", "child.yaml").refused()
    (field / "child.yaml").write_text("extends: field.yml\n", encoding="utf-8")
    assert "child.yaml:1: extends: field.yml: no such recipe" in tinyllama("plan", "child.yaml").refused()


def test_a_recipe_from_a_pipe_is_read(field: Path, tinyllama: Run) -> None:
    path = field / "pipe"
    os.mkfifo(path)
    if (child := os.fork()) == 0:
        path.write_text(RECIPE, encoding="utf-8")
        os._exit(0)
    try:
        tinyllama("plan", "pipe", seconds=30).succeeded()
    finally:
        os.kill(child, signal.SIGKILL)  # it waits for a reader, if the command was none
        os.waitpid(child, 0)


@pytest.mark.parametrize("value", ["seed=&a [*a]", "seed=!!binary aa==", "model={layers: 1, layers: 2}", "seed=\ta: b"])
def test_an_override_that_is_no_value_is_refused(value: str, field: Path, tinyllama: Run) -> None:
    assert field.exists()
    (fault,) = tinyllama("plan", "field.yaml", "--set", value).refused().splitlines()
    assert "--set" in fault
