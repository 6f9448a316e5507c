"""The page's texts are in English and Chinese."""

import json
import re
from importlib.resources import files

WEB = files("tinyllama.studio") / "web"
ENTRY = re.compile(r'^  ("(?:[^"\\]|\\.)*"|\w+): "(.*)",$', re.MULTILINE)


def used() -> set[str]:
    """The texts that the page asks for."""
    html = (WEB / "index.html").read_text(encoding="utf-8")
    found = set(re.findall(r"data-t>([^<]*)<", html)) | set(re.findall(r'data-label="([^"]*)"', html))
    for file in WEB.iterdir():
        if file.name.endswith(".js"):
            found |= set(re.findall(r'\bt\("((?:[^"\\]|\\.)*)"', file.read_text(encoding="utf-8")))
    return found


def chinese() -> dict[str, str]:
    table = ENTRY.findall((WEB / "zh.js").read_text(encoding="utf-8"))
    return {json.loads(key) if key.startswith('"') else key: text for key, text in table}


def test_every_text_is_also_in_chinese_and_no_other() -> None:
    assert set(chinese()) == used()


def test_a_translation_takes_the_same_values() -> None:
    assert not [text for text, found in chinese().items() if found.count("{}") != text.count("{}")]


def test_every_text_that_the_page_asks_for_is_written_out() -> None:
    for file in WEB.iterdir():
        if file.name.endswith(".js") and file.name != "dom.js":
            assert not re.findall(r'\bt\((?!"|node\.dataset)', file.read_text(encoding="utf-8")), file.name
