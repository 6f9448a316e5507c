"""Names that would be the same folder, or a folder that a family has already."""

from pathlib import Path

import pytest

from tests.field.conftest import Run, edit

TAKEN = [
    "corpora", "exports", "tokenizer", "recipe.yaml", "seconds.json", "summary.json", "report.html", "evaluation",
    "imported", "slurm", "samples.json", "Exports", "BASE", "base.json", "base-F16-gguf", "plain-Q8_0-gguf",
]  # fmt: skip
IMPOSSIBLE = ["con", "NUL.txt", "com1", "a.", "a/b", '"a\\\\b"', '"a\\n"', "n" * 101]


@pytest.mark.parametrize("name", TAKEN)
def test_a_variant_named_like_what_a_family_holds_is_refused(name: str, field: Path, tinyllama: Run) -> None:
    line = edit(field, "  plain: {prose: 100%}\n", f"  plain: {{prose: 100%}}\n  {name}: {{prose: 100%}}\n")
    (fault,) = tinyllama("plan", "field.yaml").refused().splitlines()
    assert f"field.yaml:{line}: variants.{name}: " in fault
    assert not (field / "runs").exists()


@pytest.mark.parametrize(
    ("old", "name"),
    [("name: field", name) for name in IMPOSSIBLE] + [("  prose:\n", "con"), ("  plain: ", "a."), ("  plain: ", "a/b")],
    ids=range(len(IMPOSSIBLE) + 3),
)
def test_a_name_that_some_file_system_does_not_allow_is_refused(
    old: str, name: str, field: Path, tinyllama: Run
) -> None:
    new = f"name: {name}" if old.startswith("name") else old.replace(old.strip(" :\n"), name)
    line = edit(field, old, new)
    faults = tinyllama("plan", "field.yaml").refused().splitlines()
    assert any(f"field.yaml:{line}: " in fault and "name" in fault for fault in faults)


@pytest.mark.parametrize("section", ["variants", "corpora"])
def test_names_that_differ_only_in_case_are_refused(section: str, field: Path, tinyllama: Run) -> None:
    corpus = '{sources: [{files: "text/*.txt"}], size: 2K, held_out: {share: 20%}, license: x}'
    value = "{prose: 100%}" if section == "variants" else corpus
    line = edit(field, f"{section}:\n", f"{section}:\n  A: {value}\n  a: {value}\n")
    assert f"field.yaml:{line}: {section}.a: differs from A only in case" in tinyllama("plan", "field.yaml").refused()
