"""Publishing, against a stand-in of the hub's HTTP interface (tests/export/hub_stand_in.py), by the command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.command import run
from tests.export.hub_stand_in import Hub, stand_in_hub
from tinyllama.errors import PublishError
from tinyllama.export import files_to_send

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

CARD = "---\nlicense: apache-2.0\n---\n\n# A model\n"
NAME = "me/mini"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with stand_in_hub() as hub:
        yield hub


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "v1.1"
    folder.mkdir()
    (folder / "README.md").write_text(CARD)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 1000)
    (folder / ".cache").mkdir()
    (folder / ".cache" / "secret").write_text("stays here")
    return folder


def publish(hub: Hub, folder: Path, *options: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command against the stand-in; without Xet storage, whose protocol the stand-in does not have."""
    return run(
        "publish", folder, "--repo", NAME, *options,
        cwd=folder.parent, HF_ENDPOINT=hub.url, HF_TOKEN=token or hub.token, HF_HUB_DISABLE_XET="1",
        HF_HOME=str(folder.parent / "home"), HF_HUB_OFFLINE="0", HF_HUB_DISABLE_TELEMETRY="1",
    )  # fmt: skip


def test_the_repository_holds_the_export_and_nothing_hidden(hub: Hub, export: Path) -> None:
    done = publish(hub, export, "--private")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{hub.url}/{NAME}"
    sent = {path.name: path.read_bytes() for path in export.iterdir() if path.is_file()}
    assert hub.repositories == {NAME: sent}
    assert hub.private == {NAME}
    assert hub.commits == ["Upload v1.1"]

    (export / "config.json").write_text('{"new": 1}')
    again = publish(hub, export, "--json")
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert told["url"] == f"{hub.url}/{NAME}"
    assert told["files"] == {name: len(data) for name, data in sent.items()} | {"config.json": 10}
    assert hub.repositories[NAME]["config.json"] == b'{"new": 1}'


def test_a_dry_run_says_what_would_be_sent_and_asks_nobody(hub: Hub, export: Path) -> None:
    done = publish(hub, export, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()[:-1]] == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert done.stdout.splitlines()[-1].split()[0] == f"{256_000 + len(CARD) + 2:,}"
    assert hub.requests == 0


def test_a_token_that_may_not_write_is_said_and_nothing_is_there(hub: Hub, export: Path) -> None:
    done = publish(hub, export, token="hf_other")  # noqa: S106  # of the stand-in alone
    assert done.returncode == 2
    assert "did not accept the commit" in done.stderr
    assert "hf auth login" in done.stderr
    assert "Traceback" not in done.stderr
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("card", "repo", "message"),
    [
        (None, NAME, "is no export"),
        ("# A model\n", NAME, "names no license"),
        ("---\nlicense: [\n---\n", NAME, "is no YAML"),
        (CARD, "me/mini/base", "named OWNER/NAME"),
        (CARD, "mini", "named OWNER/NAME"),
    ],
)
def test_what_the_hub_would_refuse_is_refused_before_anything_is_sent(
    export: Path, card: str | None, repo: str, message: str
) -> None:
    (export / "README.md").unlink()
    if card is not None:
        (export / "README.md").write_text(card)
    with pytest.raises(PublishError, match=message):
        files_to_send(export, repo)
