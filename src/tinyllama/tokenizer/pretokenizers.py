"""Rules that divide a text into words before byte-level BPE, by llama.cpp's names (`tokenizer.ggml.pre`).

A rule is a list of regular expressions. Each divides what the ones before it left whole: its matches and the text
between them become pieces. The expressions are those of the tokenizer.json that the name stands for; where llama.cpp
has a simpler spelling (tekken, gpt-4o), words differ in letters beyond ASCII.
Source: llama.cpp, src/llama-vocab.cpp, `llm_tokenizer_bpe` and `llama_vocab::impl::load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError

if TYPE_CHECKING:
    from pydantic import JsonValue

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT, _NUMBER = r"\p{N}", r"\p{N}+"
_THREE = "[0-9][0-9][0-9]"
_SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*{_SPACES}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_AFTER = rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_SPACES}"
_PUNCTUATION = r" ?[^(\s|.,!?…。，、।۔،)]+"
# Where normalization would change a character, its number.
_CASED = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚ"
    "\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
    "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
    "ℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⲳⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
_EAST_ASIAN = "[一-龥ࠀ-一가-퟿]+"

RULES: dict[str, tuple[str, ...]] = {
    "gpt-2": (_GPT2,),
    "smollm": (_DIGIT, _GPT2),
    "llama-bpe": (_LLAMA3,),
    "dbrx": (_LLAMA3,),
    "qwen2": (_LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"),),
    "tekken": (rf"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*|\p{{N}}{_AFTER}",),
    "gpt-4o": (rf"{_BEFORE}{_UPPER}*{_LOWER}+{_SUFFIX}?|{_BEFORE}{_UPPER}+{_LOWER}*{_SUFFIX}?|\p{{N}}{{1,3}}{_AFTER}",),
    "deepseek-llm": (r"[\r\n]", rf"\s?[{_CASED}]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", _EAST_ASIAN, _NUMBER),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _EAST_ASIAN, _DIGIT),
    "deepseek-v3": (
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"""
        r"\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*" + _SPACES,
    ),
    "falcon": (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, _THREE),
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, _NUMBER, _THREE),
    "seed-coder": (rf"{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+{_SPACES}",),
    "minicpm5": (r"\p{N}{1,3}", _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}+")),
    "bloom": (_PUNCTUATION,),
    "viking": (_PUNCTUATION, _DIGIT),
}
"""Name → expressions. Of names with the same expressions, the first that also agrees on whole words is written."""

_ALIASES = {
    "gpt-2": "phi-2 jina-es jina-de gigachat a.x-4.0 mellum mpt olmo jais trillion exaone4 granite-docling",
    "smollm": "starcoder refact command-r codeshell exaone minerva-7b mellum2",
    "llama-bpe": "llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
    "dbrx": "smaug-bpe glm4 chatglm-bpe",
    "qwen2": "stablelm2 deepseek-r1-qwen kormo megrez hunyuan solar-open grok-2",
    "gpt-4o": "llama4 kanana2 minimax-m2",
    "deepseek-v3": "hunyuan-dense joyai-llm",
    "bloom": "poro-chat gpt3-finnish",
}
_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in aliases.split()}

WHOLE_WORDS_FIRST = {"llama-bpe", "tekken", "minicpm5"}
"""Rules whose tokenizers do not divide a word that is in the vocabulary (`ignore_merges`)."""
BOS_FIRST = {"llama-bpe", "tekken"}
"""Rules with which llama.cpp puts BOS before a text where a file does not say."""


def canonical(name: str) -> str:
    """The name that stands for all that llama.cpp treats alike."""
    return _CANONICAL.get(name, name)


def pre_tokenizer(name: str) -> JsonValue:
    """A rule as tokenizer.json spells it out.

    Raises:
        CorpusError: the name is not known.
    """
    expressions = RULES.get(canonical(name))
    if expressions is None:
        raise CorpusError(
            f"the tokenizer's rule for words, {name!r} in llama.cpp, is not among {', '.join(RULES)}; give the model "
            "as a Hugging Face folder, which spells the rule out"
        )
    last_is_gpt2 = expressions[-1] == _GPT2
    splits = expressions[:-1] if last_is_gpt2 else expressions
    parts: list[JsonValue] = [*map(_split, splits), _bytes(use_regex=last_is_gpt2)]
    return parts[0] if len(parts) == 1 else {"type": "Sequence", "pretokenizers": parts}


def name_of(state: JsonValue, *, whole_words_first: bool) -> str | None:
    """llama.cpp's name of the rule in a tokenizer.json; None if it has none.

    Args:
        state: value of `pre_tokenizer`.
        whole_words_first: whether a word that is in the vocabulary is not divided.
    """
    expressions = _expressions(state)
    agreeing = (name for name in RULES if (name in WHOLE_WORDS_FIRST) == whole_words_first)
    return next((name for name in agreeing if RULES[name] == expressions), None)


def _bytes(*, use_regex: bool) -> dict[str, JsonValue]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split(expression: str) -> dict[str, JsonValue]:
    if expression == _DIGIT:
        return {"type": "Digits", "individual_digits": True}
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def _expressions(state: JsonValue) -> tuple[str, ...] | None:
    """The expressions of a rule that ends in bytes; None if it does more than divide."""
    parts = [state]
    if isinstance(state, dict) and state.get("type") == "Sequence":
        stated = state.get("pretokenizers")
        parts = stated if isinstance(stated, list) else []
    found: list[str] = []
    for index, part in enumerate(parts, 1):
        match part:
            case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(words)} if index == len(parts):
                return (*found, _GPT2) if words else tuple(found)
            case {"type": "Digits", "individual_digits": bool(single)}:
                found.append(_DIGIT if single else _NUMBER)
            case {"type": "Split", "pattern": {"Regex": str(expression)}, "behavior": "Isolated", "invert": False}:
                found.append(expression)
            case _:
                return None
    return None
