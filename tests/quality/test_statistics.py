from pathlib import Path

import pytest

from tinyllama.quality.languages import identify, script_of
from tinyllama.quality.statistics import Language, TextStatistics
from tinyllama.recipe.filters import STATISTICS

PAGE = Path(__file__).parents[2] / "docs/data.md"


def unknown(_text: str) -> Language:
    return Language("zxx", 0.0)


@pytest.mark.parametrize("name", STATISTICS)
def test_every_statistic_is_computed_also_of_odd_texts_and_explained(name: str) -> None:
    for text in ("", " \n ", "…", "Two words.\n\nTwo words.\n"):
        assert isinstance(TextStatistics(text, unknown)[name], str if name == "language" else int | float)
    assert f"| `{name}` | {STATISTICS[name]} |" in PAGE.read_text(encoding="utf-8")


def test_statistics_are_what_their_names_say() -> None:
    found = TextStatistics("Two words.\n\nTwo 12 more", unknown)
    assert {name: found[name] for name in ("characters", "lines", "words", "mean_word", "longest_line")} == {
        "characters": 23, "lines": 2, "words": 5, "mean_word": 17 / 5, "longest_line": 11,
    }  # fmt: skip
    assert (found["letters"], found["digits"], found["symbols"]) == (15 / 23, 2 / 23, 1 / 23)
    assert (found["capitals"], found["different_words"], found["ended_lines"]) == (2 / 15, 4 / 5, 1 / 2)
    assert TextStatistics("a\nb\na\na", unknown)["repeated_lines"] == 1 / 2


def test_languages_and_scripts_are_told_apart() -> None:
    assert script_of("Привет, мир 12") == "CYRILLIC"
    assert script_of("今天晚上 ok") == "CJK"
    assert not script_of("12 34")
    pytest.importorskip("py3langid", reason="the extra quality")
    assert identify("Der Hund lief über die Straße und bellte.").code == "de"
