"""What tinyllama did not write stays as it is, and one result never replaces another."""

import json
import shutil
from pathlib import Path

import pytest

from tests.field.conftest import Run

pytestmark = pytest.mark.field

THEIRS = "theirs, and there is no copy"


def _theirs(folder: Path, *names: str) -> dict[Path, str]:
    """Files of a user; a name that ends with / is a folder with a file."""
    for name in names:
        path = folder / name / "inside.txt" if name.endswith("/") else folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{THEIRS}: {name}", encoding="utf-8")
    paths = [path / "inside.txt" if name.endswith("/") else path for name in names for path in [folder / name]]
    return {path: path.read_text() for path in paths}


def _untouched(files: dict[Path, str]) -> None:
    assert {path: path.read_text() for path in files} == files


def test_a_tokenizer_leaves_files_of_like_names_alone(field: Path, tinyllama: Run) -> None:
    theirs = _theirs(field / "out", "tokenizer.py", "tokenizer_notes.md", "tokenizers/")
    for _ in range(2):  # new, then a tokenizer of the same folder
        tinyllama("tokenizer", "train", "field.yaml", "--out", "out").succeeded()
        _untouched(theirs)
    assert (field / "out/tokenizer.model").is_file()
    tinyllama("tokenizer", "train", "field.yaml", "--out", "out", "--vocab-size", "310").succeeded()
    _untouched(theirs)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "origin.json", "chat_template.jinja"])
def test_a_tokenizer_refuses_a_folder_with_another_tokenizer(field: Path, tinyllama: Run, name: str) -> None:
    theirs = _theirs(field / "out", name)
    assert f"out/{name}: " in tinyllama("tokenizer", "train", "field.yaml", "--out", "out").refused()
    _untouched(theirs)
    assert [path.name for path in (field / "out").iterdir()] == [name]


@pytest.mark.parametrize(
    "name", ["recipe.yaml", "report.html", "tokenizer/", "corpora/", "base/", "plain/", "exports/"]
)
def test_a_family_refuses_a_folder_with_entries_of_others(field: Path, tinyllama: Run, name: str) -> None:
    theirs = _theirs(field / "mine", name, "paper.tex")
    message = tinyllama("train", "field.yaml", "--run", "mine").refused()
    assert f"mine/{name.rstrip('/')}: tinyllama did not write this" in message
    _untouched(theirs)
    assert len(list((field / "mine").iterdir())) == 2


def test_a_family_lives_beside_files_of_other_names(field: Path, tinyllama: Run) -> None:
    theirs = _theirs(field, "paper.tex", "data/")
    tinyllama("prepare", "field.yaml", "--run", ".").succeeded()
    tinyllama("prepare", "field.yaml", "--run", ".").succeeded()
    _untouched(theirs)


def test_a_recipe_beside_its_tokenizer_is_not_overwritten_by_the_run(field: Path, tinyllama: Run) -> None:
    (field / "field.yaml").rename(field / "recipe.yaml")
    theirs = {field / "recipe.yaml": (field / "recipe.yaml").read_text()}
    tinyllama("tokenizer", "train", "recipe.yaml", "--out", "tokenizer").succeeded()
    assert "recipe.yaml: tinyllama did not write this" in tinyllama("train", "recipe.yaml", "--run", ".").refused()
    _untouched(theirs)


def test_a_corpus_replaces_no_folder_of_others(field: Path, tinyllama: Run) -> None:
    tinyllama("prepare", "field.yaml").succeeded()
    corpus = field / "runs/field/corpora/prose"
    shutil.rmtree(corpus)
    theirs = _theirs(corpus, "manifest.json", "notes.txt")
    assert "prose/manifest.json: tinyllama did not write this" in tinyllama("prepare", "field.yaml").refused()
    _untouched(theirs)


def test_notes_beside_a_corpus_survive_another_preparation(field: Path, tinyllama: Run) -> None:
    tinyllama("prepare", "field.yaml").succeeded()
    notes = field / "runs/field/corpora/prose/notes.txt"
    notes.write_text(THEIRS)
    tinyllama("prepare", "field.yaml", "--set", "corpora.prose.cut=100").succeeded()
    assert notes.read_text() == THEIRS


def test_a_plan_table_replaces_only_a_plan_table(field: Path, tinyllama: Run) -> None:
    theirs = _theirs(field, "table.parquet")
    arguments = ("plan", "field.yaml", "--variant", "plain", "--parquet")
    assert "table.parquet: tinyllama did not write this" in tinyllama(*arguments, "table.parquet").refused()
    _untouched(theirs)
    for _ in range(2):
        tinyllama(*arguments, "ours.parquet").succeeded()


