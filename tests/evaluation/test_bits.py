import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.conftest import MakeFamily
from tinyllama.corpus.documents import DocumentIndex
from tinyllama.corpus.manifest import HELD_OUT, PreparedCorpus, open_corpus
from tinyllama.corpus.reading import read_texts
from tinyllama.evaluation.bits import Texts, bits_of_corpora, bits_of_texts, held_out_losses
from tinyllama.evaluation.record import BitsPerByte, TextBits
from tinyllama.family import Family
from tinyllama.family.evaluate_model import open_text
from tinyllama.model import Llama


def _model(family: object) -> Llama:
    model = Llama(family.recipe.model)  # type: ignore[attr-defined]
    model.initialize(3)
    return model


def _plain_losses(model: Llama, corpus: PreparedCorpus) -> Tensor:
    """Loss of each held-out target in nats, window by window."""
    context, stream = model.shape.context, corpus.stream(HELD_OUT)
    tokens, losses = torch.from_numpy(stream.read(0, stream.tokens)), []
    for start in range(0, stream.tokens - 1, context):
        # The last window is the last full one; only its targets that no window before it covered count.
        begin = min(start, stream.tokens - 1 - context)
        window = tokens[begin : begin + context + 1]
        with torch.no_grad():
            found = functional.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="none")
        losses.append(found[start - begin :])
    return torch.cat(losses)


def test_bits_per_byte_equal_a_plain_computation_over_all_held_out_targets(make_family: MakeFamily) -> None:
    family = make_family()
    model, corpus = _model(family), family.prepare().corpora["arithmetic"]
    nats = float(_plain_losses(model, corpus).sum())
    expected = nats / math.log(2) / corpus.text_bytes(HELD_OUT)
    found = bits_of_corpora(model, {"arithmetic": corpus}, document_masking=False)
    assert found["arithmetic"].per_byte == pytest.approx(expected, rel=1e-5)


def test_an_untrained_model_is_near_the_uniform_loss(make_family: MakeFamily) -> None:
    family = make_family()
    losses = held_out_losses(_model(family), family.prepare().corpora, rows=4, document_masking=False)
    assert set(losses) == set(family.prepare().corpora)
    assert all(abs(loss - math.log(512)) < 1 for loss in losses.values())


def test_held_out_losses_take_the_same_rows_every_time(make_family: MakeFamily) -> None:
    family = make_family()
    model = _model(family)
    first, second = (held_out_losses(model, family.prepare().corpora, rows=3, document_masking=False) for _ in range(2))
    assert first == second
    everything = held_out_losses(model, family.prepare().corpora, rows=10**6, document_masking=False)
    assert everything != first


def test_pieces_of_a_text_add_up_and_lie_where_their_text_is(make_family: MakeFamily) -> None:
    family = make_family()
    prepared = family.prepare()
    model, corpus = _model(family), prepared.corpora["arithmetic"]
    found = bits_of_corpora(model, {"arithmetic": corpus}, document_masking=False)["arithmetic"]
    assert found.bytes == corpus.text_bytes(HELD_OUT)
    assert len(found.bits) == found.bytes // 256 > 5
    mean = sum(found.bits) / len(found.bits)
    assert all(0.7 * mean < bits < 1.3 * mean for bits in found.bits)  # an untrained model needs as much everywhere
    texts = [(document.text, document.bytes) for document in read_texts(corpus, prepared.tokenizer, HELD_OUT)]
    again = bits_of_texts(model, prepared.tokenizer, Texts(texts), bos=True, window=family.recipe.model.context)
    assert (again.bytes, len(again.bits)) == (found.bytes, len(found.bits))
    assert again.bits == pytest.approx(found.bits, rel=1e-3)  # the same text by another path


@pytest.fixture
def mixed(make_family: MakeFamily, tmp_path: Path) -> Family:
    """A family whose corpus of arithmetic has a builtin source, and two that one pattern of files has."""
    for name, word in (("a", "seven"), ("b", "tree")):
        # So many that some are held out, which the name of the file decides.
        lines = [{"text": f"{word} {number}. ", "kind": word} for number in range(600)]
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    files = tmp_path / "*.jsonl"
    sources = [
        {"builtin": "arithmetic", "limit": 30_000},
        *({"files": str(files), "where": f'kind == "{word}"'} for word in ("seven", "tree")),
    ]
    return make_family("mixed", f"corpora.arithmetic.sources={json.dumps(sources)}")


def test_a_corpus_of_several_sources_has_bits_for_each_that_add_up(mixed: Family, tmp_path: Path) -> None:
    model, corpora = _model(mixed), mixed.prepare().corpora
    found = bits_of_corpora(model, corpora, document_masking=False)
    assert {name for name, text in found.items() if text.sources} == {"arithmetic"}
    arithmetic, files = found["arithmetic"], str(tmp_path / "*.jsonl")
    assert list(arithmetic.sources) == [
        "arithmetic", f'{files} where kind == "seven"', f'{files} where kind == "tree"'
    ]  # fmt: skip
    assert sum(part.bytes for part in arithmetic.sources.values()) == arithmetic.bytes
    assert sum(part.total for part in arithmetic.sources.values()) == pytest.approx(arithmetic.total, rel=1e-6)
    texts = list(read_texts(corpora["arithmetic"], mixed.prepare().tokenizer, HELD_OUT))
    for name, word in zip(arithmetic.sources, ("", "seven", "tree"), strict=True):
        own = [text for text in texts if (word and word in text.text) or (not word and ".jsonl" not in text.origin)]
        assert arithmetic.sources[name].bytes == sum(text.bytes for text in own)
    again = bits_of_texts(
        model, mixed.prepare().tokenizer, open_text(corpora["arithmetic"].folder), bos=True, window=model.shape.context
    )
    assert again.sources.keys() == arithmetic.sources.keys()
    assert again.sources["arithmetic"].total == pytest.approx(arithmetic.sources["arithmetic"].total, rel=1e-3)


def test_the_bits_of_a_source_are_those_of_its_own_tokens(mixed: Family) -> None:
    model, corpus = _model(mixed), mixed.prepare().corpora["arithmetic"]
    losses = _plain_losses(model, corpus)
    documents = DocumentIndex(corpus, HELD_OUT).overlapping(0, corpus.tokens(HELD_OUT))
    found = bits_of_corpora(model, {"arithmetic": corpus}, document_masking=False)["arithmetic"].sources
    kinds = [(lambda text: ".jsonl" not in text), (lambda text: "a.jsonl" in text), (lambda text: "b.jsonl" in text)]
    for bits, is_own in zip(found.values(), kinds, strict=True):
        own = [document for document in documents if is_own(document.origin)]
        nats = sum(float(losses[max(0, doc.start - 1) : doc.start + doc.tokens - 1].sum()) for doc in own)
        assert bits.total == pytest.approx(nats / math.log(2), rel=1e-5)


def test_a_corpus_that_an_earlier_version_prepared_keeps_its_identity_and_has_no_sources(mixed: Family) -> None:
    corpus = mixed.prepare().corpora["arithmetic"]
    path = corpus.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    assert sum(manifest.pop("held_out_documents")) == corpus.manifest.splits[HELD_OUT].documents
    path.write_text(json.dumps(manifest))
    old = open_corpus(corpus.folder)
    assert old.sha256 == corpus.sha256
    found = bits_of_corpora(_model(mixed), {"arithmetic": old}, document_masking=False)["arithmetic"]
    assert found.sources == {}
    assert BitsPerByte.of({"arithmetic": found, "text": TextBits(8, 4.0, [])}, 64, "fp32").by_source == {}
