"""Checkpoints under URLs: files, memory, and an S3-compatible server over HTTP."""

import json
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import pytest
import torch

from tests.checkpoint.s3 import kill_in_upload, s3_server, speak_to
from tests.checkpoint.states import made_up_state
from tests.conftest import MakeFamily
from tests.train.processes import train_on
from tests.train.runs import assert_same_run
from tests.train.stopping import stop_at
from tests.train.test_import_start import foreign_folder, started, with_tokenizer
from tinyllama.checkpoint.format import Checkpoint, load_tensors, save_checkpoint, steps_saved
from tinyllama.checkpoint.retention import Retention
from tinyllama.checkpoint.store import CheckpointStore, RemoteCheckpointStore
from tinyllama.errors import CheckpointError, RecipeError, StorageError
from tinyllama.family.family import Family
from tinyllama.recipe import load_recipe
from tinyllama.train.ranks import Ranks
from tinyllama.train.run import find_start
from tinyllama.train.saving import CheckpointWriter

BUCKET = "checkpoints"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    pytest.importorskip("s3fs", reason="the extra s3")
    pytest.importorskip("moto.server", reason="the extra test")
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as environment:
        yield environment


@pytest.fixture
def s3(server: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A URL of a bucket on the server."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").makedirs(BUCKET, exist_ok=True)
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture(params=["file", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return str(request.getfixturevalue("s3"))
    return f"{request.param}://{tmp_path if request.param == 'file' else f'/{tmp_path.name}'}/there"


def _save(store: CheckpointStore, step: int, value: float = 0.0) -> None:
    save_checkpoint(store.folder, {"model.a": torch.full((3, 2), value)}, made_up_state(step))
    store.upload(step)


def _value(checkpoint: Checkpoint) -> float:
    loaded = {"model.a": torch.empty(3, 2)}
    load_tensors(checkpoint, loaded)
    return float(loaded["model.a"].mean())


def _system(url: str) -> fsspec.AbstractFileSystem:
    """The very one that a store of this URL uses."""
    system, _ = fsspec.url_to_fs(url, use_listings_cache=False)
    return system


def _cut_short(url: str, size: int = 10) -> None:
    system, path = fsspec.url_to_fs(url)
    system.pipe_file(path, system.cat_file(path)[:-size])


def _names(url: str) -> set[str]:
    system, root = fsspec.url_to_fs(url)
    system.invalidate_cache()
    return {path.removeprefix(f"{root}/") for path in system.find(root)}


def test_what_is_saved_under_a_url_is_read_on_another_machine(url: str, tmp_path: Path) -> None:
    here, there = RemoteCheckpointStore(tmp_path / "here", url), RemoteCheckpointStore(tmp_path / "elsewhere", url)
    assert there.steps() == []
    here.begin("name: family\n")
    _save(here, 9, 1.5)
    _save(here, 10, 2.5)
    assert there.steps() == [9, 10]
    assert there.state(9) == made_up_state(9)
    assert [_value(there.open(step)) for step in (9, 10)] == [1.5, 2.5]
    assert there.open(10).folder == tmp_path / "elsewhere/step-10"
    assert "recipe.yaml" in _names(url)


def test_the_last_and_the_permanent_ones_stay(url: str, tmp_path: Path) -> None:
    store = RemoteCheckpointStore(tmp_path / "here", url)
    writer = CheckpointWriter(store, Retention(1, frozenset({2})), Ranks())
    for step in range(1, 6):
        writer.save({"model.a": torch.full((3, 2), float(step))}, made_up_state(step))
    writer.wait()
    writer.close()
    assert store.steps() == [2, 5]
    assert {name.partition("/")[0] for name in _names(url)} == {"step-2", "step-5"}
    assert steps_saved(store.folder) == [4, 5], "copies of the newest"
    assert [_value(store.open(step)) for step in (2, 5)] == [2.0, 5.0]


def test_without_its_manifest_a_checkpoint_is_not_there_and_is_cleared_away(url: str, tmp_path: Path) -> None:
    store = RemoteCheckpointStore(tmp_path / "here", url)
    _save(store, 1, 1.0)
    _save(store, 2, 2.0)
    system, root = fsspec.url_to_fs(url)
    system.rm_file(f"{root}/step-2/manifest.json")
    assert store.steps() == [1]
    newest = next(store.newest())
    assert isinstance(newest, Checkpoint)
    assert _value(newest) == 1.0
    store.prune(Retention(2))
    assert {name.partition("/")[0] for name in _names(url)} == {"step-1"}


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "state.json"])
def test_a_truncated_object_is_refused_by_name_and_the_checkpoint_before_it_taken(
    s3: str, tmp_path: Path, name: str
) -> None:
    here, there = RemoteCheckpointStore(tmp_path / "here", s3), RemoteCheckpointStore(tmp_path / "elsewhere", s3)
    _save(here, 1, 1.0)
    _save(here, 2, 2.0)
    _cut_short(f"{s3}/step-2/{name}")
    refused, taken = there.newest()
    assert isinstance(refused, CheckpointError)
    assert str(refused).startswith(f"{s3}/step-2/{name}: differs from its manifest")
    assert isinstance(taken, Checkpoint)
    assert _value(taken) == 1.0
    assert steps_saved(there.folder) == [1], "nothing of the other stays"


