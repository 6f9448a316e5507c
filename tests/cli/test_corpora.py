import json
import shutil
from pathlib import Path

import pytest

from tests.command import run


@pytest.fixture
def family(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared nano family."""
    shutil.copytree(prepared, tmp_path / "family")
    return tmp_path / "family"


def test_prepare_shows_a_table_of_what_is_there(family: Path) -> None:
    done = run("prepare", "nano", "--run", family, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert "bytes/token" in done.stdout
    for name in ("prose", "code", "arithmetic", "chinese"):
        assert done.stdout.count(name) == 2


def test_verify_finds_nothing_wrong_with_a_good_corpus_and_the_place_in_a_damaged_one(family: Path) -> None:
    corpus = family / "corpora/prose"
    done = run("corpus", "verify", corpus)
    assert done.returncode == 0, done.stderr
    assert "no problems found" in done.stdout
    shard = corpus / "train-00000.bin"
    data = bytearray(shard.read_bytes())
    data[1001] ^= 0xFF
    shard.write_bytes(data)
    done = run("corpus", "verify", corpus, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["findings"][0]["location"] == "train-00000.bin"
    assert "Traceback" not in done.stderr


def test_inspect_shows_counts_and_documents_by_their_origin(family: Path) -> None:
    facts = json.loads(run("corpus", "inspect", family / "corpora/arithmetic", "--json").stdout)
    assert facts["train"]["documents"] > 100
    assert facts["engine"]["checked"] >= 8
    texts = json.loads(
        run("corpus", "inspect", family / "corpora/arithmetic", "--origin", "arithmetic-17", "--json").stdout
    )
    assert {text["origin"] for text in texts} <= {"arithmetic-17", *(f"arithmetic-17{n}" for n in range(10))}
    assert texts[0]["text"]


def test_inspect_shows_the_engine_and_the_sources_and_which_text_replaces_another(family: Path) -> None:
    path = family / "corpora/prose/manifest.json"
    manifest = json.loads(path.read_text())
    builtin = {"version": "tang 2.0", "sha256": "0" * 64, "license": "MIT", "replaces": "manpages-zh"}
    manifest["sources"] = [*manifest["sources"], builtin, {"files": "my/*.txt"}]
    path.write_text(json.dumps(manifest))
    shown = run("corpus", "inspect", path.parent).stdout.splitlines()
    engine = manifest["engine"]
    assert f"engine: {engine['name']}; ids of {engine['checked']:,} documents compared" in "\n".join(shown)
    assert f"license: {manifest['license']}" in shown
    assert [line for line in shown if line.startswith("source: ")] == [
        *[f"source: {each['version']} ({each['license']})" for each in manifest["sources"][:-2]],
        "source: tang 2.0 (MIT), instead of manpages-zh, which was unavailable",
        "source: my/*.txt",
    ]


def test_export_prints_the_prefixes_that_megatron_takes(family: Path) -> None:
    done = run("corpus", "export", family / "corpora/arithmetic", "--out", family / "out")
    assert done.returncode == 0, done.stderr
    prefixes = done.stdout.split()
    assert prefixes == [str(family / "out" / split) for split in ("train", "held_out")]
    assert all(Path(prefix + suffix).is_file() for prefix in prefixes for suffix in (".bin", ".idx"))
    assert run("corpus", "export", family / "corpora/arithmetic", "--out", family / "out").returncode == 2


def test_stats_and_random_documents_are_shown_and_as_json(family: Path) -> None:
    corpus = family / "corpora/arithmetic"
    done = run("corpus", "stats", corpus, "--top", "2")
    assert done.returncode == 0, done.stderr
    assert "LATIN" in done.stdout
    found = json.loads(run("corpus", "stats", corpus, "--json").stdout)
    facts = json.loads(run("corpus", "inspect", corpus, "--json").stdout)
    assert found["tokens"] == facts["train"]["tokens"] + facts["held_out"]["tokens"]
    assert found["dropped"] == {}
    texts = json.loads(run("corpus", "sample", corpus, "--n", "3", "--seed", "1", "--json").stdout)
    shown = run("corpus", "sample", corpus, "--n", "3", "--seed", "1").stdout
    assert len(texts) == 3
    assert all(text["origin"] in shown and text["text"] in shown for text in texts)


def test_the_difference_of_two_corpora_is_shown(family: Path) -> None:
    corpora = family / "corpora"
    same = run("corpus", "diff", corpora / "code", corpora / "code")
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "both hold the same documents")
    found = json.loads(run("corpus", "diff", corpora / "code", corpora / "prose", "--json").stdout)
    assert "sources" in found["keys"]
    assert found["kept"]["documents"] == 0
    assert found["removed"]["documents"] + found["changed"]["documents"] > 0
