from pathlib import Path

import pytest

from tinyllama.errors import RecipeError
from tinyllama.recipe import dump_recipe, load_recipe, shipped_recipes


def _line(path: Path, text: str) -> int:
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def _edited(folder: Path, old: str, new: str) -> Path:
    text = shipped_recipes()["nano"].read_text()
    assert old in text
    path = folder / "mine.yaml"
    path.write_text(text.replace(old, new))
    return path


def test_every_shipped_recipe_loads_and_survives_a_dump(tmp_path: Path) -> None:
    for name in shipped_recipes():
        recipe = load_recipe(name)
        path = tmp_path / f"{name}.yaml"
        path.write_text(dump_recipe(recipe))
        assert load_recipe(str(path)) == recipe


def test_an_unknown_key_is_refused_with_file_line_key_and_the_nearest_right_one(tmp_path: Path) -> None:
    path = _edited(tmp_path, "  layers: 2", "  layrs: 2")
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path))
    text = str(caught.value)
    assert f"{path}:{_line(path, 'layrs')}: model.layrs: unknown key; did you mean 'layers'?" in text
    assert "model.layers: this key is missing" in text


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("batch: 64 sequences", "batch: 1000", "stages", "write '16 sequences' or 1024"),
        ("minimum: 4e-4", "minimum: 4e-3", "optimizer.learning_rate", "must be below peak"),
        (
            "{prose: 50%, chinese: 50%}",
            "{prose: 50%, chinese: 40%}",
            "variants",
            "variant chinese: shares add up to 90%",
        ),
        ("{prose: 50%, chinese: 50%}", "{prose: 50%, chines: 50%}", "variants", "no corpus is named 'chines'"),
        ("until: 90K", "until: 50K", "stages", "stage domain must end after stage base"),
        ("fork: true, ramp: 10K", "ramp: 10K", "stages.1", "ramp is allowed only on the stage with fork: true, or"),
        ("width: 64", "width: 66", "model", "width 66 must be heads (4) times an even head size"),
        ("share: 5%", "share: 60%", "held_out.share", "at most 50%"),
        ("vocab_size: 512}", "vocab_size: 600}", "tokenizer", "must equal"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(tmp_path: Path, old: str, new: str, key: str, message: str) -> None:
    path = _edited(tmp_path, old, new)
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path))
    assert str(path) in str(caught.value)
    assert key in str(caught.value)
    assert message in str(caught.value)


def test_overrides_reach_nested_keys_and_lists() -> None:
    recipe = load_recipe("nano", ["hardware.micro_batch=4", "stages.2.until=200K", "seed=9"])
    assert recipe.hardware.micro_batch == 4
    assert recipe.stages[2].until == 200_000
    assert recipe.seed == 9
    assert load_recipe("nano", ["variants.v1.1={code: 100%}"]).variants["v1.1"] == {"code": 1}


@pytest.mark.parametrize("override", ["seed", "=3", "stages.7.until=3", "seed.x=1", "seed=[", "sed=1"])
def test_a_bad_override_is_refused_by_name(override: str) -> None:
    with pytest.raises(RecipeError, match=r"--set"):
        load_recipe("nano", [override])


def test_extends_lays_keys_over_one_parent(tmp_path: Path) -> None:
    child = tmp_path / "child.yaml"
    child.write_text("extends: nano\nname: child\nmodel: {layers: 3}\nvariants: {only: {prose: 100%}}\n")
    recipe = load_recipe(str(child))
    assert (recipe.name, recipe.model.layers, recipe.model.width) == ("child", 3, 64)
    assert list(recipe.variants) == ["only"]
    grandchild = tmp_path / "grandchild.yaml"
    grandchild.write_text("extends: child.yaml\n")
    with pytest.raises(RecipeError, match="only one level is supported"):
        load_recipe(str(grandchild))


@pytest.mark.parametrize("text", ["- a list", "a: [", "a: 1\na: 2"])
def test_what_is_no_recipe_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"bad\.yaml:\d"):
        load_recipe(str(path))


def test_a_recipe_that_is_not_there_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'nano'"):
        load_recipe("nanno")
    with pytest.raises(RecipeError, match="no such recipe file"):
        load_recipe(str(tmp_path / "gone.yaml"))
    (tmp_path / "mini-2.5.yaml").touch()
    for name in ("mini-2.5", "mini-2.5.yml"):
        with pytest.raises(RecipeError, match=r"; did you mean .*/mini-2\.5\.yaml\?"):
            load_recipe(str(tmp_path / name))
    with pytest.raises(RecipeError, match="no recipe is named"):
        load_recipe("m" * 253)
