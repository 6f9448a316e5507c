"""Training that starts from a foreign model."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.train.runs import assert_same_run, step_records, weights
from tests.train.stopping import stop_at
from tinyllama.checkpoint.format import steps_saved, verify
from tinyllama.checkpoint.store import CheckpointStore
from tinyllama.errors import CheckpointError, ModelError, RecipeError
from tinyllama.evaluation.bits import held_out_losses
from tinyllama.formats.open import open_model
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.train.metrics import HeldOutRecord, read_metrics
from tinyllama.train.precision import DTYPES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeFamily
    from tinyllama.family import Family

STAGES = (
    "stages=[{name: domain, until: 1_004_000, batch: 16 sequences, fork: true, ramp: 2K}]",
    "optimizer.learning_rate.horizon=1_020_000",
)


def foreign_folder(folder: Path, **changes: object) -> Path:
    """A Llama of nano's shape as transformers writes it, without a tokenizer."""
    settings = {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 172,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
    }
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).save_pretrained(folder)
    return folder


def with_tokenizer(folder: Path, prepared: Path) -> Path:
    (folder / "tokenizer.model").write_bytes((prepared / "tokenizer" / "tokenizer.model").read_bytes())
    return folder


def started(make_family: MakeFamily, model: Path, name: str = "family", **start: object) -> Family:
    stated = {"model": str(model), "tokens": 1_000_000, "moments": "fresh", "rewarm": 2000} | start
    return make_family(name, f"start={json.dumps(stated)}", *STAGES)


def started_before_the_fork(make_family: MakeFamily, foreign: Path) -> Family:
    return make_family(
        "family",
        f"start={{model: {foreign}, tokens: 1M}}",
        "stages.0.until=1_006_000",
        "stages.1.until=1_012_000",
        "stages.2.until=1_020_000",
        "optimizer.learning_rate.horizon=1_020_000",
    )


@pytest.fixture
def foreign(tmp_path: Path, prepared: Path) -> Path:
    return with_tokenizer(foreign_folder(tmp_path / "foreign"), prepared)


def test_training_goes_on_from_the_imported_weights(make_family: MakeFamily, foreign: Path) -> None:
    family = started(make_family, foreign)
    checkpoint, result = family.import_start()
    assert result is not None
    assert result.largest_difference <= 1e-5
    imported, theirs = weights(family.folder / "base"), open_model(foreign).load().state_dict()
    assert all(torch.equal(imported[name], theirs[name]) for name in theirs)
    assert checkpoint.state.tokens == 1_000_000

    family.train("base")
    family.train("math_code")
    first = step_records(family.folder / "math_code")[0]
    assert first.tokens == 1_000_000 + 16 * 64
    assert first.lr > 0
    assert steps_saved(family.folder / "base" / "checkpoints") == [0]


def test_the_imported_model_is_measured_before_the_first_step_and_once(make_family: MakeFamily, foreign: Path) -> None:
    family = started(make_family, foreign)
    family.train("base")
    stop_at(family, "v1.1", 2)
    shutil.rmtree(family.folder / "v1.1" / "checkpoints")  # as if it had been killed before the first one
    family.train("v1.1")
    first, *others = [
        record for record in read_metrics(family.layout.metrics("v1.1")) if isinstance(record, HeldOutRecord)
    ]
    assert (first.step, first.tokens) == (0, 1_000_000)
    assert others
    assert all(record.step > 0 for record in others)
    rows, corpora = family.recipe.evaluation.rows, family.prepare().corpora
    model = open_model(foreign).load().to(DTYPES[family.recipe.precision])  # as in training
    assert first.losses == held_out_losses(model, corpora, rows=rows, document_masking=False)


def test_a_family_imports_by_itself_and_gives_the_same_run(make_family: MakeFamily, foreign: Path) -> None:
    one, other = started(make_family, foreign, "one"), started(make_family, foreign, "other")
    one.import_start()
    for family in (one, other):
        family.train("base")
        family.train("v1.1")
    assert_same_run(one.folder / "v1.1", other.folder / "v1.1")


def test_of_several_ranks_the_first_imports_for_all(
    make_family: MakeFamily, foreign: Path, prepared: Path, tmp_path: Path
) -> None:
    from tests.train.processes import train_on

    alone = started(make_family, foreign, "alone")
    folder = tmp_path / "together"
    shutil.copytree(prepared, folder)
    start = {"model": str(foreign), "tokens": 1_000_000, "moments": "fresh", "rewarm": 2000}
    codes = train_on(folder, 2, 2, [f"start={json.dumps(start)}", *STAGES], "v1.1")
    errors = [path.read_text() for path in sorted(tmp_path.glob("together-rank*.err"))]
    assert codes == [0, 0], errors
    assert [text.count("importing") for text in errors] == [1, 0]
    alone.train("base")
    facts = [
        verify(place / "base" / "checkpoints" / "step-0").state.fingerprint_inputs for place in (alone.folder, folder)
    ]
    assert facts[0] == facts[1]
    newest = next(CheckpointStore(folder / "v1.1" / "checkpoints").newest())
    assert not isinstance(newest, CheckpointError)
    assert newest.state.ranks == 2


def test_kept_moments_go_on_where_the_other_run_ended(make_family: MakeFamily, trained: Path) -> None:
    step = steps_saved(trained / "base" / "checkpoints")[-1]
    source = trained / "base" / "checkpoints" / f"step-{step}"
    family = started(make_family, source, "second", moments="kept")
    checkpoint, result = family.import_start()
    assert result is None
    assert checkpoint.state.moment_steps == step
    family.train("base")
    family.train("v1.1")
    newest = next(CheckpointStore(family.folder / "v1.1" / "checkpoints").newest())
    assert not isinstance(newest, CheckpointError)
    assert newest.state.moment_steps == step


