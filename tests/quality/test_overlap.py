from __future__ import annotations

from tinyllama.corpus.reading import PreparedText
from tinyllama.quality.overlap import N, QuestionIndex, words

QUESTION = "Which of the seven dogs that ran to the old town came back before the rain? The brown one."
OTHER = "What is two and two? It is four, as everybody in the small school by the river knows well."


def check(index: QuestionIndex, *texts: str) -> None:
    index.check(
        "prose", [PreparedText(f"file-{i}", 0, text, len(text.encode()), "train", 0) for i, text in enumerate(texts)]
    )


def test_a_question_in_a_document_is_found_and_the_document_named() -> None:
    index = QuestionIndex({"piqa": [QUESTION, OTHER]})
    check(index, "nothing of the kind", f"He asked: «{QUESTION.upper().replace(' ', '  ')}» and left.")
    found = index.overlaps["piqa"]
    assert found.contaminated == 1
    assert found.found == {0: {"prose": ["file-1"]}}


def test_thirteen_words_in_a_row_are_needed() -> None:
    run = words(QUESTION)
    index = QuestionIndex({"piqa": [QUESTION]})
    check(index, " ".join(run[: N - 1]) + " cat " + " ".join(run[N:]))
    assert index.overlaps["piqa"].contaminated == 0
    check(index, " ".join(run[1 : N + 1]))
    assert index.overlaps["piqa"].contaminated == 1


def test_short_questions_are_counted_apart() -> None:
    index = QuestionIndex({"piqa": ["Too short to tell.", QUESTION]})
    check(index, "Too short to tell.")
    found = index.overlaps["piqa"]
    assert (found.questions, found.too_short, found.contaminated, found.share) == (2, 1, 0, 0.0)


def test_chinese_is_compared_by_characters() -> None:
    assert words("他说3.5岁, ok") == ["他", "说", "3", "5", "岁", "ok"]
    index = QuestionIndex({"xcopa_zh": ["这个男人把钥匙放在门边的桌子上面了"]})
    check(index, "昨天,这个男人把钥匙放在门边的桌子上面了。")
    assert index.overlaps["xcopa_zh"].contaminated == 1