def test_a_missing_object_and_a_manifest_that_is_none_are_named(s3: str, tmp_path: Path) -> None:
    here, there = RemoteCheckpointStore(tmp_path / "here", s3), RemoteCheckpointStore(tmp_path / "elsewhere", s3)
    _save(here, 1)
    _save(here, 2)
    system, root = fsspec.url_to_fs(s3)
    system.rm_file(f"{root}/step-1/.metadata")
    _cut_short(f"{s3}/step-2/manifest.json")
    with pytest.raises(CheckpointError, match=f"{s3}/step-1: the checkpoint is not complete"):
        there.open(1)
    with pytest.raises(CheckpointError, match=f"{s3}/step-2/manifest.json: is not JSON"):
        there.open(2)


def test_a_copy_is_used_only_if_it_is_one_and_good(s3: str, tmp_path: Path) -> None:
    here, other = RemoteCheckpointStore(tmp_path / "here", s3), RemoteCheckpointStore(tmp_path / "other", s3)
    _save(here, 1, 1.0)
    _cut_short(f"file://{here.folder}/step-1/__0_0.distcp")
    assert _value(here.open(1)) == 1.0
    _save(other, 1, 7.0)
    assert _value(here.open(1)) == 7.0


def test_a_copy_that_was_never_uploaded_is_no_checkpoint(s3: str, tmp_path: Path) -> None:
    store = RemoteCheckpointStore(tmp_path / "here", s3)
    save_checkpoint(store.folder, {"model.a": torch.ones(3, 2)}, made_up_state(5))
    assert store.steps() == []


