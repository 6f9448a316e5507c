import json
import math
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.ladder.library import LAW, made_up
from tinyllama.cli.commands import app
from tinyllama.errors import PlanError, UserError
from tinyllama.ladder import LadderRecord
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


@pytest.mark.parametrize(
    ("card", "other"), [("t4", "a100-80g"), ("h200", "h100-80g"), ("rtx4090", None), ("h100", None)]
)
def test_size_says_whose_speeds_are_assumed_for_lack_of_the_cards_own(card: str, other: str | None) -> None:
    lines = [line for line in run("size", "--hours", "12", "--hardware", card).splitlines() if "for lack of" in line]
    assert lines == ([] if other is None else [f"tokens/s: by published speeds of the {other}, for lack of its own"])


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


def test_new_says_that_a_small_text_gives_fewer_tokens_than_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    modules = sorted((Path(sysconfig.get_path("stdlib")) / "asyncio").glob("*.py"))
    (tmp_path / "few.txt").write_text("".join(module.read_text() for module in modules))
    words = ("--text", "few.txt", "--hardware", "h100", "--tokenizer", "own")
    shown = run("new", "few", *words, "--tokens", "5B")
    assert "The text, not --tokens, decides: it is read 4 times at most" in shown
    assert "of 5,000,000,000 tokens. More text, or --epochs, gives more." in shown
    assert json.loads(run("new", "fitting", *words, "--tokens", "50K", "--json"))["is_bounded_by_text"] is False


@pytest.mark.parametrize(
    ("machines", "first"),
    [
        ([], "--check, then tinyllama reproduce"),
        (["--gpus", "8"], "--check, then torchrun --nproc-per-node 8 -m -- tinyllama train ranks.yaml, then tinyllama"),
        (["--gpus", "16"], "--check, then train on all nodes (docs/scale.md), then tinyllama reproduce"),
    ],
)
def test_new_says_how_several_gpus_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machines: list[str], first: str
) -> None:
    monkeypatch.chdir(tmp_path)
    modules = sorted((Path(sysconfig.get_path("stdlib")) / "asyncio").glob("*.py"))
    (tmp_path / "text.txt").write_text("".join(module.read_text() for module in modules))
    words = ("--text", "text.txt", "--hardware", "h100", "--tokenizer", "own", "--tokens", "50K")
    assert first in run("new", "ranks", *words, *machines)


def test_recipes_prints_a_recipe_to_copy(tmp_path: Path) -> None:
    text = run("recipes", "nano")
    (tmp_path / "copy.yaml").write_text(text)
    assert load_recipe(str(tmp_path / "copy.yaml")) == load_recipe("nano")
    assert text.startswith("# A whole family in half a minute")
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


def test_the_plan_of_a_sweep_shows_peaks_and_what_they_take() -> None:
    shown = run("tune", "tinyllama-v1.1", "--plan", "--hardware", "h100", "--gpus", "8", "--peaks", "3")
    assert [peak in shown for peak in ("peak-0.0002", "peak-0.0004", "peak-0.0008", "peak-0.0016")] == [
        *[True] * 3,
        False,
    ]
    assert "hours without measurements; up to 3 more peaks" in shown


def test_the_plan_of_a_sweep_as_json_has_every_trial() -> None:
    words = ("--seeds", "2", "--length", "0.1", "--hardware", "rtx4090", "--json")
    found = json.loads(run("tune", "llama-360m", "--variant", "code", "--plan", *words))
    assert len(found["trials"]) == 10
    assert found["sweep"]["transfer"] == "compute"  # its embeddings are tied
    assert found["sweep"]["base_width"] is None
    (speed,) = {trial["tokens_per_second"] for trial in found["trials"]}
    assert found["seconds"] == pytest.approx(10 * found["sweep"]["tokens"] / speed)
    assert found["flops"] < 0.06 * found["model_flops"]


def test_the_plan_of_a_sweep_of_rungs_has_the_trials_of_each() -> None:
    words = ("tune", "llama-360m", "--plan", "--rungs", "3", "--peaks", "3", "--hardware", "rtx4090")
    trials = json.loads(run(*words, "--json"))["trials"]
    assert [trial["rung"] for trial in trials] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len({trial["flops"] for trial in trials}) == 3
    shown = run(*words)
    assert all(trial["name"] in shown for trial in trials)
    assert [f"each of rung {number}: " in shown for number in (1, 2, 3, 4)] == [True, True, True, False]


