"""Rows of the tasks from the hub, against a stand-in of its HTTP interface with Parquet files in its layout."""

from __future__ import annotations

import json
import os
import shutil
from io import BytesIO
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
from typer.testing import CliRunner

from tests.evaluation.hub_rows import SPLITS, parquet, seven_sets
from tests.export.hub_stand_in import COMMIT, CONVERTED, CONVERTED_COMMIT, Hub, stand_in_hub
from tinyllama.cli.commands import app
from tinyllama.errors import EvaluationError
from tinyllama.evaluation.catalogue import GROUPS
from tinyllama.evaluation.hub_sets import hub_cache
from tinyllama.evaluation.scores import MissingTask, gaps
from tinyllama.evaluation.task_data import TASK_DATA
from tinyllama.evaluation.task_fetching import provide, rows_folder
from tinyllama.evaluation.task_files import read_rows
from tinyllama.hub import HubAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEVEN = GROUPS["commonsense"]
SUMS = "datasets/EleutherAI/arithmetic"


def use(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Set the address for this process, whose client has read its settings already, and for those that it starts."""
    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the seven sets, and a cache that is empty; that the hub answers is tested apart."""
    monkeypatch.setenv("TINYLLAMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("tinyllama.evaluation.hub_sets.probe", lambda *_: HubAnswer(COMMIT))
    with stand_in_hub() as hub:
        hub.repositories = seven_sets(data)
        use(monkeypatch, hub.url)
        yield hub


def reason_of(task: str, data: Path) -> str:
    found = provide([task], data)[task]
    assert isinstance(found, MissingTask)
    return found.reason


def test_the_rows_of_seven_tasks_are_those_of_the_hub(hub: Hub, data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert provide(SEVEN, tmp_path, said.append) == dict.fromkeys(SEVEN, rows_folder())
    (line,) = said
    assert "hellaswag, openbookqa" in line
    for task in SEVEN:
        file = TASK_DATA[task].file
        assert read_rows(task, rows_folder() / file) == read_rows(task, data / file)
    asked = hub.requests
    assert provide(SEVEN, tmp_path, said.append) == dict.fromkeys(SEVEN, rows_folder())
    assert (hub.requests, len(said)) == (asked, 1)


@pytest.mark.usefixtures("hub")
def test_the_lock_file_states_revision_and_hashes(tmp_path: Path) -> None:
    provide(["boolq", "piqa"], tmp_path)
    sets = json.loads((hub_cache() / "lock.json").read_text())["sets"]
    assert sets["aps/super_glue (boolq)"]["revision"] == COMMIT
    assert len(sets["aps/super_glue (boolq)"]["sha256"]) == 2
    assert sets["baber/piqa"]["revision"] == CONVERTED_COMMIT


def test_other_content_than_at_the_first_fetch_is_refused(hub: Hub, tmp_path: Path) -> None:
    provide(["arc_easy"], tmp_path)
    for folder in ("hub", "rows"):
        shutil.rmtree(hub_cache() / folder)
    (name,) = (name for name in hub.repositories["datasets/allenai/ai2_arc"] if "Easy" in name)
    hub.repositories["datasets/allenai/ai2_arc"][name] = parquet([{"question": "changed"}])
    with pytest.raises(EvaluationError, match=r"ai2_arc \(ARC-Easy\): .*lock.json requires [0-9a-f]{64}"):
        provide(["arc_easy"], tmp_path)


def test_a_file_that_was_changed_after_the_fetch_is_made_again_or_refused(
    hub: Hub, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    packed = BytesIO()
    with ZipFile(packed, "w") as archive:
        for subject in ("law", "art"):
            archive.writestr(f"val/{subject}_val.csv", "question,A,B,C,D,answer\n?,1,2,3,4,A\n")
    hub.repositories["datasets/ceval/ceval-exam"] = {"ceval-exam.zip": packed.getvalue()}
    provide(["boolq", "ceval"], tmp_path)
    path, asked = rows_folder() / "boolq_validation.jsonl", hub.requests
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    changes = ["".join(lines[:-1]), "".join(lines)[:-40], lines[0].replace('"label": 0', '"label": 1') + lines[1]]
    for change in changes:
        path.write_text(change, encoding="utf-8")
        os.utime(path, ns=times)
        assert provide(["boolq"], tmp_path, said.append) == {"boolq": rows_folder()}
        assert read_rows("boolq", path) == read_rows("boolq", data / path.name)
    assert len(said) == 3
    assert said[0] == f"evaluation data had been changed in {rows_folder()} and is made again: boolq"
    (rows_folder() / "ceval/val/art_val.csv").unlink()
    provide(["ceval"], tmp_path)
    assert list(TASK_DATA["ceval"].question_files(rows_folder())) == ["art", "law"]
    assert hub.requests == asked
    path.write_text(changes[0], encoding="utf-8")
    shutil.rmtree(hub_cache() / "hub")
    monkeypatch.setattr("tinyllama.evaluation.hub_sets.probe", lambda *_: HubAnswer(None, "silent", is_silent=True))
    assert reason_of("boolq", tmp_path).startswith(f"the files of boolq in {rows_folder()} were changed, and none from")


def test_files_that_an_earlier_version_made_are_kept_where_they_cannot_be_made_again(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide(["boolq"], tmp_path)
    lock = json.loads((hub_cache() / "lock.json").read_text())
    rows = lock.pop("rows")
    assert list(rows) == ["boolq"]
    (hub_cache() / "lock.json").write_text(json.dumps(lock))
    shutil.rmtree(hub_cache() / "hub")
    monkeypatch.setattr("tinyllama.evaluation.hub_sets.probe", lambda *_: HubAnswer(None, "silent", is_silent=True))
    assert provide(["boolq"], tmp_path) == {"boolq": rows_folder()}
    assert json.loads((hub_cache() / "lock.json").read_text()) == lock | {"rows": rows}
    assert hub.requests > 0


def test_a_folder_that_has_the_rows_is_preferred(hub: Hub, data: Path) -> None:
    assert provide(SEVEN, data) == dict.fromkeys(SEVEN, data)
    assert hub.requests == 0


def test_what_was_fetched_is_enough_without_a_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provide(["boolq"], tmp_path)
    (rows_folder() / "boolq_validation.jsonl").unlink()  # is made again from the Parquet files
    monkeypatch.setattr("tinyllama.evaluation.hub_sets.probe", lambda *_: HubAnswer(None, "silent", is_silent=True))
    asked = hub.requests
    assert provide(["boolq"], tmp_path) == {"boolq": rows_folder()}
    assert hub.requests == asked


def test_a_gated_set_names_its_page_and_a_token_opens_a_private_one(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated, hub.private = {"datasets/aps/super_glue"}, {"datasets/allenai/openbookqa"}
    assert "accept its terms on the hub's page of aps/super_glue" in reason_of("boolq", tmp_path)
    refusal = reason_of("openbookqa", tmp_path)
    assert "Repository Not Found" in refusal
    assert "\n" not in refusal
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert provide(["openbookqa"], tmp_path) == {"openbookqa": rows_folder()}


def test_a_set_without_parquet_or_split_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.repositories["datasets/Rowan/hellaswag"]["README.md"] = b"---\nconfigs: [{config_name: 1}]\n---\n"
    del hub.repositories[f"datasets/Rowan/hellaswag@{CONVERTED}"]
    assert "has no Parquet files of the split validation" in reason_of("hellaswag", tmp_path)
    hub.repositories[f"datasets/baber/piqa@{CONVERTED}"] = {"default/validation/0000.parquet": b"damaged"}
    assert "0000.parquet cannot be read" in reason_of("piqa", tmp_path)


def test_files_and_archives_are_fetched_as_they_are(hub: Hub, tmp_path: Path) -> None:
    sums = b'{"context": "1 + 1 =", "completion": " 2"}\n'
    hub.repositories[SUMS] = {"data/two_digit_addition.jsonl": sums}
    packed = BytesIO()
    with ZipFile(packed, "w") as archive:
        archive.writestr("val/law_val.csv", "question,A,B,C,D,answer\n?,1,2,3,4,A\n")
    hub.repositories["datasets/ceval/ceval-exam"] = {"ceval-exam.zip": packed.getvalue()}
    found = provide(["arithmetic_2da", "ceval"], tmp_path)
    assert found == dict.fromkeys(["arithmetic_2da", "ceval"], rows_folder())
    assert (rows_folder() / "arithmetic_2da_validation.jsonl").read_bytes() == sums
    assert list(TASK_DATA["ceval"].question_files(rows_folder())) == ["law"]


@pytest.mark.usefixtures("hub")
def test_the_command_fetches_ahead_and_fails_where_something_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["evaluate", "--fetch", "commonsense"])
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, str(rows_folder()))
    refused = CliRunner().invoke(app, ["evaluate", "--fetch", "boolq,gsm8k"]).exception
    assert isinstance(refused, EvaluationError)
    assert "the data is not complete: no score for gsm8k: no file in data/eval" in str(refused)
    missing = CliRunner().invoke(app, ["evaluate"]).exception
    assert "name a model" in str(missing)


def test_a_silent_hub_is_asked_once_and_is_one_reason(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    silence = HubAnswer(None, "it did not answer within 4 seconds", is_silent=True)
    monkeypatch.setattr("tinyllama.evaluation.hub_sets.probe", lambda name, _: asked.append(name) or silence)
    (gap,) = gaps(provide(SEVEN, tmp_path).items())
    assert gap.startswith("no score for hellaswag, openbookqa, winogrande, arc_challenge, arc_easy, boolq and piqa: ")
    assert "none from the hub: it did not answer within 4 seconds; " in gap
    assert "--fetch" in gap
    assert (len(asked), hub.requests) == (1, 0)
    assert not (tmp_path / "cache").exists()


def test_every_set_that_a_readme_describes_is_one_of_the_seven() -> None:
    assert {f"{name}.jsonl" for name in SPLITS} < {TASK_DATA[task].file for task in SEVEN}
