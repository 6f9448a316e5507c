"""Families are started, stopped and resumed from the page, by who has the token, and only with --control."""

from __future__ import annotations

import json
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.conftest import SMALL
from tests.studio.process import studio
from tinyllama.errors import TinyLlamaError, UserError
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.studio.control.commands import Control
from tinyllama.train.process import read_process, this_process, write_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LONG = (
    "name=mine", "stages.0.until=4M", "stages.1.until=5M", "stages.2.until=6M", "evaluation.tasks=[]",
    "corpora.prose.sources=[{builtin: arithmetic}]",
)  # fmt: skip
"""More steps than a test waits for, on text that is prepared in no time."""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[httpx2.Client]:
    """Requests of the page of a studio with --control over an empty folder."""
    folder = tmp_path / "runs"
    folder.mkdir()
    with studio(str(folder), "--control") as (address, _), httpx2.Client(base_url=address, timeout=60) as client:
        yield client


def until(what: Callable[[], Any]) -> Any:  # noqa: ANN401  # of any condition
    deadline = time.monotonic() + 100
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def model(page: httpx2.Client) -> dict[str, Any]:
    """The state of the first model of the first family; empty if there is none."""
    families = page.get("/api/families").json()["families"]
    return families[0]["models"][0] if families else {}


def test_a_family_is_started_stopped_and_resumed(page: httpx2.Client, tmp_path: Path) -> None:
    text, layout = dump_recipe(load_recipe("nano", (*SMALL, *LONG))), FamilyLayout(tmp_path / "runs" / "mine")
    assert page.post("/api/commands", json={"text": text}).json() == {"name": "mine"}
    assert layout.recipe.read_text() == text
    until(lambda: model(page).get("step"))
    assert model(page)["state"] == "training"
    (command,) = page.get("/api/commands").json()["commands"]
    assert command["command"].startswith("tinyllama reproduce ")
    assert (command["exit_code"], "training base" in command["output"]) == (None, True)
    number = command["id"]
    assert "works on this family already" in page.post("/api/families/mine/resume", json={}).json()["error"]
    assert "exists already" in page.post("/api/commands", json={"text": text}).json()["error"]

    assert page.post("/api/families/mine/stop", json={}).status_code == 200
    until(lambda: page.get("/api/commands").json()["commands"][0]["exit_code"] is not None)
    process = read_process(layout.process("base"))
    assert process is not None
    assert process.outcome == "stopped"
    stopped = model(page)
    assert stopped["state"] == "stopped", "at once, not after a silence"
    assert stopped["checkpoints"]
    assert "no process of this machine" in page.post("/api/families/mine/stop", json={}).json()["error"]

    assert page.post("/api/families/mine/resume", json={}).status_code == 200
    until(lambda: model(page)["step"] > stopped["step"])
    assert page.post(f"/api/commands/{number}/stop", json={}).status_code == 200
    until(lambda: page.get("/api/commands").json()["commands"][0]["exit_code"] == 128 + signal.SIGTERM)


def test_recipes_that_cannot_start_say_why_and_touch_nothing(page: httpx2.Client, tmp_path: Path) -> None:
    refused = page.post("/api/commands", json={"text": "name: mine\n"})
    assert refused.status_code == 400
    assert "model" in refused.json()["error"]
    assert not list((tmp_path / "runs").iterdir())
    theirs = tmp_path / "runs" / "mine"
    theirs.mkdir()
    (theirs / "studio.log").write_text("theirs")
    text = dump_recipe(load_recipe("nano", (*SMALL, *LONG)))
    assert "exists already" in page.post("/api/commands", json={"text": text}).json()["error"]
    assert [path.name for path in theirs.iterdir()] == ["studio.log"]
    assert "started no command 7" in page.post("/api/commands/7/stop", json={}).json()["error"]


def test_a_start_that_failed_can_be_corrected_and_is_what_was_checked(page: httpx2.Client, tmp_path: Path) -> None:
    text = dump_recipe(load_recipe("nano", (*SMALL, *LONG, "corpora.prose.sources=[{files: gone/*.txt}]")))
    assert page.post("/api/commands", json={"text": text}).json() == {"name": "mine"}
    until(lambda: page.get("/api/commands").json()["commands"][0]["exit_code"] is not None)
    assert "gone" in page.get("/api/commands").json()["commands"][0]["output"]
    (tmp_path / "runs" / "parent.yaml").write_text("no recipe; the checked text extends another parent")
    extending = "extends: nano\nname: mine\nseed: 7\n"
    assert page.post("/api/commands", json={"text": extending}).json() == {"name": "mine"}
    layout = FamilyLayout(tmp_path / "runs" / "mine")
    assert load_recipe(str(layout.recipe)) == load_recipe("nano", ("name=mine", "seed=7"))
    assert page.post("/api/families/mine/stop", json={}).status_code == 200
    until(lambda: page.get("/api/commands").json()["commands"][0]["exit_code"] is not None)
    shutil.rmtree(layout.root)
    assert page.get("/api/commands").json()["commands"][0]["output"] == ""


def test_commands_of_families_of_one_name_are_told_apart(tmp_path: Path) -> None:
    control = Control(tmp_path / "runs")
    for folder in ("runs", "other"):
        layout = FamilyLayout(tmp_path / folder / "mine")
        layout.root.mkdir(parents=True)
        layout.recipe.write_text(dump_recipe(load_recipe("nano", (*SMALL, *LONG))))
        control.resume(layout)
    first, second = control.commands()
    assert (first.name, second.name) == ("mine", "mine")
    control.stop(control.root(second.id))
    until(lambda: control.commands()[1].exit_code is not None)
    assert control.commands()[0].exit_code is None
    control.stop(control.root(first.id))
    until(lambda: control.commands()[0].exit_code is not None)


@pytest.mark.parametrize("pid", [0, -1, 1 << 40])
def test_no_signal_is_sent_to_what_a_damaged_file_names(tmp_path: Path, pid: int) -> None:
    layout = FamilyLayout(tmp_path / "mine")
    layout.root.mkdir()
    layout.recipe.write_text(dump_recipe(load_recipe("nano")))
    layout.model("base").mkdir()
    record = this_process().model_dump() | {"pid": pid, "born": ""}
    layout.process("base").write_text(json.dumps(record))
    with pytest.raises(TinyLlamaError, match="pid"):
        Control(None).stop(layout.root)


def test_a_process_whose_start_is_unknown_is_not_stopped(tmp_path: Path) -> None:
    layout = FamilyLayout(tmp_path / "mine")
    layout.root.mkdir()
    layout.recipe.write_text(dump_recipe(load_recipe("nano")))
    write_process(layout.process("base"), this_process().model_copy(update={"born": ""}))
    with pytest.raises(UserError, match="no process of this machine"):
        Control(None).stop(layout.root)
    with pytest.raises(UserError, match="the studio shows single families"):
        Control(None).start("mine", "")


@pytest.mark.parametrize("path", ["/api/commands", "/api/families/mine/stop", "/api/families/mine/resume"])
def test_what_changes_something_needs_the_token_and_the_own_page(page: httpx2.Client, path: str) -> None:
    assert page.post(path, json={}, headers={"origin": "http://evil.example"}).status_code == 403
    assert page.post(path, json={}, headers={"host": "evil.example"}).status_code == 403
    token = page.base_url.path.strip("/")
    with httpx2.Client(base_url=page.base_url.copy_with(path="/"), cookies={"token": token}) as without:
        assert without.post(path, json={}).status_code == 403
        assert without.get("/api/families").status_code == 403
