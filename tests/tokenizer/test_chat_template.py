"""Conversations as ids, as transformers' apply_chat_template encodes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from transformers import AutoTokenizer

from tests.tokenizer.chat_templates import CHATML, LLAMA2, LLAMA3, ZEPHYR
from tests.tokenizer.test_json_file import trained, write
from tinyllama.errors import UserError
from tinyllama.tokenizer.byte_level import ByteLevel
from tinyllama.tokenizer.chat_template import read_chat_template, render_conversation
from tinyllama.tokenizer.convert import write_transformers_files
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.tokenizer.sentencepiece_writer import CONTROL
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.tokenizer.base import Tokenizer

SYSTEM = {"role": "system", "content": "Be brief."}
CONVERSATION = [
    {"role": "user", "content": " What is 2 + 3?\n"},
    {"role": "assistant", "content": " It is 5, don't you know? 人工 🦙 "},
    {"role": "user", "content": "say <s>, </s>, <|eot_id|>  or <|im_end|> twice"},
]
BYTE_LEVEL = {"ChatML": ("smollm", CHATML, "<|im_start|>", None), "Llama 3": ("llama-bpe", LLAMA3, "<s>", "<s>")}
SENTENCEPIECE = {"Llama 2": LLAMA2, "Zephyr": ZEPHYR}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "tokenizer.model"
    file.write_bytes(train_model(["It is the cat, and the other cats; do you know what they are?"] * 30, 300))
    return file


def assert_as_transformers(tokenizer: Tokenizer, folder: Path) -> None:
    theirs, template = AutoTokenizer.from_pretrained(folder), tokenizer.chat_template
    assert template is not None
    for messages in (CONVERSATION[:1], CONVERSATION, [SYSTEM, *CONVERSATION]):
        for answer in (True, False):
            expected = theirs.apply_chat_template(messages, add_generation_prompt=answer)["input_ids"]
            text = render_conversation(template, messages, tokenizer.special_tokens, answer=answer)
            assert tokenizer.encode_marked(text) == expected
    assert tokenizer.encode(["<s>"])[0] != tokenizer.encode_marked("<s>"), "in other texts it stays text"


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_byte_level_conversations_have_the_ids_of_apply_chat_template(tmp_path: Path, name: str) -> None:
    rule, template, bos, prompt_bos = BYTE_LEVEL[name]
    pieces = trained(rule)
    marks = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    pieces = ByteLevel(rule, [*pieces.tokens, *marks], [*pieces.kinds, *[CONTROL] * len(marks)], pieces.merges)
    folder = write(tmp_path, pieces, prompt_bos, bos_token=bos, chat_template=template)
    tokenizer = open_tokenizer(folder)
    assert_as_transformers(tokenizer, folder)
    assert tokenizer.encode_marked("<|im_end|>") == [pieces.tokens.index("<|im_end|>")]


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_sentencepiece_conversations_have_the_ids_of_apply_chat_template(
    model: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "tokenizer.model").write_bytes(model.read_bytes())
    (tmp_path / "own" / "chat_template.jinja").write_text(SENTENCEPIECE[name])
    (tmp_path / "own" / "added_tokens.json").write_text(json.dumps({"<|eot_id|>": 300, "<|eot_id|>  ": 301}))
    (tmp_path / "out").mkdir()
    tokenizer = open_tokenizer(tmp_path / "own")
    write_transformers_files(tokenizer.model_file, tmp_path / "out", context=64)
    assert_as_transformers(tokenizer, tmp_path / "out")
    assert tokenizer.encode_marked("<|eot_id|>") == [300]


@pytest.mark.parametrize(
    ("config", "jinja", "expected"),
    [
        (None, None, None),
        ({}, None, None),
        ({"chat_template": "key"}, None, "key"),
        ({"chat_template": "key"}, "file", "file"),
        ({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}, None, "d"),
        ({"chat_template": [{"name": "tool_use", "template": "t"}]}, None, None),
    ],
)
def test_a_template_is_found_in_all_its_places(
    tmp_path: Path, config: dict[str, object] | None, jinja: str | None, expected: str | None
) -> None:
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if jinja is not None:
        (tmp_path / "chat_template.jinja").write_text(jinja)
    assert read_chat_template(tmp_path) == expected


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (LLAMA2, "roles must alternate"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% set _ = messages.append(1) %}", "unsafe"),
        ("{% for", "unexpected"),
    ],
)
def test_a_template_that_refuses_breaks_or_leaves_the_sandbox_is_refused(template: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"chat template refuses the conversation: .*{reason}"):
        render_conversation(template, CONVERSATION[1:], {"bos_token": "<s>", "eos_token": "</s>"})
