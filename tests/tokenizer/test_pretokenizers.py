"""Words of every rule, against another engine of regular expressions and llama.cpp's own spelling of the rules."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING

import pytest
import regex
from tokenizers import Tokenizer, models

from tests.tokenizer.test_json_file import trained
from tinyllama.tokenizer.byte_level import read_byte_level, tokenizer_json
from tinyllama.tokenizer.pretokenizers import name_of, pre_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
SUFFIX = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
UPPER, LOWER = r"((?=[\p{L}])([^a-z]))", r"((?=[\p{L}])([^A-Z]))"
BEFORE, AFTER = r"[^\r\n\p{L}\p{N}]?", r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES
LLAMA_CPP = {
    "gpt-2": [GPT2],
    "starcoder": [r"\p{N}", GPT2],
    "llama-bpe": [SUFFIX + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST],
    "smaug-bpe": [SUFFIX + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST],
    "qwen2": [SUFFIX + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST],
    "minicpm5": [r"\p{N}{1,3}", SUFFIX + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+" + REST],
    "tekken": [rf"{BEFORE}{UPPER}*{LOWER}+|{BEFORE}{UPPER}+{LOWER}*|\p{{N}}{AFTER}"],
    "gpt-4o": [rf"{BEFORE}{UPPER}*{LOWER}+{SUFFIX}?|{BEFORE}{UPPER}+{LOWER}*{SUFFIX}?|\p{{N}}{{1,3}}{AFTER}"],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥\u0800-一가-\ud7ff]+", r"\p{N}"],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
}
"""llama.cpp's spelling for its own engine, which knows neither `(?i:` nor classes within classes."""
ASCII_LETTERS_ALONE = {"tekken", "gpt-4o"}
"""Rules whose spelling in llama.cpp calls every other letter both upper and lower case."""
PARTS = ("a", "Bc", "中", "e\u0301", "'S", "'ll", "1", "234", " ", "  ", "\n", "\r\n\t", ",", "$(", "。")


def words_of(expressions: Sequence[str], text: str) -> list[str]:
    """Divide a text by each expression in turn: matches, and what is between them."""
    pieces = [text]
    for expression in expressions:
        divided = []
        for piece in pieces:
            end = 0
            for match in regex.finditer(expression, piece):
                divided += [piece[end : match.start()], match[0]]
                end = match.end()
            divided.append(piece[end:])
        pieces = [piece for piece in divided if piece]
    return pieces


def tokenizer_of(rule: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    state = json.loads(tokenizer.to_str()) | {"pre_tokenizer": pre_tokenizer(rule)}
    return Tokenizer.from_str(json.dumps(state))


@pytest.mark.parametrize("rule", LLAMA_CPP)
def test_words_are_those_of_llamacpp(rule: str) -> None:
    ours = tokenizer_of(rule)
    parts = [
        part for part in PARTS if rule not in ASCII_LETTERS_ALONE or not regex.search(r"[^\P{L}a-zA-Z]|\p{M}", part)
    ]
    for text in map("".join, product(parts, repeat=3)):
        found = [text[start:end] for _, (start, end) in ours.pre_tokenizer.pre_tokenize_str(text)]
        assert found == words_of(LLAMA_CPP[rule], text), text


def split(expression: str) -> dict[str, object]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def bytes_last(*parts: dict[str, object], use_regex: bool = False) -> dict[str, object]:
    last = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}
    return {"type": "Sequence", "pretokenizers": [*parts, last]}


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?"
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DIGITS = {"type": "Digits", "individual_digits": True}


@pytest.mark.parametrize(
    ("state", "whole", "name"),
    [
        (bytes_last(split(LLAMA3)), True, "llama-bpe"),
        (bytes_last(split(LLAMA3)), False, "dbrx"),
        (bytes_last(split(LLAMA3.replace("{1,3}", ""))), False, "qwen2"),
        (bytes_last(split(TEKKEN)), True, "tekken"),
        (bytes_last(split(TEKKEN)), False, None),
        (bytes_last(DIGITS, use_regex=True), False, "smollm"),
        (bytes_last(split(r" ?[^(\s|.,!?…。，、।۔،)]+"), DIGITS), False, "viking"),
        (bytes_last(split("[0-9]+")), False, None),
        (bytes_last(split("[0-9]+") | {"behavior": "Removed"}), False, None),
        ({"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}, False, None),
        ({"type": "Whitespace"}, False, None),
        (None, False, None),
    ],
)
def test_a_published_rule_is_known_by_llamacpps_name(
    state: dict[str, object], *, whole: bool, name: str | None
) -> None:
    assert name_of(state, whole_words_first=whole) == name


def test_every_rule_comes_back_under_its_name() -> None:
    for rule in ("deepseek-llm", "deepseek-coder", "deepseek-v3", "seed-coder", "bloom", *LLAMA_CPP):
        written = json.loads(tokenizer_json(trained(rule), None))
        again = read_byte_level(written, len(trained(rule).tokens), "here").rule
        assert pre_tokenizer(again) == pre_tokenizer(rule)
