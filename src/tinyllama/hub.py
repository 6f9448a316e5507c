"""The Hugging Face hub: one question with one deadline before anything is downloaded, and what is sent there.

The hub's own client retries for minutes where a network is half dead. So whether a repository can be read is asked by
a process of its own, which is given up after seconds; a download begins only after a good answer.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from tinyllama.errors import ModelError, PublishError

if TYPE_CHECKING:
    from collections.abc import Mapping

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""How a repository of the hub is named: `OWNER/NAME`."""

RepositoryKind = Literal["model", "dataset", "space"]

_PATTERNS = ["*.json", "*.safetensors", "tokenizer.model", "*.txt"]
_LEGACY_PATTERNS = ["pytorch_model*.bin"]
"""Weights of models without safetensors."""
_DEADLINE = 4
"""Seconds within which the hub has to answer, the start of the process that asks included."""
_REFUSED = 3
"""Exit code of a process that asked and was refused."""
_PATIENCE = 10
"""Seconds for one request after the hub has answered."""
_ASK = """
api = HfApi()
info = api.repo_info(name, repo_type=kind, timeout=2)
if info.private or getattr(info, "gated", None) is not False:
    api.auth_check(name, repo_type=kind)
print(info.sha or 'main')
"""
_DOWNLOAD = """
print(hf_hub_download(name, file, repo_type=kind, etag_timeout=2))
"""


class HubAnswer(NamedTuple):
    """What the hub says about a repository."""

    revision: str | None
    """Hash of its newest commit; None where the repository cannot be read."""
    reason: str = ""
    """Why it cannot be read."""
    is_silent: bool = False
    """Whether the hub did not answer at all, so that it will not for other repositories."""


def probe(name: str, kind: RepositoryKind = "model") -> HubAnswer:
    """Ask the hub whether a repository is there and may be read with the user's token, and for its newest revision.

    Takes four seconds at most. If HF_HUB_OFFLINE is set, the hub is not asked.

    Args:
        name: `OWNER/NAME`.
        kind: what it holds.
    """
    if os.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"}:
        return HubAnswer(None, "HF_HUB_OFFLINE is set", is_silent=True)
    try:
        return HubAnswer(_run(_ASK, kind=kind, name=name))
    except _NoAnswerError as error:
        return HubAnswer(None, str(error), error.is_silent)


def fetch_model(name: str) -> Path:
    """Folder of a model of the hub, downloaded into the hub's own cache unless it is there.

    Only config, weights and tokenizer files are downloaded; no code.

    Raises:
        ModelError: the hub cannot be reached, has no such model or refuses it, and the cache has none; or the
            download failed.
    """
    from huggingface_hub import snapshot_download  # takes half a second
    from huggingface_hub.errors import LocalEntryNotFoundError

    answer = probe(name)
    if answer.revision is not None:
        try:
            # By name and not by revision, which the cache would not find again without the hub.
            path = Path(snapshot_download(name, allow_patterns=_PATTERNS))
            if not any(path.glob("*.safetensors")):
                snapshot_download(name, allow_patterns=_LEGACY_PATTERNS)
        except Exception as error:  # the client's errors have no common root
            raise ModelError(_failed(name, error)) from error
        return path
    try:
        return Path(snapshot_download(name, allow_patterns=_PATTERNS, local_files_only=True))
    except LocalEntryNotFoundError:
        raise ModelError(
            f"{name}: no folder of this name is here, it is not in the hub's cache, and the hub cannot give it "
            f"({answer.reason}); give a folder, or run the command again with a connection. {access_hint(name)}"
        ) from None


def is_cached(name: str) -> bool:
    """Whether the hub's own cache holds a model, with its configuration at least."""
    from huggingface_hub import try_to_load_from_cache  # takes half a second

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def fetch_small_file(name: str, file: str) -> Path | None:
    """A small file of a model of the hub, downloaded into the hub's own cache unless it is there.

    Takes eight seconds at most.

    Args:
        name: `OWNER/NAME`.
        file: its path in the repository.

    Returns:
        The file's path in the cache; None where neither the hub nor the cache can give it.
    """
    from huggingface_hub import try_to_load_from_cache  # takes half a second

    if probe(name).revision is not None:
        with suppress(_NoAnswerError):
            return Path(_run(_DOWNLOAD, kind="model", name=name, file=file))
    cached = try_to_load_from_cache(name, file)
    return Path(cached) if isinstance(cached, str) else None


