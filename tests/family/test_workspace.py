"""The record of time per phase."""

import json
from pathlib import Path

import pytest

from tinyllama.family.workspace import Workspace
from tinyllama.layout import FamilyLayout
from tinyllama.recipe import load_recipe


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "is not JSON"), ("[]", "is not a JSON object"), ('{"a": "x"}', "a:")]
)
def test_a_damaged_record_of_times_is_reported_and_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, problem: str
) -> None:
    work = Workspace(load_recipe("nano"), FamilyLayout(tmp_path))
    work.layout.seconds.write_text(text)
    with work.timed("train base"):
        pass
    assert f"seconds.json: {problem}" in caplog.text
    assert list(json.loads(work.layout.seconds.read_text())) == ["train base"]
    assert list(work.seconds) == ["train base"]
