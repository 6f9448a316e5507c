import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.design.library import copy_library
from tinyllama.design.compose import Design, Wishes, design
from tinyllama.design.machines import MeasuredMachine, PredictedMachine, trial_recipe
from tinyllama.design.new import Asked, check_recipe, wishes_of, write_recipe
from tinyllama.design.rules import batch_tokens, peak_learning_rate
from tinyllama.design.writing import recipe_text
from tinyllama.errors import PlanError, UserError
from tinyllama.plan import compile_plan, summarize
from tinyllama.recipe import Recipe, load_recipe

MACHINE = MeasuredMachine("this machine", 4e10, None, lambda recipe, _: 2e10 / recipe.model.flops_per_token)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("texts")
    copy_library(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def made(folder: Path) -> Design:
    wishes = Wishes("both", ("text",), {"code": ("code",)}, tokens=600_000, tokenizer="own")
    return design(wishes, MACHINE, folder)


@pytest.fixture(scope="module")
def recipe(made: Design, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return load_recipe(str(write_recipe(made, tmp_path_factory.mktemp("recipe"))))


def test_the_recipe_has_a_variant_for_the_text_and_each_domain(recipe: Recipe) -> None:
    assert list(recipe.variants) == ["general", "code"]
    assert set(recipe.corpora) == {"text", "code"}
    assert recipe.fork_index == 1
    assert recipe.stages[0].until / recipe.stages[1].until == pytest.approx(0.75, abs=0.05)


def test_the_recipe_has_the_optimizer_that_speeds_are_measured_with(recipe: Recipe) -> None:
    assert recipe.optimizer.kind == trial_recipe(recipe.model).optimizer.kind == "muon"


def test_learning_rate_and_batch_follow_from_the_compute(recipe: Recipe, made: Design) -> None:
    rate, flops = recipe.optimizer.learning_rate, made.size.flops
    assert rate.peak == pytest.approx(peak_learning_rate(flops), rel=0.01)
    assert rate.minimum == pytest.approx(rate.peak / 10, rel=0.01)
    assert rate.horizon == recipe.stages[-1].until == made.total
    assert rate.warmup == pytest.approx(made.total / 20, abs=1)
    batch = recipe.batch_sequences(recipe.stages[0]) * recipe.model.context
    assert batch == pytest.approx(batch_tokens(flops), rel=0.4)


def test_copies_are_dropped_where_there_are_some(folder: Path, made: Design, tmp_path: Path) -> None:
    assert "deduplicate" not in recipe_text(made)
    shutil.copytree(folder / "text", tmp_path / "text")
    file = next(path for path in sorted((tmp_path / "text").rglob("*")) if path.is_file())
    shutil.copy(file, file.with_name("again" + file.suffix))
    copies = design(Wishes("copies", ("text",), tokens=600_000, tokenizer="own"), MACHINE, tmp_path)
    settings = load_recipe(str(write_recipe(copies, tmp_path))).corpora["text"].deduplicate
    assert settings is not None
    assert settings.method == "exact"


def test_no_text_is_read_more_than_four_times(recipe: Recipe) -> None:
    for model in recipe.variants:
        for corpus in summarize(compile_plan(recipe, model), recipe).corpora:
            assert corpus.epochs is not None
            assert corpus.epochs < 4.2


def test_every_number_has_its_rule_and_source_in_a_comment(made: Design) -> None:
    written = recipe_text(made)
    comments = " ".join(re.findall(r"# (.*)", written))
    for source in (
        "Hoffmann et al. 2022",
        "Tao et al. 2024",
        "DeepSeek LLM",
        "Muennighoff et al. 2023",
        "SmolLM2-360M",
    ):
        assert source in comments
    assert "bytes per token" in comments
    assert "exact duplicates: 0" in comments
    assert max(map(len, written.splitlines())) <= 120
    sections = ("model", "tokenizer", "corpora", "optimizer", "stages", "evaluation", "checkpoints")
    lines = written.splitlines()
    assert all(lines[lines.index(f"{name}:") - 1].startswith(("#", "")) for name in sections if f"{name}:" in lines)


def test_measurements_in_training_count_for_what_they_take(folder: Path) -> None:
    wishes = Wishes("hours", ("text",), hours=0.2, tokenizer="own", epochs=100_000)
    found = design(wishes, PredictedMachine("h100"), folder)
    assert found.total / found.evaluation_every == pytest.approx(20, rel=0.05)
    assert found.overhead < 0.04 * 720  # 5% is what they may take at most


def test_the_hours_hold_training_and_what_is_around_it(folder: Path) -> None:
    wishes = Wishes("hours", ("text",), {"code": ("code",)}, hours=0.1, tokenizer="own", epochs=1000)
    found = design(wishes, MACHINE, folder)
    assert found.training_seconds is not None
    assert found.training_seconds + found.overhead == pytest.approx(360, rel=0.03)
    recipe = load_recipe(str(write_recipe(found, folder)))
    tokens = sum(recipe.own_tokens(model) for model in recipe.models)
    speed = found.size.tokens_per_second
    assert speed is not None
    assert tokens / speed == pytest.approx(360 - found.overhead, rel=0.03)


def test_a_small_text_decides_instead_of_the_hours_and_the_recipe_says_so(folder: Path) -> None:
    found = design(Wishes("small", ("text",), hours=2, tokenizer="own"), MACHINE, folder)
    assert found.is_bounded_by_text
    assert found.epochs == pytest.approx(4, rel=0.05)
    assert "The text, not the time, decides" in recipe_text(found)


def test_a_small_text_decides_instead_of_the_tokens_and_the_recipe_says_so(folder: Path, made: Design) -> None:
    found = design(Wishes("few", ("text",), tokens=5_000_000_000, tokenizer="own"), MACHINE, folder)
    assert found.is_bounded_by_text
    assert found.epochs == pytest.approx(4, rel=0.05)
    comments = " ".join(line.removeprefix("# ") for line in recipe_text(found).splitlines() if line.startswith("# "))
    assert f"for the {found.total:,} tokens that the text gives (5,000,000,000 tokens were asked for) on" in comments
    assert "The text, not --tokens, decides: it is read 4 times at most (Muennighoff et al. 2023), which" in comments
    assert f"which gives {found.total:,} of 5,000,000,000 tokens. More text, or --epochs, gives more." in comments
    assert not made.is_bounded_by_text
    assert "decides" not in recipe_text(made)


def test_hours_that_hold_no_training_are_refused(folder: Path) -> None:
    with pytest.raises(PlanError, match="give more --hours"):
        design(Wishes("short", ("text",), hours=0.005, tokenizer="own"), MACHINE, folder)


def test_gpus_are_predicted(folder: Path) -> None:
    wishes = Wishes("gpus", ("text",), hours=8, tokenizer="own", epochs=1000)
    found = design(wishes, PredictedMachine("h100", 8), folder)
    assert found.overhead < 0.1 * 8 * 3600  # measurements alone
    assert found.compiles
    assert "8 x h100-80g, predicted" in recipe_text(found)
    check_recipe(recipe_text(found))


ASKED = Asked("mine", ["text"], [], 1.0, None, 4, 1.0, None, None, "text")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a/b"}, "is no name of a family"),
        ({"text": []}, "no text is given"),
        ({"hours": None}, "no budget is given"),
        ({"tokens": 100}, "no budget is given, or two"),
        ({"tokenizer": "bpe"}, "no kind of tokenizer is 'bpe'"),
        ({"shapes": "smolm"}, "no family of shapes is 'smolm'; did you mean 'smollm'"),
        ({"domain": ["code"]}, "is not NAME=TEXT"),
        ({"domain": ["general=src"]}, "general is a name that the recipe uses itself"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused_before_any_text_is_read(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        wishes_of(replace(ASKED, **changes))


def test_texts_of_one_domain_are_put_together() -> None:
    wishes = wishes_of(replace(ASKED, domain=["code=src", "maths=proofs", "code=lib"]))
    assert wishes.domains == {"code": ("src", "lib"), "maths": ("proofs",)}


def test_nothing_is_overwritten(made: Design, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_recipe(made, tmp_path)
    before = path.read_text()
    with pytest.raises(UserError, match="is not overwritten"):
        write_recipe(made, tmp_path)
    with pytest.raises(UserError, match="exists, and is not overwritten"):
        wishes_of(replace(ASKED, name="both"))
    assert path.read_text() == before
