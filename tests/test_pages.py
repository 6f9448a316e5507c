"""No block and no command of README and docs is without a test: what is not run is parsed, loaded or compared here.

The blocks that run have tests of their own: test_readme.py, test_python_page.py, test_own_text_page.py,
test_own_language_page.py, test_finetune.py, and test_page_commands.py for all other pages.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from torch.distributed.run import get_args_parser

from tests.constraints import ROOT, extras
from tests.pages import PAGES, Block, blocks, indented_blocks, inline_code, page_name, table_of_commands, torn_code
from tests.shell_commands import parse, programs
from tinyllama.recipe import parse_recipe, shipped_recipes
from tinyllama.train.alerts import Alert

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOCKS = [block for page in PAGES for block in blocks(page)]
RUN_BY = {
    "README.md": "test_readme.py",
    "README.zh.md": "test_readme_zh.py",
    "CONTRIBUTING.md": "test_pages.py",
    "docs/index.md": "test_readme.py",
    "docs/own-language.md": "test_own_language_page.py",
    "docs/own-text.md": "test_own_text_page.py",
    "docs/finetune.md": "test_finetune.py",
    "docs/python.md": "test_python_page.py",
}
"""The tests of the pages that tests/test_page_commands.py does not run."""
TEXTS = {
    "docs/code.md": "the order of imports, which tests/test_imports.py compares",
    "docs/commands.md": "usage, which tests/test_command_reference.py compares",
    "docs/data.md": "a path",
    "docs/fidelity.md": "output, whose words tests/fidelity/test_trained.py compares",
    "docs/index.md": "a drawing",
}
"""Pages with blocks of plain text, and what these are."""
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def pages_with(language: str) -> set[str]:
    return {block.page for block in of(language)}


def test_every_block_is_of_a_kind_that_a_test_reads() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "python", "yaml", "json", "text"}
    assert pages_with("text") == set(TEXTS)
    assert pages_with("python") | {"docs/own-text.md"} <= set(RUN_BY)
    assert all((ROOT / "tests" / name).is_file() for name in RUN_BY.values())


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_no_page_has_code_that_tests_do_not_see(page: Path) -> None:
    assert indented_blocks(page) == []


# Shell


def is_target(words: list[str]) -> None:
    targets = [word for word in words[1:] if "=" not in word]
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def is_installation(words: list[str]) -> None:
    """With the extras that there are; of a checkout, with its constraints. PyTorch may be removed, for another one."""
    if words[1:] == ["uninstall", "torch"]:
        return
    assert words[1] == "install"
    assert "-e" not in words or "constraints.txt" in words
    for group in re.findall(r"(?:\.|tinyllama-family)\[([^\]]*)\]", " ".join(words)):
        assert set(group.split(",")) <= {*extras(), "NAME"}


def is_ours(words: list[str]) -> None:
    """A script, a module or a test of the repository."""
    rest = words[1:]
    if words[0] == "pytest":
        rest = [word for word in rest if not word.startswith("-")]
    elif rest[0] == "-m":
        if not rest[1].startswith("tests."):
            return  # Python's own
        rest = [rest[1].replace(".", "/") + ("" if (ROOT / rest[1].replace(".", "/")).is_dir() else ".py")]
    elif rest[0] == "-c":
        compile(rest[1], "page", "exec")
        return
    assert (ROOT / rest[0]).exists() or rest[0] == "finetune.py", rest[0]


def is_torchrun(words: list[str]) -> None:
    options = [re.sub(r"^\$\w+$", "1", word) for word in words[1:]]
    known = get_args_parser().parse_args(options if "-m" in options else [*options, "anything"])
    if known.training_script == "tinyllama":
        parse(known.training_script_args)


def is_ours_in_prose(words: list[str]) -> None:
    parse([re.sub(r"^(?:N|X)$", "1", word) for word in words[1:]], in_prose=True)


CHECKS: dict[str, Callable[[list[str]], object]] = {
    ".": lambda words: words[1].endswith("/activate"),
    "apt-get": len,  # test_own_language_page.py runs it, and cp, curl, dpkg-deb and kill
    "cd": len,
    "cp": len,
    "curl": len,
    "dpkg-deb": len,
    "git": len,
    "kill": len,
    "lm_eval": len,  # of lm-eval's extra `api`: make test-llamacpp calls it
    "make": is_target,
    "ollama": len,  # a program that registries do not have
    "pip": is_installation,
    "printf": len,
    "pytest": is_ours,
    "python": is_ours,
    "python3": is_ours,
    "tensorboard": len,  # test_page_commands.py starts it; its parser takes seconds to import
    "tinyllama": lambda words: parse(words[1:]),
    "torchrun": is_torchrun,
}
"""What a command of each program must be."""


@pytest.mark.parametrize("block", of("sh"), ids=str)
def test_every_command_of_a_block_is_one_that_there_is(block: Block) -> None:
    found = list(programs(block.text))
    assert found
    for words in found:
        CHECKS[words[0]](words)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_no_inline_code_breaks_over_lines(page: Path) -> None:
    assert torn_code(page) == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_in_prose_is_one_that_there_is(page: Path) -> None:
    for code in inline_code(page):
        program = code.partition(" ")[0]
        if program in CHECKS and " " in code:
            for words in programs(code):
                (is_ours_in_prose if words[0] == "tinyllama" else CHECKS[words[0]])(words)


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_the_one_command_for_each_wish_is_one_that_we_have(name: str) -> None:
    found = table_of_commands(ROOT / name)
    assert len(found) >= 15
    for command in found:
        parse(shlex.split(command)[1:])


# Recipes


def without(name: str, *sections: str) -> str:
    """A shipped recipe without some of its sections."""
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    return re.sub(rf"^(?:{'|'.join(sections)}):.*\n(?:  .*\n)*", "", text, flags=re.MULTILINE) if sections else text


BASES = {
    "itself": "",
    "nano": "extends: nano\nname: example\n",
    "mini": "extends: mini\nname: example\n",
    "mini's base": "extends: mini\nname: example\nvariants: {}\n",
    "a corpus": "extends: nano\nname: example\nbase: {web: 100%}\nvariants: {v1.1: {web: 100%}}\n",
    "mini's corpora": without("mini", "optimizer", "stages", "variants"),
    "continue": without("continue"),
    "continue without start": without("continue", "start"),
}
"""Recipes that a block changes; `itself` is for blocks that are whole recipes."""
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000, "hidden_size": 64,
    "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
}  # fmt: skip
"""A model to import."""
LOADED_OVER = {
    "docs/data.md": ["a corpus", "itself"],
    "docs/monitoring.md": ["nano", "nano"],
    "docs/recipes.md": [
        *["itself", "mini", "mini", "mini's base", "mini's corpora", "mini", "mini", "mini"],
        *["continue without start", "continue", "itself"],
    ],
}
"""What each block of YAML is added to, page by page."""


def test_every_block_of_yaml_has_a_base() -> None:
    assert LOADED_OVER.keys() == pages_with("yaml")
    for page, bases in LOADED_OVER.items():
        assert len(bases) == len([block for block in of("yaml") if block.page == page]), page


@pytest.mark.parametrize("page", LOADED_OVER)
def test_every_block_of_yaml_is_a_part_of_a_recipe(page: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    for block, base in zip((block for block in of("yaml") if block.page == page), LOADED_OVER[page], strict=True):
        overrides = [f"start.model={tmp_path}"] if "imported" in block.text else []
        assert parse_recipe(BASES[base] + block.text, tmp_path / "example.yaml", overrides), block


# Messages


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_a_message_of_a_page_is_one_that_is_sent(block: Block) -> None:
    assert block.page == "docs/monitoring.md"
    assert set(json.loads(block.text)) == {field.name for field in fields(Alert)}
