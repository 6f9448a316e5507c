"""README.zh.md says the same as README.md: the same sections, code, links and figures, in the same order."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```\w*\n.*?```", re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!README)([^)]+)\)")
FIGURE = re.compile(r"(?<![\w./#-])\d+(?:[.,]\d+)*[KMBT%]?(?![A-Za-z_-])")


def _sections(name: str) -> list[str]:
    return re.split(r"^## .*$", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)


ENGLISH, CHINESE = _sections("README.md"), _sections("README.zh.md")
PAIRS = list(zip(ENGLISH, CHINESE, strict=False))


def test_both_have_the_same_number_of_sections() -> None:
    assert len(ENGLISH) == len(CHINESE)


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=range(len(PAIRS)))
def test_a_section_has_the_same_blocks_links_and_rows(english: str, chinese: str) -> None:
    assert BLOCK.findall(chinese) == BLOCK.findall(english)
    assert sorted(LINK.findall(chinese)) == sorted(LINK.findall(english))
    for mark in (r"^\| ", r"^- "):
        assert len(re.findall(mark, chinese, re.MULTILINE)) == len(re.findall(mark, english, re.MULTILINE))


@pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=range(len(PAIRS)))
def test_a_section_has_the_same_code_and_figures(english: str, chinese: str) -> None:
    text, translated = BLOCK.sub("", english), BLOCK.sub("", chinese)
    assert sorted(CODE.findall(translated)) == sorted(CODE.findall(text))
    assert sorted(FIGURE.findall(CODE.sub("", translated))) == sorted(FIGURE.findall(CODE.sub("", text)))


def test_rows_of_figures_are_equal() -> None:
    rows = [re.findall(r"^\| [\w.]+ (?:\| [\d.]+ )+\|$", "".join(page), re.MULTILINE) for page in (ENGLISH, CHINESE)]
    assert len(rows[0]) == 4
    assert rows[0] == rows[1]