def test_tune_refuses_before_it_reads_or_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlanError, match=r"model\.tied_embeddings: muP scales head and embeddings differently"):
        run("tune", "llama-360m", "--transfer", "mup", "--plan")
    with pytest.raises(PlanError, match=r"--rungs 2: .* write --transfer compute"):
        run("tune", "nano", "--variant", "v1.1", "--rungs", "2")
    with pytest.raises(UserError, match=r"--variant v1\.3: nano has no such model; did you mean"):
        run("tune", "nano", "--variant", "v1.3", "--plan")
    with pytest.raises(UserError, match="cannot use --hardware without --plan"):
        run("tune", "nano", "--hardware", "h100")
    with pytest.raises(PlanError, match="give more compute"):
        run("tune", "nano", "--variant", "v1.1", "--length", "0.0001")
    assert list(tmp_path.iterdir()) == []


def test_sizes_that_do_not_fit_in_memory_have_no_loss_in_json() -> None:
    found = json.loads(run("size", "--hours", "12", "--hardware", "rtx4090", "--json"))["sizes"]
    assert any(size["expected_loss"] is None and size["tokens"] == 0 for size in found)
    assert all(size["expected_loss"] > 0 for size in found if size["tokens"])


def of_ladder(tmp_path: Path, *words: str) -> dict[str, Any]:
    return json.loads(run("size", "--hardware", "rtx4090", "--law", str(tmp_path / "ladder.json"), "--json", *words))


def large_ladder() -> LadderRecord:
    """A ladder of known law, a thousand times larger and longer than nano's."""
    record = made_up()
    assert record.law is not None
    points = [
        point.model_copy(update={"parameters": 1000 * point.parameters, "tokens": 1000 * point.tokens})
        for point in record.points
    ]
    law = record.law.model_copy(update={"smallest": 1000 * record.law.smallest, "fewest": 1000 * record.law.fewest})
    return record.model_copy(update={"points": tuple(points), "law": law})


def test_size_recommends_by_the_law_of_a_ladder_for_its_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "ladder.json").write_text(large_ladder().model_dump_json())
    found = of_ladder(tmp_path, "--tokens", "500M")["sizes"]
    assert {size["shape"]["vocab_size"] for size in found} == {512}
    assert {(size["law"], size["rule"]) for size in found} == {("the ladder of nano", "the ladder of nano")}
    (best,) = [size for size in found if size["is_recommended"]]
    assert LAW.optimal_tokens(1e6) == pytest.approx(55.9e6, rel=1e-3)  # (300 / 60)^(1 / 0.4) a parameter
    misses = [abs(math.log(5e8 / LAW.optimal_tokens(size["parameters"]))) for size in found]
    assert min(misses) == pytest.approx(abs(math.log(5e8 / LAW.optimal_tokens(best["parameters"]))))
    assert best["expected_loss"] == pytest.approx(LAW.loss(best["parameters"], 5e8))
    shown = run("size", "--hardware", "rtx4090", "--tokens", "500M", "--law", str(tmp_path / "ladder.json"))
    assert "by the fit of the ladder of nano" in shown
    assert "models of 19.4M to 58.4M parameters on 15.6M to 63M tokens" in shown
    assert "compute-optimal: the ladder of nano" in shown


def test_size_keeps_the_rule_where_a_ladder_says_too_little(tmp_path: Path) -> None:
    record = large_ladder()
    assert record.law is not None
    unsure = record.law.model_copy(update={"alpha_interval": (0.1, 1.5)})
    (tmp_path / "ladder.json").write_text(record.model_copy(update={"law": unsure}).model_dump_json())
    sizes = of_ladder(tmp_path, "--tokens", "500M")["sizes"]
    assert {size["rule"] for size in sizes} == {"20 tokens per parameter"}
    assert {size["law"] for size in sizes} == {"the ladder of nano"}
    (tmp_path / "ladder.json").write_text(record.model_dump_json())
    far = of_ladder(tmp_path, "--tokens", "50B")["sizes"]
    assert {size["rule"] for size in far} == {"20 tokens per parameter"}


def test_size_refuses_a_law_that_it_cannot_use(tmp_path: Path) -> None:
    path, record = tmp_path / "ladder.json", made_up()
    words = ("size", "--tokens", "2M", "--hardware", "rtx4090", "--law", str(path))
    with pytest.raises(UserError, match=r"ladder\.json: no such file; name the ladder\.json"):
        run(*words)
    path.write_text(record.model_dump_json())
    with pytest.raises(UserError, match=r"--vocab-size 9000: the law of .* is of a tokenizer of"):
        run(*words, "--vocab-size", "9000")
    path.write_text(record.model_copy(update={"law": None}).model_dump_json())
    with pytest.raises(UserError, match=r"the ladder is not finished"):
        run(*words)
