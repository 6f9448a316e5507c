"""A family whose builtin source is in a Debian package, on a machine without apt, and later with it."""

from __future__ import annotations

import gzip
import shutil
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from tests.sources.stand_ins import write_debian_clients, write_wheel
from tinyllama.cli.commands import app
from tinyllama.corpus.manifest import BuiltinEntry, PreparedCorpus, open_corpus
from tinyllama.corpus.reading import read_texts
from tinyllama.export.card import model_card
from tinyllama.layout import FamilyLayout
from tinyllama.prepare.prepare import tasks_identity
from tinyllama.recipe import load_recipe
from tinyllama.report.run_data import read_results
from tinyllama.sources.documents import ReadTask
from tinyllama.studio.documents import corpora
from tinyllama.tokenizer.opening import open_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

SET = (
    "tokenizer.train={vocab_size: 400, corpora: [arithmetic]}",
    "model.vocab_size=400",
    "corpora.prose.sources=[{builtin: arithmetic}]",
    "corpora.code.sources=[{builtin: arithmetic}]",
    "corpora.chinese.sources=[{builtin: manpages-zh}]",
    "corpora.chinese.license=GFDL",
)
HELD = "tencent-cloud 3.1.195 (Apache-2.0) instead of manpages-zh"


def chinese(number: int) -> str:
    return f"第{number}个接口用于查询实例。" * 8


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH without apt and npm, to which a test adds clients; pip finds stand-ins of packages alone."""
    for name in ("bin", "index"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("TINYLLAMA_CACHE", str(tmp_path / "cache"))
    files = {
        f"tencentcloud/s{number}/v1/s_client.py": f'class C:\n    def f(self):\n        r"""{chinese(number)}"""\n'
        for number in range(120)
    }
    write_wheel(tmp_path / "index", "tencentcloud-sdk-python", "3.1.195", files)
    return tmp_path / "bin"


def prepare(folder: Path, *options: str) -> tuple[PreparedCorpus, str]:
    """The corpus after the command, and what the command said, in one line."""
    overrides = [word for override in SET for word in ("--set", override)]
    done = CliRunner().invoke(app, ["prepare", "nano", "--run", str(folder), *overrides, *options])
    assert done.exit_code == 0, done.output
    return open_corpus(folder / "corpora/chinese"), " ".join(done.output.split())


def test_a_missing_source_is_replaced_said_and_kept_until_it_is_asked_for(clients: Path, tmp_path: Path) -> None:
    replaced, said = prepare(tmp_path / "family")
    assert "chinese: manpages-zh is unavailable, since dpkg-deb is not installed here; tencent-cloud (Chinese" in said
    assert f"corpus chinese: dpkg-deb is not installed here, so it holds {HELD}" in said
    (entry,) = replaced.manifest.sources
    assert isinstance(entry, BuiltinEntry)
    assert (entry.version, entry.license, entry.replaces) == ("tencent-cloud 3.1.195", "Apache-2.0", "manpages-zh")
    assert replaced.manifest.license == "Apache-2.0"
    tokenizer = open_tokenizer(tmp_path / "family/tokenizer")
    assert "个接口用于查询实例" in next(iter(read_texts(replaced, tokenizer, "train"))).text

    pages = {
        f"usr/share/man/zh_CN/man1/p{number}.1.gz": gzip.compress(f".SH 名称\n{chinese(number)}\n".encode(), mtime=0)
        for number in range(120)
    }
    write_debian_clients(clients, pages)
    kept, said = prepare(tmp_path / "family")
    assert kept.sha256 == replaced.sha256
    assert f"it holds {HELD}, which was unavailable when it was prepared; --refresh-corpora prepares" in said

    real, said = prepare(tmp_path / "family", "--refresh-corpora")
    assert real.sha256 != replaced.sha256
    assert real.manifest.replacements == {}
    assert real.manifest.license == "GFDL"
    assert "instead of" not in said
    assert "replaces" not in (tmp_path / "family/corpora/chinese/manifest.json").read_text()

    shutil.rmtree(tmp_path / "cache")
    (clients / "apt-get").unlink()
    again, said = prepare(tmp_path / "family", "--refresh-corpora")
    assert again.sha256 == real.sha256, "a corpus of the recipe's own text is not replaced"
    assert "instead of" not in said


def test_a_family_of_replaced_text_is_reused(clients: Path, tmp_path: Path) -> None:
    assert clients.is_dir()
    prepare(tmp_path / "family")
    _, said = prepare(tmp_path / "second", "--reuse", str(tmp_path / "family"))
    assert "corpus chinese: the same as" in said
    assert (tmp_path / "second/corpora/chinese/manifest.json").samefile(
        tmp_path / "family/corpora/chinese/manifest.json"
    )
    _, said = prepare(tmp_path / "third", "--reuse", str(tmp_path / "family"), "--set", "corpora.prose.license=MIT")
    assert "corpus prose: the same as" not in said


def test_report_studio_and_card_name_the_text_that_was_read(clients: Path, tmp_path: Path) -> None:
    assert clients.is_dir()
    corpus, _ = prepare(tmp_path / "family")
    recipe = load_recipe("nano", SET)
    found = read_results(tmp_path / "family", recipe)
    assert found.replaced == {"chinese: manpages-zh": "tencent-cloud 3.1.195 (Apache-2.0)"}
    shown = {view.name: view for view in corpora(FamilyLayout(tmp_path / "family"), recipe)}["chinese"]
    assert (shown.license, shown.sources) == ("Apache-2.0", ["builtin: manpages-zh", HELD])
    parts = {"plan_summary": "", "bits_per_byte": {}, "tasks": {}, "tokens": 1}
    card = model_card(recipe, "chinese", **parts, corpora={"chinese": corpus.manifest})
    assert f"- chinese: Apache-2.0; it holds {HELD}, unavailable when it was prepared" in card
    assert "instead of" not in model_card(recipe, "chinese", **parts)


def test_finished_tasks_of_a_replacement_are_not_kept_for_the_source_itself() -> None:
    assert tasks_identity([ReadTask(0, ())]) == [[0, []]], "as it was before sources were replaced"
    assert tasks_identity([ReadTask(0, (), "sympy")]) != tasks_identity([ReadTask(0, ())])
