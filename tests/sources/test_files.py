"""Sources of the flagship, on small files of the originals' layout; URLs; gated sets of the hub."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.command import run
from tests.sources.test_documents import lines, read
from tinyllama.errors import CorpusError
from tinyllama.recipe import Corpus, load_recipe
from tinyllama.sources.documents import Document, read_documents

HUB = "hf://datasets/"


def flagship(name: str, root: Path) -> list[Document]:
    """Documents of a corpus of the flagship recipe, from copies below a folder instead of the hub."""
    corpus = load_recipe("tinyllama-v1.1").corpora[name].model_dump(mode="json")
    for source in corpus["sources"]:
        assert source["files"].startswith(HUB)
        source["files"] = source["files"].removeprefix(HUB)
    return list(read_documents(Corpus.model_validate(corpus), root, pytest.fail))


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstandard.compress(data) if path.suffix == ".zst" else data)


def texts(documents: list[Document]) -> list[str]:
    return [document.text for document in documents]


def test_slimpajama_is_read_without_its_github_subset(tmp_path: Path) -> None:
    sets = ["RedPajamaCommonCrawl", "RedPajamaGithub", "RedPajamaC4", "RedPajamaArXiv"]
    data = lines(*({"text": name, "meta": {"redpajama_set_name": name}} for name in sets))
    for chunk in (1, 2):
        put(tmp_path / f"cerebras/SlimPajama-627B/train/chunk{chunk}/example_train_0.jsonl.zst", data)
    put(tmp_path / "cerebras/SlimPajama-627B/validation/chunk1/example_holdout_0.jsonl.zst", data)
    assert texts(flagship("slimpajama", tmp_path)) == 2 * ["RedPajamaCommonCrawl", "RedPajamaC4", "RedPajamaArXiv"]


def test_starcoder_is_read_by_language_out_of_its_content_column(tmp_path: Path) -> None:
    for language in ("python", "c-sharp"):
        path = tmp_path / f"bigcode/starcoderdata/{language}/train-00000-of-00059.parquet"
        path.parent.mkdir(parents=True)
        columns = {"max_stars_repo_path": ["a"], "max_stars_repo_name": ["b"], "max_stars_count": [3], "id": ["0"]}
        pq.write_table(pa.table(columns | {"content": [f"<reponame>b\ncode in {language}"]}), path)
    assert texts(flagship("starcoder", tmp_path)) == [f"<reponame>b\ncode in {n}" for n in ("c-sharp", "python")]


def test_proof_pile_2_is_read_from_the_training_parts_of_its_three_sets(tmp_path: Path) -> None:
    for name in ("algebraic-stack", "arxiv", "open-web-math"):
        for part in ("train", "validation", "test"):
            data = lines({"text": f"{name} {part}", "meta": {"url": "x"}})
            put(tmp_path / f"EleutherAI/proof-pile-2/{name}/{part}/0000.jsonl.zst", data)
    assert texts(flagship("proof_pile", tmp_path)) == [
        "algebraic-stack train", "arxiv train", "open-web-math train",
    ]  # fmt: skip


def test_skypile_is_read_line_by_line(tmp_path: Path) -> None:
    data = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in ("你好", "世界")).encode()
    put(tmp_path / "Skywork/SkyPile-150B/data/2020-40_zh_head_0000.jsonl", data)
    assert texts(flagship("skypile", tmp_path)) == ["你好", "世界"]


def test_files_behind_a_url_are_read_like_local_ones(tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/here/b/a.jsonl.zst", zstandard.compress(lines({"text": "one"}, {"text": "two"})))
    system.pipe("/here/c.txt", b"three")
    system.pipe("/here/.hidden.txt", b"no")
    pq.write_table(pa.table({"text": ["four"]}), tmp_path / "d.parquet")
    documents, rejected = read(tmp_path, {"files": "memory://here"}, {"files": f"file://{tmp_path}/*.parquet"})
    assert texts(documents) == ["one", "two", "three", "four"]
    assert documents[0].origin == "memory:///here/b/a.jsonl.zst:1"
    assert rejected == []
    with pytest.raises(CorpusError, match=r"no file matches 'memory://here/\*\.none'"):
        read(tmp_path, {"files": "memory://here/*.none"})


class _Gated(BaseHTTPRequestHandler):
    """A hub whose only data set shows that it is there, and no more."""

    def do_GET(self) -> None:
        allowed = self.path.rstrip("/").endswith("/api/datasets/owner/gated")
        self.send_response(200 if allowed else 403)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("X-Error-Message", "Access to dataset owner/gated is restricted")
        self.end_headers()
        self.wfile.write(b'{"id": "owner/gated", "siblings": []}' if allowed else b"{}")

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def gated_hub() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Gated)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("reachable", [True, False])
def test_a_gated_set_or_a_hub_out_of_reach_is_explained_in_seconds(
    gated_hub: str, tmp_path: Path, reachable: bool  # noqa: FBT001  # pytest passes it
) -> None:  # fmt: skip
    source = "corpora.prose.sources=[{files: hf://datasets/owner/gated/**/*.parquet}]"
    training = "tokenizer.train={corpora: [arithmetic], vocab_size: 400}"
    smaller = ["--set", "model.vocab_size=400"]
    hub = gated_hub if reachable else "http://127.0.0.1:9"
    began = time.monotonic()
    done = run(
        "prepare", "nano", "--set", source, "--set", training, *smaller,
        cwd=tmp_path, HF_ENDPOINT=hub, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "hub"),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "owner/gated" in done.stderr
    assert "hf auth login" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 120  # with the other corpora, on a busy machine
