from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tinyllama.evaluation.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path


def test_answers_are_there_when_the_same_inputs_come_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl", {"weights": "a"}) as journal:
        journal.put({"x": [-1.25, True], "y": "text"})
    with Journal(tmp_path / "j.jsonl", {"weights": "a"}) as journal:
        assert (journal.get("x"), journal.get("y"), journal.get("z")) == ([-1.25, True], "text", None)
        assert len(journal) == 2


def test_other_inputs_begin_anew(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl", {"weights": "a"}) as journal:
        journal.put({"x": 1})
    with Journal(tmp_path / "j.jsonl", {"weights": "b"}) as journal:
        assert len(journal) == 0
    assert (tmp_path / "j.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("line", ["{", "[1, 2]", '["x"]', "[" * 100_000, "9" * 5000, "\x00", '["\ufffd'])
def test_a_damaged_line_is_answered_again(tmp_path: Path, line: str) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path, {}) as journal:
        journal.put({"x": 1})
    path.write_text(f"{path.read_text()}{line}\n")
    with Journal(path, {}) as journal:
        assert (len(journal), journal.get("x")) == (1, 1)


@pytest.mark.parametrize("data", [b"", b"\xff\n", b"{\n", b"[1]\n", b"[" * 100_000 + b"\n"])
def test_a_file_that_is_no_journal_begins_anew(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "j.jsonl").write_bytes(data)
    with Journal(tmp_path / "j.jsonl", {}) as journal:
        assert len(journal) == 0


def test_a_line_cut_short_by_a_crash_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path, {}) as journal:
        journal.put({"x": 1, "y": 2})
    path.write_text(path.read_text()[:-4])
    with Journal(path, {}) as journal:
        assert (journal.get("x"), journal.get("y")) == (1, None)
        journal.put({"y": 3})
    with Journal(path, {}) as journal:
        assert journal.get("y") == 3
