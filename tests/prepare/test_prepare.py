import json
from pathlib import Path

import pytest
from pyarrow import parquet

from tinyllama.corpus.manifest import HELD_OUT, TRAIN, SplitEntry, open_corpus
from tinyllama.corpus.shards import SHARD_TOKENS, ShardWriter, token_dtype
from tinyllama.corpus.verification import find_damage
from tinyllama.errors import CorpusError
from tinyllama.files import sha256_file
from tinyllama.prepare.assembly import finished_shard, kept_parts, plan_shards, write_shard
from tinyllama.prepare.held_out import is_held_out
from tinyllama.prepare.prepare import prepare_corpus
from tinyllama.prepare.task import Counts, TaskResult, finished_task, task_folder
from tinyllama.prepare.tokenizer import obtain_tokenizer
from tinyllama.recipe import HeldOut, Recipe, load_recipe
from tinyllama.sources.documents import Document
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

FIELDS = "corpora.prose={size: 1K, license: none, sources: [{files: texts/*.jsonl}], held_out: {share: 20%}}"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(
        "nano",
        [FIELDS, "tokenizer.train.corpora=[arithmetic]", "tokenizer.train.vocab_size=400", "model.vocab_size=400"],
    )


@pytest.fixture(scope="module")
def tokenizer(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    return obtain_tokenizer(recipe, tmp_path_factory.mktemp("tokenizer"), Path(), lambda _: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = [json.dumps({"text": f"Document {n}: </s> stays text, like <s>. {'word ' * n}"}) for n in range(60)]
    lines.insert(30, "{broken")
    (folder / "a.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_every_document_is_bos_ids_eos_and_nothing_is_dropped(
    recipe: Recipe, tokenizer: SentencePieceTokenizer, root: Path
) -> None:
    corpus = prepare_corpus(recipe, "prose", tokenizer, root / "corpus", root)
    assert corpus.manifest.rejected == 1
    assert sum(corpus.manifest.splits[split].documents for split in (TRAIN, HELD_OUT)) == 60
    for split in (TRAIN, HELD_OUT):
        stream = corpus.rows(split, 8).stream
        ids = stream.read(0, stream.tokens).tolist()
        index = parquet.read_table(corpus.folder / f"{split}.documents.parquet").to_pylist()
        assert sum(entry["bytes"] for entry in index) == corpus.text_bytes(split)
        for entry in index:
            document = ids[entry["start"] : entry["start"] + entry["tokens"]]
            line = int(entry["origin"].rpartition(":")[2])
            text = json.loads((root / "texts/a.jsonl").read_text().split("\n")[line - 1])["text"]
            assert document == [tokenizer.bos_id, *tokenizer.encode([text])[0], tokenizer.eos_id]
            assert tokenizer.decode(document[1:-1]) == text


def test_preparing_again_keeps_what_is_there_and_another_request_makes_it_anew(
    recipe: Recipe, tokenizer: SentencePieceTokenizer, root: Path
) -> None:
    first = prepare_corpus(recipe, "prose", tokenizer, root / "corpus", root)
    (root / "texts/a.jsonl").unlink()
    assert prepare_corpus(recipe, "prose", tokenizer, root / "corpus", root).sha256 == first.sha256
    (root / "texts/b.jsonl").write_text("\n".join(json.dumps({"text": f"new text {n}"}) for n in range(30)))
    changed = recipe.model_copy(update={"tokenizer": recipe.tokenizer.model_copy(update={"eos": False})})
    assert prepare_corpus(changed, "prose", tokenizer, root / "corpus", root).sha256 != first.sha256


def test_preparing_is_deterministic(recipe: Recipe, tokenizer: SentencePieceTokenizer, root: Path) -> None:
    one = prepare_corpus(recipe, "prose", tokenizer, root / "one", root)
    two = prepare_corpus(recipe, "prose", tokenizer, root / "two", root)
    assert one.manifest == two.manifest


def test_rejected_documents_are_quarantined_with_their_reason(
    recipe: Recipe, tokenizer: SentencePieceTokenizer, root: Path
) -> None:
    corpus = prepare_corpus(recipe, "prose", tokenizer, root / "corpus", root)
    (entry,) = [json.loads(line) for line in (corpus.folder / "rejected.jsonl").read_text().splitlines()]
    assert entry["origin"].endswith("a.jsonl:31")
    assert "JSON" in entry["reason"]


def test_an_interrupted_preparation_leaves_no_corpus(
    recipe: Recipe, tokenizer: SentencePieceTokenizer, root: Path
) -> None:
    def stop(_counts: Counts) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(recipe, "prose", tokenizer, root / "corpus", root, stop)
    assert sorted(path.name for path in root.iterdir()) == [".corpus.work", "texts"]
    with pytest.raises(CorpusError, match="no complete corpus"):
        open_corpus(root / "corpus")


@pytest.mark.parametrize("limit", [SHARD_TOKENS, 100])
def test_tokens_that_changed_on_the_disk_before_they_became_a_shard_stop_the_preparation(
    tmp_path: Path, limit: int
) -> None:
    folder = task_folder(tmp_path, 0)
    folder.mkdir()
    writer = ShardWriter(folder, TRAIN, token_dtype(400))
    writer.append(list(range(300)))
    writer.close()
    split = SplitEntry(documents=1, tokens=300, bytes=300, shards=tuple(writer.shards))
    empty = SplitEntry(documents=0, tokens=0, bytes=0, shards=())
    result = TaskResult(splits={TRAIN: split, HELD_OUT: empty}, quarantined={}, checked=0, input_bytes=0)
    shards = plan_shards(kept_parts(tmp_path, [result]), token_dtype(400), limit)[TRAIN]
    for shard in shards:
        write_shard(tmp_path, shard, 2)
    whole = b"".join((tmp_path / shard.file).read_bytes() for shard in shards)
    assert whole == (folder / "train-00000.bin").read_bytes()
    for shard in shards:
        entry = finished_shard(tmp_path, shard)
        assert entry is not None
        assert entry.sha256 == sha256_file(tmp_path / shard.file)
    (folder / "train-00000.bin").write_bytes(whole[:301] + bytes([whole[301] ^ 1]) + whole[302:])
    (tmp_path / shards[-1].file).unlink()
    with pytest.raises(CorpusError, match=r"train-00000\.bin or its copy in .* is not what was written to it"):
        write_shard(tmp_path, shards[-1], 2)


def test_a_truncated_shard_is_seen_at_the_start_and_a_flipped_bit_by_verify(
    recipe: Recipe, tokenizer: SentencePieceTokenizer, root: Path
) -> None:
    corpus = prepare_corpus(recipe, "prose", tokenizer, root / "corpus", root)
    shard = corpus.folder / "train-00000.bin"
    data = bytearray(shard.read_bytes())
    assert not list(find_damage(corpus, tokenizer))
    data[10] ^= 1
    shard.write_bytes(data)
    assert ("train-00000.bin", "its SHA-256 differs from the manifest's") in find_damage(
        open_corpus(corpus.folder), tokenizer
    )
    shard.write_bytes(data[:-2])
    with pytest.raises(CorpusError, match=r"train-00000\.bin: \d+ bytes, expected"):
        open_corpus(corpus.folder)


def test_a_corpus_without_a_single_good_document_is_refused(
    recipe: Recipe, tokenizer: SentencePieceTokenizer, root: Path
) -> None:
    (root / "texts/a.jsonl").write_text('{"body": "x"}\n')
    with pytest.raises(
        CorpusError, match=r"no document could be read; check its sources\n  texts/a.jsonl:1: text field"
    ):
        prepare_corpus(recipe, "prose", tokenizer, root / "corpus", root)


def test_pieces_of_one_document_are_held_out_together() -> None:
    rule = HeldOut.model_validate({"share": "30%"})
    for group in map(str, range(50)):
        decisions = {is_held_out(Document("x", group, group, part), rule, "c") for part in range(20)}
        assert len(decisions) == 1


def test_blocks_keep_neighbors_of_one_document_together() -> None:
    rule = HeldOut.model_validate({"share": "30%", "by": "block", "block": 8})
    decisions = [is_held_out(Document("x", "set.mm", "set.mm", part), rule, "c") for part in range(800)]
    assert all(len(set(decisions[start : start + 8])) == 1 for start in range(0, 800, 8))
    assert 0.2 < sum(decisions) / 800 < 0.4


def test_a_task_that_4bd9be0_finished_is_read(tmp_path: Path) -> None:
    folder = task_folder(tmp_path, 0)
    folder.mkdir()
    split = {"documents": 2, "tokens": 20, "bytes": 30, "shards": []}
    result = {"splits": {TRAIN: split, HELD_OUT: split}, "kept_aside": {"empty": 1}, "checked": 2, "input_bytes": 70}
    (folder / "task.json").write_text(json.dumps(result))
    found = finished_task(tmp_path, 0)
    assert found is not None
    assert found.quarantined == {"empty": 1}
    assert found.counts == Counts(documents=4, bytes=60, tokens=40, read=70)
    del result["checked"]
    (folder / "task.json").write_text(json.dumps(result))
    with pytest.raises(CorpusError, match=r"task\.json: checked: is missing"):
        finished_task(tmp_path, 0)
