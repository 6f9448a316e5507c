"""Keys that select text, in a whole family: checked first, dependent on the corpora before, and in the report."""

import json
from pathlib import Path

import pytest

from tinyllama.family import Family
from tinyllama.family.prepare import Prepared
from tinyllama.prepare.prepare import PrepareOptions
from tinyllama.quality import requirements
from tinyllama.recipe import load_recipe
from tinyllama.report.page import render
from tinyllama.report.run_data import read_run

pytest.importorskip("datatrove", reason="the extra quality")
pytest.importorskip("py3langid", reason="the extra quality")
TEXT = "Sentence {} of the text, which says nothing but has enough words to be a document of its own."


def family(root: Path, *keys: str) -> Family:
    common = "size: 1K, license: none, held_out: {share: 30%}"
    corpora = {
        name: f"corpora.{name}={{{common}, deduplicate: exact, sources: [{{files: {root}/{name}.jsonl}}]}}"
        for name in ("prose", "code")
    }
    others = [
        "tokenizer.train.corpora=[arithmetic]",
        "tokenizer.train.vocab_size=400",
        "model.vocab_size=400",
        "evaluation.tasks=[]",
        f"evaluation.data={root}/data",
    ]
    return Family(load_recipe("nano", [*corpora.values(), *others, *keys]), root / "family")


def write(root: Path, name: str, *numbers: range) -> None:
    lines = [json.dumps({"text": TEXT.format(number) * 3}) for part in numbers for number in part]
    (root / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def prepare(own: Family) -> Prepared:
    return own.prepare(PrepareOptions(1))


def documents(prepared: Prepared, name: str) -> int:
    return sum(split.documents for split in prepared.corpora[name].manifest.splits.values())


def test_what_a_key_needs_is_checked_before_anything_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "prose", range(100))
    write(tmp_path, "code", range(100))
    keys = ("corpora.prose.filters={languages: [en, klingon]}", "corpora.code.decontaminate=[piqa]")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    results = {result.name: result.faults for result in family(tmp_path, *keys).check(phases={"prepare"})}
    assert [fault.split(":")[0] for fault in results["quality"]] == [
        "corpora.prose.filters.languages",
        "corpora.code.decontaminate",
    ]
    monkeypatch.setattr(requirements, "find_spec", lambda _name: None)
    (fault, _) = next(result for result in family(tmp_path, *keys).check() if result.name == "quality").faults
    assert fault.startswith("corpora.prose: filters.languages needs py3langid, which the extra quality installs: pip")
    assert not (tmp_path / "family/corpora").exists()


def test_a_corpus_is_prepared_again_if_one_changed_whose_copies_it_lacks(tmp_path: Path) -> None:
    write(tmp_path, "prose", range(100))
    write(tmp_path, "code", range(90, 200))
    first = prepare(family(tmp_path))
    assert (documents(first, "prose"), documents(first, "code")) == (100, 100)
    write(tmp_path, "prose", range(90))
    second = prepare(family(tmp_path))
    assert (documents(second, "prose"), documents(second, "code")) == (90, 110)
    third = prepare(family(tmp_path))
    assert third.corpora["code"].sha256 == second.corpora["code"].sha256
    alone = prepare(family(tmp_path, "corpora.code.deduplicate={method: exact, across: false}"))
    assert documents(alone, "code") == 110


def test_the_report_counts_what_was_dropped(tmp_path: Path) -> None:
    write(tmp_path, "prose", range(100), range(7))
    write(tmp_path, "code", range(200, 300))
    own = family(tmp_path, "corpora.code.filters={where: characters > 100}")
    prepared = prepare(own)
    page = render(read_run(own.work.layout.root, own.recipe))
    assert "Documents of prose" in page
    assert "dropped by deduplicate: the same text as a document of prose" in page
    assert documents(prepared, "prose") == 100
