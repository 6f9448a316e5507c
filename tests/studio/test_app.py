"""What the studio answers: families, curves, scores, data and recipes; also where something is missing."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from tests.comparison.test_compare import record
from tests.report.conftest import NASTY, write
from tests.studio.conftest import OWN
from tinyllama.comparison.compare import compare
from tinyllama.comparison.documents import cells
from tinyllama.errors import TinyLlamaError
from tinyllama.fidelity import find_texts, open_runs, rows_of_steps
from tinyllama.layout import FamilyLayout
from tinyllama.monitor.status import FamilyMonitor
from tinyllama.recipe import load_recipe
from tinyllama.report import sections
from tinyllama.report.figures import Figure
from tinyllama.report.page import render
from tinyllama.report.run_data import read_run
from tinyllama.sources.rejected import Quarantine, Rejected
from tinyllama.studio import jobs
from tinyllama.studio.app import Studio
from tinyllama.studio.families import StudioFamilies, StudioFamily
from tinyllama.studio.live import _AFTER_NEWS, _PAUSE, Live
from tinyllama.train.process import this_process, write_process

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path


def found(client: TestClient, path: str) -> dict[str, Any]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    value: dict[str, Any] = answer.json()
    return value


def test_the_page_and_its_files_come_from_the_studio_alone(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    names = re.findall(r'(?:src|href)="static/([^"]+)"', page.text)
    web = files("tinyllama.studio") / "web"
    names += [name for file in web.iterdir() for name in re.findall(r'from "\./([^"]+)"', file.read_text())]
    assert len(set(names)) >= 8
    for name in set(names):
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 200, name
        outside = set(re.findall(r"https?://[^\s\"'`)]+", answer.text))
        assert outside <= {"http://www.w3.org/2000/svg"}, (name, outside)
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", page.text)


@pytest.mark.parametrize("name", ["other.js", "..%2fapp.py", "%2e%2e/app.py", "index.html%00"])
def test_no_other_file_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_families_state_how_far_their_models_are(client: TestClient, runs: Path) -> None:
    (family,) = found(client, "/api/families")["families"]
    recipe = load_recipe("nano")
    assert (family["id"], family["name"], family["error"]) == ("nano", "nano", "")
    assert [model["name"] for model in family["models"]] == recipe.models
    run = read_run(runs / "nano", recipe)
    for model in family["models"]:
        last = run.histories[model["name"]].bins[-1]
        assert model["state"] == "done"
        assert model["tokens"] == last.end
        assert model["tokens_per_second"] == pytest.approx(1024 / 0.4, rel=3)
        assert (model["parent"] is None) == (model["name"] == "base")
    assert family["tree"] in render(run)


def test_a_model_that_still_trains_says_how_long(client: TestClient, runs: Path) -> None:
    path = FamilyLayout(runs / "nano").metrics("chinese")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:10]))
    family = found(client, "/api/families")["families"][0]
    model = next(model for model in family["models"] if model["name"] == "chinese")
    assert model["state"] == "training"
    left = model["end_tokens"] - model["tokens"]
    assert model["seconds_left"] == pytest.approx(left / model["tokens_per_second"])


def test_states_and_reasons_are_those_of_watch(client: TestClient, runs: Path) -> None:
    layout, recipe, own = FamilyLayout(runs / "nano"), load_recipe("nano"), this_process()
    for model in recipe.models:
        path = layout.metrics(model)
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    elsewhere = own.model_copy(update={"host": "gpu01"})
    killed = own.model_copy(update={"born": "0"})
    for processes in (
        (own, own.after("failed", "the loss is not finite"), own.after("stopped", "SIGTERM"), killed),
        (own.after("finished", ""), elsewhere, elsewhere.model_copy(update={"began": 0.0}), None),
    ):
        for model, process in zip(recipe.models, processes, strict=True):
            layout.process(model).unlink(missing_ok=True)
            if process is not None:
                write_process(layout.process(model), process)
        os.utime(layout.metrics(recipe.models[2]), (1, 1))  # silent for long
        shown = found(client, "/api/families")["families"][0]["models"]
        watched = FamilyMonitor(recipe, layout, recipe.models).read().models
        assert [(model["name"], model["state"], model["reason"]) for model in shown] == [
            (model.model, model.state, model.reason) for model in watched
        ]
        assert len({model["state"] for model in shown}) > 2


def test_the_time_left_is_that_of_all_models(client: TestClient, runs: Path) -> None:
    layout, recipe = FamilyLayout(runs / "nano"), load_recipe("nano")
    path = layout.metrics("chinese")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:10]))
    shutil.rmtree(layout.model("math_code"))
    family = found(client, "/api/families")["families"][0]
    models = {model["name"]: model for model in family["models"]}
    left = models["chinese"]["end_tokens"] - models["chinese"]["tokens"] + recipe.own_tokens("math_code")
    assert family["seconds_left"] == pytest.approx(left / models["chinese"]["tokens_per_second"])


def test_curves_are_those_of_the_report(client: TestClient, runs: Path) -> None:
    curves = found(client, "/api/families/nano/curves")
    run = read_run(runs / "nano", load_recipe("nano"))
    for model, history in run.histories.items():
        assert curves[model]["tokens"] == [item.end for item in history.bins]
        assert curves[model]["loss"] == pytest.approx([item.loss for item in history.bins], rel=1e-5)
        for corpus, curve in curves[model]["held_out"].items():
            assert curve["losses"] == pytest.approx([losses[corpus] for _, losses in history.held_out], rel=1e-5)
    zoomed = found(client, "/api/families/nano/curves?from=10000&to=20000&points=3")["base"]
    assert len(zoomed["tokens"]) == 3
    assert 10000 < zoomed["tokens"][0] < zoomed["tokens"][-1] <= 20000


@pytest.mark.parametrize("query", ["points=1", "points=9999", "points=many", "from=x", "to=-5"])
def test_odd_questions_are_refused_with_the_reason(client: TestClient, query: str) -> None:
    answer = client.get(f"/api/families/nano/curves?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["error"]


def test_scores_are_the_reports_own_sections(client: TestClient, runs: Path) -> None:
    scores = found(client, "/api/families/nano/scores")
    run = read_run(runs / "nano", load_recipe("nano"))
    parts = [sections.learnt(run), sections.tasks(run, list[Figure]()), sections.samples(run)]
    assert scores["html"] == "".join(parts)
    page = render(run)
    assert all(part in page for part in parts)
    assert NASTY not in scores["html"]
    assert "&lt;script&gt;" in scores["html"]


def test_two_models_are_compared_as_on_the_command_line(client: TestClient, runs: Path) -> None:
    layout = FamilyLayout(runs / "nano")
    assert found(client, "/api/families/nano/scores")["recorded"] == []
    record(layout.record("base"), {"quiz": [True, False, False, True], NASTY: [True, True]}, {"prose": [2.0, 3.0]})
    record(layout.record("chinese"), {"quiz": [True, True, True, False]}, {"prose": [1.0, 1.5]})
    assert found(client, "/api/families/nano/scores")["recorded"] == ["base", "chinese"]
    shown = found(client, "/api/families/nano/compared/base/chinese")
    wanted = compare([layout.record("base"), layout.record("chinese")])
    assert shown["rows"] == [list(cells(item)) for item in wanted.differences]
    (task,) = shown["tasks"]
    assert task["summary"] == "3 questions changed: 2 for the better, 1 for the worse"
    assert [(change["question"], change["before"], change["after"]) for change in task["changes"]] == [
        (1, 0.0, 1.0), (2, 0.0, 1.0), (3, 1.0, 0.0),
    ]  # fmt: skip
    assert task["changes"][0] | {"right": "green", "second": "green", "asked": "Question 1:"} == task["changes"][0]
    assert any(gap.startswith(NASTY) for gap in shown["gaps"])
    for pair in ("base/v1.1", "base/other", "..%2fbase/chinese"):
        assert client.get(f"/api/families/nano/compared/{pair}").status_code == 404


def test_a_family_without_scores_says_so(client: TestClient, runs: Path) -> None:
    FamilyLayout(runs / "nano").summary.unlink()
    assert "the models have not been evaluated yet" in found(client, "/api/families/nano/scores")["html"]


@pytest.mark.parametrize("part", ["curves", "scores", "corpora", "recipe", "search?text=a", "models/base/steps/1"])
def test_a_family_that_is_not_there_is_an_error_with_its_name(client: TestClient, part: str) -> None:
    answer = client.get(f"/api/families/other/{part}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("no family is called other")


def test_a_family_that_is_deleted_disappears_and_new_ones_appear(client: TestClient, runs: Path) -> None:
    shutil.copytree(runs / "nano", runs / "second")
    assert [family["id"] for family in found(client, "/api/families")["families"]] == ["nano", "second"]
    shutil.rmtree(runs / "nano")
    assert [family["id"] for family in found(client, "/api/families")["families"]] == ["second"]


def test_a_damaged_recipe_is_shown_as_the_familys_error(client: TestClient, runs: Path) -> None:
    write(FamilyLayout(runs / "nano").recipe, "stages: 5\n")
    (family,) = found(client, "/api/families")["families"]
    assert "recipe.yaml" in family["error"]
    assert client.get("/api/families/nano/curves").status_code == 400


def test_metrics_of_a_stage_that_the_recipe_lacks_are_shown(client: TestClient, runs: Path) -> None:
    path = FamilyLayout(runs / "nano").metrics("base")
    path.write_text(path.read_text().replace('"stage": "base"', '"stage": "first"'))
    base = found(client, "/api/families")["families"][0]["models"][0]
    assert (base["stage"], base["step"] > 0, base["batch"]) == ("first", True, 0)
    assert found(client, "/api/families/nano/curves")["base"]["loss"]


def test_families_of_one_name_have_ids_of_their_own(runs: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(runs / "nano", other / "nano")
    families = StudioFamilies([runs, other, runs / "nano"])
    assert [family.id for family in families.all()] == ["nano", "nano~2"]


def test_families_that_are_deleted_while_two_pages_ask_are_gone_for_both(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("second", "third"):
        shutil.copytree(runs / "nano", runs / name)
    families = StudioFamilies([runs])
    assert [family.id for family in families.all()] == ["nano", "second", "third"]
    for name in ("second", "third"):
        shutil.rmtree(runs / name)
    monkeypatch.setattr(StudioFamily, "close", lambda _family: time.sleep(0.2))
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(families.all) for _ in range(2)]
    assert [[family.id for family in each.result()] for each in asked] == [["nano"], ["nano"]]


def test_a_page_hears_of_a_new_step_within_a_second(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(_PAUSE, _AFTER_NEWS) < 1
    monkeypatch.setattr("tinyllama.studio.live._UNASKED", 1e9)  # so that the change alone is heard
    families = StudioFamilies([runs])
    path = FamilyLayout(runs / "nano").metrics("base")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:20]))

    async def listen() -> str:
        events = Live(families).events()
        await anext(events)
        assert "nano" in await asyncio.wait_for(anext(events), 10)
        with path.open("a") as file:
            file.write(lines[20])
        heard = await asyncio.wait_for(anext(events), 60)
        await events.aclose()
        return heard

    (heard,) = _events(asyncio.run(listen()))
    assert (heard["listed"], [family["id"] for family in heard["changed"]]) == (["nano"], ["nano"])
    assert heard["changed"][0]["models"][0]["step"] == json.loads(lines[20])["step"]


def test_recipes_are_checked_with_lines_and_planned(client: TestClient) -> None:
    text = found(client, "/api/recipes/nano")["text"]
    broken = text.replace("  layers: 2", "  layers: two\n  lairs: 2")
    answer = client.post("/api/recipe", json={"text": broken, "family": "nano"}).json()
    line = broken.split("\n").index("  layers: two") + 1
    assert [fault["line"] for fault in answer["faults"]] == [line, line + 1]
    assert "did you mean" in answer["faults"][1]["text"]
    changed = text.replace("peak: 4e-3", "peak: 3e-3")
    answer = client.post("/api/recipe", json={"text": changed, "family": "nano", "gpu": "a100-40g", "gpus": 2}).json()
    assert not answer["faults"]
    (change,) = answer["changes"]
    assert (change["key"], change["old"], change["new"]) == ("optimizer.learning_rate.peak", 0.004, 0.003)
    assert change["decides"]
    assert answer["prediction"]["gpus"] == 2
    assert answer["plot"].startswith("<svg")
    assert [plan["model"] for plan in answer["plans"]] == ["v1.1", "math_code", "chinese"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("", 1), ("a: [", 1), ("- 1", 1), ("name: <script>alert(1)</script>", None), ("extends: nano", 0)],
)
def test_any_text_is_answered(client: TestClient, text: str, line: int | None) -> None:
    faults = client.post("/api/recipe", json={"text": text}).json()["faults"]
    assert bool(faults) == (line != 0)
    if line:
        assert faults[0]["line"] == line


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[]", 400), (b'{"gpus": 0, "text": ""}', 400), (b'"' + b"x" * (1 << 21) + b'"', 413)],
)
def test_other_bodies_are_refused(client: TestClient, body: bytes, status: int) -> None:
    answer = client.post("/api/recipe", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_work_for_a_page_that_is_gone_ends() -> None:
    async def ask() -> dict[str, Any]:
        began = time.monotonic()

        async def gone() -> bool:
            return time.monotonic() - began > 1

        return await jobs.result(gone, sleep, 3600, seconds=7200)

    assert not asyncio.run(ask())


@pytest.mark.parametrize(("seconds", "text"), [(60, "this takes more than 1 seconds"), (-1, "was killed, or failed")])
def test_work_that_takes_too_long_or_fails_says_so(seconds: float, text: str) -> None:
    async def gone() -> bool:
        return False

    with pytest.raises(TinyLlamaError, match=text):
        asyncio.run(jobs.result(gone, sleep, seconds, seconds=1 if seconds > 0 else 60))


def sleep(_send: object, seconds: float) -> None:
    time.sleep(seconds)


def test_nothing_can_be_changed(client: TestClient) -> None:
    for method in ("PUT", "DELETE", "PATCH", "POST"):
        assert client.request(method, "/api/families/nano/recipe").status_code == 405


def test_data_is_what_the_command_line_shows(small: Path) -> None:
    runs = open_runs(small / "small")
    with TestClient(Studio(StudioFamilies([small])).app(), base_url=OWN) as client:
        shown = found(client, "/api/families/small/models/math_code/steps/8?first=2&count=3")
        wanted = [row for row in rows_of_steps(runs[2], 8, 8) if row.position in {2, 3, 4}]
        assert [(row["position"], row["corpus"], row["row"]) for row in shown["rows"]] == [
            (row.position, row.corpus, row.row) for row in wanted
        ]
        assert shown["rows"][0]["pieces"][0]["text"] == wanted[0].pieces[0].text
        assert (shown["batch"], shown["steps"]) == (16, runs[2].plan.steps)
        refused = client.get("/api/families/small/models/base/steps/999")
        assert (refused.status_code, "has the steps 1 to" in refused.json()["error"]) == (400, True)
        assert client.get("/api/families/small/models/other/steps/1").status_code == 404

        text = wanted[0].pieces[0].text[5:30]
        messages = _events(client.get("/api/families/small/search", params={"text": text}).text)
        assert [message["found"] for message in messages if "found" in message] == [
            json.loads(json.dumps(vars(place))) for place in find_texts(runs, [text], say=lambda _: None)
        ]
        assert messages[-1] == {"complete": True}
        origin = wanted[0].pieces[0].origin
        messages = _events(client.get("/api/families/small/search", params={"origin": origin}).text)
        assert {message["found"]["origin"] for message in messages if "found" in message} == {origin}

        asked = urlencode({"origin": origin})
        document = found(client, f"/api/families/small/corpora/{wanted[0].corpus}/document?{asked}")
        piece = wanted[0].pieces[0]
        texts = {part["part"]: part["text"] for part in document["parts"] if part["split"] == "train"}
        assert piece.text in texts[piece.part]
        assert not document["cut"]
        for corpus, text in (("poems", "reads a corpus poems"), ("prose", "no document has the origin gone")):
            refused = client.get(f"/api/families/small/corpora/{corpus}/document?origin=gone")
            assert (refused.status_code, text in refused.json()["error"]) == (400, True)

        corpora = found(client, "/api/families/small/corpora")["corpora"]
        assert [corpus["name"] for corpus in corpora] == ["prose", "code", "arithmetic", "chinese"]
        assert corpora[0]["splits"]["train"]["tokens"] == runs[0].corpus("prose").tokens("train")


def test_only_some_searches_run_at_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, original = 0, 0, jobs.messages

    async def counted(what: Callable[..., None], *arguments: str) -> AsyncGenerator[jobs.Message]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            async for message in original(what, *arguments):
                yield message
        finally:
            running -= 1

    monkeypatch.setattr(jobs, "messages", counted)
    with TestClient(Studio(StudioFamilies([small])).app(), base_url=OWN) as client, ThreadPoolExecutor(5) as pool:
        texts = pool.map(lambda number: client.get(f"/api/families/small/search?text=zzz{number}").text, range(5))
        answers = list(map(_events, texts))
    assert [answer[-1] for answer in answers] == [{"complete": True}] * 5
    assert sum(answer[0] == {"waits": True} for answer in answers) >= 3
    assert (running, most) == (0, 2)


def _events(text: str) -> list[Any]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


def test_quarantined_documents_are_listed_with_their_reasons(small: Path) -> None:
    with (FamilyLayout(small / "small").corpus("prose") / "rejected.jsonl").open("w") as file:
        quarantine = Quarantine(file)
        for number in range(60):
            quarantine(Rejected(f"a.jsonl:{number}", "is not JSON", NASTY))
        quarantine(Rejected("b.txt", "no text", "", "empty"))
    with TestClient(Studio(StudioFamilies([small])).app(), base_url=OWN) as client:
        path = "/api/families/small/corpora/prose/quarantined"
        first = found(client, path)
        assert (len(first["entries"]), first["more"]) == (50, True)
        rest = found(client, f"{path}?first=50")
        assert [entry["origin"] for entry in rest["entries"]][-2:] == ["a.jsonl:59", "b.txt"]
        assert [entry["reason"] for entry in found(client, f"{path}?kind=empty")["entries"]] == ["no text"]
        assert len(found(client, f"{path}?text=a.jsonl:5")["entries"]) == 11
        assert client.get(path.replace("prose", "poems")).status_code == 400


def test_a_corpus_that_is_not_prepared_says_so(client: TestClient) -> None:
    corpora = found(client, "/api/families/nano/corpora")["corpora"]
    assert all("is not prepared" in corpus["error"] for corpus in corpora)
    assert client.get("/api/families/nano/models/base/steps/1").json()["error"]
