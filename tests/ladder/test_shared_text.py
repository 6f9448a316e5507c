"""The text of rungs, which stays what it was when sources change or a ladder is interrupted."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SMALL
from tests.ladder.library import OF_FILES, write_text
from tinyllama.errors import CorpusError
from tinyllama.family import Family
from tinyllama.ladder.shared_text import share_text
from tinyllama.layout import FamilyLayout
from tinyllama.prepare import reuse, tokenizer
from tinyllama.prepare.prepare import PrepareOptions
from tinyllama.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path


def family_of_files(root: Path, name: str) -> Family:
    return Family(load_recipe("nano", [*SMALL, *OF_FILES]), root / name, root=root)


def test_a_rung_keeps_the_text_of_its_family_and_is_refused_when_that_has_another(tmp_path: Path) -> None:
    write_text(tmp_path, "alpha beta gamma")
    family, rung = (family_of_files(tmp_path, name) for name in ("family", "rung"))
    prepared = family.prepare()
    write_text(tmp_path, "uno dos tres")
    share_text(prepared, family, rung)
    assert rung.prepare().corpora["prose"].sha256 == prepared.corpora["prose"].sha256
    share_text(prepared, family, family_of_files(tmp_path, "rung"))  # resumed

    changed = family_of_files(tmp_path, "family")
    now = changed.prepare()
    with pytest.raises(CorpusError, match=r"rung: the family now has another text of prose .* another --folder"):
        share_text(now, changed, family_of_files(tmp_path, "rung"))
    shutil.rmtree(tmp_path / "family/tokenizer")
    trained = Family(load_recipe("nano", [*SMALL, "tokenizer.train.corpora=[prose]"]), tmp_path / "family")
    with pytest.raises(CorpusError, match="rung: the family now has another tokenizer"):
        share_text(trained.prepare(), trained, family_of_files(tmp_path, "rung"))


def test_a_rung_has_the_preparation_that_its_family_uses_of_several(tmp_path: Path) -> None:
    write_text(tmp_path, "alpha beta gamma")
    family = family_of_files(tmp_path, "family")
    first = family.prepare()
    family.train("base")
    write_text(tmp_path, "uno dos tres")
    family_of_files(tmp_path, "family").prepare(PrepareOptions(refresh=True))
    family, rung = (family_of_files(tmp_path, name) for name in ("family", "rung"))
    prepared = family.prepare()
    assert len(prepared.versions["prose"]) == 2
    share_text(prepared, family, rung)
    assert rung.prepare().corpora["prose"].sha256 == first.corpora["prose"].sha256
    assert len(FamilyLayout(tmp_path / "rung").corpus_versions("prose")) == 1


@pytest.mark.parametrize("module", [tokenizer, reuse])
def test_an_interruption_while_files_are_linked_leaves_nothing_half_made(
    module: object, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, rung = (Family(load_recipe("nano"), folder) for folder in (prepared, tmp_path / "rung"))

    def stop(_source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "link_or_copy", stop)
        with pytest.raises(KeyboardInterrupt):
            share_text(family.prepare(), family, rung)
    share_text(family.prepare(), family, rung)
    found = {name: corpus.sha256 for name, corpus in rung.prepare().corpora.items()}
    assert found == {name: corpus.sha256 for name, corpus in family.prepare().corpora.items()}
