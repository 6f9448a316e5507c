"""One resolver opens every kind of model, and names what to give instead where a path is not one model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.command import run
from tests.train.test_import_start import foreign_folder, with_tokenizer
from tinyllama.errors import ModelError
from tinyllama.formats.model_source import CheckpointModel, GgufModel, HuggingFaceModel
from tinyllama.formats.open import open_model


@pytest.fixture
def foreign(tmp_path: Path, prepared: Path) -> Path:
    return with_tokenizer(foreign_folder(tmp_path / "foreign"), prepared)


@pytest.fixture
def family(trained: Path, tmp_path: Path) -> Path:
    """A folder of its own with a family whose base alone is trained."""
    return Path(shutil.copytree(trained, tmp_path / "family", ignore=shutil.ignore_patterns("v1.1", "math_code")))


def test_a_trained_models_folder_is_its_newest_checkpoint(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_folder = open_model(family / "base")
    assert isinstance(by_folder, CheckpointModel)
    identity = by_folder.identity()
    assert (identity.kind, identity.recipe, identity.model) == ("checkpoint", "nano", "base")
    assert identity.tokens == by_folder.checkpoint.state.tokens
    by_step = open_model(by_folder.path)
    assert (by_step.name, by_step.identity()) == (by_folder.name, identity)
    assert by_folder.name == f"family/base/step-{by_folder.checkpoint.step}"
    monkeypatch.chdir(family / "base")
    assert open_model(".").name == by_folder.name
    monkeypatch.chdir(family)
    assert open_model("base").name == by_folder.name


def test_weights_read_one_by_one_are_those_of_the_loaded_model(family: Path, foreign: Path) -> None:
    for name in (family / "base", foreign):
        model = open_model(name)
        loaded = model.load().state_dict()
        assert all(torch.equal(model.weights[key], loaded[key]) for key in model.weights)
        assert model.has_tokenizer


def test_a_folder_with_one_gguf_file_is_that_file(foreign: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra gguf")
    from tinyllama.export import convert_to_gguf

    convert_to_gguf(open_model(foreign), tmp_path / "gguf", "F32")
    model = open_model(tmp_path / "gguf")
    assert isinstance(model, GgufModel)
    assert model.path == tmp_path / "gguf/foreign-F32.gguf"
    assert model.shape == open_model(foreign).shape
    assert model.tokenizer() is model.tokenizer()
    shutil.copyfile(model.path, tmp_path / "gguf/second.gguf")
    with pytest.raises(ModelError, match=r"holds 2 GGUF files; name one: .*foreign-F32\.gguf, .*second\.gguf"):
        open_model(tmp_path / "gguf")


def test_a_folder_with_a_config_is_read_as_a_hugging_face_folder(foreign: Path) -> None:
    (foreign / "model.gguf").write_bytes(b"GGUF and more")
    assert isinstance(open_model(foreign), HuggingFaceModel)


def test_a_familys_folder_is_refused_with_the_models_to_name(family: Path) -> None:
    with pytest.raises(ModelError, match=rf"{family} is a family of 4 models; name one: {family}/base$"):
        open_model(family)


def test_a_recipe_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"nano is a recipe of 4 models; train it \(`tinyllama train nano`\), then"):
        open_model("nano")


@pytest.mark.parametrize("name", ["nowhere", "nowhere/step-3", "corpora"])
def test_what_is_no_model_is_refused_with_all_that_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "corpora").mkdir()
    with pytest.raises(ModelError, match=f"{name}: no model is here; give a Hugging Face folder"):
        open_model(tmp_path / name)


def test_a_checkpoint_without_its_family_is_refused(family: Path, tmp_path: Path) -> None:
    checkpoint = open_model(family / "base").path
    shutil.copytree(checkpoint, tmp_path / "away/base/checkpoints" / checkpoint.name)
    with pytest.raises(ModelError, match="the checkpoint is not inside its family's folder"):
        open_model(tmp_path / "away/base/checkpoints" / checkpoint.name)


def test_one_model_of_a_family_is_exported_as_gguf(family: Path) -> None:
    pytest.importorskip("gguf", reason="the extra gguf")
    done = run("export", "family/base", "--format", "gguf", cwd=family.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["family/exports/base-F16-gguf"]
    assert (family / "exports/base-F16-gguf/nano-base-F16.gguf").is_file()


def test_a_family_is_named_where_a_model_is_needed(family: Path) -> None:
    done = run("generate", "family", "the", cwd=family.parent)
    assert done.returncode == 2
    assert "family is a family of 4 models; name one: family/base" in done.stderr
