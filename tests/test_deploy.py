"""The files that deploy name commands, extras and files that exist."""

import re
import shlex
from pathlib import Path

import yaml

from tests.constraints import ROOT, extras
from tests.shell_commands import commands, parse

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def _read(name: str) -> str:
    return (ROOT / "deploy" / name).read_text(encoding="utf-8")


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    sources = [word for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()]
    allowed = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(sources) == sorted(allowed)
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_is_for_any_base_and_starts_our_command() -> None:
    assert re.search(r"^FROM \$\{BASE\}$", DOCKERFILE, re.MULTILINE)
    assert 'ENTRYPOINT ["tinyllama"]' in DOCKERFILE
    (installed,) = re.findall(r"^ARG EXTRAS=(.*)$", DOCKERFILE, re.MULTILINE)
    assert set(installed.split(",")) <= set(extras())
    (shown,) = re.findall(r"--volume .*? tinyllama (.*)$", DOCKERFILE, re.MULTILINE)
    parse(shlex.split(shown))


def test_the_commands_for_skypilot_are_ours() -> None:
    task = yaml.safe_load(_read("skypilot.yaml"))
    found = [*commands(task["setup"]), *commands(task["run"])]
    assert [words[0] for words in found] == ["doctor", "prepare", "train", "report"]
    for words in found:
        parse(words)
    read_by_the_hubs_client = {"HF_TOKEN"}
    assert set(re.findall(r"\$([A-Z]+)\b", task["run"])) == set(task["envs"]) - read_by_the_hubs_client
    (installed,) = re.findall(r"--editable '\.\[(.*)\]'", task["setup"])
    assert set(installed.split(",")) <= set(extras())
    page = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
    (torchrun,) = re.findall(r"^ *torchrun (?:.*\\\n)*.*-- tinyllama", task["run"], re.MULTILINE)
    assert _options(torchrun) <= _options(page)


def _options(script: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]+", script))


def test_the_job_for_kubernetes_is_ours() -> None:
    volume, job = yaml.safe_load_all(_read("kubernetes.yaml"))
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    parse(container["args"])
    (mount,) = container["volumeMounts"]
    run = Path(container["args"][container["args"].index("--run") + 1])
    assert run.is_relative_to(mount["mountPath"])
    assert {part["name"] for part in pod["volumes"]} == {mount["name"]}
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == volume["metadata"]["name"]
    assert pod["terminationGracePeriodSeconds"] > 120  # in which ranks save
