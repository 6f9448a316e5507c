from pathlib import Path

import pytest

from tinyllama.design.held_out import hold_out
from tinyllama.design.texts import survey_text
from tinyllama.prepare.held_out import is_held_out
from tinyllama.sources.documents import plan_tasks, read_task

WORDS = ["one", "two", "three", "words", "and", "many", "more", "of", "them"]


def text(size: int, seed: int) -> str:
    """Words in an order that hardly repeats, after the seed, so that no text is a copy of another."""
    words = (WORDS[(seed + number * number // 7 + number // 5) % len(WORDS)] for number in range(size // 5))
    return f"{seed}\n" + "".join(f"{word}\n" if number % 12 == 11 else f"{word} " for number, word in enumerate(words))


@pytest.mark.parametrize(("documents", "size"), [(400, 10_000), (60, 5_000), (3, 300_000), (1, 60_000)])
def test_both_parts_are_what_preparation_will_find_and_fill_rows(documents: int, size: int, tmp_path: Path) -> None:
    for number in range(documents):
        (tmp_path / f"{number}.txt").write_text(text(size, number))
    survey = survey_text("text", [str(tmp_path)], tmp_path)
    part = hold_out(survey, bytes_per_token=3.0, context=256)

    corpus = survey.corpus.model_copy(update={"cut": part.cut, "held_out": part.rule})
    held = total = 0
    for task in plan_tasks(corpus, tmp_path, lambda _: None, name="text"):
        for document in read_task(corpus, task, lambda _: None):
            total += len(document.text)
            held += len(document.text) * is_held_out(document, part.rule, "text")
    row = 3 * 257
    assert held == pytest.approx(part.bytes, rel=0.15, abs=2 * row)
    assert held >= 2 * row
    assert total - held >= total / 2
    assert (part.rule.by == "document") == (documents >= 50)
    assert (part.cut is None) == (part.rule.by == "document")


def test_a_large_text_holds_out_about_200000_tokens(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"{number}.txt").write_text(text(40_000, number))
    part = hold_out(survey_text("text", [str(tmp_path)], tmp_path), bytes_per_token=4.0, context=256)
    assert 800_000 <= part.bytes <= 2_400_000
    assert part.rule.share <= 0.1
