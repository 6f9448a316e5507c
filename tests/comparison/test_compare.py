"""`compare` finds what is there and nothing else: records whose truth is known, and families trained for the test."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.evaluation.conftest import write_llama, write_rows
from tinyllama.cli.commands import app
from tinyllama.comparison.compare import (
    BETTER,
    BITS,
    RIGHT,
    SAME,
    UNTESTED,
    WORSE,
    Comparison,
    Difference,
    change_of,
    compare,
)
from tinyllama.comparison.contenders import Contender, _trained, find_contenders, merged
from tinyllama.comparison.documents import (
    cells,
    changed_summary,
    comparison_markdown,
    comparison_page,
    write_comparison,
)
from tinyllama.errors import EvaluationError
from tinyllama.evaluation.answers import Answer
from tinyllama.evaluation.record import BitsPerByte, EvaluationRecord, TextBits
from tinyllama.evaluation.record_folder import read_record, write_record
from tinyllama.evaluation.scores import TaskScore, TaskScores
from tinyllama.export import convert_to_gguf
from tinyllama.family.evaluate_model import EvaluateRequest, evaluate_model
from tinyllama.formats.identity import ModelIdentity
from tinyllama.formats.open import open_model
from tinyllama.layout import BASE, FamilyLayout
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.report.findings import findings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeFamily

OPTIONS = ("red", "green", "<blue>")


def answered(task: str, question: int, *, right: bool) -> Answer:
    """A question whose right answer is its second option."""
    likely = 1 if right else 2
    return Answer(
        task,
        question,
        [(-1.0 if i == likely else -2.0, False) for i in range(3)],
        {"acc": float(right)},
        [[f"Question {question}:", f" {option}"] for option in OPTIONS],
        1,
        f"{task}-{question}",
    )


def record(
    folder: Path, right: dict[str, list[bool]], bits: dict[str, list[float]], *, shots: int = 0, scale: int = 100
) -> Path:
    """Write the record of a model that gave these right and wrong answers and needs these bits for pieces of texts."""
    answers = {task: [answered(task, i, right=it) for i, it in enumerate(given)] for task, given in right.items()}
    tasks = {
        task: TaskScore("acc", float(np.mean(given)), None, len(given), shots=shots) for task, given in right.items()
    }
    texts = {name: TextBits(scale * len(values), sum(values), values) for name, values in bits.items()}
    source = ModelIdentity("folder", folder.name, adds_bos=True)
    written = EvaluationRecord(folder.name, source, TaskScores(tasks, answers), BitsPerByte.of(texts, 64, "fp32"))
    write_record(folder, written)
    return folder


def scored(comparison: Comparison) -> dict[str, str]:
    """Verdicts by subject, without those on the right answers' bits."""
    return {item.subject: item.verdict for item in comparison.differences if item.measure != RIGHT}