def dataset_files(name: str, revision: str) -> tuple[str, list[str]]:
    """The files of a data set of the hub.

    Args:
        name: `OWNER/NAME`.
        revision: a branch or the hash of a commit.

    Returns:
        The hash of the commit, and the paths in the repository; no paths if there is no such revision.

    Raises:
        ModelError: the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi  # takes half a second
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        info = HfApi().dataset_info(name, revision=revision, timeout=_PATIENCE)
    except RevisionNotFoundError:
        return revision, []
    except Exception as error:  # the client's errors have no common root
        raise ModelError(_failed(name, error)) from error
    return info.sha or revision, [file.rfilename for file in info.siblings or []]


def cached_dataset_file(name: str, file: str, revision: str, cache: Path) -> Path | None:
    """A file that `fetch_dataset_file` downloaded before; the hub is not asked."""
    from huggingface_hub import try_to_load_from_cache  # takes half a second

    found = try_to_load_from_cache(name, file, cache, revision, "dataset")
    return Path(found) if isinstance(found, str) else None


def fetch_dataset_file(name: str, file: str, revision: str, cache: Path) -> Path:
    """A file of a data set of the hub, downloaded.

    Args:
        name: `OWNER/NAME`.
        file: its path in the repository.
        revision: the hash of a commit.
        cache: folder in the layout of the hub's client.

    Returns:
        The file's path in the cache.

    Raises:
        ModelError: the hub cannot give the file.
    """
    from huggingface_hub import hf_hub_download  # takes half a second

    try:
        return Path(hf_hub_download(name, file, repo_type="dataset", revision=revision, cache_dir=cache))
    except Exception as error:  # the client's errors have no common root
        raise ModelError(_failed(f"{name}/{file}", error)) from error


def access_hint(name: str) -> str:
    """What to do about a gated or private repository."""
    return f"If it is gated or private, accept its terms on the hub's page of {name} and run `hf auth login`"


def upload(files: Mapping[str, Path], repository: str, *, private: bool, message: str) -> str:
    """Send files to a model repository in one commit: the repository holds all of them, or nothing new.

    The client finds the user's token itself. Other files of the repository stay.

    Args:
        files: path in the repository → local file.
        repository: `OWNER/NAME`; it is created if it does not exist.
        private: whether a new repository is for its owner alone.
        message: of the commit.

    Returns:
        The repository's address.

    Raises:
        PublishError: the hub cannot be reached, or does not accept the commit.
    """
    from huggingface_hub import CommitOperationAdd, HfApi  # takes half a second

    hub = HfApi()
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()]
    try:
        address = hub.create_repo(repository, private=private, exist_ok=True)
        hub.create_commit(repository, operations, commit_message=message)
    except Exception as error:  # the client's errors have no common root
        reason = str(error).strip().replace("\n", " ")
        raise PublishError(
            f"{repository}: the hub at {hub.endpoint} did not accept the commit: {reason}; nothing of this commit is "
            "there. Check the connection, and log in with a token that may write (`hf auth login`, or HF_TOKEN)"
        ) from error
    return str(address)


def _failed(what: str, error: Exception) -> str:
    """Message for a download that failed: what, and why."""
    reason = " ".join(str(error).split()).partition(". Please make sure")[0]
    return f"{what}: the download failed ({reason}); run the same command again"


def _run(task: str, **names: str) -> str:
    """What a small program prints that asks the hub, in a process that is given up at the deadline.

    Args:
        task: the program's own lines.
        names: strings that the program knows by these names.

    Raises:
        _NoAnswerError: the program failed or took too long; says why.
    """
    program = "\n".join(
        [
            "import sys",
            "from huggingface_hub import HfApi, hf_hub_download",
            *(f"{name} = {value!r}" for name, value in names.items()),
            "try:",
            *(f"    {line}" for line in task.strip().split("\n")),
            "except Exception as error:",
            "    print(' '.join(str(error).split())[:400] or type(error).__name__, file=sys.stderr)",
            f"    sys.exit({_REFUSED} if getattr(error, 'response', None) is not None else 1)",
        ]
    )
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program],  # -P: not a random.py of this folder
            env=os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            capture_output=True, text=True, timeout=_DEADLINE, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _NoAnswerError(f"it did not answer within {_DEADLINE} seconds", is_silent=True) from None
    if done.returncode:
        raise _NoAnswerError(done.stderr.strip().rpartition("\n")[2], is_silent=done.returncode != _REFUSED)
    return done.stdout.strip().rpartition("\n")[2]


class _NoAnswerError(Exception):
    """The hub did not answer, or refused."""

    def __init__(self, reason: str, *, is_silent: bool) -> None:
        super().__init__(reason)
        self.is_silent = is_silent
