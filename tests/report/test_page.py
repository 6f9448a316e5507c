from __future__ import annotations

import json
import math
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.report.conftest import BITS, NASTY, write
from tinyllama.errors import ModelError, UserError
from tinyllama.evaluation.published import PUBLISHED
from tinyllama.evaluation.record import EvaluationRecord
from tinyllama.evaluation.record_folder import write_record
from tinyllama.evaluation.scores import TaskScore, TaskScores
from tinyllama.family.background import found_lines
from tinyllama.formats.identity import ModelIdentity
from tinyllama.plan import share_at
from tinyllama.recipe import load_recipe
from tinyllama.report import write_report
from tinyllama.report.figures import held_out_figures
from tinyllama.report.run_data import read_run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeFamily
    from tinyllama.recipe import Recipe

MODELS = ["base", "v1.1", "math_code", "chinese"]
SECTIONS = ["family", "learnt", "curves", "shares", "tasks", "samples", "machine"]
Attributes = dict[str, str | None]


class Page(HTMLParser):
    """Elements with their attributes, and every table as rows of texts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, Attributes]] = [("", {})]
        self.tables: dict[str, list[list[str]]] = {}
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.rows = self.tables.setdefault(dict(attrs).get("class") or "", [])
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.rows = []

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data + " "
        if self.elements[-1][0] not in {"script", "style"}:
            self.text += data

    def find(self, tag: str) -> list[Attributes]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def figures(self) -> dict[str, Any]:
        found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', self.html, re.DOTALL)
        assert found
        return {figure["id"]: figure for figure in json.loads(found[1])}


@pytest.fixture
def page(run: Path, recipe: Recipe) -> Page:
    return Page(write_report(run, recipe))


def test_every_section_is_there_and_in_the_navigation(page: Page) -> None:
    assert [section["id"] for section in page.find("section")] == SECTIONS
    assert [link["href"] for link in page.find("a")][1 : 1 + len(SECTIONS)] == [f"#{name}" for name in SECTIONS]
    assert "Not shown" not in page.text


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    for _, attributes in page.elements:
        assert not {"src", "srcset", "action", "data", "xlink:href"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert not {"link", "iframe", "img", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    (style,) = re.findall(r"<style>(.*?)</style>", page.html, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    policies = [meta["content"] for meta in page.find("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
    ]


def test_the_headline_tells_size_tokens_and_time(page: Page, recipe: Recipe) -> None:
    assert f"<h1>{recipe.name}</h1>" in page.html
    for number in ("4</dd><dt>models", "60K</dd><dt>shared tokens", "60K</dd><dt>additional tokens per variant"):
        assert number in page.html
    assert "12 min 39 s</dd><dt>on 2 CPU cores" in page.html


def test_the_matrix_shows_the_numbers_of_the_summary_and_the_differences_to_the_first_variant(page: Page) -> None:
    head, *rows = page.tables["heat"]
    assert [cell.strip() for cell in head[1:]] == list(BITS["base"])
    for row, model in zip(rows, MODELS, strict=True):
        assert row[0].strip() == model
        for cell, corpus in zip(row[1:], BITS[model], strict=True):
            value, difference = cell.split()
            assert value == f"{BITS[model][corpus]:.3f}"
            expected = 100 * (BITS[model][corpus] / BITS["v1.1"][corpus] - 1)
            if model == "v1.1":
                assert difference == "reference"
            else:
                assert float(difference.replace("\N{MINUS SIGN}", "-").rstrip("%")) == pytest.approx(expected, abs=0.51)


@pytest.fixture
def flagship(run: Path, recipe: Recipe) -> Page:
    """The page of a family of the published models' shape."""
    return Page(write_report(run, recipe.model_copy(update={"model": load_recipe("tinyllama-v1.1").model})))


def test_bits_by_source_are_shown_where_a_corpus_has_several(run: Path, recipe: Recipe) -> None:
    assert "by source" not in Page(write_report(run, recipe)).text
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    by_source = {model: {"prose": {"a/*.txt": 1.2345, "<b>": 2.5}} for model in ("base", "v1.1")}
    write(run / "summary.json", json.dumps(summary | {"bits_per_byte_by_source": by_source}))
    head, *rows = Page(write_report(run, recipe)).tables["tasks sources"]
    assert [cell.strip() for cell in head] == ["", "base", "v1.1"]
    assert [[cell.split() for cell in row] for row in rows] == [
        [["a/*.txt", "prose"], ["1.234"], ["1.234"]],
        [["<b>", "prose"], ["2.500"], ["2.500"]],
    ]


