"""A recipe without variants and branches: a family of one model, from plan to report."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from tinyllama import Family, load_recipe, open_model
from tinyllama.cli.commands import app

if TYPE_CHECKING:
    from pathlib import Path

OVERRIDES = [
    "base={prose: 75%, code: 25%}",
    "stages=[{name: base, until: 6K, batch: 16 sequences}, {name: cooldown, until: 10K, batch: 32 sequences}]",
    "variants={}",
    "evaluation.tasks=[]",
]


def test_one_model_is_trained_measured_exported_and_reported_without_a_word_of_variants(tmp_path: Path) -> None:
    family = Family(load_recipe("nano", OVERRIDES), tmp_path)
    summary = family.reproduce()
    assert list(summary.bits_per_byte) == ["base"]
    texts = [(tmp_path / "report.html").read_text(), (tmp_path / "exports" / "base" / "README.md").read_text()]
    for text in texts:
        shown = re.sub(r"<(pre|script|style).*?</\1>|```.*?```", "", text, flags=re.DOTALL)  # the recipe, and code
        assert "variant" not in shown
        assert "fork" not in shown
    opened = open_model(tmp_path)
    assert opened.checkpoint is not None
    assert opened.checkpoint.step == family.finished()["base"].step
    generated = CliRunner().invoke(app, ["generate", str(tmp_path), "the", "--max-new-tokens", "2"])
    assert generated.exit_code == 0, generated.output
