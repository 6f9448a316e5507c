"""Corpora of other tools, in and out: layouts written here byte by byte, and by the tools where they are installed."""

import json
import struct
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from tinyllama.corpus.manifest import PreparedCorpus, open_corpus
from tinyllama.corpus.reading import read_texts
from tinyllama.errors import CorpusError
from tinyllama.formats.megatron import write_megatron
from tinyllama.prepare.prepare import prepare_corpus
from tinyllama.recipe import load_recipe
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

TEXTS = [f"Text {number}: def f(x): return x + {number}\n  </s> <s>\n" + "sum " * number for number in range(40)]


@pytest.fixture(scope="module")
def tokenizer(prepared: Path) -> SentencePieceTokenizer:
    return open_tokenizer(prepared / "tokenizer")


def prepare(tokenizer: SentencePieceTokenizer, root: Path, files: str, name: str) -> PreparedCorpus:
    """A corpus of some files with a known tokenizer."""
    fields = {"size": "1K", "license": "none", "sources": [{"files": files}], "held_out": {"share": "1%"}}
    recipe = load_recipe("nano", [f"corpora.prose={json.dumps(fields)}"])
    return prepare_corpus(recipe, "prose", tokenizer, root / name, root)


def texts_of(corpus: PreparedCorpus, tokenizer: SentencePieceTokenizer) -> list[str]:
    return [found.text for split in ("train", "held_out") for found in read_texts(corpus, tokenizer, split)]


def documents(tokenizer: SentencePieceTokenizer, *, bos: bool, eos: bool) -> list[list[int]]:
    return [[tokenizer.bos_id] * bos + ids + [tokenizer.eos_id] * eos for ids in tokenizer.encode(TEXTS)]


def write_datatrove(path: Path, ids: list[list[int]], dtype: str = "<u2") -> None:
    path.write_bytes(np.concatenate(ids).astype(dtype).tobytes())
    path.with_name(f"{path.name}.index").write_bytes(np.cumsum([len(one) for one in ids]).astype("<u8").tobytes())


def write_packed(folder: Path, ids: list[list[int]], chunk: int, fill: int) -> None:
    """As the builder does it: equal files, the last one filled up."""
    stream = [token for one in ids for token in one]
    for number, start in enumerate(range(0, len(stream), chunk)):
        part = stream[start : start + chunk]
        part += [fill] * (chunk - len(part))
        header = b"LITPKDS" + struct.pack("<QBQ", 1, 8, chunk)
        (folder / f"train_0_{number:010d}.bin").write_bytes(header + np.array(part, "<u2").tobytes())


def write_megatron_files(prefix: Path, sequences: list[list[list[int]]]) -> None:
    """Documents of several sequences each."""
    flat = [sequence for document in sequences for sequence in document]
    lengths = [len(sequence) for sequence in flat]
    ends = list(accumulate(map(len, sequences), initial=0))
    pointers = list(accumulate((4 * length for length in lengths[:-1]), initial=0))
    index = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 4, len(flat), len(ends))
    index += np.array(lengths, "<i4").tobytes() + np.array(pointers, "<i8").tobytes() + np.array(ends, "<i8").tobytes()
    prefix.with_suffix(".idx").write_bytes(index)
    prefix.with_suffix(".bin").write_bytes(np.concatenate(flat).astype("<i4").tobytes())


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
def test_datatrove_tokens_are_read_as_the_documents_that_they_were(
    tokenizer: SentencePieceTokenizer, tmp_path: Path, dtype: str
) -> None:
    write_datatrove(tmp_path / "00000_unshuffled.ds", documents(tokenizer, bos=False, eos=True), dtype)
    corpus = prepare(tokenizer, tmp_path, "*.ds", "corpus")
    assert sorted(texts_of(corpus, tokenizer)) == sorted(TEXTS)
    assert corpus.manifest.rejected == 0


@pytest.mark.parametrize("chunk", [7, 100, 100_000])
@pytest.mark.parametrize(("bos", "eos"), [(True, False), (False, True), (True, True)])
def test_packed_documents_are_whole_across_files_and_filling_is_no_document(
    tokenizer: SentencePieceTokenizer, tmp_path: Path, chunk: int, *, bos: bool, eos: bool
) -> None:
    fill = tokenizer.bos_id
    write_packed(tmp_path, documents(tokenizer, bos=bos, eos=eos), chunk, fill)
    corpus = prepare(tokenizer, tmp_path, "*.bin", "corpus")
    assert sorted(texts_of(corpus, tokenizer)) == sorted(TEXTS)
    assert corpus.manifest.quarantined == {}