def test_published_scores_stand_only_beside_models_of_their_shape(page: Page, flagship: Page) -> None:
    assert "Pythia-1.0B" in flagship.text
    assert "Pythia-1.0B" not in page.text


def test_our_scores_stand_above_the_published_ones_in_percent(flagship: Page) -> None:
    page = flagship
    rows = {row[0].strip(): [cell.split() for cell in row[1:]] for row in page.tables["tasks"]}
    assert rows["math_code"][0] == ["120K"]
    assert rows["math_code"][1] == ["28.12", "±5.5"]
    assert rows["math_code"][8] == ["28.12"]
    for published in PUBLISHED:
        cells = rows[published.model]
        assert [float(cell[0]) for cell in cells[1:]] == [*published.scores, published.average]


def test_a_missing_score_is_a_dash_with_its_reason_as_footnote(page: Page) -> None:
    rows = {row[0].strip(): [cell.split() for cell in row[1:]] for row in page.tables["tasks"]}
    assert rows["chinese"][6] == ["—", "1"]
    assert rows["chinese"][8] == ["—", "2"]
    assert f'id="task-note-1">data/eval/boolq_validation.jsonl is not there {NASTY}' not in page.html
    assert f"data/eval/boolq_validation.jsonl is not there {NASTY}" in page.text


def test_tasks_that_no_model_has_a_score_for_are_one_line(run: Path, recipe: Recipe) -> None:
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    summary["tasks"] = {
        model: {name: {"reason": "no hub answers"} for name in tasks} | {"average": None}
        for model, tasks in summary["tasks"].items()
    }
    write(run / "summary.json", json.dumps(summary))
    page = Page(write_report(run, recipe))
    assert "tasks" not in page.tables
    assert "No score for hellaswag, openbookqa, winogrande, arc_challenge, arc_easy, boolq and piqa: " in page.text
    assert page.text.count("no hub answers") == 1