def test_a_batch_script_of_others_is_not_overwritten(field: Path, tinyllama: Run) -> None:
    tinyllama("prepare", "field.yaml").succeeded()
    theirs = _theirs(field / "runs/field/slurm", "field.sbatch")
    assert "field.sbatch: tinyllama did not write this" in tinyllama("launch", "field.yaml").refused()
    _untouched(theirs)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, commands: object) -> Path:
    """A folder in which the family has trained, with a GGUF export and an evaluated text."""
    from tests.field.conftest import RECIPE

    folder = tmp_path_factory.mktemp("trained")
    (folder / "text").mkdir()
    for number in range(24):
        lines = (f"The river number {number * 60 + line} runs to the sea of {line % 7}." for line in range(60))
        (folder / f"text/{number:02}.txt").write_text("\n".join(lines), encoding="utf-8")
    (folder / "field.yaml").write_text(RECIPE, encoding="utf-8")
    commands.run("train", "field.yaml", cwd=folder).succeeded()  # type: ignore[attr-defined]
    return folder


@pytest.fixture
def family(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_two_models_of_one_name_have_two_records(family: Path, tinyllama: Run) -> None:
    tinyllama("export", "runs/field/base", "--format", "gguf").succeeded()
    exported = next((family / "runs/field/exports").glob("*-gguf/*.gguf"))
    for folder in ("a", "b"):
        (family / folder).mkdir()
        shutil.copy(exported, family / folder / "model.gguf")
    evaluate = ("--tasks", "arc_easy", "--text", "text/00.txt", "--out", "records")
    for models in (["a/model.gguf", "b/model.gguf"], ["b/model.gguf"]):
        tinyllama("evaluate", *models, *evaluate).succeeded()
        records = [json.loads(path.read_text()) for path in sorted((family / "records").glob("*/record.json"))]
        assert sorted(record["model"] for record in records) == ["a/model.gguf", "b/model.gguf"]


def test_a_record_leaves_files_of_others_alone(family: Path, tinyllama: Run) -> None:
    evaluate = ("evaluate", "runs/field/base", "--tasks", "arc_easy", "--text", "text/00.txt", "--out", "records")
    tinyllama(*evaluate).succeeded()
    (made,) = (family / "records").iterdir()
    shutil.rmtree(made)
    theirs = _theirs(made, "scores.csv")
    assert "scores.csv: tinyllama did not write this" in tinyllama(*evaluate).refused()
    _untouched(theirs)


def test_an_export_keeps_the_files_that_others_put_into_it(family: Path, tinyllama: Run) -> None:
    export = ("export", "runs/field/base", "--format", "gguf", "--precision", "F32")
    tinyllama(*export).succeeded()
    (folder,) = (family / "runs/field/exports").glob("*-gguf")
    theirs = _theirs(folder, "field-base-Q4.gguf", "notes/")
    tinyllama(*export).succeeded()
    _untouched(theirs)


def test_an_edited_card_is_not_overwritten(family: Path, tinyllama: Run) -> None:
    export = ("export", "runs/field/base", "--format", "gguf", "--precision", "F32")
    tinyllama(*export).succeeded()
    (card,) = (family / "runs/field/exports").glob("*-gguf/README.md")
    edited = card.read_text() + "\n## Thanks\n"
    card.write_text(edited)
    assert "README.md: was edited after the export" in tinyllama(*export).refused()
    assert card.read_text() == edited


def test_an_export_replaces_no_model_of_others(family: Path, tinyllama: Run) -> None:
    tinyllama("export", "runs/field/base", "--format", "gguf").succeeded()
    (folder,) = (family / "runs/field/exports").glob("*-gguf")
    shutil.rmtree(folder)
    theirs = _theirs(folder, "Modelfile", "weights.gguf")
    message = tinyllama("export", "runs/field/base", "--format", "gguf").refused()
    assert "exists and is not an earlier export" in message
    _untouched(theirs)


def test_two_steps_of_a_model_have_two_exports(family: Path, tinyllama: Run) -> None:
    steps = sorted((family / "runs/field/base/checkpoints").glob("step-*"))
    variant = sorted((family / "runs/field/plain/checkpoints").glob("step-*"))
    shutil.copytree(variant[-1], steps[-1].with_name(variant[-1].name))
    made = {
        tinyllama("export", f"runs/field/base/checkpoints/{step.name}", "--format", "gguf").succeeded()
        for step in (steps[-1], variant[-1])
    }
    assert len(made) == 2


def test_checkpoints_under_a_url_leave_steps_of_others_alone(field: Path, tinyllama: Run) -> None:
    theirs = _theirs(field / "bucket", "base/step-1/weights.bin", "base/step-3/notes.txt", "plain/step-2/optimizer.pt")
    tinyllama("train", "field.yaml", "--set", f"checkpoints.url=file://{field}/bucket").succeeded()
    _untouched(theirs)


def test_checkpoints_under_a_url_leave_a_recipe_of_others_alone(field: Path, tinyllama: Run) -> None:
    theirs = _theirs(field / "bucket", "base/recipe.yaml")
    message = tinyllama("train", "field.yaml", "--set", f"checkpoints.url=file://{field}/bucket").refused()
    assert "recipe.yaml: tinyllama did not write this" in message
    _untouched(theirs)
