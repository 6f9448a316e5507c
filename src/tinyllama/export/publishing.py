"""Publishing exports on the Hugging Face hub, with the hub's own client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from tinyllama.errors import PublishError
from tinyllama.export.gguf_folder import MODELFILE
from tinyllama.formats.huggingface.config import CONFIG
from tinyllama.hub import HUB_ID, upload

if TYPE_CHECKING:
    from pathlib import Path

CARD = "README.md"


def files_to_send(folder: Path, repo: str) -> dict[str, int]:
    """What of an export goes to the hub: name → bytes. Hidden files stay here.

    Args:
        folder: an export.
        repo: `owner/name` of the repository.

    Raises:
        PublishError: the folder is no export, its card has no metadata, or the repository's name is not possible.
    """
    if not HUB_ID.fullmatch(repo):
        raise PublishError(
            f"--repo {repo}: a repository of the hub is named OWNER/NAME, of letters, digits, -, _ and ."
        )
    _check_export(folder)
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder): path.stat().st_size for path in files}
    return {
        name.as_posix(): size
        for name, size in names.items()
        if not any(part.startswith(".") for part in name.parts)
    }  # fmt: skip


def publish(folder: Path, repo: str, *, private: bool) -> str:
    """Send an export to the hub in one commit: the repository holds all of it, or nothing new.

    The client finds the user's token itself. Other files in the repository stay.

    Args:
        folder: an export.
        repo: `owner/name` of the repository, created if it does not exist.
        private: whether a new one is for its owner alone.

    Returns:
        The repository's address.

    Raises:
        PublishError: the folder is no export, or the hub cannot be reached or does not accept it.
    """
    files = {name: folder / name for name in files_to_send(folder, repo)}
    return upload(files, repo, private=private, message=f"Upload {folder.resolve().name}")


def _check_export(folder: Path) -> None:
    if not (folder / CARD).is_file() or not any((folder / mark).is_file() for mark in (CONFIG, MODELFILE)):
        raise PublishError(
            f"{folder}: is no export ({CARD} and {CONFIG} or {MODELFILE}); make one with `tinyllama export`"
        )
    _, _, rest = (folder / CARD).read_text(encoding="utf-8").partition("---\n")
    try:
        metadata: Any = yaml.safe_load(rest.partition("\n---")[0])
    except yaml.YAMLError as error:
        raise PublishError(f"{folder / CARD}: its metadata is no YAML: {error}; export the model again") from error
    if not isinstance(metadata, dict) or "license" not in metadata:
        raise PublishError(f"{folder / CARD}: its metadata names no license; export the model again")