def test_a_score_of_cut_prompts_has_a_footnote(run: Path, recipe: Recipe) -> None:
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    summary["tasks"]["base"]["boolq"]["cut"] = 3
    (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    page = Page(write_report(run, recipe))
    assert "the prompts of 3 of 64 questions were cut at the model's context" in page.text


def test_tasks_beyond_the_commonsense_ones_are_shown_too(run: Path, recipe: Recipe) -> None:
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    exam = {"metric": "acc", "score": 0.26, "stderr": 0.01, "questions": 1346, "shots": 0}
    sums = {"metric": "exact_match", "score": 0.5, "stderr": None, "questions": 1319, "shots": 5}
    only = {
        "base": {"ceval": exam, "gsm8k": sums},
        "v1.1": {"ceval": exam | {"score": 0.3}, "gsm8k": {"reason": "no file"}},
    }
    write(run / "summary.json", json.dumps(summary | {"tasks": only}))
    page = Page(write_report(run, recipe))
    (header, exams, math) = page.tables["tasks"]
    assert [cell.split()[0] for cell in header if cell.strip()] == ["base", "v1.1"]
    assert exams[0].split() == ["ceval", "acc,", "zero-shot,", "1,346", "questions"]
    assert [cell.split() for cell in exams[1:]] == [["26.00", "±1.0"], ["30.00", "±1.0"]]
    assert math[0].split()[:4] == ["gsm8k", "exact_match,", "5", "examples,"]
    assert [cell.split() for cell in math[1:]] == [["50.00"], ["—", "1"]]
    assert "TinyLlama-1.1B v1.1" not in page.text, "no published scores beside tasks that were not published"


def test_a_score_that_is_no_share_is_shown_as_it_is(run: Path) -> None:
    recipe = load_recipe("nano", ["evaluation.tasks=[boolq,wikitext]"])
    perplexity = TaskScore("word_perplexity", 39.5, 1.25, 62, higher_is_better=False)
    boolq = TaskScore("acc", 0.625, 0.055, 64, chance=0.5, right_bits=1.5)
    scores = TaskScores({"boolq": boolq, "wikitext": perplexity})
    for tokens in (9000, 30000):
        source = ModelIdentity("checkpoint", "x", adds_bos=True, tokens=tokens)
        write_record(run / f"evaluation/base/by_tokens/{tokens}", EvaluationRecord("base", source, scores))
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    write(run / "summary.json", json.dumps(summary | {"tasks": {"base": scores.to_json()}}))
    assert list(found_lines("base", run / "evaluation/base/by_tokens/9000")) == [
        "  base at 9K: boolq 62.50%, wikitext word_perplexity 39.500"
    ]
    page = Page(write_report(run, recipe))
    assert page.tables["tasks"][-1][1].split() == ["39.500", "±1.250"]
    figures = {name: figure["data"] for name, figure in page.figures.items() if name.endswith("-by-tokens")}
    assert list(figures) == ["score-boolq-by-tokens", "score-wikitext-by-tokens", "right-bits-by-tokens"]
    shares, whole, bits = figures.values()
    assert [trace["y"] for trace in shares] == [[62.5, 62.5], [50, 50]]
    assert [trace["y"] for trace in whole] == [[39.5, 39.5]]
    assert [trace["y"] for trace in bits] == [[1.5, 1.5]]


def test_measures_that_move_early_and_cores_mean_are_shown(run: Path, recipe: Recipe) -> None:
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    early = {"metric": "acc", "stderr": None, "questions": 64, "right_bits": 1.5, "margin": -0.25}
    tasks = {"piqa": early | {"score": 0.75, "chance": 0.5}, "arc_easy": early | {"score": 0.25, "chance": 0.25}}
    write(run / "summary.json", json.dumps(summary | {"tasks": {"base": tasks}}))
    page = Page(write_report(run, recipe))
    assert "one standard error. A guess scores about 25 on ARC-e; 50 on PIQA." in page.text
    (_, row) = page.tables["tasks measures"]
    assert [cell.strip() for cell in row] == ["base", "1.500", "-0.250", "0.250 (2 tasks)"]


def test_held_out_losses_are_shown_in_bits_per_byte_where_the_corpora_are_there(
    run: Path, recipe: Recipe, make_family: MakeFamily
) -> None:
    family = make_family()
    before = read_run(run, recipe)
    losses = before.histories["base"].held_out[-1][1]
    (run / "corpora").symlink_to(family.layout.corpora)
    after = dict(held_out_figures(read_run(run, recipe)))
    for corpus, figure in held_out_figures(before):
        assert figure.lines[0].y[-1] == losses[corpus]
        held_out = family.prepare().corpora[corpus].manifest.splits["held_out"]
        expected = losses[corpus] / math.log(2) * held_out.tokens / held_out.bytes
        assert after[corpus].lines[0].y[-1] == pytest.approx(expected)
    page = Page(write_report(run, recipe))
    assert "Held-out bits per byte by corpus" in page.text


def test_samples_written_during_training_are_shown_by_tokens(run: Path, recipe: Recipe) -> None:
    for tokens in (9000, 30000):
        samples = {"Once": {"base": f" at {tokens}, {NASTY}"}}
        path = run / f"evaluation/base/by_tokens/{tokens}/samples.json"
        write(path, json.dumps({"inputs": "x", "samples": samples}))
    page = Page(write_report(run, recipe))
    first, last = (page.text.index(f"Once at {tokens}, {NASTY}") for tokens in (9000, 30000))
    assert first < last


def test_the_chance_of_a_guess_is_that_of_the_records(run: Path, recipe: Recipe, page: Page) -> None:
    assert "A guess scores" not in page.text, "these records, of an earlier version, do not say"
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    exam = {"metric": "acc", "score": 0.26, "stderr": None, "questions": 9, "chance": 0.2501}
    tasks = {f"exam_{i}": exam for i in range(12)} | {"gsm8k": exam | {"chance": 0.0}}
    write(run / "summary.json", json.dumps(summary | {"tasks": {"base": tasks, "v1.1": tasks}}))
    (lead,) = re.findall(r"A guess scores [^<]*", write_report(run, recipe).read_text(encoding="utf-8"))
    assert lead == f"A guess scores about 25 on {', '.join(f'exam_{i}' for i in range(8))} and 4 others."


def test_all_text_is_escaped(page: Page) -> None:
    assert NASTY in page.text
    assert "<script>alert(" not in page.html


def test_every_prompt_shows_every_model(page: Page, recipe: Recipe) -> None:
    for prompt in recipe.evaluation.prompts:
        for model in MODELS:
            assert f"{prompt} as {model} continues it:" in page.text


def test_plotly_accepts_every_figure(page: Page, recipe: Recipe) -> None:
    from plotly import graph_objects

    names = [f"{kind}-{corpus}" for kind in ("held-out", "share") for corpus in recipe.corpora]
    assert list(page.figures) == ["training", *names]
    for figure in page.figures.values():
        for note in figure["layout"].get("annotations", []):
            note.pop("share")
        graph_objects.Figure(figure["data"], figure["layout"])


def test_a_variants_curves_go_on_from_the_base(page: Page) -> None:
    for name in ("training", "held-out-prose"):
        traces = {trace["name"]: trace for trace in page.figures[name]["data"] if trace["meta"]}
        assert [name for name in traces if "not smoothed" not in name] == MODELS
        for variant in [trace for trace in traces.values() if trace["meta"]["model"] != "base"]:
            base = traces[variant["name"].replace(variant["meta"]["model"], "base")]
            assert (variant["x"][0], variant["y"][0]) == (base["x"][-1], base["y"][-1])
            assert variant["x"] == sorted(variant["x"])


def test_planned_shares_are_the_plans_and_realised_ones_follow_them(page: Page, recipe: Recipe) -> None:
    for corpus in recipe.corpora:
        traces = page.figures[f"share-{corpus}"]["data"]
        for planned, realized in zip(traces[::2], traces[1::2], strict=True):
            variant = None if planned["name"] == "base" else planned["name"]
            assert planned["y"][-1] == pytest.approx(share_at(recipe, variant, planned["x"][-1])[corpus])
            assert realized["y"][-1] == pytest.approx(planned["y"][-1], abs=1 / 16)


def test_the_largest_gap_to_the_plan_is_below_one_sequence(page: Page) -> None:
    _, *rows = page.tables["quota"]
    assert len(rows) == 1 + 1 + 3 + 2
    for row in rows:
        planned, taken, _, gap = (cell.replace(",", "").strip() for cell in row[-4:])
        assert float(gap) < 1
        assert abs(float(planned) - float(taken)) < 2


def test_a_spike_is_told_with_its_rows_which_count_as_taken(run: Path, recipe: Recipe) -> None:
    path = run / "math_code/metrics.jsonl"
    steps = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    at = next(index for index, step in enumerate(steps) if index and step["kind"] == "step")
    rows = [f"{name}:{row}" for name, count in steps[at]["counts"].items() for row in range(count)]
    told = {"step": steps[at]["step"], "stage": steps[at]["stage"], "tokens": steps[at]["tokens"], "rows": rows}
    found = {"loss": 9.5, "grad_norm": 1.0, "threshold": 4.25, "policy": "skip", "skipped": [told["step"]] * 2}
    steps[at] = {"kind": "spike", **told, **found}
    write(path, "".join(json.dumps(step) + "\n" for step in steps))
    page = Page(write_report(run, recipe))
    (_, (model, step, what, policy, named)) = page.tables["spikes"]
    assert (model.strip(), step.strip(), policy.strip()) == ("math_code", str(told["step"]), "skip")
    assert what.strip() == f"loss 9.500 at step {told['step']} is above 4.250: step {told['step']} is skipped"
    assert named.split() == rows
    assert all(float(row[-1]) < 1 for row in page.tables["quota"][1:])


def test_steps_that_overflowed_are_counted_and_their_rows_too_even_before_the_first_loss(
    run: Path, recipe: Recipe
) -> None:
    path = run / "base/metrics.jsonl"
    steps = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for at in [index for index, step in enumerate(steps) if step["kind"] == "step"][:3:2]:
        same = {name: steps[at][name] for name in ("step", "stage", "tokens", "counts")}
        steps[at] = {"kind": "overflow", **same, "scale": 65536.0}
    write(path, "".join(json.dumps(step) + "\n" for step in steps))
    file = write_report(run, recipe)
    assert "2 steps were skipped, since their gradients overflowed in fp16" in file.read_text(encoding="utf-8")
    assert all(float(row[-1]) < 1 for row in Page(file).tables["quota"][1:])


def test_without_spikes_no_table_of_them_is_there(page: Page) -> None:
    assert "spikes" not in page.tables


def test_one_colour_per_model_everywhere(page: Page) -> None:
    for index, model in enumerate(MODELS):
        swatches = re.findall(rf'style="background:var\(--model-(\d)\)"></span>{re.escape(model)}<', page.html)
        assert set(swatches) == {str(index)}
        assert f'<strong style="color:var(--model-{index})">{model}<' in page.html


def test_figures_and_tables_are_described(page: Page) -> None:
    pictures = [attributes for _, attributes in page.elements if attributes.get("role") == "img"]
    assert len(pictures) == 1 + len(page.figures)
    assert all(attributes["aria-label"] for attributes in pictures)
    assert all(head.get("scope") for head in page.find("th"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_what_scrolls_is_reached_by_keyboard_and_has_a_name(page: Page) -> None:
    scrolling = [item for tag, item in page.elements if tag == "pre" or item.get("class") == "scroll"]
    assert len(scrolling) == 5
    for item in scrolling:
        assert (item["tabindex"], item["role"]) == ("0", "region")
        assert item["aria-label"]


def test_a_table_that_hides_columns_has_a_shadow_there_in_light_and_dark(page: Page) -> None:
    (rule,) = re.findall(r"^\.scroll \{([^}]*)\}", page.html, re.MULTILINE)
    assert rule.count("no-repeat local") == rule.count("no-repeat scroll") == 2
    assert rule.count("var(--page)") == rule.count("var(--shade)") == 2
    light, dark = (re.findall(r"--shade: ([^;]+);", block) for block in re.findall(r":root \{[^}]*\}", page.html))
    assert len(light) == len(dark) == 1
    assert light != dark


@pytest.mark.parametrize("theme", [0, 1])
def test_text_and_model_colours_have_sufficient_contrast_in_light_and_dark(page: Page, theme: int) -> None:
    colors = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{[^}]*\}", page.html)
    ]
    for name, color in colors[theme].items():
        if name in {"ink", "soft"} or name.startswith("hue-"):
            assert contrast(color, colors[theme]["page"]) >= 4.5, name
            assert contrast(color, colors[theme]["card"]) >= 4.5, name


def contrast(one: str, other: str) -> float:
    """Ratio of relative luminances, by the Web Content Accessibility Guidelines 2.2."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("file", "reason", "missing"),
    [
        (
            "summary.json",
            "the models have not been evaluated yet; <code>tinyllama report</code> does that",
            ["learnt", "tasks", "machine"],
        ),
        (
            "evaluation/samples.json",
            "no model has continued the recipe's prompts yet; <code>tinyllama report</code> has them do that",
            ["samples"],
        ),
        (
            "chinese/metrics.jsonl",
            "chinese has not been trained here: chinese/metrics.jsonl does not exist",
            ["curves"],
        ),
    ],
)
def test_a_part_without_data_is_left_out_with_one_line_saying_why(
    run: Path, recipe: Recipe, file: str, reason: str, missing: list[str]
) -> None:
    (run / file).unlink()
    page = Page(write_report(run, recipe))
    assert [section["id"] for section in page.find("section")] == SECTIONS
    assert page.html.count(f"Not shown: {reason}.") == len(missing)
    assert "training" in page.figures


def test_a_summary_without_a_part_says_which(run: Path, recipe: Recipe) -> None:
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    write(run / "summary.json", json.dumps(summary | {"tasks": {}, "bits_per_byte": {}}))
    page = Page(write_report(run, recipe))
    assert "Not shown: no model was measured on a task." in page.text
    assert "Not shown: no model was measured on held-out text." in page.text


def test_a_part_that_the_recipe_does_not_ask_for_names_the_key(run: Path) -> None:
    recipe = load_recipe("nano", ["evaluation.tasks=[]", "evaluation.prompts=[]"])
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    write(run / "summary.json", json.dumps(summary | {"tasks": {"base": {"average": None}}}))
    write(run / "evaluation/samples.json", json.dumps({"inputs": "x", "samples": {}}))
    html = write_report(run, recipe).read_text(encoding="utf-8")
    assert "Not shown: the recipe has no tasks (<code>evaluation.tasks</code>)." in html
    assert "Not shown: the recipe has no prompts (<code>evaluation.prompts</code>)." in html


def test_a_damaged_file_is_named(run: Path, recipe: Recipe) -> None:
    write(run / "evaluation/samples.json", "[]")
    write(run / "base/process.json", "{}")
    page = Page(write_report(run, recipe))
    assert "Not shown: evaluation/samples.json: is not a JSON object" in page.text
    assert "Not shown: base/process.json: host: is missing" in page.text


def test_an_empty_folder_gives_a_page_of_reasons_without_any_figure(tmp_path: Path, recipe: Recipe) -> None:
    path = write_report(tmp_path, recipe)
    assert path == tmp_path / "report.html"
    assert path.stat().st_size < 60_000
    assert Page(path).html.count("Not shown: ") >= 6


def test_a_folder_that_is_not_there_is_refused_with_the_command_that_makes_one(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(ModelError, match="tinyllama reproduce nano"):
        write_report(tmp_path / "none", recipe)


def test_without_the_report_extra_the_error_says_what_to_install(
    run: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(UserError, match=r"the report needs an extra: pip install .*\[report\]"):
        write_report(run, recipe)
    assert not (run / "report.html").exists()


def test_long_series_are_thinned_and_the_page_says_so(
    run: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyllama.report.run_data.POINTS", 10)
    page = Page(write_report(run, recipe))
    assert "Each point is the mean of up to 4 steps." in page.text
    assert all(len(trace["x"]) <= 1 + 2 * 20 for trace in page.figures["training"]["data"])
