import random

import numpy as np
import pytest

from tinyllama.quality.signatures import first_copies, signature, signature_bytes, word_runs
from tinyllama.recipe import Deduplication

MINHASH = Deduplication(method="minhash")


def by_definition(bands: list[list[int]], fixed: int) -> dict[int, int]:
    kept: list[int] = []
    copies = {}
    for document, own in enumerate(bands):
        same = [other for other in kept if any(a == b for a, b in zip(own, bands[other], strict=True))]
        if same and document >= fixed:
            copies[document] = same[0]
        else:
            kept.append(document)
    return copies


@pytest.mark.parametrize("seed", range(20))
def test_a_document_is_a_copy_of_the_first_kept_one_that_shares_a_band(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311  # a test's variety
    fixed = dice.choice([0, 5])
    bands = [[dice.randrange(dice.choice([6, 40, 1000])) for _ in range(3)] for _ in range(60)]
    assert first_copies(np.array(bands, np.uint64), fixed) == by_definition(bands, fixed)


def test_no_documents_have_no_copies() -> None:
    assert first_copies(np.empty((0, 14), np.uint64)) == {}


@pytest.mark.parametrize("settings", [MINHASH, Deduplication(method="exact")])
def test_signatures_have_their_size_and_depend_on_the_text_alone(settings: Deduplication) -> None:
    pytest.importorskip("rensa", reason="the extra quality")
    for text in ("!?", "one", "one two three four five six seven", "中文没有空格"):
        assert signature(text, settings) == signature(text, settings)
        assert len(signature(text, settings)) == signature_bytes(settings)
    assert signature("!?", settings) != signature("?!", settings)


def test_case_and_marks_do_not_make_another_text_for_minhash() -> None:
    pytest.importorskip("rensa", reason="the extra quality")
    assert signature("One two, three four five six!", MINHASH) == signature("one TWO three four: five six", MINHASH)
    assert word_runs("One two three", 2) == ["one two", "two three"]
    assert word_runs("One", 5) == ["one"]
    assert not word_runs("...", 5)


def test_the_same_signatures_as_when_corpora_were_first_signed() -> None:
    pytest.importorskip("rensa", reason="the extra quality")
    text = "A corpus keeps the signatures of its documents, and later ones are compared with them."
    assert signature(text, MINHASH)[:8].hex() == "1d1bdbfc72447f39"


def test_bands_find_what_their_formula_says() -> None:
    assert [round(MINHASH.finds(s), 3) for s in (0.5, 0.7, 0.8, 0.9)] == [0.053, 0.565, 0.924, 1.0]
