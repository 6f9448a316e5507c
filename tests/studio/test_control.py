"""Families are started, stopped and resumed from the page, by who has the token, and only with --control."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.conftest import SMALL
from tests.studio.process import studio
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.train.process import read_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LONG = ("name=mine", "stages.0.until=400K", "stages.1.until=500K", "stages.2.until=600K", "evaluation.tasks=[]")
"""More steps than a test waits for."""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[httpx2.Client]:
    """Requests of the page of a studio with --control over an empty folder."""
    folder = tmp_path / "runs"
    folder.mkdir()
    with studio(str(folder), "--control") as (address, _):
        base, _, token = address.partition("?token=")
        with httpx2.Client(base_url=base, timeout=60) as client:
            assert client.get("/", params={"token": token}).status_code == 200  # which leaves the cookie
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
    assert (tmp_path / "runs" / "mine.yaml").read_text() == text
    until(lambda: model(page).get("step"))
    assert model(page)["state"] == "running"
    (command,) = page.get("/api/commands").json()["commands"]
    assert command["command"].startswith("tinyllama reproduce ")
    assert (command["exit_code"], "training base" in command["output"]) == (None, True)
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
    assert page.post("/api/commands/mine/stop", json={}).status_code == 200
    until(lambda: page.get("/api/commands").json()["commands"][0]["exit_code"] == 128 + signal.SIGTERM)


def test_recipes_that_cannot_start_say_why_and_leave_nothing(page: httpx2.Client, tmp_path: Path) -> None:
    refused = page.post("/api/commands", json={"text": "name: mine\n"})
    assert refused.status_code == 400
    assert "model" in refused.json()["error"]
    (tmp_path / "runs" / "mine.yaml").write_text("mine")
    text = dump_recipe(load_recipe("nano", (*SMALL, *LONG)))
    assert "another recipe of this name" in page.post("/api/commands", json={"text": text}).json()["error"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["mine.yaml"]
    assert (tmp_path / "runs" / "mine.yaml").read_text() == "mine"
    assert "started no family called" in page.post("/api/commands/mine/stop", json={}).json()["error"]


@pytest.mark.parametrize("path", ["/api/commands", "/api/families/mine/stop", "/api/families/mine/resume"])
def test_what_changes_something_needs_the_token_and_the_own_page(page: httpx2.Client, path: str) -> None:
    assert page.post(path, json={}, headers={"origin": "http://evil.example"}).status_code == 403
    assert page.post(path, json={}, headers={"host": "evil.example"}).status_code == 403
    page.cookies.clear()
    assert page.post(path, json={}).status_code == 403
