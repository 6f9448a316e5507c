import json
import re
from pathlib import Path

import pytest

from tinyllama.design import texts as module
from tinyllama.design.texts import survey_text
from tinyllama.design.writing import describe_text
from tinyllama.errors import CorpusError, SourceError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(f"A text with the number {number}. " * 40)
    (tmp_path / "again.txt").write_text("A text with the number 7. " * 40)
    (tmp_path / "русский.md").write_text("Это русский текст. " * 60)
    return tmp_path


def test_files_documents_bytes_duplicates_and_scripts_are_counted(folder: Path) -> None:
    survey = survey_text("text", [str(folder)], folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert (survey.files, survey.documents, survey.duplicates) == (22, 22, 1)
    assert survey.is_complete
    assert survey.read == survey.expected == size
    assert survey.duplicate_bytes == (folder / "again.txt").stat().st_size
    assert survey.unique_bytes == size - survey.duplicate_bytes
    shares = survey.script_shares()
    assert list(shares) == ["Latin", "Cyrillic"]
    letters = 20 * 40 * sum(char.isalpha() for char in "A text with the number")
    assert shares["Latin"] == pytest.approx(letters / (letters + 60 * 15), rel=1e-6)
    line = describe_text(survey, 2.5)
    assert "22 files (.txt 21, .md 1)" in line
    assert "exact duplicates: 1 (" in line
    assert "2.50 bytes per token" in line


def test_the_first_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "0.txt").write_bytes(b"\x1f\x8b\xff")
    line = describe_text(survey_text("text", [str(folder)], folder))
    assert re.search(r"; not read: 1, the first \S*0\.txt: .*UTF-8", line), line


def test_languages_of_samples_are_shown_where_py3langid_is_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = survey_text("text", [str(folder)], folder)
    shares = survey.language_shares()
    assert shares is not None
    assert list(shares) == ["en", "ru"]
    russian = (folder / "русский.md").stat().st_size
    assert shares["ru"] == pytest.approx(russian / survey.read, rel=0.1)
    assert "; languages of samples: en " in describe_text(survey)
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    without = survey_text("text", [str(folder)], folder)
    assert without.language_shares() is None
    assert "languages" not in describe_text(without)


def test_records_are_read_from_the_field_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"body": f"document {number}"}) for number in range(9)))
    survey = survey_text("text", [str(tmp_path / "a.jsonl")], tmp_path, "body")
    assert survey.documents == 9
    assert survey.corpus.sources[0].text_field == "body"
    with pytest.raises(CorpusError, match="no text is found in") as caught:
        survey_text("text", [str(tmp_path / "a.jsonl")], tmp_path)
    assert "text field 'text' is not there" in str(caught.value)


def test_of_a_large_text_parts_from_all_over_are_read_and_the_size_is_estimated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyllama.sources.documents.TASK_BYTES", 3_000)
    monkeypatch.setattr(module, "_MOST_READ", 30_000)
    for number in range(100):
        (tmp_path / f"{number:03}.txt").write_text(f"{number:03}" + "x" * 1997)
    survey = survey_text("text", [str(tmp_path)], tmp_path)
    assert not survey.is_complete
    assert survey.read <= 32_000
    assert survey.expected == pytest.approx(200_000, rel=0.01)
    first = sorted(int(group[:3]) for group in survey.groups)
    assert first[0] < 10
    assert first[-1] > 80
    assert "about 0.2 MB of text, of which 0.0 MB were read" in describe_text(survey)


def test_one_long_file_gives_samples_from_all_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAMPLED", 50_000)
    (tmp_path / "long.txt").write_text("".join(f"line {number:06}\n" for number in range(40_000)))
    survey = survey_text("text", [str(tmp_path / "long.txt")], tmp_path)
    assert 3 <= len(survey.samples) <= 8
    assert max(map(len, survey.samples)) <= 8000
    numbers = [int(sample.split()[2]) for sample in survey.samples[1:]]
    assert max(numbers) > 20_000


def test_a_builtin_source_has_no_files(tmp_path: Path) -> None:
    survey = survey_text("sums", ["builtin:arithmetic"], tmp_path)
    assert survey.files == 0
    assert survey.documents > 0
    assert survey.corpus.sources[0].builtin == "arithmetic"


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="corpus text: no file matches"):
        survey_text("text", [str(tmp_path / "nothing")], tmp_path)
    with pytest.raises((CorpusError, SourceError), match="arithmetics"):
        survey_text("text", ["builtin:arithmetics"], tmp_path)