def test_megatron_documents_may_be_several_sequences(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    sequences = [[ids[:9], ids[9:]] if len(ids) > 30 else [ids] for ids in documents(tokenizer, bos=False, eos=True)]
    write_megatron_files(tmp_path / "text_document", sequences)
    corpus = prepare(tokenizer, tmp_path, "text_document.bin", "corpus")
    assert sorted(texts_of(corpus, tokenizer)) == sorted(TEXTS)


def test_an_exported_corpus_comes_back_with_the_same_ids(
    prepared: Path, tokenizer: SentencePieceTokenizer, tmp_path: Path
) -> None:
    corpus = open_corpus(prepared / "corpora" / "prose")
    train, held_out = write_megatron(corpus, tmp_path / "out")
    stream = corpus.stream("train")
    ids = np.fromfile(train.with_suffix(".bin"), "<u2")
    assert ids.tolist() == stream.read(0, stream.tokens).tolist()
    again = prepare(tokenizer, tmp_path, "out/*.bin", "again")
    assert sorted(texts_of(again, tokenizer)) == sorted(texts_of(corpus, tokenizer))
    assert held_out.with_suffix(".idx").is_file()
    with pytest.raises(CorpusError, match="is there already"):
        write_megatron(corpus, tmp_path / "out")


def test_an_export_is_what_megatron_itself_reads(prepared: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    corpus = open_corpus(prepared / "corpora" / "prose")
    train, _ = write_megatron(corpus, tmp_path / "out")
    found = datasets.IndexedDataset(str(train))
    stream, split = corpus.stream("train"), corpus.manifest.splits["train"]
    assert len(found) == len(found.document_indices) - 1 == split.documents
    assert np.concatenate([found[n] for n in range(len(found))]).tolist() == stream.read(0, stream.tokens).tolist()


def test_what_megatron_itself_writes_is_read(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    datasets = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    torch = pytest.importorskip("torch")
    builder = datasets.IndexedDatasetBuilder(str(tmp_path / "text.bin"), dtype=np.uint16)
    for ids in documents(tokenizer, bos=False, eos=True):
        builder.add_item(torch.tensor(ids))
        builder.end_document()
    builder.finalize(str(tmp_path / "text.idx"))
    assert sorted(texts_of(prepare(tokenizer, tmp_path, "*.bin", "corpus"), tokenizer)) == sorted(TEXTS)


def test_what_datatrove_itself_writes_is_read(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    tokens = pytest.importorskip("datatrove.pipeline.tokens")
    data = pytest.importorskip("datatrove.data")
    model = str(tokenizer.model_file.with_name("tokenizer.json"))
    # Where a text spells a control token, its tokenizers read the token.
    plain = [text.replace("</s> <s>", "") for text in TEXTS]
    step = tokens.DocumentTokenizer(str(tmp_path / "tokens"), model, eos_token="</s>")  # noqa: S106  # no password
    step.run([data.Document(text=text, id=str(number)) for number, text in enumerate(plain)])
    corpus = prepare(tokenizer, tmp_path, "tokens/*.ds", "corpus")
    assert sorted(texts_of(corpus, tokenizer)) == sorted(plain)


def test_ids_of_another_tokenizer_are_refused(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    shifted = [[(token * 7 + 300) % tokenizer.vocab_size for token in ids] for ids in tokenizer.encode(TEXTS)]
    write_datatrove(tmp_path / "foreign.ds", shifted)
    with pytest.raises(CorpusError, match=r"foreign\.ds: its ids are not those of the family's tokenizer"):
        prepare(tokenizer, tmp_path, "*.ds", "corpus")
    write_datatrove(tmp_path / "large.ds", [[tokenizer.vocab_size, 5]])
    with pytest.raises(CorpusError, match=r"large\.ds: its ids"):
        prepare(tokenizer, tmp_path, "large.ds", "corpus")


def test_files_that_are_cut_off_or_have_no_index_are_named(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    write_datatrove(tmp_path / "a.ds", documents(tokenizer, bos=False, eos=True))
    (tmp_path / "a.ds").write_bytes((tmp_path / "a.ds").read_bytes()[:-2])
    with pytest.raises(CorpusError, match=r"a\.ds: has \d+ bytes, but its index counts"):
        prepare(tokenizer, tmp_path, "a.ds", "corpus")
    (tmp_path / "b.bin").write_bytes(b"\1\0" * 9)
    with pytest.raises(CorpusError, match=r"b\.idx does not exist"):
        prepare(tokenizer, tmp_path, "b.bin", "corpus")
    write_packed(tmp_path, documents(tokenizer, bos=True, eos=False), 100, tokenizer.bos_id)
    (tmp_path / "train_0_0000000003.bin").write_bytes(b"LITPKDS" + struct.pack("<QBQ", 1, 8, 100) + b"\0" * 199)
    with pytest.raises(CorpusError, match=r"train_0_0000000003\.bin: has 223 bytes"):
        prepare(tokenizer, tmp_path, "train*.bin", "corpus")
