import math

import pytest
import torch
from torch.nn import functional

from tests.conftest import MakeFamily
from tinyllama.corpus.manifest import HELD_OUT
from tinyllama.corpus.reading import read_texts
from tinyllama.evaluation.bits import bits_of_corpora, bits_of_texts, held_out_losses
from tinyllama.model import Llama


def _model(family: object) -> Llama:
    model = Llama(family.recipe.model)  # type: ignore[attr-defined]
    model.initialize(3)
    return model


def test_bits_per_byte_equal_a_plain_computation_over_all_held_out_targets(make_family: MakeFamily) -> None:
    family = make_family()
    model, corpus = _model(family), family.prepare().corpora["arithmetic"]
    context = family.recipe.model.context
    rows = corpus.rows(HELD_OUT, context)
    stream = rows.stream
    tokens = torch.from_numpy(stream.read(0, stream.tokens))
    nats = 0.0
    for start in range(0, stream.tokens - 1, context):
        # The last window is the last full one; only its targets that no window before it covered count.
        begin = min(start, stream.tokens - 1 - context)
        window = tokens[begin : begin + context + 1]
        with torch.no_grad():
            losses = functional.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="none")
        nats += float(losses[start - begin :].sum())
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
    again = bits_of_texts(model, prepared.tokenizer, texts, bos=True, window=family.recipe.model.context)
    assert (again.bytes, len(again.bits)) == (found.bytes, len(found.bits))
    assert again.bits == pytest.approx(found.bits, rel=1e-3)  # the same text by another path