def test_a_place_that_cannot_be_written_is_told_with_its_url_and_keeps_the_rest(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RemoteCheckpointStore(tmp_path / "here", s3)
    _save(store, 1, 1.0)

    def put(_local: list[str], _there: list[str]) -> None:
        raise RuntimeError("quota exceeded")  # not an OSError: file systems have errors of their own

    with monkeypatch.context() as patch:
        patch.setattr(_system(s3), "put", put)
        with pytest.raises(StorageError, match=rf"{s3}: cannot be written; earlier .* kept \(quota exceeded\)"):
            _save(store, 2)
    assert store.steps() == [1]
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/x: cannot be written"):
        RemoteCheckpointStore(tmp_path, "s3://no-such-bucket/x").begin("")


def test_an_upload_that_arrives_short_is_not_completed(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RemoteCheckpointStore(tmp_path / "here", s3)
    system = _system(s3)
    put = system.put

    def short(local: list[str], there: list[str]) -> None:
        put(local, there)
        system.pipe_file(there[0], b"")

    monkeypatch.setattr(system, "put", short)
    with pytest.raises(StorageError, match=r"\.metadata has 0 bytes there"):
        _save(store, 1)
    assert store.steps() == []


def test_a_server_that_does_not_answer_is_no_damage(
    server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**server, "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(StorageError, match=r"checkpoints\.url: s3://bucket/x: cannot be listed") as caught:
        next(RemoteCheckpointStore(tmp_path, "s3://bucket/x").newest())
    assert caught.value.exit_code == 2
    fsspec.filesystem("s3").clear_instance_cache()


def test_file_systems_that_are_unknown_or_not_installed_are_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nosuch://x: Protocol not known"):
        RemoteCheckpointStore(tmp_path, "nosuch://x")
    fsspec.register_implementation("absent", "absent_fs.System", errtxt="Install absent-fs", clobber=True)
    with pytest.raises(
        StorageError, match=r"its file system is not installed \(Install absent-fs\): install what it names"
    ):
        RemoteCheckpointStore(tmp_path, "absent://x")
    with pytest.raises(RecipeError, match=r"checkpoints\.url"):
        load_recipe("nano", ["checkpoints.url=bucket/folder"])


def test_a_family_under_a_url_equals_one_on_disk_and_goes_on_elsewhere(
    make_family: MakeFamily, trained: Path, s3: str
) -> None:
    here = make_family("here", f"checkpoints.url={s3}/")
    stop_at(here, "base", 3)
    elsewhere = make_family("elsewhere", f"checkpoints.url={s3}")
    shutil.copytree(here.folder / "base", elsewhere.folder / "base", ignore=shutil.ignore_patterns("checkpoints"))
    elsewhere.train("base")
    assert_same_run(trained / "base", elsewhere.folder / "base")
    here.train("math_code")  # forks from what the other made
    assert_same_run(trained / "math_code", here.folder / "math_code")
    assert {name.partition("/step-")[0] for name in _names(s3) if "step-" in name} == {"base", "math_code"}
    start = find_start(here.training_run("math_code"))
    assert start is not None
    assert start.step == here.training_run("math_code").plan.steps


def test_another_recipes_checkpoints_are_refused_by_their_url(make_family: MakeFamily, s3: str) -> None:
    stop_at(make_family("one", f"checkpoints.url={s3}"), "base", 2)
    with pytest.raises(CheckpointError, match=r"was made with seed = 1"):
        make_family("other", f"checkpoints.url={s3}", "seed=2").train("base")


def test_an_imported_start_is_kept_under_the_url_too(
    make_family: MakeFamily, prepared: Path, tmp_path: Path, s3: str
) -> None:
    foreign = with_tokenizer(foreign_folder(tmp_path / "foreign"), prepared)
    disk, here = started(make_family, foreign, "disk"), started(make_family, foreign, "here")
    remote = here.recipe.checkpoints.model_copy(update={"url": s3})
    here = Family(here.recipe.model_copy(update={"checkpoints": remote}), here.folder)
    for family in (disk, here):
        family.train("base")
    shutil.rmtree(here.folder / "base/checkpoints")
    for family in (disk, here):
        family.train("v1.1")
    assert_same_run(disk.folder / "v1.1", here.folder / "v1.1")


def test_kill_9_in_an_upload_leaves_the_checkpoint_before_it_good(
    make_family: MakeFamily, prepared: Path, tmp_path: Path, server: dict[str, str], s3: str
) -> None:
    overrides = ("checkpoints.every=2K", f"checkpoints.url={s3}")
    killed = Path(shutil.copytree(prepared, tmp_path / "killed"))
    # A checkpoint is three objects and its manifest: the second one's upload is under way.
    kill = {0: partial(kill_in_upload, server, 5)}
    assert train_on(killed, 1, 1, overrides, in_rank=kill) == [-signal.SIGKILL]
    there = _names(f"{s3}/base")
    assert "step-2/manifest.json" in there
    assert "step-4/manifest.json" not in there
    assert any(name.startswith("step-4/") for name in there)
    assert RemoteCheckpointStore(tmp_path / "look", f"{s3}/base").steps() == [2]
    assert train_on(killed, 1, 1, overrides, in_rank={0: partial(speak_to, server)}) == [0]
    whole = make_family("whole", "precision=fp32", "checkpoints.every=2K")
    whole.train("base")
    assert_same_run(whole.folder / "base", killed / "base")
    assert {name.partition("/")[0] for name in _names(f"{s3}/base")} == {"recipe.yaml", "step-6"}


def test_two_ranks_write_under_a_url_and_one_goes_on(
    prepared: Path, tmp_path: Path, server: dict[str, str], s3: str
) -> None:
    folder, there = Path(shutil.copytree(prepared, tmp_path / "two")), dict.fromkeys(range(2))
    environment = {rank: partial(speak_to, server) for rank in there}
    short = ["stages.0.until=4K", f"checkpoints.url={s3}"]
    assert train_on(folder, 2, 2, short, in_rank=environment) == [0, 0]
    shutil.rmtree(folder / "base/checkpoints")
    assert train_on(folder, 1, 1, [f"checkpoints.url={s3}"], in_rank=environment) == [0]
    newest = next(RemoteCheckpointStore(folder / "base/checkpoints", f"{s3}/base").newest())
    assert isinstance(newest, Checkpoint)
    assert (newest.step, newest.state.ranks) == (6, 1)
    records = [json.loads(line) for line in (folder / "base/metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record["kind"] == "step"] == list(range(1, 7))
