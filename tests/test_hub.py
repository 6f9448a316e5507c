"""The one question to the hub, and the downloads after a good answer, against a stand-in of its HTTP interface."""

import ast
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tinyllama
from tests.export.hub_stand_in import COMMIT, Hub, stand_in_hub
from tinyllama.errors import ModelError
from tinyllama.hub import _DEADLINE, fetch_model, fetch_small_file, probe

FILES = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.model": b"pieces", "run.py": b"code"}
UNREADABLE = {
    "me/private": "Repository Not Found",
    "me/gated": "Access is restricted",
    "me/none": "Repository Not Found",
}


PATIENCE = 60
"""Seconds for an answer, where the deadline is not what is tested: a busy machine gives it late."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("tinyllama.hub._DEADLINE", PATIENCE)
    with stand_in_hub() as hub:
        hub.repositories = dict.fromkeys(("me/model", "me/private", "me/gated"), FILES)
        hub.private, hub.gated = {"me/private"}, {"me/gated"}
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.mark.usefixtures("hub")
def test_a_repository_that_may_be_read_has_a_revision() -> None:
    assert probe("me/model") == (COMMIT, "", False)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", UNREADABLE)
def test_one_that_may_not_be_read_has_a_reason_of_one_line(name: str) -> None:
    revision, reason, is_silent = probe(name)
    assert revision is None
    assert not is_silent
    assert UNREADABLE[name] in reason
    assert "\n" not in reason


@pytest.mark.usefixtures("hub")
def test_files_of_the_folder_that_it_is_asked_from_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('the own program was run')\n")
    monkeypatch.chdir(tmp_path)
    assert probe("me/model").revision == COMMIT


def test_a_token_opens_a_private_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert probe("me/private").revision == COMMIT


def test_offline_nobody_is_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert probe("me/model") == (None, "HF_HUB_OFFLINE is set", True)
    assert hub.requests == 0


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_hub_that_does_not_answer_is_given_up_within_five_seconds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _DEADLINE < 5
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr("tinyllama.hub._DEADLINE", 0.5)
        answer = probe("me/model", kind)
        assert answer == (None, "it did not answer within 0.5 seconds", True)


@pytest.mark.usefixtures("hub")
def test_a_small_file_is_downloaded() -> None:
    found = fetch_small_file("me/model", "tokenizer.model")
    assert found is not None
    assert found.read_bytes() == FILES["tokenizer.model"]
    assert fetch_small_file("me/model", "absent.model") is None
    assert fetch_small_file("me/gated", "tokenizer.model") is None


def in_a_new_process(code: str) -> str:
    """What code prints; the hub's client reads its settings once in a process."""
    program = f"from tinyllama import hub\nfrom tinyllama.hub import *\nhub._DEADLINE = {PATIENCE}\nprint({code})"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("code", ["fetch_model('me/model')", "fetch_small_file('me/model', 'tokenizer.model').parent"])
def test_what_was_downloaded_once_is_found_without_the_hub(
    code: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(in_a_new_process(code))
    assert (folder / "tokenizer.model").read_bytes() == FILES["tokenizer.model"]
    assert not (folder / "run.py").exists(), "no code is downloaded"
    asked = hub.requests
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert in_a_new_process(code) == str(folder)
    assert hub.requests == asked


@pytest.mark.usefixtures("hub")
def test_a_model_that_the_hub_refuses_is_refused_with_the_reason_and_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"me/gated: .*Access is restricted.*hf auth login"):
        fetch_model("me/gated")


def test_only_one_module_names_the_hubs_client() -> None:
    package = Path(tinyllama.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert path.name == "hub.py" or not any(name.startswith("huggingface_hub") for name in names), path
