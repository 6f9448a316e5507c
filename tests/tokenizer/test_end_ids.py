from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tinyllama.tokenizer.end_ids import end_ids_setting, read_end_ids

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ([2, 7], {2, 7}),
        (7, {7}),
        ([7, 99, -1], {7}),
        (99, {2}),
        (-1, {2}),
        (None, {2}),
        ([], {2}),
        ("</s>", {2}),
        (True, {2}),
    ],
)
def test_ids_of_the_vocabulary_end_a_text_and_others_are_passed_over(
    tmp_path: Path, stated: object, expected: set[int]
) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": stated}))
    assert read_end_ids(tmp_path, 2, 10) == expected


def test_the_generation_config_comes_before_the_config(tmp_path: Path) -> None:
    assert read_end_ids(tmp_path, 2, 10) == {2}
    (tmp_path / "config.json").write_text('{"eos_token_id": [3, 4]}')
    assert read_end_ids(tmp_path, 2, 10) == {3, 4}
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 5}')
    assert read_end_ids(tmp_path, 2, 10) == {5}


def test_one_end_is_written_as_a_number_and_several_as_a_list() -> None:
    assert end_ids_setting(frozenset({2})) == 2
    assert end_ids_setting(frozenset({7, 2})) == [2, 7]
