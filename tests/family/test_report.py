"""The report of a family."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tinyllama.errors import ExportError
from tinyllama.report.summary import read_summary

if TYPE_CHECKING:
    from tests.conftest import MakeFamily


def test_scores_and_report_are_written_though_an_export_is_refused(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = make_family()
    family.train("base")

    def refuse(*_: object, **__: object) -> None:
        raise ExportError("the logits differ")

    monkeypatch.setattr("tinyllama.family.export.export_model", refuse)
    with pytest.raises(ExportError, match="the logits differ"):
        family.report()
    summary = read_summary(family.layout.summary)
    assert summary.models == ["base"]
    assert summary.bits_per_byte["base"]
    assert summary.exports == {}
    assert family.layout.report.is_file()
