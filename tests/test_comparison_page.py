"""docs/comparison.md is dated, and each of its claims about another project has a source at a fixed commit."""

import re
from datetime import UTC, date, datetime

from tests.constraints import ROOT

PAGE = (ROOT / "docs/comparison.md").read_text(encoding="utf-8")
PROJECTS = {
    "litgpt": "Lightning-AI/litgpt",
    "nanochat": "karpathy/nanochat",
    "torchtitan": "pytorch/torchtitan",
    "OLMo-core": "allenai/OLMo-core",
    "nanotron": "huggingface/nanotron",
    "lingua": "facebookresearch/lingua",
}
ROW = re.compile(
    r"^\| \[(\S+)\]\(https://github\.com/(\S+)\) \| [^|]+ \| \[(\w{7})\]\[[a-z]+\][^|]*\| (\S+) \|$", re.MULTILINE
)
SOURCE = re.compile(
    r"^\[([\w-]+)\]: https://github\.com/([\w-]+/[\w-]+)/(?:blob|tree)/([0-9a-f]{40})/\S+$", re.MULTILINE
)


def test_the_page_says_when_and_at_which_commits_the_projects_were_read() -> None:
    read = date.fromisoformat(re.findall(r"read on (\d{4}-\d\d-\d\d)", PAGE)[0])
    assert read <= datetime.now(tz=UTC).date()
    rows = ROW.findall(PAGE)
    assert {name: repository for name, repository, _, _ in rows} == PROJECTS
    assert all(date.fromisoformat(made) <= read for _, _, _, made in rows)


def test_every_claim_has_a_source_at_the_commit_of_its_project() -> None:
    sources = {name: (repository, commit) for name, repository, commit in SOURCE.findall(PAGE)}
    assert set(re.findall(r"\]\[([\w-]+)\]", PAGE)) == set(sources)
    commits = {repository: commit for _, repository, commit, _ in ROW.findall(PAGE)}
    for repository, commit in sources.values():
        assert commit.startswith(commits[repository])
    has = PAGE.partition("\n## What they have")[2].partition("\n## ")[0]
    claims = dict(re.findall(r"^\| ([\w-]+) \| (.*) \|$", has, re.MULTILINE))
    assert set(claims) - {"project", "---"} == set(PROJECTS)
    for name, repository in PROJECTS.items():
        assert {sources[source][0] for source in re.findall(r"\]\[([\w-]+)\]", claims[name])} == {repository}
