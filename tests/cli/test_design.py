import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tinyllama.cli.commands import app
from tinyllama.errors import PlanError, UserError
from tinyllama.recipe import load_recipe


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_size_marks_one_row_and_says_what_the_loss_is_of() -> None:
    shown = run("size", "--hours", "12", "--hardware", "rtx4090")
    assert shown.count("→") == 1
    assert "1 x rtx4090-24g, predicted" in shown
    assert "Hoffmann et al. 2022" in shown


def test_size_as_json_has_every_shape() -> None:
    found = json.loads(run("size", "--tokens", "5B", "--hardware", "h100", "--gpus", "8", "--json"))
    assert found["machine"] == "8 x h100-80g, predicted"
    (best,) = [size for size in found["sizes"] if size["is_recommended"]]
    assert best["tokens"] == 5_000_000_000
    assert best["tokens_per_parameter"] == pytest.approx(20, rel=0.5)


def test_new_refuses_before_it_reads_or_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no text is given"):
        run("new", "mine", "--hours", "1")
    with pytest.raises(UserError, match="no budget is given"):
        run("new", "mine", "--text", "here")
    assert list(tmp_path.iterdir()) == []


def test_recipes_prints_a_recipe_to_copy(tmp_path: Path) -> None:
    text = run("recipes", "nano")
    (tmp_path / "copy.yaml").write_text(text)
    assert load_recipe(str(tmp_path / "copy.yaml")) == load_recipe("nano")
    assert text.startswith("# A whole family in seconds")
    assert json.loads(run("recipes", "nano", "--json"))["text"] == text


def test_the_plan_of_a_ladder_shows_rungs_and_what_they_take() -> None:
    shown = run("ladder", "llama-360m", "--plan", "--hardware", "h100", "--gpus", "8")
    assert [name in shown for name in ("rung-1", "rung-4", "rung-5")] == [True, True, False]
    assert "10.0% of those of english" in shown
    assert "hours without measurements" in shown


def test_the_plan_of_a_ladder_as_json_has_every_rung() -> None:
    words = ("--rungs", "3", "--compute", "0.2", "--hardware", "rtx4090", "--json")
    found = json.loads(run("ladder", "llama-360m", "--variant", "code", "--plan", *words))
    assert found["model"] == "code"
    assert found["ladder_flops"] == pytest.approx(0.2 * found["flops"], rel=0.02)
    assert [rung["name"] for rung in found["rungs"]] == ["rung-1", "rung-2", "rung-3"]
    assert all(rung["seconds"] > 0 and len(rung["tokens"]) == 4 for rung in found["rungs"])


def test_ladder_refuses_before_it_reads_or_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--variant v1\.3: nano has no such model; did you mean"):
        run("ladder", "nano", "--variant", "v1.3", "--plan")
    with pytest.raises(UserError, match="cannot use --hardware without --plan"):
        run("ladder", "llama-360m", "--hardware", "h100")
    with pytest.raises(PlanError, match="give more compute"):
        run("ladder", "nano", "--variant", "v1.1", "--compute", "0.0001")
    assert list(tmp_path.iterdir()) == []
