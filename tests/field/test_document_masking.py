"""Attention stays inside documents also where these have no BOS."""

import json
from pathlib import Path

import pytest

from tests.field.conftest import Run, edit

pytestmark = pytest.mark.field


def test_documents_without_bos_are_separated_at_eos(field: Path, tinyllama: Run) -> None:
    for path in list((field / "text").iterdir()):  # documents that are shorter than a row
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            (field / f"text/{path.stem}-{number}.txt").write_text(line, encoding="utf-8")
        path.unlink()
    edit(field, "tokenizer:\n", "precision: fp32\ntokenizer:\n  bos: false\n")
    losses = []
    for masking in ("false", "true"):
        masked = ("--set", f"document_masking={masking}", "--run", masking, "--variant", "base")
        tinyllama("train", "field.yaml", *masked).succeeded()
        steps = map(json.loads, (field / masking / "base/metrics.jsonl").read_text(encoding="utf-8").splitlines())
        losses.append([step["loss"] for step in steps if "loss" in step])
    assert losses[0]
    difference = max(abs(one - other) for one, other in zip(*losses, strict=True))
    assert difference > 1e-5  # a mask that hides nothing differs by the order of additions alone


def test_documents_that_nothing_separates_are_refused(field: Path, tinyllama: Run) -> None:
    edit(field, "tokenizer:\n", "tokenizer:\n  bos: false\n  eos: false\n")
    line = edit(field, "license: apache-2.0\n", "license: apache-2.0\ndocument_masking: true\n")
    (fault,) = tinyllama("plan", "field.yaml").refused().splitlines()
    assert f"field.yaml:{line}: document_masking: " in fault
    assert "tokenizer.eos" in fault