def test_a_changed_start_is_refused_by_name(make_family: MakeFamily, foreign: Path) -> None:
    family = started(make_family, foreign)
    family.train("base")
    family.train("v1.1")
    with pytest.raises(CheckpointError, match=r"start\.tokens = 1000000"):
        started(make_family, foreign, tokens=1_000_064).train("v1.1")
    with pytest.raises(CheckpointError, match=r"start\.rewarm = 2000"):
        started(make_family, foreign, rewarm=1000).train("v1.1")
    moved = foreign.rename(foreign.with_name("elsewhere"))
    started(make_family, moved).train("v1.1")


def test_a_base_without_its_model_is_told_what_to_do(make_family: MakeFamily, foreign: Path) -> None:
    from tinyllama.train.trainer import train

    family = started_before_the_fork(make_family, foreign)
    with pytest.raises(CheckpointError, match="tinyllama import"):
        train(family.training_run("base"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 3}, r"write model: \{layers: 3\}"),
        ({"rms_norm_eps": 1e-6}, r"write model: \{norm_eps: 1e-06\}"),
        ({"tie_word_embeddings": True}, r"write model: \{tied_embeddings: True\}"),
        ({"attention_bias": True}, "attention_bias is True"),
    ],
)
def test_a_model_that_does_not_fit_leaves_nothing(
    make_family: MakeFamily, tmp_path: Path, prepared: Path, changes: dict[str, object], message: str
) -> None:
    foreign = with_tokenizer(foreign_folder(tmp_path / "foreign", **changes), prepared)
    family = started(make_family, foreign)
    with pytest.raises(ModelError, match=message):
        family.import_start()
    assert not (family.folder / "base").exists()


def test_all_that_does_not_fit_is_told_at_once(make_family: MakeFamily, tmp_path: Path, tokenizer_bytes: bytes) -> None:
    foreign = foreign_folder(tmp_path / "foreign", num_hidden_layers=3, rms_norm_eps=1e-6)
    (foreign / "tokenizer.model").write_bytes(tokenizer_bytes)
    with pytest.raises(ModelError) as told:
        started(make_family, foreign).import_start()
    assert "model: {layers: 3, norm_eps: 1e-06}" in str(told.value)
    assert "its tokenizer is not the recipe's" in str(told.value)


def test_a_recipe_takes_the_shape_of_the_imported_model(
    make_family: MakeFamily, tmp_path: Path, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        f"extends: nano\nname: mine\nmodel: {{imported: true, context: 32}}\nstart: {{model: {foreign}, tokens: 1M}}\n"
    )
    later = [f"stages.{index}.until={until}" for index, until in enumerate(("1.1M", "1.2M", "1.3M"))]
    imported = load_recipe("mine.yaml", [*later, "optimizer.learning_rate.horizon=1.3M"])
    assert imported.model == load_recipe("nano", ["model.context=32"]).model

    whole = f"start={{model: {foreign}, tokens: 1M}}"
    by_set = make_family("by-set", whole, *STAGES, "model=imported")
    spelled = make_family("spelled", whole, *STAGES)
    assert dump_recipe(by_set.recipe) == dump_recipe(spelled.recipe)
    checkpoint, _ = by_set.import_start()
    assert checkpoint.state.fingerprint == spelled.import_start()[0].state.fingerprint


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("", r"mine\.yaml:3: model: imported uses the shape of start\.model, which is missing; add a start"),
        (
            "start: {model: gone, tokens: 1M}\n",
            r"mine\.yaml:4: start\.model: its shape, .* cannot be read: gone: no",
        ),
    ],
)
def test_a_shape_that_cannot_be_imported_is_told_with_its_line(tmp_path: Path, start: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"extends: nano\nname: mine\nmodel: imported\n{start}")
    with pytest.raises(RecipeError, match=message):
        load_recipe(str(tmp_path / "mine.yaml"))


def test_another_tokenizer_is_refused(make_family: MakeFamily, foreign: Path, tokenizer_bytes: bytes) -> None:
    (foreign / "tokenizer.model").write_bytes(tokenizer_bytes)
    with pytest.raises(ModelError, match=r"its tokenizer is not the recipe's"):
        started(make_family, foreign).import_start()


@pytest.fixture(scope="session")
def tokenizer_bytes() -> bytes:
    from tinyllama.tokenizer.training import train_model

    return train_model(["other words than those of the recipe's corpora, many times over. " * 30], 300)


def test_moments_are_kept_only_of_checkpoints_that_have_them(make_family: MakeFamily, foreign: Path) -> None:
    with pytest.raises(ModelError, match="no optimizer moments"):
        started(make_family, foreign, moments="kept").import_start()


def test_weights_that_are_not_finite_are_named(make_family: MakeFamily, tmp_path: Path, prepared: Path) -> None:
    folder = foreign_folder(tmp_path / "foreign")
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    model.save_pretrained(folder)
    from tinyllama.train.import_start import import_start

    family = started(make_family, with_tokenizer(folder, prepared))
    with pytest.raises(ModelError, match=r"norm\.weight holds values that are not finite"):
        import_start(family.recipe, open_model(folder), family.folder, "x")


def test_a_start_is_not_replaced_once_something_was_trained_from_it(make_family: MakeFamily, foreign: Path) -> None:
    family = started_before_the_fork(make_family, foreign)
    family.train("base")
    with pytest.raises(CheckpointError, match="training has begun"):
        family.import_start()
    assert verify(family.folder / "base" / "checkpoints" / "step-0").step == 0