def of(comparison: Comparison, subject: str) -> Difference:
    return next(item for item in comparison.differences if item.subject == subject)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Records of two models: the second is better at one task and one text, worse at one text, else equal."""
    rng = np.random.default_rng(5)
    easy, hard = (rng.random(200) < 0.4).tolist(), (rng.random(200) < 0.3).tolist()
    other = [it if i % 3 else True for i, it in enumerate(easy)]
    swapped = [not it if i in {3, 8} else it for i, it in enumerate(hard)]
    pieces = rng.normal(200, 30, 80)
    return [
        record(tmp_path / "a", {"easy": easy, "hard": hard}, {"x/code": pieces.tolist(), "prose": pieces.tolist()}),
        record(
            tmp_path / "b",
            {"easy": other, "hard": swapped},
            {"y/code": (pieces * 0.6 + rng.normal(0, 5, 80)).tolist(), "prose": (pieces * 1.03).tolist()},
        ),
    ]


def test_what_differs_is_found_and_the_rest_is_no_difference(two: list[Path]) -> None:
    found = compare(two)
    assert scored(found) == {"easy": BETTER, "hard": SAME, "average": BETTER, "code": BETTER, "prose": WORSE}
    assert found.findings == {str(two[1]): f"40% fewer bits than {two[0]} on code; 3.0% more on prose"}
    backwards = compare(two[::-1])
    assert scored(backwards) == {"easy": WORSE, "hard": SAME, "average": WORSE, "code": WORSE, "prose": BETTER}
    assert of(backwards, "easy").after - of(backwards, "easy").before == pytest.approx(
        of(found, "easy").before - of(found, "easy").after
    )


def test_a_metric_whose_lower_values_are_better_is_judged_by_that(tmp_path: Path) -> None:
    folders = []
    for name, factor in (("a", 1.0), ("b", 1.5)):
        answers = [Answer("wikitext", i, [(-1.0, False)], {"word_perplexity": factor * i}) for i in range(20, 60)]
        score = TaskScore("word_perplexity", 40 * factor, None, 40, higher_is_better=False)
        scores = TaskScores({"wikitext": score}, {"wikitext": answers})
        write_record(tmp_path / name, EvaluationRecord(name, ModelIdentity("folder", name, adds_bos=True), scores))
        folders.append(tmp_path / name)
    found = of(compare(folders), "wikitext")
    assert (found.verdict, cells(found)[3]) == (WORSE, "39.500")
    assert changed_summary(found) == "40 questions changed: 0 for the better, 40 for the worse"


def test_a_family_of_branches_stands_for_its_trained_models(tmp_path: Path) -> None:
    layout = FamilyLayout(tmp_path)
    layout.recipe.write_text(dump_recipe(load_recipe("wsd-trunk")), encoding="utf-8")
    for model in ("base", "chinese", "early"):
        layout.checkpoints(model).mkdir(parents=True)
    assert _trained(layout) == ["early", "base", "chinese"]


def test_the_bits_of_the_right_answer_are_compared_too(two: list[Path]) -> None:
    found = [item for item in compare(two).differences if item.measure == RIGHT]
    assert [(item.subject, item.verdict) for item in found] == [("easy", BETTER), ("hard", SAME)]
    assert found[0].after < found[0].before


def test_the_questions_that_changed_are_listed_with_both_choices(two: list[Path]) -> None:
    hard = of(compare(two), "hard")
    assert [change.question for change in hard.changes] == [3, 8]
    lost = next(change for change in hard.changes if change.after < change.before)
    assert (lost.asked, lost.right, lost.first, lost.second) == (
        f"Question {lost.question}:",
        "green",
        "green",
        "<blue>",
    )


def test_a_sure_change_of_bits_that_another_seed_would_make_is_no_difference(tmp_path: Path) -> None:
    pieces = np.random.default_rng(2).normal(200, 30, 80)
    models = [record(tmp_path / str(i), {}, {"prose": (pieces * (1 + i / 200)).tolist()}) for i in range(2)]
    found = of(compare(models), "prose")
    assert found.test is not None
    assert found.test.p < 0.001
    assert found.verdict == SAME


def test_p_values_are_corrected_for_all_models_and_tasks(tmp_path: Path) -> None:
    models = [record(tmp_path / "0", {"t": [False] * 60}, {})]
    models += [record(tmp_path / str(n), {"t": [i < n for i in range(60)]}, {}) for n in (7, 1, 2)]
    alone, among = compare(models[:2]).differences[0], compare(models).differences[0]
    assert alone.test is not None
    assert among.test == alone.test
    assert alone.corrected_p == pytest.approx(2 * alone.test.p)  # the score and the right answer's bits
    assert among.corrected_p == pytest.approx(6 * alone.test.p)


def test_only_questions_about_the_same_row_and_scores_of_one_kind_are_compared(tmp_path: Path) -> None:
    one = record(tmp_path / "one", {"t": [True] * 9, "few": [True] * 5}, {"prose": [1.0] * 4})
    other = record(tmp_path / "other", {"t": [True] * 6}, {"prose": [1.0] * 5})
    assert of(compare([one, other]), "t").units == 6
    assert {(gap.subject, gap.reason) for gap in compare([one, other]).gaps} == {
        ("few", f"{other} was not scored on it"),
        ("prose", "is another text: of 400 and 500 bytes"),
    }
    lines = (other / "questions.jsonl").read_text().replace('"t-0"', '"changed"')
    (other / "questions.jsonl").write_text(lines)
    assert of(compare([one, other]), "t").units == 5
    shots = record(tmp_path / "shots", {"t": [True] * 9}, {}, shots=5)
    assert ("t", "the two scores have different shots: 0 and 5") in {
        (gap.subject, gap.reason) for gap in compare([one, shots]).gaps
    }


def test_a_record_without_pieces_or_answers_is_shown_and_what_to_run_is_named(two: list[Path]) -> None:
    path = two[1] / "record.json"
    fields = json.loads(path.read_text())
    del fields["bits_per_byte"]["texts"]  # as earlier versions wrote it
    path.write_text(json.dumps(fields))
    (two[1] / "questions.jsonl").unlink()
    found = compare(two)
    assert scored(found) == {"code": UNTESTED, "prose": UNTESTED}
    assert of(found, "code").after == pytest.approx(1.2, rel=0.05)
    assert {gap.subject for gap in found.gaps} == {"easy", "hard"}
    assert found.commands == ["tinyllama evaluate b --tasks easy,hard"]


def test_of_two_records_of_a_text_the_one_with_pieces_counts(tmp_path: Path) -> None:
    new = read_record(record(tmp_path / "new", {}, {"runs/x/prose": [1.0, 2.0]}))
    assert new is not None
    assert new.bits_per_byte is not None
    old = replace(new, bits_per_byte=replace(new.bits_per_byte, values={"prose": 9.0}, texts={}))
    for records in ((new, old), (old, new)):
        found = merged(Contender("a", "a"), [(it, tmp_path) for it in records])
        assert (found.bits, found.texts) == ({"prose": 3 / 200}, {"prose": TextBits(200, 3.0, [1.0, 2.0])})


def test_a_change_is_exactly_the_same_in_both_directions() -> None:
    rng = np.random.default_rng(1)
    assert all(change_of(x, y) == change_of(y, x) for x, y in rng.uniform(1, 9, (300, 2)).tolist())


def test_a_comparison_is_written_as_markdown_json_and_a_page_and_nothing_of_others_is_overwritten(
    two: list[Path], tmp_path: Path
) -> None:
    found = compare(two)
    out = tmp_path / "out"
    for _ in range(2):
        write_comparison(out, found)
    assert {path.name for path in out.iterdir()} == {"comparison.html", "comparison.json", "comparison.md"}
    written = json.loads((out / "comparison.json").read_text())
    assert [item["verdict"] for item in written["differences"]] == [item.verdict for item in found.differences]
    assert "| hard | acc | 200 |" in comparison_markdown(found)
    page = comparison_page(found)
    assert "“&lt;blue&gt;”" in page
    assert "<blue>" not in page
    assert f"40% fewer bits than {two[0]} on code" in page
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/comparison.md").write_text("my own")
    with pytest.raises(EvaluationError, match="did not write this"):
        write_comparison(tmp_path / "mine", found)


def test_a_family_stands_for_its_models_and_another_seed_of_it_is_no_difference(make_family: MakeFamily) -> None:
    pieces = "evaluation.tasks=[]"
    families = [make_family(name, pieces, f"seed={seed}") for name, seed in (("one", 1), ("two", 2))]
    for family, variants in zip(families, (["v1.1", "math_code"], ["v1.1"]), strict=True):
        family.train(*variants)
        with pytest.raises(EvaluationError, match=r"no evaluation record .* run `tinyllama evaluate .*/v1.1 "):
            compare([family.folder])
        family.evaluate()
    found = compare([families[0].folder])
    assert found.models == ["v1.1", "base", "math_code"]
    bits = {item.subject: item.after / item.before for item in found.differences if item.second == "math_code"}
    learned = next(item for item in found.differences if (item.second, item.subject) == ("math_code", "arithmetic"))
    assert learned.verdict == BETTER
    assert "on arithmetic" in found.findings["math_code"]
    matrix = {model: record.bits_by_text for model, record in families[0].evaluate().items()}
    of_report = findings(matrix, "v1.1", families[0].recipe.corpora_of(BASE))
    assert found.findings["math_code"] == of_report["math_code"]
    assert set(bits) == set(families[0].recipe.corpora)
    seeds = compare([family.folder / "v1.1" for family in families])
    assert set(scored(seeds).values()) == {SAME}
    assert all(item.measure == BITS for item in seeds.differences)
    one, other = (family.folder / "v1.1" for family in families)
    learner = families[0].folder / "math_code"
    among = [item for item in compare([one, other, learner]).differences if item.second == str(learner)]
    assert next(item.verdict for item in among if item.subject == "arithmetic") == BETTER


def test_a_gguf_file_is_compared_by_its_bf16_record_until_it_has_one_in_fp32(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra gguf")
    for name in ("model", "rows"):
        (tmp_path / name).mkdir()
    model, data = write_llama(tmp_path / "model"), write_rows(tmp_path / "rows", 12)
    convert_to_gguf(open_model(model), tmp_path / "gguf", "F32")
    (file,) = (tmp_path / "gguf").glob("*.gguf")
    asked = EvaluateRequest(tasks=["boolq", "piqa"], data=data, out=tmp_path / "records", device="cpu")
    models = [str(model), str(file)]
    evaluate_model(models[0], asked)
    evaluate_model(models[1], replace(asked, dtype="bf16"))
    assert [it.precision for it in find_contenders(models, asked.out)] == ["fp32", "bf16"]
    rounded = compare(models, out=asked.out)
    assert scored(rounded) == {"boolq": SAME, "piqa": SAME, "average": SAME}
    assert any(item.before != item.after for item in rounded.differences if item.measure == RIGHT)
    evaluate_model(models[1], asked)
    assert [it.precision for it in find_contenders(models, asked.out)] == ["fp32", "fp32"]
    exact = compare(models, out=asked.out)
    assert (exact.models, exact.gaps) == (models, [])
    assert [item.changes for item in exact.differences] == [[]] * 5
    assert all(item.after == pytest.approx(item.before, rel=1e-5) for item in exact.differences)


def test_one_model_alone_is_refused(two: list[Path]) -> None:
    with pytest.raises(EvaluationError, match="is one model alone"):
        compare(two[:1])


def test_the_command_prints_the_verdicts(two: list[Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", *map(str, two), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "hard: 2 questions changed: " in done.output
    assert "no difference" in done.output
    as_json = CliRunner().invoke(app, ["compare", *map(str, two), "--json"])
    assert json.loads(as_json.stdout)["models"] == [str(path) for path in two]
