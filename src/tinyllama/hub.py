"""Models by their name on the Hugging Face hub; a hub that cannot be reached is said at once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tinyllama.errors import ModelError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""How a model of the hub is named."""
_PATTERNS = ["*.json", "*.safetensors", "tokenizer.model", "*.txt"]
_LEGACY_PATTERNS = ["pytorch_model*.bin"]
"""Only where there are no safetensors."""
_SECONDS = 3
_ASK = """
import sys
from huggingface_hub import HfApi
print(HfApi().model_info(sys.argv[1], timeout=2).sha)
"""


def fetch_model(name: str) -> Path:
    """Folder of a model of the hub, downloaded into the hub's own cache unless it is there.

    The hub is asked first, in a process of its own that is given up after three seconds, so that no retry can
    hold anybody up. Only config, weights and tokenizer files are taken; no code.

    Raises:
        ModelError: the hub cannot be reached or has no such model, and the cache has none.
    """
    from huggingface_hub import snapshot_download  # takes half a second
    from huggingface_hub.errors import LocalEntryNotFoundError

    revision, reason = _ask(name)
    if revision is not None:
        path = Path(snapshot_download(name, revision=revision, allow_patterns=_PATTERNS))
        if not any(path.glob("*.safetensors")):
            snapshot_download(name, revision=revision, allow_patterns=_LEGACY_PATTERNS)
        return path
    try:
        return Path(snapshot_download(name, allow_patterns=_PATTERNS, local_files_only=True))
    except LocalEntryNotFoundError:
        raise ModelError(
            f"{name}: no folder of this name is here, and the hub cannot give it ({reason}); "
            "give a folder, or run the command again with a connection"
        ) from None


def _ask(name: str) -> tuple[str | None, str]:
    """The model's newest revision, or None and why not."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"}:
        return None, "HF_HUB_OFFLINE is set, and it is not in the cache"
    try:
        done = subprocess.run(  # our own program
            [sys.executable, "-c", _ASK, name],
            env=os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1"},
            capture_output=True, text=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"it did not answer within {_SECONDS} seconds"
    if done.returncode:
        return None, done.stderr.strip().rpartition("\n")[2][:200]
    return done.stdout.strip(), ""
