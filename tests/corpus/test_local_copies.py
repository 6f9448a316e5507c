"""Shards that are copied to a local disk: read from there, and only if they are what the manifest says."""

from __future__ import annotations

import logging
import multiprocessing
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tinyllama.corpus.local_copies import local_copies
from tinyllama.corpus.manifest import CorpusManifest, CorpusRequest, EngineEntry, PreparedCorpus, SplitEntry
from tinyllama.corpus.shards import ShardWriter, token_dtype
from tinyllama.files import sha256_file

if TYPE_CHECKING:
    from tests.conftest import MakeFamily

TOKENS = 1000


@pytest.fixture
def corpus(tmp_path: Path) -> PreparedCorpus:
    folder = tmp_path / "far"
    folder.mkdir()
    writer = ShardWriter(folder, "train", token_dtype(60_000), 300)
    writer.append(range(TOKENS))
    writer.close()
    train = SplitEntry(documents=1, tokens=TOKENS, bytes=TOKENS, shards=tuple(writer.shards))
    empty = SplitEntry(documents=0, tokens=0, bytes=0, shards=())
    manifest = CorpusManifest(
        corpus="prose",
        license="none",
        request=CorpusRequest(tokenizer="", bos=True, eos=True),
        bos_id=1,
        eos_id=2,
        rejected=0,
        quarantined={},
        sources=(),
        engine=EngineEntry(name="none", checked=0),
        dtype="uint16",
        splits={"train": train, "held_out": empty},
        files={},
    )
    return PreparedCorpus(folder, manifest)


def wait_for(copies: Path, count: int) -> list[Path]:
    deadline = time.monotonic() + 30
    while len(found := sorted(copies.glob("*.bin"))) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def test_rows_come_from_the_copies_once_they_are_there(
    corpus: PreparedCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", str(tmp_path / "near"))
    stream = corpus.stream("train")
    assert (stream.read(0, TOKENS) == np.arange(TOKENS)).all()  # so that files of the originals are open
    with local_copies("$SCRATCH/shards", [(corpus, stream)]):
        copies = wait_for(tmp_path / "near/shards", 4)
    assert [sha256_file(copy) for copy in copies] == [copy.stem for copy in copies]
    for shard in corpus.folder.glob("*.bin"):
        shard.write_bytes(b"")
    assert (stream.read(0, TOKENS) == np.arange(TOKENS)).all()


def test_a_damaged_original_is_named_and_never_copied(
    corpus: PreparedCorpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shard = corpus.folder / "train-00001.bin"
    shard.write_bytes(b"\1" + shard.read_bytes()[1:])
    with caplog.at_level(logging.WARNING), local_copies(str(tmp_path / "near"), [(corpus, corpus.stream("train"))]):
        while not caplog.messages:
            time.sleep(0.01)
    (message,) = caplog.messages
    assert message.startswith(f"{shard}: differs from its SHA-256 in the manifest; see `tinyllama corpus verify`")
    assert len(list((tmp_path / "near").glob("*.bin"))) == 1
    assert not list((tmp_path / "near").glob(".*.partial"))


def test_a_folder_that_cannot_be_written_is_said_and_training_reads_the_originals(
    corpus: PreparedCorpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    stream = corpus.stream("train")
    with caplog.at_level(logging.WARNING), local_copies(str(tmp_path / "file"), [(corpus, stream)]):
        while not caplog.messages:
            time.sleep(0.01)
        assert (stream.read(0, TOKENS) == np.arange(TOKENS)).all()
    assert "what was not copied is read from where it is" in caplog.text


def _copy(folder: Path, manifest: CorpusManifest, near: str) -> None:
    corpus = PreparedCorpus(folder, manifest)
    with local_copies(near, [(corpus, corpus.stream("train"))]):
        wait_for(Path(near), 4)


def test_several_processes_share_one_set_of_copies(corpus: PreparedCorpus, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (corpus.folder, corpus.manifest, str(tmp_path / "near"))
    processes = [context.Process(target=_copy, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(path.name for path in (tmp_path / "near").iterdir()) == sorted(
        f"{shard.sha256}.bin" for shard in corpus.manifest.splits["train"].shards
    )


def test_training_with_copies_trains_the_same(make_family: MakeFamily, trained: Path, tmp_path: Path) -> None:
    from tests.train.runs import deterministic_metrics

    copied = make_family("copied", f"hardware.local_copies={tmp_path / 'near'}")
    copied.train("base")
    assert list((tmp_path / "near").glob("*.bin"))
    assert deterministic_metrics(copied.folder / "base") == deterministic_metrics(trained / "base")
